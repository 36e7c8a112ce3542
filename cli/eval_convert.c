/* sid2 eval convert-inception, convert-i3d: the files of weights that sid2 reads, of the files that there are. */
#include "cli.h"
#include "eval.h"

#include "file.h"
#include "i3d.h"
#include "inception.h"
#include "keep.h"
#include "weights.h"

#include <nettle/sha2.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { HASH_TEXT = 2 * SHA256_DIGEST_SIZE + 1 };

static bool convert_inception(const sid2_tensor_source *source, const char *out, const char *const *facts,
                              const char **found, sid2_error *err)
{
    bool head = false, ok = sid2_inception_convert(source, out, facts, &head, err);
    *found = head ? "features and 1008 classes" : "features; without the 1008 classes, so no Inception score";
    return ok;
}

static bool convert_i3d(const sid2_tensor_source *source, const char *out, const char *const *facts,
                        const char **found, sid2_error *err)
{
    *found = "400 logits";
    return sid2_i3d_convert(source, out, facts, err);
}

/* The networks that judge. */
static const struct network {
    const char *command, *name, *file, *facts, *summary, *what, *out;
    bool (*convert)(const sid2_tensor_source *, const char *out, const char *const *facts, const char **found,
                    sid2_error *);
} inception = {"eval convert-inception",
               "FID's Inception",
               "inception.safetensors",
               "FID's Inception v3, 2015-12-05; batch norms folded in",
               "Make the file of FID's Inception that sid2 reads",
               "the weights: PyTorch's (.pt, .pth), with either of the usual sets of names",
               "the safetensors to write (inception.safetensors in the cache folder, where it is found)",
               convert_inception},
  i3d = {"eval convert-i3d",
         "FVD's I3D",
         "i3d.safetensors",
         "FVD's I3D, RGB, Kinetics-400; batch norms folded in",
         "Make the file of FVD's I3D that sid2 reads",
         "the weights: a pickle of Flax's arrays (i3d-kinetics-400.ckpt)",
         "the safetensors to write (i3d.safetensors in the cache folder, where it is found)",
         convert_i3d};

/* ---- The other program's file ---- */

typedef struct reading {
    const struct network *network;
    sid2_weights *weights;
} reading;

static bool has(void *user, const char *name)
{
    return sid2_weights_find(((const reading *)user)->weights, name) != NULL;
}

static float *read_tensor(void *user, const char *name, int64_t count, sid2_error *err)
{
    const reading *r = user;
    const sid2_weight *w = sid2_weights_find(r->weights, name);
    if (!w)
        return sid2_fail(err, SID2_ERR_FORMAT, "the weights of %s have a tensor %s, which is not there",
                         r->network->name, name),
               NULL;
    if (sid2_shape_count(w->shape) == count) return sid2_weights_read(r->weights, w, err);
    char shape[64];
    sid2_fail(err, SID2_ERR_FORMAT, "%s is %s, not as %s has it", name, sid2_shape_text(w->shape, shape),
              r->network->name);
    return NULL;
}

/* What sha256sum prints. */
static bool hash_file(const char *path, char text[HASH_TEXT], sid2_error *err)
{
    struct sha256_ctx hash;
    uint8_t bytes[1 << 16], digest[SHA256_DIGEST_SIZE];
    size_t size = 0;
    int descriptor = sid2_file_open(path, 0, &size, err);
    bool ok = descriptor >= 0;
    sha256_init(&hash);
    for (size_t at = 0, now; ok && at < size; at += now) {
        now = size - at < sizeof bytes ? size - at : sizeof bytes;
        ok = sid2_file_fill(descriptor, bytes, now, at, path, err);
        sha256_update(&hash, now, bytes);
    }
    sha256_digest(&hash, sizeof digest, digest);
    if (descriptor >= 0) close(descriptor);
    for (size_t i = 0; i < sizeof digest; i++) snprintf(text + 2 * i, 3, "%02x", digest[i]);
    return ok;
}

/* ---- The command ---- */

static bool convert(const struct network *network, const char *path, const char *out, const char **found,
                    sid2_error *err)
{
    char hash[HASH_TEXT];
    reading r = {network, sid2_weights_open(path, err)};
    const sid2_tensor_source source = {&r, has, read_tensor};
    const char *const facts[] = {"network", network->facts, "source_sha256", hash, NULL};
    bool ok = r.weights && hash_file(path, hash, err) && network->convert(&source, out, facts, found, err);
    sid2_weights_close(r.weights);
    return ok;
}

static int run(const struct network *network, int argc, char **argv)
{
    const char *path = NULL, *out = NULL;
    const option_row rows[] = {
        {OPTION_POSITIONAL, "FILE", NULL, &path, network->what, NULL},
        {OPTION_TEXT, "out", "FILE", &out, network->out, NULL},
    };
    int code = options_parse(
        &(option_table){network->command, network->summary,
                        "Nothing of the file is run: what holds more than tensors is refused.", rows, 2},
        argc, argv);
    if (code != OPTIONS_RUN) return code;
    sid2_error err = {0};
    char kept[4096];
    const char *found = "";
    if (!out && !sid2_keep_path(network->file, true, kept))
        return report_usage(network->command,
                            "--out is missing, and there is no cache folder ($XDG_CACHE_HOME or ~/.cache)");
    if (!out) out = kept;
    if (!convert(network, path, out, &found, &err)) return report_error(network->command, &err);
    printf("%s: %s\n", out, found);
    return 0;
}

int eval_convert_inception(int argc, char **argv) { return run(&inception, argc, argv); }
int eval_convert_i3d(int argc, char **argv) { return run(&i3d, argc, argv); }
