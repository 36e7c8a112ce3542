/* The GPUs that the loader finds, and what they can do: everything that can be asked before a device is
 * opened.
 */
#ifndef SID2_VK_GPU_H
#define SID2_VK_GPU_H

#include "caps.h"

#include <volk.h>

typedef struct sid2_vk_gpu {
    VkPhysicalDevice handle;
    VkPhysicalDeviceProperties properties;
    VkPhysicalDeviceMemoryProperties memory;
    VkDriverId driver_id; /* 0 where the driver does not say */
    char driver[VK_MAX_DRIVER_NAME_SIZE + VK_MAX_DRIVER_INFO_SIZE + 2];
    uint8_t device_uuid[VK_UUID_SIZE], driver_uuid[VK_UUID_SIZE];
    uint32_t api;          /* version that both sides speak */
    uint32_t family;       /* of queues, that compute */
    uint32_t time_bits;    /* of its timestamps; 0: none */
    size_t max_allocation; /* bytes in one allocation, and in one buffer */
    sid2_vk_caps caps;
    bool budget;         /* VK_EXT_memory_budget */
    bool portability;    /* VK_KHR_portability_subset, which then must be enabled */
    bool memory_model;   /* the Vulkan memory model, which cooperative matrices need */
    bool full_subgroups; /* a shader can demand them */
    bool subgroups_vary; /* in size, which a shader can choose */
    bool mixed_dots;     /* four products of signed and unsigned bytes are one instruction */
    uint32_t quirks;     /* quirks.h */
    enum { SID2_VK_UNCHECKED, SID2_VK_RIGHT, SID2_VK_WRONG } cooperative; /* what the check found */
} sid2_vk_gpu;

/* The first call opens the loader and asks every driver; the list stays for the life of the process, as
 * drivers dislike being loaded twice. Thread-safe. Zero where there is no loader, driver or device. */
const sid2_vk_gpu *sid2_vk_gpus(int *count);

/* Whether the check of cooperative matrices found those of each type right. Wrong ones are no capability any more. */
void sid2_vk_gpu_note_cooperative(const sid2_vk_gpu *gpu, bool f16, bool bf16);

/* Why there is no device, in one line; NULL where there is one. */
const char *sid2_vk_missing(void);

/* Bytes of device memory in all, and free according to the driver (all, where it does not say). */
size_t sid2_vk_gpu_memory(const sid2_vk_gpu *gpu);
size_t sid2_vk_gpu_free_memory(const sid2_vk_gpu *gpu);
bool sid2_vk_gpu_has(const sid2_vk_gpu *gpu, const char *extension);

#endif
