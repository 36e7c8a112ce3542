#include "samples.h"

#include "image.h"

#include <sid2/checkpoint.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- Drawing ---- */

typedef struct drawing {
    sid2_samples *samples;
    sid2_heldout_callback callback;
    void *user;
} drawing;

static bool on_sample(void *user, const sid2_sample_progress *p)
{
    drawing *d = user;
    d->samples->evaluations = (double)(p->evaluations + p->guided) / p->total; /* passes of a network */
    return d->callback(d->user, (p->images + (double)p->step / p->steps) / p->total);
}

/* With its weights; NULL: no guide. */
static sid2_sampler *create_sampler(sid2_device *device, const sid2_config *c, const char *checkpoint,
                                    const char *guide, bool ema, size_t memory, sid2_error *err)
{
    sid2_sampler *sampler = NULL;
    sid2_config *of_guide = guide ? sid2_config_create() : NULL;
    bool ok = !guide || ((of_guide || sid2_fail(err, SID2_ERR_MEMORY, "out of memory")) &&
                         sid2_checkpoint_config(guide, of_guide, err));
    if (ok)
        sampler = guide ? sid2_sampler_create_guided(device, c, of_guide, memory, err)
                        : sid2_sampler_create(device, c, memory, err);
    ok = sampler && sid2_sampler_load(sampler, checkpoint, ema, err) &&
         (!guide || sid2_sampler_load_guide(sampler, guide, ema, err));
    sid2_config_destroy(of_guide);
    if (ok) return sampler;
    sid2_sampler_destroy(sampler);
    return NULL;
}

bool sid2_samples_draw(sid2_samples *s, sid2_device *device, const sid2_config *c, const char *checkpoint,
                       const char *guide, bool ema, int count, uint64_t first_seed, size_t memory,
                       sid2_heldout_callback callback, void *user, sid2_error *err)
{
    *s = (sid2_samples){0};
    if (c->model_frames > 1)
        return sid2_fail(err, SID2_ERR_USAGE, "samples are compared as pictures, and %s makes clips",
                         checkpoint);
    uint64_t *seeds = malloc((size_t)count * sizeof *seeds + 1);
    *s = (sid2_samples){.count = count,
                        .pixels = malloc((size_t)count * sid2_config_image_bytes(c) + 1),
                        .labels = malloc((size_t)count * sizeof *s->labels + 1)};
    bool ok = (seeds && s->pixels && s->labels) ||
              sid2_fail(err, SID2_ERR_MEMORY, "out of memory for %d samples", count);
    for (int i = 0; ok && i < count; i++) {
        seeds[i] = first_seed + (uint64_t)i;
        s->labels[i] = c->model_classes ? (int32_t)(i % c->model_classes) : -1;
    }
    drawing d = {s, callback, user};
    double began = sid2_clock();
    sid2_sampler *sampler = ok ? create_sampler(device, c, checkpoint, guide, ema, memory, err) : NULL;
    ok = sampler && sid2_sampler_run(sampler, seeds, s->labels, count, s->pixels, on_sample, &d, err);
    sid2_sampler_destroy(sampler);
    s->seconds = sid2_clock() - began;
    free(seeds);
    return ok;
}

void sid2_samples_free(sid2_samples *s)
{
    free(s->pixels);
    free(s->labels);
    *s = (sid2_samples){0};
}

/* ---- Real pictures ---- */

sid2_pictures sid2_pictures_of(const sid2_config *c, const uint8_t *pixels, int count)
{
    return (sid2_pictures){pixels, count, (int)c->model_image_size.height, (int)c->model_image_size.width,
                           (int)c->model_image_channels};
}

