/* What an operator is: the table of op.def as types and functions. */
#ifndef SID2_OP_H
#define SID2_OP_H

#include "base.h"

enum { SID2_MAX_INPUTS = 8, SID2_MAX_OUTPUTS = 5 };
enum { SID2_SUM_BLOCK = 16384 }; /* elements of a sum of squares */

typedef enum sid2_op {
#define OP(name, inputs, outputs, attributes, gradient, formula) SID2_OP_##name,
#include "op.def"
    SID2_OP_COUNT
} sid2_op;

typedef enum sid2_act { SID2_ACT_NONE, SID2_ACT_SILU, SID2_ACT_GELU } sid2_act;

/* Everything an operator is told beside its tensors. An operator reads the fields its row names; the
 * others are zero. */
typedef struct sid2_attr {
    sid2_act act;
    int32_t groups;   /* group_norm */
    int32_t center;   /* row_norm, qk_norm_rope: 1 LayerNorm, 0 RMSNorm */
    int32_t heads;    /* attention */
    int32_t grid[3];  /* frames, rows, columns of the tokens */
    int32_t patch;    /* side of a patch, pixels */
    uint32_t purpose; /* Philox stream */
    float eps;        /* added to the variance */
    float scale;
    float rate;   /* dropout: probability of 0 */
    float theta;  /* rotary: base of the frequencies */
    float period; /* sinusoid: longest period / 2 pi */
    /* Windows, each as frames, rows, columns: y = (before + x + after - window) / stride + 1, rounded down. */
    int32_t window[3], stride[3], before[3], after[3];
    int32_t mean;     /* pool3d: 1 mean, 0 maximum */
    int32_t rectify;  /* conv3d: 1 max(y, 0) */
    sid2_dtype dtype; /* of the output, where it cannot be told from the inputs */
    sid2_shape shape; /* likewise */
} sid2_attr;

/* How an input or output may be used; from the marks in op.def. */
typedef struct sid2_slot {
    bool optional;
    bool inplace;    /* input: output 0 may overwrite it */
    bool added;      /* input: added to output 0, whose shape it has */
    bool accumulate; /* output: added to */
    bool whole; /* one for the whole batch; every other slot begins with the batch, or a multiple of it */
} sid2_slot;

typedef struct sid2_op_info {
    const char *name, *inputs, *outputs, *attributes, *formula;
    int input_count, output_count;
    sid2_slot input[SID2_MAX_INPUTS], output[SID2_MAX_OUTPUTS];
} sid2_op_info;

/* The table row, parsed. Thread-safe. */
sid2_op_info sid2_op_describe(sid2_op op);
const char *sid2_op_name(sid2_op op);

/* A tensor as a shape rule sees it. */
typedef struct sid2_type {
    sid2_dtype dtype;
    sid2_shape shape; /* rank -1: absent */
} sid2_type;

/* The shape rule: checks the inputs and fills the types of all outputs (also optional ones; the caller
 * keeps those it wants). `error` names operator, input and shapes. */
bool sid2_op_infer(sid2_op op, const sid2_attr *attr, const sid2_type in[], sid2_type out[], sid2_error *err);

/* The cost rule: multiply-adds (matrix products, convolutions, attention; 0 for the rest, as the field
 * counts) and bytes that must at least move: every input read once, every output written once. */
typedef struct sid2_cost {
    double multiply_adds, bytes;
} sid2_cost;
sid2_cost sid2_op_cost(sid2_op op, const sid2_attr *attr, const sid2_type in[], const sid2_type out[]);

#endif
