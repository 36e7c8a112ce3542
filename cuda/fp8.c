#include "fp8.h"

#include "runtime.h"

bool sid2_fp8_prepare(sid2_fp8 *f, const sid2_call *call, sid2_error *err)
{
    const size_t bytes = SID2_FP8_WORDS * sizeof(float);
    f->scaling = (float *)sid2_cuda_malloc(bytes, "the scale of an operand", err);
    return f->scaling &&
           sid2_cuda_check(cudaMemsetAsync(f->scaling, 0, bytes, sid2_cuda_target_of(call)->stream),
                           "clearing the scale of an operand", err);
}

void sid2_fp8_release(sid2_fp8 *f)
{
    if (f->scaling) sid2_cuda_mfree(f->scaling);
    f->scaling = NULL;
}
