/* Operands of products in eight bits (fp8.h): as they lie, or transposed, for the matrix units of Ada and Hopper take
 * both operands only along the sum. */
#include "exec.h"

#include "fp8.h"

#ifdef __CUDACC__
#include <cuda_fp8.h>
#endif

using namespace exec;

namespace
{
SID2_DEVICE uint32_t to_fp8(float value, sid2_fp8_format format)
{
#ifdef __CUDACC__
    if (!is_finite(value)) return 0x7f; /* the instruction would make the largest of an infinity */
    return __nv_cvt_float_to_fp8(value, __NV_SATFINITE, format == SID2_E4M3 ? __NV_E4M3 : __NV_E5M2);
#else
    return sid2_f32_to_fp8(value, format);
#endif
}

/* Four neighbours. A product that overflows is clamped as any that is too large: only what was not finite before it
 * becomes NaN. */
SID2_DEVICE uint32_t four_of(float a, float b, float c, float d, float scale, sid2_fp8_format format)
{
    const float v[4] = {a, b, c, d};
    uint32_t word = 0;
    for (int e = 0; e < 4; e++) {
        float scaled = v[e] * scale;
        if (is_finite(v[e]) && !is_finite(scaled)) scaled = v[e] < 0 ? -65536.0f : 65536.0f;
        word |= to_fp8(scaled, format) << 8 * e;
    }
    return word;
}

/* The larger magnitude, of what is finite. */
SID2_DEVICE float larger(float largest, float value)
{
    return is_finite(value) && fabsf(value) > largest ? fabsf(value) : largest;
}

/* What both kernels end with. */
struct seen {
    span<float> scaling, parts;

    template <int THREADS> SID2_DEVICE void end(float largest, bool rounded) const
    {
        largest = block_max<THREADS>(largest);
        if (thread() == 0) parts.set(block_x(), largest);
        if (thread() == 0 && block_x() == 0 && rounded)
            scaling.set(SID2_FP8_INVERSE, 1 / scaling[SID2_FP8_SCALE]);
    }
};

/* 16 elements a thread at a time; without `to` it only looks. */
struct round_kernel {
    enum { THREADS = 256 };
    array x;
    int64_t groups; /* of 16 */
    span<uint32_t> to;
    sid2_fp8_format format;
    seen all;

    SID2_DEVICE void operator()() const
    {
        float largest = 0, scale = to ? all.scaling[SID2_FP8_SCALE] : 0;
        for (int64_t g = block_x() * THREADS + thread(); g < groups; g += blocks_x() * THREADS) {
            raw low = x.fetch(16 * g, true), high = x.fetch(16 * g + 8, true);
            float v[16];
            x.unpack(low, v);
            x.unpack(high, v + 8);
            for (int e = 0; e < 16; e++) largest = larger(largest, v[e]);
            if (!to) continue;
            uint32_t word[4];
            for (int w = 0; w < 4; w++)
                word[w] = four_of(v[4 * w], v[4 * w + 1], v[4 * w + 2], v[4 * w + 3], scale, format);
            set_four(to, 4 * g, word);
        }
        all.end<THREADS>(largest, bool(to));
    }
};

/* Tiles of 128 rows of 64 columns. A thread takes four rows of eight columns, so that a word of shared memory is four
 * rows of a column, and leaves with 16 rows of one. */
struct transpose_kernel {
    enum { THREADS = 256, ROWS = 128, COLUMNS = 64, LINE = ROWS / 4 + 1 };
    array x;
    int64_t rows, columns, across, tiles; /* across: tiles side by side */
    span<uint32_t> to;
    sid2_fp8_format format;
    seen all;

