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
 * the usual 0, +-1, +-2 have four times the error. These have twice that of the plain sum. */
#include "fast_tile.h"

#include <stdlib.h>

enum { STEP = 4, SIDE = 6, POINTS = SIDE * SIDE };
enum { BLOCK_BYTES = 512 << 10, SUM_BLOCK_BYTES = 2 << 20, LEAST_CHANNELS = 16, MOST_BYTES = 16 << 20 };

#define P    0.625f /* the points; their squares are exact, too */
#define Q    1.5f
#define PP   (P * P)
#define QQ   (Q * Q)
#define AT_0 (1.0f / (PP * QQ)) /* G's scale at 0, +-P and +-Q */
#define AT_P (1.0f / (2.0f * PP * (PP - QQ)))
#define AT_Q (1.0f / (2.0f * QQ * (QQ - PP)))

/* ---- Transforms ----------------------------------------------------------------------------------- */
typedef enum step { IMAGE, OUTPUT, OUTPUT_GRADIENT, FILTER, FILTER_GRADIENT } step;

/* One line: 6 -> 6 by B^T, 6 -> 4 by A^T, 4 -> 6 by A, 3 -> 6 by G, 6 -> 3 by G^T. */
INLINE void transform_line(step s, const vf *x, int x_step, vf *y, int y_step)
{
#define X(i) x[(i)*x_step]
#define Y(i) y[(i)*y_step]
    if (s == IMAGE) {
        vf even = X(4) - QQ * X(2), odd = P * (X(3) - QQ * X(1));
        vf even_q = X(4) - PP * X(2), odd_q = Q * (X(3) - PP * X(1));
        Y(0) = X(4) - (PP + QQ) * X(2) + PP * QQ * X(0);
        Y(1) = even + odd, Y(2) = even - odd;
        Y(3) = even_q + odd_q, Y(4) = even_q - odd_q;
        Y(5) = X(5) - (PP + QQ) * X(3) + PP * QQ * X(1);
    } else if (s == OUTPUT) {
        vf even = X(1) + X(2), odd = P * (X(1) - X(2)), even_q = X(3) + X(4), odd_q = Q * (X(3) - X(4));
        Y(0) = X(0) + even + even_q;
        Y(1) = odd + odd_q;
        Y(2) = PP * even + QQ * even_q;
        Y(3) = X(5) + PP * odd + QQ * odd_q;
    } else if (s == OUTPUT_GRADIENT) {
        vf even = X(0) + PP * X(2), odd = P * (X(1) + PP * X(3));
        vf even_q = X(0) + QQ * X(2), odd_q = Q * (X(1) + QQ * X(3));
        Y(0) = X(0);
        Y(1) = even + odd, Y(2) = even - odd;
        Y(3) = even_q + odd_q, Y(4) = even_q - odd_q;
        Y(5) = X(3);
    } else if (s == FILTER) {
        vf even = AT_P * (X(0) + PP * X(2)), odd = AT_P * P * X(1);
        vf even_q = AT_Q * (X(0) + QQ * X(2)), odd_q = AT_Q * Q * X(1);
        Y(0) = AT_0 * X(0);
        Y(1) = even + odd, Y(2) = even - odd;
        Y(3) = even_q + odd_q, Y(4) = even_q - odd_q;
        Y(5) = X(2);
    } else {
        vf even = AT_P * (X(1) + X(2)), even_q = AT_Q * (X(3) + X(4));
        Y(0) = AT_0 * X(0) + even + even_q;
        Y(1) = AT_P * P * (X(1) - X(2)) + AT_Q * Q * (X(3) - X(4));
        Y(2) = X(5) + PP * even + QQ * even_q;
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

/* ---- Tiles ---------------------------------------------------------------------------------------- */
typedef struct image_tiles {
    int64_t height, width, down, across, count; /* tiles */
} image_tiles;

static image_tiles tiles_of(const sid2_cpu_tensor *t)
{
    int rank = t->shape.rank;
    image_tiles g = {.height = t->shape.dim[rank - 3], .width = t->shape.dim[rank - 2]};
    g.down = divide_up(g.height, STEP), g.across = divide_up(g.width, STEP);
    g.count = count(t) / (g.height * g.width * last(t)) * g.down * g.across;
    return g;
}

/* The pixels of a square of `side`, `margin` to the left of and above a tile's first; `zeros` outside. */
INLINE void find_pixels(const image_tiles *g, int64_t index, int side, int margin, const float *image,
                        int64_t channels, const float *zeros, const float **at)
{
    int64_t n = index / (g->down * g->across);
    int64_t top = index / g->across % g->down * STEP - margin, left = index % g->across * STEP - margin;
    for (int64_t y = top; y < top + side; y++)
        for (int64_t x = left; x < left + side; x++) {
            bool inside = y >= 0 && y < g->height && x >= 0 && x < g->width;
            *at++ = inside ? image + ((n * g->height + y) * g->width + x) * channels : zeros;
        }
}

/* A tile's values at the points: to[point * pitch + channel]. IMAGE reads 6 x 6 pixels, OUTPUT_GRADIENT 4 x
 * 4, and their sums as one point more. */
INLINE void read_tile(step s, const image_tiles *g, int64_t index, const float *image, int64_t channels,
                      const float *zeros, float *to, int64_t pitch)
{
    const float *at[POINTS];
    const int side = s == IMAGE ? SIDE : STEP;
    find_pixels(g, index, side, s == IMAGE ? 1 : 0, image, channels, zeros, at);
    for (int64_t c = 0; c < channels; c += VL) {
        vf pixel[POINTS], value[POINTS];
#pragma GCC unroll 36
        for (int i = 0; i < side * side; i++) pixel[i] = vload(at[i] + c);
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

/* The tile's pixels from its values, with bias and residual (NULL: none). */
static void write_tile(const image_tiles *g, int64_t index, const float *from, int64_t pitch,
                       int64_t channels, const float *bias, const float *residual, float *image)
{
    int64_t n = index / (g->down * g->across);
    int64_t top = index / g->across % g->down * STEP, left = index % g->across * STEP;
    int64_t rows = min64(STEP, g->height - top), columns = min64(STEP, g->width - left);
    int64_t first_pixel = ((n * g->height + top) * g->width + left) * channels;
    for (int64_t c = 0; c < channels; c += VL) {
        vf value[POINTS], pixel[STEP * STEP], b = bias ? vload(bias + c) : (vf){0};
#pragma GCC unroll 36
        for (int i = 0; i < POINTS; i++) value[i] = vload(from + i * pitch + c);
        transform(OUTPUT, SIDE, STEP, value, pixel);
#pragma GCC unroll 16
        for (int i = 0; i < STEP * STEP; i++) {
            int64_t at = first_pixel + (i / STEP * g->width + i % STEP) * channels + c;
            if (i / STEP >= rows || i % STEP >= columns) continue;
            vf y = pixel[i] + b;
            vstore(image + at, residual ? y + vload(residual + at) : y);
        }
    }
}

/* Rows of a matrix a multiple of 4 KiB apart would share few lines of the first-level cache. */
static int64_t pitch_of(int64_t tiles, int64_t channels) { return tiles * channels + 16; }

/* ---- The convolution and its gradient by the input ------------------------------------------------- */
typedef struct filters {
    float *value; /* [point][in][out] */
    size_t bytes;
    uint64_t version;
    bool known;
} filters;

/* Reads w[..] of a pair of channels at in * in_step + out * out_step. */
static void transform_filters(sid2_cpu_call *call)
{
    filters *f = call->state;
    const sid2_cpu_tensor *w = &call->in[1];
    if (w->version && f->known && f->version == *w->version) return;
    bool turned = call->op == SID2_OP_conv2d_dgrad;
    int64_t ins = last(&call->in[0]), outs = last(&call->out[0]), channels = last(w), filter = 9 * channels;
    int64_t in_step = turned ? filter : 1, out_step = turned ? 1 : filter;
#pragma omp parallel for num_threads(call->threads) schedule(static) collapse(2)
    for (int64_t in = 0; in < ins; in++)
        for (int64_t out = 0; out < outs; out += VL) {
            const float *from = (const float *)w->data + in * in_step + out * out_step;
            vf tap[9], value[POINTS];
            for (int i = 0; i < 9; i++)
                for (int k = 0; k < VL; k++) tap[i][k] = from[k * out_step + (turned ? 8 - i : i) * channels];
            transform(FILTER, 3, SIDE, tap, value);
            for (int i = 0; i < POINTS; i++) vstore(f->value + (i * ins + in) * outs + out, value[i]);
        }
    f->known = true;
    if (w->version) f->version = *w->version;
}

static int64_t block_of(int64_t ins, int64_t outs)
{
    return min64(64, max64(24, BLOCK_BYTES / (POINTS * 4 * (ins + outs)) / 6 * 6));
}

static int64_t work_floats(int64_t ins, int64_t outs)
{
    int64_t block = block_of(ins, outs);
    return round_up(POINTS * (pitch_of(block, ins) + pitch_of(block, outs)) + ins, 16);
}

static void run_product(sid2_cpu_call *call)
{
    transform_filters(call);
    const filters *f = call->state;
    const sid2_cpu_tensor *x = &call->in[0], *y = &call->out[0];
    bool forward = call->op == SID2_OP_conv2d;
    const float *bias = forward ? call->in[2].data : NULL, *residual = call->in[forward ? 3 : 2].data;
    int64_t ins = last(x), outs = last(y), block = block_of(ins, outs);
    int64_t x_pitch = pitch_of(block, ins), y_pitch = pitch_of(block, outs);
    image_tiles g = tiles_of(x);
#pragma omp parallel num_threads(call->threads)
    {
        float *zeros = (float *)call->scratch + thread_index() * work_floats(ins, outs);
        float *from = zeros + ins, *to = from + POINTS * x_pitch;
        memset(zeros, 0, (size_t)ins * sizeof *zeros);
#pragma omp for schedule(dynamic)
        for (int64_t begin = 0; begin < g.count; begin += block) {
            int64_t tiles = min64(block, g.count - begin);
            for (int64_t i = 0; i < tiles; i++)
                read_tile(IMAGE, &g, begin + i, x->data, ins, zeros, from + i * ins, x_pitch);
            for (int64_t i = 0; i < POINTS; i++) {
                tile t = {.a = from + i * x_pitch, .b = f->value + i * ins * outs, .c = to + i * y_pitch};
                t.lda = t.depth = ins, t.ldb = t.ldc = outs;
                tile_multiply(&t, tiles, outs);
            }
            for (int64_t i = 0; i < tiles; i++)
                write_tile(&g, begin + i, to + i * outs, y_pitch, outs, bias, residual, y->data);
        }
    }
}

/* ---- The gradient by the weights -------------------------------------------------------------------- */
static int64_t sum_block_of(int64_t ins, int64_t outs, int64_t tiles)
{
    return min64(tiles, max64(32, SUM_BLOCK_BYTES / (POINTS * 4 * (ins + outs)) / 32 * 32));
}

static void add_filters(const float *sum, int64_t o, int64_t outs, int64_t ins, float *dw)
{
    for (int64_t c = 0; c < ins; c += VL) {
        vf value[POINTS], tap[9];
#pragma GCC unroll 36
        for (int i = 0; i < POINTS; i++) value[i] = vload(sum + (i * outs + o) * ins + c);
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

static void run_wgrad(sid2_cpu_call *call)
{
    enum { ROWS = 48 };
    const sid2_cpu_tensor *x = &call->in[0], *dy = &call->in[1];
    image_tiles g = tiles_of(x);
    int64_t ins = last(x), outs = last(dy), block = sum_block_of(ins, outs, g.count);
    int64_t x_pitch = pitch_of(block, ins), dy_pitch = pitch_of(block, outs);
    float *zeros = call->scratch, *sum = zeros + round_up(max64(ins, outs), 16);
    float *image = sum + POINTS * ins * outs, *gradient = image + POINTS * x_pitch;
    memset(zeros, 0, (size_t)max64(ins, outs) * sizeof *zeros);
#pragma omp parallel num_threads(call->threads)
    {
        for (int64_t begin = 0; begin < g.count; begin += block) {
            int64_t tiles = min64(block, g.count - begin);
#pragma omp for schedule(static)
            for (int64_t i = 0; i < tiles; i++) {
                read_tile(IMAGE, &g, begin + i, x->data, ins, zeros, image + i * ins, x_pitch);
                read_tile(OUTPUT_GRADIENT, &g, begin + i, dy->data, outs, zeros, gradient + i * outs,
                          dy_pitch);
            }
#pragma omp single nowait
            if (call->out[1].data) add_bias(gradient + POINTS * dy_pitch, tiles, outs, call->out[1].data);
#pragma omp for schedule(static) collapse(2)
            for (int64_t i = 0; i < POINTS; i++)
                for (int64_t o = 0; o < outs; o += ROWS) {
                    tile t = {.a = gradient + i * dy_pitch + o, .b = image + i * x_pitch};
                    t.c = sum + (i * outs + o) * ins;
                    t.lda = outs, t.ldb = t.ldc = ins, t.depth = tiles, t.add = begin > 0;
                    tile_multiply_transposed(&t, min64(ROWS, outs - o), ins);
                }
        }
#pragma omp for schedule(static)
        for (int64_t o = 0; o < outs; o++) add_filters(sum, o, outs, ins, call->out[0].data);
    }
}

/* ---- Choice ---------------------------------------------------------------------------------------- */
/* Whether it pays: enough channels for the products to outweigh the transforms, tiles that are mostly inside
 * the image, and enough of them for the filters' values (four times the weights) to be used often. */
static bool pays(const sid2_cpu_call *call)
{
    bool wgrad = call->op == SID2_OP_conv2d_wgrad;
    const sid2_cpu_tensor *x = &call->in[0], *y = wgrad ? &call->in[1] : &call->out[0];
    const sid2_cpu_tensor *w = wgrad ? &call->out[0] : &call->in[1];
    const sid2_cpu_tensor *residual = &call->in[call->op == SID2_OP_conv2d ? 3 : 2];
    if (w->shape.dim[1] != 3 || x->dtype != SID2_F32 || y->dtype != SID2_F32 || w->dtype != SID2_F32 ||
        (!wgrad && residual->data && residual->dtype != SID2_F32))
        return false;
    int64_t ins = last(x), outs = last(y), least = max64(VL, LEAST_CHANNELS);
    image_tiles g = tiles_of(x);
    return ins % VL == 0 && outs % VL == 0 && ins >= least && outs >= least &&
           POINTS * ins * outs * 4 <= MOST_BYTES &&
           2 * g.height * g.width >= g.down * g.across * STEP * STEP && g.count >= 8;
}

static bool prepare(sid2_cpu_call *call, sid2_error *err)
{
    if (!pays(call)) return sid2_fail(err, SID2_ERR_UNSUPPORTED, "%s: not this way", sid2_op_name(call->op));
    int64_t ins = last(&call->in[0]);
    if (call->op == SID2_OP_conv2d_wgrad) {
        int64_t outs = last(&call->in[1]), block = sum_block_of(ins, outs, tiles_of(&call->in[0]).count);
        int64_t floats = round_up(max64(ins, outs), 16) + POINTS * (ins * outs + pitch_of(block, ins)) +
                         (POINTS + 1) * pitch_of(block, outs);
        call->scratch_bytes = (size_t)floats * sizeof(float);
        return true;
    }
    int64_t outs = last(&call->out[0]);
    filters *f = calloc(1, sizeof *f);
    if (f) {
        f->bytes = (size_t)(POINTS * ins * outs) * sizeof(float);
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

static void release(sid2_cpu_call *call)
{
    filters *f = call->state;
    if (f) free(f->value);
    free(f);
    call->state = NULL;
}

static size_t owned(const sid2_cpu_call *call)
{
    return call->state ? ((const filters *)call->state)->bytes : 0;
}

#define KERNEL(run_)                                                                                         \
    {                                                                                                        \
        .run = run_, .prepare = prepare, .release = release, .owned = owned                                  \
    }
const sid2_cpu_kernel FAST(winograd)[SID2_OP_COUNT] = {
    [SID2_OP_conv2d] = KERNEL(run_product),
    [SID2_OP_conv2d_dgrad] = KERNEL(run_product),
    [SID2_OP_conv2d_wgrad] = KERNEL(run_wgrad),
};
