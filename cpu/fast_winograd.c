/* 3 x 3 convolutions in f32 and their gradients with a quarter of the multiplications: Winograd's F(4x4,
 * 3x3).
 *
 * A convolution is a product of polynomials, and a product of degree 5 is fixed by its values at six points:
 * 6 multiplications give 4 outputs of a 3-tap filter instead of 12, and in two dimensions 36 give 4 x 4
 * instead of 144. So each 6 x 6 tile of the image (tiles overlap by two) and each filter is evaluated at 6 x
 * 6 points; at every point the channels are an ordinary matrix product [tiles, C] x [C, O], which is where
 * the time goes (fast_tile.h); and the 4 x 4 outputs are read off the values of the product. With the
 * matrices B, G and A of the three steps
 *
 *     y  = A^T [ (G w G^T) . (B^T x B) ] A
 *     dw = G^T [ (A dy A^T) . (B^T x B) ] G        the same bilinear form, read the other way;
 *
 * the gradient by the input is a convolution with the filter turned round. The filters' values are kept until
 * the weights change. A block of tiles is transformed, multiplied and read off before the next, so that it
 * stays in the second-level cache and nothing of it is ever a tensor.
 *
 * The points are 0, +-5/8, +-3/2 and infinity. Signs in pairs share half the work, and the spacing matters:
 * the usual 0, +-1, +-2 have four times the error. These have twice that of the plain sum.
 *
 * All of it is f32, bf16 is converted at the edges: a quarter of the multiplications in f32 take less time
 * than all of them as bf16 dot products, which are twice as fast at best. */
#include "fast_tile.h"

#include <stdlib.h>

enum { STEP = 4, SIDE = 6, POINTS = SIDE * SIDE };
enum { BLOCK = 24, SUM_BLOCK = 48 };                                  /* tiles at a time; so many are few */
enum { FEW_OUTS = 2 * TILE_ROWS };                                    /* whose sums are taken at a time */
enum { NEAR_BYTES = 1 << 20 };                                        /* of the second-level cache */
enum { LEAST_CHANNELS = 16, LEAST_TILES = 8, MOST_BYTES = 16 << 20 }; /* where it pays */

#define P    0.625f /* the points; their squares are exact, too */
#define Q    1.5f
#define PP   (P * P)
#define QQ   (Q * Q)
#define AT_0 (1.0f / (PP * QQ)) /* G's scale at 0, +-P and +-Q */
#define AT_P (1.0f / (2.0f * PP * (PP - QQ)))
#define AT_Q (1.0f / (2.0f * QQ * (QQ - PP)))

/* ---- Transforms ---- */
typedef enum step { IMAGE, OUTPUT, OUTPUT_GRADIENT, FILTER, FILTER_GRADIENT } step;

/* x + a y, x - a y. */
INLINE vf plus(vf x, float a, vf y) { return vmuladd(vset(a), y, x); }
INLINE vf minus(vf x, float a, vf y) { return vmulsub(vset(a), y, x); }

