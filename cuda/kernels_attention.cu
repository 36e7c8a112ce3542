/* Attention and its gradient, for where cuDNN has none: tiles of 32 queries by 32 keys, an online softmax,
 * never a T x T buffer, any width of head. 64 threads, 8 x 8, each with 4 x 4 scores: rows down, down + 8, ..
 * and columns across, across + 8, ... A block makes 64 columns of its result; where heads are wider, several
 * blocks make the same scores. The gradient keeps no scores either: one pass by queries makes dq, one by keys
 * makes dk and dv, each of them alone the owner of its rows, so nothing is added by atomics.
 *
 * Multiply-adds, by T T d of a head: forward 2, gradient 5 at least; here 2 and 7 (d up to 64), 3 and 11
 * (d = 128). */
#include "exec.h"

using namespace exec;

namespace
{
enum { TILE = 32, LINE = TILE + 1, COLUMNS = 64, COLUMNS_LINE = COLUMNS + 1, TILE_THREADS = 64 };

/* Rows of a head: element e of token t is at from + t stride + e. */
struct head_rows {
    array data;
    int64_t from;
    int stride;
};

struct shape {
    int64_t tokens;
    int heads, width;
    float scale;

    SID2_HOST_DEVICE int64_t tiles() const { return (tokens + TILE - 1) / TILE; }
};

/* What a block has to do: a head of a sample, a tile of its rows, some columns. */
struct task {
    int64_t head, sample; /* head: of all samples' */
    int64_t first;        /* row */
    int column, down, across;

    SID2_DEVICE explicit task(const shape &s)
    {
        head = block_x() / s.tiles();
        sample = head / s.heads;
        first = block_x() % s.tiles() * TILE;
        column = static_cast<int>(block_y()) * COLUMNS;
        down = thread() / 8;
        across = thread() % 8;
    }
    /* Of a tensor whose tokens have `parts` times all heads' channels. */
    SID2_DEVICE head_rows rows(const shape &s, const array &data, int parts, int part) const
    {
        int channels = s.heads * s.width;
        int64_t from = sample * s.tokens * parts * channels + static_cast<int64_t>(part) * channels;
        head_rows r = {data, from + head % s.heads * s.width, parts * channels};
        return r;
    }
};

/* sum[i][j] += row first_a + down + 8 i of a, times row first_b + across + 8 j of b. Rows past the end are 0. */
template <class Tile>
SID2_DEVICE void dot(const shape &s, const task &t, const head_rows &a, int64_t first_a, const head_rows &b,
                     int64_t first_b, Tile &tile_a, Tile &tile_b, float sum[4][4])
{
    for (int begin = 0; begin < s.width; begin += TILE) {
        for (int i = thread(); i < TILE * TILE; i += TILE_THREADS) {
            int row = i / TILE, e = i % TILE;
            bool in_a = begin + e < s.width && first_a + row < s.tokens;
            bool in_b = begin + e < s.width && first_b + row < s.tokens;
            tile_a[row * LINE + e] = in_a ? a.data.get(a.from + (first_a + row) * a.stride + begin + e) : 0;
            tile_b[row * LINE + e] = in_b ? b.data.get(b.from + (first_b + row) * b.stride + begin + e) : 0;
        }
        barrier();
        for (int e = 0; e < TILE && begin + e < s.width; e++) {
            float x[4], y[4];
            for (int i = 0; i < 4; i++) {
                x[i] = tile_a[(t.down + 8 * i) * LINE + e];
                y[i] = tile_b[(t.across + 8 * i) * LINE + e];
            }
            for (int i = 0; i < 4; i++)
                for (int j = 0; j < 4; j++) sum[i][j] += x[i] * y[j];
        }
        barrier();
    }
}

/* sum[i][j] += over the rows r of b's tile, weight[down + 8 i][r] b[r][column + across + 8 j]; weights as
 * each thread has them. */
template <class Tile, class Wide>
SID2_DEVICE void accumulate(const shape &s, const task &t, const float weight[4][4], const head_rows &b,
                            int64_t first_b, Tile &weights, Wide &columns, float sum[4][8])
{
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 4; j++) weights[(t.down + 8 * i) * LINE + t.across + 8 * j] = weight[i][j];
    for (int i = thread(); i < TILE * COLUMNS; i += TILE_THREADS) {
        int row = i / COLUMNS, e = t.column + i % COLUMNS;
        bool inside = e < s.width && first_b + row < s.tokens;
        columns[row * COLUMNS_LINE + i % COLUMNS] =
            inside ? b.data.get(b.from + (first_b + row) * b.stride + e) : 0;
    }
    barrier();
    for (int row = 0; row < TILE && first_b + row < s.tokens; row++) {
        float x[4], y[8];
        for (int i = 0; i < 4; i++) x[i] = weights[(t.down + 8 * i) * LINE + row];
        for (int j = 0; j < 8; j++) y[j] = columns[row * COLUMNS_LINE + t.across + 8 * j];
        for (int i = 0; i < 4; i++)
            for (int j = 0; j < 8; j++) sum[i][j] += x[i] * y[j];
    }
    barrier();
}

