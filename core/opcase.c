#include "opcase.h"

#include "normal.h"

#include <string.h>

/* ---- Drawing ---- */

enum { STREAM = 0x6f70 }; /* apart from the model's own, SID2_PURPOSE_... */

uint32_t sid2_draw_word(sid2_draw *d) { return sid2_philox_word(d->seed, d->sample, STREAM, d->next++); }
double sid2_draw_uniform(sid2_draw *d) { return (double)sid2_uniform(sid2_draw_word(d)); }

double sid2_draw_normal(sid2_draw *d)
{
    float pair[2];
    sid2_philox_block block = sid2_philox(d->seed, d->sample, STREAM + 1, (uint32_t)d->next++);
    sid2_normal_pair(block.word[0], block.word[1], pair);
    return (double)pair[0];
}

typedef struct maker {
    sid2_draw *draw;
    sid2_opcase *c;
    sid2_dtype low;     /* the compute type */
    int64_t wide, tall; /* factors on the most channels and rows: 1, in a few cases more, for whatever
                           kernels do only with large tensors */
} maker;

static int64_t between(maker *m, int64_t low, int64_t high)
{
    return low + sid2_draw_word(m->draw) % (uint32_t)(high - low + 1);
}

static bool chance(maker *m, double p) { return sid2_draw_uniform(m->draw) < p; }

/* An extent up to `most`: often 1 or tiny, often just beside a vector's or a block's width, else anything. */
static int64_t extent(maker *m, int64_t most)
{
    static const int16_t awkward[] = {7,  8,  13, 15, 16, 17, 24,  31,  32,
                                      33, 48, 63, 64, 65, 96, 127, 128, 129};
    static const int16_t large[] = {255, 256, 257, 511, 512, 513, 640, 1023, 1024, 1025, 1280};
    int64_t n = 0;
    switch (between(m, 0, 5)) {
    case 0: n = 1; break;
    case 1: n = between(m, 2, 6); break;
    case 2: n = awkward[between(m, 0, sizeof awkward / sizeof *awkward - 1)]; break;
    case 3:
        n = most < 500 ? awkward[between(m, 0, sizeof awkward / sizeof *awkward - 1)]
                       : large[between(m, 0, sizeof large / sizeof *large - 1)];
        break;
    }
    return n && n <= most ? n : between(m, 1, most);
}

static int64_t channels(maker *m, int64_t most) { return extent(m, most * m->wide); }

/* rank - 1 leading extents of at most `rows` (as a rule) elements together, then `width`. */
static sid2_shape shape_of(maker *m, int rank, int64_t rows, int64_t width)
{
    sid2_shape shape = {.rank = rank};
    rows *= m->tall;
    for (int i = 0; i < rank - 1; i++) {
        shape.dim[i] = extent(m, rows < 1 ? 1 : rows);
        rows /= shape.dim[i];
    }
    shape.dim[rank - 1] = width;
    return shape;
}

static int64_t last(sid2_shape s) { return s.dim[s.rank - 1]; }
static int64_t rows_of(sid2_shape s) { return sid2_shape_count(s) / last(s); }
static int64_t rows_per_sample(sid2_shape s) { return rows_of(s) / s.dim[0]; }

static sid2_shape with_last(sid2_shape s, int64_t extent_)
{
    s.dim[s.rank - 1] = extent_;
    return s;
}

static void fill(maker *m, int i, sid2_dtype dtype, sid2_shape shape, sid2_fill how, double a, double b)
{
    m->c->in[i] = (sid2_opcase_input){{dtype, shape}, how, a, b};
}

static void normal(maker *m, int i, sid2_dtype dtype, sid2_shape shape, double mean, double deviation)
{
    fill(m, i, dtype, shape, SID2_FILL_NORMAL, mean, deviation);
}

/* Present half of the time. */
static bool maybe_normal(maker *m, int i, sid2_dtype dtype, sid2_shape shape, double mean, double deviation)
{
    bool there = chance(m, 0.5);
    if (there) normal(m, i, dtype, shape, mean, deviation);
    return there;
}

static void sums(maker *m, int output, int64_t length, double magnitude)
{
    m->c->length[output] = length;
    m->c->magnitude[output] = magnitude;
}

static float choose(maker *m, float a, float b, float c)
{
    const float of[] = {a, b, c};
    return of[between(m, 0, 2)];
}

