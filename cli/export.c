/* sid2 export: what sampling needs of a checkpoint, and no more. */
#include "averages.h"
#include "cli.h"
#include "length.h"

#include <stdio.h>
#include <string.h>

static bool parse_dtype(const char *text, sid2_dtype *dtype)
{
    static const sid2_dtype known[] = {SID2_F32, SID2_BF16, SID2_F16};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        *dtype = known[i];
        if (strcmp(text, sid2_dtype_name(known[i])) == 0) return true;
    }
    return false;
}

int command_export(int argc, char **argv)
{
    const char *path = NULL, *out = NULL, *dtype_name = "f16";
    double length = 0;
    const option_row rows[] = {
        {OPTION_POSITIONAL, "CHECKPOINT", NULL, &path, "a checkpoint's folder, or a run: its newest", NULL},
        {OPTION_TEXT, "out", "FOLDER", &out,
         "the new folder: config.ini, ema.safetensors and the names of classes; required", NULL},
        {OPTION_REAL, "ema", "LENGTH", &length,
         "weights averaged over another length, 0.02 to 0.25 of the training so far, which a run with "
         "train.averages can make (the checkpoint's average)",
         NULL},
        {OPTION_TEXT, "dtype", "TYPE", &dtype_name, "of the weights: f32, bf16 or f16 (f16)", NULL},
    };
    const option_table table = {"export", "A checkpoint's EMA weights alone, small enough to give away", NULL,
                                rows, sizeof rows / sizeof *rows};
    int code = options_parse(&table, argc, argv);
    if (code != OPTIONS_RUN) return code;
    sid2_dtype dtype;
    if (!out) return report_usage("export", "--out FOLDER is missing");
    if (!parse_dtype(dtype_name, &dtype))
        return report_usage("export", "--dtype %s: expected f32, bf16 or f16", dtype_name);
    sid2_error err = {0};
    char found[4096], digest[33], how[160] = "";
    int hold;
    bool ok = sid2_checkpoint_hold(path, found, sizeof found, &hold, &err) &&
              (length ? length_export(found, length, out, dtype, how, &err)
                      : sid2_checkpoint_export(found, out, dtype, &err)) &&
              sid2_checkpoint_digest(out, digest, &err);
    sid2_checkpoint_release(hold);
    if (!ok) return report_error("export", &err);
    printf("%s: the EMA weights of %s%s as %s, digest %s\n", out, found, how, dtype_name, digest);
    return 0;
}
