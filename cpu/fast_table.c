/* The table of this instruction set's kernels, and the scratch each wants. */
#include "fast.h"

#include <stdlib.h>

#define SCRATCH(rule)                                                                                        \
    static bool prepare_##rule(sid2_call *call, sid2_error *err)                                             \
    {                                                                                                        \
        (void)err;                                                                                           \
        call->scratch_bytes = FAST(rule##_scratch)(call);                                                    \
        return true;                                                                                         \
    }
SCRATCH(activation)
SCRATCH(attention)
SCRATCH(gemm)
SCRATCH(group_norm)
SCRATCH(row_norm)
SCRATCH(sum)
#define prepare_none NULL

static bool prepare_rope(sid2_call *call, sid2_error *err)
{
    call->scratch_bytes = FAST(rope_scratch)(call);
    return FAST(rope_prepare)(call, err);
}

/* Only the rotary tables are kept from prepare to release. */
static void release(sid2_call *call)
{
    free(call->state);
    call->state = NULL;
}

static size_t owned(const sid2_call *call) { return call->state ? FAST(rope_owned)(call) : 0; }

const sid2_kernel FAST(kernels)[SID2_OP_COUNT] = {
#define KERNEL(name, scratch)                                                                                \
    [SID2_OP_##name] = {.run = FAST(name), .prepare = prepare_##scratch, .release = release, .owned = owned},
#include "fast.def"
};
