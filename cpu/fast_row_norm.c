/* Layer norm and RMS norm with FiLM and activation, forward and backward.
 *
 * A row stays in the first-level cache, so it is read from memory once and walked as often as is convenient:
 * mean, spread, result. The work is split into parts of whole rows of one sample; FiLM and the norm's scale
 * and bias are folded once a part. Backward, each part keeps per-channel sums of dz and dz xhat (dz = dy
 * act'(z)); all parameter gradients follow from these, added up over the parts in order. */
#include "fast.h"

enum { ARRAYS = 8 }; /* of a padded row each, a thread */

typedef struct row_norm {
    const sid2_operand *x, *dy, *stats, *gamma, *beta, *film, *residual, *out;
    int64_t samples, rows, channels, width; /* rows a sample; width: channels in whole vectors */
    int64_t part_rows, parts;               /* parts a sample */
    bool center;
    sid2_act act;
    float eps;
    float *partial; /* backward: [samples][parts][2][width]: sums of dz and dz xhat */
} row_norm;

static row_norm describe(const sid2_call *call)
{
    bool backward = call->op == SID2_OP_row_norm_grad;
    const sid2_operand *in = call->in;
    row_norm r = {.center = call->attr->center != 0,
                  .act = call->attr->act,
                  .eps = call->attr->eps,
                  .out = &call->out[0],
                  .partial = call->scratch};
    if (backward) {
        r.dy = &in[0], r.x = &in[1], r.stats = &in[2], r.gamma = &in[3], r.beta = &in[4], r.film = &in[5];
        r.residual = &in[6];
    } else {
        r.x = &in[0], r.gamma = &in[1], r.beta = &in[2], r.film = &in[3], r.stats = &call->out[1];
    }
    r.channels = last(r.x);
    r.width = round_up(r.channels, VL);
    r.samples = r.film->data || (backward && call->out[3].data) ? batch(r.x) : 1;
    r.rows = count(r.x) / max64(1, r.samples * r.channels);
    r.part_rows = max64(32, 8192 / max64(1, r.channels));
    r.parts = divide_up(r.rows, r.part_rows);
    return r;
}

static int64_t partial_floats(const row_norm *r)
{
    return round_up(r->samples * r->parts * 2 * r->width, 16);
}

size_t FAST(row_norm_scratch)(const sid2_call *call)
{
    row_norm r = describe(call);
    int64_t partial = call->op == SID2_OP_row_norm_grad ? partial_floats(&r) : 0;
    return sizeof(float) * (size_t)(partial + call->threads * ARRAYS * r.width);
}

/* z = xhat g + h for sample n: g = gamma (1 + scale), h = beta (1 + scale) + shift; zero in the padding. */
static void coefficients(const row_norm *r, int64_t n, float *g, float *h)
{
    const float *gamma = r->gamma->data, *beta = r->beta->data;
    memset(g, 0, (size_t)r->width * sizeof(float));
    memset(h, 0, (size_t)r->width * sizeof(float));
    if (r->film->data) {
        fetch(r->film, n * 2 * r->channels, r->channels, g);
        fetch(r->film, (n * 2 + 1) * r->channels, r->channels, h);
    }
    for (int64_t c = 0; c < r->channels; c++) {
        float u = f32_film_gain(g[c]);
        g[c] = gamma[c] * u;
        if (beta) h[c] = f32_affine(beta[c], u, h[c]);
    }
}

/* ---- Forward ---- */
INLINE void normalise(sid2_act act, const float *x, float *y, const float *g, const float *h, float mean,
                      float rstd, int64_t width)
{
    for (int64_t i = 0; i < width; i += VL)
        vstore(y + i, vf_activate(act, vf_affine(vf_normalised(vload(x + i), vset(mean), vset(rstd)),
                                                 vload(g + i), vload(h + i))));
}

static void forward_row(const row_norm *r, int64_t row, float *buffer, float *result, const float *g,
                        const float *h)
{
    int64_t channels = r->channels, whole = channels / VL * VL, width = r->width;
    const float *x = load(r->x, row * channels, channels, buffer);
    float mean = 0.0f, inverse = 1.0f / (float)channels;
    if (r->center) {
        vf sum = {0};
        for (int64_t i = 0; i < width; i += VL) sum += vload(x + i);
        mean = vsum(sum) * inverse;
    }
    vf square = {0};
    for (int64_t i = 0; i < whole; i += VL) {
        vf d = vload(x + i) - mean;
        square = vmuladd(d, d, square);
    }
    if (whole < width) {
        vf d = vkeep(vload(x + whole) - mean, channels - whole);
        square = vmuladd(d, d, square);
    }
    float rstd = 1.0f / sqrtf(vsum(square) * inverse + r->eps);
    float *y = target(r->out, row * channels, channels, result);
    WITH_ACT(r->act, normalise(act, x, y, g, h, mean, rstd, width));
    store(y, r->out, row * channels, channels);
    float *stats = (float *)r->stats->data + row * 2;
    stats[0] = mean;
    stats[1] = rstd;
}

void FAST(row_norm)(sid2_call *call)
{
    row_norm r = describe(call);
    int threads = team(call, count(r.x));
#pragma omp parallel num_threads(threads)
    {
        float *work = (float *)call->scratch + thread_index() * ARRAYS * r.width;
        float *g = work, *h = g + r.width, *buffer = h + r.width, *result = buffer + r.width;
#pragma omp for schedule(static) collapse(2)
        for (int64_t n = 0; n < r.samples; n++)
            for (int64_t part = 0; part < r.parts; part++) {
                coefficients(&r, n, g, h);
                int64_t row = part * r.part_rows, end = min64(r.rows, row + r.part_rows);
                for (; row < end; row++) forward_row(&r, n * r.rows + row, buffer, result, g, h);
            }
    }
}

