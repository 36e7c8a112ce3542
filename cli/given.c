#include "given.h"

#include "config.h"
#include "dataset.h"

#include <stdlib.h>
#include <string.h>

static sid2_dataset *open_given(sid2_group *group, const char *path, const sid2_config *c, sid2_error *err)
{
    return sid2_dataset_open_together(
        group, path,
        &sid2_with(sid2_dataset_options, .height = (int32_t)c->model_image_size.height,
                   .width = (int32_t)c->model_image_size.width, .channels = (int32_t)c->model_image_channels,
                   .frames = (int32_t)c->model_given, .hop = 1, .cache_bytes = 1),
        err);
}

/* Numbers of the last clip of each video; how many there are is returned. */
static int64_t find_last(const sid2_dataset *data, int64_t *last)
{
    int64_t count = sid2_dataset_count(data), videos = 0;
    for (int64_t i = 0; i < count; i++)
        if (i + 1 == count || sid2_dataset_video(data, i + 1) != sid2_dataset_video(data, i))
            last[videos++] = i;
    return videos;
}

uint8_t *given_read(sid2_group *group, const char *path, const sid2_config *config, size_t first,
                    size_t count, int32_t *labels, int32_t rate[2], sid2_error *err)
{
    if (!config->model_given)
        return sid2_fail(err, SID2_ERR_USAGE, "--given: the model goes on from nothing (model.given = 0)"),
               NULL;
    sid2_dataset *data = open_given(group, path, config, err);
    if (!data) return NULL;
    int32_t own[2];
    sid2_dataset_rate(data, own);
    if (own[0]) memcpy(rate, own, sizeof own);
    size_t bytes = sid2_sample_bytes(sid2_dataset_type(data));
    bool labelled = config->model_classes && sid2_dataset_classes(data) == config->model_classes;
    int64_t *last = malloc((size_t)sid2_dataset_count(data) * sizeof *last);
    uint8_t *given = malloc(count * bytes);
    bool ok = (last && given) ||
              sid2_fail(err, SID2_ERR_MEMORY, "out of memory for what %zu clips begin with", count);
    int64_t videos = ok ? find_last(data, last) : 0;
    for (size_t i = 0; ok && i < count; i++) {
        int64_t clip = last[(first + i) % (size_t)videos];
        ok = sid2_dataset_get(data, clip, false, given + i * bytes, NULL, err);
        if (labelled && labels[i] < 0) labels[i] = sid2_dataset_label(data, clip);
    }
    free(last);
    sid2_dataset_close(data);
    if (ok) return given;
    free(given);
    return NULL;
}
