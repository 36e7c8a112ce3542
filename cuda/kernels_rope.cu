/* q and k of each head: normalised, turned by their token's position; and the gradient. A warp has one head
 * of one token, a lane has pairs of elements that turn together, so a value is read once for a norm and once
 * more, from L1, to be turned. Cosines and sines come from a table of position and pair, made in float64
 * before. */
#include "exec.h"

#include "rotary.h"

using namespace exec;

namespace
{
struct heads {
    int64_t tokens, all; /* of a sample, of all samples */
    int count, width;
    int32_t grid[3];
    bool center;
    float eps;
    array gamma, beta; /* [2, width] */
    span<float> table; /* [position][pair][2]: cos, sin */

    SID2_DEVICE int pairs() const { return width / 2; }
};

/* Two elements of a head and the angle they turn by. Those past the parts form pairs that do not turn. */
struct pair {
    int a, b, axis, index; /* elements; axis -1: does not turn; index: of the pair within its part */
    int width;             /* of the part */

    SID2_DEVICE pair(int number, int head_width, const int32_t grid[3])
    {
        sid2_rotary parts = sid2_rotary_split(head_width, grid);
        int first = 0;
        index = number;
        for (axis = 0; axis < SID2_ROTARY_AXES; ++axis) {
            width = static_cast<int>(parts.width[axis]);
            if (index < width / 2) {
                a = first + index;
                b = a + width / 2;
                return;
            }
            index -= width / 2;
            first += width;
        }
        axis = -1;
        width = 0;
        a = first + 2 * index;
        b = a + 1;
    }
};

struct table_kernel {
    enum { THREADS = 128 };
    int head_width, positions;
    int32_t grid[3];
    float theta;
    span<float> table;

    SID2_DEVICE void operator()() const
    {
        int pairs = head_width / 2;
        int64_t i = block_x() * THREADS + thread();
        if (i >= static_cast<int64_t>(positions) * pairs) return;
        pair p(static_cast<int>(i % pairs), head_width, grid);
        double angle = p.axis < 0 ? 0 : sid2_rotary_angle(i / pairs, p.index, p.width, theta);
        table.set(2 * i, static_cast<float>(cos(angle)));
        table.set(2 * i + 1, static_cast<float>(sin(angle)));
    }
};

SID2_DEVICE void turn(const heads &h, int64_t token, int number, const pair &p, float direction, float *a,
                      float *b)
{
    if (p.axis < 0) return;
    int64_t at = (sid2_rotary_position(token, p.axis, h.grid) * h.pairs() + number) * 2;
    float c = h.table[at], s = direction * h.table[at + 1], x = *a;
    *a = x * c - *b * s;
    *b = x * s + *b * c;
}

/* Mean and 1/deviation of a head at `from`, by a warp. */
SID2_DEVICE void head_moments(const heads &h, const array &x, int64_t from, float *mean, float *rstd)
{
    float sum = 0, squares = 0, width = static_cast<float>(h.width);
    if (h.center)
        for (int i = thread() % WARP; i < h.width; i += WARP) sum += x.get(from + i);
    *mean = h.center ? warp_sum(sum) / width : 0;
    for (int i = thread() % WARP; i < h.width; i += WARP) {
        float d = x.get(from + i) - *mean;
        squares += d * d;
    }
    *rstd = 1.0f / sqrtf(warp_sum(squares) / width + h.eps);
}

/* Head number i of all: token, part (0 q, 1 k), head. */
struct head_place {
    int64_t row, from_qkv, from_qk;
    int part;

    SID2_DEVICE head_place(const heads &h, int64_t i)
    {
        int64_t head = i % h.count, channels = static_cast<int64_t>(h.count) * h.width;
        part = static_cast<int>(i / h.count % 2);
        row = i / h.count / 2;
        from_qkv = row * 3 * channels + part * channels + head * h.width;
        from_qk = row * 2 * channels + part * channels + head * h.width;
    }
};

struct forward_kernel {
    enum { THREADS = 256 };
    heads h;
    array qkv, qk;

    SID2_DEVICE void operator()() const
    {
        int64_t all = h.all * 2 * h.count, stride = blocks_x() * (THREADS / WARP);
        for (int64_t i = block_x() * (THREADS / WARP) + thread() / WARP; i < all; i += stride) one(i);
    }

    SID2_DEVICE float normalised(const head_place &at, int e, float mean, float rstd) const
    {
        float v = (qkv.get(at.from_qkv + e) - mean) * rstd;
        if (h.gamma) v *= h.gamma.get(at.part * h.width + e);
        return h.beta ? v + h.beta.get(at.part * h.width + e) : v;
    }

