#include "quirks.h"

#include <string.h>

typedef struct quirk {
    VkDriverId driver;
    uint32_t from,
        to; /* driver versions with the fault: from <= version < to; to = 0: not known to be mended */
    uint32_t flags;
} quirk;

static const quirk table[] = {
    /* Promise cooperative matrices also on GPUs without matrix units, where they are emulated. */
    {VK_DRIVER_ID_AMD_PROPRIETARY, 0, 0, SID2_VK_NO_COOPERATIVE},
    {VK_DRIVER_ID_AMD_OPEN_SOURCE, 0, 0, SID2_VK_NO_COOPERATIVE},
    /* Slower than without on GPUs before Xe2. */
    {VK_DRIVER_ID_INTEL_OPEN_SOURCE_MESA, 0, 0, SID2_VK_NO_COOPERATIVE},
    {VK_DRIVER_ID_INTEL_PROPRIETARY_WINDOWS, 0, 0, SID2_VK_NO_COOPERATIVE},
    /* Its optimiser sees the constants' values too late to unroll: matrix products at a fifth of the speed. */
    {VK_DRIVER_ID_GOOGLE_SWIFTSHADER, 0, 0, SID2_VK_FOLD_CONSTANTS},
};

void sid2_vk_apply_quirks(sid2_vk_gpu *gpu)
{
    uint32_t version = gpu->properties.driverVersion;
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (table[i].driver == gpu->driver_id && version >= table[i].from &&
            (table[i].to == 0 || version < table[i].to))
            gpu->quirks |= table[i].flags;
    sid2_vk_caps *caps = &gpu->caps;
    if (gpu->quirks & SID2_VK_NO_SUBGROUPS) caps->subgroup_arithmetic = false;
    if (gpu->quirks & SID2_VK_NO_COOPERATIVE) memset(&caps->cooperative, 0, sizeof caps->cooperative);
}
