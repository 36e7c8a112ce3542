/* A tensor as samples[N] of rows[R] of channels[C], and how blocks share it when a thread keeps to its
 * channels: what depends on the channel alone is then read once, and sums over rows stay in registers.
 *
 * A block takes `chunk` rows of one sample and up to THREADS vectors of 8 channels (single channels where C
 * is no multiple of 8); neighbouring threads have neighbouring vectors, then neighbouring rows. */
#ifndef SID2_CUDA_COLUMNS_H
#define SID2_CUDA_COLUMNS_H

#include "exec.h"

struct columns {
    enum { THREADS = 256 };
    int64_t samples;
    int rows, channels;
    int chunk, chunks; /* rows of a block, blocks of a sample */
    int vectors;       /* of a row */
    int lanes, depth;  /* of a block: vectors side by side, rows at a time */
    bool wide;
    bool back; /* the last block first: what was read last is still in the second-level cache */

    SID2_HOST_DEVICE int width() const { return wide ? 8 : 1; }
};

/* One thread's share. */
struct column {
    int64_t sample;
    int chunk, lane, level; /* level: which of the block's rows at a time */
    int channel;            /* the first */
    int row, rows;          /* row, row + depth, .. < rows */
    bool active;

    SID2_DEVICE explicit column(const columns &c)
    {
        int t = exec::thread(), vector;
        int64_t block = c.back ? c.samples * c.chunks - 1 - exec::block_x() : exec::block_x();
        lane = t % c.lanes;
        level = t / c.lanes;
        vector = static_cast<int>(exec::block_y()) * c.lanes + lane;
        channel = vector * c.width();
        sample = block / c.chunks;
        chunk = static_cast<int>(block % c.chunks);
        row = chunk * c.chunk + level;
        rows = chunk * c.chunk + c.chunk < c.rows ? chunk * c.chunk + c.chunk : c.rows;
        active = level < c.depth && vector < c.vectors;
        if (!active) row = rows;
    }
};

inline columns columns_of(const sid2_own *o, const sid2_shape &shape)
{
    columns c = {};
    int64_t all = sid2_shape_count(shape), channels = exec::last(shape);
    c.samples = shape.rank == 1 ? 1 : shape.dim[0];
    c.channels = static_cast<int>(channels);
    c.rows = static_cast<int>(all / c.samples / channels);
    c.wide = channels % 8 == 0;
    c.vectors = c.channels / c.width();
    c.lanes = static_cast<int>(exec::least(c.vectors, columns::THREADS));
    c.depth = columns::THREADS / c.lanes;
    /* Four blocks a multiprocessor, but not so many that their partial sums weigh. */
    int64_t slabs = exec::divide_up(c.vectors, c.lanes);
    int64_t wanted = exec::divide_up(8 * sid2_cuda_target_of(o->call)->multiprocessors, c.samples * slabs);
    int64_t chunks = exec::most(1, exec::least(wanted, c.rows / (8 * c.depth)));
    c.chunk = static_cast<int>(exec::divide_up(c.rows, chunks));
    c.chunks = static_cast<int>(exec::divide_up(c.rows, c.chunk));
    return c;
}

/* The same, from behind: for a second walk over what the first has read. */
inline columns backwards(columns c)
{
    c.back = true;
    return c;
}

template <class K> void launch_columns(sid2_own *o, const K &kernel, const columns &c)
{
    exec::launch(o, kernel, c.samples * c.chunks, exec::divide_up(c.vectors, c.lanes));
}

/* Two sums over the rows of each chunk, by channel: partials[sample][chunk][2][C]. Term says of what:
 *     void begin(int64_t sample, int channel, bool wide)
 *     void add(int64_t row, int64_t at, bool wide, float first[8], float second[8])    row counts all
 * samples' Not wide, only the first of the eight counts. */
