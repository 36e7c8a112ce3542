#include "fp8.h"

static void (*const operators[SID2_OP_COUNT])(sid2_own *) = {
#define KERNEL(name) [SID2_OP_##name] = sid2_own_##name,
#include "own.def"
};

static bool prepare(sid2_call *call, sid2_error *err)
{
    sid2_own o = {.call = call, .dry = true, .ok = true, .err = err};
    operators[call->op](&o);
    call->scratch_bytes = o.scratch_used;
    return o.ok;
}

static void run(sid2_call *call)
{
    sid2_own o = {.call = call, .stream = sid2_cuda_target_of(call)->stream, .ok = true, .err = call->error};
    operators[call->op](&o);
}

const sid2_kernel sid2_cuda_own[SID2_OP_COUNT] = {
#define KERNEL(name) [SID2_OP_##name] = {.run = run, .prepare = prepare},
#include "own.def"
};

bool sid2_fp8_run(sid2_fp8 *f, const sid2_call *call)
{
    sid2_own o = {.call = call, .stream = sid2_cuda_target_of(call)->stream, .ok = true, .err = call->error};
    sid2_own_fp8(&o, f);
    f->known = true;
    return o.ok;
}
