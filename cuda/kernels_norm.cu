/* Norms with FiLM and activation, forward. With a = rstd gamma (1 + scale) of FiLM and b the rest, both are
 *
 *     y = act(a (x - mean) + b)
 *
 * group_norm, 2 launches more than bytes ask for: x is read twice (the second time from behind, so that what the
 * first left in L2 is found there), y written once. Means and variances are made without cancellation: each thread sums around the
 * first number it sees, and partial results (count, mean, squares around it) merge as in Chan, Golub and
 * LeVeque (1979), always in the same order.
 *
 * row_norm: a warp has a row, reads it three times, the last two from L1. */
#include "columns.h"

using namespace exec;

namespace
{
/* `count` numbers: their mean and the sum of squared distances from it. */
struct moments {
    float count, mean, squares;

    SID2_DEVICE void merge(float n, float m, float s)
    {
        if (n == 0) return;
        float all = count + n, distance = m - mean, share = n / all;
        mean += distance * share;
        squares += s + distance * distance * count * share;
        count = all;
    }
};

/* Sums around the first numbers seen, of eight channels. */
struct running {
    float origin[8], sum[8], square[8];
    int count;

    SID2_DEVICE void add(const array &x, const raw &r)
    {
        float v[8];
        x.unpack(r, v);
        for (int e = 0; e < 8; e++) {
            if (count == 0) origin[e] = v[e];
            float d = v[e] - origin[e];
            sum[e] += d;
            square[e] += d * d;
        }
        count++;
    }
};

struct group_partials_kernel {
    enum { THREADS = columns::THREADS };
    columns c;
    array x;
    span<float> partials; /* [sample][chunk][2][C]: mean, squares */

    SID2_DEVICE void operator()() const
    {
        SID2_SHARED(float, means, 8 * THREADS);
        SID2_SHARED(float, squares, 8 * THREADS);
        column mine(c);
        running own = {};
        for (int row = mine.row; row < mine.rows; row += 2 * c.depth) {
            int64_t at = (mine.sample * c.rows + row) * c.channels + mine.channel;
            bool two = row + c.depth < mine.rows; /* both are loaded before the first is looked at */
            raw here = x.fetch(at, c.wide), next = {};
            if (two) next = x.fetch(at + static_cast<int64_t>(c.depth) * c.channels, c.wide);
            own.add(x, here);
            if (two) own.add(x, next);
        }
        for (int e = 0; e < 8; e++) {
            float mean = own.count ? own.sum[e] / static_cast<float>(own.count) : 0;
            means[e * THREADS + thread()] = own.origin[e] + mean;
            squares[e * THREADS + thread()] = fmaxf(own.square[e] - own.sum[e] * mean, 0);
        }
        barrier();
        for (int i = thread(); i < c.width() * c.lanes; i += THREADS) {
            int lane = i % c.lanes, e = i / c.lanes;
            int vector = static_cast<int>(block_y()) * c.lanes + lane;
            if (vector >= c.vectors) continue;
            moments all = {0, 0, 0};
            int height = mine.rows - mine.chunk * c.chunk; /* rows of this chunk */
            for (int level = 0; level < c.depth && level < height; level++) {
                int at = e * THREADS + level * c.lanes + lane;
                all.merge(static_cast<float>((height - level - 1) / c.depth + 1), means[at], squares[at]);
            }
            int64_t to = (mine.sample * c.chunks + mine.chunk) * 2 * c.channels + vector * c.width() + e;
            partials.set(to, all.mean);
            partials.set(to + c.channels, all.squares);
        }
    }
};

/* A block for each sample and group. */
struct group_moments_kernel {
    enum { THREADS = 128 };
    columns c;
    int groups;
    float eps;
    span<float> partials, stats;

    SID2_DEVICE void operator()() const
    {
        SID2_SHARED(float, counts, THREADS);
        SID2_SHARED(float, means, THREADS);
        SID2_SHARED(float, squares, THREADS);
        int64_t sample = block_x() / groups;
        int group = static_cast<int>(block_x() % groups), width = c.channels / groups;
        moments all = {0, 0, 0};
        for (int i = thread(); i < c.chunks * width; i += THREADS) {
            int chunk = i / width, channel = group * width + i % width;
            int height = c.rows - chunk * c.chunk < c.chunk ? c.rows - chunk * c.chunk : c.chunk;
            int64_t at = (sample * c.chunks + chunk) * 2 * c.channels + channel;
            all.merge(static_cast<float>(height), partials[at], partials[at + c.channels]);
        }
        counts[thread()] = all.count;
        means[thread()] = all.mean;
        squares[thread()] = all.squares;
        for (int half = THREADS / 2; half > 0; half /= 2) {
            barrier();
            if (thread() >= half) continue;
            all.merge(counts[thread() + half], means[thread() + half], squares[thread() + half]);
            counts[thread()] = all.count;
            means[thread()] = all.mean;
            squares[thread()] = all.squares;
        }
        if (thread() != 0) return;
        stats.set(block_x() * 2, all.mean);
        stats.set(block_x() * 2 + 1, 1.0f / sqrtf(all.squares / all.count + eps));
    }
};

struct group_apply_kernel {
    enum { THREADS = columns::THREADS };
    columns c;
    int groups;
    sid2_act kind;
    array x, gamma, beta, film, y;
    span<float> stats;