SID2_DEVICE void store(const shape &s, const task &t, const float sum[4][8], const head_rows &to)
{
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 8; j++) {
            int64_t row = t.first + t.down + 8 * i;
            int e = t.column + t.across + 8 * j;
            if (row < s.tokens && e < s.width) to.data.set(to.from + row * to.stride + e, sum[i][j]);
        }
}

/* Over the 8 threads that share rows. */
SID2_DEVICE float row_sum(float v)
{
    for (int mask = 4; mask > 0; mask /= 2) v += shuffle_xor(v, mask);
    return v;
}
SID2_DEVICE float row_most(float v)
{
    for (int mask = 4; mask > 0; mask /= 2) v = fmaxf(v, shuffle_xor(v, mask));
    return v;
}

struct attention_kernel {
    enum { THREADS = TILE_THREADS };
    shape s;
    array qk, qkv, y;
    span<float> lse;

    SID2_DEVICE void operator()() const
    {
        SID2_SHARED(float, tile_a, TILE *LINE);
        SID2_SHARED(float, tile_b, TILE *LINE);
        SID2_SHARED(float, columns, TILE *COLUMNS_LINE);
        task t(s);
        head_rows q = t.rows(s, qk, 2, 0), k = t.rows(s, qk, 2, 1), v = t.rows(s, qkv, 3, 2);
        float top[4], total[4] = {}, sum[4][8] = {};
        for (int i = 0; i < 4; i++) top[i] = -INFINITY;
        for (int64_t key = 0; key < s.tokens; key += TILE) {
            float p[4][4] = {};
            dot(s, t, q, t.first, k, key, tile_a, tile_b, p);
            for (int i = 0; i < 4; i++) {
                float high = top[i];
                for (int j = 0; j < 4; j++) {
                    p[i][j] = key + t.across + 8 * j < s.tokens ? p[i][j] * s.scale : -INFINITY;
                    high = fmaxf(high, p[i][j]);
                }
                high = row_most(high); /* finite: a tile has at least one key */
                float shrink = fast_exp(top[i] - high);
                top[i] = high;
                total[i] *= shrink;
                for (int j = 0; j < 8; j++) sum[i][j] *= shrink;
                for (int j = 0; j < 4; j++) {
                    p[i][j] = fast_exp(p[i][j] - high);
                    total[i] += p[i][j];
                }
            }
            accumulate(s, t, p, v, key, tile_a, columns, sum);
        }
        for (int i = 0; i < 4; i++) {
            int64_t row = t.first + t.down + 8 * i;
            total[i] = row_sum(total[i]);
            for (int j = 0; j < 8; j++) sum[i][j] /= total[i];
            if (lse && t.across == 0 && t.column == 0 && row < s.tokens)
                lse.set(t.head * s.tokens + row, top[i] + logf(total[i]));
        }
        store(s, t, sum, t.rows(s, y, 1, 0));
    }
};

/* along[head][token] = dy y, a warp for each. */
struct along_kernel {
    enum { THREADS = 256 };
    shape s;
    int64_t count;
    array dy, y;
    span<float> along;

    SID2_DEVICE void operator()() const
    {
        int64_t stride = blocks_x() * (THREADS / WARP);
        for (int64_t i = block_x() * (THREADS / WARP) + thread() / WARP; i < count; i += stride) {
            int64_t head = i / s.tokens, token = i % s.tokens;
            int64_t from = ((head / s.heads * s.tokens + token) * s.heads + head % s.heads) * s.width;
            float sum = 0;
            for (int e = thread() % WARP; e < s.width; e += WARP) sum += dy.get(from + e) * y.get(from + e);
            sum = warp_sum(sum);
            if (thread() % WARP == 0) along.set(i, sum);
        }
    }
};

