#include "context.h"

#include "cache.h"

#include "cooperative.h"
#include "pipeline.h"
#include "report.h"
#include "transfer.h"

#include <stdio.h>
#include <stdlib.h>

/* ---- Results ---- */

static const char *cause(VkResult result, sid2_code *code)
{
    *code = SID2_ERR_DEVICE;
    switch (result) {
    case VK_ERROR_OUT_OF_HOST_MEMORY: *code = SID2_ERR_MEMORY; return "the driver is out of host memory";
    case VK_ERROR_OUT_OF_DEVICE_MEMORY: *code = SID2_ERR_MEMORY; return "the device is out of memory";
    case VK_ERROR_TOO_MANY_OBJECTS: *code = SID2_ERR_MEMORY; return "the driver allows no more allocations";
    case VK_ERROR_DEVICE_LOST:
        *code = SID2_ERR_LOST;
        return "the device was lost (a driver fault, or a reset by the system)";
    case VK_ERROR_INITIALIZATION_FAILED: return "the driver could not start";
    case VK_ERROR_FEATURE_NOT_PRESENT:
        *code = SID2_ERR_UNSUPPORTED;
        return "the device lacks a feature it promised";
    case VK_ERROR_EXTENSION_NOT_PRESENT:
        *code = SID2_ERR_UNSUPPORTED;
        return "the device lacks an extension it promised";
    case VK_ERROR_INVALID_SHADER_NV: return "the driver refused a shader";
    case VK_TIMEOUT: return "it did not finish in time";
    default: return NULL;
    }
}

bool sid2_vk_ok(sid2_vk_device *device, VkResult result, const char *doing, sid2_error *err)
{
    if (result == VK_SUCCESS) return true;
    if (result == VK_ERROR_DEVICE_LOST) device->lost = true;
    sid2_code code;
    const char *why = cause(result, &code);
    if (!why)
        return sid2_fail(err, code, "%s: %s failed with Vulkan result %d", device->id, doing, (int)result);
    return sid2_fail(err, code, "%s: %s failed: %s", device->id, doing, why);
}

/* ---- Opening ---- */

static bool create_device(sid2_vk_device *device, sid2_error *err)
{
    const sid2_vk_gpu *gpu = device->gpu;
    const sid2_vk_caps *caps = device->caps;
    const char *extension[10];
    uint32_t extensions = 0;
    bool modern = gpu->api >= VK_API_VERSION_1_2;
    VkPhysicalDeviceVulkanMemoryModelFeatures model = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_MEMORY_MODEL_FEATURES,
        .vulkanMemoryModel = VK_TRUE};
    VkPhysicalDevice8BitStorageFeatures storage8 = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_8BIT_STORAGE_FEATURES,
        .storageBuffer8BitAccess = caps->storage8};
    VkPhysicalDeviceShaderFloat16Int8Features float16 = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_FLOAT16_INT8_FEATURES,
        .shaderFloat16 = caps->float16,
        .shaderInt8 = caps->storage8};
    VkPhysicalDevice16BitStorageFeatures storage16 = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_16BIT_STORAGE_FEATURES,
        .storageBuffer16BitAccess = caps->storage16};
    VkPhysicalDeviceSubgroupSizeControlFeatures subgroups = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_SIZE_CONTROL_FEATURES,
        .subgroupSizeControl = VK_TRUE,
        .computeFullSubgroups = VK_TRUE};
    sid2_vk_cooperative_features cooperative = {.sType = SID2_VK_COOPERATIVE_FEATURES,
                                                .cooperativeMatrix = VK_TRUE};
    sid2_vk_bfloat16_features bfloat16 = {
        .sType = SID2_VK_BFLOAT16_FEATURES, .type = VK_TRUE, .cooperative_matrix = VK_TRUE};
    VkPhysicalDeviceFeatures2 all = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2,
                                     .pNext = &storage16,
                                     .features.shaderInt16 = caps->storage16};
    void **tail = &storage16.pNext;
    if (caps->storage8) {
        *tail = &storage8, tail = &storage8.pNext;
        if (!modern) extension[extensions++] = VK_KHR_8BIT_STORAGE_EXTENSION_NAME;
    }
    if (caps->float16 || caps->storage8) {
        *tail = &float16, tail = &float16.pNext;
        if (!modern) extension[extensions++] = VK_KHR_SHADER_FLOAT16_INT8_EXTENSION_NAME;
    }
    if (caps->cooperative.m) {
        *tail = &cooperative, tail = &cooperative.pNext;
        *tail = &model, tail = &model.pNext;
        *tail = &subgroups, tail = &subgroups.pNext;
        extension[extensions++] = SID2_VK_COOPERATIVE_EXTENSION;
        if (!modern) extension[extensions++] = VK_KHR_VULKAN_MEMORY_MODEL_EXTENSION_NAME;
        if (gpu->api < VK_API_VERSION_1_3)
            extension[extensions++] = VK_EXT_SUBGROUP_SIZE_CONTROL_EXTENSION_NAME;
    }
    if (caps->cooperative.bf16) {
        *tail = &bfloat16, tail = &bfloat16.pNext;
        extension[extensions++] = SID2_VK_BFLOAT16_EXTENSION;
    }
    VkPhysicalDevicePipelineExecutablePropertiesFeaturesKHR executables = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PIPELINE_EXECUTABLE_PROPERTIES_FEATURES_KHR,
        .pipelineExecutableInfo = VK_TRUE};
    if (device->reports) {
        *tail = &executables, tail = &executables.pNext;
        extension[extensions++] = VK_KHR_PIPELINE_EXECUTABLE_PROPERTIES_EXTENSION_NAME;
    }
    if (gpu->budget) extension[extensions++] = VK_EXT_MEMORY_BUDGET_EXTENSION_NAME;
    if (gpu->portability) extension[extensions++] = "VK_KHR_portability_subset";
    VkResult result =
        vkCreateDevice(gpu->handle,
                       &(VkDeviceCreateInfo){
                           .sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO,
                           .pNext = &all,
                           .queueCreateInfoCount = 1,
                           .pQueueCreateInfos =
                               &(VkDeviceQueueCreateInfo){.sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO,
                                                          .queueFamilyIndex = gpu->family,
                                                          .queueCount = 1,
                                                          .pQueuePriorities = &(float){0.5f}},
                           .enabledExtensionCount = extensions,
                           .ppEnabledExtensionNames = extension},
                       NULL, &device->handle);
    if (!sid2_vk_ok(device, result, "opening the device", err)) return device->handle = NULL, false;
    vkGetDeviceQueue(device->handle, gpu->family, 0, &device->queue);
    return true;
}

