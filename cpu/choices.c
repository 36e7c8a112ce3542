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

static const sid2_op linears[] = {SID2_OP_linear, SID2_OP_linear_dgrad, SID2_OP_linear_wgrad};

sid2_cpu_choices sid2_cpu_default_choices(void)
{
    static const sid2_op convolutions[] = {SID2_OP_conv2d, SID2_OP_conv2d_dgrad, SID2_OP_conv2d_wgrad};
    bool tiles = has_tiles();
    sid2_cpu_choices choices = {0};
    for (int i = 0; i < 3; i++) {
        choices.ahead[SID2_CPU_F32][convolutions[i]] = true;
        choices.ahead[SID2_CPU_BF16][convolutions[i]] = !tiles;
        choices.ahead[SID2_CPU_BF16][linears[i]] = !tiles && !dots_are_fast();
    }
    return choices;
}

const char *sid2_cpu_linear_name(int i)
{
    static const char *const names[SID2_CPU_LINEAR_NAMES] = {
        "linear f32 library, bf16 library", "linear f32 own, bf16 library", "linear f32 library, bf16 own",
        "linear f32 own, bf16 own"};
    return names[i];
}

int sid2_cpu_linear_of(const sid2_cpu_choices *c)
{
    return c->ahead[SID2_CPU_F32][SID2_OP_linear] + 2 * c->ahead[SID2_CPU_BF16][SID2_OP_linear];
}

bool sid2_cpu_choose_linear(sid2_cpu_choices *c, const char *name)
{
    int i = 0;
    while (i < SID2_CPU_LINEAR_NAMES && strcmp(name, sid2_cpu_linear_name(i)) != 0) i++;
    for (int op = 0; i < SID2_CPU_LINEAR_NAMES && op < 3; op++) {
        c->ahead[SID2_CPU_F32][linears[op]] = i & 1;
        c->ahead[SID2_CPU_BF16][linears[op]] = i & 2;
    }
    return i < SID2_CPU_LINEAR_NAMES;
}
