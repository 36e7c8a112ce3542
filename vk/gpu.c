#include "gpu.h"

#include "cooperative.h"
#include "quirks.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <threads.h>

enum { MOST_GPUS = 16 };

static struct {
    once_flag once;
    sid2_vk_gpu gpu[MOST_GPUS];
    int count;
    const char *missing;
} found = {.once = ONCE_FLAG_INIT};

/* ---- Asking a physical device ---- */

static uint32_t smaller(uint32_t a, uint32_t b) { return a < b ? a : b; }

bool sid2_vk_gpu_has(const sid2_vk_gpu *gpu, const char *extension)
{
    uint32_t count = 0;
    bool has = false;
    if (vkEnumerateDeviceExtensionProperties(gpu->handle, NULL, &count, NULL) != VK_SUCCESS) return false;
    VkExtensionProperties *list = calloc(count + 1, sizeof *list);
    if (list && vkEnumerateDeviceExtensionProperties(gpu->handle, NULL, &count, list) >= VK_SUCCESS)
        for (uint32_t i = 0; i < count && !has; i++) has = !strcmp(list[i].extensionName, extension);
    free(list);
    return has;
}

/* A queue family that computes; one that does nothing else leaves the desktop's queue alone. */
static bool choose_family(sid2_vk_gpu *gpu)
{
    VkQueueFamilyProperties family[32];
    uint32_t count = 32;
    int best = -1;
    vkGetPhysicalDeviceQueueFamilyProperties(gpu->handle, &count, family);
    for (uint32_t i = 0; i < count; i++) {
        if (!(family[i].queueFlags & VK_QUEUE_COMPUTE_BIT) || !family[i].queueCount) continue;
        if (best < 0 || !(family[i].queueFlags & VK_QUEUE_GRAPHICS_BIT)) best = (int)i;
        if (!(family[i].queueFlags & VK_QUEUE_GRAPHICS_BIT)) break;
    }
    if (best < 0) return false;
    gpu->family = (uint32_t)best;
    gpu->time_bits = family[best].timestampValidBits;
    return true;
}