/* All but what Vulkan makes. */
static sid2_vk_device *describe_device(int index, const char *tiles, sid2_error *err)
{
    int count;
    const sid2_vk_gpu *gpus = sid2_vk_gpus(&count);
    if (index < 0 || index >= count)
        return sid2_fail(err, SID2_ERR_USAGE, "no device vulkan:%d", index), NULL;
    char kept[SID2_VK_TILE_NAME];
    const sid2_vk_tiles *chosen = sid2_vk_tiles_find(&gpus[index].caps, tiles);
    if (tiles && !chosen)
        return sid2_fail(err, SID2_ERR_USAGE, "vulkan:%d: there are no block sizes '%s' for it", index,
                         tiles),
               NULL;
    if (!chosen && sid2_vk_tiles_load(&gpus[index], kept))
        chosen = sid2_vk_tiles_find(&gpus[index].caps, kept);
    sid2_vk_device *device = calloc(1, sizeof *device);
    if (!device) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory opening vulkan:%d", index), NULL;
    device->gpu = &gpus[index];
    device->caps = &gpus[index].caps;
    device->tiles = chosen ? chosen : sid2_vk_tiles_for(device->caps);
    snprintf(device->id, sizeof device->id, "vulkan:%d", index);
    return device;
}

sid2_vk_device *sid2_vk_device_open(int index, const char *tiles, sid2_error *err)
{
    sid2_vk_device *device = describe_device(index, tiles, err);
    bool ok = device && create_device(device, err);
    for (int i = 0; ok && i < SID2_VK_IN_FLIGHT; i++)
        ok = sid2_vk_ok(device,
                        vkCreateFence(device->handle,
                                      &(VkFenceCreateInfo){.sType = VK_STRUCTURE_TYPE_FENCE_CREATE_INFO},
                                      NULL, &device->fence[i]),
                        "opening the device", err);
    ok = ok && (device->pipelines = sid2_vk_pipelines_create(device, err)) &&
         (device->transfer = sid2_vk_transfer_create(device, err)) && sid2_vk_check_cooperative(device, err);
    if (ok) return device;
    sid2_vk_device_close(device);
    return NULL;
}