/* One line: 6 -> 6 by B^T, 6 -> 4 by A^T, 4 -> 6 by A, 3 -> 6 by G, 6 -> 3 by G^T. */
INLINE void transform_line(step s, const vf *x, int x_step, vf *y, int y_step)
{
#define X(i) x[(i)*x_step]
#define Y(i) y[(i)*y_step]
    if (s == IMAGE) {
        vf even = minus(X(4), QQ, X(2)), odd = minus(X(3), QQ, X(1));
        vf even_q = minus(X(4), PP, X(2)), odd_q = minus(X(3), PP, X(1));
        Y(0) = plus(minus(X(4), PP + QQ, X(2)), PP * QQ, X(0));
        Y(1) = plus(even, P, odd), Y(2) = minus(even, P, odd);
        Y(3) = plus(even_q, Q, odd_q), Y(4) = minus(even_q, Q, odd_q);
        Y(5) = plus(minus(X(5), PP + QQ, X(3)), PP * QQ, X(1));
    } else if (s == OUTPUT) {
        vf even = X(1) + X(2), odd = X(1) - X(2), even_q = X(3) + X(4), odd_q = X(3) - X(4);
        Y(0) = X(0) + even + even_q;
        Y(1) = plus(P * odd, Q, odd_q);
        Y(2) = plus(PP * even, QQ, even_q);
        Y(3) = plus(plus(X(5), P * PP, odd), Q * QQ, odd_q);
    } else if (s == OUTPUT_GRADIENT) {
        vf even = plus(X(0), PP, X(2)), odd = plus(X(1), PP, X(3));
        vf even_q = plus(X(0), QQ, X(2)), odd_q = plus(X(1), QQ, X(3));
        Y(0) = X(0);
        Y(1) = plus(even, P, odd), Y(2) = minus(even, P, odd);
        Y(3) = plus(even_q, Q, odd_q), Y(4) = minus(even_q, Q, odd_q);
        Y(5) = X(3);
    } else if (s == FILTER) {
        vf even = AT_P * plus(X(0), PP, X(2)), even_q = AT_Q * plus(X(0), QQ, X(2));
        Y(0) = AT_0 * X(0);
        Y(1) = plus(even, AT_P * P, X(1)), Y(2) = minus(even, AT_P * P, X(1));
        Y(3) = plus(even_q, AT_Q * Q, X(1)), Y(4) = minus(even_q, AT_Q * Q, X(1));
        Y(5) = X(2);
    } else {
        vf even = AT_P * (X(1) + X(2)), even_q = AT_Q * (X(3) + X(4));
        Y(0) = plus(even, AT_0, X(0)) + even_q;
        Y(1) = plus(AT_P * P * (X(1) - X(2)), AT_Q * Q, X(3) - X(4));
        Y(2) = plus(plus(X(5), PP, even), QQ, even_q);
    }
#undef X
#undef Y
}

/* y[to][to] from x[from][from]: columns, then rows. */
INLINE void transform(step s, int from, int to, const vf *x, vf *y)
{
    vf half[POINTS];
#pragma GCC unroll 6
    for (int j = 0; j < from; j++) transform_line(s, x + j, from, half + j, from);
#pragma GCC unroll 6
    for (int i = 0; i < to; i++) transform_line(s, half + i * from, 1, y + i * to, 1);
}

/* ---- Tiles ---- */
typedef uint16_t vh __attribute__((vector_size(VL * 2)));
typedef uint16_t vh_memory __attribute__((vector_size(VL * 2), aligned(2), may_alias));

INLINE vf load_pixel(sid2_dtype type, const void *image, int64_t at)
{
    if (type == SID2_F32) return vload((const float *)image + at);
    vh half = *(const vh_memory *)((const uint16_t *)image + at);
    return (vf)(__builtin_convertvector(half, vu) << 16);
}

INLINE void store_pixel(sid2_dtype type, void *image, int64_t at, vf value)
{
    if (type == SID2_F32) {
        vstore((float *)image + at, value);
    } else {
#if defined(__AVX512BF16__)
        __m256bh half = _mm512_cvtneps_pbh((__m512)value);
        memcpy((uint16_t *)image + at, &half, sizeof half);
#else
        float line[VL];
        vstore(line, value);
        f32_to_bf16(line, (uint16_t *)image + at, VL);
#endif
    }
}

typedef struct image_tiles {
    const sid2_operand *image;
    int64_t height, width, channels, down, across, count; /* tiles */
    int64_t above, before; /* how far outside the image the pixels of its first tile begin */
} image_tiles;

static image_tiles tiles_of(const sid2_operand *t)
{
    const int64_t *size = t->shape.dim + t->shape.rank - 3;
    image_tiles g = {t, .height = size[0], .width = size[1], .channels = size[2], .above = 1, .before = 1};
    g.down = divide_up(g.height, STEP), g.across = divide_up(g.width, STEP);
    g.count = count(t) / (g.height * g.width * g.channels) * g.down * g.across;
    return g;
}

/* What a convolution reads, by the tiles of what it writes. */
static image_tiles input_of(const sid2_call *call, const image_tiles *y)
{
    image_tiles x = tiles_of(&call->in[0]);
    x.down = y->down, x.across = y->across, x.count = y->count;
    if (call->op == SID2_OP_conv3d) x.above = call->attr->before[1], x.before = call->attr->before[2];
    return x;
}

