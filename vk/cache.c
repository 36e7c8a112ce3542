#include "cache.h"

#include "file.h"
#include "keep.h"
#include "quirks.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* In front of the driver's bytes. Drivers check their own header, some of them only that, so whose bytes
 * these are and whether all are there is checked here. */
typedef struct header {
    char magic[8];
    uint32_t vendor, device, driver_version, bytes;
    uint8_t device_uuid[VK_UUID_SIZE], driver_uuid[VK_UUID_SIZE], cache_uuid[VK_UUID_SIZE];
    uint64_t checksum;
} header;

enum { MOST_BYTES = 256 << 20 };

static uint64_t checksum(const uint8_t *bytes, size_t count)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < count; i++) h = (h ^ bytes[i]) * 0x100000001b3u;
    return h;
}

static header header_for(const sid2_vk_gpu *gpu, const uint8_t *bytes, size_t count)
{
    header h = {.magic = "sid2vk1",
                .vendor = gpu->properties.vendorID,
                .device = gpu->properties.deviceID,
                .driver_version = gpu->properties.driverVersion,
                .bytes = (uint32_t)count,
                .checksum = checksum(bytes, count)};
    memcpy(h.device_uuid, gpu->device_uuid, VK_UUID_SIZE);
    memcpy(h.driver_uuid, gpu->driver_uuid, VK_UUID_SIZE);
    memcpy(h.cache_uuid, gpu->properties.pipelineCacheUUID, VK_UUID_SIZE);
    return h;
}

static bool path_of(const sid2_vk_gpu *gpu, const char *kind, bool make, char path[4096])
{
    char name[64];
    header h = header_for(gpu, NULL, 0);
    snprintf(name, sizeof name, "vulkan-%016llx.%s", (unsigned long long)checksum((uint8_t *)&h, sizeof h),
             kind);
    return sid2_keep_path(name, make, path);
}

VkResult sid2_vk_cache_load(const sid2_vk_device *device, VkPipelineCache *cache)
{
    char path[4096];
    size_t size = 0;
    uint8_t *bytes = NULL;
    if (!(device->gpu->quirks & SID2_VK_NO_CACHE) && path_of(device->gpu, "cache", false, path))
        bytes = sid2_file_read(path, MOST_BYTES, &size, NULL);
    bool valid = bytes && size > sizeof(header);
    if (valid) {
        header expected = header_for(device->gpu, bytes + sizeof(header), size - sizeof(header));
        valid = !memcmp(bytes, &expected, sizeof expected);
    }
    VkPipelineCacheCreateInfo info = {.sType = VK_STRUCTURE_TYPE_PIPELINE_CACHE_CREATE_INFO};
    if (valid) {
        info.initialDataSize = size - sizeof(header);
        info.pInitialData = bytes + sizeof(header);
    }
    VkResult result = vkCreatePipelineCache(device->handle, &info, NULL, cache);
    if (result != VK_SUCCESS) *cache = VK_NULL_HANDLE;
    free(bytes);
    return result;
}

void sid2_vk_cache_save(const sid2_vk_device *device, VkPipelineCache cache)
{
    char path[4096];
    size_t size = 0;
    if (device->gpu->quirks & SID2_VK_NO_CACHE) return;
    if (vkGetPipelineCacheData(device->handle, cache, &size, NULL) != VK_SUCCESS || size > MOST_BYTES) return;
    uint8_t *bytes = malloc(sizeof(header) + size);
    if (bytes && vkGetPipelineCacheData(device->handle, cache, &size, bytes + sizeof(header)) == VK_SUCCESS &&
        path_of(device->gpu, "cache", true, path)) {
        header h = header_for(device->gpu, bytes + sizeof(header), size);
        memcpy(bytes, &h, sizeof h);
        sid2_file_write(path, bytes, sizeof h + size, NULL);
    }
    free(bytes);
}

bool sid2_vk_tiles_load(const sid2_vk_gpu *gpu, char name[SID2_VK_TILE_NAME])
{
    char path[4096];
    size_t size = 0;
    uint8_t *bytes =
        path_of(gpu, "tiles", false, path) ? sid2_file_read(path, SID2_VK_TILE_NAME - 1, &size, NULL) : NULL;
    if (bytes) snprintf(name, SID2_VK_TILE_NAME, "%.*s", (int)size, (const char *)bytes);
    bool found = bytes != NULL;
    free(bytes);
    return found;
}

bool sid2_vk_tiles_keep(const sid2_vk_gpu *gpu, const char *name, sid2_error *err)
{
    char path[4096];
    if (!path_of(gpu, "tiles", true, path))
        return sid2_fail(err, SID2_ERR_IO, "no folder to keep block sizes in ($XDG_CACHE_HOME or ~/.cache)");
    return sid2_file_write(path, name, strlen(name), err);
}
