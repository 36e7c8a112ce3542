/* Loops over all elements, eight at a time where they lie so, and sums over each sample. */
#ifndef SID2_CUDA_SAMPLES_H
#define SID2_CUDA_SAMPLES_H

#include "exec.h"

/* samples x each elements. Samples are counted because factors and random numbers differ between them. */
struct samples {
    int64_t count, each;

    /* Eights of a sample; none where samples begin off alignment. */
    SID2_HOST_DEVICE int64_t vectors() const { return count == 1 || each % 8 == 0 ? each / 8 : 0; }
};

inline samples samples_of(const sid2_shape &shape)
{
    samples s = {shape.dim[0], sid2_shape_count(shape) / exec::most(1, shape.dim[0])};
    return s;
}

/* All elements alike. */
inline samples flat_of(const sid2_shape &shape)
{
    samples s = {1, sid2_shape_count(shape)};
    return s;
}

/* Calls body(sample, i, at, wide): elements i .. i + 7 of a sample (wide) or i alone, at `at` in the tensor. */
template <class Body> struct each_element {
    enum { THREADS = 256 };
    samples s;
    Body body;

    SID2_DEVICE void operator()() const
    {
        int64_t first = exec::block_x() * THREADS + exec::thread(), step = exec::blocks_x() * THREADS;
        int64_t vectors = s.vectors();
        for (int64_t n = exec::block_y(); n < s.count; n += exec::blocks_y()) {
            for (int64_t i = first; i < vectors; i += step) body(n, i * 8, n * s.each + i * 8, true);
            for (int64_t i = vectors * 8 + first; i < s.each; i += step) body(n, i, n * s.each + i, false);
        }
    }
};

template <class Body> void launch_each(sid2_own *o, const samples &s, const Body &body)
{
    int64_t rows = exec::least(s.count, 65535), threads = exec::divide_up(s.each, 8);
    int64_t columns = exec::blocks_for(o, threads, 256, 16);
    if (rows > 1) columns = exec::most(1, exec::least(columns, exec::divide_up(columns * 16, rows)));
    exec::launch(o, each_element<Body>{s, body}, columns, rows);
}

/* partials[sample][block]: sums of term(sample, at, wide). */
template <class Term> struct sample_sums {
    enum { THREADS = 256 };
    samples s; /* at most 65535 */
    Term term;
    exec::span<float> partials;

    SID2_DEVICE void operator()() const
    {
        for (int64_t n = exec::block_y(); n < s.count; n += exec::blocks_y()) one(n);
    }

    SID2_DEVICE void one(int64_t n) const
    {
        int64_t first = exec::block_x() * THREADS + exec::thread(), step = exec::blocks_x() * THREADS;
        int64_t vectors = s.vectors();
        float sum = 0;
        for (int64_t i = first; i < vectors; i += step) sum += term(n, n * s.each + i * 8, true);
        for (int64_t i = vectors * 8 + first; i < s.each; i += step) sum += term(n, n * s.each + i, false);
        sum = exec::block_sum<THREADS>(sum);
        if (exec::thread() == 0) partials.set(n * exec::blocks_x() + exec::block_x(), sum);
    }
};

/* finish(sample, sum) for the sum of each sample's partials; one block a sample. */
template <class Finish> struct sample_totals {
    enum { THREADS = 128 };
    int64_t blocks;
    exec::span<float> partials;
    Finish finish;

    SID2_DEVICE void operator()() const
    {
        float sum = 0;
        for (int64_t i = exec::thread(); i < blocks; i += THREADS)
            sum += partials[exec::block_x() * blocks + i];
        sum = exec::block_sum<THREADS>(sum);
        if (exec::thread() == 0) finish(exec::block_x(), sum);
    }
};

template <class Term, class Finish>
void launch_sums(sid2_own *o, const samples &s, const Term &term, const Finish &finish)
{
    int64_t rows = exec::least(s.count, 65535);
    int64_t blocks = exec::blocks_for(o, exec::divide_up(s.each, 4 * 8), 256, 8);
    exec::span<float> partials = exec::scratch<float>(o, s.count * blocks, "partials");
    exec::launch(o, sample_sums<Term>{s, term, partials}, blocks, rows);
    exec::launch(o, sample_totals<Finish>{blocks, partials, finish}, s.count);
}

#endif
