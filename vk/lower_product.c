/* Matrix products and convolutions, forward and by input and weights: product*.comp.
 *
 * Forward and by input are one product over (tap, channel) with weights w[column, tap, channel]; for
 * gradients by input these are w transposed, with the taps turned around. By weights it is a sum over rows.
 */
#include "lower_each.h"
#include "tiles.h"

enum { LOCAL = 64, LINE = 64 }; /* invocations of simple shaders; rows taken for a line in linear layers */

typedef struct image {
    int64_t height, width, side; /* of a linear layer: 1, any, 1 */
} image;

static const image no_image = {1, 1, 1};

static image image_of(const sid2_vk_tensor *x, int64_t side)
{
    int rank = x->shape.rank;
    return (image){x->shape.dim[rank - 3], x->shape.dim[rank - 2], side};
}

/* How a group of invocations covers rows x columns. In registers, invocations that would find no column take
 * other rows; they stay in one line, for CPU drivers make their vectors along x only. */
typedef struct grid {
    uint32_t lanes, lines, across, down;
    uint32_t fixed_lanes; /* as a constant: in registers only the usual case, else 0, for few pipelines */
} grid;

static grid grid_of(const sid2_vk_tiles *tiles, int64_t rows, int64_t columns, uint32_t each_rows,
                    uint32_t each_columns)
{
    grid g = {.lanes = tiles->lanes, .lines = tiles->lines};
    for (; !tiles->shared && g.lanes > 1 && g.lanes / 2 * each_columns >= columns; g.lanes /= 2) g.lines *= 2;
    g.across = sid2_vk_ceil_div(columns, g.lanes * each_columns);
    g.down = sid2_vk_ceil_div(rows, g.lines * each_rows);
    g.fixed_lanes = tiles->shared || g.lines == 1 ? g.lanes : 0;
    return g;
}

/* ---- With cooperative matrices ---- */

enum {
    PART = 32,
    LARGER = 64,
    CHANNELS = 32
}; /* rows and columns of a subgroup; channels, or rows, staged at once */

/* A group's subgroups, rows and columns of each, and matrices down and across in it. */
typedef struct blocks {
    uint32_t lanes, lines, part, down, across;
} blocks;

/* Larger parts take more products from each operand that is loaded: where their groups fill the device, `deep` times as many as
 * there are blocks, or the table of tiles has large ones for it. */
static uint32_t part_of(const sid2_vk_lowering *lowering, int64_t rows, int64_t columns, int64_t deep)
{
    const sid2_vk_caps *caps = sid2_vk_lowering_caps(lowering);
    const sid2_vk_tiles *tiles = sid2_vk_lowering_tiles(lowering);
    int64_t groups =
        (int64_t)sid2_vk_ceil_div(rows, 2 * LARGER) * sid2_vk_ceil_div(columns, 2 * LARGER) * deep;
    bool large = tiles->lines * tiles->rows >= 2 * LARGER && tiles->lanes * tiles->columns >= 2 * LARGER;
    uint32_t bytes = 4 * LARGER * (CHANNELS + 8) * 2 + 4 * caps->cooperative.m * caps->cooperative.n * 4;
    return rows > LARGER && columns > LARGER && (large || groups >= tiles->groups) &&
                   bytes <= caps->shared_bytes
               ? LARGER
               : PART;
}

static bool cooperate(const sid2_vk_lowering *lowering, const sid2_vk_tensor *a, const sid2_vk_tensor *b,
                      int64_t rows, int64_t columns, int64_t deep, blocks *how)
{
    const sid2_vk_caps *caps = sid2_vk_lowering_caps(lowering);
    if (!sid2_vk_matrices(caps, a, b)) return false;
    uint32_t part = part_of(lowering, rows, columns, deep);
    *how = (blocks){columns > part ? 2 : 1, rows > part ? 2 : 1, part, part / caps->cooperative.m,
                    part / caps->cooperative.n};
    return true;
}

/* Whole subgroups lie along x. */
static uint32_t invocations(const sid2_vk_lowering *lowering, const blocks *how)
{
    return how->lanes * how->lines * sid2_vk_lowering_caps(lowering)->cooperative.subgroup;
}

/* ---- Forward and by input ---- */

