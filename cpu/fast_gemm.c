/* Linear layers, convolutions and their gradients as one blocked matrix product C[M,N] = A[M,K] B[K,N], for
 * builds without oneDNN.
 *
 * A convolution is a product whose matrix of pixels by (tap, channel) is never stored: a block of it is read
 * off the image when it is needed. So all six operators differ only in how a row of each operand is read
 * (`matrix`), and which operand is read across. Each block of C is one piece of work: it walks over K, packs
 * the two blocks to f32 and multiplies them (fast_tile.h), then adds bias and residual on the way out. */
#include "fast_tile.h"

enum {
    ROWS = 288,
    COLUMNS = 128,
    DEPTH = 256
}; /* of a block: 560 KiB together, for the second-level cache */

/* A matrix as rows that can be read in runs. */
typedef struct matrix {
    const sid2_operand *t;
    enum { PLAIN, PIXELS, TAPS } kind;
    int64_t pitch; /* PLAIN: elements a row; else channels of a pixel */
    /* PIXELS: row = pixel, column = (tap, channel), the image `sign` times the tap's offset away.
     * TAPS: row = (tap, out channel), column = in channel, of w[out, tap, in]. */
    int64_t height, width, side, out, sign;
} matrix;

typedef struct product {
    matrix a, b;
    bool a_across, b_across; /* rows of `a` run along M instead of K; rows of `b` along K instead of N */
    int64_t m, n, k;
    const sid2_operand *y;
    const float *bias;
    const sid2_operand *residual;
    bool add; /* y is f32 and added to */
} product;

/* Columns [column, column + n) of a row of pixels. */
static void read_pixels(const matrix *m, int64_t row, int64_t column, int64_t n, float *to)
{
    int64_t x = row % m->width, y = row / m->width % m->height, reach = m->side / 2;
    while (n > 0) {
        int64_t tap = column / m->pitch, channel = column % m->pitch, run = min64(n, m->pitch - channel);
        int64_t dy = m->sign * (tap / m->side - reach), dx = m->sign * (tap % m->side - reach);
        bool inside = y + dy >= 0 && y + dy < m->height && x + dx >= 0 && x + dx < m->width;
        if (inside)
            fetch(m->t, (row + dy * m->width + dx) * m->pitch + channel, run, to);
        else
            memset(to, 0, (size_t)run * sizeof(float));
        to += run;
        column += run;
        n -= run;
    }
}

static void read_row(const matrix *m, int64_t row, int64_t column, int64_t n, float *to)
{
    switch (m->kind) {
    case PLAIN: fetch(m->t, row * m->pitch + column, n, to); break;
    case PIXELS: read_pixels(m, row, column, n, to); break;
    case TAPS:
        fetch(m->t, (row % m->out * m->side * m->side + row / m->out) * m->pitch + column, n, to);
        break;
    }
}

/* Rows x columns of m into `to`, rows `pitch` apart. */
static void pack(const matrix *m, int64_t row, int64_t rows, int64_t column, int64_t columns, int64_t pitch,
                 float *to)
{
    for (int64_t r = 0; r < rows; r++) read_row(m, row + r, column, columns, to + r * pitch);
}

/* The same, transposed: to[columns][pitch]. */
static void pack_transposed(const matrix *m, int64_t row, int64_t rows, int64_t column, int64_t columns,
                            int64_t pitch, float *to)
{
    float line[DEPTH];
    for (int64_t r = 0; r < rows; r++) {
        read_row(m, row + r, column, columns, line);
        for (int64_t c = 0; c < columns; c++) to[c * pitch + r] = line[c];
    }
}

static void finish(const product *p, int64_t row, int64_t rows, int64_t column, int64_t columns, float *c)
{
    float buffer[COLUMNS];
    for (int64_t r = 0; r < rows; r++) {
        int64_t at = (row + r) * p->n + column;
        float *line = c + r * COLUMNS;
        if (p->bias)
            for (int64_t i = 0; i < columns; i++) line[i] += p->bias[column + i];
        if (p->add || (p->residual && p->residual->data)) {
            fetch(p->add ? p->y : p->residual, at, columns, buffer);
            for (int64_t i = 0; i < columns; i++) line[i] += buffer[i];
        }
        store(line, p->y, at, columns);
    }
}

static void multiply_block(const product *p, int64_t row, int64_t column, float *work)
{
    int64_t rows = min64(ROWS, p->m - row), columns = min64(COLUMNS, p->n - column);
    float *a = work, *b = a + ROWS * DEPTH, *c = b + DEPTH * COLUMNS;
    memset(c, 0, (size_t)(rows * COLUMNS) * sizeof(float));
    memset(b, 0, (size_t)(DEPTH * COLUMNS) * sizeof(float)); /* the padding columns */
    for (int64_t k = 0; k < p->k; k += DEPTH) {
        int64_t depth = min64(DEPTH, p->k - k);
        if (p->b_across)
            pack_transposed(&p->b, column, columns, k, depth, COLUMNS, b);
        else
            pack(&p->b, k, depth, column, columns, COLUMNS, b);
        tile t = {.a = a, .b = b, .c = c, .ldb = COLUMNS, .ldc = COLUMNS, .depth = depth, .add = true};
        if (p->a_across) {
            pack(&p->a, k, depth, row, rows, t.lda = ROWS, a);
            tile_multiply_transposed(&t, rows, round_up(columns, VL));
        } else {
            pack(&p->a, row, rows, k, depth, t.lda = DEPTH, a);
            tile_multiply(&t, rows, round_up(columns, VL));
        }
    }
    finish(p, row, rows, column, columns, c);
}

