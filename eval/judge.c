#include "judge.h"

#include "params.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { PIXELS = SID2_INCEPTION_SIDE * SID2_INCEPTION_SIDE * 3, PLACES = 17 * 17, SHOWN = 192, TAKEN = 7 };

struct sid2_judge {
    sid2_device *device;
    sid2_graph *graph;
    sid2_buffers buffers;
    sid2_program *program;
    int batch;
    bool spatial, head;
    float *pictures, *features, *shown, *logits; /* of a batch, on the host */
};

static bool has_head(const char *path, bool *head, sid2_error *err)
{
    sid2_safetensors *file = sid2_safetensors_open(path, err);
    if (!file) return false;
    *head = sid2_safetensors_find(file, "output.weight") != NULL;
    sid2_safetensors_close(file);
    return true;
}

static bool build(sid2_judge *j, const char *path, sid2_error *err)
{
    sid2_graph *g = j->graph = sid2_graph_create(SID2_F32);
    if (!g) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory");
    sid2_params *params = sid2_graph_params(g, "", false);
    sid2_tensor x = sid2_graph_external(
        g, "pictures", SID2_F32, sid2_shape_of(j->batch, 1, SID2_INCEPTION_SIDE, SID2_INCEPTION_SIDE, 3));
    sid2_inception net = sid2_inception_build(g, params, x, 1, j->head);
    sid2_graph_export(g, net.features, "features");
    if (j->spatial) sid2_graph_export(g, net.spatial, "shown");
    if (j->head) sid2_graph_export(g, net.logits, "logits");
    if (!sid2_graph_finish(g, err)) return false;
    j->buffers.device = j->device;
    j->program = sid2_buffers_program(&j->buffers, g, NULL, err);
    return j->program && sid2_params_read(path, &j->buffers, g, params, err);
}

sid2_judge *sid2_judge_open(sid2_device *device, const char *path, int batch, bool spatial, sid2_error *err)
{
    sid2_judge *j = calloc(1, sizeof *j);
    if (!j) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory"), NULL;
    j->device = device;
    j->batch = batch;
    j->spatial = spatial;
    if (has_head(path, &j->head, err)) {
        const size_t n = (size_t)batch * sizeof(float);
        j->pictures = malloc(n * PIXELS);
        j->features = malloc(n * SID2_INCEPTION_FEATURES);
        j->shown = malloc(n * PLACES * SHOWN);
        j->logits = malloc(n * SID2_INCEPTION_CLASSES);
        if (!j->pictures || !j->features || !j->shown || !j->logits)
            sid2_fail(err, SID2_ERR_MEMORY, "no memory for %d pictures", batch);
        else if (build(j, path, err))
            return j;
    }
    sid2_judge_close(j);
    return NULL;
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
    return SID2_INCEPTION_FEATURES + (j->spatial ? SID2_INCEPTION_SPATIAL : 0) +
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
    memcpy(row, j->features + i * SID2_INCEPTION_FEATURES, SID2_INCEPTION_FEATURES * sizeof *row);
    row += SID2_INCEPTION_FEATURES;
    for (int64_t p = 0; j->spatial && p < PLACES; p++, row += TAKEN)
        memcpy(row, j->shown + (i * PLACES + p) * SHOWN, TAKEN * sizeof *row);
    if (j->head) softmax(j->logits + i * SID2_INCEPTION_CLASSES, row);
}

bool sid2_judge_rows(sid2_judge *j, const uint8_t *pixels, int64_t count, int64_t height, int64_t width,
                     int channels, float *rows, sid2_error *err)
{
    const int64_t picture = height * width * channels, row = sid2_judge_width(j);
    for (int64_t n = 0; n < count; n += j->batch) {
        const int64_t now = count - n < j->batch ? count - n : j->batch;
#pragma omp parallel for
        for (int64_t i = 0; i < j->batch; i++) {
            float *to = j->pictures + i * PIXELS;
            if (i < now)
                sid2_inception_prepare(pixels + (n + i) * picture, height, width, channels, to);
            else
                memset(to, 0, PIXELS * sizeof *to);
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
