/* Linear layers, convolutions and their gradients as one blocked matrix product C[M,N] = A[M,K] B[K,N] in f32: for
 * builds without oneDNN, and where f32 is faster than the bf16 products that oneDNN would take (choices.c).
 *
 * A convolution is a product whose matrix of pixels by (tap, channel) is never stored: a block of it is read
 * off the image when it is needed. So all six operators differ only in how a row of each operand is read
 * (`matrix`), and which operand is read across. Each block of C is one piece of work: it walks over K, packs
 * B into panels for the first-level cache, and A where it is not f32 rows already, and multiplies them
 * (fast_tile.h). C begins as what the products are added to. */
#include "fast_tile.h"

enum { ROWS = 288, COLUMNS = 256, DEPTH = 128 }; /* of a block, most; all of it fits the second-level cache */
enum { ROWS_PITCH = ROWS + 16 }; /* no power of two: its lines use the whole first-level cache */
_Static_assert(COLUMNS % PANEL == 0 && DEPTH % VL == 0, "whole panels and vectors");

/* A matrix as rows that can be read in runs. */
typedef struct matrix {
    const sid2_operand *t;
    enum { PLAIN, PIXELS, TAPS, WINDOWS } kind;
    int64_t pitch; /* PLAIN: elements a row; else channels of a pixel */
    /* PIXELS: row = pixel, column = (tap, channel), the image `sign` times the tap's offset away.
     * TAPS: row = (tap, out channel), column = in channel, of w[out, tap, in]. */
    int64_t height, width, side, out, sign;
    /* WINDOWS: row = window, column = (tap, channel). */
    const sid2_attr *attr;
    int64_t from[3], to[3], window[3]; /* frames, rows, columns of x, of y and of a window */
} matrix;