/* How w is read as w[column, tap, channel]. */
typedef struct weights {
    int64_t columns, channels;
    int64_t step_column, step_tap, step_channel; /* elements */
    bool turned;                                 /* last tap first */
} weights;

/* w packed into quads of channels, side by side for neighbouring columns. */
static sid2_vk_tensor pack(sid2_vk_lowering *lowering, const sid2_vk_tensor *w, const weights *how,
                           int64_t taps)
{
    int64_t quads = taps * ((how->channels + 3) / 4) * how->columns;
    return sid2_vk_derive(
        lowering,
        &(sid2_vk_dispatch){.shader = SID2_VK_product_weights,
                            .tensor = {*w},
                            .local = {LOCAL},
                            .groups = {sid2_vk_ceil_div(quads, LOCAL)},
                            .push = {(uint32_t)quads, (uint32_t)how->columns, (uint32_t)how->channels,
                                     (uint32_t)taps, (uint32_t)how->step_column, (uint32_t)how->step_tap,
                                     (uint32_t)how->step_channel, how->turned},
                            .work = 4.0 * (double)quads},
        w->dtype, sid2_shape_of(quads, 4));
}

static bool product_cooperative(sid2_vk_lowering *lowering, const sid2_vk_tensor *x, const sid2_vk_tensor *w,
                                const weights *how, image im, const sid2_vk_tensor *bias,
                                const sid2_vk_tensor *residual, const sid2_vk_tensor *y)
{
    const sid2_vk_caps *caps = sid2_vk_lowering_caps(lowering);
    int64_t rows = sid2_vk_rows(x);
    blocks b;
    if (!cooperate(lowering, x, w, rows, how->columns, 1, &b)) return false;
    sid2_vk_emit(
        lowering,
        &(sid2_vk_dispatch){
            .shader = SID2_VK_product_coop,
            .tensor = {*x, pack(lowering, w, how, im.side * im.side),
                       bias ? *bias : (sid2_vk_tensor){.shape.rank = -1}, *residual, *y},
            .local = {invocations(lowering, &b)},
            .groups = {sid2_vk_ceil_div(how->columns, b.lanes * b.part),
                       sid2_vk_ceil_div(rows, b.lines * b.part)},
            .constant = {b.down, b.across, (uint32_t)im.side, how->channels % 4 == 0 && sid2_vk_quads(x),
                         CHANNELS / 4, b.lanes, b.lines, caps->cooperative.m, caps->cooperative.n,
                         caps->cooperative.k, invocations(lowering, &b)},
            .push = {(uint32_t)rows, (uint32_t)how->columns, (uint32_t)how->channels, (uint32_t)im.height,
                     (uint32_t)im.width},
            .work = (double)rows * (double)(how->columns * how->channels * im.side * im.side)});
    return true;
}

static void product(sid2_vk_lowering *lowering, const sid2_vk_tensor *x, const sid2_vk_tensor *w,
                    const weights *how, image im, const sid2_vk_tensor *bias, const sid2_vk_tensor *residual,
                    const sid2_vk_tensor *y)
{
    if (product_cooperative(lowering, x, w, how, im, bias, residual, y)) return;
    const sid2_vk_tiles *tiles = sid2_vk_lowering_tiles(lowering);
    int64_t rows = sid2_vk_rows(x), taps = im.side * im.side;
    /* Few rows do not repay packing. */
    bool as_is =
        !tiles->shared && rows < 64 && how->step_channel == 1 && how->channels % 4 == 0 && sid2_vk_quads(w);
    sid2_vk_tensor right = as_is ? *w : pack(lowering, w, how, taps);
    grid g = grid_of(tiles, rows, how->columns, tiles->rows, tiles->columns);
    sid2_vk_dispatch d = {
        .shader = tiles->shared ? SID2_VK_product_shared : SID2_VK_product,
        .tensor = {*x, right, bias ? *bias : (sid2_vk_tensor){.shape.rank = -1}, *residual, *y},
        .local = {tiles->shared ? g.lanes : g.lanes * g.lines, tiles->shared ? g.lines : 1},
        .groups = {g.across, g.down},
        .constant = {tiles->rows, tiles->columns, (uint32_t)im.side,
                     how->channels % 4 == 0 && sid2_vk_quads(x), tiles->depth, g.fixed_lanes, tiles->lines},
        .push = {(uint32_t)rows, (uint32_t)how->columns, (uint32_t)how->channels, (uint32_t)im.height,
                 (uint32_t)im.width, as_is ? (uint32_t)how->step_column : 4,
                 as_is ? 4 : 4 * (uint32_t)how->columns, g.lanes},
        .work = (double)rows * (double)(how->columns * how->channels * taps)};
    sid2_vk_emit(lowering, &d);
}

