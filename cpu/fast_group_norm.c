/* Group norm with FiLM and activation, forward and backward.
 *
 * With one to four channels a group, anything that loops over groups is slow. So everything here loops over
 * flat memory with one coefficient a channel (see `span` in fast.h), and groups only appear where the
 * per-channel sums are combined, in double.
 *
 * Forward: one pass takes per-channel mean and spread (about the first row's value, so that a large mean does
 * not cancel), one pass applies y = act(a x + b). Backward, with z = a x + b and dz = dy act'(z): one pass
 * takes per-channel sums of dz and dz xhat, from which all parameter gradients follow; one pass applies
 * dx = p dz + q x + r + residual. Between the two dz waits in dx if that is f32 and free, or in scratch if a sample
 * is small; else it is computed twice: for large tensors exp is cheaper than memory.
 *
 * Where there are samples enough for all threads, each takes a whole sample through both passes, so that the
 * second finds it in cache. The parts and the order of the sums are the same either way. */
#include "fast.h"

enum { FORWARD_ARRAYS = 4, BACKWARD_ARRAYS = 7 }; /* of a period each, a thread */
enum { MOST_KEPT = 1 << 16 };                     /* elements of a sample whose dz is kept in scratch */

typedef struct group_norm {
    const sid2_operand *x, *dy, *stats, *gamma, *beta, *film, *residual, *out;
    span span;
    int64_t groups;
    sid2_act act;
    float *partial; /* [samples][parts][2][C] */
    float *sums;    /* backward: [samples][2][C]: sums of dz and dz xhat */
} group_norm;

static span span_for(const sid2_call *call)
{
    const sid2_operand *x = &call->in[call->op == SID2_OP_group_norm ? 0 : 1];
    int64_t samples = batch(x), channels = last(x);
    return span_of(samples, count(x) / max64(1, samples * channels), channels);
}

static size_t partial_floats(const span *s)
{
    return (size_t)round_up(s->samples * (s->parts + 1) * 2 * s->channels, 16);
}

/* Of dz in scratch, a thread. Chunks must be whole vectors, so that none reaches into the next. */
static int64_t kept_floats(const sid2_call *call, const span *s)
{
    bool wanted =
        call->out[0].dtype != SID2_F32 && s->channels % VL == 0 && s->rows * s->channels <= MOST_KEPT;
    return wanted ? s->rows * s->channels : 0;
}

size_t FAST(group_norm_scratch)(const sid2_call *call)
{
    span s = span_for(call);
    bool backward = call->op == SID2_OP_group_norm_grad;
    int64_t floats =
        (backward ? BACKWARD_ARRAYS : FORWARD_ARRAYS) * s.period + (backward ? kept_floats(call, &s) : 0);
    return sizeof(float) * (partial_floats(&s) + (size_t)(call->threads * floats));
}

/* gamma (1 + scale) of channel c; film is NULL or this sample's. */
static float slope_of(const float *gamma, const float *film, int64_t c)
{
    return film ? gamma[c] * f32_film_gain(film[c]) : gamma[c];
}

/* This sample's FiLM row as f32 in `buffer` (2C floats), or NULL. */
static const float *film_row(const group_norm *g, int64_t n, float *buffer)
{
    if (!g->film->data) return NULL;
    fetch(g->film, n * 2 * g->span.channels, 2 * g->span.channels, buffer);
    return buffer;
}

/* z = a x + b, the norm and FiLM folded together; both a whole period. */
static void coefficients(const group_norm *g, int64_t n, float *a, float *b, float *film_buffer)
{
    int64_t channels = g->span.channels, width = channels / g->groups;
    const float *gamma = g->gamma->data, *beta = g->beta->data;
    const float *stats = (const float *)g->stats->data + n * g->groups * 2;
    const float *film = film_row(g, n, film_buffer);
    for (int64_t group = 0; group < g->groups; group++) {
        float mean = stats[group * 2], rstd = stats[group * 2 + 1];
        for (int64_t c = group * width; c < (group + 1) * width; c++) {
            float offset = film ? f32_affine(beta[c], f32_film_gain(film[c]), film[channels + c]) : beta[c];
            a[c] = rstd * slope_of(gamma, film, c);
            b[c] = offset - mean * a[c];
        }
    }
    span_repeat(&g->span, a);
    span_repeat(&g->span, b);
}

