/* What the fast loops share: vectors, storage conversion, activations, work splitting.
 *
 * The trick of this folder: every kernel is written once, in f32, on whole vectors. Tensors are walked in
 * chunks that stay in the first-level cache; `load` hands out a chunk as f32 (the tensor's own memory where
 * it already is f32 and a whole number of vectors, else converted into a buffer and padded with zeros), and
 * `target`/`store` do the reverse. So bf16 and f16 cost one conversion at the edge, and no kernel has a tail.
 *
 * The sources are compiled several times, for the instruction sets in fast_isas.c; FAST(name) carries the
 * set's suffix. Vectors are GCC's, VL floats wide; intrinsics only where the language has no word for it.
 *
 * Nor do results depend on the compiler: no product is fused into a sum but by vmuladd and its kin, for the files are
 * compiled without contraction. They do not depend on the number of threads: work is cut into parts by shape alone, and sums over
 * parts are taken in a fixed order. */
#ifndef SID2_CPU_FAST_H
#define SID2_CPU_FAST_H

#include "kernel.h"

#include <math.h>
#include <string.h>
#if defined(_OPENMP)
#include <omp.h>
#endif
#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#ifndef SID2_FAST_SUFFIX
#error "compiled through cpu/CMakeLists.txt, once per instruction set"
#endif
#define FAST_JOIN(name, suffix)  sid2_fast_##name##_##suffix
#define FAST_JOIN_(name, suffix) FAST_JOIN(name, suffix)
#define FAST(name)               FAST_JOIN_(name, SID2_FAST_SUFFIX)

/* The kernels, one an operator, and how much scratch each wants. */
#define KERNEL(name, scratch) void FAST(name)(sid2_call * call);
#include "fast.def"
size_t FAST(group_norm_scratch)(const sid2_call *call); /* each: the operator and its gradient */
size_t FAST(row_norm_scratch)(const sid2_call *call);
size_t FAST(activation_scratch)(const sid2_call *call);
size_t FAST(attention_scratch)(const sid2_call *call);
size_t FAST(gemm_scratch)(const sid2_call *call); /* linear, conv2d and their gradients */
size_t FAST(rope_scratch)(const sid2_call *call);
size_t FAST(rope_owned)(const sid2_call *call); /* bytes of the rotary table */
bool FAST(rope_prepare)(sid2_call *call, sid2_error *err);
size_t FAST(sum_scratch)(const sid2_call *call); /* diffusion_loss */
extern const sid2_kernel FAST(kernels)[SID2_OP_COUNT];
extern const sid2_kernel FAST(ahead)[SID2_OP_COUNT]; /* Winograd; run == NULL elsewhere */

/* ---- Vectors ---- */
#if defined(__AVX512F__)
enum { VL = 16 };
#elif defined(__AVX2__)
enum { VL = 8 };
#else
enum { VL = 4 };
#endif
typedef float vf __attribute__((vector_size(VL * 4)));
typedef int32_t vi __attribute__((vector_size(VL * 4)));
typedef uint32_t vu __attribute__((vector_size(VL * 4)));
typedef float vf_memory __attribute__((vector_size(VL * 4), aligned(4), may_alias));

#define INLINE static inline __attribute__((always_inline, unused))

INLINE int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }
INLINE int64_t max64(int64_t a, int64_t b) { return a > b ? a : b; }

INLINE vf vload(const float *p) { return *(const vf_memory *)p; }
INLINE void vstore(float *p, vf v) { *(vf_memory *)p = v; }
INLINE vf vset(float x) { return x - (vf){0}; }

/* a b + c and c - a b, rounded once where the instruction set has such an instruction. */
#if defined(__AVX512F__)
INLINE vf vmuladd(vf a, vf b, vf c) { return (vf)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c); }
INLINE vf vmulsub(vf a, vf b, vf c) { return (vf)_mm512_fnmadd_ps((__m512)a, (__m512)b, (__m512)c); }
#elif defined(__AVX2__)
INLINE vf vmuladd(vf a, vf b, vf c) { return (vf)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c); }
INLINE vf vmulsub(vf a, vf b, vf c) { return (vf)_mm256_fnmadd_ps((__m256)a, (__m256)b, (__m256)c); }
#elif defined(__aarch64__)
INLINE vf vmuladd(vf a, vf b, vf c) { return (vf)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b); }
INLINE vf vmulsub(vf a, vf b, vf c) { return (vf)vfmsq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b); }
#else
INLINE vf vmuladd(vf a, vf b, vf c) { return a * b + c; }
INLINE vf vmulsub(vf a, vf b, vf c) { return c - a * b; }
#endif

