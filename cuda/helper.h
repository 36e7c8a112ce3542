/* An own kernel that does, before or after a library's, what that leaves to be done. */
#ifndef SID2_CUDA_HELPER_H
#define SID2_CUDA_HELPER_H

#include "kernel.h"

typedef struct sid2_cuda_helper {
    sid2_call call;            /* call.scratch_bytes: wanted of the scratch, shared with the library */
    const sid2_kernel *kernel; /* NULL: none, and running does nothing */
} sid2_cuda_helper;

/* A tensor's numbers in a type, where they are kept in it, on 16 bytes; else NULL. */
void *sid2_cuda_helper_kept(const sid2_operand *tensor, sid2_dtype dtype);

/* These prepare a helper of `call`; a tensor in scratch gets its address before the helper runs.
 * Its call.out[0], in scratch = `from` in another type. */
bool sid2_cuda_helper_cast(sid2_cuda_helper *helper, const sid2_call *call, const sid2_operand *from,
                           sid2_dtype to, sid2_error *err);
/* `to` += its call.in[1], in scratch. */
bool sid2_cuda_helper_add(sid2_cuda_helper *helper, const sid2_call *call, const sid2_operand *to,
                          sid2_dtype more, sid2_error *err);
/* The bias gradient alone of `call`, a weight gradient. */
bool sid2_cuda_helper_bias_gradient(sid2_cuda_helper *helper, const sid2_call *call, sid2_error *err);

/* Enqueues, with the scratch of `call`; false with its error. */
bool sid2_cuda_helper_run(sid2_cuda_helper *helper, const sid2_call *call);
void sid2_cuda_helper_release(sid2_cuda_helper *helper);

#endif