/* w[outs, taps, ins] as it is, and by input. */
static weights forward(const sid2_vk_tensor *w)
{
    int64_t outs = w->shape.dim[0], ins = sid2_vk_last(w), each = sid2_vk_count(w) / outs;
    return (weights){outs, ins, each, ins, 1, false};
}

static weights backward(const sid2_vk_tensor *w)
{
    int64_t outs = w->shape.dim[0], ins = sid2_vk_last(w), each = sid2_vk_count(w) / outs;
    return (weights){ins, outs, 1, ins, each, true};
}

void sid2_vk_lower_linear(sid2_vk_lowering *lowering, const sid2_vk_call *call)
{
    weights how = forward(&call->in[1]);
    product(lowering, &call->in[0], &call->in[1], &how, no_image, &call->in[2], &call->in[3], &call->out[0]);
}

void sid2_vk_lower_linear_dgrad(sid2_vk_lowering *lowering, const sid2_vk_call *call)
{
    weights how = backward(&call->in[1]);
    product(lowering, &call->in[0], &call->in[1], &how, no_image, NULL, &call->in[2], &call->out[0]);
}

void sid2_vk_lower_conv2d(sid2_vk_lowering *lowering, const sid2_vk_call *call)
{
    weights how = forward(&call->in[1]);
    product(lowering, &call->in[0], &call->in[1], &how, image_of(&call->in[0], call->in[1].shape.dim[1]),
            &call->in[2], &call->in[3], &call->out[0]);
}

void sid2_vk_lower_conv2d_dgrad(sid2_vk_lowering *lowering, const sid2_vk_call *call)
{
    weights how = backward(&call->in[1]);
    product(lowering, &call->in[0], &call->in[1], &how, image_of(&call->in[0], call->in[1].shape.dim[1]),
            NULL, &call->in[2], &call->out[0]);
}

/* ---- By weights ---- */

static void add_parts(sid2_vk_lowering *lowering, const sid2_vk_tensor *parts, int64_t count,
                      const sid2_vk_tensor *y)
{
    int64_t elements = sid2_vk_count(y);
    sid2_vk_emit(lowering, &(sid2_vk_dispatch){.shader = SID2_VK_add_parts,
                                               .tensor = {*parts, *y},
                                               .local = {LOCAL},
                                               .groups = {sid2_vk_ceil_div(elements, LOCAL)},
                                               .push = {(uint32_t)elements, (uint32_t)count},
                                               .work = (double)(elements * count)});
}

static void bias_gradient(sid2_vk_lowering *lowering, const sid2_vk_tensor *dy, const sid2_vk_tensor *dbias)
{
    int64_t rows = sid2_vk_rows(dy), columns = sid2_vk_last(dy);
    int64_t parts = sid2_vk_parts(lowering, rows, columns, 1, 32);
    sid2_vk_tensor sums = sid2_vk_scratch(lowering, SID2_F32, sid2_shape_of(parts, columns));
    sid2_vk_emit(lowering, &(sid2_vk_dispatch){
                               .shader = SID2_VK_column_sums,
                               .tensor = {*dy, sums},
                               .local = {LOCAL},
                               .groups = {sid2_vk_ceil_div(columns, LOCAL), (uint32_t)parts},
                               .push = {(uint32_t)rows, (uint32_t)columns, sid2_vk_ceil_div(rows, parts)},
                               .work = (double)(rows * columns)});
    parts = sid2_vk_join_parts(lowering, &sums, 1, parts, columns);
    add_parts(lowering, &sums, parts, dbias);
}

