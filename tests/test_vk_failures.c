/* What happens when Vulkan says no. Every function that may fail is made to, at its first call, its second,
 * and so on, until a whole life of a device (open, buffers, upload, compile, run, download, close) has passed
 * without meeting the failure. Out of memory: one clear line, and the call that failed succeeds when tried
 * again. Device lost: one clear line, all later calls say so too, and a device opened afresh works. Nothing
 * leaks either way. */
#include <ctype.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <volk.h>

#include "vk.h"

enum { COUNT = 3000, SKIPPED = 77, MOST_CALLS = 400 };

/* ---- Vulkan's functions, with a trapdoor ---- */

static struct {
    const char *function;
    int countdown; /* fails when it reaches 0 */
    VkResult result;
    bool happened;
} trap;
static int live; /* objects that were created and not destroyed */

static bool falls(const char *function)
{
    if (!trap.function || strcmp(trap.function, function) != 0 || --trap.countdown != 0) return false;
    trap.happened = true;
    return true;
}

/* creates: how many objects a success makes. */
#define FAILABLE(function, creates, parameters, arguments)                                                   \
    static PFN_##function real_##function;                                                                   \
    static VkResult VKAPI_CALL trapped_##function parameters                                                 \
    {                                                                                                        \
        if (falls(#function)) return trap.result;                                                            \
        VkResult result = real_##function arguments;                                                         \
        if (result == VK_SUCCESS) live += creates;                                                           \
        return result;                                                                                       \
    }
#define DESTROYS(function, type)                                                                             \
    static PFN_##function real_##function;                                                                   \
    static void VKAPI_CALL trapped_##function(VkDevice d, type object, const VkAllocationCallbacks *a)       \
    {                                                                                                        \
        if (object) live--;                                                                                  \
        real_##function(d, object, a);                                                                       \
    }
#define CREATES(function, info, type)                                                                        \
    FAILABLE(function, 1, (VkDevice d, const info *i, const VkAllocationCallbacks *a, type *o), (d, i, a, o))

CREATES(vkAllocateMemory, VkMemoryAllocateInfo, VkDeviceMemory)
CREATES(vkCreateBuffer, VkBufferCreateInfo, VkBuffer)
CREATES(vkCreateBufferView, VkBufferViewCreateInfo, VkBufferView)
CREATES(vkCreateFence, VkFenceCreateInfo, VkFence)
CREATES(vkCreateCommandPool, VkCommandPoolCreateInfo, VkCommandPool)
CREATES(vkCreateDescriptorPool, VkDescriptorPoolCreateInfo, VkDescriptorPool)
CREATES(vkCreateDescriptorSetLayout, VkDescriptorSetLayoutCreateInfo, VkDescriptorSetLayout)
CREATES(vkCreatePipelineLayout, VkPipelineLayoutCreateInfo, VkPipelineLayout)
CREATES(vkCreatePipelineCache, VkPipelineCacheCreateInfo, VkPipelineCache)
CREATES(vkCreateShaderModule, VkShaderModuleCreateInfo, VkShaderModule)
FAILABLE(vkCreateComputePipelines, (int)n,
         (VkDevice d, VkPipelineCache c, uint32_t n, const VkComputePipelineCreateInfo *i,
          const VkAllocationCallbacks *a, VkPipeline *o),
         (d, c, n, i, a, o))
FAILABLE(vkCreateDevice, 1,
         (VkPhysicalDevice p, const VkDeviceCreateInfo *i, const VkAllocationCallbacks *a, VkDevice *d),
         (p, i, a, d))
FAILABLE(vkBindBufferMemory, 0, (VkDevice d, VkBuffer b, VkDeviceMemory m, VkDeviceSize o), (d, b, m, o))
FAILABLE(vkMapMemory, 0,
         (VkDevice d, VkDeviceMemory m, VkDeviceSize o, VkDeviceSize s, VkMemoryMapFlags f, void **p),
         (d, m, o, s, f, p))
FAILABLE(vkAllocateCommandBuffers, 0, (VkDevice d, const VkCommandBufferAllocateInfo *i, VkCommandBuffer *c),
         (d, i, c))
FAILABLE(vkAllocateDescriptorSets, 0, (VkDevice d, const VkDescriptorSetAllocateInfo *i, VkDescriptorSet *s),
         (d, i, s))
FAILABLE(vkBeginCommandBuffer, 0, (VkCommandBuffer c, const VkCommandBufferBeginInfo *i), (c, i))
FAILABLE(vkQueueSubmit, 0, (VkQueue q, uint32_t n, const VkSubmitInfo *i, VkFence f), (q, n, i, f))
FAILABLE(vkWaitForFences, 0, (VkDevice d, uint32_t n, const VkFence *f, VkBool32 all, uint64_t t),
         (d, n, f, all, t))
DESTROYS(vkFreeMemory, VkDeviceMemory)
DESTROYS(vkDestroyBuffer, VkBuffer)
DESTROYS(vkDestroyBufferView, VkBufferView)
DESTROYS(vkDestroyFence, VkFence)
DESTROYS(vkDestroyCommandPool, VkCommandPool)
DESTROYS(vkDestroyDescriptorPool, VkDescriptorPool)
DESTROYS(vkDestroyDescriptorSetLayout, VkDescriptorSetLayout)
DESTROYS(vkDestroyPipelineLayout, VkPipelineLayout)
DESTROYS(vkDestroyPipelineCache, VkPipelineCache)
DESTROYS(vkDestroyShaderModule, VkShaderModule)
DESTROYS(vkDestroyPipeline, VkPipeline)

static PFN_vkDestroyDevice real_vkDestroyDevice;
static void VKAPI_CALL trapped_vkDestroyDevice(VkDevice d, const VkAllocationCallbacks *a)
{
    if (d) live--;
    real_vkDestroyDevice(d, a);
}

/* clang-format off */
#define EACH_FAILABLE(F) \
    F(vkCreateDevice) F(vkCreateFence) F(vkCreateCommandPool) F(vkCreateDescriptorPool) \
    F(vkCreateDescriptorSetLayout) F(vkCreatePipelineLayout) F(vkCreatePipelineCache) F(vkCreateShaderModule) \
    F(vkCreateComputePipelines) F(vkAllocateMemory) F(vkCreateBuffer) F(vkCreateBufferView) \
    F(vkBindBufferMemory) F(vkMapMemory) F(vkAllocateCommandBuffers) F(vkAllocateDescriptorSets) \
    F(vkBeginCommandBuffer) F(vkQueueSubmit) F(vkWaitForFences)
#define EACH_DESTROYER(F) \
    F(vkFreeMemory) F(vkDestroyBuffer) F(vkDestroyBufferView) F(vkDestroyFence) F(vkDestroyCommandPool) \
    F(vkDestroyDescriptorPool) F(vkDestroyDescriptorSetLayout) F(vkDestroyPipelineLayout) \
    F(vkDestroyPipelineCache) F(vkDestroyShaderModule) F(vkDestroyPipeline) F(vkDestroyDevice)
/* clang-format on */

static void set_trapdoors(void)
{
#define SET(function)                                                                                        \
    real_##function = function;                                                                              \
    function = trapped_##function;
    EACH_FAILABLE(SET)
    EACH_DESTROYER(SET)
}

/* ---- A device's life ---- */

static sid2_error err;

/* One line that names the device. */
static void is_clear(sid2_code code)
{
    assert_int_equal(err.code, code);
    assert_non_null(strstr(err.message, "vulkan"));
    assert_true(strlen(err.message) > 20);
    for (const char *c = err.message; *c; c++) assert_false(iscntrl((unsigned char)*c));
}

/* Evaluates a call; where it fails for lack of memory it must succeed the second time. After the device was
 * lost, leaves by `over`. */
#define twice(call)                                                                                          \
    do {                                                                                                     \
        if (call) break;                                                                                     \
        assert_true(trap.happened);                                                                          \
        is_clear(trap.result == VK_ERROR_DEVICE_LOST ? SID2_ERR_LOST : SID2_ERR_MEMORY);                     \
        if (trap.result == VK_ERROR_DEVICE_LOST) goto over;                                                  \
        if (!(call)) fail_msg("again: %s", err.message);                                                     \
    } while (0)

static sid2_graph *make_graph(void)
{
    sid2_graph *g = sid2_graph_create(SID2_F32);
    sid2_tensor x = sid2_graph_external(g, "x", SID2_F32, sid2_shape_of(COUNT / 30, 30));
    sid2_tensor w = sid2_graph_external(g, "w", SID2_F32, sid2_shape_of(30, 30));
    sid2_tensor y = sid2_linear(g, sid2_silu(g, x), w, SID2_NONE);
    sid2_graph_export(g, sid2_add(g, y, x), "y");
    assert_true(sid2_graph_finish(g, &err));
    return g;
}

/* result: COUNT numbers. False where the device was lost on the way. */
static bool live_once(float *result)
{
    static const sid2_backend *const backends[] = {&sid2_backend_vk};
    const char *name = getenv("SID2_VK_DEVICE");
    sid2_device *device = NULL;
    sid2_graph *g = make_graph();
    sid2_buffer *buffer[4] = {0};
    sid2_program *program = NULL;
    float input[COUNT], scale = 1;
    bool whole = false;
    for (int i = 0; i < COUNT; i++) input[i] = (float)(i % 17) - 8;
    twice((device = sid2_backends_open(backends, 1, name ? name : "auto", NULL, &err)) != NULL);
    for (int i = 0; i < 4; i++) twice((buffer[i] = sid2_buffer_create(device, sizeof input, &err)) != NULL);
    twice(sid2_buffer_upload(buffer[1], 0, input, 30 * 30 * sizeof *input, &err));
    const sid2_binding bindings[] = {{"x", buffer[0]},           {"w", buffer[1]},
                                     {"y", buffer[2]},           {"weights", buffer[3]},
                                     {"weights_low", buffer[3]}, {"grads", buffer[3]}};
    twice((program = sid2_program_create(device, g, NULL, bindings, 6, &err)) != NULL);
    for (int i = 0; i < 20; i++) { /* more than fit in flight */
        scale = (float)i;
        twice(sid2_buffer_upload(buffer[0], 0, input, sizeof input, &err));
        twice(sid2_buffer_upload(buffer[0], 0, &scale, sizeof scale, &err));
        twice(sid2_program_run(program, &err));
    }
    twice(sid2_buffer_download(buffer[2], 0, result, sizeof input, &err));
    whole = true;
over:
    if (device && !whole) { /* lost: it stays so */
        assert_false(program && sid2_program_run(program, &err) &&
                     sid2_buffer_download(buffer[2], 0, result, 4, &err));
        is_clear(SID2_ERR_LOST);
    }
    sid2_program_destroy(program);
    for (int i = 0; i < 4; i++) sid2_buffer_destroy(buffer[i]);
    sid2_device_close(device);
    sid2_graph_destroy(g);
    assert_int_equal(live, 0);
    return whole;
}

static void fail_each(VkResult result, const char *function)
{
    float want[COUNT], got[COUNT];
    trap.function = NULL;
    assert_true(live_once(want));
    int calls = 1;
    for (; calls < MOST_CALLS; calls++) {
        trap.function = function;
        trap.countdown = calls;
        trap.result = result;
        trap.happened = false;
        memset(got, 0xff, sizeof got);
        bool whole = live_once(got);
        if (whole) assert_memory_equal(want, got, sizeof want);
        if (!trap.happened) break;
        if (result == VK_ERROR_DEVICE_LOST) assert_false(whole);
    }
    trap.function = NULL;
    printf("%s: %d failures\n", function, calls - 1);
}

static void out_of_memory(void **state)
{
    (void)state;
#define FAIL(function) fail_each(VK_ERROR_OUT_OF_DEVICE_MEMORY, #function);
    EACH_FAILABLE(FAIL)
    fail_each(VK_ERROR_OUT_OF_HOST_MEMORY, "vkAllocateMemory");
}

static void device_lost(void **state)
{
    (void)state;
    fail_each(VK_ERROR_DEVICE_LOST, "vkQueueSubmit");
    fail_each(VK_ERROR_DEVICE_LOST, "vkWaitForFences");
}

int main(void)
{
    if (!sid2_backend_vk.count()) return printf("skipped: no Vulkan device\n"), SKIPPED;
    set_trapdoors();
    const struct CMUnitTest tests[] = {cmocka_unit_test(out_of_memory), cmocka_unit_test(device_lost)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
