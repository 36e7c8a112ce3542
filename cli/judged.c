#include "judged.h"

#include "arrays.h"
#include "dataset.h"
#include "digest.h"
#include "file.h"
#include "keep.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CHUNK = 256, SEAL = 32 }; /* rows kept together, and the digest behind them */

/* ---- The network ---- */

static bool find_weights(jury *j, sid2_error *err)
{
    const char *given = j->weights ? j->weights : getenv("SID2_INCEPTION");
    sid2_kind kind;
    if (given && *given) return sid2_path(j->path, err, "%s", given);
    if (sid2_keep_path("inception.safetensors", false, j->path) && sid2_look(j->path, &kind, NULL) &&
        kind == SID2_REGULAR)
        return true;
    return sid2_fail(
        err, SID2_ERR_USAGE,
        "no weights of FID's Inception: sid2 eval convert-inception FILE makes them (docs/evaluation.md says "
        "of what); looked for --weights, $SID2_INCEPTION and %s",
        j->path);
}

bool jury_open(jury *j, sid2_error *err)
{
    if (!find_weights(j, err) || !sid2_digest_file(j->path, j->digest, err)) return false;
    progress_wait(j->bar, "preparing the device");
    j->judge = sid2_judge_open(j->device, j->path, (int)j->batch, j->spatial, err);
    progress_clear(j->bar);
    return j->judge != NULL;
}

void jury_close(jury *j)
{
    sid2_judge_close(j->judge);
    j->judge = NULL;
}

/* ---- Rows that were kept. A file is chunks of CHUNK rows (the last may be shorter), each followed by a digest, so that what
 * is damaged or cut short is made again ---- */

typedef struct kept {
    int descriptor; /* -1: nothing is kept */
    char path[4096];
} kept;

/* How many of `rows`, `count` of them, the cache has; they are filled in. What follows is cut off. */
static int64_t kept_open(kept *k, const char *identity, float *rows, int64_t count, int64_t width)
{
    char digest[33], name[64], there[33];
    k->descriptor = -1;
    sid2_digest_bytes(identity, strlen(identity), digest);
    snprintf(name, sizeof name, "features-%.24s.rows", digest);
    if (!sid2_keep_path(name, true, k->path)) return 0;
    k->descriptor = open(k->path, O_RDWR | O_CREAT | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW, 0600);
    struct stat status;
    if (k->descriptor < 0) return 0;
    if (fstat(k->descriptor, &status) || !S_ISREG(status.st_mode) ||
        flock(k->descriptor, LOCK_EX | LOCK_NB)) {
        close(k->descriptor); /* another process fills it */
        k->descriptor = -1;
        return 0;
    }
    int64_t done = 0, at = 0;
    while (done < count) {
        int64_t now = count - done < CHUNK ? count - done : CHUNK;
        size_t bytes = (size_t)(now * width) * sizeof *rows;
        there[SEAL] = 0;
        if (at + (int64_t)bytes + SEAL > status.st_size ||
            !sid2_file_fill(k->descriptor, rows + done * width, bytes, (uint64_t)at, k->path, NULL) ||
            !sid2_file_fill(k->descriptor, there, SEAL, (uint64_t)at + bytes, k->path, NULL))
            break;
        sid2_digest_bytes(rows + done * width, bytes, digest);
        if (strcmp(digest, there) != 0) break;
        done += now;
        at += (int64_t)bytes + SEAL;
    }
    return done; /* what is put there next replaces what is damaged */
}

/* Rows first .. first + count - 1, a whole chunk. A full disk costs the cache, no result. */
static void kept_put(kept *k, const float *rows, int64_t first, int64_t count, int64_t width)
{
    char digest[33];
    size_t bytes = (size_t)(count * width) * sizeof *rows,
           chunk = (size_t)(CHUNK * width) * sizeof *rows + SEAL;
    uint64_t at = (uint64_t)(first / CHUNK) * chunk;
    if (k->descriptor < 0) return;
    sid2_digest_bytes(rows, bytes, digest);
    if (sid2_file_put(k->descriptor, rows, bytes, at, k->path, NULL) &&
        sid2_file_put(k->descriptor, digest, SEAL, at + bytes, k->path, NULL))
        return;
    close(k->descriptor);
    k->descriptor = -1;
    unlink(k->path);
}