bool sid2_pictures_read(sid2_heldout *pictures, const char *data, const sid2_config *c, sid2_part part,
                        int count, sid2_error *err)
{
    *pictures = (sid2_heldout){0};
    sid2_config *wanted = sid2_config_clone(c);
    if (!wanted) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory");
    wanted->eval_images = count;
    sid2_dataset *set = sid2_open_part(NULL, data, c, part, NULL, NULL, err);
    bool ok = set &&
              (sid2_dataset_count(set) > 0 || sid2_fail(err, SID2_ERR_USAGE, "%s has no %s images", data,
                                                        part == SID2_PART_HELDOUT ? "held-out" : "training"));
    ok = ok && sid2_heldout_read(pictures, NULL, set, wanted, err);
    sid2_dataset_close(set);
    sid2_config_destroy(wanted);
    return ok;
}

/* ---- Neighbours ---- */

static sid2_nearest *no_neighbours(int count, sid2_error *err)
{
    sid2_nearest *nearest = malloc((size_t)count * sizeof *nearest + 1);
    if (!nearest) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory for %d samples", count), NULL;
    for (int i = 0; i < count; i++) nearest[i].index = -1;
    return nearest;
}

/* Two sets of the same size, which no sample was chosen by. */
static bool compare_sets(sid2_neighbours *n, const sid2_pictures *samples, const char *data,
                         const sid2_config *c, sid2_error *err)
{
    enum { MOST = 2000 };
    sid2_heldout heldout = {0}, training = {0};
    sid2_nearest *of[2] = {no_neighbours(n->samples, err), no_neighbours(n->samples, err)};
    bool ok = of[0] && of[1] && sid2_pictures_read(&heldout, data, c, SID2_PART_HELDOUT, MOST, err) &&
              sid2_pictures_read(&training, data, c, SID2_PART_TRAIN, heldout.count, err);
    if (ok && c->train_holdout <= 0)
        ok = sid2_fail(err, SID2_ERR_USAGE, "%s has no held-out images to compare neighbours with", data);
    if (ok) {
        n->set = training.count < heldout.count ? training.count : heldout.count;
        const sid2_pictures known = sid2_pictures_of(c, training.pixels, n->set),
                            unknown = sid2_pictures_of(c, heldout.pixels, n->set);
        sid2_find_nearest(samples, &known, 0, of[0]);
        sid2_find_nearest(samples, &unknown, 0, of[1]);
        double nearer = 0;
        for (int i = 0; i < n->samples; i++)
            nearer += of[0][i].squares < of[1][i].squares    ? 1
                      : of[0][i].squares == of[1][i].squares ? 0.5
                                                             : 0;
        n->share = nearer / n->samples;
        n->deviation = 0.5 / sqrt(n->samples);
    }
    free(of[0]);
    free(of[1]);
    sid2_heldout_free(&heldout);
    sid2_heldout_free(&training);
    return ok;
}

static bool search_training(sid2_neighbours *n, const sid2_pictures *samples, const char *data,
                            const sid2_config *c, sid2_heldout_callback callback, void *user, sid2_error *err)
{
    enum { CHUNK = 256 };
    size_t bytes = sid2_config_image_bytes(c);
    uint8_t *pixels = malloc(CHUNK * bytes);
    sid2_dataset *set = sid2_open_part(NULL, data, c, SID2_PART_TRAIN, NULL, NULL, err);
    n->nearest = no_neighbours(n->samples, err);
    bool ok = set && n->nearest && (pixels || sid2_fail(err, SID2_ERR_MEMORY, "out of memory"));
    int64_t all = ok ? sid2_dataset_count(set) : 0;
    for (int64_t first = 0; ok && first < all; first += CHUNK) {
        int count = (int)(all - first < CHUNK ? all - first : CHUNK);
        for (int i = 0; ok && i < count; i++)
            ok = sid2_dataset_get(set, first + i, false, pixels + (size_t)i * bytes, NULL, err);
        if (!ok) break;
        const sid2_pictures real = sid2_pictures_of(c, pixels, count);
        sid2_find_nearest(samples, &real, first, n->nearest);
        if (!callback(user, (double)(first + count) / (double)all))
            ok = sid2_fail(err, SID2_ERR_CANCELLED, "stopped");
    }
    free(pixels);
    sid2_dataset_close(set);
    return ok;
}