/* ---- Forward ---- */
/* Per-channel mean and sum of squared deviations of one part. */
static void measure(const group_norm *g, int64_t n, int64_t part, float *work)
{
    const span *s = &g->span;
    int64_t row = part * s->part_rows, rows = min64(s->part_rows, s->rows - row);
    int64_t start = (n * s->rows + row) * s->channels, end = start + rows * s->channels, phase = 0;
    float *origin = work, *sum = work + s->period, *square = sum + s->period;
    fetch(g->x, start, s->channels, origin);
    span_repeat(s, origin);
    memset(sum, 0, (size_t)s->period * 2 * sizeof(float));
    chunk buffer;
    for (int64_t at = start, size; at < end; at += size) {
        size = span_piece(s, end - at, phase);
        const float *x = load(g->x, at, size, buffer.at);
        for (int64_t i = size; i % VL; i++)
            buffer.at[i] = origin[(phase + i) % s->period]; /* padding: d = 0 */
        for (int64_t i = 0; i < min64(size, s->period); i += VL) {
            vf from = vload(origin + phase + i), total = vload(sum + phase + i),
               squares = vload(square + phase + i);
            for (int64_t q = i; q < size; q += s->period) {
                vf d = vload(x + q) - from;
                total += d;
                squares = vmuladd(d, d, squares);
            }
            vstore(sum + phase + i, total);
            vstore(square + phase + i, squares);
        }
        phase = (phase + size) % s->period;
    }
    float *mean = g->partial + (n * s->parts + part) * 2 * s->channels, *spread = mean + s->channels;
    float inverse = 1.0f / (float)rows;
    span_fold(s, sum);
    span_fold(s, square);
    for (int64_t c = 0; c < s->channels; c++) {
        mean[c] = origin[c] + sum[c] * inverse;
        spread[c] = square[c] - sum[c] * sum[c] * inverse;
    }
}

/* Mean and rstd of one group of one sample, from its parts and channels (Chan's formula). */
static void combine(const group_norm *g, float eps, int64_t n, int64_t group)
{
    const span *s = &g->span;
    int64_t width = s->channels / g->groups, c0 = group * width;
    double total = 0, spread = 0;
    for (int64_t p = 0; p < s->parts; p++) {
        double rows = (double)min64(s->part_rows, s->rows - p * s->part_rows);
        const float *mean = g->partial + (n * s->parts + p) * 2 * s->channels;
        for (int64_t c = c0; c < c0 + width; c++) total += rows * (double)mean[c];
    }
    double elements = (double)(s->rows * width), center = total / elements;
    for (int64_t p = 0; p < s->parts; p++) {
        double rows = (double)min64(s->part_rows, s->rows - p * s->part_rows);
        const float *mean = g->partial + (n * s->parts + p) * 2 * s->channels;
        for (int64_t c = c0; c < c0 + width; c++) {
            double d = (double)mean[c] - center;
            spread += (double)mean[s->channels + c] + rows * d * d;
        }
    }
    float *stats = (float *)g->stats->data + (n * g->groups + group) * 2;
    stats[0] = (float)center;
    stats[1] = (float)(1.0 / sqrt(spread / elements + (double)eps));
}

INLINE void apply_chunk(sid2_act act, const float *x, float *y, const float *a, const float *b, int64_t size,
                        int64_t period)
{
    for (int64_t q = 0; q < size; q += period) {
        int64_t length = min64(period, size - q);
        for (int64_t i = 0; i < length; i += VL)
            vstore(y + q + i, vf_activate(act, vf_affine(vload(x + q + i), vload(a + i), vload(b + i))));
    }
}

static void apply(const group_norm *g, int64_t n, int64_t part, const float *a, const float *b)
{
    const span *s = &g->span;
    int64_t row = part * s->part_rows, rows = min64(s->part_rows, s->rows - row);
    int64_t start = (n * s->rows + row) * s->channels, end = start + rows * s->channels, phase = 0;
    chunk in, result;
    for (int64_t at = start, size; at < end; at += size) {
        size = span_piece(s, end - at, phase);
        const float *x = load(g->x, at, size, in.at);
        float *y = target(g->out, at, size, result.at);
        WITH_ACT(g->act, apply_chunk(act, x, y, a + phase, b + phase, size, s->period));
        store(y, g->out, at, size);
        phase = (phase + size) % s->period;
    }
}

