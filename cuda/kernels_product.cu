/* Matrix products and convolutions, for where cublasLt and cuDNN have none. One kernel: D (M x N) = A B in
 * tiles of 64 x 64, 16 of K at a time through shared memory, 4 x 4 results in each thread's registers, f32
 * throughout. A convolution is the product whose K runs over the taps and channels of its window (implicit
 * GEMM); a linear layer is the convolution of side 1. Where M N is small and K long, as for weights, K is
 * split over blocks, and their parts are added in order. */
#include "columns.h"
#include "samples.h"

using namespace exec;

namespace
{
struct convolution {
    int height, width, side, ins, outs; /* side 1: height and width do not matter */

    /* The pixel under tap of the window around `pixel` (tap counted from the other end: `back`); -1 outside. */
    SID2_DEVICE int64_t under(int64_t pixel, int tap, bool back) const
    {
        if (side == 1) return pixel;
        uint32_t at = static_cast<uint32_t>(pixel), w = static_cast<uint32_t>(width);
        int column = static_cast<int>(at % w), row = static_cast<int>(at / w % static_cast<uint32_t>(height));
        int down = tap / side - side / 2, right = tap % side - side / 2;
        if (back) down = -down, right = -right;
        if (row + down < 0 || row + down >= height || column + right < 0 || column + right >= width)
            return -1;
        return pixel + static_cast<int64_t>(down) * width + right;
    }
};

/* A problem gives a(m, k), b(n, k) within M, N, K, and says along which of its two its memory runs. */

/* y = x * w: M pixels, N outs, K taps x ins. */
struct forward_problem {
    static constexpr bool A_ALONG_K = true, B_ALONG_K = true;
    convolution c;
    array x, w;
    SID2_DEVICE float a(int64_t m, int64_t k) const
    {
        int tap = static_cast<int>(k) / c.ins, channel = static_cast<int>(k) % c.ins;
        int64_t pixel = c.under(m, tap, false);
        return pixel < 0 ? 0 : x.get(pixel * c.ins + channel);
    }
    SID2_DEVICE float b(int64_t n, int64_t k) const { return w.get(n * c.side * c.side * c.ins + k); }
};

/* The same over windows of frames, rows and columns, in steps and with margins. */
struct windows {
    int from[3], to[3], window[3], stride[3], before[3], ins, outs;

