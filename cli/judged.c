#include "judged.h"

#include "kept_rows.h"

#include "arrays.h"
#include "config.h"
#include "dataset.h"
#include "digest.h"
#include "file.h"
#include "keep.h"
#include "loader.h"
#include "resize.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK = 256, CLIPS = 16 }; /* pictures and clips whose rows are kept together */

/* ---- The network ---- */

const jury_network jury_inception = {"FID's Inception", "inception", "SID2_INCEPTION",
                                     SID2_INCEPTION_FEATURES};
const jury_network jury_i3d = {"FVD's I3D", "i3d", "SID2_I3D", SID2_I3D_FEATURES};

static bool find_weights(jury *j, sid2_error *err)
{
    const jury_network *n = j->network;
    const char *given = j->weights ? j->weights : getenv(n->variable);
    char file[64];
    sid2_kind kind;
    if (given && *given) return sid2_path(j->path, err, "%s", given);
    snprintf(file, sizeof file, "%s.safetensors", n->word);
    if (sid2_keep_path(file, false, j->path) && sid2_look(j->path, &kind, NULL) && kind == SID2_REGULAR)
        return true;
    return sid2_fail(err, SID2_ERR_USAGE,
                     "no weights of %s: sid2 eval convert-%s FILE makes them (docs/evaluation.md says of "
                     "what); looked for "
                     "--weights, $%s and %s",
                     n->name, n->word, n->variable, j->path);
}

static void say(const jury *j, const char *text)
{
    if (jury_speaks(j)) progress_wait(j->bar, text);
}

bool jury_open(jury *j, sid2_error *err)
{
    if (!find_weights(j, err) || !sid2_digest_file(j->path, j->digest, err)) return false;
    say(j, "preparing the device");
    j->judge = j->network == &jury_i3d
                   ? sid2_judge_open_clips(j->device, j->path, (int)j->batch, (int)j->frames, err)
                   : sid2_judge_open(j->device, j->path, (int)j->batch, j->spatial, err);
    progress_clear(j->bar);
    return j->judge != NULL;
}

bool jury_speaks(const jury *j) { return sid2_group_rank(j->group) == 0; }

