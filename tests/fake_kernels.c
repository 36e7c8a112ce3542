/* "Own" kernels for the CUDA backend's tests: the reference's. */
#include "fake_cuda.h"

#include <stdlib.h>
#include <string.h>

#include "../cpu/kernel.h"
#include "../cuda/kernel.h"

static void compute(void *argument)
{
    const sid2_call *call = argument;
    sid2_call plain = *call;
    sid2_error err;
    if (plain.op == SID2_OP_conv2d_wgrad && !plain.out[0].data)
        plain.op = SID2_OP_linear_wgrad; /* a bias' alone */
    sid2_cpu_reference[plain.op].prepare(&plain, &err);
    plain.scratch = malloc(plain.scratch_bytes + 1);
    sid2_cpu_reference[plain.op].run(&plain);
    free(plain.scratch);
    memset(call->scratch, 0xff, call->scratch_bytes);
    fake.kernels++;
    fake.casts += call->op == SID2_OP_cast;
}

/* Wants scratch and remembers something, so that both are exercised. */
static bool prepare(sid2_call *call, sid2_error *err)
{
    (void)err;
    call->state = malloc(1);
    call->scratch_bytes = 1000;
    return true;
}

static void release(sid2_call *call) { free(call->state); }

static void run(sid2_call *call)
{
    for (int i = 0; i < SID2_MAX_OUTPUTS; i++)
        if (call->out[i].data &&
            !fake_is_device(call->out[i].data, (size_t)sid2_shape_count(call->out[i].shape)))
            sid2_fail(call->error, SID2_ERR_INTERNAL, "an output is no device memory");
    if (!fake_is_device(call->scratch, call->scratch_bytes))
        sid2_fail(call->error, SID2_ERR_INTERNAL, "the scratch is no device memory");
    if (!call->error->code && !fake_launch(sid2_cuda_target_of(call)->stream, compute, call, sizeof *call))
        sid2_fail(call->error, SID2_ERR_DEVICE, "an illegal memory access was encountered");
}

const sid2_kernel sid2_cuda_own[SID2_OP_COUNT] = {
#define KERNEL(name) [SID2_OP_##name] = {.run = run, .prepare = prepare, .release = release},
#include "../cuda/own.def"
};
