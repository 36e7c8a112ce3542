/* Sums over whole buffers and the optimizer.
 *
 * Sums are taken per block of fixed size, blocks in parallel, then over the blocks in order: the result does
 * not depend on the number of threads. square_sums squares in double, so that a diverging run shows as large
 * and not as infinite. adam is one pass: four streams in, three or four out, nothing read twice. */
#include "fast.h"

enum { BLOCK = SID2_SUM_BLOCK };

static int64_t blocks_of(int64_t elements) { return divide_up(max64(1, elements), BLOCK); }

size_t FAST(sum_scratch)(const sid2_call *call)
{
    const sid2_operand *x = &call->in[0];
    int64_t samples = first(x);
    return sizeof(double) * (size_t)(samples * blocks_of(count(x) / max64(1, samples)));
}

static double ordered_sum(const double *partial, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += partial[i];
    return sum;
}

typedef double vd __attribute__((vector_size(VL * 4)));
typedef float vf_half __attribute__((vector_size(VL * 2)));
typedef float vf_half_memory __attribute__((vector_size(VL * 2), aligned(4), may_alias));

static double square_sum(const float *x, int64_t n)
{
    vd sum[4] = {{0}};
    int64_t i = 0;
    for (; i + 2 * VL <= n; i += 2 * VL)
        for (int k = 0; k < 4; k++) {
            vf_half h = *(const vf_half_memory *)(x + i + k * (VL / 2));
            vd d = __builtin_convertvector(h, vd);
            sum[k] += d * d;
        }
    vd total = (sum[0] + sum[1]) + (sum[2] + sum[3]);
    double result = 0;
    for (int k = 0; k < VL / 2; k++) result += total[k];
    for (; i < n; i++) result += (double)x[i] * (double)x[i];
    return result;
}

void FAST(square_sums)(sid2_call *call)
{
    const float *x = call->in[0].data;
    int64_t n = count(&call->in[0]), blocks = blocks_of(n);
    double *sums = call->out[0].data;
    int threads = team(call, n);
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t b = 0; b < blocks; b++) sums[b] = square_sum(x + b * BLOCK, min64(BLOCK, n - b * BLOCK));
}

void FAST(norm_of)(sid2_call *call)
{
    *(float *)call->out[0].data = (float)sqrt(ordered_sum(call->in[0].data, count(&call->in[0])));
}

/* ---- Loss ---- */
static double loss_block(const sid2_call *call, int64_t sample, int64_t start, int64_t size)
{
    const sid2_operand *in = call->in;
    float alpha = ((const float *)in[3].data)[sample], sigma = ((const float *)in[4].data)[sample];
    double total = 0;
    for (int64_t at = start; at < start + size; at += CHUNK) {
        chunk buffer[3];
        int64_t n = min64(CHUNK, start + size - at);
        const float *v = load(&in[0], at, n, buffer[0].at), *z = load(&in[1], at, n, buffer[1].at),
                    *x = load(&in[2], at, n, buffer[2].at);
        vf sum = {0}; /* padding: 0 - 0 - 0 */
        for (int64_t i = 0; i < n; i += VL) {
            vf d = vf_x_error(vload(v + i), vload(z + i), vload(x + i), alpha, sigma);
            sum = vmuladd(d, d, sum);
        }
        total += (double)vsum(sum);
    }
    return total;
}

void FAST(diffusion_loss)(sid2_call *call)
{
    int64_t samples = first(&call->in[0]), elements = count(&call->in[0]) / max64(1, samples);
    int64_t blocks = blocks_of(elements);
    double *partial = call->scratch;
    const float *weight = call->in[5].data;
    float *loss = call->out[0].data;
    int threads = team(call, samples * elements);
#pragma omp parallel for schedule(static) collapse(2) num_threads(threads)
    for (int64_t n = 0; n < samples; n++)
        for (int64_t b = 0; b < blocks; b++)
            partial[n * blocks + b] =
                loss_block(call, n, n * elements + b * BLOCK, min64(BLOCK, elements - b * BLOCK));
    for (int64_t n = 0; n < samples; n++)
        loss[n] =
            (float)f64_loss(ordered_sum(partial + n * blocks, blocks), (double)weight[n], (double)elements);
}

/* ---- Adam ---- */
static void adam_chunk(const sid2_call *call, int64_t sample, int64_t at, int64_t n)
{
    (void)sample;
    enum { WEIGHTS, GRADS, M, V, NORM, HYPER };
    const float *hyper = call->in[HYPER].data;
    float lr = hyper[0], beta1 = hyper[1], beta2 = hyper[2], eps = hyper[3], clip = hyper[6];
    float factor = f32_clip_factor(clip, *(const float *)call->in[NORM].data);
    float step = lr / hyper[4], spread = 1.0f / hyper[5];
    chunk buffer[4], result[3];
    const float *weights = load(&call->in[WEIGHTS], at, n, buffer[0].at);
    const float *grads = load(&call->in[GRADS], at, n, buffer[1].at);
    const float *first = load(&call->in[M], at, n, buffer[2].at);
    const float *second = load(&call->in[V], at, n, buffer[3].at);
    float *to[3];
    for (int k = 0; k < 3; k++) to[k] = target(&call->out[k], at, n, result[k].at);
    for (int64_t i = 0; i < n; i += VL) {
        vf g = vload(grads + i) * factor, m = vload(first + i), v = vload(second + i);
        m = vf_toward(m, g, 1.0f - beta1);
        v = vf_toward(v, g * g, 1.0f - beta2);
        vf w = vf_adam(vload(weights + i), m, v, step, spread, eps);
        vstore(to[0] + i, w);
        vstore(to[1] + i, m);
        vstore(to[2] + i, v);
    }
    for (int k = 0; k < 3; k++) store(to[k], &call->out[k], at, n);
    if (call->out[3].data) memset((float *)call->out[3].data + at, 0, (size_t)n * sizeof(float));
    if (call->out[4].data) store(to[0], &call->out[4], at, n);
}

static void ema_chunk(const sid2_call *call, int64_t sample, int64_t at, int64_t n)
{
    (void)sample;
    float share = *(const float *)call->in[3].data;
    chunk buffer[2], result;
    const float *average = load(&call->in[0], at, n, buffer[0].at);
    const float *weights = load(&call->in[1], at, n, buffer[1].at);
    float *to = target(&call->out[0], at, n, result.at);
    for (int64_t i = 0; i < n; i += VL)
        vstore(to + i, vf_toward(vload(average + i), vload(weights + i), share));
    store(to, &call->out[0], at, n);
}

void FAST(adam)(sid2_call *call)
{
    if (isfinite(*(const float *)call->in[4].data)) for_chunks(call, 1, count(&call->in[0]), adam_chunk);
}

void FAST(ema)(sid2_call *call)
{
    if (isfinite(*(const float *)call->in[2].data)) for_chunks(call, 1, count(&call->in[0]), ema_chunk);
}