/* ---- From rows to a set ---- */

void judged_free(judged *s)
{
    free(s->features);
    free(s->classes);
    sid2_gaussian_free(&s->gaussian);
    sid2_gaussian_free(&s->spatial);
    *s = (judged){0};
}

/* Takes the rows apart: features stay in `rows`' memory. */
static bool settle(const jury *j, float *rows, judged *s, sid2_error *err)
{
    const int64_t width = sid2_judge_width(j->judge), features = SID2_INCEPTION_FEATURES;
    const int64_t spatial = j->spatial ? SID2_INCEPTION_SPATIAL : 0;
    const bool has_classes = sid2_judge_has_classes(j->judge);
    sid2_moments *moments = spatial ? sid2_moments_create(spatial, err) : NULL;
    bool ok = !spatial || moments;
    if (ok && has_classes) {
        s->classes = malloc((size_t)(s->count * SID2_INCEPTION_CLASSES) * sizeof *s->classes);
        ok = s->classes || sid2_fail(err, SID2_ERR_MEMORY, "no memory for the classes of %lld pictures",
                                     (long long)s->count);
    }
    for (int64_t n = 0; ok && n < s->count; n++) {
        float *row = rows + n * width;
        if (spatial) ok = sid2_moments_add(moments, row + features, 1, err);
        if (has_classes)
            memcpy(s->classes + n * SID2_INCEPTION_CLASSES, row + features + spatial,
                   SID2_INCEPTION_CLASSES * sizeof *row);
        memmove(rows + n * features, row, (size_t)features * sizeof *row);
    }
    s->features = rows;
    if (ok && spatial) ok = sid2_moments_get(moments, &s->spatial, err);
    sid2_moments_destroy(moments);
    progress_wait(j->bar, "summing features");
    ok = ok && sid2_gaussian_of(s->features, s->count, features, &s->gaussian, err);
    progress_clear(j->bar);
    return ok;
}

/* Fills pixels[count] with pictures from number `first` on. */
typedef struct origin {
    bool (*get)(void *user, int64_t first, int64_t count, uint8_t *pixels, sid2_error *err);
    void *user;
    int64_t height, width;
    int channels;
    const char *doing; /* "reading" */
} origin;

static bool fill(jury *j, const origin *from, const char *identity, judged *s, sid2_error *err)
{
    const int64_t width = sid2_judge_width(j->judge), picture = from->height * from->width * from->channels;
    float *rows = malloc((size_t)(s->count * width) * sizeof *rows);
    uint8_t *pixels = malloc((size_t)(CHUNK * picture));
    kept k = {.descriptor = -1};
    bool ok =
        (rows && pixels) ||
        sid2_fail(err, SID2_ERR_MEMORY, "no memory for the features of %lld pictures", (long long)s->count);
    int64_t done = ok && !j->no_cache ? kept_open(&k, identity, rows, s->count, width) : 0;
    const int64_t before = done;
    const double began = sid2_clock();
    progress_begin(j->bar);
    while (ok && done < s->count) {
        int64_t now = s->count - done < CHUNK ? s->count - done : CHUNK;
        ok = from->get(from->user, done, now, pixels, err);
        for (int64_t i = 0; ok && i < now; i += j->batch) {
            int64_t few = now - i < j->batch ? now - i : j->batch;
            ok = sid2_judge_rows(j->judge, pixels + i * picture, few, from->height, from->width,
                                 from->channels, rows + (done + i) * width, err);
            if (ok && interrupted())
                ok = sid2_fail(err, SID2_ERR_CANCELLED, "stopped; the same command goes on");
            progress_show(j->bar, (double)(done + i + few) / (double)s->count,
                          "%s: %" PRId64 " of %" PRId64 " pictures, %.1f a second", from->doing,
                          done + i + few, s->count,
                          (double)(done + i + few - before) / (sid2_clock() - began));
        }
        if (ok) kept_put(&k, rows + done * width, done, now, width);
        done += now;
    }
    progress_clear(j->bar);
    if (k.descriptor >= 0) close(k.descriptor);
    free(pixels);
    if (ok) return settle(j, rows, s, err);
    free(rows);
    return false;
}