void FAST(group_norm)(sid2_call *call)
{
    group_norm g = {.x = &call->in[0],
                    .gamma = &call->in[1],
                    .beta = &call->in[2],
                    .film = &call->in[3],
                    .out = &call->out[0],
                    .stats = &call->out[1],
                    .span = span_for(call),
                    .groups = call->attr->groups,
                    .act = call->attr->act,
                    .partial = call->scratch};
    const span *s = &g.span;
    float *works = g.partial + partial_floats(s), eps = call->attr->eps;
    int threads = team(call, count(g.x));
    bool whole = s->samples % threads == 0 || s->samples >= 4 * threads;
#pragma omp parallel num_threads(threads)
    {
        float *work = works + thread_index() * FORWARD_ARRAYS * s->period;
        float *a = work, *b = work + s->period, *film = b + s->period;
        if (whole) {
#pragma omp for schedule(static)
            for (int64_t n = 0; n < s->samples; n++) {
                for (int64_t p = 0; p < s->parts; p++) measure(&g, n, p, work);
                for (int64_t i = 0; i < g.groups; i++) combine(&g, eps, n, i);
                coefficients(&g, n, a, b, film);
                for (int64_t p = 0; p < s->parts; p++) apply(&g, n, p, a, b);
            }
        } else {
#pragma omp for schedule(static) collapse(2)
            for (int64_t n = 0; n < s->samples; n++)
                for (int64_t p = 0; p < s->parts; p++) measure(&g, n, p, work);
#pragma omp for schedule(static) collapse(2)
            for (int64_t n = 0; n < s->samples; n++)
                for (int64_t i = 0; i < g.groups; i++) combine(&g, eps, n, i);
            int64_t ready = -1;
#pragma omp for schedule(static) collapse(2)
            for (int64_t n = 0; n < s->samples; n++)
                for (int64_t p = 0; p < s->parts; p++) {
                    if (ready != n) coefficients(&g, n, a, b, film);
                    ready = n;
                    apply(&g, n, p, a, b);
                }
        }
    }
}

/* ---- Backward ---- */
/* kept: where to leave dz, or NULL. */
INLINE void sums_chunk(sid2_act act, const float *x, const float *dy, const float *a, const float *b,
                       const float *rstd, const float *center, float *sum, float *product, float *kept,
                       int64_t size, int64_t period)
{
    for (int64_t i = 0; i < min64(size, period); i += VL) {
        vf slope = vload(a + i), offset = vload(b + i), r = vload(rstd + i), c = vload(center + i);
        vf total = vload(sum + i), total_xhat = vload(product + i);
        for (int64_t q = i; q < size; q += period) {
            vf v = vload(x + q), dz = vload(dy + q) * vf_activation_slope(act, vf_affine(v, slope, offset));
            total += dz;
            total_xhat = vmuladd(dz, vmuladd(v, r, -c), total_xhat);
            if (kept) vstore(kept + q, dz);
        }
        vstore(sum + i, total);
        vstore(product + i, total_xhat);
    }
}

/* Per-channel sums of dz and dz xhat over one part. work: a, b (given), rstd, center, sum, product. kept: for the
 * sample's dz, or NULL. */
static void sum_part(const group_norm *g, int64_t n, int64_t part, float *work, float *kept)
{
    const span *s = &g->span;
    int64_t row = part * s->part_rows, rows = min64(s->part_rows, s->rows - row);
    int64_t start = (n * s->rows + row) * s->channels, end = start + rows * s->channels, phase = 0;
    int64_t first = n * s->rows * s->channels;
    const float *a = work, *b = a + s->period;
    float *rstd = work + 2 * s->period, *center = rstd + s->period, *sum = center + s->period,
          *product = sum + s->period;
    int64_t width = s->channels / g->groups;
    const float *stats = (const float *)g->stats->data + n * g->groups * 2;
    for (int64_t group = 0; group < g->groups; group++)
        for (int64_t c = group * width; c < (group + 1) * width; c++) {
            rstd[c] = stats[group * 2 + 1];
            center[c] = stats[group * 2] * rstd[c];
        }
    span_repeat(s, rstd);
    span_repeat(s, center);
    memset(sum, 0, (size_t)s->period * 2 * sizeof(float));
    chunk x_buffer, dy_buffer;
    for (int64_t at = start, size; at < end; at += size) {
        size = span_piece(s, end - at, phase);
        const float *x = load(g->x, at, size, x_buffer.at), *dy = load(g->dy, at, size, dy_buffer.at);
        WITH_ACT(g->act,
                 sums_chunk(act, x, dy, a + phase, b + phase, rstd + phase, center + phase, sum + phase,
                            product + phase, kept ? kept + (at - first) : NULL, size, s->period));
        phase = (phase + size) % s->period;
    }
    float *to = g->partial + (n * s->parts + part) * 2 * s->channels;
    span_fold(s, sum);
    span_fold(s, product);
    memcpy(to, sum, (size_t)s->channels * sizeof(float));
    memcpy(to + s->channels, product, (size_t)s->channels * sizeof(float));
}

