#include "choices.h"

#include <string.h>

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

enum { LINEAR, CONVOLUTION };
static const sid2_op products[2][3] = {{SID2_OP_linear, SID2_OP_linear_dgrad, SID2_OP_linear_wgrad},
                                       {SID2_OP_conv2d, SID2_OP_conv2d_dgrad, SID2_OP_conv2d_wgrad}};

sid2_cpu_choices sid2_cpu_default_choices(void)
{
    bool tiles = has_tiles();
    sid2_cpu_choices choices = {0};
    for (int i = 0; i < 3; i++) {
        choices.ahead[SID2_CPU_F32][products[CONVOLUTION][i]] = true;
        choices.ahead[SID2_CPU_BF16][products[CONVOLUTION][i]] = !tiles;
        choices.ahead[SID2_CPU_BF16][products[LINEAR][i]] = !tiles && !dots_are_fast();
    }
    return choices;
}

const char *sid2_cpu_choices_name(int i)
{
#define LINEAR_WITH(rest)                                                                                    \
    "linear f32 library, bf16 library; " rest, "linear f32 own, bf16 library; " rest,                        \
        "linear f32 library, bf16 own; " rest, "linear f32 own, bf16 own; " rest
    static const char *const names[SID2_CPU_NAMES] = {
        LINEAR_WITH("conv f32 library, bf16 library"), LINEAR_WITH("conv f32 own, bf16 library"),
        LINEAR_WITH("conv f32 library, bf16 own"), LINEAR_WITH("conv f32 own, bf16 own")};
#undef LINEAR_WITH
    return names[i];
}

int sid2_cpu_choices_number(const sid2_cpu_choices *c)
{
    int number = 0;
    for (int i = 0; i < SID2_CPU_FAMILIES; i++) number |= c->ahead[i % 2][products[i / 2][0]] << i;
    return number;
}

bool sid2_cpu_choose(sid2_cpu_choices *c, const char *name)
{
    int number = 0;
    while (number < SID2_CPU_NAMES && strcmp(name, sid2_cpu_choices_name(number)) != 0) number++;
    for (int i = 0; number < SID2_CPU_NAMES && i < SID2_CPU_FAMILIES; i++)
        for (int op = 0; op < 3; op++) c->ahead[i % 2][products[i / 2][op]] = number >> i & 1;
    return number < SID2_CPU_NAMES;
}
