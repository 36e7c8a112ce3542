#include "heldout.h"

#include "config.h"
#include "dataset.h"
#include "evaluator.h"
#include "loader.h"

#include <stdlib.h>

sid2_dataset *sid2_open_part(sid2_group *group, const char *path, const sid2_config *c, sid2_part part,
                             void (*on_skip)(void *user, const char *name, const char *reason), void *user,
                             sid2_error *err)
{
    size_t cache = (size_t)c->data_cache << 20;
    return sid2_dataset_open_together(
        group, path,
        &sid2_with(sid2_dataset_options, .height = (int32_t)c->model_image_size.height,
                   .width = (int32_t)c->model_image_size.width, .channels = (int32_t)c->model_image_channels,
                   .part = c->train_holdout > 0 ? part : SID2_PART_ALL, .holdout = c->train_holdout,
                   .upright = (sid2_upright)c->data_upright, .cache_bytes = cache ? cache : 1,
                   .on_skip = on_skip, .user = user,
                   .frames = c->model_frames > 1 ? (int32_t)c->model_frames : 0,
                   .stride = (int32_t)c->data_stride, .hop = (int32_t)c->data_hop),
        err);
}

enum { CHUNK = 256 }; /* images between calls back */

static int chunk_at(const sid2_heldout *h, int first)
{
    return h->count - first < CHUNK ? h->count - first : CHUNK;
}

/* This rank's share of the chunk that begins with image `first`. */
static sid2_span share_of(const sid2_heldout *h, int first)
{
    return sid2_group_part(h->group, sid2_group_rank(h->group), (sid2_span){first, chunk_at(h, first)}, 1);
}

static bool is_mine(const sid2_heldout *h, int image)
{
    sid2_span share = share_of(h, image - image % CHUNK);
    return image >= share.first && image < share.first + share.count;
}

static bool read_pictures(sid2_heldout *h, sid2_dataset *data, int classes, sid2_error *err)
{
    int64_t available = sid2_dataset_count(data);
    for (int i = 0; i < h->count; i++) {
        if (!is_mine(h, i)) continue;
        int64_t index = sid2_shuffle(0, 0, i, available); /* a folder comes class by class */
        if (!sid2_dataset_get(data, index, false, h->pixels + (size_t)i * h->bytes, &h->labels[i], err))
            return false;
        if (classes && h->labels[i] >= classes)
            return sid2_fail(err, SID2_ERR_USAGE, "the data has a class %d, the model only %d classes",
                             h->labels[i], classes);
    }
    return true;
}

bool sid2_heldout_read(sid2_heldout *h, sid2_group *group, sid2_dataset *data, const sid2_config *config,
                       sid2_error *err)
{
    int64_t available = sid2_dataset_count(data), wanted = config->eval_images;
    sid2_sample_type type = sid2_dataset_type(data);
    *h = (sid2_heldout){.group = group,
                        .count = (int)(wanted < available ? wanted : available),
                        .levels = (int)config->eval_levels,
                        .bytes = (size_t)sid2_shape_count(type.shape) * sid2_dtype_size(type.dtype)};
    h->pixels = malloc((size_t)h->count * h->bytes + 1);
    h->labels = malloc((size_t)h->count * sizeof *h->labels + 1);
    h->points = calloc((size_t)h->levels, sizeof *h->points);
    bool ok = h->pixels && h->labels && h->points;
    if (!ok) sid2_fail(err, SID2_ERR_MEMORY, "out of memory for %d images", h->count);
    ok = sid2_group_concur(group, ok && read_pictures(h, data, (int)config->model_classes, err), err);
    if (!ok) sid2_heldout_free(h);
    return ok;
}

void sid2_heldout_free(sid2_heldout *h)
{
    free(h->pixels);
    free(h->labels);
    free(h->points);
    *h = (sid2_heldout){0};
}

/* The errors of a chunk's images, each measured by the rank whose share it is in. */
static bool measure_chunk(const sid2_heldout *h, sid2_evaluator *evaluator, int first, double t,
                          float *errors, sid2_error *err)
{
    sid2_span share = share_of(h, first);
    int count = (int)share.count;
    bool ok = !count || sid2_evaluator_errors(evaluator, h->pixels + (size_t)share.first * h->bytes,
                                              h->labels + share.first, count, t, (uint64_t)share.first,
                                              errors + (share.first - first), err);
    return sid2_group_concur(h->group, ok, err) &&
           sid2_group_spread(h->group, errors, sizeof *errors, chunk_at(h, first), 1, err);
}

bool sid2_heldout_measure(sid2_heldout *h, sid2_evaluator *evaluator, sid2_heldout_callback callback,
                          void *user, sid2_error *err)
{
    float errors[CHUNK];
    for (int level = 0; level < h->levels; level++) {
        sid2_eval_point *sum = &h->points[level];
        double t = (level + 0.5) / h->levels;
        *sum = (sid2_eval_point){0};
        for (int first = 0; first < h->count; first += CHUNK) {
            int count = chunk_at(h, first);
            double share = (double)count / h->count;
            if (!measure_chunk(h, evaluator, first, t, errors, err)) return false;
            sid2_evaluator_conclude(evaluator, errors, count, t);
            const sid2_eval_point *point = sid2_evaluator_point(evaluator);
            sum->logsnr = point->logsnr;
            sum->x_mse += share * point->x_mse;
            sum->eps_mse += share * point->eps_mse;
            sum->v_mse += share * point->v_mse;
            sum->weighted += share * point->weighted;
            bool on = callback(user, (level + (double)(first + count) / h->count) / h->levels) ||
                      sid2_fail(err, SID2_ERR_CANCELLED, "stopped");
            if (!sid2_group_concur(h->group, on, err)) return false;
        }
    }
    return true;
}

double sid2_heldout_loss(const sid2_heldout *h)
{
    double sum = 0;
    for (int i = 0; i < h->levels; i++) sum += h->points[i].weighted;
    return sum / h->levels;
}
