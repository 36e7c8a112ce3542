/* Checks one device against another, operator by operator, with random shapes and numbers.
 *
 * A case is a graph of one node. The device under test computes it in its own types; the reference computes
 * it in float64 from the same, already rounded, inputs. With size = |expected| + rms of the expected output,
 * an element may differ by
 *
 *     size * (rounding of the output's type
 *             + for attention in a 16-bit type: a few roundings of the probabilities to that type
 *             + for a product with a bias: a rounding of that to the output's type
 *             + for the weight gradient of a 16-bit convolution, on devices that say so: one to that type,
 *               also of what it is added to)
 *     + (size + magnitude of the terms it is summed from) * 8 * 2^-24 * sqrt(1 + number of terms)
 *
 * and one level in a picture of bytes.
 *
 * In one case of twelve, one number of one input is NaN. Then wherever the reference has NaN, the device must, and
 * nothing else is compared: a kernel may spread NaN further, but not lose it. Outputs beside the first (statistics, and
 * gradients that end in the norm) may be infinite instead: a maximum need not hand a NaN on in GLSL.
 *
 * Around every tensor lie guard bytes that must not change, inputs must not change (unless overwritten on
 * purpose), and outputs start as NaN, so that an element never written shows. The guards are NaN, too, which shows an
 * element read beside a tensor. */
#ifndef SID2_OPCHECK_H
#define SID2_OPCHECK_H

#include "device.h"

typedef struct sid2_opcheck_result {
    int cases, failures;
    double worst;      /* largest difference as a share of what is allowed; above 1 is a failure */
    char failure[240]; /* the first failure in words: case, output, element, values, shapes; else empty */
} sid2_opcheck_result;

/* Draws `cases` cases from `seed` with activations of type `dtype` (f32, bf16, f16). Case i depends on (seed,
 * op, i) only. Wrong numbers are counted in the result; false means that a case could not be run at all. */
bool sid2_opcheck_run(sid2_device *device, sid2_device *reference, sid2_op op, sid2_dtype dtype,
                      uint64_t seed, int cases, sid2_opcheck_result *result, sid2_error *err);
/* The same cases, compiled and not run: for devices that compile only. */
bool sid2_opcheck_compile(sid2_device *device, sid2_op op, sid2_dtype dtype, uint64_t seed, int cases,
                          sid2_error *err);

#endif
