/* Pooling over windows, and tensors put side by side. The unit of work is a row of pixels of y. */
#include "fast.h"

/* sum or largest so far, of the channels under one more tap. */
INLINE void take_tap(bool mean, const float *restrict x, float *restrict y, int64_t depth)
{
    if (mean)
        for (int64_t c = 0; c < depth; c++) y[c] += x[c];
    else
        for (int64_t c = 0; c < depth; c++) y[c] = x[c] > y[c] || x[c] != x[c] ? x[c] : y[c];
}

/* What lies inside x of window number `at` along one of the three: first .. end - 1. */
typedef struct range {
    int64_t first, end;
} range;

static range range_of(const sid2_call *call, int i, int64_t at)
{
    int64_t first = at * call->attr->stride[i] - call->attr->before[i];
    return (range){max64(first, 0), min64(first + call->attr->window[i], call->in[0].shape.dim[i + 1])};
}

/* `depth` channels of y, from `channel` on, of the window over these frames, rows and columns. */
static void pool(const sid2_call *call, int64_t sample, const range r[3], int64_t channel, int64_t depth,
                 float *y)
{
    const sid2_operand *x = &call->in[0];
    const int64_t *dim = x->shape.dim;
    const bool mean = call->attr->mean;
    float line[CHUNK];
    for (int64_t c = 0; c < depth; c++) y[c] = mean ? 0 : -INFINITY;
    for (int64_t f = r[0].first; f < r[0].end; f++)
        for (int64_t i = r[1].first; i < r[1].end; i++)
            for (int64_t j = r[2].first; j < r[2].end; j++) {
                int64_t at = (((sample * dim[1] + f) * dim[2] + i) * dim[3] + j) * dim[4] + channel;
                if (x->dtype != SID2_F32) fetch(x, at, depth, line);
                const float *from = x->dtype == SID2_F32 ? (const float *)x->data + at : line;
                if (mean)
                    take_tap(true, from, y, depth);
                else
                    take_tap(false, from, y, depth);
            }
    float share = 1.0f / (float)((r[0].end - r[0].first) * (r[1].end - r[1].first) * (r[2].end - r[2].first));
    for (int64_t c = 0; mean && c < depth; c++) y[c] *= share;
}

void FAST(pool3d)(sid2_call *call)
{
    const sid2_operand *y = &call->out[0];
    const int64_t *dim = y->shape.dim, channels = dim[4];
    int threads = team(call, count(&call->in[0]));
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t row = 0; row < dim[0] * dim[1] * dim[2]; row++) {
        float sum[CHUNK];
        range r[3] = {range_of(call, 0, row / dim[2] % dim[1]), range_of(call, 1, row % dim[2])};
        for (int64_t j = 0; j < dim[3]; j++) {
            r[2] = range_of(call, 2, j);
            for (int64_t c = 0; c < channels; c += CHUNK) {
                int64_t depth = min64(CHUNK, channels - c);
                pool(call, row / dim[2] / dim[1], r, c, depth, sum);
                store(sum, y, (row * dim[3] + j) * channels + c, depth);
            }
        }
    }
}

void FAST(concat)(sid2_call *call)
{
    const sid2_operand *y = &call->out[0];
    const size_t size = sid2_dtype_size(y->dtype);
    int64_t width = last(y), rows = count(y) / max64(1, width);
    int threads = team(call, count(y));
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t row = 0; row < rows; row++) {
        char *to = (char *)y->data + (size_t)(row * width) * size;
        for (int i = 0; i < 6; i++) {
            const sid2_operand *x = &call->in[i];
            if (!x->data) continue;
            size_t bytes = (size_t)last(x) * size;
            memcpy(to, (const char *)x->data + (size_t)row * bytes, bytes);
            to += bytes;
        }
    }
}
