/* The table of this instruction set's kernels, and the scratch each wants. */
#include "fast.h"

#include <stdlib.h>

static bool prepare(sid2_cpu_call *call, sid2_error *err)
{
    switch (call->op) {
    case SID2_OP_group_norm:
    case SID2_OP_group_norm_grad: call->scratch_bytes = FAST(group_norm_scratch)(call); break;
    case SID2_OP_row_norm:
    case SID2_OP_row_norm_grad: call->scratch_bytes = FAST(row_norm_scratch)(call); break;
    case SID2_OP_activation:
    case SID2_OP_activation_grad: call->scratch_bytes = FAST(activation_scratch)(call); break;
    case SID2_OP_qk_norm_rope:
    case SID2_OP_qk_norm_rope_grad:
        call->scratch_bytes = FAST(rope_scratch)(call);
        return FAST(rope_prepare)(call, err);
    case SID2_OP_attention:
    case SID2_OP_attention_grad: call->scratch_bytes = FAST(attention_scratch)(call); break;
    case SID2_OP_linear:
    case SID2_OP_linear_dgrad:
    case SID2_OP_linear_wgrad:
    case SID2_OP_conv2d:
    case SID2_OP_conv2d_dgrad:
    case SID2_OP_conv2d_wgrad: call->scratch_bytes = FAST(gemm_scratch)(call); break;
    case SID2_OP_diffusion_loss: call->scratch_bytes = FAST(sum_scratch)(call); break;
    default: call->scratch_bytes = 0; break;
    }
    return true;
}

/* Only the rotary tables are kept from prepare to release. */
static void release(sid2_cpu_call *call)
{
    free(call->state);
    call->state = NULL;
}

static size_t owned(const sid2_cpu_call *call) { return call->state ? FAST(rope_owned)(call) : 0; }

const sid2_cpu_kernel FAST(kernels)[SID2_OP_COUNT] = {
#define OP(name, ...)                                                                                        \
    [SID2_OP_##name] = {.run = FAST(name), .prepare = prepare, .release = release, .owned = owned},
#include "op.def"
};