static void ask_properties(sid2_vk_gpu *gpu)
{
    bool driver =
        gpu->api >= VK_API_VERSION_1_2 || sid2_vk_gpu_has(gpu, VK_KHR_DRIVER_PROPERTIES_EXTENSION_NAME);
    bool sizes =
        gpu->api >= VK_API_VERSION_1_3 || sid2_vk_gpu_has(gpu, VK_EXT_SUBGROUP_SIZE_CONTROL_EXTENSION_NAME);
    bool maintenance4 =
        gpu->api >= VK_API_VERSION_1_3 || sid2_vk_gpu_has(gpu, VK_KHR_MAINTENANCE_4_EXTENSION_NAME);
    VkPhysicalDeviceMaintenance4Properties buffers = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MAINTENANCE_4_PROPERTIES};
    VkPhysicalDeviceSubgroupSizeControlProperties control = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_SIZE_CONTROL_PROPERTIES};
    bool dots = gpu->api >= VK_API_VERSION_1_3 ||
                sid2_vk_gpu_has(gpu, VK_KHR_SHADER_INTEGER_DOT_PRODUCT_EXTENSION_NAME);
    VkPhysicalDeviceShaderIntegerDotProductProperties dot = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_INTEGER_DOT_PRODUCT_PROPERTIES};
    VkPhysicalDeviceDriverProperties names = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_DRIVER_PROPERTIES};
    VkPhysicalDeviceMaintenance3Properties memory = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MAINTENANCE_3_PROPERTIES};
    VkPhysicalDeviceSubgroupProperties subgroup = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_PROPERTIES, .pNext = &memory};
    VkPhysicalDeviceIDProperties identity = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_ID_PROPERTIES,
                                             .pNext = &subgroup};
    VkPhysicalDeviceProperties2 all = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2,
                                       .pNext = &identity};
    void **tail = &memory.pNext;
    if (driver) *tail = &names, tail = &names.pNext;
    if (sizes) *tail = &control, tail = &control.pNext;
    if (maintenance4) *tail = &buffers, tail = &buffers.pNext;
    if (dots) *tail = &dot, tail = &dot.pNext;
    vkGetPhysicalDeviceProperties2(gpu->handle, &all);

    const VkPhysicalDeviceLimits *limits = &all.properties.limits;
    sid2_vk_caps *caps = &gpu->caps;
    caps->max_invocations = limits->maxComputeWorkGroupInvocations;
    memcpy(caps->max_local, limits->maxComputeWorkGroupSize, sizeof caps->max_local);
    memcpy(caps->max_groups, limits->maxComputeWorkGroupCount, sizeof caps->max_groups);
    caps->shared_bytes = limits->maxComputeSharedMemorySize;
    caps->max_range = limits->maxStorageBufferRange & ~15u;
    caps->offset_alignment =
        limits->minStorageBufferOffsetAlignment < 16 ? 16 : limits->minStorageBufferOffsetAlignment;
    caps->max_bindings = limits->maxPerStageDescriptorStorageBuffers;
    if (limits->maxPerStageResources < caps->max_bindings) caps->max_bindings = limits->maxPerStageResources;
    caps->subgroup_size = sizes && control.minSubgroupSize ? control.minSubgroupSize : subgroup.subgroupSize;
    caps->cooperative.subgroup = subgroup.subgroupSize;
    gpu->subgroups_vary = sizes && control.minSubgroupSize != control.maxSubgroupSize;
    gpu->mixed_dots = dot.integerDotProduct4x8BitPackedMixedSignednessAccelerated;
    gpu->full_subgroups =
        !gpu->subgroups_vary || (control.requiredSubgroupSizeStages & VK_SHADER_STAGE_COMPUTE_BIT);
    caps->subgroup_arithmetic = (subgroup.supportedOperations & VK_SUBGROUP_FEATURE_ARITHMETIC_BIT) &&
                                (subgroup.supportedStages & VK_SHADER_STAGE_COMPUTE_BIT);
    /* By SID2_VK_AS_GPU, tests run the shaders for GPUs on a CPU driver. */
    caps->software = all.properties.deviceType == VK_PHYSICAL_DEVICE_TYPE_CPU && !getenv("SID2_VK_AS_GPU");
    caps->texels = caps->software;
    caps->max_texels = limits->maxTexelBufferElements;
    if (caps->texels && limits->minTexelBufferOffsetAlignment > caps->offset_alignment)
        caps->offset_alignment = limits->minTexelBufferOffsetAlignment;

    gpu->max_allocation =
        memory.maxMemoryAllocationSize > SIZE_MAX ? SIZE_MAX : (size_t)memory.maxMemoryAllocationSize;
    if (maintenance4 && buffers.maxBufferSize < gpu->max_allocation)
        gpu->max_allocation = (size_t)buffers.maxBufferSize;
    memcpy(gpu->device_uuid, identity.deviceUUID, VK_UUID_SIZE);
    memcpy(gpu->driver_uuid, identity.driverUUID, VK_UUID_SIZE);
    gpu->driver_id = names.driverID;
    if (names.driverName[0])
        snprintf(gpu->driver, sizeof gpu->driver, "%s%s%s", names.driverName, names.driverInfo[0] ? ", " : "",
                 names.driverInfo);
    else
        snprintf(gpu->driver, sizeof gpu->driver, "driver %08x", all.properties.driverVersion);
}