/* Of single numbers, for loops that become vectors. */
#if defined(__FMA__) || defined(__aarch64__)
INLINE float muladd(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
#else
INLINE float muladd(float a, float b, float c) { return a * b + c; }
#endif

/* a < b ? yes : no, lane by lane; `no` where either is NaN. */
INLINE vf vless(vf a, vf b, vf yes, vf no)
{
#if defined(__AVX512F__)
    __mmask16 mask = _mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_LT_OQ);
    return (vf)_mm512_mask_blend_ps(mask, (__m512)no, (__m512)yes);
#else
    vi mask = a < b;
    return (vf)(((vi)yes & mask) | ((vi)no & ~mask));
#endif
}

/* The larger, the smaller; b where either is NaN. */
#if defined(__AVX512F__)
INLINE vf vmax(vf a, vf b) { return (vf)_mm512_max_ps((__m512)a, (__m512)b); }
INLINE vf vmin(vf a, vf b) { return (vf)_mm512_min_ps((__m512)a, (__m512)b); }
#elif defined(__AVX2__)
INLINE vf vmax(vf a, vf b) { return (vf)_mm256_max_ps((__m256)a, (__m256)b); }
INLINE vf vmin(vf a, vf b) { return (vf)_mm256_min_ps((__m256)a, (__m256)b); }
#elif defined(__x86_64__)
INLINE vf vmax(vf a, vf b) { return (vf)_mm_max_ps((__m128)a, (__m128)b); }
INLINE vf vmin(vf a, vf b) { return (vf)_mm_min_ps((__m128)a, (__m128)b); }
#else
INLINE vf vmax(vf a, vf b) { return vless(b, a, a, b); }
INLINE vf vmin(vf a, vf b) { return vless(a, b, a, b); }
#endif

/* a0 b0 a1 b1 ...: of the lower halves, of the upper halves. */
#if defined(__AVX512F__)
#define LOW  0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define HIGH 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#elif defined(__AVX2__)
#define LOW  0, 8, 1, 9, 2, 10, 3, 11
#define HIGH 4, 12, 5, 13, 6, 14, 7, 15
#else
#define LOW  0, 4, 1, 5
#define HIGH 2, 6, 3, 7
#endif
INLINE vf vriffle_low(vf a, vf b) { return __builtin_shufflevector(a, b, LOW); }
INLINE vf vriffle_high(vf a, vf b) { return __builtin_shufflevector(a, b, HIGH); }
#undef LOW
#undef HIGH

INLINE float vsum(vf v)
{
#if defined(__AVX512F__)
    return _mm512_reduce_add_ps((__m512)v);
#endif
    float s[VL];
    vstore(s, v);
    for (int half = VL / 2; half > 0; half /= 2)
        for (int i = 0; i < half; i++) s[i] += s[i + half];
    return s[0];
}

INLINE float vmaximum(vf v)
{
    float s[VL];
    vstore(s, v);
    for (int half = VL / 2; half > 0; half /= 2)
        for (int i = 0; i < half; i++) s[i] = s[i] > s[i + half] ? s[i] : s[i + half];
    return s[0];
}

/* The first n lanes of v; zero beyond. */
INLINE vf vkeep(vf v, int64_t n)
{
    vi lane;
    for (int i = 0; i < VL; i++) lane[i] = i;
    return (vf)((vi)v & (lane < (int32_t)min64(n, VL)));
}

/* 2^x, relative error 2e-7, x limited to +-126 so that neither it nor its reciprocal leaves the normal
 * numbers; NaN stays NaN. x = n + r; 2^r by a minimax polynomial of our own on |r| <= 1/2; then n into the
 * exponent. */