void jury_close(jury *j)
{
    sid2_judge_close(j->judge);
    j->judge = NULL;
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
    const int64_t width = sid2_judge_width(j->judge), features = j->network->features;
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

/* Fills pixels[count] with pictures or clips from number `first` on. */
typedef struct origin {
    bool (*get)(void *user, int64_t first, int64_t count, uint8_t *pixels, sid2_error *err);
    void *user;
    int64_t chunk, frames, height, width;
    int channels;
    const char *what; /* "pictures" */
} origin;

/* This rank's part of pictures `part`, a batch at a time, to rows. */
static bool judge_part(jury *j, const origin *from, sid2_span part, int64_t done, uint8_t *pixels,
                       float *rows, double began, int64_t before, int64_t all, sid2_error *err)
{
    const int64_t width = sid2_judge_width(j->judge),
                  bytes = from->frames * from->height * from->width * from->channels;
    bool ok = !part.count || from->get(from->user, part.first, part.count, pixels, err);
    for (int64_t i = 0; ok && i < part.count; i += j->batch) {
        int64_t few = part.count - i < j->batch ? part.count - i : j->batch,
                now = done + (i + few) * sid2_group_ranks(j->group);
        if (now > all) now = all;
        ok = sid2_judge_rows(j->judge, pixels + i * bytes, few, from->height, from->width, from->channels,
                             rows + i * width, err);
        if (ok && interrupted()) ok = sid2_fail(err, SID2_ERR_CANCELLED, "stopped; the same command goes on");
        if (jury_speaks(j))
            progress_show(j->bar, (double)now / (double)all,
                          "judging: %" PRId64 " of %" PRId64 " %s, %.1f a second", now, all, from->what,
                          (double)(now - before) / (sid2_clock() - began));
    }
    return ok;
}

/* Chunk by chunk, each dealt out to the ranks; rank 0 gets all rows, and keeps them. */
static bool fill_rows(jury *j, const origin *from, kept_rows *k, uint8_t *pixels, float *chunk, float *rows,
                      int64_t done, int64_t count, sid2_error *err)
{
    const int64_t width = k->width, before = done;
    const double began = sid2_clock();
    bool ok = true;
    progress_begin(j->bar);
    while (ok && done < count) {
        const int64_t now = count - done < from->chunk ? count - done : from->chunk;
        sid2_span part = sid2_group_part(j->group, sid2_group_rank(j->group), (sid2_span){0, now}, 1);
        float *own = chunk + part.first * width;
        part.first += done;
        ok = judge_part(j, from, part, done, pixels, own, began, before, count, err);
        ok = sid2_group_concur(j->group, ok, err) &&
             sid2_group_spread(j->group, chunk, (size_t)width * sizeof *chunk, now, 1, err);
        if (ok && jury_speaks(j)) {
            memcpy(rows + done * width, chunk, (size_t)(now * width) * sizeof *rows);
            kept_rows_put(k, chunk, done, now);
        }
        done += now;
    }
    progress_clear(j->bar);
    return ok;
}

static bool fill(jury *j, const origin *from, const char *identity, judged *s, sid2_error *err)
{
    const int64_t width = sid2_judge_width(j->judge),
                  bytes = from->frames * from->height * from->width * from->channels;
    const bool speaks = jury_speaks(j);
    float *rows = speaks ? malloc((size_t)(s->count * width) * sizeof *rows) : NULL,
          *chunk = malloc((size_t)(from->chunk * width) * sizeof *chunk);
    uint8_t *pixels = malloc((size_t)(from->chunk * bytes));
    kept_rows k = {.chunk = from->chunk, .width = width, .descriptor = -1};
    bool ok = ((rows || !speaks) && chunk && pixels) ||
              sid2_fail(err, SID2_ERR_MEMORY, "no memory for the features of %lld %s", (long long)s->count,
                        from->what);
    int64_t done = ok && speaks && !j->no_cache ? kept_rows_open(&k, identity, rows, s->count) : 0;
    ok = sid2_group_concur(j->group, ok, err) && sid2_group_share(j->group, &done, sizeof done, err) &&
         fill_rows(j, from, &k, pixels, chunk, rows, done, s->count, err);
    kept_rows_close(&k);
    free(pixels);
    free(chunk);
    if (ok && speaks)
        ok = settle(j, rows, s, err);
    else
        free(rows);
    return sid2_group_concur(j->group, ok, err);
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
static bool read_statistics(const char *path, int64_t width, bool *is_one, judged *s, sid2_error *err)
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
        if (ok && (mu.rank != 1 || mu.dim[0] != width))
            ok = sid2_fail(err, SID2_ERR_FORMAT, "%s: mu should have %" PRId64 " numbers", path, width);
        ok = ok && sid2_gaussian_alloc(&s->gaussian, mu.dim[0], err) &&
             sid2_arrays_read(arrays, 0, mu.dim[0], s->gaussian.mean, err) &&
             sid2_arrays_find(arrays, "sigma", &sigma, err);
        if (ok && (sigma.rank != 2 || sigma.dim[0] != mu.dim[0] || sigma.dim[1] != mu.dim[0]))
            ok = sid2_fail(err, SID2_ERR_FORMAT, "%s: sigma should be %" PRId64 " x %" PRId64, path, width,
                           width);
        ok = ok && sid2_arrays_read(arrays, 0, mu.dim[0] * mu.dim[0], s->gaussian.covariance, err) &&
             sid2_gaussian_check(&s->gaussian, path, err);
    }
    sid2_arrays_close(arrays);
    return ok;
}

static sid2_dataset *open_data(jury *j, const char *path, int32_t height, int32_t width, int32_t channels,
                               sid2_error *err)
{
    bool clips = j->network == &jury_i3d;
    int32_t frames = !clips ? 0 : j->frames ? (int32_t)j->frames : -1;
    return sid2_dataset_open_together(j->group, path,
                                      &sid2_with(sid2_dataset_options, .height = height, .width = width,
                                                 .channels = channels, .frames = frames,
                                                 .windows = (int32_t)j->windows, .crops = (int32_t)j->crops,
                                                 .cache_bytes = 1, .on_skip = print_skipped, .user = j->bar),
                                      err);
}

/* Opens a data set of pictures or clips, whose size is that of the first where none is given: squares of pictures, frames as
 * they are. */
static bool open_sized(jury *j, const char *path, int64_t most, int32_t channels, judged *s,
                       sid2_dataset **data, sid2_error *err)
{
    *data = open_data(j, path, s->height, s->width, channels, err);
    if (!sid2_group_concur(j->group, *data != NULL, err)) return false;
    if (!s->height) {
        int32_t extents[3];
        bool known = sid2_group_concur(j->group, sid2_dataset_extents(*data, 0, extents, err), err);
        bool square = j->network != &jury_i3d;
        sid2_dataset_close(*data);
        s->height = known ? extents[square && extents[1] < extents[0]] : 0;
        s->width = known && !square ? extents[1] : s->height;
        *data = known ? open_data(j, path, s->height, s->width, channels, err) : NULL;
        if (!*data) return false;
    }
    s->count = sid2_dataset_count(*data);
    if (most && s->count > most) s->count = most;
    return true;
}