sid2_vk_device *sid2_vk_compiler_open(int index, const char *tiles, sid2_error *err)
{
    sid2_vk_device *device = describe_device(index, tiles, err);
    if (device && (device->reports = sid2_vk_reports_create(device, err)) && create_device(device, err) &&
        (device->pipelines = sid2_vk_pipelines_create(device, err)))
        return device;
    sid2_vk_device_close(device);
    return NULL;
}

void sid2_vk_device_close(sid2_vk_device *device)
{
    if (!device) return;
    if (device->handle) {
        sid2_vk_idle(device);
        sid2_vk_transfer_destroy(device, device->transfer);
        sid2_vk_pipelines_destroy(device, device->pipelines);
        for (int i = 0; i < SID2_VK_IN_FLIGHT; i++) vkDestroyFence(device->handle, device->fence[i], NULL);
        vkDestroyDevice(device->handle, NULL);
    }
    sid2_vk_reports_destroy(device->reports);
    free(device);
}

/* ---- The queue ---- */

static VkFence *fence_of(sid2_vk_device *device, uint64_t serial)
{
    return &device->fence[serial % SID2_VK_IN_FLIGHT];
}

bool sid2_vk_wait(sid2_vk_device *device, uint64_t serial, const char *doing, sid2_error *err)
{
    if (serial <= device->completed) return true;
    VkResult result = vkWaitForFences(device->handle, 1, fence_of(device, serial), VK_TRUE, UINT64_MAX);
    if (!sid2_vk_ok(device, result, doing, err)) return false;
    device->completed = serial;
    return true;
}

bool sid2_vk_submit(sid2_vk_device *device, VkCommandBuffer commands, const char *doing, uint64_t *serial,
                    sid2_error *err)
{
    if (device->lost) return sid2_vk_ok(device, VK_ERROR_DEVICE_LOST, doing, err);
    uint64_t next = device->submitted + 1;
    VkFence *fence = fence_of(device, next);
    if (next > SID2_VK_IN_FLIGHT && !sid2_vk_wait(device, next - SID2_VK_IN_FLIGHT, doing, err)) return false;
    VkResult result = vkResetFences(device->handle, 1, fence);
    if (result == VK_SUCCESS)
        result = vkQueueSubmit(device->queue, 1,
                               &(VkSubmitInfo){.sType = VK_STRUCTURE_TYPE_SUBMIT_INFO,
                                               .commandBufferCount = 1,
                                               .pCommandBuffers = &commands},
                               *fence);
    if (!sid2_vk_ok(device, result, doing, err)) return false;
    *serial = device->submitted = next;
    return true;
}

void sid2_vk_idle(sid2_vk_device *device)
{
    if (device->completed == device->submitted) return;
    sid2_error ignored;
    if (device->lost || !sid2_vk_wait(device, device->submitted, "waiting", &ignored))
        vkDeviceWaitIdle(device->handle);
}

/* ---- Commands ---- */

static VkAccessFlags reads(VkPipelineStageFlags stages)
{
    return (stages & VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT ? VK_ACCESS_SHADER_READ_BIT : 0) |
           (stages & VK_PIPELINE_STAGE_TRANSFER_BIT ? VK_ACCESS_TRANSFER_READ_BIT : 0) |
           (stages & VK_PIPELINE_STAGE_HOST_BIT ? VK_ACCESS_HOST_READ_BIT : 0);
}

static VkAccessFlags writes(VkPipelineStageFlags stages)
{
    return (stages & VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT ? VK_ACCESS_SHADER_WRITE_BIT : 0) |
           (stages & VK_PIPELINE_STAGE_TRANSFER_BIT ? VK_ACCESS_TRANSFER_WRITE_BIT : 0);
}

void sid2_vk_barrier(VkCommandBuffer commands, VkPipelineStageFlags from, VkPipelineStageFlags to)
{
    vkCmdPipelineBarrier(commands, from, to, 0, 1,
                         &(VkMemoryBarrier){.sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER,
                                            .srcAccessMask = writes(from),
                                            .dstAccessMask = reads(to) | writes(to)},
                         0, NULL, 0, NULL);
}

bool sid2_vk_begin(sid2_vk_device *device, VkCommandBuffer commands, bool once, sid2_error *err)
{
    VkCommandBufferUsageFlags usage =
        once ? VK_COMMAND_BUFFER_USAGE_ONE_TIME_SUBMIT_BIT : VK_COMMAND_BUFFER_USAGE_SIMULTANEOUS_USE_BIT;
    VkResult result = vkBeginCommandBuffer(
        commands,
        &(VkCommandBufferBeginInfo){.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO, .flags = usage});
    return sid2_vk_ok(device, result, "recording commands", err);
}