/* By keys: rows are keys, columns queries, and dk and dv come out; else rows are queries, and dq comes out. */
template <bool BY_KEY> struct gradient_kernel {
    enum { THREADS = TILE_THREADS };
    shape s;
    array qk, qkv, dy, dqk, dv;
    span<float> lse, along;

    SID2_DEVICE void operator()() const
    {
        SID2_SHARED(float, tile_a, TILE *LINE);
        SID2_SHARED(float, tile_b, TILE *LINE);
        SID2_SHARED(float, columns, TILE *COLUMNS_LINE);
        task t(s);
        head_rows q = t.rows(s, qk, 2, 0), k = t.rows(s, qk, 2, 1), v = t.rows(s, qkv, 3, 2);
        head_rows g = t.rows(s, dy, 1, 0);
        float sum[4][8] = {}, sum_v[4][8] = {};
        for (int64_t other = 0; other < s.tokens; other += TILE) {
            float p[4][4] = {}, ds[4][4] = {};
            dot(s, t, BY_KEY ? k : q, t.first, BY_KEY ? q : k, other, tile_a, tile_b, p);
            dot(s, t, BY_KEY ? v : g, t.first, BY_KEY ? g : v, other, tile_a, tile_b, ds);
            for (int i = 0; i < 4; i++)
                for (int j = 0; j < 4; j++) {
                    int64_t row = t.first + t.down + 8 * i, column = other + t.across + 8 * j;
                    bool inside = row < s.tokens && column < s.tokens;
                    int64_t query = t.head * s.tokens + (BY_KEY ? column : row);
                    p[i][j] = inside ? fast_exp(p[i][j] * s.scale - lse[query]) : 0;
                    ds[i][j] = inside ? p[i][j] * (ds[i][j] - along[query]) * s.scale : 0;
                }
            accumulate(s, t, ds, BY_KEY ? q : k, other, tile_a, columns, sum);
            if (BY_KEY) accumulate(s, t, p, g, other, tile_a, columns, sum_v);
        }
        store(s, t, sum, t.rows(s, dqk, 2, BY_KEY ? 1 : 0));
        if (BY_KEY) store(s, t, sum_v, t.rows(s, dv, 1, 0));
    }
};

shape shape_of(const sid2_own *o, const sid2_shape &y)
{
    int64_t channels = last(y), width = channels / o->call->attr->heads;
    shape s = {sid2_shape_count(y) / y.dim[0] / channels, o->call->attr->heads, static_cast<int>(width),
               static_cast<float>(1 / sqrt(static_cast<double>(width)))};
    return s;
}
} // namespace

extern "C" void sid2_own_attention(sid2_own *o)
{
    const sid2_shape &y = o->call->out[0].shape;
    shape s = shape_of(o, y);
    attention_kernel k = {s, in(o, 0, "qk"), in(o, 1, "qkv"), out(o, 0, "y"),
                          words<float>(o->call->out[1], "lse")};
    launch(o, k, s.tiles() * y.dim[0] * s.heads, divide_up(s.width, COLUMNS));
}

extern "C" void sid2_own_attention_grad(sid2_own *o)
{
    const sid2_call *call = o->call;
    const sid2_shape &y = call->in[3].shape;
    shape s = shape_of(o, y);
    int64_t heads = y.dim[0] * s.heads, slabs = divide_up(s.width, COLUMNS);
    array dy = in(o, 0, "dy"), qk = in(o, 1, "qk"), qkv = in(o, 2, "qkv"), dqk = out(o, 0, "dqk");
    array dv = out(o, 1, "dv");
    span<float> lse = words<float>(call->in[4], "lse"), along = scratch<float>(o, heads * s.tokens, "along");
    launch(o, along_kernel{s, heads * s.tokens, dy, in(o, 3, "y"), along},
           blocks_for(o, heads * s.tokens * WARP, along_kernel::THREADS));
    launch(o, gradient_kernel<false>{s, qk, qkv, dy, dqk, dv, lse, along}, s.tiles() * heads, slabs);
    launch(o, gradient_kernel<true>{s, qk, qkv, dy, dqk, dv, lse, along}, s.tiles() * heads, slabs);
}