/* ---- Matrix products and convolutions ---- */

static void draw_linear(maker *m)
{
    int64_t ins = channels(m, 160), outs = channels(m, 160);
    sid2_shape x = shape_of(m, (int)between(m, 1, 4), 96, ins);
    sid2_dtype to = chance(m, 0.7) ? m->low : SID2_F32;
    m->c->attr.dtype = to;
    normal(m, 0, m->low, x, 0, 1);
    normal(m, 1, m->low, sid2_shape_of(outs, ins), 0, 1 / sqrt((double)ins));
    maybe_normal(m, 2, SID2_F32, sid2_shape_of(outs), 0, 1);
    maybe_normal(m, 3, to, with_last(x, outs), 0, 1);
    sums(m, 0, ins, 1);
}

static void draw_linear_dgrad(maker *m)
{
    int64_t ins = channels(m, 160), outs = channels(m, 160);
    sid2_shape dy = shape_of(m, (int)between(m, 1, 4), 96, outs);
    normal(m, 0, m->low, dy, 0, 1);
    normal(m, 1, m->low, sid2_shape_of(outs, ins), 0, 1 / sqrt((double)outs));
    maybe_normal(m, 2, m->low, with_last(dy, ins), 0, 1);
    sums(m, 0, outs, 1);
}

static void draw_linear_wgrad(maker *m)
{
    sid2_shape x = shape_of(m, (int)between(m, 1, 4), 96, channels(m, 160));
    normal(m, 0, m->low, x, 0, 1);
    normal(m, 1, m->low, with_last(x, channels(m, 160)), 0, 1);
    for (int i = 0; i < 2; i++) sums(m, i, rows_of(x), sqrt((double)rows_of(x)));
}

typedef struct conv {
    sid2_shape x, y, w;
} conv;

static conv draw_conv(maker *m)
{
    int64_t side = (int64_t[]){1, 3, 3, 3, 5}[between(m, 0, 4)], most = side == 5 ? 12 : 40;
    int64_t ins = channels(m, most), outs = channels(m, most);
    if (chance(m, 0.25)) ins = 16 * between(m, 1, 3), outs = 16 * between(m, 1, 3); /* special kernels' */
    if (side == 3 && chance(m, 0.06))
        ins = 16 * between(m, 6, 8), outs = 16 * between(m, 6, 8); /* wide ones' */
    int64_t h = extent(m, 13 * m->tall), w = extent(m, 13), n = extent(m, 2);
    bool video = chance(m, 0.2);
    sid2_shape x = video ? sid2_shape_of(n, extent(m, 2), h, w, ins) : sid2_shape_of(n, h, w, ins);
    return (conv){x, with_last(x, outs), sid2_shape_of(outs, side, side, ins)};
}

static int64_t taps(sid2_shape w) { return w.dim[1] * w.dim[2]; }

static void draw_conv2d(maker *m)
{
    conv c = draw_conv(m);
    int64_t length = taps(c.w) * last(c.x);
    normal(m, 0, m->low, c.x, 0, 1);
    normal(m, 1, m->low, c.w, 0, 1 / sqrt((double)length));
    maybe_normal(m, 2, SID2_F32, sid2_shape_of(last(c.y)), 0, 1);
    maybe_normal(m, 3, m->low, c.y, 0, 1);
    sums(m, 0, length, 1);
}

static void draw_conv2d_dgrad(maker *m)
{
    conv c = draw_conv(m);
    int64_t length = taps(c.w) * last(c.y);
    normal(m, 0, m->low, c.y, 0, 1);
    normal(m, 1, m->low, c.w, 0, 1 / sqrt((double)length));
    maybe_normal(m, 2, m->low, c.x, 0, 1);
    sums(m, 0, length, 1);
}

static void draw_conv2d_wgrad(maker *m)
{
    conv c = draw_conv(m);
    m->c->attr.shape = c.w;
    normal(m, 0, m->low, c.x, 0, 1);
    normal(m, 1, m->low, c.y, 0, 1);
    for (int i = 0; i < 2; i++) sums(m, i, rows_of(c.x), sqrt((double)rows_of(c.x)));
}

/* ---- Norms ---- */

/* A variance over few elements may be tiny by chance, and its inverse then amplifies all rounding: such sets
 * get a larger eps. Returns how much errors can grow. */
