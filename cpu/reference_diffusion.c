/* Conditioning, the diffusion process, the optimizer. */
#include "reference.h"

static int64_t table_row(double index, int64_t rows)
{
    return index >= 0 && index < (double)rows ? (int64_t)index : rows - 1;
}

void sid2_reference_embedding(const sid2_reference *r)
{
    int64_t rows = r->in_shape[0].dim[0], width = r->in_shape[0].dim[1];
    for (int64_t n = 0; n < r->in_shape[1].dim[0]; n++)
        for (int64_t e = 0; e < width; e++)
            r->out[0][n * width + e] = r->in[0][table_row(r->in[1][n], rows) * width + e];
}

void sid2_reference_embedding_grad(const sid2_reference *r)
{
    int64_t rows = r->out_shape[0].dim[0], width = r->out_shape[0].dim[1];
    for (int64_t n = 0; n < r->in_shape[1].dim[0]; n++)
        for (int64_t e = 0; e < width; e++)
            r->out[0][table_row(r->in[1][n], rows) * width + e] += r->in[0][n * width + e];
}

void sid2_reference_sinusoid(const sid2_reference *r)
{
    int64_t width = r->out_shape[0].dim[1], half = width / 2;
    for (int64_t n = 0; n < r->in_shape[0].dim[0]; n++)
        for (int64_t k = 0; k < half; k++) {
            double angle = r->in[0][n] * pow((double)r->attr->period, -(double)k / (double)half);
            r->out[0][n * width + k] = cos(angle);
            r->out[0][n * width + half + k] = sin(angle);
        }
}

void sid2_reference_diffuse(const sid2_reference *r)
{
    int64_t samples = r->in_shape[0].dim[0], each = sid2_shape_count(r->in_shape[0]) / samples;
    for (int64_t i = 0; i < samples * each; i++)
        r->out[0][i] = f64_diffuse(r->in[0][i], r->in[1][i], r->in[2][i / each], r->in[3][i / each]);
}

/* xhat - x of element i of sample n; `v` is the index of the first of v, z, x, alpha, sigma. */
static double error_of(const sid2_reference *r, int v, int64_t n, int64_t i)
{
    return f64_x_error(r->in[v][i], r->in[v + 1][i], r->in[v + 2][i], r->in[v + 3][n], r->in[v + 4][n]);
}

void sid2_reference_diffusion_loss(const sid2_reference *r)
{
    int64_t samples = r->in_shape[0].dim[0], each = sid2_shape_count(r->in_shape[0]) / samples;
    for (int64_t n = 0; n < samples; n++) {
        double sum = 0;
        for (int64_t i = n * each; i < (n + 1) * each; i++)
            sum += error_of(r, 0, n, i) * error_of(r, 0, n, i);
        r->out[0][n] = f64_loss(sum, r->in[5][n], (double)each);
    }
}

void sid2_reference_diffusion_loss_grad(const sid2_reference *r)
{
    int64_t samples = r->in_shape[1].dim[0], each = sid2_shape_count(r->in_shape[1]) / samples;
    for (int64_t n = 0; n < samples; n++) {
        double factor = f64_loss_slope(r->in[7][n], r->in[0][n], r->in[6][n], r->in[5][n], (double)each);
        for (int64_t i = n * each; i < (n + 1) * each; i++) r->out[0][i] = factor * error_of(r, 1, n, i);
    }
}

void sid2_reference_sampler_step(const sid2_reference *r)
{
    enum { ALPHA, SIGMA, W, Z, X, NOISE, PREV };
    const double *z = r->in[0], *v = r->in[1], *v_null = r->in[2], *noise = r->in[3], *x_prev = r->in[4];
    const double *coef = r->in[5];
    int64_t count = sid2_shape_count(r->in_shape[0]);
    for (int64_t i = 0; i < count; i++) {
        double guided = v_null ? f64_toward(v_null[i], v[i], coef[W]) : v[i];
        double x_hat = f64_x_hat_clamped(z[i], guided, coef[ALPHA], coef[SIGMA]);
        double next = f64_z_next(z[i], x_hat, coef[Z], coef[X]);
        if (noise) next = f64_z_more(next, noise[i], coef[NOISE]);
        if (x_prev) next = f64_z_more(next, x_prev[i], coef[PREV]);
        r->out[0][i] = next;
        r->out[1][i] = x_hat;
    }
}

void sid2_reference_square_sums(const sid2_reference *r)
{
    int64_t count = sid2_shape_count(r->in_shape[0]);
    for (int64_t i = 0; i < count; i++) r->out[0][i / SID2_SUM_BLOCK] += r->in[0][i] * r->in[0][i];
}

void sid2_reference_norm_of(const sid2_reference *r)
{
    double sum = 0;
    for (int64_t i = 0; i < r->in_shape[0].dim[0]; i++) sum += r->in[0][i];
    r->out[0][0] = sqrt(sum);
}

void sid2_reference_adam(const sid2_reference *r)
{
    enum { WEIGHTS, GRADS, M, V, NORM, HYPER };
    enum { LR, BETA1, BETA2, EPS, C1, C2, CLIP };
    const double *h = r->in[HYPER];
    bool finite = isfinite(r->in[NORM][0]);
    double shrink = f64_clip_factor(h[CLIP], r->in[NORM][0]);
    int64_t count = sid2_shape_count(r->in_shape[WEIGHTS]);
    for (int64_t i = 0; i < count; i++) {
        double g = r->in[GRADS][i], m = r->in[M][i], v = r->in[V][i], w = r->in[WEIGHTS][i];
        if (finite) {
            m = f64_toward(m, g * shrink, 1 - h[BETA1]);
            v = f64_toward(v, g * shrink * (g * shrink), 1 - h[BETA2]);
            w = f64_adam(w, m, v, h[LR] / h[C1], 1 / h[C2], h[EPS]);
            g = 0;
        }
        r->out[0][i] = w;
        r->out[1][i] = m;
        r->out[2][i] = v;
        if (r->out[3]) r->out[3][i] = g;
        if (r->out[4]) r->out[4][i] = w;
    }
}

void sid2_reference_ema(const sid2_reference *r)
{
    int64_t count = sid2_shape_count(r->in_shape[0]);
    double share = isfinite(r->in[2][0]) ? r->in[3][0] : 0;
    for (int64_t i = 0; i < count; i++)
        r->out[0][i] = share != 0 ? f64_toward(r->in[0][i], r->in[1][i], share) : r->in[0][i];
}