/* The sample's sums, over its parts in order; index runs over both kinds and all channels. */
static void sum_sample(const group_norm *g, int64_t n, int64_t i)
{
    double sum = 0;
    for (int64_t p = 0; p < g->span.parts; p++)
        sum += (double)g->partial[(n * g->span.parts + p) * 2 * g->span.channels + i];
    g->sums[n * 2 * g->span.channels + i] = (float)sum;
}

/* normalised_slope of core/formulas.h, solved for x once a channel: dx = p dz + q x + r. */
static void grad_coefficients(const group_norm *g, int64_t n, float *p, float *q, float *r,
                              float *film_buffer)
{
    const span *s = &g->span;
    int64_t width = s->channels / g->groups;
    double elements = (double)(s->rows * width);
    const float *gamma = g->gamma->data, *film = film_row(g, n, film_buffer);
    const float *sum = g->sums + n * 2 * s->channels, *product = sum + s->channels;
    for (int64_t group = 0; group < g->groups; group++) {
        const float *stats = (const float *)g->stats->data + (n * g->groups + group) * 2;
        double mean = (double)stats[0], rstd = (double)stats[1], m1 = 0, m2 = 0;
        for (int64_t c = group * width; c < (group + 1) * width; c++) {
            double slope = (double)slope_of(gamma, film, c);
            m1 += slope * (double)sum[c];
            m2 += slope * (double)product[c];
        }
        m1 /= elements;
        m2 /= elements;
        for (int64_t c = group * width; c < (group + 1) * width; c++) {
            p[c] = (float)rstd * slope_of(gamma, film, c);
            q[c] = (float)(-rstd * rstd * m2);
            r[c] = (float)(rstd * (mean * rstd * m2 - m1));
        }
    }
    span_repeat(s, p);
    span_repeat(s, q);
    span_repeat(s, r);
}

INLINE void grad_chunk(sid2_act act, bool add, const float *x, const float *dy, const float *residual,
                       float *dx, const float *const c[5], int64_t phase, int64_t size, int64_t period)
{
    const float *a = c[0] + phase, *b = c[1] + phase, *p = c[2] + phase, *q = c[3] + phase, *r = c[4] + phase;
    for (int64_t k = 0; k < size; k += period) {
        int64_t length = min64(period, size - k);
        for (int64_t i = 0; i < length; i += VL) {
            vf v = vload(x + k + i);
            vf dz = vload(dy + k + i) * vf_activation_slope(act, vf_affine(v, vload(a + i), vload(b + i)));
            vf result = vmuladd(vload(p + i), dz, vmuladd(vload(q + i), v, vload(r + i)));
            if (add) result += vload(residual + k + i);
            vstore(dx + k + i, result);
        }
    }
}

static void apply_grad(const group_norm *g, int64_t n, int64_t part, const float *work, const float *kept)
{
    const span *s = &g->span;
    int64_t row = part * s->part_rows, rows = min64(s->part_rows, s->rows - row);
    int64_t start = (n * s->rows + row) * s->channels, end = start + rows * s->channels, phase = 0;
    int64_t first = n * s->rows * s->channels;
    sid2_act slope = kept ? SID2_ACT_NONE : g->act; /* dz has it already */
    const float *c[5];
    for (int i = 0; i < 5; i++) c[i] = work + i * s->period;
    chunk x_buffer, dy_buffer, residual_buffer, result;
    for (int64_t at = start, size; at < end; at += size) {
        size = span_piece(s, end - at, phase);
        const float *x = load(g->x, at, size, x_buffer.at);
        const float *dy = kept ? kept + (at - first) : load(g->dy, at, size, dy_buffer.at);
        float *dx = target(g->out, at, size, result.at);
        if (g->residual->data) {
            const float *residual = load(g->residual, at, size, residual_buffer.at);
            WITH_ACT(slope, grad_chunk(act, true, x, dy, residual, dx, c, phase, size, s->period));
        } else {
            WITH_ACT(slope, grad_chunk(act, false, x, dy, NULL, dx, c, phase, size, s->period));
        }
        store(dx, g->out, at, size);
        phase = (phase + size) % s->period;
    }
}

/* dfilm of one sample: dscale = sum of dz (gamma xhat + beta), dshift = sum of dz. */
static void film_grad(const group_norm *g, const sid2_operand *dfilm, int64_t n, float *buffer)
{
    int64_t channels = g->span.channels;
    const float *gamma = g->gamma->data, *beta = g->beta->data;
    const float *sum = g->sums + n * 2 * channels, *product = sum + channels;
    for (int64_t c = 0; c < channels; c++) {
        buffer[c] = gamma[c] * product[c] + beta[c] * sum[c];
        buffer[channels + c] = sum[c];
    }
    store(buffer, dfilm, n * 2 * channels, 2 * channels);
}