/* The pixels of a square of `side`, which a tile's own of the image begin or lie within; `zeros` outside. */
INLINE void find_pixels(const image_tiles *g, int64_t index, int side, const float *zeros, const void **at)
{
    const bool is_wide = side == SIDE;
    int64_t n = index / (g->down * g->across),
            pixel = g->channels * (int64_t)sid2_dtype_size(g->image->dtype);
    int64_t top = index / g->across % g->down * STEP - (is_wide ? g->above : 0),
            left = index % g->across * STEP - (is_wide ? g->before : 0);
    for (int64_t y = top; y < top + side; y++) {
        const char *row = (const char *)g->image->data + (n * g->height + y) * g->width * pixel;
        for (int64_t x = left; x < left + side; x++) {
            bool inside = y >= 0 && y < g->height && x >= 0 && x < g->width;
            *at++ = inside ? (const void *)(row + x * pixel) : zeros;
        }
    }
}

INLINE void read_tile_as(sid2_dtype type, step s, const image_tiles *g, int64_t index, const float *zeros,
                         float *to, int64_t pitch)
{
    const void *at[POINTS];
    const int side = s == IMAGE ? SIDE : STEP;
    find_pixels(g, index, side, zeros, at);
    for (int64_t c = 0; c < g->channels; c += VL) {
        vf pixel[POINTS], value[POINTS];
#pragma GCC unroll 36
        for (int i = 0; i < side * side; i++) pixel[i] = load_pixel(type, at[i], c);
        transform(s, side, SIDE, pixel, value);
#pragma GCC unroll 36
        for (int i = 0; i < POINTS; i++) vstore(to + i * pitch + c, value[i]);
        if (s == IMAGE) continue;
        vf sum = {0};
#pragma GCC unroll 4
        for (int i = 0; i < STEP; i++) sum += (pixel[i] + pixel[i + 4]) + (pixel[i + 8] + pixel[i + 12]);
        vstore(to + POINTS * pitch + c, sum);
    }
}

/* A tile's values at the points: to[point * pitch + channel]. IMAGE reads 6 x 6 pixels, OUTPUT_GRADIENT 4 x
 * 4, and their sums as one point more. */
INLINE void read_tile(step s, const image_tiles *g, int64_t index, const float *zeros, float *to,
                      int64_t pitch)
{
    if (g->image->dtype == SID2_F32)
        read_tile_as(SID2_F32, s, g, index, zeros, to, pitch);
    else
        read_tile_as(SID2_BF16, s, g, index, zeros, to, pitch);
}

INLINE void write_tile_as(sid2_dtype type, const image_tiles *g, int64_t index, const float *from,
                          int64_t pitch, const float *bias, const sid2_operand *residual, bool rectify)
{
    int64_t n = index / (g->down * g->across), channels = g->channels;
    int64_t top = index / g->across % g->down * STEP, left = index % g->across * STEP;
    int64_t rows = min64(STEP, g->height - top), columns = min64(STEP, g->width - left);
    int64_t first_pixel = ((n * g->height + top) * g->width + left) * channels;
    void *image = g->image->data;
    const void *other = residual->data;
    for (int64_t c = 0; c < channels; c += VL) {
        vf value[POINTS], pixel[STEP * STEP], b = bias ? vload(bias + c) : (vf){0};
#pragma GCC unroll 36
        for (int i = 0; i < POINTS; i++) value[i] = vload(from + i * pitch + c);
        transform(OUTPUT, SIDE, STEP, value, pixel);
#pragma GCC unroll 4
        for (int y = 0; y < STEP; y++) {
            int64_t at = first_pixel + y * g->width * channels + c;
            if (y >= rows) break;
#pragma GCC unroll 4
            for (int x = 0; x < STEP; x++, at += channels) {
                if (x >= columns) break;
                vf sum = pixel[y * STEP + x] + b;
                if (rectify) sum = vless(sum, (vf){0}, (vf){0}, sum);
                store_pixel(type, image, at, other ? sum + load_pixel(type, other, at) : sum);
            }
        }
    }
}

/* The tile's pixels from its values, with bias (NULL: none) and residual. */
INLINE void write_tile(const image_tiles *g, int64_t index, const float *from, int64_t pitch,
                       const float *bias, const sid2_operand *residual, bool rectify)
{
    if (g->image->dtype == SID2_F32)
        write_tile_as(SID2_F32, g, index, from, pitch, bias, residual, rectify);
    else
        write_tile_as(SID2_BF16, g, index, from, pitch, bias, residual, rectify);
}