INLINE vf vexp2(vf x)
{
    x = vmin(vset(126.0f), vmax(vset(-126.0f), x));
#if defined(__AVX512F__)
    vf n = (vf)_mm512_roundscale_ps((__m512)x, 0);
#else
    const float round = 12582912.0f; /* 1.5 * 2^23: adding it rounds to integer */
    vf shifted = x + round, n = shifted - round;
#endif
    vf r = x - n;
    vf p = vmuladd(r, vset(0.00132610765f), vset(0.00967164896f));
    p = vmuladd(r, p, vset(0.0555074625f));
    p = vmuladd(r, p, vset(0.240222394f));
    p = vmuladd(r, p, vset(0.693146944f));
    p = vmuladd(r, p, vset(1.0f));
#if defined(__AVX512F__)
    return (vf)_mm512_scalef_ps((__m512)p, (__m512)n);
#else
    return (vf)((vi)p + ((vi)shifted << 23));
#endif
}

#define LOG2_E 1.44269504f
INLINE vf vexp(vf x) { return vexp2(x * LOG2_E); } /* the product's rounding adds |x| 6e-8 */

/* ---- The formulas of core/formulas.h: on vectors (vf_), and on what channels or samples share (f32_, f64_) ---- */
INLINE vf vsigmoid(vf x) { return 1.0f / (1.0f + vexp2(x * -LOG2_E)); }

/* Phi(-|x|) = e^(-x^2/2) t poly(t), t = 1 / (1 + 0.3 |x|): our own fit, relative error 5e-8 up to |x| = 9. */
INLINE vf vnormal_cdf(vf x, vf bell)
{
    vf size = (vf)((vi)x & 0x7fffffff);
    vf t = 1.0f / vmuladd(size, vset(0.3f), vset(1.0f));
    vf p = vmuladd(t, vset(0.0375359468f), vset(-0.165020734f));
    p = vmuladd(t, p, vset(0.219973296f));
    p = vmuladd(t, p, vset(-0.0664047003f));
    p = vmuladd(t, p, vset(0.13542144f));
    p = vmuladd(t, p, vset(0.0977835059f));
    p = vmuladd(t, p, vset(0.121105783f));
    p = vmuladd(t, p, vset(0.119605489f));
    vf tail = bell * t * p;
    return vless(x, vset(0.0f), tail, 1.0f - tail);
}

INLINE vf vsqrt(vf x)
{
#if defined(__AVX512F__)
    return (vf)_mm512_sqrt_ps((__m512)x);
#elif defined(__AVX2__)
    return (vf)_mm256_sqrt_ps((__m256)x);
#else
    vf r;
    for (int i = 0; i < VL; i++) r[i] = sqrtf(x[i]);
    return r;
#endif
}

#define REAL                vf
#define NUMBER              float
#define FORMULA(name)       vf_##name
#define FORMULA_INLINE      INLINE
#define CONSTANT(x)         ((float)(x))
#define EACH(x)             vset(x)
#define SQRT(x)             vsqrt(x)
#define MULTIPLY_ADD        vmuladd
#define CLAMP(x)            vmin(vset(1.0f), vmax(vset(-1.0f), x)) /* NaN stays: see vmax */
#define FINITE(x)           isfinite(x)
#define NOT_FINITE          NAN
#define KIND                sid2_act
#define SIGMOID(x)          vsigmoid(x)
#define BELL(x)             vexp2((x) * (x) * (-0.5f * LOG2_E))
#define NORMAL_CDF(x, bell) vnormal_cdf(x, bell)
#include "formulas.h"

#define REAL           float
#define NUMBER         float
#define FORMULA(name)  f32_##name
#define FORMULA_INLINE INLINE
#define CONSTANT(x)    ((float)(x))
#define EACH(x)        (x)
#define SQRT(x)        sqrtf(x)
#define CLAMP(x)       ((x) < -1.0f ? -1.0f : (x) > 1.0f ? 1.0f : (x))
#define FINITE(x)      isfinite(x)
#define NOT_FINITE     NAN
#include "formulas.h"

#define REAL           double
#define NUMBER         double
#define FORMULA(name)  f64_##name
#define FORMULA_INLINE INLINE
#define CONSTANT(x)    ((double)(x))
#define EACH(x)        (x)
#define SQRT(x)        sqrt(x)
#define CLAMP(x)       ((x) < -1.0 ? -1.0 : (x) > 1.0 ? 1.0 : (x))
#define FINITE(x)      isfinite(x)
#define NOT_FINITE     ((double)NAN)
#include "formulas.h"

