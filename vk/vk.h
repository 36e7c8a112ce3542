/* The Vulkan backend: any GPU with Vulkan 1.1 and compute, and CPU drivers. Devices are vulkan:0, vulkan:1,
 * .. in the order the loader lists them. Without a loader or driver there are none, and nothing fails. */
#ifndef SID2_VK_H
#define SID2_VK_H

#include "device.h"

extern const sid2_backend sid2_backend_vk;

#endif
