/* Known faults of drivers, in one table. A fault is a flag; a row says which driver and versions have it, and on which chips.
 * What the flag forbids is taken out of the capabilities when the device is probed, so nothing else asks for
 * drivers by name. */
#ifndef SID2_VK_QUIRKS_H
#define SID2_VK_QUIRKS_H

#include "gpu.h"

enum {
    SID2_VK_NO_COOPERATIVE = 1 << 0, /* cooperative matrices promised, but wrong or slower than without */
    SID2_VK_NO_SUBGROUPS = 1 << 1,   /* wrong results from subgroup arithmetic */
    SID2_VK_NO_CACHE = 1 << 2,       /* a pipeline cache from disk crashes or misleads the driver */
    SID2_VK_FOLD_CONSTANTS = 1 << 3, /* looks specialisation constants up in the loops that they shape */
};

/* Looks the driver up and applies what is known. */
void sid2_vk_apply_quirks(sid2_vk_gpu *gpu);

#endif