/* ---- Backward ---- */
/* Leaves xhat and t = dz g in their buffers, adds to the column sums; returns the sums of t and t xhat. */
typedef struct pair {
    float t, t_xhat;
} pair;

INLINE pair grad_sums(sid2_act act, const float *x, const float *dy, const float *g, const float *h,
                      float mean, float rstd, float *xhat, float *t, float *sum, float *product,
                      int64_t width)
{
    vf total = {0}, total_xhat = {0};
    for (int64_t i = 0; i < width; i += VL) {
        vf v = vf_normalised(vload(x + i), vset(mean), vset(rstd));
        vf dz = vload(dy + i) * vf_activation_slope(act, vf_affine(v, vload(g + i), vload(h + i)));
        vf dv = dz * vload(g + i);
        vstore(sum + i, vload(sum + i) + dz);
        vstore(product + i, vmuladd(dz, v, vload(product + i)));
        vstore(xhat + i, v);
        vstore(t + i, dv);
        total += dv;
        total_xhat = vmuladd(dv, v, total_xhat);
    }
    return (pair){vsum(total), vsum(total_xhat)};
}

static void backward_row(const row_norm *r, int64_t row, float *const buffer[4], const float *g,
                         const float *h, float *sum, float *product)
{
    int64_t channels = r->channels, width = r->width, at = row * channels;
    const float *stats = (const float *)r->stats->data + row * 2;
    const float *x = load(r->x, at, channels, buffer[0]), *dy = load(r->dy, at, channels, buffer[1]);
    float *xhat = buffer[2], *t = buffer[3], inverse = 1.0f / (float)channels;
    pair m = {0};
    WITH_ACT(r->act, m = grad_sums(act, x, dy, g, h, stats[0], stats[1], xhat, t, sum, product, width));
    float m1 = r->center ? m.t * inverse : 0.0f, m2 = m.t_xhat * inverse, rstd = stats[1];
    float *dx = target(r->out, at, channels, buffer[1]);
    if (r->residual->data) {
        const float *residual = load(r->residual, at, channels, buffer[0]);
        for (int64_t i = 0; i < width; i += VL)
            vstore(dx + i,
                   vf_normalised_slope(vload(t + i), vload(xhat + i), vset(rstd), vset(m1), vset(m2)) +
                       vload(residual + i));
    } else {
        for (int64_t i = 0; i < width; i += VL)
            vstore(dx + i,
                   vf_normalised_slope(vload(t + i), vload(xhat + i), vset(rstd), vset(m1), vset(m2)));
    }
    store(dx, r->out, at, channels);
}

/* The gradients of gamma and beta (added) and FiLM, from the parts' sums. work: 6 rows. */
static void parameter_grad(const row_norm *r, float *dgamma, float *dbeta, const sid2_operand *dfilm,
                           float *work)
{
    int64_t channels = r->channels, width = r->width;
    const float *gamma = r->gamma->data, *beta = r->beta->data;
    float *film = work, *result = work + 2 * width, *sum = work + 4 * width, *product = sum + width;
    for (int64_t n = 0; n < r->samples; n++) {
        const float *from = r->partial + n * r->parts * 2 * width;
        memcpy(sum, from, (size_t)width * 2 * sizeof(float));
        for (int64_t part = 1; part < r->parts; part++)
            for (int64_t i = 0; i < 2 * width; i++) sum[i] += from[part * 2 * width + i];
        if (r->film->data) fetch(r->film, n * 2 * channels, 2 * channels, film);
        for (int64_t c = 0; c < channels; c++) {
            float u = r->film->data ? f32_film_gain(film[c]) : 1.0f;
            if (dgamma) dgamma[c] += u * product[c];
            if (dbeta) dbeta[c] += u * sum[c];
            result[c] = gamma[c] * product[c] + (beta ? beta[c] * sum[c] : 0.0f);
            result[channels + c] = sum[c];
        }
        if (dfilm->data) store(result, dfilm, n * 2 * channels, 2 * channels);
    }
}

void FAST(row_norm_grad)(sid2_call *call)
{
    row_norm r = describe(call);
    float *works = r.partial + partial_floats(&r);
    int threads = team(call, count(r.x));
#pragma omp parallel num_threads(threads)
    {
        float *work = works + thread_index() * ARRAYS * r.width;
        float *g = work, *h = g + r.width, *buffer[4];
        for (int i = 0; i < 4; i++) buffer[i] = work + (2 + i) * r.width;
#pragma omp for schedule(static) collapse(2)
        for (int64_t n = 0; n < r.samples; n++)
            for (int64_t part = 0; part < r.parts; part++) {
                float *sum = r.partial + (n * r.parts + part) * 2 * r.width, *product = sum + r.width;
                memset(sum, 0, (size_t)r.width * 2 * sizeof(float));
                coefficients(&r, n, g, h);
                int64_t row = part * r.part_rows, end = min64(r.rows, row + r.part_rows);
                for (; row < end; row++) backward_row(&r, n * r.rows + row, buffer, g, h, sum, product);
            }
    }
    parameter_grad(&r, call->out[1].data, call->out[2].data, &call->out[3], works);
}
