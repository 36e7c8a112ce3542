#include "helper.h"

static bool prepare(sid2_cuda_helper *helper, const sid2_call *call, sid2_op op, sid2_error *err)
{
    const sid2_kernel *kernel = &sid2_cuda_own[op];
    helper->call.op = op;
    helper->call.target = call->target;
    if (!kernel->run) return sid2_fail(err, SID2_ERR_UNSUPPORTED, "no own %s to help", sid2_op_name(op));
    if (kernel->prepare && !kernel->prepare(&helper->call, err)) return false;
    helper->kernel = kernel;
    return true;
}

void *sid2_cuda_helper_kept(const sid2_operand *tensor, sid2_dtype dtype)
{
    void *kept = tensor->dtype == dtype ? tensor->data : tensor->low_dtype == dtype ? tensor->low : NULL;
    return (uintptr_t)kept % 16 ? NULL : kept;
}

/* Until its address is known, one as well aligned. */
static sid2_operand in_scratch(sid2_dtype dtype, sid2_shape shape)
{
    return (sid2_operand){.data = (void *)(uintptr_t)256, .dtype = dtype, .shape = shape};
}

bool sid2_cuda_helper_cast(sid2_cuda_helper *helper, const sid2_call *call, const sid2_operand *from,
                           sid2_dtype to, sid2_error *err)
{
    static const sid2_attr attr[] = {[SID2_F32] = {.dtype = SID2_F32},
                                     [SID2_BF16] = {.dtype = SID2_BF16},
                                     [SID2_F16] = {.dtype = SID2_F16}};
    helper->call.attr = &attr[to];
    helper->call.in[0] = *from;
    helper->call.out[0] = in_scratch(to, from->shape);
    return prepare(helper, call, SID2_OP_cast, err);
}

bool sid2_cuda_helper_add(sid2_cuda_helper *helper, const sid2_call *call, const sid2_operand *to,
                          sid2_dtype more, sid2_error *err)
{
    static const sid2_attr plainly = {.scale = 1};
    helper->call.attr = &plainly;
    helper->call.in[0] = helper->call.out[0] = *to;
    helper->call.in[1] = in_scratch(more, to->shape);
    return prepare(helper, call, SID2_OP_add, err);
}

bool sid2_cuda_helper_bias_gradient(sid2_cuda_helper *helper, const sid2_call *call, sid2_error *err)
{
    helper->call.attr = call->attr;
    for (int i = 0; i < 2; i++) {
        helper->call.in[i] = call->in[i];
        helper->call.out[i] = call->out[i];
    }
    helper->call.out[0].data = NULL; /* see kernel.h */
    return prepare(helper, call, call->op, err);
}

bool sid2_cuda_helper_run(sid2_cuda_helper *helper, const sid2_call *call)
{
    if (!helper->kernel) return true;
    helper->call.scratch = call->scratch;
    helper->call.error = call->error;
    helper->kernel->run(&helper->call);
    return call->error->code == SID2_OK;
}

void sid2_cuda_helper_release(sid2_cuda_helper *helper)
{
    if (helper->kernel && helper->kernel->release) helper->kernel->release(&helper->call);
}