/* What a sample differs from its own mean: an even picture is near to others without being one of them. */
static double contrast(const uint8_t *pixels, size_t bytes)
{
    double sum = 0, squares = 0;
    for (size_t i = 0; i < bytes; i++) sum += pixels[i], squares += (double)pixels[i] * pixels[i];
    return squares - sum * sum / (double)bytes;
}

static bool put_in_order(sid2_neighbours *n, const sid2_pictures *samples, size_t bytes, sid2_error *err)
{
    double *suspicion = malloc((size_t)n->samples * sizeof *suspicion + 1);
    n->order = malloc((size_t)n->samples * sizeof *n->order + 1);
    bool ok = (suspicion && n->order) || sid2_fail(err, SID2_ERR_MEMORY, "out of memory");
    for (int i = 0; ok && i < n->samples; i++) {
        suspicion[i] =
            (double)n->nearest[i].squares / (1 + contrast(samples->pixels + (size_t)i * bytes, bytes));
        int place = i;
        for (; place && suspicion[n->order[place - 1]] > suspicion[i]; place--)
            n->order[place] = n->order[place - 1];
        n->order[place] = i;
    }
    free(suspicion);
    return ok;
}

bool sid2_neighbours_find(sid2_neighbours *n, const sid2_samples *samples, const char *data,
                          const sid2_config *c, sid2_heldout_callback callback, void *user, sid2_error *err)
{
    *n = (sid2_neighbours){.samples = samples->count};
    const sid2_pictures pictures = sid2_pictures_of(c, samples->pixels, samples->count);
    bool ok = compare_sets(n, &pictures, data, c, err) &&
              search_training(n, &pictures, data, c, callback, user, err) &&
              put_in_order(n, &pictures, sid2_config_image_bytes(c), err);
    if (!ok) sid2_neighbours_free(n);
    return ok;
}

void sid2_neighbours_free(sid2_neighbours *n)
{
    free(n->nearest);
    free(n->order);
    *n = (sid2_neighbours){0};
}

bool sid2_neighbours_write(const sid2_neighbours *n, const sid2_samples *samples, const char *data,
                           const sid2_config *c, int count, const char *path, sid2_error *err)
{
    enum { COLUMNS = 12 };
    size_t bytes = sid2_config_image_bytes(c);
    int shown = count < n->samples ? count : n->samples, rows = (shown + COLUMNS - 1) / COLUMNS;
    uint8_t *pixels = malloc((size_t)rows * 2 * COLUMNS * bytes + 1);
    sid2_dataset *set = sid2_open_part(NULL, data, c, SID2_PART_TRAIN, NULL, NULL, err);
    bool ok = set && (pixels || sid2_fail(err, SID2_ERR_MEMORY, "out of memory"));
    if (ok) memset(pixels, 255, (size_t)rows * 2 * COLUMNS * bytes);
    for (int i = 0; ok && i < shown; i++) {
        int sample = n->order[i];
        uint8_t *above = pixels + ((size_t)(i / COLUMNS) * 2 * COLUMNS + (size_t)(i % COLUMNS)) * bytes;
        memcpy(above, samples->pixels + (size_t)sample * bytes, bytes);
        ok = sid2_dataset_get(set, n->nearest[sample].index, false, above + COLUMNS * bytes, NULL, err);
    }
    sid2_image grid = {0};
    ok = ok &&
         sid2_image_grid(&grid, pixels, rows * 2 * COLUMNS, (int32_t)c->model_image_size.height,
                         (int32_t)c->model_image_size.width, (int32_t)c->model_image_channels, COLUMNS,
                         SID2_GRID_PADDING, 255, err) &&
         sid2_png_write(path, &grid, NULL, 0, err);
    sid2_image_free(&grid);
    sid2_dataset_close(set);
    free(pixels);
    return ok;
}