/* Opens pictures, and says what their rows are called. */
static bool open_pictures(jury *j, const char *path, int64_t most, int32_t channels, judged *s,
                          sid2_dataset **data, char identity[512], sid2_error *err)
{
    char digest[33];
    if (!open_sized(j, path, most, channels, s, data, err) || !sid2_dataset_digest(*data, digest, err))
        return false;
    snprintf(identity, 512, "inception %s, data set %s, %d x %d x %d, %" PRId64 " pictures, spatial %d",
             j->digest, digest, s->height, s->width, sid2_dataset_channels(*data), s->count, j->spatial);
    return true;
}

bool judge_data(jury *j, const char *path, int64_t most, int32_t height, int32_t width, int32_t channels,
                judged *s, sid2_error *err)
{
    char identity[512];
    sid2_dataset *data = NULL;
    bool is_statistics = false;
    *s = (judged){0};
    snprintf(s->name, sizeof s->name, "%s", path);
    bool ok = read_statistics(path, j->network->features, &is_statistics, s, err) &&
              (is_statistics || j->judge || jury_open(j, err));
    ok = sid2_group_concur(j->group, ok, err);
    if (ok && !is_statistics) {
        s->height = height;
        s->width = width;
        ok =
            sid2_group_concur(j->group, open_pictures(j, path, most, channels, s, &data, identity, err), err);
    }
    if (ok && data) {
        const origin from = {get_pictures, data, CHUNK, 1, s->height, s->width, sid2_dataset_channels(data),
                             "pictures"};
        ok = fill(j, &from, identity, s, err);
    }
    sid2_dataset_close(data);
    return ok;
}

/* ---- Clips ---- */

static bool get_clips(void *user, int64_t first, int64_t count, uint8_t *pixels, sid2_error *err)
{
    sid2_dataset *clips = user;
    const size_t bytes = sid2_sample_bytes(sid2_dataset_type(clips));
    for (int64_t i = 0; i < count; i++) {
        sid2_finding found;
        if (!sid2_dataset_inspect(clips, first + i, pixels + (size_t)i * bytes, &found, err)) return false;
        if (!found.is_readable)
            return sid2_fail(err, SID2_ERR_FORMAT, "clip %" PRId64 " has a frame that cannot be read",
                             first + i);
    }
    return true;
}

static bool open_clips(jury *j, const char *path, int64_t most, judged *s, sid2_dataset **clips,
                       char identity[512], sid2_error *err)
{
    char digest[33];
    if (!open_sized(j, path, most, 3, s, clips, err)) return false;
    j->frames = sid2_dataset_type(*clips).shape.dim[0];
    if ((!j->judge && !jury_open(j, err)) || !sid2_dataset_digest(*clips, digest, err)) return false;
    snprintf(identity, 512,
             "i3d %s, clips %s, %" PRId64 " x %d x %d, %" PRId64 " clips, windows %d, crops %d", j->digest,
             digest, j->frames, s->height, s->width, s->count, (int)j->windows, (int)j->crops);
    return true;
}

bool judge_clips(jury *j, const char *path, int64_t most, int32_t size, judged *s, sid2_error *err)
{
    char identity[512];
    sid2_dataset *clips = NULL;
    bool is_statistics = false;
    *s = (judged){0};
    snprintf(s->name, sizeof s->name, "%s", path);
    bool ok = read_statistics(path, j->network->features, &is_statistics, s, err);
    ok = sid2_group_concur(j->group, ok, err);
    s->height = s->width = size;
    if (ok && !is_statistics)
        ok = sid2_group_concur(j->group, open_clips(j, path, most, s, &clips, identity, err), err);
    if (ok && clips) {
        const origin from = {get_clips, clips, CLIPS, j->frames, s->height, s->width, 3, "clips"};
        ok = fill(j, &from, identity, s, err);
    }
    sid2_dataset_close(clips);
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
    if (!jury_speaks(s->j)) return !interrupted();
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
    if (!sid2_group_concur(j->group, j->judge || jury_open(j, err), err)) return false;
    sampling from = {.what = what, .j = j};
    snprintf(identity, sizeof identity,
             "inception %s, checkpoint %s, raw %d, seed %" PRIu64 ", %" PRId64 " pictures, spatial %d",
             j->digest, what->digest, what->raw, what->seed, what->count, j->spatial);
    describe_sampling(what->config, identity, sizeof identity);
    const origin o = {get_samples,
                      &from,
                      CHUNK,
                      1,
                      s->height,
                      s->width,
                      (int)config_int(what->config, "model.image_channels"),
                      "pictures"};
    bool ok = fill(j, &o, identity, s, err);
    sid2_sampler_destroy(from.sampler);
    return ok;
}

/* ---- Samples that are clips ---- */

typedef struct going_on {
    sampling of; /* whose seeds and labels are for CHUNK */
    sid2_dataset *real;
    const sid2_config *config;
    uint8_t *clip, *given, *made; /* one real clip; what CLIPS begin with; and become */
    int32_t height, width;
} going_on;

