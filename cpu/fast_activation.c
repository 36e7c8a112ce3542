/* Activation with FiLM, y = act(x) (1 + scale) + shift, and its gradient. Channels-last images run as flat
 * memory with repeated coefficients (see `span` in fast.h). The gradient reads x and dy once: value and slope
 * of the activation come from one exponential, dx and the sums for dfilm from one pass. */
#include "fast.h"

enum { ARRAYS = 4 }; /* of a period each, a thread */

static span span_for(const sid2_call *call)
{
    bool backward = call->op == SID2_OP_activation_grad;
    const sid2_operand *x = &call->in[backward];
    int64_t elements = count(x), samples = batch(x), channels = last(x);
    return span_of(samples, elements / max64(1, samples * channels), channels);
}

/* ---- Without FiLM ---- */
INLINE void plain_chunk(sid2_act act, const float *x, float *y, int64_t n)
{
    for (int64_t i = 0; i < n; i += VL) vstore(y + i, vf_activate(act, vload(x + i)));
}

static void plain(const sid2_call *call, int64_t sample, int64_t at, int64_t n)
{
    (void)sample;
    chunk in, result;
    const float *x = load(&call->in[0], at, n, in.at);
    float *y = target(&call->out[0], at, n, result.at);
    WITH_ACT(call->attr->act, plain_chunk(act, x, y, n));
    store(y, &call->out[0], at, n);
}

INLINE void plain_grad_chunk(sid2_act act, const float *x, const float *dy, float *dx, int64_t n)
{
    for (int64_t i = 0; i < n; i += VL)
        vstore(dx + i, vload(dy + i) * vf_activation_slope(act, vload(x + i)));
}

static void plain_grad(const sid2_call *call, int64_t sample, int64_t at, int64_t n)
{
    (void)sample;
    chunk x_buffer, dy_buffer, result;
    const float *dy = load(&call->in[0], at, n, dy_buffer.at), *x = load(&call->in[1], at, n, x_buffer.at);
    float *dx = target(&call->out[0], at, n, result.at);
    WITH_ACT(call->attr->act, plain_grad_chunk(act, x, dy, dx, n));
    store(dx, &call->out[0], at, n);
}

/* ---- With FiLM ---- */
size_t FAST(activation_scratch)(const sid2_call *call)
{
    span s = span_for(call);
    int64_t partial = round_up(s.samples * s.parts * 2 * s.channels, 16);
    return sizeof(float) * (size_t)(partial + call->threads * ARRAYS * s.period);
}

/* 1 + scale and shift of sample n, a period each. */
static void coefficients(const span *s, const sid2_operand *film, int64_t n, float *u, float *shift)
{
    memset(u, 0, (size_t)s->channels * sizeof(float));
    if (film->data) {
        fetch(film, n * 2 * s->channels, s->channels, u);
        fetch(film, (n * 2 + 1) * s->channels, s->channels, shift);
    }
    for (int64_t c = 0; c < s->channels; c++) u[c] = f32_film_gain(u[c]);
    span_repeat(s, u);
    span_repeat(s, shift);
}

INLINE void forward_chunk(sid2_act act, const float *x, float *y, const float *u, const float *shift,
                          int64_t size, int64_t period)
{
    for (int64_t q = 0; q < size; q += period) {
        int64_t length = min64(period, size - q);
        for (int64_t i = 0; i < length; i += VL)
            vstore(y + q + i, vf_affine(vf_activate(act, vload(x + q + i)), vload(u + i), vload(shift + i)));
    }
}

static void forward_part(const sid2_call *call, const span *s, int64_t n, int64_t part, const float *u,
                         const float *shift)
{
    int64_t row = part * s->part_rows, rows = min64(s->part_rows, s->rows - row);
    int64_t start = (n * s->rows + row) * s->channels, end = start + rows * s->channels, phase = 0;
    chunk in, result;
    for (int64_t at = start, size; at < end; at += size) {
        size = span_piece(s, end - at, phase);
        const float *x = load(&call->in[0], at, size, in.at);
        float *y = target(&call->out[0], at, size, result.at);
        WITH_ACT(call->attr->act, forward_chunk(act, x, y, u + phase, shift + phase, size, s->period));
        store(y, &call->out[0], at, size);
        phase = (phase + size) % s->period;
    }
}

