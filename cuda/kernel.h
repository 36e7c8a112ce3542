/* What a CUDA kernel is to the backend: a function that enqueues one prepared call on a stream. Three tables
 * hold them, asked in this order: cuDNN, cublasLt, own kernels. A `prepare` that answers SID2_ERR_UNSUPPORTED
 * passes the call on to the next. Plain C, no CUDA header, so that tests can fill and run calls on the host.
 */
#ifndef SID2_CUDA_KERNEL_H
#define SID2_CUDA_KERNEL_H

#include "graph.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct sid2_cuda_tensor {
    void *data; /* device memory; NULL: absent */
    sid2_dtype dtype;
    sid2_shape shape;
    void *low; /* of a parameter: the same numbers in the compute type, low_dtype, where both are kept; or
                  NULL */
    sid2_dtype low_dtype;
} sid2_cuda_tensor;

/* What kernels may know of the device. */
typedef struct sid2_cuda_target {
    int multiprocessors;
    int capability;     /* 80, 90, 100, 120 */
    bool deterministic; /* the same bits in every run: no atomic sums of floats, deterministic engines only */
    bool tf32;          /* asked for: f32 products may round their inputs to TF32 */
    void *cublaslt, *cudnn; /* sid2_cublaslt *, sid2_cudnn * of libraries.h; NULL where absent */
} sid2_cuda_target;

typedef struct sid2_cuda_call {
    sid2_op op;
    const sid2_attr *attr;
    sid2_cuda_tensor in[SID2_MAX_INPUTS], out[SID2_MAX_OUTPUTS];
    const sid2_cuda_target *target;
    void *scratch;        /* scratch_bytes of device memory, 256-byte aligned, shared by a program's calls */
    size_t scratch_bytes; /* set by prepare */
    void *state;          /* prepare's own, on the host */
} sid2_cuda_call;

typedef struct sid2_cuda_kernel {
    /* Enqueues on `stream` (a cudaStream_t); never synchronises, for it is captured into a graph. */
    bool (*run)(sid2_cuda_call *call, void *stream, sid2_error *err);
    bool (*prepare)(sid2_cuda_call *call, sid2_error *err); /* may be NULL */
    void (*release)(sid2_cuda_call *call);                  /* may be NULL */
} sid2_cuda_kernel;

extern const sid2_cuda_kernel sid2_cuda_cudnn[SID2_OP_COUNT];
extern const sid2_cuda_kernel sid2_cuda_cublaslt[SID2_OP_COUNT];
/* Every operator, every mix of f32, bf16, f16. The libraries' kernels lean on these for what theirs lack: a
 * cast, and a weight gradient without out[0], which adds the bias gradient alone. */
extern const sid2_cuda_kernel sid2_cuda_own[SID2_OP_COUNT];

#ifdef __cplusplus
}
#endif
#endif