template <class Term> struct column_sums {
    enum { THREADS = columns::THREADS };
    columns c;
    Term term;
    exec::span<float> partials;

    SID2_DEVICE void operator()() const
    {
        SID2_SHARED(float, sums, 16 * THREADS); /* [2][8][thread] */
        column mine(c);
        Term own = term;
        float first[8] = {}, second[8] = {};
        if (mine.active) own.begin(mine.sample, mine.channel, c.wide);
        for (int row = mine.row; row < mine.rows; row += c.depth) {
            int64_t line = mine.sample * c.rows + row;
            own.add(line, line * c.channels + mine.channel, c.wide, first, second);
        }
        for (int e = 0; e < 8; e++) {
            sums[e * THREADS + exec::thread()] = first[e];
            sums[(8 + e) * THREADS + exec::thread()] = second[e];
        }
        exec::barrier();
        /* Output (which, e, lane), summed over the block's rows at a time. */
        int outputs = 2 * c.width() * c.lanes;
        for (int i = exec::thread(); i < outputs; i += THREADS) {
            int lane = i % c.lanes, e = i / c.lanes % c.width(), which = i / c.lanes / c.width();
            int vector = static_cast<int>(exec::block_y()) * c.lanes + lane;
            if (vector >= c.vectors) continue;
            float sum = 0;
            for (int level = 0; level < c.depth; level++)
                sum += sums[(8 * which + e) * THREADS + level * c.lanes + lane];
            int64_t chunk = mine.sample * c.chunks + mine.chunk;
            partials.set((chunk * 2 + which) * c.channels + vector * c.width() + e, sum);
        }
    }
};

inline exec::span<float> column_partials(sid2_own *o, const columns &c)
{
    return exec::scratch<float>(o, c.samples * c.chunks * 2 * c.channels, "partials");
}

/* Sums of a block's threads as lanes x levels: a lane has a column, the levels take turns with its rows. The
 * sum over x[first + row stride], in the threads of level 0, where `inside`. All threads of the block must
 * come. */
template <int THREADS>
SID2_DEVICE float lane_sum(const exec::span<float> &x, int64_t first, int64_t stride, int rows, bool inside,
                           int lanes)
{
    SID2_SHARED(float, parts, THREADS);
    float sum = 0;
    if (!inside) rows = 0;
    for (int row = exec::thread() / lanes; row < rows; row += THREADS / lanes) sum += x[first + row * stride];
    parts[exec::thread()] = sum;
    exec::barrier();
    for (int at = exec::thread() + lanes; at < THREADS && exec::thread() < lanes; at += lanes)
        sum += parts[at];
    exec::barrier(); /* `parts` may be wanted again */
    return sum;
}

/* Partial sums to be added: sets x rows x stride numbers, of which the first `columns` of a row count. */
struct partial_sums {
    exec::span<float> data;
    int64_t sets;
    int rows, columns, stride;
};

/* finish(set, column, sum over rows). There may be a thousand rows of a hundred columns, or ten of a million:
 * a block's threads are shared out so that each adds about eight numbers, in runs of 32 bytes or more. */
template <class Finish> struct add_partials {
    enum { THREADS = 256, LEAST = 8 };
    partial_sums p;
    int lanes;
    Finish finish;

    SID2_DEVICE void operator()() const
    {
        int column = static_cast<int>(exec::block_y()) * lanes + exec::thread() % lanes;
        int64_t set = exec::block_x();
        float sum = lane_sum<THREADS>(p.data, set * p.rows * p.stride + column, p.stride, p.rows,
                                      column < p.columns, lanes);
        if (exec::thread() < lanes && column < p.columns) finish(set, column, sum);
    }
};

template <class Finish> void launch_add(sid2_own *o, const partial_sums &p, const Finish &finish)
{
    typedef add_partials<Finish> kernel;
    int lanes = kernel::THREADS;
    while (lanes > kernel::LEAST && p.rows * lanes > 8 * kernel::THREADS) lanes /= 2;
    exec::launch(o, kernel{p, lanes, finish}, p.sets, exec::divide_up(p.columns, lanes));
}

#endif
