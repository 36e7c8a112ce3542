/* The driver's pipeline cache on disk: $XDG_CACHE_HOME/sid2 or ~/.cache/sid2, one file a device and driver. A
 * convenience only: whatever is wrong with it, sid2 goes on without. */
#ifndef SID2_VK_CACHE_H
#define SID2_VK_CACHE_H

#include "context.h"

/* A cache with what was saved by this driver for this device, or an empty one. */
VkResult sid2_vk_cache_load(const sid2_vk_device *device, VkPipelineCache *cache);
void sid2_vk_cache_save(const sid2_vk_device *device, VkPipelineCache cache);

#endif