/* Rows of a matrix a multiple of 4 KiB apart would share few lines of the first-level cache. */
static int64_t pitch_of(int64_t tiles, int64_t channels) { return tiles * channels + 16; }

/* ---- The convolution and its gradient by the input ---- */
typedef struct filters {
    float *value; /* [point][in][out] */
    size_t bytes;
    uint64_t version;
    bool known;
} filters;

/* The taps of VL ins by VL outs: to[tap][in][out], read in lines as w[o, tap, c] lies; turned round, for the gradient
 * by the input, where o is what goes in. */
static void read_taps(const sid2_operand *w, bool turned, int64_t in, int64_t out, float *to)
{
    int64_t channels = last(w), filter = 9 * channels;
    for (int tap = 0; tap < 9; tap++, to += VL * VL) {
        float square[VL * VL], *lines = turned ? to : square;
        int64_t at = turned ? in * filter + (8 - tap) * channels + out : out * filter + tap * channels + in;
        for (int i = 0; i < VL; i++) vstore(lines + i * VL, load_pixel(w->dtype, w->data, at + i * filter));
        if (!turned) transpose_square(square, VL, to, VL);
    }
}

/* VL outs of all filters: to[point * pitch + in * row]. */
static void transform_outs(const sid2_call *call, int64_t out, float *to, int64_t pitch, int64_t row)
{
    bool turned = call->op == SID2_OP_conv2d_dgrad;
    int64_t ins = last(&call->in[0]);
    for (int64_t in = 0; in < ins; in += VL) {
        float taps[9 * VL * VL];
        read_taps(&call->in[1], turned, in, out, taps);
        for (int64_t k = 0; k < VL; k++, to += row) {
            vf tap[9], value[POINTS];
            for (int i = 0; i < 9; i++) tap[i] = vload(taps + (i * VL + k) * VL);
            transform(FILTER, 3, SIDE, tap, value);
            for (int i = 0; i < POINTS; i++) vstore(to + i * pitch, value[i]);
        }
    }
}

static void transform_filters(sid2_call *call)
{
    filters *f = call->state;
    const sid2_operand *w = &call->in[1];
    if (w->version && f->known && f->version == *w->version) return;
    int64_t ins = last(&call->in[0]), outs = last(&call->out[0]);
#pragma omp parallel for num_threads(call->threads) schedule(static)
    for (int64_t out = 0; out < outs; out += VL) transform_outs(call, out, f->value + out, ins * outs, outs);
    f->known = true;
    if (w->version) f->version = *w->version;
}

static const sid2_operand *residual_of(const sid2_call *call)
{
    static const sid2_operand none;
    return call->op == SID2_OP_conv3d ? &none : &call->in[call->op == SID2_OP_conv2d ? 3 : 2];
}

/* Tiles at a time. The result does not depend on it, so that every thread may have its share. */
static int64_t block_of(const sid2_call *call, int64_t tiles)
{
    return divide_up(tiles, round_up(divide_up(tiles, BLOCK), call->threads));
}

static int64_t work_floats(int64_t ins, int64_t outs)
{
    return round_up(POINTS * (pitch_of(BLOCK, ins) + pitch_of(BLOCK, outs)) + ins, 16);
}

static int64_t slice_floats(int64_t ins) { return POINTS * ins * VL; }

static void run_product(sid2_call *call)
{
    transform_filters(call);
    const filters *f = call->state;
    const sid2_operand *residual = residual_of(call);
    const float *bias = call->op == SID2_OP_conv2d_dgrad ? NULL : call->in[2].data;
    const bool rectify = call->op == SID2_OP_conv3d && call->attr->rectify;
    image_tiles y = tiles_of(&call->out[0]), x = input_of(call, &y);
    int64_t ins = x.channels, outs = y.channels, block = block_of(call, x.count);
    int64_t x_pitch = pitch_of(block, ins), y_pitch = pitch_of(block, outs);
#pragma omp parallel num_threads(call->threads)
    {
        float *zeros = (float *)call->scratch + thread_index() * work_floats(ins, outs);
        float *from = zeros + ins, *to = from + POINTS * x_pitch;
        memset(zeros, 0, (size_t)ins * sizeof *zeros);
#pragma omp for schedule(dynamic)
        for (int64_t begin = 0; begin < x.count; begin += block) {
            int64_t tiles = min64(block, x.count - begin);
            for (int64_t i = 0; i < tiles; i++)
                read_tile(IMAGE, &x, begin + i, zeros, from + i * ins, x_pitch);
            for (int64_t i = 0; i < POINTS; i++) {
                tile t = {.a = from + i * x_pitch, .b = f->value + i * ins * outs, .c = to + i * y_pitch};
                t.lda = t.depth = ins, t.ldb = t.ldc = outs;
                tile_multiply(&t, tiles, outs);
            }
            for (int64_t i = 0; i < tiles; i++)
                write_tile(&y, begin + i, to + i * outs, y_pitch, bias, residual, rectify);
        }
    }
}

