/* q and k of each head: normalised, turned by their token's position; and the gradient. A few neighbouring
 * threads share a head, each with eight pairs of elements that turn together: every value is read once and
 * stays in registers. They keep to one token and walk over its heads, so cosines and sines are read once for
 * many; they come from a table of position and pair, made in float64 before. */
#include "columns.h"

#include "rotary.h"

using namespace exec;

namespace
{
enum { THREADS_OF_BLOCK = 128 };

struct heads {
    int64_t tokens, all; /* of a sample, of all samples */
    int count, width;
    int turning[SID2_ROTARY_AXES]; /* elements that turn by an axis */
    int32_t grid[3];
    bool center, wide; /* wide: a thread's pairs are two runs of elements */
    float eps, inverse_width;
    span<float> gamma, beta; /* [2, width] */
    span<float> table;       /* [position][2: cos, sin][pair] */
    int lanes;               /* threads of a head: a power of two */
    int64_t share;           /* tokens of a block */
    int walk;                /* heads that a thread walks over */

    SID2_HOST_DEVICE int pairs() const { return width / 2; }
    SID2_HOST_DEVICE int pairs_of_thread() const { return wide ? 8 : 2; }
    SID2_HOST_DEVICE int groups() const { return THREADS_OF_BLOCK / lanes; } /* tokens at a time */
    SID2_HOST_DEVICE int64_t channels() const { return static_cast<int64_t>(count) * width; }
    /* Where a head begins in a tensor that has `parts` times all heads' channels. */
    SID2_DEVICE int64_t from(int64_t row, int parts, int part, int head) const
    {
        return (row * parts + part) * channels() + static_cast<int64_t>(head) * width;
    }
};

/* Pair `number` of a head: its elements, and the axis whose position turns it. Those past the parts do not
 * turn: axis -1. */
struct pair {
    int a, b, axis, index; /* index: of the pair within its part */

    SID2_DEVICE pair(const heads &h, int number)
    {
        int first = 0;
        index = number;
        for (axis = 0; axis < SID2_ROTARY_AXES; axis++) {
            int half = h.turning[axis] / 2;
            if (index < half) {
                a = first + index;
                b = a + half;
                return;
            }
            index -= half;
            first += h.turning[axis];
        }
        axis = -1;
        a = first + 2 * index;
        b = a + 1;
    }
};

struct table_kernel {
    enum { THREADS = 128 };
    heads h;
    int positions;
    float theta;

