/* Sums over whole buffers and the optimizer.
 *
 * Sums are taken per block of fixed size, blocks in parallel, then over the blocks in order: the result does
 * not depend on the number of threads. global_norm squares in double, so that a diverging run shows as large
 * and not as infinite. adam is one pass: five streams in, five out, nothing read twice. */
#include "fast.h"

enum { BLOCK = 16384 }; /* elements a partial sum */

static int64_t blocks_of(int64_t elements) { return divide_up(max64(1, elements), BLOCK); }

size_t FAST(sum_scratch)(const sid2_cpu_call *call)
{
    const sid2_cpu_tensor *x = &call->in[0];
    int64_t samples = call->op == SID2_OP_diffusion_loss ? first(x) : 1;
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

void FAST(global_norm)(sid2_cpu_call *call)
{
    const float *grads = call->in[0].data;
    int64_t n = count(&call->in[0]), blocks = blocks_of(n);
    double *partial = call->scratch;
    int threads = team(call, n);
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t b = 0; b < blocks; b++)
        partial[b] = square_sum(grads + b * BLOCK, min64(BLOCK, n - b * BLOCK));
    *(float *)call->out[0].data = (float)sqrt(ordered_sum(partial, blocks));
}

/* ---- Loss ---- */
static double loss_block(const sid2_cpu_call *call, int64_t sample, int64_t start, int64_t size)
{
    const sid2_cpu_tensor *in = call->in;
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
            sum += d * d;
        }
        total += (double)vsum(sum);
    }
    return total;
}

void FAST(diffusion_loss)(sid2_cpu_call *call)
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
static void adam_chunk(const sid2_cpu_call *call, int64_t sample, int64_t at, int64_t n)
{
    (void)sample;
    enum { WEIGHTS, GRADS, M, V, EMA, STREAMS };
    const float *hyper = call->in[6].data;
    float lr = hyper[0], beta1 = hyper[1], beta2 = hyper[2], eps = hyper[3], clip = hyper[6], ema = hyper[7];
    float factor = f32_clip_factor(clip, *(const float *)call->in[5].data);
    float step = lr / hyper[4], spread = 1.0f / hyper[5];
    chunk in_buffer[STREAMS], out_buffer[STREAMS];
    const float *from[STREAMS];
    float *to[STREAMS];
    for (int k = 0; k < STREAMS; k++) {
        from[k] = load(&call->in[k], at, n, in_buffer[k].at);
        to[k] = target(&call->out[k], at, n, out_buffer[k].at);
    }
    for (int64_t i = 0; i < n; i += VL) {
        vf g = vload(from[GRADS] + i) * factor, m = vload(from[M] + i), v = vload(from[V] + i);
        vf w = vload(from[WEIGHTS] + i), average = vload(from[EMA] + i);
        m = vf_toward(m, g, 1.0f - beta1);
        v = vf_toward(v, g * g, 1.0f - beta2);
        w = vf_adam(w, m, v, step, spread, eps);
        average = vf_toward(average, w, ema);
        vstore(to[WEIGHTS] + i, w);
        vstore(to[GRADS] + i, vset(0.0f));
        vstore(to[M] + i, m);
        vstore(to[V] + i, v);
        vstore(to[EMA] + i, average);
    }
    for (int k = 0; k < STREAMS; k++) store(to[k], &call->out[k], at, n);
}

void FAST(adam)(sid2_cpu_call *call) { for_chunks(call, 1, count(&call->in[0]), adam_chunk); }