void FAST(activation)(sid2_call *call)
{
    if (!call->in[1].data) {
        for_chunks(call, 1, count(&call->in[0]), plain);
        return;
    }
    span s = span_for(call);
    int threads = team(call, count(&call->in[0]));
#pragma omp parallel num_threads(threads)
    {
        float *u = (float *)call->scratch + thread_index() * ARRAYS * s.period, *shift = u + s.period;
        int64_t ready = -1;
#pragma omp for schedule(static) collapse(2)
        for (int64_t n = 0; n < s.samples; n++)
            for (int64_t part = 0; part < s.parts; part++) {
                if (ready != n) coefficients(&s, &call->in[1], n, u, shift);
                ready = n;
                forward_part(call, &s, n, part, u, shift);
            }
    }
}

INLINE void backward_chunk(sid2_act act, const float *x, const float *dy, float *dx, const float *u,
                           float *sum, float *product, int64_t size, int64_t period)
{
    for (int64_t q = 0; q < size; q += period) {
        int64_t length = min64(period, size - q);
        for (int64_t i = 0; i < length; i += VL) {
            vf d = vload(dy + q + i), v = vload(x + q + i);
            vstore(product + i, vmuladd(d, vf_activate(act, v), vload(product + i)));
            vstore(sum + i, vload(sum + i) + d);
            vstore(dx + q + i, d * vload(u + i) * vf_activation_slope(act, v));
        }
    }
}

static void backward_part(const sid2_call *call, const span *s, int64_t n, int64_t part, const float *u,
                          float *product, float *sum, float *partial)
{
    int64_t row = part * s->part_rows, rows = min64(s->part_rows, s->rows - row);
    int64_t start = (n * s->rows + row) * s->channels, end = start + rows * s->channels, phase = 0;
    memset(product, 0, (size_t)s->period * sizeof(float));
    memset(sum, 0, (size_t)s->period * sizeof(float));
    chunk x_buffer, dy_buffer, result;
    for (int64_t at = start, size; at < end; at += size) {
        size = span_piece(s, end - at, phase);
        const float *dy = load(&call->in[0], at, size, dy_buffer.at);
        const float *x = load(&call->in[1], at, size, x_buffer.at);
        float *dx = target(&call->out[0], at, size, result.at);
        WITH_ACT(call->attr->act,
                 backward_chunk(act, x, dy, dx, u + phase, sum + phase, product + phase, size, s->period));
        store(dx, &call->out[0], at, size);
        phase = (phase + size) % s->period;
    }
    span_fold(s, product);
    span_fold(s, sum);
    memcpy(partial, product, (size_t)s->channels * sizeof(float));
    memcpy(partial + s->channels, sum, (size_t)s->channels * sizeof(float));
}

void FAST(activation_grad)(sid2_call *call)
{
    if (!call->in[2].data && !call->out[1].data) {
        for_chunks(call, 1, count(&call->in[0]), plain_grad);
        return;
    }
    span s = span_for(call);
    int64_t row = 2 * s.channels;
    float *partials = call->scratch, *works = partials + round_up(s.samples * s.parts * row, 16);
    const sid2_operand *film = &call->in[2], *dfilm = &call->out[1];
    int threads = team(call, count(&call->in[0]));
#pragma omp parallel num_threads(threads)
    {
        float *u = works + thread_index() * ARRAYS * s.period, *product = u + s.period,
              *sum = product + s.period, *shift = sum + s.period;
        int64_t ready = -1;
#pragma omp for schedule(static) collapse(2)
        for (int64_t n = 0; n < s.samples; n++)
            for (int64_t part = 0; part < s.parts; part++) {
                if (ready != n) coefficients(&s, film, n, u, shift);
                ready = n;
                backward_part(call, &s, n, part, u, product, sum, partials + (n * s.parts + part) * row);
            }
        if (dfilm->data) {
#pragma omp for schedule(static)
            for (int64_t n = 0; n < s.samples; n++) {
                float *total = partials + n * s.parts * row;
                for (int64_t part = 1; part < s.parts; part++)
                    for (int64_t i = 0; i < row; i++) total[i] += total[part * row + i];
                store(total, dfilm, n * row, row);
            }
        }
    }
}
