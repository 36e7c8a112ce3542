/* What a CPU kernel is: a function over one prepared call. Shared by both CPU devices. */
#ifndef SID2_CPU_KERNEL_H
#define SID2_CPU_KERNEL_H

#include "device.h"

typedef struct sid2_cpu_tensor {
    void *data; /* NULL: absent */
    sid2_dtype dtype;
    sid2_shape shape;
    const uint64_t *version; /* of the buffer an external lives in; NULL for activations */
} sid2_cpu_tensor;

typedef struct sid2_cpu_call {
    sid2_op op;
    const sid2_attr *attr;
    sid2_cpu_tensor in[SID2_MAX_INPUTS], out[SID2_MAX_OUTPUTS];
    int threads;
    void *scratch;        /* scratch_bytes, 64-byte aligned, shared by all calls of a program */
    size_t scratch_bytes; /* set by prepare */
    void *state;          /* prepare's own */
    bool failed;          /* set by a kernel whose library refused */
} sid2_cpu_call;

typedef void (*sid2_cpu_run)(sid2_cpu_call *call);

/* One operator on one device. prepare (optional) sets scratch_bytes and state once per program; release
 * (optional) frees state. owned (optional) tells the bytes state holds. */
typedef struct sid2_cpu_kernel {
    sid2_cpu_run run;
    bool (*prepare)(sid2_cpu_call *call, sid2_error *err);
    void (*release)(sid2_cpu_call *call);
    size_t (*owned)(const sid2_cpu_call *call);
} sid2_cpu_kernel;

/* The reference kernels: every operator, any mix of f64, f32, bf16 and f16, one thread. */
extern const sid2_cpu_kernel sid2_cpu_reference[SID2_OP_COUNT];

/* Own vector loops, the same source compiled for several instruction sets; every operator.
 * dtypes: f32 and bf16. */
typedef struct sid2_cpu_isa {
    const char *name; /* "AVX-512 + BF16" */
    bool (*usable)(void);
    const sid2_cpu_kernel *kernels; /* [SID2_OP_COUNT] */
    const sid2_cpu_kernel *ahead;   /* [SID2_OP_COUNT], the few that beat oneDNN; run == NULL elsewhere */
} sid2_cpu_isa;
extern const sid2_cpu_isa *const sid2_cpu_isas[]; /* best first, NULL-terminated; the last is always usable */

/* oneDNN: linear and conv2d with their gradients; run == NULL elsewhere, and everywhere in a build without
 * it. */
extern const sid2_cpu_kernel sid2_cpu_onednn[SID2_OP_COUNT];
/* "oneDNN 2.6.3 (OpenMP)", or why not. */
const char *sid2_cpu_onednn_version(void);

#endif
