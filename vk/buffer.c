#include "buffer.h"

#include <string.h>

static const double GIB = 1 << 30;

/* The allowed memory type with the most of the wished properties; -1 where none has the needed ones. */
static int choose_type(const sid2_vk_gpu *gpu, uint32_t allowed, VkMemoryPropertyFlags needed,
                       VkMemoryPropertyFlags wished)
{
    int best = -1, most = -1;
    for (uint32_t i = 0; i < gpu->memory.memoryTypeCount; i++) {
        VkMemoryPropertyFlags flags = gpu->memory.memoryTypes[i].propertyFlags;
        if (!(allowed >> i & 1) || (flags & needed) != needed) continue;
        if (__builtin_popcount(flags & wished) > most)
            best = (int)i, most = __builtin_popcount(flags & wished);
    }
    return best;
}

static bool refuse(sid2_vk_device *device, size_t bytes, const char *what, sid2_error *err)
{
    return sid2_fail(
        err, SID2_ERR_MEMORY,
        "%s: %s needs %.2f GiB; the device has %.2f GiB, %.2f GiB of them free, %.2f GiB at most in one "
        "piece (smaller batches or --memory make it fit)",
        device->id, what, (double)bytes / GIB, (double)sid2_vk_gpu_memory(device->gpu) / GIB,
        (double)sid2_vk_gpu_free_memory(device->gpu) / GIB, (double)device->gpu->max_allocation / GIB);
}

bool sid2_vk_memory_create(sid2_vk_device *device, sid2_vk_place place, size_t bytes, const char *what,
                           sid2_vk_memory *memory, sid2_error *err)
{
    const VkMemoryPropertyFlags host =
        VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT;
    *memory = (sid2_vk_memory){0};
    size_t rounded = (bytes + 255) & ~(size_t)255; /* whole vectors may be read to the end */
    if (rounded < bytes || rounded > device->gpu->max_allocation) return refuse(device, bytes, what, err);
    if (rounded == 0) rounded = 256;
    memory->bytes = rounded;
    VkResult result = vkCreateBuffer(device->handle,
                                     &(VkBufferCreateInfo){.sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO,
                                                           .size = rounded,
                                                           .usage = VK_BUFFER_USAGE_STORAGE_BUFFER_BIT |
                                                                    VK_BUFFER_USAGE_UNIFORM_TEXEL_BUFFER_BIT |
                                                                    VK_BUFFER_USAGE_TRANSFER_SRC_BIT |
                                                                    VK_BUFFER_USAGE_TRANSFER_DST_BIT},
                                     NULL, &memory->buffer);
    if (result != VK_SUCCESS) memory->buffer = VK_NULL_HANDLE;
    if (result == VK_SUCCESS) {
        VkMemoryRequirements requirements;
        vkGetBufferMemoryRequirements(device->handle, memory->buffer, &requirements);
        int type = place == SID2_VK_ON_HOST ? choose_type(device->gpu, requirements.memoryTypeBits, host,
                                                          VK_MEMORY_PROPERTY_HOST_CACHED_BIT)
                                            : choose_type(device->gpu, requirements.memoryTypeBits, 0,
                                                          VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT);
        result =
            type < 0
                ? VK_ERROR_FEATURE_NOT_PRESENT
                : vkAllocateMemory(device->handle,
                                   &(VkMemoryAllocateInfo){.sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO,
                                                           .allocationSize = requirements.size,
                                                           .memoryTypeIndex = (uint32_t)type},
                                   NULL, &memory->memory);
        if (result != VK_SUCCESS) memory->memory = VK_NULL_HANDLE;
    }
    if (result == VK_SUCCESS) result = vkBindBufferMemory(device->handle, memory->buffer, memory->memory, 0);
    if (result == VK_SUCCESS && place == SID2_VK_ON_HOST)
        result = vkMapMemory(device->handle, memory->memory, 0, VK_WHOLE_SIZE, 0, &memory->mapped);
    if (result == VK_SUCCESS) return true;
    sid2_vk_memory_destroy(device, memory);
    if (result == VK_ERROR_OUT_OF_DEVICE_MEMORY) return refuse(device, bytes, what, err);
    return sid2_vk_ok(device, result, what, err);
}

void sid2_vk_memory_destroy(sid2_vk_device *device, sid2_vk_memory *memory)
{
    vkDestroyBuffer(device->handle, memory->buffer, NULL);
    vkFreeMemory(device->handle, memory->memory, NULL);
    *memory = (sid2_vk_memory){0};
}
