#include "quirks.h"

#include <string.h>

typedef struct quirk {
    VkDriverId driver;
    uint32_t from,
        to; /* driver versions with the fault: from <= version < to; to = 0: not known to be mended */
    uint32_t flags;
    bool (*only)(const sid2_vk_gpu *gpu); /* the chips that it is about; NULL: all */
} quirk;

/* Chips are told apart by what came with them: matrix units and mixed signs in RDNA 3, matrix units that are worth it and
 * subgroups of no fewer than 16 in Xe2. */
static bool before_rdna3(const sid2_vk_gpu *gpu) { return !gpu->mixed_dots; }
static bool before_xe2(const sid2_vk_gpu *gpu) { return gpu->caps.subgroup_size < 16; }

static const quirk table[] = {
    /* Promise cooperative matrices also where there are no matrix units, and emulate them. */
    {VK_DRIVER_ID_AMD_PROPRIETARY, 0, 0, SID2_VK_NO_COOPERATIVE, before_rdna3},
    {VK_DRIVER_ID_AMD_OPEN_SOURCE, 0, 0, SID2_VK_NO_COOPERATIVE, before_rdna3},
    /* Slower than without. */
    {VK_DRIVER_ID_INTEL_OPEN_SOURCE_MESA, 0, 0, SID2_VK_NO_COOPERATIVE, before_xe2},
    {VK_DRIVER_ID_INTEL_PROPRIETARY_WINDOWS, 0, 0, SID2_VK_NO_COOPERATIVE, before_xe2},
    /* Sizes shared arrays by the constants' defaults (its issue 231). */
    {VK_DRIVER_ID_MOLTENVK, 0, 0, SID2_VK_FOLD_CONSTANTS, NULL},
    /* Its optimiser sees the constants' values too late to unroll: matrix products at a fifth of the speed. */
    {VK_DRIVER_ID_GOOGLE_SWIFTSHADER, 0, 0, SID2_VK_FOLD_CONSTANTS, NULL},
};

void sid2_vk_apply_quirks(sid2_vk_gpu *gpu)
{
    uint32_t version = gpu->properties.driverVersion;
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (table[i].driver == gpu->driver_id && version >= table[i].from &&
            (table[i].to == 0 || version < table[i].to) && (!table[i].only || table[i].only(gpu)))
            gpu->quirks |= table[i].flags;
    sid2_vk_caps *caps = &gpu->caps;
    if (gpu->quirks & SID2_VK_NO_SUBGROUPS) caps->subgroup_arithmetic = false;
    if (gpu->quirks & SID2_VK_NO_COOPERATIVE) memset(&caps->cooperative, 0, sizeof caps->cooperative);
}
