#include "choices.h"

#include "host.h"
#include "kernel.h"

/* Of bf16 dot products (vdpbf16ps), which do two multiply-adds where f32 does one. AMD's run as often as f32 multiply-adds,
 * Intel's a quarter as often (Sapphire Rapids: 84 against 171 GFLOP/s a core). */
static bool dots_are_fast(void)
{
#if defined(__x86_64__)
    return sid2_cpu_host_has("avx512bf16") && !__builtin_cpu_is("intel");
#else
    return false;
#endif
}

/* Only oneDNN uses them. */
static bool has_tiles(void) { return sid2_cpu_host_has("amx-bf16") && sid2_cpu_onednn[SID2_OP_conv2d].run; }

bool sid2_cpu_bf16_is_fast(void) { return has_tiles() || dots_are_fast(); }

sid2_cpu_choices sid2_cpu_default_choices(void)
{
    static const sid2_op convolutions[] = {SID2_OP_conv2d, SID2_OP_conv2d_dgrad, SID2_OP_conv2d_wgrad},
                         linears[] = {SID2_OP_linear, SID2_OP_linear_dgrad, SID2_OP_linear_wgrad};
    bool tiles = has_tiles();
    sid2_cpu_choices choices = {0};
    for (int i = 0; i < 3; i++) {
        choices.ahead[SID2_CPU_F32][convolutions[i]] = true;
        choices.ahead[SID2_CPU_BF16][convolutions[i]] = !tiles;
        choices.ahead[SID2_CPU_BF16][linears[i]] = !tiles && !dots_are_fast();
    }
    return choices;
}