enum { WORK = ROWS * DEPTH + DEPTH * COLUMNS + ROWS * COLUMNS };

size_t FAST(gemm_scratch)(const sid2_call *call) { return sizeof(float) * WORK * (size_t)call->threads; }

static void multiply(const sid2_call *call, const product *p)
{
    int threads = team(call, p->m * p->n * min64(p->k, 64));
#pragma omp parallel num_threads(threads)
    {
        float *work = (float *)call->scratch + (int64_t)thread_index() * WORK;
#pragma omp for schedule(dynamic) collapse(2)
        for (int64_t row = 0; row < p->m; row += ROWS)
            for (int64_t column = 0; column < p->n; column += COLUMNS) multiply_block(p, row, column, work);
    }
}

/* dbias[N] += sum of dy over its rows. */
static void add_columns(const sid2_call *call, const sid2_operand *dy, float *dbias)
{
    enum { BAND = 64 };
    int64_t channels = last(dy), rows = count(dy) / max64(1, channels);
    int threads = team(call, count(dy));
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t band = 0; band < channels; band += BAND) {
        int64_t width = min64(BAND, channels - band);
        float line[BAND];
        double sum[BAND] = {0};
        for (int64_t r = 0; r < rows; r++) {
            fetch(dy, r * channels + band, width, line);
            for (int64_t i = 0; i < width; i++) sum[i] += (double)line[i];
        }
        for (int64_t i = 0; i < width; i++) dbias[band + i] += (float)sum[i];
    }
}

static matrix plain(const sid2_operand *t) { return (matrix){.t = t, .kind = PLAIN, .pitch = last(t)}; }

/* Every pixel of an image batch with its side x side surroundings. */
static matrix pixels(const sid2_operand *t, int64_t side, int64_t sign)
{
    const int64_t *dim = t->shape.dim + t->shape.rank - 3;
    return (matrix){.t = t,
                    .kind = PIXELS,
                    .pitch = dim[2],
                    .height = dim[0],
                    .width = dim[1],
                    .side = side,
                    .sign = sign};
}

void FAST(linear)(sid2_call *call)
{
    const sid2_operand *x = &call->in[0], *w = &call->in[1], *y = &call->out[0];
    int64_t k = last(x), n = last(y);
    multiply(call, &(product){.a = plain(x),
                              .b = plain(w),
                              .b_across = true,
                              .m = count(y) / n,
                              .n = n,
                              .k = k,
                              .y = y,
                              .bias = call->in[2].data,
                              .residual = &call->in[3]});
}

void FAST(linear_dgrad)(sid2_call *call)
{
    const sid2_operand *dy = &call->in[0], *w = &call->in[1], *dx = &call->out[0];
    int64_t k = last(dy), n = last(dx);
    multiply(call, &(product){.a = plain(dy),
                              .b = plain(w),
                              .m = count(dx) / n,
                              .n = n,
                              .k = k,
                              .y = dx,
                              .residual = &call->in[2]});
}

void FAST(linear_wgrad)(sid2_call *call)
{
    const sid2_operand *x = &call->in[0], *dy = &call->in[1], *dw = &call->out[0];
    int64_t m = last(dy), n = last(x);
    if (dw->data)
        multiply(call, &(product){.a = plain(dy),
                                  .a_across = true,
                                  .b = plain(x),
                                  .m = m,
                                  .n = n,
                                  .k = count(x) / n,
                                  .y = dw,
                                  .add = true});
    if (call->out[1].data) add_columns(call, dy, call->out[1].data);
}

void FAST(conv2d)(sid2_call *call)
{
    const sid2_operand *x = &call->in[0], *w = &call->in[1], *y = &call->out[0];
    int64_t side = w->shape.dim[1], n = last(y), k = side * side * last(x);
    matrix weights = plain(w);
    weights.pitch = k;
    multiply(call, &(product){.a = pixels(x, side, 1),
                              .b = weights,
                              .b_across = true,
                              .m = count(y) / n,
                              .n = n,
                              .k = k,
                              .y = y,
                              .bias = call->in[2].data,
                              .residual = &call->in[3]});
}

void FAST(conv2d_dgrad)(sid2_call *call)
{
    const sid2_operand *dy = &call->in[0], *w = &call->in[1], *dx = &call->out[0];
    int64_t side = w->shape.dim[1], out = last(dy), n = last(dx);
    matrix weights = {.t = w, .kind = TAPS, .pitch = n, .side = side, .out = out};
    multiply(call, &(product){.a = pixels(dy, side, -1),
                              .b = weights,
                              .m = count(dx) / n,
                              .n = n,
                              .k = side * side * out,
                              .y = dx,
                              .residual = &call->in[2]});
}

void FAST(conv2d_wgrad)(sid2_call *call)
{
    const sid2_operand *x = &call->in[0], *dy = &call->in[1], *dw = &call->out[0];
    int64_t side = dw->shape.dim[1], m = last(dy), channels = last(x);
    multiply(call, &(product){.a = plain(dy),
                              .a_across = true,
                              .b = pixels(x, side, 1),
                              .m = m,
                              .n = side * side * channels,
                              .k = count(x) / channels,
                              .y = dw,
                              .add = true});
    if (call->out[1].data) add_columns(call, dy, call->out[1].data);
}