/* The same of few tiles and many channels: filters are evaluated for VL outs at a time and used at once, from the
 * second-level cache. To keep their values, four times the weights, and to fetch them again would take longer. */
static void run_few(sid2_call *call)
{
    const sid2_operand *residual = residual_of(call);
    const float *bias = call->op == SID2_OP_conv2d_dgrad ? NULL : call->in[2].data;
    const bool rectify = call->op == SID2_OP_conv3d && call->attr->rectify;
    image_tiles y = tiles_of(&call->out[0]), x = input_of(call, &y);
    int64_t ins = x.channels, outs = y.channels, tiles = x.count;
    int64_t x_pitch = pitch_of(tiles, ins), y_pitch = pitch_of(tiles, outs);
    float *zeros = call->scratch, *from = zeros + ins, *to = from + POINTS * x_pitch;
    memset(zeros, 0, (size_t)ins * sizeof *zeros);
#pragma omp parallel num_threads(call->threads)
    {
        float *slice = (float *)call->scratch + work_floats(ins, outs) + thread_index() * slice_floats(ins);
#pragma omp for schedule(static)
        for (int64_t i = 0; i < tiles; i++) read_tile(IMAGE, &x, i, zeros, from + i * ins, x_pitch);
#pragma omp for schedule(dynamic)
        for (int64_t out = 0; out < outs; out += VL) {
            transform_outs(call, out, slice, ins * VL, VL);
            for (int64_t i = 0; i < POINTS; i++) {
                tile t = {.a = from + i * x_pitch, .b = slice + i * ins * VL, .c = to + i * y_pitch + out};
                t.lda = t.depth = ins, t.ldb = VL, t.ldc = outs;
                tile_multiply(&t, tiles, VL);
            }
        }
#pragma omp for schedule(static)
        for (int64_t i = 0; i < tiles; i++)
            write_tile(&y, i, to + i * outs, y_pitch, bias, residual, rectify);
    }
}

/* ---- The gradient by the weights ---- */
/* From the values of an out's filters at the points, which are `pitch` apart. */
static void add_filters(const float *sum, int64_t pitch, int64_t o, int64_t ins, float *dw)
{
    for (int64_t c = 0; c < ins; c += VL) {
        vf value[POINTS], tap[9];
#pragma GCC unroll 36
        for (int i = 0; i < POINTS; i++) value[i] = vload(sum + i * pitch + c);
        transform(FILTER_GRADIENT, SIDE, 3, value, tap);
        for (int i = 0; i < 9; i++) {
            float *at = dw + (o * 9 + i) * ins + c;
            vstore(at, vload(at) + tap[i]);
        }
    }
}

/* dbias += the tiles' sums. */
static void add_bias(const float *sum, int64_t tiles, int64_t outs, float *dbias)
{
    for (int64_t o = 0; o < outs; o += VL) {
        vf total = {0};
        for (int64_t i = 0; i < tiles; i++) total += vload(sum + i * outs + o);
        vstore(dbias + o, vload(dbias + o) + total);
    }
}

