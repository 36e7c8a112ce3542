/* The reference kernels: every operator in plain C, in double, on one thread.
 *
 * A kernel here sees doubles only. The driver in reference.c widens all inputs into scratch, calls the kernel
 * and rounds the outputs to their types, so any mix of element types works, an output may lie over an input,
 * and an f64 graph gets float64 arithmetic throughout. */
#ifndef SID2_CPU_REFERENCE_H
#define SID2_CPU_REFERENCE_H

#include "kernel.h"

typedef struct sid2_reference {
    const sid2_attr *attr;
    const double *in[SID2_MAX_INPUTS]; /* NULL: absent */
    double *out[SID2_MAX_OUTPUTS];     /* NULL: absent; accumulating ones hold their old values */
    sid2_shape in_shape[SID2_MAX_INPUTS], out_shape[SID2_MAX_OUTPUTS];
} sid2_reference;

#define OP(name, inputs, outputs, attributes, gradient, formula)                                             \
    void sid2_reference_##name(const sid2_reference *r);
#include "op.def"

/* act(x) and its derivative. */
double sid2_reference_act(sid2_act act, double x);
double sid2_reference_act_slope(sid2_act act, double x);

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
