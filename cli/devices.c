/* sid2 devices: what this machine can compute on. */
#include "cli.h"

#include <stdio.h>
#include <string.h>

/* Some of what a device can do is known only once it was opened and tried. */
static void print_detail(const char *id, const sid2_device_options *options)
{
    sid2_error err = {0};
    sid2_device *device = sid2_device_open(id, options, &err);
    const char *line = device ? sid2_device_describe(device)->detail : err.message;
    if (line[0]) printf("%12s%s\n", "", line);
    sid2_device_close(device);
}

int command_devices(int argc, char **argv)
{
    int64_t threads = 0;
    const option_row rows[] = {OPTION_THREADS(&threads)};
    int code = options_parse(&(option_table){"devices", "What this machine can compute on", NULL, rows, 1},
                             argc, argv);
    if (code != OPTIONS_RUN) return code;
    sid2_error err = {0};
    const sid2_device_options options =
        sid2_with(sid2_device_options, .threads = (int)(threads < 1024 ? threads : 1024));
    sid2_device_list *list = sid2_devices(&options, &err);
    if (!list) return report_error("devices", &err);
    for (int i = 0; i < sid2_device_list_count(list); i++) {
        const sid2_device_info *info = sid2_device_list_at(list, i);
        char memory[32];
        printf("%-12s%s%s\n", info->id, info->name,
               info == sid2_device_list_best(list) ? "  <- used where no --device is given" : "");
        if (info->memory)
            printf("%12s%s of memory, f32%s%s\n", "", sid2_text_bytes((double)info->memory, memory),
                   info->bf16 ? ", bf16" : "", info->f16 ? ", f16" : "");
        if (info->driver[0]) printf("%12s%s\n", "", info->driver);
        print_detail(info->id, &options);
    }
    const char *line;
    for (int i = 0; (line = sid2_device_list_missing(list, i)); i++) printf("%s\n", line);
    sid2_device_list_destroy(list);
    return 0;
}
