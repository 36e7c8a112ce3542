/* sid2 eval convert-inception: the file that sid2 reads, of the files that there are. */
#include "cli.h"
#include "eval.h"

#include "digest.h"
#include "inception.h"
#include "keep.h"
#include "weights.h"

#include <stdlib.h>
#include <string.h>

static bool has(void *user, const char *name) { return sid2_weights_find(user, name) != NULL; }

static float *read_tensor(void *user, const char *name, int64_t count, sid2_error *err)
{
    const sid2_weight *w = sid2_weights_find(user, name);
    if (!w)
        return sid2_fail(err, SID2_ERR_FORMAT,
                         "the weights of FID's Inception have a tensor %s, which is not there", name),
               NULL;
    if (sid2_shape_count(w->shape) == count) return sid2_weights_read(user, w, err);
    char shape[64];
    sid2_fail(err, SID2_ERR_FORMAT, "%s is %s, not as FID's Inception has it", name,
              sid2_shape_text(w->shape, shape));
    return NULL;
}

static bool convert(const char *path, const char *out, bool *head, sid2_error *err)
{
    char digest[33];
    sid2_weights *weights = sid2_weights_open(path, err);
    const sid2_tensor_source source = {weights, has, read_tensor};
    const char *const facts[] = {"network", "FID's Inception v3, 2015-12-05; batch norms folded in",
                                 "source_xxh3_128", digest, NULL};
    bool ok = weights && sid2_digest_file(path, digest, err) &&
              sid2_inception_convert(&source, out, facts, head, err);
    sid2_weights_close(weights);
    return ok;
}

int eval_convert(int argc, char **argv)
{
    const char *path = NULL, *out = NULL;
    const option_row rows[] = {
        {OPTION_POSITIONAL, "FILE", NULL, &path,
         "the weights: PyTorch's (.pt, .pth), with either of the usual sets of names", NULL},
        {OPTION_TEXT, "out", "FILE", &out,
         "the safetensors to write (inception.safetensors in the cache folder, where it is found)", NULL},
    };
    int code = options_parse(
        &(option_table){"eval convert-inception", "Make the file of FID's Inception that sid2 reads",
                        "Nothing of the file is run: what holds more than tensors is refused.", rows, 2},
        argc, argv);
    if (code != OPTIONS_RUN) return code;
    sid2_error err = {0};
    char found[4096];
    bool head = false;
    if (!out && !sid2_keep_path("inception.safetensors", true, found))
        return report_usage("eval convert-inception",
                            "--out is missing, and there is no cache folder ($XDG_CACHE_HOME or ~/.cache)");
    if (!out) out = found;
    if (!convert(path, out, &head, &err)) return report_error("eval convert-inception", &err);
    printf("%s: %s\n", out,
           head ? "features and 1008 classes" : "features; without the 1008 classes, so no Inception score");
    return 0;
}
