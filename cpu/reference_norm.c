/* Norms. group_norm and row_norm are one formula over differently chosen sets of elements:
 *
 *     n = (x - mean) rstd,   h = n gamma + beta,   u = h (1 + scale) + shift,   y = act(u)
 */
#include "reference.h"

/* `rows` x `width` elements of one sample, starting at `first` and `stride` apart from row to row, that share
 * a mean. `channel` is the channel of the first. */
typedef struct set {
    int64_t first, rows, width, stride, channel;
} set;

typedef struct affine {
    const double *gamma, *beta; /* [C]; beta may be NULL */
    const double *film;         /* [2C] of this sample, or NULL */
    int64_t channels;
    sid2_act act;
} affine;

static double before_film(affine a, double n, int64_t c)
{
    return f64_affine(n, a.gamma[c], a.beta ? a.beta[c] : 0);
}

static double film(affine a, double h, int64_t c)
{
    return a.film ? f64_affine(h, f64_film_gain(a.film[c]), a.film[a.channels + c]) : h;
}

static void normalise(set s, affine a, bool center, double eps, const double *x, double *y, double *stats)
{
    double sum = 0, squares = 0, count = (double)(s.rows * s.width);
    for (int64_t i = 0; i < s.rows; i++)
        for (int64_t j = 0; j < s.width; j++) sum += x[s.first + i * s.stride + j];
    double mean = center ? sum / count : 0;
    for (int64_t i = 0; i < s.rows; i++)
        for (int64_t j = 0; j < s.width; j++) {
            double d = x[s.first + i * s.stride + j] - mean;
            squares += d * d;
        }
    double rstd = 1 / sqrt(squares / count + eps);
    for (int64_t i = 0; i < s.rows; i++)
        for (int64_t j = 0; j < s.width; j++) {
            int64_t at = s.first + i * s.stride + j, c = s.channel + j;
            y[at] = f64_activate(a.act, film(a, before_film(a, f64_normalised(x[at], mean, rstd), c), c));
        }
    stats[0] = mean;
    stats[1] = rstd;
}

/* Where the gradients of a norm go; each may be NULL. dfilm is this sample's. */
typedef struct sums {
    double *dgamma, *dbeta, *dfilm;
} sums;

/* dx = rstd (dn - mean of dn - n mean of dn n), without the middle term where the mean is not subtracted. */
static void differentiate(set s, affine a, bool center, const double *stats, const double *dy,
                          const double *x, const double *residual, double *dx, sums to)
{
    double mean = stats[0], rstd = stats[1], sum = 0, dot = 0, count = (double)(s.rows * s.width);
    for (int64_t i = 0; i < s.rows; i++)
        for (int64_t j = 0; j < s.width; j++) {
            int64_t at = s.first + i * s.stride + j, c = s.channel + j;
            double n = f64_normalised(x[at], mean, rstd), h = before_film(a, n, c);
            double du = dy[at] * f64_activation_slope(a.act, film(a, h, c));
            double dh = a.film ? du * f64_film_gain(a.film[c]) : du, dn = dh * a.gamma[c];
            if (to.dfilm) {
                to.dfilm[c] += du * h;
                to.dfilm[a.channels + c] += du;
            }
            if (to.dgamma) to.dgamma[c] += dh * n;
            if (to.dbeta) to.dbeta[c] += dh;
            sum += dn;
            dot += dn * n;
            dx[at] = dn;
        }
    for (int64_t i = 0; i < s.rows; i++)
        for (int64_t j = 0; j < s.width; j++) {
            int64_t at = s.first + i * s.stride + j;
            double n = f64_normalised(x[at], mean, rstd);
            dx[at] = f64_normalised_slope(dx[at], n, rstd, center ? sum / count : 0, dot / count);
            if (residual) dx[at] += residual[at];
        }
}

static affine affine_of(const sid2_reference *r, int first_input, int64_t sample, int64_t channels)
{
    const double *all = r->in[first_input + 2];
    return (affine){.gamma = r->in[first_input],
                    .beta = r->in[first_input + 1],
                    .film = all ? all + sample * 2 * channels : NULL,
                    .channels = channels,
                    .act = r->attr->act};
}

static sums sums_of(const sid2_reference *r, int64_t sample, int64_t channels)
{
    double *dfilm = r->out[3];
    return (sums){r->out[1], r->out[2], dfilm ? dfilm + sample * 2 * channels : NULL};
}

static set group(sid2_rows x, int64_t groups, int64_t sample, int64_t g)
{
    int64_t width = x.channels / groups;
    return (set){(sample * x.rows) * x.channels + g * width, x.rows, width, x.channels, g * width};
}

void sid2_reference_group_norm(const sid2_reference *r)
{
    sid2_rows x = sid2_rows_of(r->in_shape[0]);
    int64_t groups = r->attr->groups;
    for (int64_t n = 0; n < x.samples; n++)
        for (int64_t g = 0; g < groups; g++)
            normalise(group(x, groups, n, g), affine_of(r, 1, n, x.channels), true, (double)r->attr->eps,
                      r->in[0], r->out[0], r->out[1] + (n * groups + g) * 2);
}

void sid2_reference_group_norm_grad(const sid2_reference *r)
{
    sid2_rows x = sid2_rows_of(r->in_shape[1]);
    int64_t groups = r->attr->groups;
    for (int64_t n = 0; n < x.samples; n++)
        for (int64_t g = 0; g < groups; g++)
            differentiate(group(x, groups, n, g), affine_of(r, 3, n, x.channels), true,
                          r->in[2] + (n * groups + g) * 2, r->in[0], r->in[1], r->in[6], r->out[0],
                          sums_of(r, n, x.channels));
}

void sid2_reference_row_norm(const sid2_reference *r)
{
    sid2_rows x = sid2_rows_of(r->in_shape[0]);
    for (int64_t row = 0; row < x.samples * x.rows; row++)
        normalise((set){row * x.channels, 1, x.channels, x.channels, 0},
                  affine_of(r, 1, row / x.rows, x.channels), r->attr->center, (double)r->attr->eps, r->in[0],
                  r->out[0], r->out[1] + row * 2);
}

void sid2_reference_row_norm_grad(const sid2_reference *r)
{
    sid2_rows x = sid2_rows_of(r->in_shape[1]);
    for (int64_t row = 0; row < x.samples * x.rows; row++)
        differentiate((set){row * x.channels, 1, x.channels, x.channels, 0},
                      affine_of(r, 3, row / x.rows, x.channels), r->attr->center, r->in[2] + row * 2,
                      r->in[0], r->in[1], r->in[6], r->out[0], sums_of(r, row / x.rows, x.channels));
}
