/* Gradients of norms. With n = (x - mean) rstd, du the gradient before the activation, and by sample and
 * channel
 *
 *     P = sum over rows of du,    Q = sum over rows of du n
 *
 * everything but dx follows from P and Q:  dfilm = (gamma Q + beta P, P),  dbeta = sum over samples of
 * (1 + scale) P,  dgamma likewise of Q; and the means over a group that dx needs,
 *
 *     dx = rstd (dn - mean of dn - n mean of dn n) + residual,    dn = gamma (1 + scale) du
 *
 * are sums of gamma (1 + scale) P and Q over its channels. So dy and x are read twice (the second time from behind:
 * columns.h), dx written once; row_norm makes its means itself, a warp to a row. dx may lie over dy: P and Q are made before. */
#include "columns.h"

using namespace exec;

namespace
{
/* What is known of eight channels (or one) of a sample. */
struct affine {
    array gamma, beta, film;
    int channels;
    sid2_act kind;
};

/* u = gain n + offset, FiLM included. */
struct affine_vector {
    float gain[8], offset[8];

    SID2_DEVICE void read(const affine &a, int64_t sample, int channel, bool wide)
    {
        float v[8];
        a.gamma.get(channel, wide, gain);
        for (int e = 0; e < 8; e++) offset[e] = 0;
        if (a.beta) a.beta.get(channel, wide, offset);
        if (!a.film) return;
        a.film.get(sample * 2 * a.channels + channel, wide, v);
        for (int e = 0; e < 8; e++) {
            gain[e] *= f32_film_gain(v[e]);
            offset[e] *= f32_film_gain(v[e]);
        }
        a.film.get((sample * 2 + 1) * a.channels + channel, wide, v);
        for (int e = 0; e < 8; e++) offset[e] += v[e];
    }
    /* dy becomes du. */
    SID2_DEVICE void before_act(sid2_act kind, const float n[8], float dy[8]) const
    {
        float u[8];
        for (int e = 0; e < 8; e++) u[e] = f32_affine(n[e], gain[e], offset[e]);
        act_grad(kind, u, dy);
    }
};

struct sums_term {
    affine a;
    array dy, x;
    span<float> stats;
    int groups; /* 0: statistics by row */
    affine_vector known;
    float mean[8], rstd[8];

    SID2_DEVICE void begin(int64_t sample, int channel, bool wide)
    {
        known.read(a, sample, channel, wide);
        for (int e = 0; groups && e < 8; e++) {
            int64_t at = (sample * groups + (channel + (wide ? e : 0)) / (a.channels / groups)) * 2;
            mean[e] = stats[at];
            rstd[e] = stats[at + 1];
        }
    }

    SID2_DEVICE void add(int64_t row, int64_t at, bool wide, float first[8], float second[8])
    {
        raw raw_dy = dy.fetch(at, wide), raw_x = x.fetch(at, wide);
        float g[8], v[8];
        float row_mean = groups ? 0 : stats[row * 2], row_rstd = groups ? 0 : stats[row * 2 + 1];
        dy.unpack(raw_dy, g);
        x.unpack(raw_x, v);
        for (int e = 0; e < 8; e++)
            v[e] = f32_normalised(v[e], groups ? mean[e] : row_mean, groups ? rstd[e] : row_rstd);
        known.before_act(a.kind, v, g);
        for (int e = 0; e < 8; e++) {
            first[e] += g[e];
            second[e] += g[e] * v[e];
        }
    }
};

/* P and Q, dfilm, and the means of dn and dn n over a group: a block for each sample and group; or, where
 * means are by row and nobody reads these, for each sample and a few channels. */
struct sample_totals_kernel {
    enum { THREADS = 256 };
    columns c;
    int groups, width; /* of a sample; channels of each but the last */
    affine a;
    span<float> partials, totals /* [sample][2][C] */, means /* [sample][group][2] */;
    array dfilm;

