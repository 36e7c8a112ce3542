#include "judge.h"

#include "params.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { PLACES = 17 * 17, SHOWN = 192, TAKEN = 7 };

struct sid2_judge {
    sid2_device *device;
    sid2_graph *graph;
    sid2_buffers buffers;
    sid2_program *program;
    void (*prepare)(const uint8_t *pixels, int64_t height, int64_t width, int channels, float *to);
    int batch, frames, side;
    int64_t feature_count;
    bool spatial, head;
    float *pictures, *features, *shown, *logits; /* of a batch, on the host */
};

static int64_t picture_elements(const sid2_judge *j) { return (int64_t)j->side * j->side * 3; }

static bool has_head(const char *path, bool *head, sid2_error *err)
{
    sid2_safetensors *file = sid2_safetensors_open(path, err);
    if (!file) return false;
    *head = sid2_safetensors_find(file, "output.weight") != NULL;
    sid2_safetensors_close(file);
    return true;
}

static sid2_tensor pictures_of(sid2_judge *j)
{
    return sid2_graph_external(j->graph, "pictures", SID2_F32,
                               sid2_shape_of(j->batch, j->frames, j->side, j->side, 3));
}

static void build_inception(sid2_judge *j, sid2_params *params)
{
    sid2_inception net = sid2_inception_build(j->graph, params, pictures_of(j), 1, j->head);
    sid2_graph_export(j->graph, net.features, "features");
    if (j->spatial) sid2_graph_export(j->graph, net.spatial, "shown");
    if (j->head) sid2_graph_export(j->graph, net.logits, "logits");
}

static void build_i3d(sid2_judge *j, sid2_params *params)
{
    sid2_graph_export(j->graph, sid2_i3d_build(j->graph, params, pictures_of(j), 1), "features");
}

static bool set_up(sid2_judge *j, const char *path, void (*build)(sid2_judge *, sid2_params *),
                   sid2_error *err)
{
    const size_t n = (size_t)j->batch * sizeof(float);
    j->pictures = malloc(n * (size_t)(j->frames * picture_elements(j)));
    j->features = malloc(n * (size_t)j->feature_count);
    if (j->spatial) j->shown = malloc(n * PLACES * SHOWN);
    if (j->head) j->logits = malloc(n * SID2_INCEPTION_CLASSES);
    if (!j->pictures || !j->features || (j->spatial && !j->shown) || (j->head && !j->logits))
        return sid2_fail(err, SID2_ERR_MEMORY, "no memory for %d %s", j->batch,
                         j->frames > 1 ? "clips" : "pictures");
    if (!(j->graph = sid2_graph_create(SID2_F32))) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory");
    sid2_params *params = sid2_graph_params(j->graph, "", false);
    build(j, params);
    if (!sid2_graph_finish(j->graph, err)) return false;
    j->buffers.device = j->device;
    j->program = sid2_buffers_program(&j->buffers, j->graph, NULL, err);
    return j->program && sid2_params_read(path, &j->buffers, j->graph, params, err);
}

static sid2_judge *open_judge(sid2_judge with, const char *path, void (*build)(sid2_judge *, sid2_params *),
                              sid2_error *err)
{
    sid2_judge *j = malloc(sizeof *j);
    if (!j) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory"), NULL;
    *j = with;
    if (set_up(j, path, build, err)) return j;
    sid2_judge_close(j);
    return NULL;
}

sid2_judge *sid2_judge_open(sid2_device *device, const char *path, int batch, bool spatial, sid2_error *err)
{
    sid2_judge with = {.device = device,
                       .prepare = sid2_inception_prepare,
                       .batch = batch,
                       .frames = 1,
                       .side = SID2_INCEPTION_SIDE,
                       .feature_count = SID2_INCEPTION_FEATURES,
                       .spatial = spatial};
    return has_head(path, &with.head, err) ? open_judge(with, path, build_inception, err) : NULL;
}

sid2_judge *sid2_judge_open_clips(sid2_device *device, const char *path, int batch, int frames,
                                  sid2_error *err)
{
    const sid2_judge with = {.device = device,
                             .prepare = sid2_i3d_prepare,
                             .batch = batch,
                             .frames = frames,
                             .side = SID2_I3D_SIDE,
                             .feature_count = SID2_I3D_FEATURES};
    if (frames < SID2_I3D_LEAST_FRAMES)
        return sid2_fail(err, SID2_ERR_USAGE, "clips of %d frames are too short: I3D wants %d at least",
                         frames, SID2_I3D_LEAST_FRAMES),
               NULL;
    return open_judge(with, path, build_i3d, err);
}

void sid2_judge_close(sid2_judge *j)
{
    if (!j) return;
    sid2_program_destroy(j->program);
    sid2_buffers_clear(&j->buffers);
    sid2_graph_destroy(j->graph);
    free(j->pictures);
    free(j->features);
    free(j->shown);
    free(j->logits);
    free(j);
}

bool sid2_judge_has_classes(const sid2_judge *j) { return j->head; }

int64_t sid2_judge_width(const sid2_judge *j)
{
    return j->feature_count + (j->spatial ? SID2_INCEPTION_SPATIAL : 0) +
           (j->head ? SID2_INCEPTION_CLASSES : 0);
}

static void softmax(const float *logits, float *to)
{
    double sum = 0;
    float most = logits[0];
    for (int i = 1; i < SID2_INCEPTION_CLASSES; i++) most = fmaxf(most, logits[i]);
    for (int i = 0; i < SID2_INCEPTION_CLASSES; i++) sum += exp((double)logits[i] - (double)most);
    for (int i = 0; i < SID2_INCEPTION_CLASSES; i++)
        to[i] = (float)(exp((double)logits[i] - (double)most) / sum);
}

static void take_row(const sid2_judge *j, int64_t i, float *row)
{
    memcpy(row, j->features + i * j->feature_count, (size_t)j->feature_count * sizeof *row);
    row += j->feature_count;
    for (int64_t p = 0; j->spatial && p < PLACES; p++, row += TAKEN)
        memcpy(row, j->shown + (i * PLACES + p) * SHOWN, TAKEN * sizeof *row);
    if (j->head) softmax(j->logits + i * SID2_INCEPTION_CLASSES, row);
}

bool sid2_judge_rows(sid2_judge *j, const uint8_t *pixels, int64_t count, int64_t height, int64_t width,
                     int channels, float *rows, sid2_error *err)
{
    const int64_t picture = height * width * channels, row = sid2_judge_width(j), frames = j->frames,
                  elements = picture_elements(j);
    for (int64_t n = 0; n < count; n += j->batch) {
        const int64_t now = count - n < j->batch ? count - n : j->batch;
#pragma omp parallel for
        for (int64_t i = 0; i < j->batch * frames; i++) {
            float *to = j->pictures + i * elements;
            if (i < now * frames)
                j->prepare(pixels + (n * frames + i) * picture, height, width, channels, to);
            else
                memset(to, 0, (size_t)elements * sizeof *to);
        }
        if (!sid2_buffers_upload(&j->buffers, "pictures", j->pictures, err) ||
            !sid2_program_run(j->program, err) ||
            !sid2_buffers_download(&j->buffers, "features", j->features, err) ||
            (j->spatial && !sid2_buffers_download(&j->buffers, "shown", j->shown, err)) ||
            (j->head && !sid2_buffers_download(&j->buffers, "logits", j->logits, err)))
            return false;
        for (int64_t i = 0; i < now; i++) take_row(j, i, rows + (n + i) * row);
    }
    return true;
}