/* Calls body(act) with `act` a constant, so that each activation gets its own loop. */
#define WITH_ACT(act_, body)                                                                                 \
    do {                                                                                                     \
        switch (act_) {                                                                                      \
        case SID2_ACT_SILU: {                                                                                \
            const sid2_act act = SID2_ACT_SILU;                                                              \
            body;                                                                                            \
        } break;                                                                                             \
        case SID2_ACT_GELU: {                                                                                \
            const sid2_act act = SID2_ACT_GELU;                                                              \
            body;                                                                                            \
        } break;                                                                                             \
        default: {                                                                                           \
            const sid2_act act = SID2_ACT_NONE;                                                              \
            body;                                                                                            \
        } break;                                                                                             \
        }                                                                                                    \
    } while (0)

/* ---- Storage ---- */
enum { CHUNK = 1024 }; /* floats in a chunk: a handful of them fit the first-level cache */

typedef struct chunk {
    float at[CHUNK] __attribute__((aligned(64)));
} chunk;

typedef uint32_t float_bits __attribute__((may_alias));

INLINE void bf16_to_f32(const uint16_t *from, float *to, int64_t n)
{
    float_bits *bits = (float_bits *)(void *)to;
#pragma omp simd
    for (int64_t i = 0; i < n; i++) bits[i] = (uint32_t)from[i] << 16;
}

INLINE void f32_to_bf16(const float *from, uint16_t *to, int64_t n)
{
    int64_t i = 0;
#if defined(__AVX512BF16__)
    for (; i + 32 <= n; i += 32) {
        __m512bh both = _mm512_cvtne2ps_pbh((__m512)vload(from + i + 16), (__m512)vload(from + i));
        memcpy(to + i, &both, sizeof both);
    }
#endif
    const float_bits *bits = (const float_bits *)(const void *)from;
#pragma omp simd
    for (int64_t k = i; k < n; k++) {
        uint32_t b = bits[k], rounded = (b + 0x7fffu + (b >> 16 & 1u)) >> 16, nan = b >> 16 | 0x40u;
        to[k] = (uint16_t)((b & 0x7fffffffu) > 0x7f800000u ? nan : rounded);
    }
}

INLINE void f16_to_f32(const uint16_t *from, float *to, int64_t n)
{
    int64_t i = 0;
#if defined(__F16C__)
    for (; i + 8 <= n; i += 8)
        _mm256_storeu_ps(to + i, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)(from + i))));
#endif
    for (; i < n; i++) to[i] = sid2_f16_to_f32(from[i]);
}

INLINE void f32_to_f16(const float *from, uint16_t *to, int64_t n)
{
    int64_t i = 0;
#if defined(__F16C__)
    for (; i + 8 <= n; i += 8)
        _mm_storeu_si128((__m128i *)(void *)(to + i), _mm256_cvtps_ph(_mm256_loadu_ps(from + i), 0));
#endif
    for (; i < n; i++) to[i] = sid2_f32_to_f16(from[i]);
}

/* n elements of t from `at` on into `to`, as f32. */
INLINE void fetch(const sid2_operand *t, int64_t at, int64_t n, float *to)
{
    switch (t->dtype) {
    case SID2_BF16: bf16_to_f32((const uint16_t *)t->data + at, to, n); break;
    case SID2_F16: f16_to_f32((const uint16_t *)t->data + at, to, n); break;
    default: memcpy(to, (const float *)t->data + at, (size_t)n * sizeof(float)); break;
    }
}

/* The reverse. `from` may be the tensor's own memory. */
INLINE void store(const float *from, const sid2_operand *t, int64_t at, int64_t n)
{
    switch (t->dtype) {
    case SID2_BF16: f32_to_bf16(from, (uint16_t *)t->data + at, n); break;
    case SID2_F16: f32_to_f16(from, (uint16_t *)t->data + at, n); break;
    default:
        if (from != (const float *)t->data + at)
            memcpy((float *)t->data + at, from, (size_t)n * sizeof(float));
        break;
    }
}

/* n elements of t as f32, readable (and then zero) up to the next whole vector. The caller's buffer must
 * hold that many. */