    SID2_DEVICE void operator()() const
    {
        SID2_SHARED(uint32_t, tile, COLUMNS * LINE);
        const int left = thread() % 8 * 8, top = thread() / 8 * 4;
        float largest = 0, scale = all.scaling[SID2_FP8_SCALE];
        for (int64_t at = block_x(); at < tiles; at += blocks_x()) {
            const int64_t row = at / across * ROWS, column = at % across * COLUMNS;
            if (row + top < rows && column + left < columns) {
                raw r[4];
                float v[4][8];
                for (int i = 0; i < 4; i++) r[i] = x.fetch((row + top + i) * columns + column + left, true);
                for (int i = 0; i < 4; i++) x.unpack(r[i], v[i]);
                for (int c = 0; c < 8; c++) {
                    for (int i = 0; i < 4; i++) largest = larger(largest, v[i][c]);
                    tile[(left + c) * LINE + top / 4] =
                        four_of(v[0][c], v[1][c], v[2][c], v[3][c], scale, format);
                }
            }
            barrier();
            for (int t = thread(); t < COLUMNS * ROWS / 16; t += THREADS) {
                const int c = t / 8, down = t % 8 * 16;
                if (column + c >= columns || row + down >= rows) continue;
                uint32_t word[4];
                for (int w = 0; w < 4; w++) word[w] = tile[c * LINE + down / 4 + w];
                set_four(to, ((column + c) * rows + row + down) / 4, word);
            }
            barrier();
        }
        all.end<THREADS>(largest, true);
    }
};

/* The largest of this run into the history, and the next scale out of it; nothing but zeros leaves it as it is. */
struct history_kernel {
    enum { THREADS = 256 };
    int64_t count;
    sid2_fp8_format format;
    seen all;

    SID2_DEVICE void operator()() const
    {
        float largest = 0;
        for (int64_t i = thread(); i < count; i += THREADS) largest = larger(largest, all.parts[i]);
        largest = block_max<THREADS>(largest);
        if (thread() != 0) return;
        float most = largest;
        for (int i = SID2_FP8_RUNS - 1; i > 0; i--) {
            float before = all.scaling[SID2_FP8_HISTORY + i - 1];
            most = larger(most, before);
            all.scaling.set(SID2_FP8_HISTORY + i, before);
        }
        all.scaling.set(SID2_FP8_HISTORY, largest);
        float scale = all.scaling[SID2_FP8_SCALE];
        if (most > 0) scale = scale_of(most);
        all.scaling.set(SID2_FP8_SCALE, scale > 0 ? scale : 1);
    }

    /* The largest power of two that brings `most` to at most 448 = 1.75 2^8, or 57344 = 1.75 2^15; a normal float, as
     * is its inverse. */
    SID2_DEVICE float scale_of(float most) const
    {
        const int exponent = static_cast<int>(as_bits(most) >> 23) - 127;
        const bool above = (as_bits(most) & 0x7fffffu) > 0x600000u; /* 1.75 */
        int power = (format == SID2_E4M3 ? 8 : 15) - exponent - above;
        power = power > 126 ? 126 : power;
        return as_float(static_cast<uint32_t>(power + 127) << 23);
    }
};
} // namespace

extern "C" void sid2_own_fp8(sid2_own *o, const sid2_fp8 *f)
{
    const int64_t count = f->rows * f->columns, groups = count / 16;
    const array x = array_of(f->from, "x");
    const span<uint32_t> to = make_span<uint32_t>(f->to, count / 4, "to");
    const seen all = {make_span<float>(f->scaling, SID2_FP8_WORDS, "scaling"),
                      make_span<float>(f->parts, sid2_fp8_parts(sid2_cuda_target_of(o->call)), "parts")};
    const int64_t blocks = blocks_for(o, groups, round_kernel::THREADS);
    const int64_t across = divide_up(f->columns, transpose_kernel::COLUMNS),
                  tiles = across * divide_up(f->rows, transpose_kernel::ROWS);
    const int64_t writers = f->transposed ? blocks_for(o, tiles, 1) : blocks;
    if (!f->known) {
        launch(o, round_kernel{x, groups, span<uint32_t>(), f->format, all}, blocks);
        launch(o, history_kernel{blocks, f->format, all}, 1);
    }
    if (f->transposed)
        launch(o, transpose_kernel{x, f->rows, f->columns, across, tiles, to, f->format, all}, writers);
    else
        launch(o, round_kernel{x, groups, to, f->format, all}, writers);
    if (f->known) launch(o, history_kernel{writers, f->format, all}, 1);
}
