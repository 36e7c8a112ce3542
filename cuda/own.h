/* sid2's own CUDA kernels: one function per operator, which names its launches. Called twice: by `prepare`
 * with `dry` set, when it only counts the scratch that it takes, and by `run`. C and CUDA C++. */
#ifndef SID2_CUDA_OWN_H
#define SID2_CUDA_OWN_H

#include "kernel.h"

typedef struct sid2_own {
    const sid2_call *call;
    void *stream;
    bool dry;            /* launch nothing */
    size_t scratch_used; /* bytes given out so far */
    bool ok;             /* false after the first error, which is in err */
    sid2_error *err;
} sid2_own;

#define KERNEL(name) void sid2_own_##name(sid2_own *o);
#include "own.def"

#endif