    /* The pixel of x under `tap` of window number `at`; -1 outside. */
    SID2_DEVICE int64_t under(int64_t at, int tap) const
    {
        int place[3];
        for (int i = 2; i >= 0; i--) {
            place[i] = static_cast<int>(at % to[i]) * stride[i] - before[i] + tap % window[i];
            if (place[i] < 0 || place[i] >= from[i]) return -1;
            at /= to[i];
            tap /= window[i];
        }
        return ((at * from[0] + place[0]) * from[1] + place[1]) * from[2] + place[2];
    }
};

struct window_problem {
    static constexpr bool A_ALONG_K = true, B_ALONG_K = true;
    windows c;
    int64_t k;
    array x, w;
    SID2_DEVICE float a(int64_t m, int64_t at) const
    {
        int64_t pixel = c.under(m, static_cast<int>(at) / c.ins);
        return pixel < 0 ? 0 : x.get(pixel * c.ins + static_cast<int>(at) % c.ins);
    }
    SID2_DEVICE float b(int64_t n, int64_t at) const { return w.get(n * k + at); }
};

/* dx = dy * w turned around: M pixels, N ins, K taps x outs. */
struct by_input_problem {
    static constexpr bool A_ALONG_K = true, B_ALONG_K = false;
    convolution c;
    array dy, w;
    SID2_DEVICE float a(int64_t m, int64_t k) const
    {
        int tap = static_cast<int>(k) / c.outs, channel = static_cast<int>(k) % c.outs;
        int64_t pixel = c.under(m, tap, true);
        return pixel < 0 ? 0 : dy.get(pixel * c.outs + channel);
    }
    SID2_DEVICE float b(int64_t n, int64_t k) const
    {
        int tap = static_cast<int>(k) / c.outs, channel = static_cast<int>(k) % c.outs;
        return w.get((static_cast<int64_t>(channel) * c.side * c.side + tap) * c.ins + n);
    }
};

/* dw = dy^T x: M outs, N taps x ins, K pixels. */
struct by_weight_problem {
    static constexpr bool A_ALONG_K = false, B_ALONG_K = false;
    convolution c;
    array dy, x;
    SID2_DEVICE float a(int64_t m, int64_t k) const { return dy.get(k * c.outs + m); }
    SID2_DEVICE float b(int64_t n, int64_t k) const
    {
        int tap = static_cast<int>(n) / c.ins, channel = static_cast<int>(n) % c.ins;
        int64_t pixel = c.under(k, tap, false);
        return pixel < 0 ? 0 : x.get(pixel * c.ins + channel);
    }
};

/* Where D goes: to y with bias and residual, or a block's part of it to scratch. */
struct destination {
    array bias, residual, y;
    span<float> parts; /* [split][M][N], or absent */
    bool rectify = false;
};

template <class Problem> struct product_kernel {
    enum { THREADS = 256, TILE = 64, DEEP = 16, LINE = TILE + 1 /* away from bank conflicts */ };
    Problem p;
    int64_t m, n, k, k_share; /* k_share: of a block in z */
    destination to;

    SID2_DEVICE void operator()() const
    {
        SID2_SHARED(float, tile_a, DEEP *LINE);
        SID2_SHARED(float, tile_b, DEEP *LINE);
        int64_t first_m = block_x() * TILE, first_n = block_y() * TILE;
        int64_t begin = block_z() * k_share, end = begin + k_share < k ? begin + k_share : k;
        int across = thread() % 16, down = thread() / 16;
        float sum[4][4] = {};
        for (int64_t at = begin; at < end; at += DEEP) {
            for (int i = thread(); i < TILE * DEEP; i += THREADS) {
                int deep = Problem::A_ALONG_K ? i % DEEP : i / TILE,
                    row = Problem::A_ALONG_K ? i / DEEP : i % TILE;
                bool inside = first_m + row < m && at + deep < end;
                tile_a[deep * LINE + row] = inside ? p.a(first_m + row, at + deep) : 0;
                deep = Problem::B_ALONG_K ? i % DEEP : i / TILE,
                row = Problem::B_ALONG_K ? i / DEEP : i % TILE;
                inside = first_n + row < n && at + deep < end;
                tile_b[deep * LINE + row] = inside ? p.b(first_n + row, at + deep) : 0;
            }
            barrier();
            for (int deep = 0; deep < DEEP; deep++) {
                float a[4], b[4];
                for (int i = 0; i < 4; i++) {
                    a[i] = tile_a[deep * LINE + down + 16 * i];
                    b[i] = tile_b[deep * LINE + across + 16 * i];
                }
                for (int i = 0; i < 4; i++)
                    for (int j = 0; j < 4; j++) sum[i][j] += a[i] * b[j];
            }
            barrier();
        }
        for (int i = 0; i < 4; i++)
            for (int j = 0; j < 4; j++) {
                int64_t row = first_m + down + 16 * i, column = first_n + across + 16 * j;
                if (row < m && column < n) store(row, column, sum[i][j]);
            }
    }

    SID2_DEVICE void store(int64_t row, int64_t column, float value) const
    {
        int64_t at = row * n + column;
        if (to.parts) return to.parts.set(block_z() * m * n + at, value);
        if (to.bias) value += to.bias.get(column);
        if (to.residual) value += to.residual.get(at);
        if (to.rectify && value < 0) value = 0;
        to.y.set(at, value);
    }
};

/* y += the parts, in order. */
struct add_parts_body {
    int64_t splits, count;
    span<float> parts;
    array y;
    SID2_DEVICE void operator()(int64_t, int64_t, int64_t at, bool wide) const
    {
        float v[8];
        y.get(at, wide, v);
        for (int64_t s = 0; s < splits; s++)
            for (int e = 0; e < (wide ? 8 : 1); e++) v[e] += parts[s * count + at + e];
        y.set(at, wide, v);
    }
};

struct bias_term {
    array dy;
    SID2_DEVICE void begin(int64_t, int, bool) {}
    SID2_DEVICE void add(int64_t, int64_t at, bool wide, float first[8], float[8])
    {
        float v[8];
        dy.get(at, wide, v);
        for (int e = 0; e < 8; e++) first[e] += v[e];
    }
};

struct bias_finish {
    array dbias;
    SID2_DEVICE void operator()(int64_t, int channel, float sum) const
    {
        dbias.set(channel, dbias.get(channel) + sum);
    }
};

/* ---- On the host ---- */

int64_t rows_of(const sid2_shape &s) { return sid2_shape_count(s) / last(s); }

/* x: the shape of the input or its gradient; w[outs,ins] or w[outs,side,side,ins]. */
convolution convolution_of(const sid2_shape &x, const sid2_shape &w)
{
    convolution c = {1, 1, 1, static_cast<int>(last(w)), static_cast<int>(w.dim[0])};
    if (w.rank == 2) return c;
    c.height = static_cast<int>(x.dim[x.rank - 3]);
    c.width = static_cast<int>(x.dim[x.rank - 2]);
    c.side = static_cast<int>(w.dim[1]);
    return c;
}

template <class Problem>
void launch_product(sid2_own *o, const Problem &p, int64_t m, int64_t n, int64_t k, int64_t splits,
                    const destination &to)
{
    enum { TILE = product_kernel<Problem>::TILE, DEEP = product_kernel<Problem>::DEEP };
    int64_t share = divide_up(divide_up(k, splits), DEEP) * DEEP;
    launch(o, product_kernel<Problem>{p, m, n, k, share, to}, divide_up(m, TILE), divide_up(n, TILE),
           divide_up(k, share));
}

void forward(sid2_own *o)
{
    const sid2_shape &x = o->call->in[0].shape;
    convolution c = convolution_of(x, o->call->in[1].shape);
    forward_problem p = {c, in(o, 0, "x"), in(o, 1, "w")};
    destination to = {in(o, 2, "bias"), in(o, 3, "residual"), out(o, 0, "y"), span<float>()};
    launch_product(o, p, rows_of(x), c.outs, int64_t(c.side) * c.side * c.ins, 1, to);
}

void over_windows(sid2_own *o)
{
    const sid2_shape &x = o->call->in[0].shape, &w = o->call->in[1].shape, &y = o->call->out[0].shape;
    const sid2_attr *attr = o->call->attr;
    windows c = {};
    for (int i = 0; i < 3; i++) {
        c.from[i] = static_cast<int>(x.dim[i + 1]);
        c.to[i] = static_cast<int>(y.dim[i + 1]);
        c.window[i] = static_cast<int>(w.dim[i + 1]);
        c.stride[i] = attr->stride[i], c.before[i] = attr->before[i];
    }
    c.ins = static_cast<int>(last(w)), c.outs = static_cast<int>(w.dim[0]);
    int64_t k = sid2_shape_count(w) / w.dim[0];
    window_problem p = {c, k, in(o, 0, "x"), in(o, 1, "w")};
    destination to = {in(o, 2, "bias"), array(), out(o, 0, "y"), span<float>(), attr->rectify != 0};
    launch_product(o, p, rows_of(y), c.outs, k, 1, to);
}

void by_input(sid2_own *o)
{
    const sid2_shape &dx = o->call->out[0].shape;
    convolution c = convolution_of(dx, o->call->in[1].shape);
    by_input_problem p = {c, in(o, 0, "dy"), in(o, 1, "w")};
    destination to = {array(), in(o, 2, "residual"), out(o, 0, "dx"), span<float>()};
    launch_product(o, p, rows_of(dx), c.ins, int64_t(c.side) * c.side * c.outs, 1, to);
}

void by_bias(sid2_own *o)
{
    sid2_shape dy = {2, {rows_of(o->call->in[1].shape), last(o->call->in[1].shape)}};
    sid2_shape one = {3, {1, dy.dim[0], dy.dim[1]}}; /* a single sample */
    columns c = columns_of(o, one);
    span<float> partials = column_partials(o, c);
    launch_columns(o, column_sums<bias_term>{c, bias_term{in(o, 1, "dy")}, partials}, c);
    launch_add(o, partial_sums{partials, 1, c.chunks, c.channels, 2 * c.channels},
               bias_finish{out(o, 1, "dbias")});
}

void by_weight(sid2_own *o)
{
    const sid2_call *call = o->call;
    if (call->out[1].data) by_bias(o);
    if (!call->out[0].data) return; /* the bias gradient alone: see kernel.h */
    const sid2_shape &x = call->in[0].shape;
    convolution c = convolution_of(x, call->out[0].shape);
    int64_t m = c.outs, n = int64_t(c.side) * c.side * c.ins, k = rows_of(x);
    /* Enough blocks to fill the GPU twice, each with 512 of K or more, and parts of 64 MiB at most. */
    int64_t tiles = divide_up(m, 64) * divide_up(n, 64);
    int64_t splits =
        least(divide_up(2 * int64_t(sid2_cuda_target_of(call)->multiprocessors), tiles), divide_up(k, 512));
    splits = most(1, least(splits, (int64_t(16) << 20) / (m * n)));
    splits = divide_up(k, divide_up(divide_up(k, splits), 16) * 16); /* as launch_product will have it */
    by_weight_problem p = {c, in(o, 1, "dy"), in(o, 0, "x")};
    destination to = {array(), array(), out(o, 0, "dw"), span<float>()};
    if (splits == 1) {
        to.residual = to.y;
        launch_product(o, p, m, n, k, 1, to);
        return;
    }
    to.parts = scratch<float>(o, splits * m * n, "parts");
    launch_product(o, p, m, n, k, splits, to);
    launch_each(o, flat_of(call->out[0].shape), add_parts_body{splits, m * n, to.parts, to.y});
}
} // namespace

extern "C" void sid2_own_linear(sid2_own *o) { forward(o); }
extern "C" void sid2_own_conv2d(sid2_own *o) { forward(o); }
extern "C" void sid2_own_conv3d(sid2_own *o) { over_windows(o); }
extern "C" void sid2_own_linear_dgrad(sid2_own *o) { by_input(o); }
extern "C" void sid2_own_conv2d_dgrad(sid2_own *o) { by_input(o); }
extern "C" void sid2_own_linear_wgrad(sid2_own *o) { by_weight(o); }
extern "C" void sid2_own_conv2d_wgrad(sid2_own *o) { by_weight(o); }