static double draw_eps(maker *m, int64_t set)
{
    m->c->attr.eps = set < 8 ? 1e-2f : choose(m, 1e-6f, 1e-5f, 1e-3f);
    return set < 8 ? 10 : 3;
}

static void draw_act(maker *m) { m->c->attr.act = (sid2_act)between(m, SID2_ACT_NONE, SID2_ACT_GELU); }

static void maybe_film(maker *m, int i, sid2_shape x)
{
    if (x.rank > 1) maybe_normal(m, i, m->low, sid2_shape_of(x.dim[0], 2 * last(x)), 0, 0.5);
}

static sid2_shape draw_grouped(maker *m, double *growth)
{
    int64_t groups = (int64_t[]){1, 2, 3, 4, 8, 32}[between(m, 0, 5)];
    sid2_shape x = shape_of(m, (int)between(m, 2, 5), 150, groups * channels(m, 96 / groups));
    m->c->attr.groups = (int32_t)groups;
    draw_act(m);
    *growth = draw_eps(m, rows_per_sample(x) * last(x) / groups);
    return x;
}

static sid2_shape draw_row(maker *m, double *growth)
{
    sid2_shape x = shape_of(m, (int)between(m, 1, 5), 80, channels(m, 300));
    m->c->attr.center = chance(m, 0.5);
    draw_act(m);
    *growth = draw_eps(m, last(x));
    return x;
}

/* From input `first` on: gamma, beta, film. */
static void draw_affine(maker *m, int first, sid2_shape x, bool beta)
{
    normal(m, first, SID2_F32, sid2_shape_of(last(x)), 1, 0.3);
    if (beta) normal(m, first + 1, SID2_F32, sid2_shape_of(last(x)), 0, 0.5);
    maybe_film(m, first + 2, x);
}

static void draw_norm(maker *m, sid2_shape x, double growth, bool beta, int64_t set)
{
    normal(m, 0, m->low, x, 0.5 * sid2_draw_normal(m->draw), 1);
    draw_affine(m, 1, x, beta);
    for (int i = 0; i < 2; i++) sums(m, i, set, growth);
}

static void draw_norm_grad(maker *m, sid2_shape x, double growth, bool beta, int64_t set, sid2_op forward)
{
    const int forward_in[] = {1, 3, 4, 5};
    normal(m, 0, m->low, x, 0, 1);
    normal(m, 1, m->low, x, 0.5 * sid2_draw_normal(m->draw), 1);
    draw_affine(m, 3, x, beta);
    maybe_normal(m, 6, m->low, x, 0, 1);
    m->c->forward = forward;
    for (int i = 0; i < 4; i++) m->c->forward_in[i] = forward_in[i];
    m->c->wanted[2] = beta;
    m->c->wanted[3] = m->c->in[5].type.shape.rank >= 0 && chance(m, 0.8);
    sums(m, 0, set, growth * growth);
    for (int i = 1; i < 3; i++) sums(m, i, rows_of(x), growth * sqrt((double)rows_of(x)));
    if (x.rank > 1) sums(m, 3, rows_per_sample(x), growth * sqrt((double)rows_per_sample(x)));
}

static int64_t group_size(maker *m, sid2_shape x) { return rows_per_sample(x) * last(x) / m->c->attr.groups; }

static void draw_group_norm(maker *m)
{
    double growth;
    sid2_shape x = draw_grouped(m, &growth);
    draw_norm(m, x, growth, true, group_size(m, x));
}

static void draw_group_norm_grad(maker *m)
{
    double growth;
    sid2_shape x = draw_grouped(m, &growth);
    draw_norm_grad(m, x, growth, true, group_size(m, x), SID2_OP_group_norm);
    fill(m, 2, SID2_F32, sid2_shape_of(x.dim[0], m->c->attr.groups, 2), SID2_FILL_FORWARD, 1, 0);
}

static void draw_row_norm(maker *m)
{
    double growth;
    sid2_shape x = draw_row(m, &growth);
    draw_norm(m, x, growth, chance(m, 0.5), last(x));
}

static void draw_row_norm_grad(maker *m)
{
    double growth;
    sid2_shape x = draw_row(m, &growth);
    draw_norm_grad(m, x, growth, chance(m, 0.5), last(x), SID2_OP_row_norm);
    fill(m, 2, SID2_F32, sid2_shape_of(rows_of(x), 2), SID2_FILL_FORWARD, 1, 0);
}