/* Real clips in the order of a shuffle, so that few samples are of many videos. */
static bool take_given(going_on *g, int64_t first, int64_t count, sid2_error *err)
{
    const int64_t there = sid2_dataset_count(g->real);
    const size_t bytes = sid2_sample_bytes(sid2_dataset_type(g->real)) / (size_t)g->config->model_frames *
                         (size_t)g->config->model_given;
    for (int64_t i = 0; i < count; i++) {
        const int64_t number = first + i,
                      index = sid2_shuffle(0, (uint64_t)(number / there), number % there, there);
        int32_t label;
        if (!sid2_dataset_get(g->real, index, false, g->clip, &label, err)) return false;
        memcpy(g->given + (size_t)i * bytes, g->clip, bytes);
        g->of.seeds[i] = g->of.what->seed + (uint64_t)number;
        g->of.labels[i] = label < g->config->model_classes ? label : -1;
    }
    return true;
}

static bool get_clip_samples(void *user, int64_t first, int64_t count, uint8_t *pixels, sid2_error *err)
{
    going_on *g = user;
    sampling *s = &g->of;
    const sid2_shape shape = sid2_dataset_type(g->real).shape;
    const size_t from = (size_t)(shape.dim[1] * shape.dim[2] * shape.dim[3]),
                 to = (size_t)g->height * (size_t)g->width * (size_t)shape.dim[3];
    if (!s->sampler) {
        s->sampler = sid2_sampler_create(s->j->device, g->config, s->what->memory, err);
        if (!s->sampler || !sid2_sampler_load(s->sampler, s->what->directory, !s->what->raw, err))
            return false;
    }
    s->first = first;
    if (!take_given(g, first, count, err) ||
        !sid2_sampler_run_clips(s->sampler, s->seeds, s->labels, (int)count,
                                g->config->model_given ? g->given : NULL, (int)shape.dim[0], g->made, on_step,
                                s, err))
        return false;
    for (int64_t i = 0; i < count * shape.dim[0]; i++) {
        const sid2_image frame = {.height = (int32_t)shape.dim[1],
                                  .width = (int32_t)shape.dim[2],
                                  .channels = (int32_t)shape.dim[3],
                                  .pixels = g->made + (size_t)i * from};
        if (!sid2_image_crop(pixels + (size_t)i * to, &frame, g->height, g->width, 0, 1, err)) return false;
    }
    return true;
}

static bool open_going_on(going_on *g, const char *given, sid2_error *err)
{
    const sid2_config *c = g->config;
    jury *j = g->of.j;
    g->real = open_data(j, given, sid2_config_image_height(c), sid2_config_image_width(c),
                        (int32_t)c->model_image_channels, err);
    if (!g->real) return false;
    const size_t bytes = sid2_sample_bytes(sid2_dataset_type(g->real));
    g->clip = malloc(bytes);
    g->given = malloc(CLIPS * bytes);
    g->made = malloc(CLIPS * bytes);
    return (g->clip && g->given && g->made) ||
           sid2_fail(err, SID2_ERR_MEMORY, "no memory for %d clips", CLIPS);
}

bool judge_clip_samples(jury *j, const sampled *what, const char *given, int32_t height, int32_t width,
                        judged *s, sid2_error *err)
{
    char identity[4096], digest[33];
    *s = (judged){.count = what->count, .height = height, .width = width};
    snprintf(s->name, sizeof s->name, "%s", what->directory);
    going_on g = {.of = {.what = what, .j = j}, .config = what->config, .height = height, .width = width};
    bool ok = sid2_group_concur(j->group, open_going_on(&g, given, err), err);
    ok = sid2_group_concur(
        j->group, ok && sid2_dataset_digest(g.real, digest, err) && (j->judge || jury_open(j, err)), err);
    if (ok) {
        snprintf(identity, sizeof identity,
                 "i3d %s, checkpoint %s, raw %d, seed %" PRIu64 ", %" PRId64
                 " clips of %d x %d, given %s, windows %d, crops %d",
                 j->digest, what->digest, what->raw, what->seed, what->count, height, width, digest,
                 (int)j->windows, (int)j->crops);
        describe_sampling(what->config, identity, sizeof identity);
        const origin o = {
            get_clip_samples, &g, CLIPS, j->frames, height, width, (int)what->config->model_image_channels,
            "clips"};
        ok = fill(j, &o, identity, s, err);
    }
    sid2_sampler_destroy(g.of.sampler);
    sid2_dataset_close(g.real);
    free(g.clip);
    free(g.given);
    free(g.made);
    return ok;
}

bool judged_is_checkpoint(const char *path, bool *is, sid2_error *err)
{
    char file[4096];
    sid2_kind kind;
    if (!sid2_path(file, err, "%s/config.ini", path) || !sid2_look(file, &kind, err)) return false;
    *is = kind == SID2_REGULAR;
    return true;
}
