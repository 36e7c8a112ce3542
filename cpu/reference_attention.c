/* Attention and what prepares its queries and keys. */
#include "reference.h"

#include "rotary.h"

#include <math.h>

/* Turns the d elements of one head by their token's position; sign -1 turns back. */
static void rotate(const sid2_attr *attr, int64_t token, int64_t d, double sign, double *head)
{
    sid2_rotary parts = sid2_rotary_split(d, attr->grid);
    for (int axis = 0; axis < SID2_ROTARY_AXES; axis++) {
        int64_t width = parts.width[axis], half = width / 2;
        int64_t position = sid2_rotary_position(token, axis, attr->grid);
        for (int64_t i = 0; i < half; i++) {
            double angle = sid2_rotary_angle(position, i, width, attr->theta);
            double c = cos(angle), s = sign * sin(angle), a = head[i], b = head[i + half];
            head[i] = a * c - b * s;
            head[i + half] = a * s + b * c;
        }
        head += width;
    }
}

/* Mean and 1/standard deviation of one head. */
static void moments(const sid2_attr *attr, int64_t d, const double *x, double *mean, double *rstd)
{
    double sum = 0, squares = 0;
    for (int64_t i = 0; i < d; i++) sum += x[i];
    *mean = attr->center ? sum / (double)d : 0;
    for (int64_t i = 0; i < d; i++) squares += (x[i] - *mean) * (x[i] - *mean);
    *rstd = 1 / sqrt(squares / (double)d + (double)attr->eps);
}

void sid2_reference_qk_norm_rope(const sid2_reference *r)
{
    sid2_rows qkv = sid2_rows_of(r->in_shape[0]);
    int64_t c = qkv.channels / 3, heads = r->attr->heads, d = c / heads;
    const double *gamma = r->in[1], *beta = r->in[2];
    for (int64_t row = 0; row < qkv.samples * qkv.rows; row++)
        for (int64_t part = 0; part < 2; part++)
            for (int64_t h = 0; h < heads; h++) {
                const double *x = r->in[0] + row * 3 * c + part * c + h * d;
                double *y = r->out[0] + row * 2 * c + part * c + h * d, mean = 0, rstd = 1;
                if (gamma) moments(r->attr, d, x, &mean, &rstd);
                for (int64_t i = 0; i < d; i++) {
                    y[i] = (x[i] - mean) * rstd;
                    if (gamma) y[i] *= gamma[part * d + i];
                    if (beta) y[i] += beta[part * d + i];
                }
                rotate(r->attr, row % qkv.rows, d, 1, y);
            }
}

void sid2_reference_qk_norm_rope_grad(const sid2_reference *r)
{
    const double *dqk = r->in[0], *dv = r->in[1], *gamma = r->in[3];
    sid2_rows qkv = sid2_rows_of(r->in_shape[2]);
    int64_t c = qkv.channels / 3, heads = r->attr->heads, d = c / heads;
    for (int64_t row = 0; row < qkv.samples * qkv.rows; row++) {
        for (int64_t i = 0; i < c; i++) r->out[0][row * 3 * c + 2 * c + i] = dv[row * c + i];
        for (int64_t part = 0; part < 2; part++)
            for (int64_t h = 0; h < heads; h++) {
                const double *x = r->in[2] + row * 3 * c + part * c + h * d;
                double *dx = r->out[0] + row * 3 * c + part * c + h * d;
                for (int64_t i = 0; i < d; i++) dx[i] = dqk[row * 2 * c + part * c + h * d + i];
                rotate(r->attr, row % qkv.rows, d, -1, dx);
                if (!gamma) continue;
                double mean, rstd, sum = 0, dot = 0;
                moments(r->attr, d, x, &mean, &rstd);
                for (int64_t i = 0; i < d; i++) {
                    double n = (x[i] - mean) * rstd;
                    if (r->out[1]) r->out[1][part * d + i] += dx[i] * n;
                    if (r->out[2]) r->out[2][part * d + i] += dx[i];
                    dx[i] *= gamma[part * d + i];
                    sum += dx[i];
                    dot += dx[i] * n;
                }
                for (int64_t i = 0; i < d; i++) {
                    double n = (x[i] - mean) * rstd;
                    dx[i] = rstd * (dx[i] - (r->attr->center ? sum / (double)d : 0) - n * dot / (double)d);
                }
            }
    }
}

