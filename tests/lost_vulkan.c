/* A Vulkan loader over the system's ($SID2_REAL_VULKAN) in which the device is lost at the calls of vkQueueSubmit that
 * $SID2_LOSE_AT names, counted over the life of the process: "40" or "40,90". */
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#include <vulkan/vulkan.h>

static PFN_vkGetInstanceProcAddr real_instance;
static PFN_vkGetDeviceProcAddr real_device;
static PFN_vkQueueSubmit real_submit;

static VkResult VKAPI_CALL submit(VkQueue queue, uint32_t count, const VkSubmitInfo *info, VkFence fence)
{
    static long calls; /* one thread computes */
    const char *at = getenv("SID2_LOSE_AT");
    calls++;
    for (char *end; at && *at; at = *end == ',' ? end + 1 : NULL)
        if (strtol(at, &end, 10) == calls) return VK_ERROR_DEVICE_LOST;
    return real_submit(queue, count, info, fence);
}

static PFN_vkVoidFunction VKAPI_CALL of_device(VkDevice device, const char *name)
{
    PFN_vkVoidFunction found = real_device(device, name);
    if (!found || strcmp(name, "vkQueueSubmit") != 0) return found;
    real_submit = (PFN_vkQueueSubmit)found;
    return (PFN_vkVoidFunction)submit;
}

__attribute__((visibility("default"))) PFN_vkVoidFunction VKAPI_CALL
vkGetInstanceProcAddr(VkInstance instance, const char *name)
{
    if (!real_instance) {
        const char *path = getenv("SID2_REAL_VULKAN");
        void *loader = path ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : NULL;
        if (!loader) return NULL;
        real_instance = (PFN_vkGetInstanceProcAddr)dlsym(loader, "vkGetInstanceProcAddr");
    }
    PFN_vkVoidFunction found = real_instance(instance, name);
    if (!found) return NULL;
    if (strcmp(name, "vkGetDeviceProcAddr") == 0) {
        real_device = (PFN_vkGetDeviceProcAddr)found;
        return (PFN_vkVoidFunction)of_device;
    }
    if (strcmp(name, "vkQueueSubmit") == 0) {
        real_submit = (PFN_vkQueueSubmit)found;
        return (PFN_vkVoidFunction)submit;
    }
    return found;
}