/* ---- Elementwise ---- */

static sid2_shape draw_any(maker *m, int rank) { return shape_of(m, rank, 100, channels(m, 160)); }

static void draw_activation(maker *m)
{
    sid2_shape x = draw_any(m, (int)between(m, 1, 5));
    draw_act(m);
    normal(m, 0, m->low, x, 0, 3);
    maybe_film(m, 1, x);
}

static void draw_activation_grad(maker *m)
{
    sid2_shape x = draw_any(m, (int)between(m, 1, 5));
    draw_act(m);
    normal(m, 0, m->low, x, 0, 1);
    normal(m, 1, m->low, x, 0, 3);
    maybe_film(m, 2, x);
    m->c->wanted[1] = m->c->in[2].type.shape.rank >= 0 && chance(m, 0.8);
    if (x.rank > 1) sums(m, 1, rows_per_sample(x), 3 * sqrt((double)rows_per_sample(x)));
}

static void draw_scale_factor(maker *m) { m->c->attr.scale = choose(m, 1, -1, 0.25f); }

/* By what the row says. */
static void draw_each(maker *m)
{
    const sid2_op_info info = sid2_op_describe(m->c->op);
    sid2_shape x = draw_any(m, (int)between(m, 1, 5));
    if (strstr(info.attributes, "scale")) draw_scale_factor(m);
    if (strstr(info.attributes, "act")) draw_act(m);
    for (int i = 0; i < info.input_count; i++)
        if (info.input[i].optional)
            maybe_normal(m, i, m->low, x, 0, 1);
        else
            normal(m, i, m->low, x, 0, 1);
}

static void draw_cast(maker *m)
{
    bool down = chance(m, 0.5);
    m->c->attr.dtype = down ? m->low : SID2_F32;
    normal(m, 0, down ? SID2_F32 : m->low, draw_any(m, (int)between(m, 1, 5)), 0, 1);
}

/* samples[n,2] and seed[2], from input `first` on. */
static void draw_keys(maker *m, int first, int64_t n)
{
    fill(m, first, SID2_U32, sid2_shape_of(n, 2), SID2_FILL_WORDS, 0, 0);
    fill(m, first + 1, SID2_U32, sid2_shape_of(2), SID2_FILL_WORDS, 0, 0);
    m->c->attr.purpose = sid2_draw_word(m->draw);
}

static void draw_dropout(maker *m)
{
    sid2_shape x = draw_any(m, (int)between(m, 1, 5));
    m->c->attr.rate = choose(m, 0.1f, 0.5f, 0.9f);
    normal(m, 0, m->low, x, 0, 1);
    draw_keys(m, 1, x.dim[0]);
}

/* ---- Windows ---- */

/* Windows over pictures, sometimes over frames too; long ones are narrow. x has `depth` channels. */
static sid2_shape draw_windows(maker *m, int64_t depth)
{
    sid2_attr *a = &m->c->attr;
    int64_t size[3] = {chance(m, 0.3) ? extent(m, 5) : 1, extent(m, 13 * m->tall), extent(m, 13)};
    for (int i = 0; i < 3; i++) {
        int64_t most = i == 0 ? 2 : between(m, 0, 4) ? 3 : 7;
        a->window[i] = (int32_t)between(m, 1, most);
        a->stride[i] = (int32_t)between(m, 1, i == 0 ? 2 : 3);
        a->before[i] = (int32_t)between(m, 0, a->window[i] - 1);
        a->after[i] = (int32_t)between(m, 0, a->window[i] - 1);
        if (chance(m, 0.3)) a->stride[i] = 1, a->before[i] = a->after[i] = a->window[i] / 2;
        if (chance(m, 0.3)) a->window[i] = a->stride[i] = 1, a->before[i] = a->after[i] = 0;
        if (size[i] < a->window[i]) size[i] = a->window[i];
    }
    return sid2_shape_of(extent(m, 2), size[0], size[1], size[2], depth);
}

/* 3 x 3 in steps of one pixel, where a backend may have another way. */
static sid2_shape draw_squares(maker *m, int64_t depth)
{
    sid2_attr *a = &m->c->attr;
    for (int i = 0; i < 3; i++) {
        a->window[i] = i ? 3 : 1;
        a->stride[i] = 1;
        a->before[i] = i ? (int32_t)between(m, 0, 2) : 0;
        a->after[i] = i ? (int32_t)between(m, 0, 2) : 0;
    }
    return sid2_shape_of(between(m, 1, 2), between(m, 1, 2), between(m, 11, 18), between(m, 11, 18), depth);
}

