/* Matrix products and convolutions. */
#include "reference.h"

static int64_t last_of(sid2_shape shape) { return shape.dim[shape.rank - 1]; }
static int64_t rows_of(sid2_shape shape) { return sid2_shape_count(shape) / shape.dim[shape.rank - 1]; }

void sid2_reference_linear(const sid2_reference *r)
{
    const double *x = r->in[0], *w = r->in[1], *bias = r->in[2], *residual = r->in[3];
    int64_t rows = rows_of(r->in_shape[0]), outs = r->in_shape[1].dim[0], ins = r->in_shape[1].dim[1];
    for (int64_t m = 0; m < rows; m++)
        for (int64_t n = 0; n < outs; n++) {
            double sum = 0;
            for (int64_t k = 0; k < ins; k++) sum += x[m * ins + k] * w[n * ins + k];
            if (bias) sum += bias[n];
            if (residual) sum += residual[m * outs + n];
            r->out[0][m * outs + n] = sum;
        }
}

void sid2_reference_linear_dgrad(const sid2_reference *r)
{
    const double *dy = r->in[0], *w = r->in[1], *residual = r->in[2];
    int64_t rows = rows_of(r->in_shape[0]), outs = r->in_shape[1].dim[0], ins = r->in_shape[1].dim[1];
    for (int64_t m = 0; m < rows; m++) {
        double *dx = r->out[0] + m * ins;
        for (int64_t k = 0; k < ins; k++) dx[k] = residual ? residual[m * ins + k] : 0;
        for (int64_t n = 0; n < outs; n++)
            for (int64_t k = 0; k < ins; k++) dx[k] += dy[m * outs + n] * w[n * ins + k];
    }
}

void sid2_reference_linear_wgrad(const sid2_reference *r)
{
    const double *x = r->in[0], *dy = r->in[1];
    int64_t rows = rows_of(r->in_shape[0]), outs = last_of(r->in_shape[1]), ins = last_of(r->in_shape[0]);
    for (int64_t m = 0; m < rows; m++)
        for (int64_t n = 0; n < outs; n++) {
            for (int64_t k = 0; r->out[0] && k < ins; k++)
                r->out[0][n * ins + k] += dy[m * outs + n] * x[m * ins + k];
            if (r->out[1]) r->out[1][n] += dy[m * outs + n];
        }
}

/* A convolution and its gradients touch the same triples: pixel of the output, tap of the kernel, pixel of
 * the input under it. This names one such triple by the offsets of its channel vectors. */
typedef struct tap {
    int64_t input;  /* x[n, i+a, j+b, 0] */
    int64_t output; /* y[n, i, j, 0] */
    int64_t weight; /* w[0, a, b, 0]; w[o, a, b, 0] is o * stride further */
} tap;

typedef struct conv {
    int64_t ins, outs, stride;
} conv;

static void for_each_tap(sid2_shape x, sid2_shape w, void (*visit)(const sid2_reference *, conv, tap),
                         const sid2_reference *r)
{
    sid2_images image = sid2_images_of(x);
    int64_t outs = w.dim[0], side = w.dim[1], ins = w.dim[3], pad = (side - 1) / 2;
    conv c = {ins, outs, side * side * ins};
    for (int64_t n = 0; n < image.count; n++)
        for (int64_t i = 0; i < image.height; i++)
            for (int64_t j = 0; j < image.width; j++)
                for (int64_t a = 0; a < side; a++)
                    for (int64_t b = 0; b < side; b++) {
                        int64_t row = i + a - pad, column = j + b - pad;
                        if (row < 0 || row >= image.height || column < 0 || column >= image.width) continue;
                        tap t = {.input = ((n * image.height + row) * image.width + column) * ins,
                                 .output = ((n * image.height + i) * image.width + j) * outs,
                                 .weight = (a * side + b) * ins};
                        visit(r, c, t);
                    }
}

static void forward(const sid2_reference *r, conv c, tap t)
{
    for (int64_t o = 0; o < c.outs; o++) {
        const double *x = r->in[0] + t.input, *w = r->in[1] + t.weight + o * c.stride;
        double sum = 0;
        for (int64_t k = 0; k < c.ins; k++) sum += x[k] * w[k];
        r->out[0][t.output + o] += sum;
    }
}

void sid2_reference_conv2d(const sid2_reference *r)
{
    int64_t outs = r->in_shape[1].dim[0], count = sid2_shape_count(r->out_shape[0]);
    for (int64_t i = 0; i < count; i++)
        r->out[0][i] = (r->in[2] ? r->in[2][i % outs] : 0) + (r->in[3] ? r->in[3][i] : 0);
    for_each_tap(r->in_shape[0], r->in_shape[1], forward, r);
}

static void by_input(const sid2_reference *r, conv c, tap t)
{
    for (int64_t o = 0; o < c.outs; o++) {
        const double *w = r->in[1] + t.weight + o * c.stride;
        double *dx = r->out[0] + t.input, dy = r->in[0][t.output + o];
        for (int64_t k = 0; k < c.ins; k++) dx[k] += dy * w[k];
    }
}

void sid2_reference_conv2d_dgrad(const sid2_reference *r)
{
    int64_t count = sid2_shape_count(r->out_shape[0]);
    for (int64_t i = 0; i < count; i++) r->out[0][i] = r->in[2] ? r->in[2][i] : 0;
    for_each_tap(r->out_shape[0], r->in_shape[1], by_input, r);
}

static void by_weight(const sid2_reference *r, conv c, tap t)
{
    for (int64_t o = 0; o < c.outs; o++) {
        const double *x = r->in[0] + t.input;
        double *dw = r->out[0] + t.weight + o * c.stride, dy = r->in[1][t.output + o];
        for (int64_t k = 0; k < c.ins; k++) dw[k] += dy * x[k];
    }
}

void sid2_reference_conv2d_wgrad(const sid2_reference *r)
{
    for_each_tap(r->in_shape[0], r->out_shape[0], by_weight, r);
    if (!r->out[1]) return;
    int64_t outs = r->out_shape[0].dim[0], count = sid2_shape_count(r->in_shape[1]);
    for (int64_t i = 0; i < count; i++) r->out[1][i % outs] += r->in[1][i];
}
