/* The instruction sets that the fast_*.c sources were compiled for, best first. */
#include "host.h"
#include "kernel.h"

#define ISA(suffix, title, test)                                                                             \
    extern const sid2_kernel sid2_fast_kernels_##suffix[SID2_OP_COUNT];                                      \
    extern const sid2_kernel sid2_fast_ahead_##suffix[SID2_OP_COUNT];                                        \
    static bool usable_##suffix(void) { return test; }                                                       \
    static const sid2_cpu_isa isa_##suffix = {title, usable_##suffix, sid2_fast_kernels_##suffix,            \
                                              sid2_fast_ahead_##suffix};

#if defined(__x86_64__)
#define HAS(feature) __builtin_cpu_supports(feature)
ISA(base, "SSE2", true)
ISA(avx2, "AVX2", HAS("avx2") && HAS("fma") && sid2_cpu_host_has("f16c"))
ISA(avx512, "AVX-512",
    HAS("avx2") && HAS("fma") && sid2_cpu_host_has("f16c") && HAS("avx512f") && HAS("avx512bw") &&
        HAS("avx512dq") && HAS("avx512vl"))
ISA(avx512bf16, "AVX-512 + BF16", usable_avx512() && sid2_cpu_host_has("avx512bf16"))

const sid2_cpu_isa *const sid2_cpu_isas[] = {&isa_avx512bf16, &isa_avx512, &isa_avx2, &isa_base, NULL};
#elif defined(__aarch64__)
ISA(base, "NEON", true)

const sid2_cpu_isa *const sid2_cpu_isas[] = {&isa_base, NULL};
#else
ISA(base, "portable", true)

const sid2_cpu_isa *const sid2_cpu_isas[] = {&isa_base, NULL};
#endif