static void draw_conv3d(maker *m)
{
    const bool squares = chance(m, 0.2);
    int64_t ins = squares ? 16 * between(m, 1, 3) : channels(m, 40),
            outs = squares ? 16 * between(m, 1, 3) : channels(m, 40);
    sid2_shape x = squares ? draw_squares(m, ins) : draw_windows(m, ins);
    const int32_t *k = m->c->attr.window;
    sid2_shape w = sid2_shape_of(outs, k[0], k[1], k[2], ins);
    int64_t length = (int64_t)k[0] * k[1] * k[2] * ins;
    m->c->attr.rectify = chance(m, 0.5);
    normal(m, 0, m->low, x, 0, 1);
    normal(m, 1, m->low, w, 0, 1 / sqrt((double)length));
    maybe_normal(m, 2, SID2_F32, sid2_shape_of(outs), 0, 1);
    for (int i = 0; i < 3; i++) m->c->attr.window[i] = 0; /* w says it */
    sums(m, 0, length, 1);
}

static void draw_pool3d(maker *m)
{
    sid2_shape x = draw_windows(m, channels(m, 66));
    const int32_t *k = m->c->attr.window;
    m->c->attr.mean = chance(m, 0.5);
    normal(m, 0, m->low, x, 0, 1);
    sums(m, 0, m->c->attr.mean ? (int64_t)k[0] * k[1] * k[2] : 1, 1);
}

static void draw_concat(maker *m)
{
    sid2_shape shape = draw_any(m, (int)between(m, 2, 5));
    int64_t count = between(m, 2, 6);
    for (int i = 0; i < count; i++) normal(m, i, m->low, with_last(shape, channels(m, 70)), 0, 1);
}

/* ---- Resampling ---- */

static sid2_shape draw_image(maker *m, int64_t cell, int64_t depth)
{
    int64_t h = cell * extent(m, 12 * m->tall), w = cell * extent(m, 12), n = extent(m, 3);
    bool video = chance(m, 0.3);
    return video ? sid2_shape_of(n, extent(m, 2), h, w, depth) : sid2_shape_of(n, h, w, depth);
}

static void draw_pool2(maker *m)
{
    draw_scale_factor(m);
    normal(m, 0, m->low, draw_image(m, 2, channels(m, 66)), 0, 1);
    sums(m, 0, 4, 1);
}

static void draw_upsample2(maker *m)
{
    sid2_shape x = draw_image(m, 1, channels(m, 66)), y = x;
    y.dim[y.rank - 2] *= 2;
    y.dim[y.rank - 3] *= 2;
    draw_scale_factor(m);
    normal(m, 0, m->low, x, 0, 1);
    maybe_normal(m, 1, m->low, y, 0, 1);
}

static void draw_patchify(maker *m)
{
    int64_t p = between(m, 1, 4);
    m->c->attr.patch = (int32_t)p;
    normal(m, 0, m->low, draw_image(m, p, channels(m, 20)), 0, 1);
}

static void draw_unpatchify(maker *m)
{
    int64_t p = between(m, 1, 4);
    m->c->attr.patch = (int32_t)p;
    normal(m, 0, m->low, draw_image(m, 1, p * p * channels(m, 20)), 0, 1);
}

/* ---- Attention ---- */

/* A grid of tokens, and heads of `width`, which is even, as rotation needs; the shape is qkv's. */
static sid2_shape draw_qkv(maker *m, int64_t width)
{
    int32_t *grid = m->c->attr.grid;
    int64_t n = extent(m, 2), heads = extent(m, 4);
    grid[0] = chance(m, 0.3) ? (int32_t)extent(m, 3) : 1;
    grid[1] = (int32_t)extent(m, 9);
    grid[2] = (int32_t)extent(m, 9);
    if (m->tall > 1) grid[1] = (int32_t)extent(m, 25);
    m->c->attr.heads = (int32_t)heads;
    m->c->attr.theta = choose(m, 100, 10000, 30);
    m->c->attr.center = chance(m, 0.5);
    int64_t depth = 3 * heads * width;
    if (chance(m, 0.5)) return sid2_shape_of(n, grid[0] * grid[1] * grid[2], depth);
    return grid[0] > 1 || chance(m, 0.2) ? sid2_shape_of(n, grid[0], grid[1], grid[2], depth)
                                         : sid2_shape_of(n, grid[1], grid[2], depth);
}