    SID2_DEVICE void one(int64_t i) const
    {
        head_place at(h, i);
        float mean = 0, rstd = 1;
        if (h.gamma) head_moments(h, qkv, at.from_qkv, &mean, &rstd);
        for (int number = thread() % WARP; number < h.pairs(); number += WARP) {
            pair p(number, h.width, h.grid);
            float a = normalised(at, p.a, mean, rstd), b = normalised(at, p.b, mean, rstd);
            turn(h, at.row % h.tokens, number, p, 1, &a, &b);
            qk.set(at.from_qk + p.a, a);
            qk.set(at.from_qk + p.b, b);
        }
    }
};

/* dqkv; and the heads' statistics, for the sums. */
struct backward_kernel {
    enum { THREADS = 256 };
    heads h;
    array dqk, qkv, dqkv;
    span<float> stats; /* [head of all][2] */

    SID2_DEVICE void operator()() const
    {
        int64_t all = h.all * 2 * h.count, stride = blocks_x() * (THREADS / WARP);
        for (int64_t i = block_x() * (THREADS / WARP) + thread() / WARP; i < all; i += stride) one(i);
    }

    /* The gradient before turning, and n of both elements. */
    SID2_DEVICE void read(const head_place &at, int number, const pair &p, float mean, float rstd, float g[2],
                          float n[2]) const
    {
        g[0] = dqk.get(at.from_qk + p.a);
        g[1] = dqk.get(at.from_qk + p.b);
        turn(h, at.row % h.tokens, number, p, -1, &g[0], &g[1]);
        if (!h.gamma) return;
        n[0] = (qkv.get(at.from_qkv + p.a) - mean) * rstd;
        n[1] = (qkv.get(at.from_qkv + p.b) - mean) * rstd;
        g[0] *= h.gamma.get(at.part * h.width + p.a);
        g[1] *= h.gamma.get(at.part * h.width + p.b);
    }

    SID2_DEVICE void one(int64_t i) const
    {
        head_place at(h, i);
        float mean = 0, rstd = 1, sum = 0, dot = 0, g[2], n[2] = {};
        int lane = thread() % WARP;
        if (h.gamma) {
            head_moments(h, qkv, at.from_qkv, &mean, &rstd);
            for (int number = lane; number < h.pairs(); number += WARP) {
                read(at, number, pair(number, h.width, h.grid), mean, rstd, g, n);
                sum += g[0] + g[1];
                dot += g[0] * n[0] + g[1] * n[1];
            }
            sum = h.center ? warp_sum(sum) / static_cast<float>(h.width) : 0;
            dot = warp_sum(dot) / static_cast<float>(h.width);
            if (lane == 0) {
                stats.set(2 * i, mean);
                stats.set(2 * i + 1, rstd);
            }
        }
        for (int number = lane; number < h.pairs(); number += WARP) {
            pair p(number, h.width, h.grid);
            read(at, number, p, mean, rstd, g, n);
            dqkv.set(at.from_qkv + p.a, h.gamma ? rstd * (g[0] - sum - n[0] * dot) : g[0]);
            dqkv.set(at.from_qkv + p.b, h.gamma ? rstd * (g[1] - sum - n[1] * dot) : g[1]);
        }
    }
};

/* The last third of dqkv is dv. */
struct copy_kernel {
    enum { THREADS = 256 };
    int64_t rows;
    int channels;
    bool wide;
    array dv, dqkv;

    SID2_DEVICE void operator()() const
    {
        int step = wide ? 8 : 1, vectors = channels / step;
        int64_t all = rows * vectors;
        for (int64_t i = block_x() * THREADS + thread(); i < all; i += blocks_x() * THREADS) {
            float v[8];
            dv.get(i * step, wide, v);
            dqkv.set((i / vectors * 3 + 2) * channels + i % vectors * step, wide, v);
        }
    }
};

/* dgamma and dbeta, part of a sum for each block: partials[block][part][2][pair]. A thread has one pair of
 * one part, in a share of the tokens. */
struct sums_kernel {
    enum { THREADS = 128 };
    heads h;
    array dqk, qkv;
    span<float> stats, partials; /* [block][2: dgamma, dbeta][2: part][width] */
    int64_t share;               /* tokens of a block */

    SID2_DEVICE void operator()() const
    {
        int64_t end = (block_x() + 1) * share < h.all ? (block_x() + 1) * share : h.all;
        for (int i = thread(); i < 2 * h.pairs(); i += THREADS) one(i / h.pairs(), i % h.pairs(), end);
    }

