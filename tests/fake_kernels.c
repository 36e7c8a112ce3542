/* "Own" kernels for the CUDA backend's tests: the reference's; but operands in eight bits are made by the backend's, which
 * the emulator runs. */
#include "fake_cuda.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../cpu/kernel.h"
#include "../cuda/fp8.h"

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

typedef struct rounding {
    sid2_fp8 operand;
    const sid2_call *call;
} rounding;

static void round_to_eight(void *argument)
{
    const rounding *r = argument;
    sid2_error why = {0};
    sid2_own o = {.call = r->call, .ok = true, .err = &why};
    sid2_own_fp8(&o, &r->operand);
    if (!o.ok) fprintf(stderr, "%s\n", why.message), abort();
    fake.rounded++;
}

bool sid2_fp8_run(sid2_fp8 *f, const sid2_call *call)
{
    const rounding r = {*f, call};
    const size_t bytes = (size_t)(f->rows * f->columns),
                 parts = (size_t)sid2_fp8_parts(sid2_cuda_target_of(call));
    if (!fake_is_device(f->from.data, 2 * bytes) || !fake_is_device(f->to, bytes) ||
        !fake_is_device(f->parts, parts * sizeof(float)) || (uintptr_t)f->to % 16)
        return sid2_fail(call->error, SID2_ERR_INTERNAL, "an operand in eight bits is no device memory");
    f->known = true;
    return fake_launch(sid2_cuda_target_of(call)->stream, round_to_eight, &r, sizeof r) ||
           sid2_fail(call->error, SID2_ERR_DEVICE, "an illegal memory access was encountered");
}

const sid2_kernel sid2_cuda_own[SID2_OP_COUNT] = {
#define KERNEL(name) [SID2_OP_##name] = {.run = run, .prepare = prepare, .release = release},
#include "../cuda/own.def"
};