typedef struct product {
    matrix a, b;
    bool a_across, b_across; /* rows of `a` run along M instead of K; rows of `b` along K instead of N */
    int64_t m, n, k;
    const sid2_operand *y;
    const float *bias;
    const sid2_operand *residual;
    bool add;     /* y is f32 and added to */
    bool rectify; /* what is negative becomes 0 at last */
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

/* The same of a row of windows. */
static void read_windows(const matrix *m, int64_t row, int64_t column, int64_t n, float *to)
{
    int64_t first[3], rest = row;
    for (int i = 2; i >= 0; i--) {
        first[i] = rest % m->to[i] * m->attr->stride[i] - m->attr->before[i];
        rest /= m->to[i];
    }
    int64_t tap = column / m->pitch, channel = column % m->pitch;
    int64_t x = tap % m->window[2], y = tap / m->window[2] % m->window[1],
            f = tap / m->window[2] / m->window[1];
    while (n > 0) {
        int64_t run = min64(n, m->pitch - channel), frame = first[0] + f, line = first[1] + y,
                place = first[2] + x;
        bool inside = frame >= 0 && frame < m->from[0] && line >= 0 && line < m->from[1] && place >= 0 &&
                      place < m->from[2];
        int64_t pixel = ((rest * m->from[0] + frame) * m->from[1] + line) * m->from[2] + place;
        if (inside)
            fetch(m->t, pixel * m->pitch + channel, run, to);
        else
            memset(to, 0, (size_t)run * sizeof(float));
        to += run;
        n -= run;
        channel = 0;
        if (++x < m->window[2]) continue;
        x = 0;
        if (++y < m->window[1]) continue;
        y = 0;
        f++;
    }
}

static bool is_plain_f32(const matrix *m) { return m->kind == PLAIN && m->t->dtype == SID2_F32; }

static void read_row(const matrix *m, int64_t row, int64_t column, int64_t n, float *to)
{
    switch (m->kind) {
    case PLAIN: fetch(m->t, row * m->pitch + column, n, to); break;
    case PIXELS: read_pixels(m, row, column, n, to); break;
    case WINDOWS: read_windows(m, row, column, n, to); break;
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

/* A block of B as panels [columns / PANEL][DEPTH][PANEL], each read from end to end by every six rows of A.
 * Columns beyond are zero up to a whole vector. */
static void pack_panels(const product *p, int64_t k, int64_t depth, int64_t column, int64_t columns,
                        float *to)
{
    float line[VL * DEPTH > COLUMNS ? VL * DEPTH : COLUMNS] __attribute__((aligned(64)));
    int64_t width = round_up(columns, VL);
    if (!p->b_across) {
        for (int64_t r = 0; r < depth; r++) {
            read_row(&p->b, k + r, column, columns, line);
            for (int64_t c = columns; c < width; c++) line[c] = 0.0f;
            for (int64_t c = 0; c < width; c += VL)
                vstore(to + (c / PANEL * DEPTH + r) * PANEL + c % PANEL, vload(line + c));
        }
        return;
    }
    for (int64_t c = 0; c < columns; c += VL) {
        int64_t lanes = min64(VL, columns - c);
        pack(&p->b, column + c, lanes, k, depth, DEPTH, line);
        memset(line + lanes * DEPTH, 0, (size_t)((VL - lanes) * DEPTH) * sizeof(float));
        float *panel = to + c / PANEL * DEPTH * PANEL + c % PANEL;
        for (int64_t r = 0; r < depth; r += VL) transpose_square(line + r, DEPTH, panel + r * PANEL, PANEL);
    }
}

/* Bias, and residual or what is there already, into C. */
static void start(const product *p, int64_t row, int64_t rows, int64_t column, int64_t columns, float *c,
                  int64_t pitch)
{
    const sid2_operand *first = p->add ? p->y : p->residual && p->residual->data ? p->residual : NULL;
    for (int64_t r = 0; r < rows; r++) {
        float *line = c + r * pitch;
        if (first)
            fetch(first, (row + r) * p->n + column, columns, line);
        else
            memset(line, 0, (size_t)columns * sizeof(float));
        for (int64_t i = 0; p->bias && i < columns; i++) line[i] += p->bias[column + i];
    }
}

typedef struct block {
    int64_t rows, columns;
} block;

/* Of a tile whose columns are whole vectors: the products are added to what is in C, to the bias, or to nothing,
 * else to what `start` puts into C. */
static void choose_start(const product *p, bool in_place, int64_t row, int64_t rows, int64_t column,
                         int64_t columns, tile *t)
{
    bool residual = p->residual && p->residual->data, whole = columns % VL == 0;
    bool there = in_place && !p->bias && (p->add || (residual && p->residual->data == p->y->data));
    if (!there && !residual && !p->add && whole) {
        t->start = p->bias ? p->bias + column : NULL;
        t->start_pitch = 0;
        return;
    }
    if (!there) start(p, row, rows, column, columns, t->c, t->ldc);
    t->start = t->c;
    t->start_pitch = t->ldc;
}

/* C is computed where it lies if it can be. */
static void multiply_block(const product *p, const block *size, int64_t row, int64_t column, float *work)
{
    int64_t rows = min64(size->rows, p->m - row), columns = min64(size->columns, p->n - column);
    bool in_place = p->y->dtype == SID2_F32 && columns % VL == 0;
    float *a = work, *b = a + ROWS_PITCH * DEPTH, *c = b + DEPTH * COLUMNS;
    tile t = {.ldb = PANEL, .c = c, .ldc = COLUMNS};
    if (in_place) t.c = (float *)p->y->data + row * p->n + column, t.ldc = p->n;
    choose_start(p, in_place, row, rows, column, columns, &t);
    for (int64_t k = 0; k < p->k; k += DEPTH) {
        t.depth = min64(DEPTH, p->k - k);
        pack_panels(p, k, t.depth, column, columns, b);
        t.a = a;
        if (p->a_across)
            pack(&p->a, k, t.depth, row, rows, t.lda = ROWS_PITCH, a);
        else if (is_plain_f32(&p->a))
            t.a = (const float *)p->a.t->data + row * (t.lda = p->a.pitch) + k;
        else
            pack(&p->a, row, rows, k, t.depth, t.lda = DEPTH, a);
        for (int64_t i = 0; i < columns; i += PANEL) {
            tile panel = t;
            panel.b = b + i * DEPTH, panel.c += i;
            if (t.start) panel.start += i;
            int64_t width = round_up(min64(PANEL, columns - i), VL);
            if (p->a_across)
                tile_multiply_transposed(&panel, rows, width);
            else
                tile_multiply(&panel, rows, width);
        }
        t.start = t.c, t.start_pitch = t.ldc;
    }
    for (int64_t r = 0; p->rectify && r < rows; r++)
        for (int64_t i = 0; i < columns; i += VL) {
            vf v = vload(t.c + r * t.ldc + i);
            vstore(t.c + r * t.ldc + i, vless(v, vset(0.0f), vset(0.0f), v));
        }
    for (int64_t r = 0; !in_place && r < rows; r++)
        store(c + r * COLUMNS, p->y, (row + r) * p->n + column, columns);
}

enum { WORK = ROWS_PITCH * DEPTH + DEPTH * COLUMNS + ROWS * COLUMNS };

size_t FAST(gemm_scratch)(const sid2_call *call) { return sizeof(float) * WORK * (size_t)call->threads; }

/* Pieces of about equal size, whole steps, none larger than `most`. */
static int64_t piece(int64_t n, int64_t most, int64_t step)
{
    return round_up(divide_up(n, divide_up(n, most)), step);
}

static void multiply(const sid2_call *call, const product *p)
{
    int threads = team(call, p->m * p->n * min64(p->k, 64));
    const block size = {piece(p->m, ROWS, TILE_ROWS), piece(p->n, COLUMNS, PANEL)};
#pragma omp parallel num_threads(threads)
    {
        float *work = (float *)call->scratch + (int64_t)thread_index() * WORK;
#pragma omp for schedule(dynamic) collapse(2)
        for (int64_t row = 0; row < p->m; row += size.rows)
            for (int64_t column = 0; column < p->n; column += size.columns)
                multiply_block(p, &size, row, column, work);
    }
}

/* dbias[N] += sum of dy over its rows: in f32 over a few, in double over those. */
static void add_columns(const sid2_call *call, const sid2_operand *dy, float *dbias)
{
    enum { BAND = 64, FEW = 64 };
    int64_t channels = last(dy), rows = count(dy) / max64(1, channels);
    int threads = team(call, count(dy));
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t band = 0; band < channels; band += BAND) {
        int64_t width = min64(BAND, channels - band);
        float line[BAND];
        double sum[BAND] = {0};
        for (int64_t r = 0; r < rows;) {
            vf part[BAND / VL] = {0};
            for (int64_t end = min64(rows, r + FEW); r < end; r++) {
                const float *from = load(dy, r * channels + band, width, line);
                for (int64_t i = 0; i < width; i += VL) part[i / VL] += vload(from + i);
            }
            for (int i = 0; i < BAND; i++) sum[i] += (double)part[i / VL][i % VL];
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

/* A window of one tap that moves by one is a product as it stands. */
void FAST(conv3d)(sid2_call *call)
{
    const sid2_operand *x = &call->in[0], *w = &call->in[1], *y = &call->out[0];
    int64_t n = last(y), k = count(w) / n;
    matrix weights = plain(w), windows = {.t = x, .kind = WINDOWS, .pitch = last(x), .attr = call->attr};
    bool is_plain = k == last(x);
    for (int i = 0; i < 3; i++) {
        windows.from[i] = x->shape.dim[i + 1];
        windows.to[i] = y->shape.dim[i + 1];
        windows.window[i] = w->shape.dim[i + 1];
        is_plain = is_plain && windows.from[i] == windows.to[i];
    }
    weights.pitch = k;
    multiply(call, &(product){.a = is_plain ? plain(x) : windows,
                              .b = weights,
                              .b_across = true,
                              .m = count(y) / n,
                              .n = n,
                              .k = k,
                              .y = y,
                              .bias = call->in[2].data,
                              .rectify = call->attr->rectify});
}