static void ask_features(sid2_vk_gpu *gpu)
{
    bool modern = gpu->api >= VK_API_VERSION_1_2;
    bool bytes = modern || sid2_vk_gpu_has(gpu, VK_KHR_8BIT_STORAGE_EXTENSION_NAME);
    bool half = modern || sid2_vk_gpu_has(gpu, VK_KHR_SHADER_FLOAT16_INT8_EXTENSION_NAME);
    bool sizes =
        gpu->api >= VK_API_VERSION_1_3 || sid2_vk_gpu_has(gpu, VK_EXT_SUBGROUP_SIZE_CONTROL_EXTENSION_NAME);
    bool model = modern || sid2_vk_gpu_has(gpu, VK_KHR_VULKAN_MEMORY_MODEL_EXTENSION_NAME);
    VkPhysicalDeviceVulkanMemoryModelFeatures memory_model = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_MEMORY_MODEL_FEATURES};
    VkPhysicalDeviceSubgroupSizeControlFeatures subgroups = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_SIZE_CONTROL_FEATURES};
    VkPhysicalDevice8BitStorageFeatures storage8 = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_8BIT_STORAGE_FEATURES};
    VkPhysicalDeviceShaderFloat16Int8Features float16 = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_FLOAT16_INT8_FEATURES};
    VkPhysicalDevice16BitStorageFeatures storage16 = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_16BIT_STORAGE_FEATURES};
    VkPhysicalDeviceFeatures2 all = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2,
                                     .pNext = &storage16};
    void **tail = &storage16.pNext;
    if (bytes) *tail = &storage8, tail = &storage8.pNext;
    if (half) *tail = &float16, tail = &float16.pNext;
    if (model) *tail = &memory_model, tail = &memory_model.pNext;
    if (sizes) *tail = &subgroups, tail = &subgroups.pNext;
    vkGetPhysicalDeviceFeatures2(gpu->handle, &all);

    gpu->caps.storage16 = storage16.storageBuffer16BitAccess && all.features.shaderInt16;
    gpu->caps.storage8 = storage8.storageBuffer8BitAccess && float16.shaderInt8;
    gpu->caps.float16 = float16.shaderFloat16;
    gpu->memory_model = memory_model.vulkanMemoryModel;
    gpu->full_subgroups &= subgroups.subgroupSizeControl && subgroups.computeFullSubgroups;
}

/* Fills everything but the handle; false where sid2 cannot use the device. */
static bool probe(sid2_vk_gpu *gpu, uint32_t instance_version)
{
    vkGetPhysicalDeviceProperties(gpu->handle, &gpu->properties);
    vkGetPhysicalDeviceMemoryProperties(gpu->handle, &gpu->memory);
    gpu->api = smaller(gpu->properties.apiVersion, instance_version);
    if (gpu->api < VK_API_VERSION_1_1 || !choose_family(gpu)) return false;
    ask_properties(gpu);
    ask_features(gpu);
    sid2_vk_ask_cooperative(gpu);
    gpu->budget = sid2_vk_gpu_has(gpu, VK_EXT_MEMORY_BUDGET_EXTENSION_NAME);
    gpu->portability = sid2_vk_gpu_has(gpu, "VK_KHR_portability_subset");
    sid2_vk_apply_quirks(gpu);
    return true;
}

/* ---- Memory ---- */

static bool is_local(const sid2_vk_gpu *gpu, uint32_t heap)
{
    return gpu->memory.memoryHeaps[heap].flags & VK_MEMORY_HEAP_DEVICE_LOCAL_BIT;
}

size_t sid2_vk_gpu_memory(const sid2_vk_gpu *gpu)
{
    VkDeviceSize most = 0;
    for (uint32_t i = 0; i < gpu->memory.memoryHeapCount; i++)
        if (is_local(gpu, i) && gpu->memory.memoryHeaps[i].size > most)
            most = gpu->memory.memoryHeaps[i].size;
    return (size_t)most;
}

