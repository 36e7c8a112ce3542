#include "reference.h"

#include "element.h"

static size_t elements(const sid2_operand *t) { return t->data ? (size_t)sid2_shape_count(t->shape) : 0; }

static bool prepare(sid2_call *call, sid2_error *err)
{
    (void)err;
    size_t total = 0;
    for (int i = 0; i < SID2_MAX_INPUTS; i++) total += elements(&call->in[i]);
    for (int i = 0; i < SID2_MAX_OUTPUTS; i++) total += elements(&call->out[i]);
    call->scratch_bytes = total * sizeof(double);
    return true;
}

static void run(sid2_call *call)
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
        for (int64_t j = 0; j < count; j++)
            free_space[j] = sid2_element_get(call->in[i].dtype, call->in[i].data, j);
        r.in[i] = free_space;
        r.in_shape[i] = call->in[i].shape;
        free_space += count;
    }
    for (int i = 0; i < info.output_count; i++) {
        if (!call->out[i].data) continue;
        int64_t count = sid2_shape_count(call->out[i].shape);
        for (int64_t j = 0; j < count; j++)
            free_space[j] =
                info.output[i].accumulate ? sid2_element_get(call->out[i].dtype, call->out[i].data, j) : 0;
        r.out[i] = free_space;
        r.out_shape[i] = call->out[i].shape;
        free_space += count;
    }
    kernels[call->op](&r);
    for (int i = 0; i < info.output_count; i++) {
        if (!call->out[i].data) continue;
        int64_t count = sid2_shape_count(call->out[i].shape);
        for (int64_t j = 0; j < count; j++)
            sid2_element_set(call->out[i].dtype, call->out[i].data, j, r.out[i][j]);
    }
}

const sid2_kernel sid2_cpu_reference[SID2_OP_COUNT] = {
#define OP(name, inputs, outputs, attributes, gradient, formula) {.run = run, .prepare = prepare},
#include "op.def"
};
