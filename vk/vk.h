/* The Vulkan backend: any GPU with Vulkan 1.1 and compute, and CPU drivers. Devices are vulkan:0, vulkan:1,
 * .. in the order the loader lists them. Without a loader or driver there are none, and nothing fails. */
#ifndef SID2_VK_H
#define SID2_VK_H

#include "device.h"

extern const sid2_backend sid2_backend_vk;

/* The same devices, opened to see what their compilers make of the shaders (sid2_device_report): NOTHING IS EXECUTED.
 * Buffers have no memory, uploads go nowhere, running a program fails; cooperative matrices are taken at the driver's word. Never
 * among the backends that a device is chosen from. UNSUPPORTED where the driver tells nothing. */
extern const sid2_backend sid2_backend_vk_compiler;

#endif
