/* cublasLt, cuDNN and NCCL, loaded at run time: a sid2 built with CUDA starts where neither is, nor a driver.
 *
 * They are looked for in the folders that the variable SID2_CUDA_LIBRARIES lists (colons between), where the
 * system's loader looks, and in /usr/local/cuda. A listed folder may also be a Python site-packages: its
 * nvidia/<package>/lib are searched. "none" for the list is to do without any. What was loaded stays loaded,
 * for their threads and exit handlers outlive any device; loading again costs nothing. */
#ifndef SID2_CUDA_LIBRARIES_H
#define SID2_CUDA_LIBRARIES_H

#include "nccl_api.h"

#include <cublasLt.h>
#include <stdbool.h>
#include <stddef.h>
#if SID2_HAVE_CUDNN
#include <cudnn.h>
#endif

/* The functions that sid2 calls; a table has a pointer of the same name for each. */
#define SID2_CUBLASLT_FUNCTIONS(X)                                                                           \
    X(cublasLtCreate)                                                                                        \
    X(cublasLtDestroy)                                                                                       \
    X(cublasLtGetVersion)                                                                                    \
    X(cublasLtMatmul)                                                                                        \
    X(cublasLtMatmulAlgoGetHeuristic)                                                                        \
    X(cublasLtMatmulDescCreate)                                                                              \
    X(cublasLtMatmulDescDestroy)                                                                             \
    X(cublasLtMatmulDescSetAttribute)                                                                        \
    X(cublasLtMatmulPreferenceCreate)                                                                        \
    X(cublasLtMatmulPreferenceDestroy)                                                                       \
    X(cublasLtMatmulPreferenceSetAttribute)                                                                  \
    X(cublasLtMatrixLayoutCreate)                                                                            \
    X(cublasLtMatrixLayoutDestroy)

#define SID2_CUDNN_FUNCTIONS(X)                                                                              \
    X(cudnnCreate)                                                                                           \
    X(cudnnDestroy)                                                                                          \
    X(cudnnGetErrorString)                                                                                   \
    X(cudnnGetLastErrorString)                                                                               \
    X(cudnnGetVersion)                                                                                       \
    X(cudnnSetStream)                                                                                        \
    X(cudnnBackendCreateDescriptor)                                                                          \
    X(cudnnBackendDestroyDescriptor)                                                                         \
    X(cudnnBackendExecute)                                                                                   \
    X(cudnnBackendFinalize)                                                                                  \
    X(cudnnBackendGetAttribute)                                                                              \
    X(cudnnBackendSetAttribute)

#define SID2_NCCL_FUNCTIONS(X)                                                                               \
    X(ncclGetVersion)                                                                                        \
    X(ncclGetUniqueId)                                                                                       \
    X(ncclCommInitRank)                                                                                      \
    X(ncclCommDestroy)                                                                                       \
    X(ncclCommGetAsyncError)                                                                                 \
    X(ncclGetErrorString)                                                                                    \
    X(ncclGetLastError)                                                                                      \
    X(ncclGroupStart)                                                                                        \
    X(ncclGroupEnd)                                                                                          \
    X(ncclSend)                                                                                              \
    X(ncclRecv)

#define SID2_FUNCTION_POINTER(name) __typeof__(&name) name;

/* What sid2_cuda_target.cublaslt points to. */
typedef struct sid2_cublaslt {
    SID2_CUBLASLT_FUNCTIONS(SID2_FUNCTION_POINTER)
    cublasLtHandle_t handle;
    struct sid2_cublaslt_choice *choices; /* heuristics by shape; cublaslt.c's own */
    int choice_count, choice_capacity;
} sid2_cublaslt;

/* Whether weight gradients of 16-bit convolutions are taken from cuDNN in 16 bits: see cudnn_conv.c. */
static inline bool sid2_cudnn_rounds_wgrad(int capability) { return capability >= 90 && capability < 120; }

#if SID2_HAVE_CUDNN
/* What sid2_cuda_target.cudnn points to. */
typedef struct sid2_cudnn {
    SID2_CUDNN_FUNCTIONS(SID2_FUNCTION_POINTER)
    cudnnHandle_t handle;
    cudnnBackendDescriptor_t device; /* in place of a handle, where plans are made without a device */
    struct sid2_cudnn_plan *plans;   /* by graph; cudnn_graph.c's own */
} sid2_cudnn;
/* Frees the plans; before the handle. */
void sid2_cudnn_forget(sid2_cudnn *cudnn);
#else
typedef struct sid2_cudnn {
    void *handle;
} sid2_cudnn;
#endif

typedef struct sid2_nccl_functions {
    SID2_NCCL_FUNCTIONS(SID2_FUNCTION_POINTER)
} sid2_nccl_functions;

/* Fill the function pointers; the rest stays 0. On failure `why` has the cause: "libcudnn.so.9 not found". */
bool sid2_cublaslt_load(sid2_cublaslt *lt, char *why, size_t size);
bool sid2_cudnn_load(sid2_cudnn *cudnn, char *why, size_t size);
bool sid2_nccl_load(sid2_nccl_functions *table, char *why, size_t size);
/* "cuDNN 9.19.0"; of a loaded library. */
const char *sid2_cublaslt_version(const sid2_cublaslt *lt, char text[32]);
const char *sid2_cudnn_version(const sid2_cudnn *cudnn, char text[32]);

#endif