    SID2_DEVICE void operator()() const
    {
        column mine(c);
        if (!mine.active) return;
        float a[8], b[8], mean[8], scale[8] = {}, shift[8] = {}, v[8];
        gamma.get(mine.channel, c.wide, a);
        beta.get(mine.channel, c.wide, b);
        if (film) {
            film.get(mine.sample * 2 * c.channels + mine.channel, c.wide, scale);
            film.get((mine.sample * 2 + 1) * c.channels + mine.channel, c.wide, shift);
        }
        int width = c.channels / groups;
        for (int e = 0; e < 8; e++) {
            int64_t at = (mine.sample * groups + (mine.channel + (c.wide ? e : 0)) / width) * 2;
            mean[e] = stats[at];
            a[e] *= stats[at + 1] * f32_film_gain(scale[e]);
            b[e] = f32_affine(b[e], f32_film_gain(scale[e]), shift[e]);
        }
        for (int row = mine.row; row < mine.rows; row += c.depth) {
            int64_t at = (mine.sample * c.rows + row) * c.channels + mine.channel;
            x.get(at, c.wide, v);
            for (int e = 0; e < 8; e++) v[e] = f32_affine(v[e] - mean[e], a[e], b[e]);
            act(kind, v);
            y.set(at, c.wide, v);
        }
    }
};

/* A warp for each row. */
struct row_norm_kernel {
    enum { THREADS = 256 };
    int64_t rows, rows_per_sample;
    int channels;
    bool center, wide;
    float eps;
    sid2_act kind;
    array x, gamma, beta, film, y;
    span<float> stats;

    SID2_DEVICE void operator()() const
    {
        int lane = thread() % WARP, step = wide ? 8 : 1;
        int64_t stride = blocks_x() * (THREADS / WARP);
        for (int64_t row = block_x() * (THREADS / WARP) + thread() / WARP; row < rows; row += stride)
            one(row, lane * step, step);
    }

    SID2_DEVICE void one(int64_t row, int first, int step) const
    {
        float mean = 0, sum = 0, v[8];
        if (center) {
            for (int i = first; i < channels; i += WARP * step) {
                x.get(row * channels + i, wide, v);
                for (int e = 0; e < 8; e++) sum += v[e]; /* 0 past one */
            }
            mean = warp_sum(sum) / static_cast<float>(channels);
        }
        sum = 0;
        for (int i = first; i < channels; i += WARP * step) {
            x.get(row * channels + i, wide, v);
            for (int e = 0; e < 8; e++) sum += e == 0 || wide ? (v[e] - mean) * (v[e] - mean) : 0;
        }
        float rstd = 1.0f / sqrtf(warp_sum(sum) / static_cast<float>(channels) + eps);
        if (first == 0) {
            stats.set(row * 2, mean);
            stats.set(row * 2 + 1, rstd);
        }
        int64_t sample = row / rows_per_sample;
        for (int i = first; i < channels; i += WARP * step) {
            float g[8], b[8] = {}, scale[8], shift[8];
            x.get(row * channels + i, wide, v);
            gamma.get(i, wide, g);
            if (beta) beta.get(i, wide, b);
            for (int e = 0; e < 8; e++) v[e] = f32_affine(f32_normalised(v[e], mean, rstd), g[e], b[e]);
            if (film) {
                film.get(sample * 2 * channels + i, wide, scale);
                film.get((sample * 2 + 1) * channels + i, wide, shift);
                for (int e = 0; e < 8; e++) v[e] = f32_affine(v[e], f32_film_gain(scale[e]), shift[e]);
            }
            act(kind, v);
            y.set(row * channels + i, wide, v);
        }
    }
};
} // namespace

extern "C" void sid2_own_group_norm(sid2_own *o)
{
    const sid2_attr *attr = o->call->attr;
    columns c = columns_of(o, o->call->in[0].shape);
    array x = in(o, 0, "x");
    span<float> partials = column_partials(o, c), stats = words<float>(o->call->out[1], "stats");
    launch_columns(o, group_partials_kernel{c, x, partials}, c);
    launch(o, group_moments_kernel{c, attr->groups, attr->eps, partials, stats}, c.samples * attr->groups);
    launch_columns(o,
                   group_apply_kernel{backwards(c), attr->groups, attr->act, x, in(o, 1, "gamma"),
                                      in(o, 2, "beta"), in(o, 3, "film"), out(o, 0, "y"), stats},
                   c);
}

extern "C" void sid2_own_row_norm(sid2_own *o)
{
    const sid2_attr *attr = o->call->attr;
    const columns c = columns_of(o, o->call->in[0].shape);
    row_norm_kernel k = {};
    k.rows = c.samples * c.rows;
    k.rows_per_sample = c.rows;
    k.channels = c.channels;
    k.center = attr->center != 0;
    k.wide = c.wide;
    k.eps = attr->eps;
    k.kind = attr->act;
    k.x = in(o, 0, "x");
    k.gamma = in(o, 1, "gamma");
    k.beta = in(o, 2, "beta");
    k.film = in(o, 3, "film");
    k.y = out(o, 0, "y");
    k.stats = words<float>(o->call->out[1], "stats");
    launch(o, k, blocks_for(o, k.rows * WARP, row_norm_kernel::THREADS));
}