static void run_wgrad(sid2_call *call)
{
    enum { ROWS = 48 };
    image_tiles x = tiles_of(&call->in[0]), dy = tiles_of(&call->in[1]);
    int64_t ins = x.channels, outs = dy.channels, block = min64(SUM_BLOCK, x.count);
    int64_t x_pitch = pitch_of(block, ins), dy_pitch = pitch_of(block, outs);
    float *zeros = call->scratch, *sum = zeros + round_up(max64(ins, outs), 16);
    float *image = sum + POINTS * ins * outs, *gradient = image + POINTS * x_pitch;
    memset(zeros, 0, (size_t)max64(ins, outs) * sizeof *zeros);
#pragma omp parallel num_threads(call->threads)
    {
        for (int64_t begin = 0; begin < x.count; begin += block) {
            int64_t tiles = min64(block, x.count - begin);
#pragma omp for schedule(static)
            for (int64_t i = 0; i < tiles; i++) {
                read_tile(IMAGE, &x, begin + i, zeros, image + i * ins, x_pitch);
                read_tile(OUTPUT_GRADIENT, &dy, begin + i, zeros, gradient + i * outs, dy_pitch);
            }
#pragma omp single nowait
            if (call->out[1].data) add_bias(gradient + POINTS * dy_pitch, tiles, outs, call->out[1].data);
#pragma omp for schedule(static) collapse(2)
            for (int64_t i = 0; i < POINTS; i++)
                for (int64_t o = 0; o < outs; o += ROWS) {
                    tile t = {.a = gradient + i * dy_pitch + o, .b = image + i * x_pitch};
                    t.c = sum + (i * outs + o) * ins;
                    t.lda = outs, t.ldb = t.ldc = t.start_pitch = ins, t.depth = tiles;
                    t.start = begin > 0 ? t.c : NULL;
                    tile_multiply_transposed(&t, min64(ROWS, outs - o), ins);
                }
        }
#pragma omp for schedule(static)
        for (int64_t o = 0; o < outs; o++) add_filters(sum + o * ins, outs * ins, o, ins, call->out[0].data);
    }
}

/* The same of few tiles: as many outs at a time as leave the sums in the second-level cache. */
static void run_wgrad_few(sid2_call *call)
{
    image_tiles x = tiles_of(&call->in[0]), dy = tiles_of(&call->in[1]);
    int64_t ins = x.channels, outs = dy.channels, tiles = x.count;
    int64_t x_pitch = pitch_of(tiles, ins), dy_pitch = pitch_of(tiles, outs);
    float *zeros = call->scratch, *image = zeros + round_up(max64(ins, outs), 16);
    float *gradient = image + POINTS * x_pitch, *sums = gradient + (POINTS + 1) * dy_pitch;
    memset(zeros, 0, (size_t)max64(ins, outs) * sizeof *zeros);
#pragma omp parallel num_threads(call->threads)
    {
        float *sum = sums + thread_index() * POINTS * FEW_OUTS * ins;
#pragma omp for schedule(static)
        for (int64_t i = 0; i < tiles; i++) {
            read_tile(IMAGE, &x, i, zeros, image + i * ins, x_pitch);
            read_tile(OUTPUT_GRADIENT, &dy, i, zeros, gradient + i * outs, dy_pitch);
        }
#pragma omp single nowait
        if (call->out[1].data) add_bias(gradient + POINTS * dy_pitch, tiles, outs, call->out[1].data);
#pragma omp for schedule(dynamic)
        for (int64_t out = 0; out < outs; out += FEW_OUTS) {
            int64_t rows = min64(FEW_OUTS, outs - out);
            for (int64_t i = 0; i < POINTS; i++) {
                tile t = {.a = gradient + i * dy_pitch + out, .b = image + i * x_pitch};
                t.c = sum + i * FEW_OUTS * ins;
                t.lda = outs, t.ldb = t.ldc = ins, t.depth = tiles;
                tile_multiply_transposed(&t, rows, ins);
            }
            for (int64_t o = 0; o < rows; o++)
                add_filters(sum + o * ins, FEW_OUTS * ins, out + o, ins, call->out[0].data);
        }
    }
}

/* ---- Choice ---- */
static size_t filter_bytes(int64_t ins, int64_t outs)
{
    return sizeof(float) * (size_t)(POINTS * ins * outs);
}

/* Whether all tiles are one block, and filters' values more than the second-level cache has. */
static bool are_few(const sid2_call *call)
{
    if (call->op == SID2_OP_conv2d_wgrad) return tiles_of(&call->in[0]).count <= SUM_BLOCK;
    return tiles_of(&call->out[0]).count <= BLOCK &&
           filter_bytes(last(&call->in[0]), last(&call->out[0])) > NEAR_BYTES;
}

