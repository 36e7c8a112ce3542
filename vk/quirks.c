#include "quirks.h"

#include <string.h>

typedef struct quirk {
    VkDriverId driver;
    uint32_t from,
        to; /* driver versions with the fault: from <= version < to; to = 0: not known to be mended */
    uint32_t flags;
    const char *why;
} quirk;

static const quirk table[] = {
    {0, 0, 0, 0, ""},
};

void sid2_vk_apply_quirks(sid2_vk_gpu *gpu)
{
    uint32_t version = gpu->properties.driverVersion;
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (table[i].flags && table[i].driver == gpu->driver_id && version >= table[i].from &&
            (table[i].to == 0 || version < table[i].to))
            gpu->quirks |= table[i].flags;
    sid2_vk_caps *caps = &gpu->caps;
    if (gpu->quirks & SID2_VK_NO_SUBGROUPS) caps->subgroup_arithmetic = false;
    if (gpu->quirks & SID2_VK_NO_COOPERATIVE) memset(&caps->cooperative, 0, sizeof caps->cooperative);
}