/* Even; often as models have it, which kernels may read in long runs; in wide cases also very wide. */
static int64_t draw_head_width(maker *m)
{
    if (m->wide > 1 && chance(m, 0.2)) return 576;
    return chance(m, 0.3) ? 32 << between(m, 0, 2) : 2 * extent(m, m->wide > 1 ? 80 : 33);
}

static void draw_qk_norm_rope(maker *m)
{
    int64_t width = draw_head_width(m);
    sid2_shape qkv = draw_qkv(m, width);
    double growth = draw_eps(m, width);
    normal(m, 0, m->low, qkv, 0, 1);
    if (maybe_normal(m, 1, SID2_F32, sid2_shape_of(2, width), 1, 0.3))
        maybe_normal(m, 2, SID2_F32, sid2_shape_of(2, width), 0, 0.5);
    sums(m, 0, width, growth);
}

static void draw_qk_norm_rope_grad(maker *m)
{
    int64_t width = draw_head_width(m);
    sid2_shape qkv = draw_qkv(m, width);
    double growth = draw_eps(m, width), count = (double)(sid2_shape_count(qkv) / width);
    normal(m, 0, m->low, with_last(qkv, last(qkv) / 3 * 2), 0, 1);
    normal(m, 1, m->low, with_last(qkv, last(qkv) / 3), 0, 1);
    normal(m, 2, m->low, qkv, 0, 1);
    m->c->wanted[1] = maybe_normal(m, 3, SID2_F32, sid2_shape_of(2, width), 1, 0.3);
    m->c->wanted[2] = m->c->wanted[1] && maybe_normal(m, 4, SID2_F32, sid2_shape_of(2, width), 0, 0.5);
    sums(m, 0, width, growth * growth);
    for (int i = 1; i < 3; i++) sums(m, i, (int64_t)count, growth * sqrt(count));
}

/* qk at input `first`, qkv after it. Of few widths, for GPUs compile their kernels for each. */
static sid2_shape draw_heads(maker *m, int first)
{
    static const uint8_t widths[] = {2, 4, 6, 10, 16, 24, 32, 34, 40, 48, 64, 66, 128, 160};
    sid2_shape qkv = draw_qkv(m, widths[between(m, 0, m->wide > 1 ? 13 : 11)]);
    m->c->attr = (sid2_attr){.heads = m->c->attr.heads};
    normal(m, first, m->low, with_last(qkv, last(qkv) / 3 * 2), 0, choose(m, 1, 1, 2));
    normal(m, first + 1, m->low, qkv, 0, 1);
    return qkv;
}

static void draw_attention(maker *m)
{
    sid2_shape qkv = draw_heads(m, 0);
    sums(m, 0, rows_per_sample(qkv) + last(qkv) / 3 / m->c->attr.heads, 1);
    sums(m, 1, rows_per_sample(qkv) + last(qkv) / 3 / m->c->attr.heads, 4);
}

static void draw_attention_grad(maker *m)
{
    sid2_shape qkv = draw_heads(m, 1), y = with_last(qkv, last(qkv) / 3);
    int64_t heads = m->c->attr.heads, tokens = rows_per_sample(qkv);
    normal(m, 0, m->low, y, 0, 1);
    fill(m, 3, m->low, y, SID2_FILL_FORWARD, 0, 0);
    fill(m, 4, SID2_F32, sid2_shape_of(qkv.dim[0], heads, tokens), SID2_FILL_FORWARD, 1, 0);
    m->c->forward = SID2_OP_attention;
    m->c->forward_in[0] = 1;
    m->c->forward_in[1] = 2;
    for (int i = 0; i < 2; i++) sums(m, i, tokens + last(y) / heads, 4);
}

/* ---- Conditioning ---- */

static void draw_embedding(maker *m)
{
    int64_t rows = extent(m, 50), n = extent(m, 20);
    normal(m, 0, m->low, sid2_shape_of(rows, channels(m, 200)), 0, 1);
    fill(m, 1, SID2_I32, sid2_shape_of(n), SID2_FILL_INTEGER, -3, (double)rows + 3);
}