static void run_convolution(sid2_call *call) { are_few(call) ? run_few(call) : run_product(call); }
static void run_gradient(sid2_call *call) { are_few(call) ? run_wgrad_few(call) : run_wgrad(call); }

/* Of 3 x 3 taps, in steps of one pixel. */
static bool is_square(const sid2_call *call, const sid2_operand *w)
{
    const int64_t *dim = w->shape.dim;
    if (call->op != SID2_OP_conv3d) return dim[1] == 3;
    const sid2_attr *a = call->attr;
    bool moves_by_one = a->stride[0] == 1 && a->stride[1] == 1 && a->stride[2] == 1;
    return dim[1] == 1 && dim[2] == 3 && dim[3] == 3 && moves_by_one && !a->before[0] && !a->after[0];
}

/* Whether it pays: enough channels for the products to outweigh the transforms, tiles that are mostly inside
 * the image, and enough of them for the filters' values (four times the weights) to be used often. */
static bool pays(const sid2_call *call)
{
    bool wgrad = call->op == SID2_OP_conv2d_wgrad;
    const sid2_operand *x = &call->in[0], *y = wgrad ? &call->in[1] : &call->out[0];
    const sid2_operand *w = wgrad ? &call->out[0] : &call->in[1];
    const sid2_operand *residual = residual_of(call);
    if (!is_square(call, w) || (residual->data && residual->dtype != y->dtype)) return false;
    int64_t ins = last(x), outs = last(y), least = max64(VL, LEAST_CHANNELS);
    image_tiles g = tiles_of(call->op == SID2_OP_conv3d ? y : x);
    if (call->op == SID2_OP_conv3d) g.count = g.down * g.across; /* the same way for any batch */
    return ins % VL == 0 && outs % VL == 0 && ins >= least && outs >= least &&
           filter_bytes(ins, outs) <= MOST_BYTES &&
           2 * g.height * g.width >= g.down * g.across * STEP * STEP && g.count >= LEAST_TILES;
}

static bool prepare(sid2_call *call, sid2_error *err)
{
    if (!pays(call)) return sid2_fail(err, SID2_ERR_UNSUPPORTED, "%s: not this way", sid2_op_name(call->op));
    int64_t ins = last(&call->in[0]);
    if (call->op == SID2_OP_conv2d_wgrad) {
        int64_t outs = last(&call->in[1]), block = min64(SUM_BLOCK, tiles_of(&call->in[0]).count);
        int64_t sums = POINTS * ins * (are_few(call) ? call->threads * FEW_OUTS : outs);
        int64_t floats = round_up(max64(ins, outs), 16) + POINTS * pitch_of(block, ins) +
                         (POINTS + 1) * pitch_of(block, outs) + sums;
        call->scratch_bytes = (size_t)floats * sizeof(float);
        return true;
    }
    int64_t outs = last(&call->out[0]);
    if (are_few(call)) {
        int64_t floats = work_floats(ins, outs) + call->threads * slice_floats(ins);
        call->scratch_bytes = (size_t)floats * sizeof(float);
        return true;
    }
    filters *f = calloc(1, sizeof *f);
    if (f) {
        f->bytes = filter_bytes(ins, outs);
        f->value = aligned_alloc(64, f->bytes);
    }
    if (!f || !f->value) {
        free(f);
        return sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory for the filters", sid2_op_name(call->op));
    }
    call->state = f;
    call->scratch_bytes = (size_t)call->threads * (size_t)work_floats(ins, outs) * sizeof(float);
    return true;
}

static void release(sid2_call *call)
{
    filters *f = call->state;
    if (f) free(f->value);
    free(f);
    call->state = NULL;
}

static size_t owned(const sid2_call *call) { return call->state ? ((const filters *)call->state)->bytes : 0; }

#define KERNEL(run_)                                                                                         \
    {                                                                                                        \
        .run = run_, .prepare = prepare, .release = release, .owned = owned                                  \
    }
const sid2_kernel FAST(ahead)[SID2_OP_COUNT] = {
    [SID2_OP_conv2d] = KERNEL(run_convolution),
    [SID2_OP_conv3d] = KERNEL(run_convolution),
    [SID2_OP_conv2d_dgrad] = KERNEL(run_convolution),
    [SID2_OP_conv2d_wgrad] = KERNEL(run_gradient),
};