/* One head of one sample: q, k, v of token t are d elements at t times their strides. */
typedef struct head {
    const double *q, *k, *v;
    int64_t tokens, d, qk_stride, v_stride;
    double scale;
} head;

static head head_of(const sid2_reference *r, int qk, int64_t n, int64_t h)
{
    sid2_rows qkv = sid2_rows_of(r->in_shape[qk + 1]);
    int64_t c = qkv.channels / 3, d = c / r->attr->heads;
    const double *q = r->in[qk] + n * qkv.rows * 2 * c + h * d;
    return (head){.q = q,
                  .k = q + c,
                  .v = r->in[qk + 1] + n * qkv.rows * 3 * c + 2 * c + h * d,
                  .tokens = qkv.rows,
                  .d = d,
                  .qk_stride = 2 * c,
                  .v_stride = 3 * c,
                  .scale = 1 / sqrt((double)d)};
}

static double score(head a, int64_t i, int64_t j)
{
    double sum = 0;
    for (int64_t e = 0; e < a.d; e++) sum += a.q[i * a.qk_stride + e] * a.k[j * a.qk_stride + e];
    return sum * a.scale;
}

void sid2_reference_attention(const sid2_reference *r)
{
    int64_t samples = r->in_shape[0].dim[0], heads = r->attr->heads;
    for (int64_t n = 0; n < samples; n++)
        for (int64_t h = 0; h < heads; h++) {
            head a = head_of(r, 0, n, h);
            for (int64_t i = 0; i < a.tokens; i++) {
                double *y = r->out[0] + ((n * a.tokens + i) * heads + h) * a.d, most = -INFINITY, sum = 0;
                for (int64_t j = 0; j < a.tokens; j++) most = fmax(most, score(a, i, j));
                for (int64_t j = 0; j < a.tokens; j++) {
                    double p = exp(score(a, i, j) - most);
                    sum += p;
                    for (int64_t e = 0; e < a.d; e++) y[e] += p * a.v[j * a.v_stride + e];
                }
                for (int64_t e = 0; e < a.d; e++) y[e] /= sum;
                if (r->out[1]) r->out[1][(n * heads + h) * a.tokens + i] = most + log(sum);
            }
        }
}

/* With p the probabilities: dv_j = sum_i p_ij dy_i;  ds_ij = p_ij (dy_i v_j - dy_i y_i);
 * dq_i = sum_j ds_ij k_j / sqrt(d);  dk_j = sum_i ds_ij q_i / sqrt(d). */
void sid2_reference_attention_grad(const sid2_reference *r)
{
    int64_t samples = r->in_shape[1].dim[0], heads = r->attr->heads;
    for (int64_t n = 0; n < samples; n++)
        for (int64_t h = 0; h < heads; h++) {
            head a = head_of(r, 1, n, h);
            double *dq = r->out[0] + (a.q - r->in[1]), *dk = r->out[0] + (a.k - r->in[1]);
            for (int64_t i = 0; i < a.tokens; i++) {
                int64_t row = ((n * a.tokens + i) * heads + h) * a.d;
                const double *dy = r->in[0] + row, *y = r->in[3] + row;
                double along = 0, lse = r->in[4][(n * heads + h) * a.tokens + i];
                for (int64_t e = 0; e < a.d; e++) along += dy[e] * y[e];
                for (int64_t j = 0; j < a.tokens; j++) {
                    double p = exp(score(a, i, j) - lse), dp = 0;
                    for (int64_t e = 0; e < a.d; e++) dp += dy[e] * a.v[j * a.v_stride + e];
                    double ds = p * (dp - along) * a.scale;
                    double *dv = r->out[1] + ((n * a.tokens + j) * heads + h) * a.d;
                    for (int64_t e = 0; e < a.d; e++) {
                        dv[e] += p * dy[e];
                        dq[i * a.qk_stride + e] += ds * a.k[j * a.qk_stride + e];
                        dk[j * a.qk_stride + e] += ds * a.q[i * a.qk_stride + e];
                    }
                }
            }
        }
}