static void draw_embedding_grad(maker *m)
{
    int64_t rows = extent(m, 50), width = channels(m, 200), n = extent(m, 20);
    m->c->attr.shape = sid2_shape_of(rows, width);
    normal(m, 0, m->low, sid2_shape_of(n, width), 0, 1);
    fill(m, 1, SID2_I32, sid2_shape_of(n), SID2_FILL_INTEGER, -3, (double)rows + 3);
    sums(m, 0, n, sqrt((double)n));
}

static void draw_sinusoid(maker *m)
{
    m->c->attr.period = choose(m, 10000, 100, 3);
    m->c->attr.dtype = m->low;
    m->c->attr.shape = sid2_shape_of(2 * extent(m, 129));
    fill(m, 0, SID2_F32, sid2_shape_of(extent(m, 20)), SID2_FILL_UNIFORM, 0, 1000);
    sums(m, 0, 1, 1000); /* the angle itself is rounded */
}

/* ---- Random numbers and images ---- */

static void draw_random(maker *m)
{
    m->c->attr.shape = draw_any(m, (int)between(m, 1, 5));
    m->c->attr.dtype = chance(m, 0.5) ? m->low : SID2_F32;
    draw_keys(m, 0, m->c->attr.shape.dim[0]);
}
static void draw_random_normal(maker *m) { draw_random(m); }
static void draw_random_uniform(maker *m) { draw_random(m); }

static void draw_image_to_float(maker *m)
{
    fill(m, 0, SID2_U8, draw_image(m, 1, extent(m, 4)), SID2_FILL_INTEGER, 0, 255);
}

static void draw_float_to_image(maker *m) { normal(m, 0, SID2_F32, draw_image(m, 1, extent(m, 4)), 0, 0.7); }

/* ---- Diffusion ---- */

static void per_sample(maker *m, int i, sid2_shape x, double low, double high)
{
    fill(m, i, SID2_F32, sid2_shape_of(x.dim[0]), SID2_FILL_UNIFORM, low, high);
}

static void draw_diffuse(maker *m)
{
    sid2_shape x = draw_any(m, (int)between(m, 1, 5));
    for (int i = 0; i < 2; i++) normal(m, i, m->low, x, 0, 1);
    for (int i = 2; i < 4; i++) per_sample(m, i, x, 0, 1);
}

/* v, z, x, alpha, sigma, weight from input `first` on. */
static sid2_shape draw_prediction(maker *m, int first)
{
    sid2_shape x = draw_any(m, (int)between(m, 1, 5));
    for (int i = 0; i < 3; i++) normal(m, first + i, m->low, x, 0, 1);
    for (int i = 3; i < 5; i++) per_sample(m, first + i, x, 0, 1);
    per_sample(m, first + 5, x, 0, 3);
    return x;
}

static void draw_diffusion_loss(maker *m)
{
    sid2_shape x = draw_prediction(m, 0);
    sums(m, 0, sid2_shape_count(x) / x.dim[0], 1);
}

static void draw_diffusion_loss_grad(maker *m)
{
    sid2_shape x = draw_prediction(m, 1);
    per_sample(m, 0, x, 0.5, 2);
    per_sample(m, 7, x, 0, 2);
    sums(m, 0, 1, 10 / ((double)sid2_shape_count(x) / (double)x.dim[0]));
}

static void draw_sampler_step(maker *m)
{
    sid2_shape x = draw_any(m, (int)between(m, 1, 5));
    for (int i = 0; i < 2; i++) normal(m, i, m->low, x, 0, 1);
    for (int i = 2; i < 5; i++) maybe_normal(m, i, m->low, x, 0, 1);
    fill(m, 5, SID2_F32, sid2_shape_of(8), SID2_FILL_UNIFORM, 0, 2);
    for (int i = 0; i < 2; i++) sums(m, i, 1, 4);
}

/* ---- Optimizer ---- */

static void draw_square_sums(maker *m)
{
    int64_t count = extent(m, 40000 * m->tall);
    normal(m, 0, SID2_F32, sid2_shape_of(count), 0, (double)choose(m, 1, 1e-25f, 1e25f));
}