    SID2_DEVICE void one(int part, int number, int64_t end) const
    {
        pair p(number, h.width, h.grid);
        float dgamma[2] = {}, dbeta[2] = {};
        for (int64_t row = block_x() * share; row < end; ++row)
            for (int head = 0; head < h.count; ++head) {
                int64_t i = (row * 2 + part) * h.count + head;
                head_place at(h, i);
                float mean = stats[2 * i], rstd = stats[2 * i + 1];
                float a = dqk.get(at.from_qk + p.a), b = dqk.get(at.from_qk + p.b);
                turn(h, row % h.tokens, number, p, -1, &a, &b);
                dgamma[0] += a * (qkv.get(at.from_qkv + p.a) - mean) * rstd;
                dgamma[1] += b * (qkv.get(at.from_qkv + p.b) - mean) * rstd;
                dbeta[0] += a;
                dbeta[1] += b;
            }
        int64_t at = block_x() * 4 * h.width + part * h.width;
        partials.set(at + p.a, dgamma[0]);
        partials.set(at + p.b, dgamma[1]);
        partials.set(at + 2 * h.width + p.a, dbeta[0]);
        partials.set(at + 2 * h.width + p.b, dbeta[1]);
    }
};

/* A warp for each of the 4 width sums. */
struct add_sums_kernel {
    enum { THREADS = 128 };
    int64_t blocks;
    int width;
    span<float> partials;
    array dgamma, dbeta;

    SID2_DEVICE void operator()() const
    {
        int64_t i = block_x() * (THREADS / WARP) + thread() / WARP;
        if (i >= 4 * static_cast<int64_t>(width)) return;
        float sum = 0;
        for (int64_t b = thread() % WARP; b < blocks; b += WARP) sum += partials[b * 4 * width + i];
        sum = warp_sum(sum);
        const array &to = i < 2 * width ? dgamma : dbeta;
        int64_t at = i % (2 * width);
        if (thread() % WARP == 0 && to) to.set(at, to.get(at) + sum);
    }
};

/* The table comes first in scratch. */
heads prepare(sid2_own *o, int qkv, int gamma)
{
    const sid2_attr *attr = o->call->attr;
    const sid2_shape &shape = o->call->in[qkv].shape;
    heads h = {};
    h.count = attr->heads;
    h.width = static_cast<int>(last(shape) / 3 / attr->heads);
    h.all = sid2_shape_count(shape) / last(shape);
    h.tokens = h.all / shape.dim[0];
    memcpy(h.grid, attr->grid, sizeof h.grid);
    h.center = attr->center != 0;
    h.eps = attr->eps;
    h.gamma = in(o, gamma, "gamma");
    h.beta = in(o, gamma + 1, "beta");
    int positions = static_cast<int>(most(h.grid[0], most(h.grid[1], h.grid[2])));
    int64_t entries = static_cast<int64_t>(positions) * (h.width / 2);
    h.table = scratch<float>(o, entries * 2, "table");
    table_kernel k = {h.width, positions, {h.grid[0], h.grid[1], h.grid[2]}, attr->theta, h.table};
    launch(o, k, divide_up(entries, table_kernel::THREADS));
    return h;
}
} // namespace

extern "C" void sid2_own_qk_norm_rope(sid2_own *o)
{
    heads h = prepare(o, 0, 1);
    launch(o, forward_kernel{h, in(o, 0, "qkv"), out(o, 0, "qk")},
           blocks_for(o, h.all * 2 * h.count * WARP, forward_kernel::THREADS));
}

extern "C" void sid2_own_qk_norm_rope_grad(sid2_own *o)
{
    heads h = prepare(o, 2, 3);
    array dqk = in(o, 0, "dqk"), dv = in(o, 1, "dv"), qkv = in(o, 2, "qkv"), dqkv = out(o, 0, "dqkv");
    array dgamma = out(o, 1, "dgamma"), dbeta = out(o, 2, "dbeta");
    int64_t count = h.all * 2 * h.count, channels = static_cast<int64_t>(h.count) * h.width;
    span<float> stats = scratch<float>(o, 2 * count, "stats");
    copy_kernel copy = {h.all, static_cast<int>(channels), channels % 8 == 0, dv, dqkv};
    launch(o, copy, blocks_for(o, h.all * channels / (copy.wide ? 8 : 1), copy_kernel::THREADS));
    launch(o, backward_kernel{h, dqk, qkv, dqkv, stats},
           blocks_for(o, count * WARP, backward_kernel::THREADS));
    if (!h.gamma || (!dgamma && !dbeta)) return;
    int64_t share = divide_up(h.all, 8 * int64_t(o->call->target->multiprocessors));
    int64_t blocks = divide_up(h.all, share);
    span<float> partials = scratch<float>(o, blocks * 4 * h.width, "partials");
    launch(o, sums_kernel{h, dqk, qkv, stats, partials, share}, blocks);
    launch(o, add_sums_kernel{blocks, h.width, partials, dgamma, dbeta},
           divide_up(4 * int64_t(h.width) * WARP, add_sums_kernel::THREADS));
}