/* ---- Data sets ---- */

static bool get_pictures(void *user, int64_t first, int64_t count, uint8_t *pixels, sid2_error *err)
{
    sid2_dataset *data = user;
    const size_t bytes = sid2_sample_bytes(sid2_dataset_type(data));
    for (int64_t i = 0; i < count; i++) {
        int32_t label;
        if (!sid2_dataset_get(data, first + i, false, pixels + (size_t)i * bytes, &label, err)) return false;
    }
    return true;
}

/* A file of mu and sigma. *is_one: whether it is. */
static bool read_statistics(const char *path, bool *is_one, judged *s, sid2_error *err)
{
    sid2_kind kind;
    *is_one = false;
    if (!sid2_text_ends(path, ".npz")) return true;
    if (!sid2_look(path, &kind, err)) return false;
    if (kind != SID2_REGULAR) return true; /* what opens it says why not */
    sid2_arrays *arrays = sid2_arrays_open(path, err);
    if (!arrays) return false;
    *is_one = sid2_arrays_have(arrays, "mu") && sid2_arrays_have(arrays, "sigma");
    sid2_array mu, sigma;
    bool ok = true;
    if (*is_one) {
        ok = sid2_arrays_find(arrays, "mu", &mu, err);
        if (ok && (mu.rank != 1 || mu.dim[0] != SID2_INCEPTION_FEATURES))
            ok = sid2_fail(err, SID2_ERR_FORMAT, "%s: mu should have %d numbers", path,
                           SID2_INCEPTION_FEATURES);
        ok = ok && sid2_gaussian_alloc(&s->gaussian, mu.dim[0], err) &&
             sid2_arrays_read(arrays, 0, mu.dim[0], s->gaussian.mean, err) &&
             sid2_arrays_find(arrays, "sigma", &sigma, err);
        if (ok && (sigma.rank != 2 || sigma.dim[0] != mu.dim[0] || sigma.dim[1] != mu.dim[0]))
            ok = sid2_fail(err, SID2_ERR_FORMAT, "%s: sigma should be %d x %d", path, SID2_INCEPTION_FEATURES,
                           SID2_INCEPTION_FEATURES);
        ok = ok && sid2_arrays_read(arrays, 0, mu.dim[0] * mu.dim[0], s->gaussian.covariance, err) &&
             sid2_gaussian_check(&s->gaussian, path, err);
    }
    sid2_arrays_close(arrays);
    return ok;
}

static sid2_dataset *open_data(jury *j, const char *path, int32_t height, int32_t width, int32_t channels,
                               sid2_error *err)
{
    return sid2_dataset_open(path,
                             &sid2_with(sid2_dataset_options, .height = height, .width = width,
                                        .channels = channels, .cache_bytes = 1, .on_skip = print_skipped,
                                        .user = j->bar),
                             err);
}