static void draw_norm_of(maker *m)
{
    double largest = (double)choose(m, 1, 1e-30f, 1e30f);
    m->c->attr.dtype = SID2_F32;
    fill(m, 0, SID2_F64, sid2_shape_of(extent(m, 3000)), SID2_FILL_UNIFORM, 0, largest * largest);
    sums(m, 0, 1, 0);
}

/* A norm, mostly finite: whether it is. */
static bool draw_verdict(maker *m, int i)
{
    const double bad = chance(m, 0.5) ? NAN : INFINITY;
    const bool finite = !chance(m, 0.2);
    if (finite)
        fill(m, i, SID2_F32, sid2_shape_of(1), SID2_FILL_UNIFORM, 0.1, 10);
    else
        normal(m, i, SID2_F32, sid2_shape_of(1), bad, 0);
    return finite;
}

static void draw_adam(maker *m)
{
    sid2_shape flat = sid2_shape_of(extent(m, 5000 * m->tall));
    normal(m, 0, SID2_F32, flat, 0, 1);
    normal(m, 1, SID2_F32, flat, 0, 1);
    normal(m, 2, SID2_F32, flat, 0, 0.1);
    fill(m, 3, SID2_F32, flat, SID2_FILL_UNIFORM, 0.01, 1);
    m->c->wanted[4] = draw_verdict(m, 4); /* else what was there stays, and nothing was */
    m->c->attr.dtype = m->low;
    /* Each of {lr, beta1, beta2, eps, c1, c2, clip} is sound anywhere in here. */
    fill(m, 5, SID2_F32, sid2_shape_of(7), SID2_FILL_UNIFORM, 0.05, 0.99);
    for (int i = 0; i < 5; i++)
        if (i != 3) sums(m, i, 4, 4);
}

static void draw_ema(maker *m)
{
    sid2_shape flat = sid2_shape_of(extent(m, 5000 * m->tall));
    for (int i = 0; i < 2; i++) normal(m, i, SID2_F32, flat, 0, 1);
    draw_verdict(m, 2);
    fill(m, 3, SID2_F32, sid2_shape_of(1), SID2_FILL_UNIFORM, 0, 1);
    sums(m, 0, 2, 1);
}

/* ---- The case ---- */

bool sid2_opcase_draw(sid2_op op, sid2_dtype compute, sid2_draw *draw, sid2_opcase *c, sid2_error *err)
{
    static void (*const rules[SID2_OP_COUNT])(maker *) = {
#define OP(name, inputs, outputs, attributes, gradient, formula) draw_##name,
#define EACH(name, ...)                                          draw_each,
#include "op.def"
    };
    const sid2_op_info info = sid2_op_describe(op);
    *c = (sid2_opcase){.op = op};
    for (int i = 0; i < SID2_MAX_INPUTS; i++) {
        c->in[i].type.shape.rank = -1;
        c->forward_in[i] = -1;
    }
    for (int i = 0; i < SID2_MAX_OUTPUTS; i++) {
        c->wanted[i] = i < info.output_count;
        c->alias[i] = -1;
        c->magnitude[i] = 1;
        c->length[i] = 1;
    }
    maker m = {draw, c, compute, 1, 1};
    if (chance(&m, 0.03)) m.wide = 8;
    if (chance(&m, 0.03)) m.tall = chance(&m, 0.3) ? 64 : 8;
    rules[op](&m);
    for (int i = 0; i < info.output_count; i++) /* dbias and the like, where nothing above said no */
        if (info.output[i].optional && c->wanted[i]) c->wanted[i] = chance(&m, 0.8);
    bool any = false;
    for (int i = 0; i < info.output_count; i++) any |= c->wanted[i];
    if (!any) c->wanted[0] = true;

    sid2_type in[SID2_MAX_INPUTS];
    for (int i = 0; i < SID2_MAX_INPUTS; i++) in[i] = c->in[i].type;
    if (!sid2_op_infer(op, &c->attr, in, c->out, err)) return false;
    for (int i = 0; i < info.input_count; i++)
        if (info.input[i].inplace && in[i].shape.rank >= 0 && in[i].dtype == c->out[0].dtype &&
            chance(&m, 0.4))
            c->alias[0] = i;
    if (op == SID2_OP_ema) c->alias[0] = 0; /* these update their buffers where they are */
    if (op == SID2_OP_adam)
        for (int i = 0; i < 4; i++) c->alias[i] = (int[]){0, 2, 3, 1}[i];
    return true;
}