/* Adds the gradients of gamma and beta, where wanted, samples in order. */
static void parameter_grad(const group_norm *g, float *dgamma, float *dbeta, float *film_buffer)
{
    int64_t channels = g->span.channels;
    for (int64_t n = 0; n < g->span.samples; n++) {
        const float *film = film_row(g, n, film_buffer);
        const float *sum = g->sums + n * 2 * channels, *product = sum + channels;
        for (int64_t c = 0; c < channels; c++) {
            float u = film ? f32_film_gain(film[c]) : 1.0f;
            if (dgamma) dgamma[c] += u * product[c];
            if (dbeta) dbeta[c] += u * sum[c];
        }
    }
}

/* This sample of dx. */
static float *dx_of(const group_norm *g, int64_t n)
{
    return (float *)g->out->data + n * g->span.rows * g->span.channels;
}

void FAST(group_norm_grad)(sid2_call *call)
{
    group_norm g = {.dy = &call->in[0],
                    .x = &call->in[1],
                    .stats = &call->in[2],
                    .gamma = &call->in[3],
                    .beta = &call->in[4],
                    .film = &call->in[5],
                    .residual = &call->in[6],
                    .out = &call->out[0],
                    .span = span_for(call),
                    .groups = call->attr->groups,
                    .act = call->attr->act,
                    .partial = call->scratch};
    const span *s = &g.span;
    const sid2_operand *dfilm = &call->out[3];
    int64_t scratch = kept_floats(call, s);
    bool in_place = g.out->dtype == SID2_F32 && g.residual->data != g.out->data && s->channels % VL == 0;
    g.sums = g.partial + s->samples * s->parts * 2 * s->channels;
    float *works = g.partial + partial_floats(s);
    int threads = team(call, count(g.x));
    bool whole = s->samples % threads == 0 || s->samples >= 4 * threads;
#pragma omp parallel num_threads(threads)
    {
        float *work = works + thread_index() * (BACKWARD_ARRAYS * s->period + scratch);
        float *a = work, *b = a + s->period, *p = b + s->period, *q = p + s->period, *r = q + s->period;
        float *own = whole && scratch ? work + BACKWARD_ARRAYS * s->period : NULL;
        float *film = r + s->period; /* two arrays; sum_part keeps its product in the first, between uses */
        if (whole) {
#pragma omp for schedule(static)
            for (int64_t n = 0; n < s->samples; n++) {
                coefficients(&g, n, a, b, film);
                float *kept = in_place ? dx_of(&g, n) : own;
                for (int64_t i = 0; i < s->parts; i++) sum_part(&g, n, i, work, kept);
                for (int64_t i = 0; i < 2 * s->channels; i++) sum_sample(&g, n, i);
                grad_coefficients(&g, n, p, q, r, film);
                for (int64_t i = 0; i < s->parts; i++) apply_grad(&g, n, i, work, kept);
                if (dfilm->data) film_grad(&g, dfilm, n, film);
            }
        } else {
            int64_t ready = -1;
#pragma omp for schedule(static) collapse(2)
            for (int64_t n = 0; n < s->samples; n++)
                for (int64_t i = 0; i < s->parts; i++) {
                    if (ready != n) coefficients(&g, n, a, b, film);
                    ready = n;
                    sum_part(&g, n, i, work, in_place ? dx_of(&g, n) : NULL);
                }
#pragma omp for schedule(static) collapse(2)
            for (int64_t n = 0; n < s->samples; n++)
                for (int64_t i = 0; i < 2 * s->channels; i++) sum_sample(&g, n, i);
            ready = -1;
#pragma omp for schedule(static) collapse(2)
            for (int64_t n = 0; n < s->samples; n++)
                for (int64_t i = 0; i < s->parts; i++) {
                    if (ready != n) {
                        coefficients(&g, n, a, b, film);
                        grad_coefficients(&g, n, p, q, r, film);
                    }
                    ready = n;
                    apply_grad(&g, n, i, work, in_place ? dx_of(&g, n) : NULL);
                }
            if (dfilm->data) {
#pragma omp for schedule(static)
                for (int64_t n = 0; n < s->samples; n++) film_grad(&g, dfilm, n, film);
            }
        }
    }
    parameter_grad(&g, call->out[1].data, call->out[2].data, works);
}
