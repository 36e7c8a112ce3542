/* The driver's pipeline cache on disk: $XDG_CACHE_HOME/sid2 or ~/.cache/sid2, one file a device and driver. A
 * convenience only: whatever is wrong with it, sid2 goes on without. */
#ifndef SID2_VK_CACHE_H
#define SID2_VK_CACHE_H

#include "context.h"

/* A cache with what was saved by this driver for this device, or an empty one. */
VkResult sid2_vk_cache_load(const sid2_vk_device *device, VkPipelineCache *cache);
void sid2_vk_cache_save(const sid2_vk_device *device, VkPipelineCache cache);

/* The block sizes kept for the device under this driver, by name, beside it: what `sid2 tune` found. */
bool sid2_vk_tiles_load(const sid2_vk_gpu *gpu, char name[SID2_VK_TILE_NAME]);
bool sid2_vk_tiles_keep(const sid2_vk_gpu *gpu, const char *name, sid2_error *err);

#endif