    SID2_DEVICE void operator()() const
    {
        int64_t i = block_x() * THREADS + thread();
        if (i >= static_cast<int64_t>(positions) * h.pairs()) return;
        int64_t position = i / h.pairs(), number = i % h.pairs();
        pair p(h, static_cast<int>(number));
        double angle = p.axis < 0 ? 0 : sid2_rotary_angle(position, p.index, h.turning[p.axis], theta);
        h.table.set(2 * position * h.pairs() + number, static_cast<float>(cos(angle)));
        h.table.set((2 * position + 1) * h.pairs() + number, static_cast<float>(sin(angle)));
    }
};

/* Both elements of a thread's pairs. */
template <int PAIRS> struct values {
    float a[PAIRS], b[PAIRS];
};

/* The calling thread's pairs, from `first` on, of some heads: eight, whose elements are two runs, or two,
 * which are read and written one by one. */
template <int PAIRS> struct lane {
    enum { WIDE = PAIRS == 8 };
    const heads &h;
    int first, have; /* have: of its pairs; wide: all or none */
    int a, b;        /* elements of the first */
    /* Where its token's cosines are in the table, the sines `pairs` behind; -1: does not turn (wide: all do). */
    int angles[WIDE ? 1 : PAIRS];

    SID2_DEVICE explicit lane(const heads &all)
        : h(all), first(thread() % all.lanes * PAIRS), have(all.pairs() - first)
    {
        pair p(h, first);
        a = p.a;
        b = p.b;
        have = have < 0 ? 0 : have > PAIRS ? PAIRS : have;
    }

    /* Of the head that begins at `from`. Narrow: as f32, whatever x is. */
    SID2_DEVICE void fetch(const array &x, int64_t from, raw to[2]) const
    {
        to[0] = to[1] = raw();
        if constexpr (WIDE) {
            if (have == 0) return;
            to[0] = x.fetch(from + a, true);
            to[1] = x.fetch(from + b, true);
        } else
            for (int e = 0; e < PAIRS; e++) {
                if (e >= have) continue;
                pair q(h, first + e);
                to[0].word[e] = as_bits(x.get(from + q.a));
                to[1].word[e] = as_bits(x.get(from + q.b));
            }
    }

    SID2_DEVICE void unpack(const array &x, const raw r[2], values<PAIRS> *v) const
    {
        if constexpr (WIDE) {
            x.unpack(r[0], v->a);
            x.unpack(r[1], v->b);
        } else
            for (int e = 0; e < PAIRS; e++) {
                v->a[e] = as_float(r[0].word[e]);
                v->b[e] = as_float(r[1].word[e]);
            }
    }

    SID2_DEVICE values<PAIRS> get(const array &x, int64_t from) const
    {
        raw r[2];
        values<PAIRS> v;
        fetch(x, from, r);
        unpack(x, r, &v);
        return v;
    }

    SID2_DEVICE values<PAIRS> get(const span<float> &x, int64_t from) const
    {
        values<PAIRS> v = {};
        if constexpr (WIDE) {
            if (have == 0) return v;
            get_eight(x, from + a, v.a);
            get_eight(x, from + b, v.b);
        } else
            for (int e = 0; e < PAIRS; e++) {
                if (e >= have) continue;
                pair q(h, first + e);
                v.a[e] = x[from + q.a];
                v.b[e] = x[from + q.b];
            }
        return v;
    }

    SID2_DEVICE void set(const array &x, int64_t from, const values<PAIRS> &v) const
    {
        if constexpr (WIDE) {
            if (have == 0) return;
            x.set(from + a, true, v.a);
            x.set(from + b, true, v.b);
        } else
            for (int e = 0; e < PAIRS; e++) {
                if (e >= have) continue;
                pair q(h, first + e);
                x.set(from + q.a, v.a[e]);
                x.set(from + q.b, v.b[e]);
            }
    }

    SID2_DEVICE void move_to(uint32_t token)
    {
        uint32_t width = static_cast<uint32_t>(h.grid[2]), height = static_cast<uint32_t>(h.grid[1]);
        uint32_t line = token / width;
        for (int e = 0; e < (WIDE ? 1 : PAIRS); e++) {
            int axis = pair(h, first + e).axis;
            uint32_t position = axis == 0 ? line / height : axis == 1 ? line % height : token % width;
            bool turns = e < have && axis >= 0;
            angles[e] = turns ? 2 * static_cast<int>(position) * h.pairs() + first + e : WIDE ? 0 : -1;
        }
    }

    /* Back: by the opposite angle. */
    SID2_DEVICE void rotate(bool back, values<PAIRS> *v) const
    {
        values<PAIRS> turn; /* cosines, sines */
        if constexpr (WIDE) {
            get_eight(h.table, angles[0], turn.a);
            get_eight(h.table, angles[0] + h.pairs(), turn.b);
        } else
            for (int e = 0; e < PAIRS; e++) {
                turn.a[e] = angles[e] < 0 ? 1 : h.table[angles[e]];
                turn.b[e] = angles[e] < 0 ? 0 : h.table[angles[e] + h.pairs()];
            }
        for (int e = 0; e < PAIRS; e++) {
            float c = turn.a[e], s = back ? -turn.b[e] : turn.b[e], x = v->a[e];
            v->a[e] = x * c - v->b[e] * s;
            v->b[e] = x * s + v->b[e] * c;
        }
    }

    /* The sum over a head's threads, in all of them. All threads of the block must come. */
    SID2_DEVICE float sum(float v) const
    {
        SID2_SHARED(float, parts, THREADS_OF_BLOCK / WARP);
        int near = h.lanes < WARP ? h.lanes : WARP;
        for (int mask = near / 2; mask > 0; mask /= 2) v += shuffle_xor(v, mask);
        if (h.lanes <= WARP) return v;
        if (thread() % WARP == 0) parts[thread() / WARP] = v;
        barrier();
        int warps = h.lanes / WARP, begin = thread() / h.lanes * warps;
        v = 0;
        for (int i = 0; i < warps; i++) v += parts[begin + i];
        barrier();
        return v;
    }

    /* v becomes (v - mean) rstd, missing pairs stay 0; returns rstd. */
    SID2_DEVICE float normalise(values<PAIRS> *v) const
    {
        float mean = 0, squares = 0;
        if (h.center) {
            for (int e = 0; e < PAIRS; e++) mean += v->a[e] + v->b[e];
            mean = sum(mean) * h.inverse_width;
        }
        for (int e = 0; e < PAIRS; e++) {
            float centre = (WIDE ? have > 0 : e < have) ? mean : 0;
            v->a[e] -= centre;
            v->b[e] -= centre;
            squares += v->a[e] * v->a[e] + v->b[e] * v->b[e];
        }
        float rstd = inverse_root(sum(squares) * h.inverse_width + h.eps);
        for (int e = 0; e < PAIRS; e++) {
            v->a[e] *= rstd;
            v->b[e] *= rstd;
        }
        return rstd;
    }
};

/* Calls task.head(row, head, live) for all heads of the thread's walk, of token after token. All threads of a
 * block go along to the end, with the last token where theirs are done: not live, they write nothing. */
template <class Task> SID2_DEVICE void walk(const heads &h, Task &task)
{
    int64_t begin = block_x() * h.share, end = begin + h.share < h.all ? begin + h.share : h.all;
    int from = static_cast<int>(block_z()) * h.walk, to = from + h.walk < h.count ? from + h.walk : h.count;
    uint32_t tokens = static_cast<uint32_t>(h.tokens), before = static_cast<uint32_t>(begin % h.tokens);
    uint32_t count = static_cast<uint32_t>(end - begin), step = static_cast<uint32_t>(h.groups());
    for (uint32_t base = 0; base < count; base += step) {
        uint32_t i = base + static_cast<uint32_t>(thread() / h.lanes);
        bool live = i < count;
        if (!live) i = count - 1;
        task.me.move_to((before + i) % tokens);
        for (int head = from; head < to; head++) task.head(begin + i, head, live);
    }
}

template <int PAIRS> struct forward_kernel {
    enum { THREADS = THREADS_OF_BLOCK };
    heads h;
    array qkv, qk;

    struct task {
        const forward_kernel &k;
        lane<PAIRS> me;
        int part; /* 0 q, 1 k */

        SID2_DEVICE void head(int64_t row, int head, bool live)
        {
            values<PAIRS> v = me.get(k.qkv, k.h.from(row, 3, part, head));
            if (k.h.gamma) {
                me.normalise(&v);
                values<PAIRS> gamma = me.get(k.h.gamma, part * k.h.width), beta = {};
                if (k.h.beta) beta = me.get(k.h.beta, part * k.h.width);
                for (int e = 0; e < PAIRS; e++) {
                    v.a[e] = v.a[e] * gamma.a[e] + beta.a[e];
                    v.b[e] = v.b[e] * gamma.b[e] + beta.b[e];
                }
            }
            me.rotate(false, &v);
            if (live) me.set(k.qk, k.h.from(row, 2, part, head), v);
        }
    };

    SID2_DEVICE void operator()() const
    {
        task t = {*this, lane<PAIRS>(h), static_cast<int>(block_y())};
        walk(h, t);
    }
};

/* dqkv, and the block's part of dgamma and dbeta. */
template <int PAIRS> struct backward_kernel {
    enum { THREADS = THREADS_OF_BLOCK };
    heads h;
    array dqk, dv, qkv, dqkv;
    span<float> partials; /* [block][2: dgamma, dbeta][2: q, k][width] */

    struct task {
        const backward_kernel &k;
        lane<PAIRS> me;
        int part; /* 0 q, 1 k, 2 v, whose gradient is copied */
        values<PAIRS> dgamma, dbeta;

        SID2_DEVICE void head(int64_t row, int head, bool live)
        {
            int64_t here = k.h.from(row, 3, part, head);
            if (part == 2) {
                if (live) me.set(k.dqkv, here, me.get(k.dv, k.h.from(row, 1, 0, head)));
                return;
            }
            raw raw_g[2], raw_x[2] = {};
            me.fetch(k.dqk, k.h.from(row, 2, part, head), raw_g);
            if (k.h.gamma) me.fetch(k.qkv, here, raw_x);
            values<PAIRS> g, n;
            me.unpack(k.dqk, raw_g, &g);
            me.rotate(true, &g);
            if (k.h.gamma) {
                me.unpack(k.qkv, raw_x, &n);
                float rstd = me.normalise(&n);
                if (live) add(g, n);
                scale(&g, n, rstd);
            }
            if (live) me.set(k.dqkv, here, g);
        }

        SID2_DEVICE void add(const values<PAIRS> &g, const values<PAIRS> &n)
        {
            for (int e = 0; e < PAIRS; e++) {
                dgamma.a[e] += g.a[e] * n.a[e];
                dgamma.b[e] += g.b[e] * n.b[e];
                dbeta.a[e] += g.a[e];
                dbeta.b[e] += g.b[e];
            }
        }

        /* Through gamma and the norm. */
        SID2_DEVICE void scale(values<PAIRS> *g, const values<PAIRS> &n, float rstd) const
        {
            values<PAIRS> gamma = me.get(k.h.gamma, part * k.h.width);
            float mean = 0, dot = 0;
            for (int e = 0; e < PAIRS; e++) {
                g->a[e] *= gamma.a[e];
                g->b[e] *= gamma.b[e];
                mean += g->a[e] + g->b[e];
                dot += g->a[e] * n.a[e] + g->b[e] * n.b[e];
            }
            mean = k.h.center ? me.sum(mean) * k.h.inverse_width : 0;
            dot = me.sum(dot) * k.h.inverse_width;
            for (int e = 0; e < PAIRS; e++) {
                g->a[e] = rstd * (g->a[e] - mean - n.a[e] * dot);
                g->b[e] = rstd * (g->b[e] - mean - n.b[e] * dot);
            }
        }
    };

    SID2_DEVICE void operator()() const
    {
        task t = {*this, lane<PAIRS>(h), static_cast<int>(block_y()), {}, {}};
        walk(h, t);
        if (partials && t.part < 2) leave(t);
    }

    SID2_DEVICE void leave(const task &t) const
    {
        SID2_SHARED(float, sums, 4 * PAIRS * THREADS);
        for (int e = 0; e < PAIRS; e++) {
            sums[e * THREADS + thread()] = t.dgamma.a[e];
            sums[(PAIRS + e) * THREADS + thread()] = t.dgamma.b[e];
            sums[(2 * PAIRS + e) * THREADS + thread()] = t.dbeta.a[e];
            sums[(3 * PAIRS + e) * THREADS + thread()] = t.dbeta.b[e];
        }
        barrier();
        int64_t block = block_z() * blocks_x() + block_x();
        for (int i = thread(); i < 4 * PAIRS * h.lanes; i += THREADS) {
            int lane = i % h.lanes, slot = i / h.lanes, which = slot / PAIRS;
            int number = lane * PAIRS + slot % PAIRS;
            if (number >= h.pairs()) continue;
            pair p(h, number);
            float sum = 0;
            for (int group = 0; group < h.groups(); group++)
                sum += sums[slot * THREADS + group * h.lanes + lane];
            partials.set((block * 4 + which / 2 * 2 + t.part) * h.width + (which % 2 ? p.b : p.a), sum);
        }
    }
};

/* Sum i of a block's 4 width. */
struct add_sums {
    int width;
    array dgamma, dbeta;
    SID2_DEVICE void operator()(int64_t, int i, float sum) const
    {
        const array &to = i < 2 * width ? dgamma : dbeta;
        int64_t at = i % (2 * width);
        if (to) to.set(at, to.get(at) + sum);
    }
};

struct grid {
    int64_t x, z;
};

/* Eight blocks a multiprocessor: where there are many tokens each block has more of them, where there are few
 * the heads are spread as well. */
grid share_out(const sid2_own *o, heads *h)
{
    int64_t wanted = 8 * int64_t(sid2_cuda_target_of(o->call)->multiprocessors);
    int64_t blocks = divide_up(h->all, h->groups());
    int64_t spread = most(1, least(wanted / (2 * blocks), h->count));
    h->walk = static_cast<int>(divide_up(h->count, spread));
    h->share = h->groups() * divide_up(2 * blocks, wanted);
    grid g = {divide_up(h->all, h->share), divide_up(h->count, h->walk)};
    return g;
}

/* The table comes first in scratch. */
heads prepare(sid2_own *o, int qkv, int gamma, grid *blocks)
{
    const sid2_attr *attr = o->call->attr;
    const sid2_shape &shape = o->call->in[qkv].shape;
    heads h = {};
    h.count = attr->heads;
    h.width = static_cast<int>(last(shape) / 3 / attr->heads);
    h.all = sid2_shape_count(shape) / last(shape);
    h.tokens = h.all / shape.dim[0];
    memcpy(h.grid, attr->grid, sizeof h.grid);
    sid2_rotary parts = sid2_rotary_split(h.width, h.grid);
    int turn = 0;
    h.wide = true;
    for (int i = 0; i < SID2_ROTARY_AXES; i++) {
        h.turning[i] = static_cast<int>(parts.width[i]);
        turn += h.turning[i];
        h.wide = h.wide && h.turning[i] % 16 == 0;
    }
    h.wide = h.wide && turn == h.width;
    h.center = attr->center != 0;
    h.eps = attr->eps;
    h.inverse_width = 1 / static_cast<float>(h.width);
    h.gamma = words<float>(o->call->in[gamma], "gamma");
    h.beta = words<float>(o->call->in[gamma + 1], "beta");
    h.lanes = 1;
    while (h.lanes * h.pairs_of_thread() < h.pairs()) h.lanes *= 2;
    if (h.lanes > THREADS_OF_BLOCK) {
        o->ok = sid2_fail(o->err, SID2_ERR_UNSUPPORTED,
                          "a head of %d elements is more than the %d that CUDA's kernel takes", h.width,
                          2 * h.pairs_of_thread() * THREADS_OF_BLOCK);
        return h;
    }
    *blocks = share_out(o, &h);
    int positions = static_cast<int>(most(h.grid[0], most(h.grid[1], h.grid[2])));
    int64_t entries = static_cast<int64_t>(positions) * h.pairs();
    h.table = scratch<float>(o, entries * 2, "table");
    launch(o, table_kernel{h, positions, attr->theta}, divide_up(entries, table_kernel::THREADS));
    return h;
}
} // namespace