bool judge_data(jury *j, const char *path, int64_t most, int32_t height, int32_t width, int32_t channels,
                judged *s, sid2_error *err)
{
    char identity[512], digest[33];
    bool is_statistics;
    *s = (judged){.height = height, .width = width};
    snprintf(s->name, sizeof s->name, "%s", path);
    if (!read_statistics(path, &is_statistics, s, err)) return false;
    if (is_statistics) {
        s->height = s->width = 0;
        return true;
    }
    if (!j->judge && !jury_open(j, err)) return false;
    sid2_dataset *data = open_data(j, path, height, width, channels, err);
    if (data && !height) {
        int32_t extents[3];
        bool known = sid2_dataset_extents(data, 0, extents, err);
        sid2_dataset_close(data);
        s->height = s->width = known ? extents[extents[1] < extents[0]] : 0;
        data = known ? open_data(j, path, s->height, s->width, channels, err) : NULL;
    }
    if (!data) return false;
    s->count = sid2_dataset_count(data);
    if (most && s->count > most) s->count = most;
    bool ok = sid2_dataset_digest(data, digest, err);
    channels = sid2_dataset_channels(data);
    snprintf(identity, sizeof identity,
             "inception %s, data set %s, %d x %d x %d, %" PRId64 " pictures, spatial %d", j->digest, digest,
             s->height, s->width, channels, s->count, j->spatial);
    const origin from = {get_pictures, data, s->height, s->width, channels, "judging"};
    ok = ok && fill(j, &from, identity, s, err);
    sid2_dataset_close(data);
    return ok;
}

/* ---- Samples ---- */

typedef struct sampling {
    const sampled *what;
    sid2_sampler *sampler;
    uint64_t seeds[CHUNK];
    int32_t labels[CHUNK];
    jury *j;
    int64_t first;
} sampling;

static bool on_step(void *user, const sid2_sample_progress *p)
{
    const sampling *s = user;
    progress_show(s->j->bar, (double)(s->first + p->images) / (double)s->what->count,
                  "sampling: %" PRId64 " of %" PRId64 " pictures", s->first + p->images, s->what->count);
    return !interrupted();
}

static bool get_samples(void *user, int64_t first, int64_t count, uint8_t *pixels, sid2_error *err)
{
    sampling *s = user;
    if (!s->sampler) {
        s->sampler = sid2_sampler_create(s->j->device, s->what->config, s->what->memory, err);
        if (!s->sampler || !sid2_sampler_load(s->sampler, s->what->directory, !s->what->raw, err))
            return false;
    }
    s->first = first;
    for (int64_t i = 0; i < count; i++) {
        s->seeds[i] = s->what->seed + (uint64_t)(first + i);
        s->labels[i] = -1;
    }
    return sid2_sampler_run(s->sampler, s->seeds, s->labels, (int)count, pixels, on_step, s, err);
}

/* All settings that pictures depend on. */
static void describe_sampling(const sid2_config *config, char *text, size_t size)
{
    const sid2_config_key *key;
    char value[256];
    size_t used = strlen(text);
    for (int i = 0; (key = sid2_config_key_at(i)); i++)
        if (strncmp(key->name, "sample.", 7) == 0 && strcmp(key->name, "sample.batch") != 0 && used < size)
            used += (size_t)snprintf(text + used, size - used, ", %s=%s", key->name,
                                     config_text(config, key->name, value));
}

bool judge_samples(jury *j, const sampled *what, judged *s, sid2_error *err)
{
    char identity[4096];
    *s = (judged){.count = what->count,
                  .height = sid2_config_image_height(what->config),
                  .width = sid2_config_image_width(what->config)};
    snprintf(s->name, sizeof s->name, "%s", what->directory);
    if (!j->judge && !jury_open(j, err)) return false;
    sampling from = {.what = what, .j = j};
    snprintf(identity, sizeof identity,
             "inception %s, checkpoint %s, raw %d, seed %" PRIu64 ", %" PRId64 " pictures, spatial %d",
             j->digest, what->digest, what->raw, what->seed, what->count, j->spatial);
    describe_sampling(what->config, identity, sizeof identity);
    const origin o = {
        get_samples, &from, s->height, s->width, (int)config_int(what->config, "model.image_channels"),
        "judging"};
    bool ok = fill(j, &o, identity, s, err);
    sid2_sampler_destroy(from.sampler);
    return ok;
}