INLINE const float *load(const sid2_operand *t, int64_t at, int64_t n, float *buffer)
{
    if (t->dtype == SID2_F32 && n % VL == 0) return (const float *)t->data + at;
    fetch(t, at, n, buffer);
    for (int64_t i = n; i % VL; i++) buffer[i] = 0.0f;
    return buffer;
}

/* Where to compute n elements that `store` will then put into t: its own memory or the buffer. */
INLINE float *target(const sid2_operand *t, int64_t at, int64_t n, float *buffer)
{
    return t->dtype == SID2_F32 && n % VL == 0 ? (float *)t->data + at : buffer;
}

/* ---- Work ---- */
INLINE int thread_index(void)
{
#if defined(_OPENMP)
    return omp_get_thread_num();
#else
    return 0;
#endif
}

INLINE int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }
INLINE int64_t round_up(int64_t a, int64_t b) { return divide_up(a, b) * b; }
INLINE int64_t count(const sid2_operand *t) { return sid2_shape_count(t->shape); }
INLINE int64_t last(const sid2_operand *t) { return t->shape.rank ? t->shape.dim[t->shape.rank - 1] : 1; }
INLINE int64_t first(const sid2_operand *t) { return t->shape.rank ? t->shape.dim[0] : 1; }

/* Samples of an operator with FiLM: a vector alone is one row of one. */
INLINE int64_t batch(const sid2_operand *t) { return t->shape.rank > 1 ? t->shape.dim[0] : 1; }

/* Threads worth waking for so many elements. No result depends on it. */
INLINE int team(const sid2_call *call, int64_t elements)
{
    return elements < call->grain || call->threads < 1 ? 1 : call->threads;
}

/* Channels-last tensors with a coefficient per channel: the coefficients are repeated up to a period that is
 * a whole number of vectors and long enough for a loop, so that a 3- or 32-channel image runs as a flat
 * array. A part is the unit of work and of partial sums: whole periods, about 16 Ki elements. */
typedef struct span {
    int64_t samples, rows, channels;  /* rows a sample */
    int64_t period, part_rows, parts; /* parts a sample */
} span;

INLINE span span_of(int64_t samples, int64_t rows, int64_t channels)
{
    int64_t step = VL / min64(VL, channels & -channels); /* rows in the shortest period of whole vectors */
    int64_t repeat = max64(1, 256 / (channels * step)) * step;
    int64_t part = round_up(max64(1, 16384 / channels), repeat);
    return (span){samples, rows, channels, channels * repeat, part, divide_up(rows, part)};
}

/* The next piece of `left` elements, starting at `phase` of the period: never beyond a chunk, and whole
 * periods or inside one. */
INLINE int64_t span_piece(const span *s, int64_t left, int64_t phase)
{
    if (s->period > CHUNK) return min64(left, min64(CHUNK, s->period - phase));
    return min64(left, CHUNK / s->period * s->period);
}

INLINE void span_repeat(const span *s, float *coefficient)
{
    for (int64_t filled = s->channels; filled < s->period; filled *= 2)
        memcpy(coefficient + filled, coefficient, (size_t)min64(filled, s->period - filled) * sizeof(float));
}

/* The reverse for sums: adds the repetitions up in the first. */
INLINE void span_fold(const span *s, float *sum)
{
    for (int64_t row = s->channels; row < s->period; row += s->channels)
        for (int64_t c = 0; c < s->channels; c++) sum[c] += sum[row + c];
}

/* A kernel over n elements from `at` on, all of one sample. */
typedef void (*chunk_kernel)(const sid2_call *call, int64_t sample, int64_t at, int64_t n);

/* Runs it for every chunk of every sample, over the threads. */
static inline void for_chunks(const sid2_call *call, int64_t samples, int64_t elements, chunk_kernel kernel)
{
    int64_t chunks = divide_up(elements, CHUNK);
    int threads = team(call, samples * elements);
#pragma omp parallel for schedule(static) collapse(2) num_threads(threads)
    for (int64_t n = 0; n < samples; n++)
        for (int64_t k = 0; k < chunks; k++)
            kernel(call, n, n * elements + k * CHUNK, min64(CHUNK, elements - k * CHUNK));
}

#endif