size_t sid2_vk_gpu_free_memory(const sid2_vk_gpu *gpu)
{
    if (!gpu->budget) return sid2_vk_gpu_memory(gpu);
    VkPhysicalDeviceMemoryBudgetPropertiesEXT budget = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_BUDGET_PROPERTIES_EXT};
    VkPhysicalDeviceMemoryProperties2 all = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_PROPERTIES_2,
                                             .pNext = &budget};
    vkGetPhysicalDeviceMemoryProperties2(gpu->handle, &all);
    VkDeviceSize most = 0;
    for (uint32_t i = 0; i < gpu->memory.memoryHeapCount; i++) {
        VkDeviceSize room =
            budget.heapBudget[i] > budget.heapUsage[i] ? budget.heapBudget[i] - budget.heapUsage[i] : 0;
        if (is_local(gpu, i) && room > most) most = room;
    }
    return (size_t)most;
}

/* ---- The instance ---- */

static bool instance_has(const char *extension)
{
    VkExtensionProperties list[64];
    uint32_t count = 64;
    if (vkEnumerateInstanceExtensionProperties(NULL, &count, list) < VK_SUCCESS) return false;
    for (uint32_t i = 0; i < count; i++)
        if (!strcmp(list[i].extensionName, extension)) return true;
    return false;
}

static void discover(void)
{
    found.missing = "Vulkan: no loader (libvulkan.so.1 not found; Debian, Ubuntu: libvulkan1)";
    if (volkInitialize() != VK_SUCCESS) return;
    found.missing = "Vulkan: the loader is older than Vulkan 1.1";
    if (volkGetInstanceVersion() < VK_API_VERSION_1_1) return;
    found.missing = "Vulkan: no driver with Vulkan 1.1 and compute (Debian, Ubuntu: mesa-vulkan-drivers)";
    uint32_t version = smaller(volkGetInstanceVersion(), VK_API_VERSION_1_3);
    /* MoltenVK is a "portability" driver, which loaders hide unless asked. */
    bool portability = instance_has("VK_KHR_portability_enumeration");
    const char *extension = "VK_KHR_portability_enumeration";
    VkInstance instance;
    VkResult result = vkCreateInstance(
        &(VkInstanceCreateInfo){
            .sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO,
            .flags = portability ? 1 : 0 /* VK_INSTANCE_CREATE_ENUMERATE_PORTABILITY_BIT_KHR */,
            .pApplicationInfo = &(VkApplicationInfo){.sType = VK_STRUCTURE_TYPE_APPLICATION_INFO,
                                                     .pApplicationName = "sid2",
                                                     .pEngineName = "sid2",
                                                     .apiVersion = version},
            .enabledExtensionCount = portability,
            .ppEnabledExtensionNames = &extension},
        NULL, &instance);
    if (result != VK_SUCCESS) return;
    volkLoadInstance(instance);
    VkPhysicalDevice list[MOST_GPUS];
    uint32_t count = MOST_GPUS;
    if (vkEnumeratePhysicalDevices(instance, &count, list) < VK_SUCCESS) return;
    for (uint32_t i = 0; i < count; i++) {
        sid2_vk_gpu *gpu = &found.gpu[found.count];
        *gpu = (sid2_vk_gpu){.handle = list[i]};
        if (probe(gpu, version)) found.count++;
    }
}

const sid2_vk_gpu *sid2_vk_gpus(int *count)
{
    call_once(&found.once, discover);
    *count = found.count;
    return found.gpu;
}

void sid2_vk_gpu_note_cooperative(const sid2_vk_gpu *gpu, bool f16, bool bf16)
{
    sid2_vk_gpu *found_gpu = &found.gpu[gpu - found.gpu];
    found_gpu->cooperative = f16 ? SID2_VK_RIGHT : SID2_VK_WRONG;
    if (!f16) found_gpu->caps.cooperative.m = 0;
    found_gpu->caps.cooperative.bf16 = bf16;
}

const char *sid2_vk_missing(void)
{
    int count;
    sid2_vk_gpus(&count);
    return count ? NULL : found.missing;
}
