/* The reference kernels: every operator in plain C, in double, on one thread.
 *
 * A kernel here sees doubles only. The driver in reference.c widens all inputs into scratch, calls the kernel
 * and rounds the outputs to their types, so any mix of element types works, an output may lie over an input,
 * and an f64 graph gets float64 arithmetic throughout. */
#ifndef SID2_CPU_REFERENCE_H
#define SID2_CPU_REFERENCE_H

#include "kernel.h"

#include <math.h>

typedef struct sid2_reference {
    const sid2_attr *attr;
    const double *in[SID2_MAX_INPUTS]; /* NULL: absent */
    double *out[SID2_MAX_OUTPUTS];     /* NULL: absent; accumulating ones hold their old values */
    sid2_shape in_shape[SID2_MAX_INPUTS], out_shape[SID2_MAX_OUTPUTS];
} sid2_reference;

#define OP(name, inputs, outputs, attributes, gradient, formula)                                             \
    void sid2_reference_##name(const sid2_reference *r);
#include "op.def"

#define REAL                double
#define NUMBER              double
#define FORMULA(name)       f64_##name
#define FORMULA_INLINE      static inline
#define CONSTANT(x)         ((double)(x))
#define EACH(x)             (x)
#define SQRT(x)             sqrt(x)
#define CLAMP(x)            ((x) < -1 ? -1 : (x) > 1 ? 1 : (x))
#define FINITE(x)           isfinite(x)
#define NOT_FINITE          ((double)NAN)
#define KIND                sid2_act
#define SIGMOID(x)          (1 / (1 + exp(-(x))))
#define BELL(x)             exp(-0.5 * (x) * (x))
#define NORMAL_CDF(x, bell) (0.5 * erfc(-(x)*M_SQRT1_2))
#include "formulas.h"

/* A tensor as N samples of T rows of C channels. */
typedef struct sid2_rows {
    int64_t samples, rows, channels; /* rows within a sample */
} sid2_rows;

static inline sid2_rows sid2_rows_of(sid2_shape shape)
{
    int64_t samples = shape.dim[0], channels = shape.dim[shape.rank - 1], all = sid2_shape_count(shape);
    if (shape.rank == 1) return (sid2_rows){1, 1, channels};
    return (sid2_rows){samples, all ? all / samples / channels : 0, channels};
}

/* A tensor as images[count] of height x width x channels. */
typedef struct sid2_images {
    int64_t count, height, width, channels;
} sid2_images;

static inline sid2_images sid2_images_of(sid2_shape shape)
{
    const int64_t *d = shape.dim + shape.rank - 3;
    int64_t count = 1;
    for (int i = 0; i < shape.rank - 3; i++) count *= shape.dim[i];
    return (sid2_images){count, d[0], d[1], d[2]};
}

#endif
