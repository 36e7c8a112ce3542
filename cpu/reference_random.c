/* Operators that draw random numbers. Compiled without fused multiply-add: see normal.h. */
#include "reference.h"

#include "normal.h"

static uint64_t join(const double *words) { return (uint64_t)words[0] | (uint64_t)words[1] << 32; }

void sid2_reference_random_normal(const sid2_reference *r)
{
    int64_t samples = r->out_shape[0].dim[0], each = sid2_shape_count(r->out_shape[0]) / samples;
    for (int64_t n = 0; n < samples; n++)
        for (int64_t i = 0; i < each; i++) {
            sid2_philox_block block =
                sid2_philox(join(r->in[1]), join(r->in[0] + 2 * n), r->attr->purpose, (uint32_t)(i / 4));
            const uint32_t *pair = block.word + i % 4 / 2 * 2;
            float values[2];
            sid2_normal_pair(pair[0], pair[1], values);
            r->out[0][n * each + i] = (double)values[i % 2];
        }
}

static double uniform(const sid2_reference *r, const double *sample, const double *seed, int64_t element)
{
    return (double)sid2_uniform(
        sid2_philox_word(join(seed), join(sample), r->attr->purpose, (uint64_t)element));
}

void sid2_reference_random_uniform(const sid2_reference *r)
{
    int64_t samples = r->out_shape[0].dim[0], each = sid2_shape_count(r->out_shape[0]) / samples;
    for (int64_t n = 0; n < samples; n++)
        for (int64_t i = 0; i < each; i++)
            r->out[0][n * each + i] = uniform(r, r->in[0] + 2 * n, r->in[1], i);
}

void sid2_reference_dropout(const sid2_reference *r)
{
    int64_t samples = r->in_shape[0].dim[0], each = sid2_shape_count(r->in_shape[0]) / samples;
    double rate = (double)r->attr->rate;
    for (int64_t n = 0; n < samples; n++)
        for (int64_t i = 0; i < each; i++) {
            bool kept = uniform(r, r->in[1] + 2 * n, r->in[2], i) >= rate;
            r->out[0][n * each + i] = kept ? r->in[0][n * each + i] / (1 - rate) : 0;
        }
}