    SID2_DEVICE void operator()() const
    {
        int64_t sample = block_x() / groups;
        int first = static_cast<int>(block_x() % groups) * width, lanes = 1;
        int end = first + width < c.channels ? first + width : c.channels;
        while (lanes < WARP && lanes < width) lanes *= 2;
        float sum = 0, dot = 0;
        for (int begin = first; begin < end; begin += lanes) {
            int channel = begin + thread() % lanes;
            int64_t at = sample * 2 * c.channels + channel,
                    from = sample * c.chunks * 2 * c.channels + channel;
            bool inside = channel < end;
            float p = lane_sum<THREADS>(partials, from, 2 * c.channels, c.chunks, inside, lanes);
            float q = lane_sum<THREADS>(partials, from + c.channels, 2 * c.channels, c.chunks, inside, lanes);
            if (thread() >= lanes || !inside) continue;
            float gamma = a.gamma.get(channel), scale = a.film ? f32_film_gain(a.film.get(at)) : 1.0f;
            totals.set(at, scale * p);
            totals.set(at + c.channels, scale * q);
            sum += gamma * scale * p;
            dot += gamma * scale * q;
            if (!dfilm) continue;
            dfilm.set(at, gamma * q + (a.beta ? a.beta.get(channel) * p : 0));
            dfilm.set(at + c.channels, p);
        }
        sum = block_sum<THREADS>(sum);
        dot = block_sum<THREADS>(dot);
        if (thread() != 0) return;
        float count = static_cast<float>(width) * static_cast<float>(c.rows);
        means.set(block_x() * 2, sum / count);
        means.set(block_x() * 2 + 1, dot / count);
    }
};

/* i: of P, then Q. */
struct affine_finish {
    int channels;
    array dgamma, dbeta; /* either may be absent */

    SID2_DEVICE void operator()(int64_t, int i, float sum) const
    {
        const array &to = i < channels ? dbeta : dgamma;
        int channel = i < channels ? i : i - channels;
        if (to) to.set(channel, to.get(channel) + sum);
    }
};

struct group_dx_kernel {
    enum { THREADS = columns::THREADS };
    columns c;
    int groups;
    affine a;
    array dy, x, residual, dx;
    span<float> stats, means;

    SID2_DEVICE void operator()() const
    {
        column mine(c);
        if (!mine.active) return;
        affine_vector known;
        float mean[8], rstd[8], sum[8], dot[8];
        known.read(a, mine.sample, mine.channel, c.wide);
        for (int e = 0; e < 8; e++) {
            int64_t at =
                (mine.sample * groups + (mine.channel + (c.wide ? e : 0)) / (c.channels / groups)) * 2;
            mean[e] = stats[at], rstd[e] = stats[at + 1];
            sum[e] = means[at], dot[e] = means[at + 1];
        }
        for (int row = mine.row; row < mine.rows; row += c.depth) {
            int64_t at = (mine.sample * c.rows + row) * c.channels + mine.channel;
            raw raw_dy = dy.fetch(at, c.wide), raw_x = x.fetch(at, c.wide);
            float g[8], v[8], more[8] = {};
            if (residual) residual.get(at, c.wide, more);
            dy.unpack(raw_dy, g);
            x.unpack(raw_x, v);
            for (int e = 0; e < 8; e++) v[e] = f32_normalised(v[e], mean[e], rstd[e]);
            known.before_act(a.kind, v, g);
            for (int e = 0; e < 8; e++)
                v[e] = f32_normalised_slope(g[e] * known.gain[e], v[e], rstd[e], sum[e], dot[e]) + more[e];
            dx.set(at, c.wide, v);
        }
    }
};

/* A warp for each row. */
struct row_dx_kernel {
    enum { THREADS = 256 };
    columns c;
    bool center;
    affine a;
    array dy, x, residual, dx;
    span<float> stats;

    SID2_DEVICE void operator()() const
    {
        int lane = thread() % WARP;
        int64_t rows = c.samples * c.rows, stride = blocks_x() * (THREADS / WARP);
        for (int64_t row = block_x() * (THREADS / WARP) + thread() / WARP; row < rows; row += stride)
            one(row, lane * c.width());
    }

