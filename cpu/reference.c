#include "reference.h"

#include <string.h>

static double load(const sid2_cpu_tensor *t, int64_t i)
{
    switch (t->dtype) {
    case SID2_F32: return ((const float *)t->data)[i];
    case SID2_BF16: return sid2_bf16_to_f32(((const uint16_t *)t->data)[i]);
    case SID2_F16: return sid2_f16_to_f32(((const uint16_t *)t->data)[i]);
    case SID2_F64: return ((const double *)t->data)[i];
    case SID2_U8: return ((const uint8_t *)t->data)[i];
    case SID2_I32: return ((const int32_t *)t->data)[i];
    case SID2_U32: return ((const uint32_t *)t->data)[i];
    case SID2_DTYPE_COUNT: break;
    }
    return 0;
}

static void store(sid2_cpu_tensor *t, int64_t i, double value)
{
    switch (t->dtype) {
    case SID2_F32: ((float *)t->data)[i] = (float)value; break;
    case SID2_BF16: ((uint16_t *)t->data)[i] = sid2_f32_to_bf16((float)value); break;
    case SID2_F16: ((uint16_t *)t->data)[i] = sid2_f32_to_f16((float)value); break;
    case SID2_F64: ((double *)t->data)[i] = value; break;
    case SID2_U8: ((uint8_t *)t->data)[i] = (uint8_t)value; break;
    case SID2_I32: ((int32_t *)t->data)[i] = (int32_t)value; break;
    case SID2_U32: ((uint32_t *)t->data)[i] = (uint32_t)value; break;
    case SID2_DTYPE_COUNT: break;
    }
}

static size_t elements(const sid2_cpu_tensor *t) { return t->data ? (size_t)sid2_shape_count(t->shape) : 0; }

static bool prepare(sid2_cpu_call *call, sid2_error *err)
{
    (void)err;
    size_t total = 0;
    for (int i = 0; i < SID2_MAX_INPUTS; i++) total += elements(&call->in[i]);
    for (int i = 0; i < SID2_MAX_OUTPUTS; i++) total += elements(&call->out[i]);
    call->scratch_bytes = total * sizeof(double);
    return true;
}

static void run(sid2_cpu_call *call)
{
    static void (*const kernels[SID2_OP_COUNT])(const sid2_reference *) = {
#define OP(name, inputs, outputs, attributes, gradient, formula) sid2_reference_##name,
#include "op.def"
    };
    const sid2_op_info info = sid2_op_describe(call->op);
    sid2_reference r = {.attr = call->attr};
    double *free_space = call->scratch;
    for (int i = 0; i < info.input_count; i++) {
        if (!call->in[i].data) continue;
        int64_t count = sid2_shape_count(call->in[i].shape);
        for (int64_t j = 0; j < count; j++) free_space[j] = load(&call->in[i], j);
        r.in[i] = free_space;
        r.in_shape[i] = call->in[i].shape;
        free_space += count;
    }
    for (int i = 0; i < info.output_count; i++) {
        if (!call->out[i].data) continue;
        int64_t count = sid2_shape_count(call->out[i].shape);
        for (int64_t j = 0; j < count; j++)
            free_space[j] = info.output[i].accumulate ? load(&call->out[i], j) : 0;
        r.out[i] = free_space;
        r.out_shape[i] = call->out[i].shape;
        free_space += count;
    }
    kernels[call->op](&r);
    for (int i = 0; i < info.output_count; i++)
        for (int64_t j = 0, count = r.out[i] ? sid2_shape_count(r.out_shape[i]) : 0; j < count; j++)
            store(&call->out[i], j, r.out[i][j]);
}

const sid2_cpu_kernel sid2_cpu_reference[SID2_OP_COUNT] = {
#define OP(name, inputs, outputs, attributes, gradient, formula) {.run = run, .prepare = prepare},
#include "op.def"
};