/* Shares of the lines so that all groups together keep the device busy, and parts stay small. */
static int64_t share_of(const sid2_vk_lowering *lowering, int64_t lines, int64_t groups, int64_t elements)
{
    int64_t parts = sid2_vk_ceil_div(sid2_vk_lowering_tiles(lowering)->groups, groups);
    int64_t most = (int64_t)(sid2_vk_lowering_caps(lowering)->max_range / 8) / (4 * elements);
    if (parts > most) parts = most;
    if (parts > lines) parts = lines;
    return parts > 1 ? sid2_vk_ceil_div(lines, parts) : lines;
}

static void weight_gradient(sid2_vk_lowering *lowering, const sid2_vk_call *call, image im)
{
    const sid2_vk_tensor *x = &call->in[0], *dy = &call->in[1], *dw = &call->out[0];
    const sid2_vk_tiles *tiles = sid2_vk_lowering_tiles(lowering);
    int64_t rows = sid2_vk_rows(x), ins = sid2_vk_last(x), outs = sid2_vk_last(dy), taps = im.side * im.side;
    int64_t lines = (rows + im.width - 1) / im.width;
    blocks b;
    bool matrices = cooperate(lowering, dy, x, outs, ins, taps * lines, &b);
    grid g = matrices ? (grid){.across = sid2_vk_ceil_div(ins, b.lanes * b.part),
                               .down = sid2_vk_ceil_div(outs, b.lines * b.part)}
                      : grid_of(tiles, (outs + 3) / 4, (ins + 3) / 4, tiles->outs, tiles->ins);
    int64_t share = share_of(lowering, lines, g.across * g.down * taps, sid2_vk_count(dw));
    int64_t parts = sid2_vk_ceil_div(lines, share);
    sid2_vk_tensor sums = *dw;
    if (parts > 1) sums = sid2_vk_scratch(lowering, SID2_F32, sid2_shape_of(parts, sid2_vk_count(dw)));
    sid2_vk_dispatch d = {.shader = tiles->shared ? SID2_VK_product_wgrad_shared : SID2_VK_product_wgrad,
                          .tensor = {*x, *dy, sums},
                          .local = {tiles->shared ? g.lanes : g.lanes * g.lines, tiles->shared ? g.lines : 1},
                          .groups = {g.across, g.down, (uint32_t)(taps * parts)},
                          .constant = {tiles->outs, tiles->ins, (uint32_t)im.side,
                                       ins % 4 == 0 && sid2_vk_quads(x), outs % 4 == 0 && sid2_vk_quads(dy),
                                       parts == 1, 2 * tiles->depth, g.fixed_lanes, tiles->lines},
                          .push = {(uint32_t)rows, (uint32_t)outs, (uint32_t)ins, (uint32_t)im.height,
                                   (uint32_t)im.width, (uint32_t)lines, (uint32_t)share, (uint32_t)parts,
                                   g.lanes},
                          .work = (double)rows * (double)(outs * ins * taps)};
    if (matrices) {
        const sid2_vk_caps *caps = sid2_vk_lowering_caps(lowering);
        d.shader = SID2_VK_product_wgrad_coop;
        d.local[0] = invocations(lowering, &b);
        d.local[1] = 1;
        d.constant[0] = b.down;
        d.constant[1] = b.across;
        d.constant[6] = CHANNELS;
        d.constant[7] = b.lanes;
        d.constant[8] = b.lines;
        d.constant[9] = caps->cooperative.m;
        d.constant[10] = caps->cooperative.n;
        d.constant[11] = caps->cooperative.k;
        d.constant[12] = d.local[0];
    }
    sid2_vk_emit(lowering, &d);
    if (parts > 1) add_parts(lowering, &sums, parts, dw);
}

void sid2_vk_lower_linear_wgrad(sid2_vk_lowering *lowering, const sid2_vk_call *call)
{
    if (sid2_vk_has(&call->out[0])) weight_gradient(lowering, call, (image){1, LINE, 1});
    if (sid2_vk_has(&call->out[1])) bias_gradient(lowering, &call->in[1], &call->out[1]);
}

void sid2_vk_lower_conv2d_wgrad(sid2_vk_lowering *lowering, const sid2_vk_call *call)
{
    weight_gradient(lowering, call, image_of(&call->in[0], call->attr->shape.dim[1]));
    if (sid2_vk_has(&call->out[1])) bias_gradient(lowering, &call->in[1], &call->out[1]);
}