    /* n and dn of the channels from i on. */
    SID2_DEVICE void differentiate(int64_t row, int i, float mean, float rstd, float n[8], float dn[8]) const
    {
        affine_vector known;
        int64_t at = row * c.channels + i;
        raw raw_dy = dy.fetch(at, c.wide), raw_x = x.fetch(at, c.wide);
        known.read(a, row / c.rows, i, c.wide);
        dy.unpack(raw_dy, dn);
        x.unpack(raw_x, n);
        for (int e = 0; e < 8; e++) n[e] = f32_normalised(n[e], mean, rstd);
        known.before_act(a.kind, n, dn);
        for (int e = 0; e < 8; e++) dn[e] *= known.gain[e];
    }

    SID2_DEVICE void one(int64_t row, int first) const
    {
        float mean = stats[row * 2], rstd = stats[row * 2 + 1], sum = 0, dot = 0, n[8], dn[8];
        int step = WARP * c.width();
        for (int i = first; i < c.channels; i += step) {
            differentiate(row, i, mean, rstd, n, dn);
            for (int e = 0; e < 8; e++) {
                sum += dn[e];
                dot += dn[e] * n[e];
            }
        }
        sum = center ? warp_sum(sum) / static_cast<float>(c.channels) : 0;
        dot = warp_sum(dot) / static_cast<float>(c.channels);
        for (int i = first; i < c.channels; i += step) {
            float more[8] = {};
            differentiate(row, i, mean, rstd, n, dn);
            if (residual) residual.get(row * c.channels + i, c.wide, more);
            for (int e = 0; e < 8; e++) dn[e] = f32_normalised_slope(dn[e], n[e], rstd, sum, dot) + more[e];
            dx.set(row * c.channels + i, c.wide, dn);
        }
    }
};

struct request {
    columns c;
    affine a;
    array dy, x, residual, dx;
    span<float> stats, means;
};

/* All but dx; groups 0: by row. */
request sums(sid2_own *o, int groups)
{
    const sid2_call *call = o->call;
    request r = {};
    r.c = columns_of(o, call->in[1].shape);
    r.a = affine{in(o, 3, "gamma"), in(o, 4, "beta"), in(o, 5, "film"), r.c.channels, call->attr->act};
    r.dy = in(o, 0, "dy");
    r.x = in(o, 1, "x");
    r.residual = in(o, 6, "residual");
    r.dx = out(o, 0, "dx");
    r.stats = words<float>(call->in[2], "stats");
    int64_t totals_count = r.c.samples * 2 * r.c.channels;
    int width = groups ? r.c.channels / groups : WARP,
        sets = static_cast<int>(divide_up(r.c.channels, width));
    span<float> partials = column_partials(o, r.c), totals = scratch<float>(o, totals_count, "totals");
    r.means = scratch<float>(o, r.c.samples * sets * 2, "means");
    sums_term term = {};
    term.a = r.a;
    term.dy = r.dy;
    term.x = r.x;
    term.stats = r.stats;
    term.groups = groups;
    launch_columns(o, column_sums<sums_term>{r.c, term, partials}, r.c);
    launch(o, sample_totals_kernel{r.c, sets, width, r.a, partials, totals, r.means, out(o, 3, "dfilm")},
           r.c.samples * sets);
    launch_add(o, partial_sums{totals, 1, static_cast<int>(r.c.samples), 2 * r.c.channels, 2 * r.c.channels},
               affine_finish{r.c.channels, out(o, 1, "dgamma"), out(o, 2, "dbeta")});
    return r;
}
} // namespace

extern "C" void sid2_own_group_norm_grad(sid2_own *o)
{
    int groups = o->call->attr->groups;
    request r = sums(o, groups);
    launch_columns(
        o, group_dx_kernel{backwards(r.c), groups, r.a, r.dy, r.x, r.residual, r.dx, r.stats, r.means}, r.c);
}

extern "C" void sid2_own_row_norm_grad(sid2_own *o)
{
    request r = sums(o, 0);
    row_dx_kernel k = {r.c, o->call->attr->center != 0, r.a, r.dy, r.x, r.residual, r.dx, r.stats};
    launch(o, k, blocks_for(o, r.c.samples * r.c.rows * WARP, row_dx_kernel::THREADS));
}