extern "C" void sid2_own_qk_norm_rope(sid2_own *o)
{
    grid blocks = {};
    heads h = prepare(o, 0, 1, &blocks);
    array qkv = in(o, 0, "qkv"), qk = out(o, 0, "qk");
    if (h.wide)
        launch(o, forward_kernel<8>{h, qkv, qk}, blocks.x, 2, blocks.z);
    else
        launch(o, forward_kernel<2>{h, qkv, qk}, blocks.x, 2, blocks.z);
}

extern "C" void sid2_own_qk_norm_rope_grad(sid2_own *o)
{
    grid blocks = {};
    heads h = prepare(o, 2, 3, &blocks);
    array dqk = in(o, 0, "dqk"), dv = in(o, 1, "dv"), qkv = in(o, 2, "qkv"), dqkv = out(o, 0, "dqkv");
    array dgamma = out(o, 1, "dgamma"), dbeta = out(o, 2, "dbeta");
    span<float> partials = {};
    int64_t count = blocks.x * blocks.z;
    if (dgamma || dbeta) partials = scratch<float>(o, count * 4 * h.width, "partials");
    if (h.wide)
        launch(o, backward_kernel<8>{h, dqk, dv, qkv, dqkv, partials}, blocks.x, 3, blocks.z);
    else
        launch(o, backward_kernel<2>{h, dqk, dv, qkv, dqkv, partials}, blocks.x, 3, blocks.z);
    if (dgamma || dbeta)
        launch_add(o, partial_sums{partials, 1, static_cast<int>(count), 4 * h.width, 4 * h.width},
                   add_sums{h.width, dgamma, dbeta});
}
