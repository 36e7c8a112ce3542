/* Operands of products in eight bits: E4M3 for activations and weights, E5M2 for gradients, whose range is wider
 * (OCP 8-bit floating point, revision 1.0: https://www.opencompute.org/documents/ocp-8-bit-floating-point-specification-ofp8-revision-1-0-2023-12-01-pdf-1).
 *
 * Scaling is delayed: an operand is multiplied by a power of two such that the largest of its last 16 runs came to the
 * upper end of the format, so that one pass over it both rounds and looks for the largest of this run. What is larger
 * than all before is clamped; what is not finite becomes NaN, and is left out of the history. The first run looks
 * before it rounds. As scales are powers of two, they change what is clamped and what is too small for the format,
 * and no other bit. */
#ifndef SID2_CUDA_FP8_H
#define SID2_CUDA_FP8_H

#include <math.h>

#include "own.h"

typedef enum sid2_fp8_format { SID2_E4M3, SID2_E5M2 } sid2_fp8_format;

/* What is kept of an operand, in device memory; the history has the latest first. */
enum {
    SID2_FP8_INVERSE,
    SID2_FP8_SCALE,
    SID2_FP8_HISTORY,
    SID2_FP8_RUNS = 16,
    SID2_FP8_WORDS = SID2_FP8_HISTORY + SID2_FP8_RUNS
};

typedef struct sid2_fp8 {
    sid2_operand from; /* 16 bits: [rows, columns], both multiples of 16 */
    int64_t rows, columns;
    bool transposed; /* `to` is [columns, rows] */
    sid2_fp8_format format;
    float *scaling; /* [SID2_FP8_WORDS]; the first is 1 / the scale of `to`, which a product wants */
    bool known;     /* it has a history */
    void *to;       /* rows * columns bytes on 16, in scratch: to be set before each run */
    float *parts;   /* [sid2_fp8_parts], likewise */
} sid2_fp8;

/* Words that a run wants to find the largest with. */
static inline int64_t sid2_fp8_parts(const sid2_cuda_target *target)
{
    return 16 * (int64_t)target->multiprocessors;
}

#ifdef __cplusplus
extern "C" {
#endif
/* Makes `scaling`; the fields before it are set. */
bool sid2_fp8_prepare(sid2_fp8 *f, const sid2_call *call, sid2_error *err);
void sid2_fp8_release(sid2_fp8 *f);
/* Enqueues; false with the error of `call`. */
bool sid2_fp8_run(sid2_fp8 *f, const sid2_call *call);
/* Its launches (kernels_fp8.cu). */
void sid2_own_fp8(sid2_own *o, const sid2_fp8 *f);
#ifdef __cplusplus
}
#endif

/* ---- On the host; a GPU has instructions ---- */

static inline int sid2_fp8_fraction(sid2_fp8_format format) { return format == SID2_E4M3 ? 3 : 2; }
static inline int sid2_fp8_bias(sid2_fp8_format format) { return format == SID2_E4M3 ? 7 : 15; }

/* To the nearest, of two the even one; larger ones to the largest; NaN where not finite. */
static inline uint8_t sid2_f32_to_fp8(float value, sid2_fp8_format format)
{
    const int fraction = sid2_fp8_fraction(format), bias = sid2_fp8_bias(format);
    const float largest = format == SID2_E4M3 ? 448.0f : 57344.0f;
    const int sign = signbit(value) ? 0x80 : 0;
    if (!isfinite(value)) return (uint8_t)(sign | 0x7f);
    float magnitude = fabsf(value) < largest ? fabsf(value) : largest;
    int exponent = magnitude > 0 ? ilogbf(magnitude) : -1000;
    if (exponent < 1 - bias) exponent = 1 - bias; /* subnormal */
    int steps = (int)nearbyintf(ldexpf(magnitude, fraction - exponent));
    return (uint8_t)(sign | (((exponent + bias - 1) << fraction) + steps));
}

static inline float sid2_fp8_to_f32(uint8_t bits, sid2_fp8_format format)
{
    const int fraction = sid2_fp8_fraction(format), bias = sid2_fp8_bias(format);
    const int code = bits & 0x7f, exponent = code >> fraction, steps = code & ((1 << fraction) - 1);
    float magnitude = exponent ? ldexpf((float)(steps + (1 << fraction)), exponent - bias - fraction)
                               : ldexpf((float)steps, 1 - bias - fraction);
    if (format == SID2_E4M3 ? code == 0x7f : code > 0x7c)
        magnitude = NAN;
    else if (format == SID2_E5M2 && code == 0x7c)
        magnitude = INFINITY;
    return bits & 0x80 ? -magnitude : magnitude;
}

#endif
