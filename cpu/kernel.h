/* The tables of kernels of both CPU devices. */
#ifndef SID2_CPU_KERNEL_H
#define SID2_CPU_KERNEL_H

#include "device.h"

/* The reference kernels: every operator, any mix of f64, f32, bf16 and f16, one thread. */
extern const sid2_kernel sid2_cpu_reference[SID2_OP_COUNT];

/* Own vector loops, the same source compiled for several instruction sets: the operators of fast.def.
 * dtypes: f32 and bf16. */
typedef struct sid2_cpu_isa {
    const char *name; /* "AVX-512 + BF16" */
    bool (*usable)(void);
    const sid2_kernel *kernels; /* [SID2_OP_COUNT] */
    const sid2_kernel *ahead;   /* [SID2_OP_COUNT]: Winograd's convolutions; run == NULL elsewhere */
} sid2_cpu_isa;
extern const sid2_cpu_isa *const sid2_cpu_isas[]; /* best first, NULL-terminated; the last is always usable */

/* oneDNN: linear and conv2d with their gradients; run == NULL elsewhere, and everywhere in a build without
 * it. */
extern const sid2_kernel sid2_cpu_onednn[SID2_OP_COUNT];
/* "oneDNN 2.6.3 (OpenMP)", or why not. */
const char *sid2_cpu_onednn_version(void);

#endif
