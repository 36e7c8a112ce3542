/* sid2 devices: what this machine can compute on. */
#include "cli.h"

#include "backends.h"

#include <stdio.h>
#include <string.h>

/* Some of what a device can do is known only once it was opened and tried. */
static void look_closer(const sid2_backend *backend, const sid2_device_options *options,
                        sid2_device_info *info)
{
    sid2_error err = {0};
    sid2_device *device = sid2_backends_open(&backend, 1, info->id, options, &err);
    if (device)
        memcpy(info->detail, sid2_device_describe(device)->detail, sizeof info->detail);
    else
        printf("%12s%s\n", "", err.message);
    sid2_device_close(device);
}

int command_devices(int argc, char **argv)
{
    int64_t threads = 0;
    const option_row rows[] = {OPTION_THREADS(&threads)};
    int code = options_parse(&(option_table){"devices", "What this machine can compute on", NULL, rows, 1},
                             argc, argv);
    if (code != OPTIONS_RUN) return code;
    const sid2_device_options options = {.threads = (int)(threads < 1024 ? threads : 1024)};
    sid2_device_info usual;
    if (!sid2_backends_find(sid2_backends, sid2_backend_count, "auto", &options, &usual, NULL))
        usual.id[0] = 0;
    for (int b = 0; b < sid2_backend_count; b++) {
        for (int i = 0; i < sid2_backends[b]->count(); i++) {
            sid2_device_info info;
            if (!sid2_backends[b]->describe(i, &options, &info)) continue;
            char memory[32];
            printf("%-12s%s%s\n", info.id, info.name,
                   strcmp(info.id, usual.id) ? "" : "  <- used where no --device is given");
            if (info.memory)
                printf("%12s%s of memory, f32%s%s\n", "", sid2_text_bytes((double)info.memory, memory),
                       info.bf16 ? ", bf16" : "", info.f16 ? ", f16" : "");
            if (info.driver[0]) printf("%12s%s\n", "", info.driver);
            look_closer(sid2_backends[b], &options, &info);
            if (info.detail[0]) printf("%12s%s\n", "", info.detail);
        }
    }
    for (int b = 0; b < sid2_backend_count; b++) {
        char line[200];
        for (int i = 0; sid2_backends[b]->missing && sid2_backends[b]->missing(i, line); i++) puts(line);
    }
    return 0;
}
