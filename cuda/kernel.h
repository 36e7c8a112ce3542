/* The CUDA backend's kernels: each enqueues one prepared call on the device's stream, and never waits, for it is
 * captured into a graph. Three tables hold them, asked in this order: cuDNN, cublasLt, own kernels. Plain C, no CUDA
 * header, so that tests can fill and run calls on the host. */
#ifndef SID2_CUDA_KERNEL_H
#define SID2_CUDA_KERNEL_H

#include <sid2/device.h>

#include "call.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What kernels may know of the device. */
typedef struct sid2_cuda_target {
    int multiprocessors;
    int capability;     /* 80, 90, 100, 120 */
    bool deterministic; /* the same bits in every run: no atomic sums of floats, deterministic engines only */
    bool tf32;          /* asked for: f32 products may round their inputs to TF32 */
    sid2_fp8_products fp8;  /* asked for */
    void *cublaslt, *cudnn; /* sid2_cublaslt *, sid2_cudnn * of libraries.h; NULL where absent */
    void *stream;           /* a cudaStream_t */
    void *kept;             /* sid2_cuda_kept * of ways.h; NULL: libraries' own choices */
} sid2_cuda_target;

static inline const sid2_cuda_target *sid2_cuda_target_of(const sid2_call *call)
{
    return (const sid2_cuda_target *)call->target;
}

extern const sid2_kernel sid2_cuda_cudnn[SID2_OP_COUNT];
extern const sid2_kernel sid2_cuda_cublaslt[SID2_OP_COUNT];
/* The operators of own.def, every mix of f32, bf16, f16. The libraries' kernels lean on these for what theirs lack: a
 * cast, and a weight gradient without out[0], which adds the bias gradient alone. */
extern const sid2_kernel sid2_cuda_own[SID2_OP_COUNT];

#ifdef __cplusplus
}
#endif
#endif
