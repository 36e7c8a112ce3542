/* The check of cooperative matrices when a device is opened: a driver whose sums are wrong, or that refuses
 * the shader, works without them and says so; one that has no memory for the check is asked again. Each in a
 * process of its own, for the check is made once. Skipped (77) where no device offers them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <volk.h>

#include "cpu.h"
#include "opcheck.h"
#include "vk.h"

enum { SKIPPED = 77, MOST_CALLS = 100 };

static const sid2_backend *const vulkan[] = {&sid2_backend_vk}, *const cpu[] = {&sid2_backend_cpu};
static sid2_error err;

#define must(condition)                                                                                      \
    do {                                                                                                     \
        if (condition) break;                                                                                \
        printf("FAILED line %d: %s (%s)\n", __LINE__, #condition, err.message);                              \
        exit(1);                                                                                             \
    } while (0)

/* ---- What goes wrong ---- */

static PFN_vkCreateComputePipelines real_create;
static PFN_vkAllocateMemory real_allocate;
static PFN_vkCmdDispatch real_dispatch;
static int countdown; /* the allocation that fails */

static void VKAPI_CALL do_nothing(VkCommandBuffer c, uint32_t x, uint32_t y, uint32_t z)
{
    (void)c, (void)x, (void)y, (void)z;
}

static VkResult VKAPI_CALL refuse(VkDevice d, VkPipelineCache c, uint32_t n,
                                  const VkComputePipelineCreateInfo *i, const VkAllocationCallbacks *a,
                                  VkPipeline *o)
{
    if (i->stage.flags & VK_PIPELINE_SHADER_STAGE_CREATE_REQUIRE_FULL_SUBGROUPS_BIT)
        return VK_ERROR_INVALID_SHADER_NV;
    return real_create(d, c, n, i, a, o);
}

static VkResult VKAPI_CALL run_out(VkDevice d, const VkMemoryAllocateInfo *i, const VkAllocationCallbacks *a,
                                   VkDeviceMemory *o)
{
    return --countdown == 0 ? VK_ERROR_OUT_OF_DEVICE_MEMORY : real_allocate(d, i, a, o);
}

/* ---- What must come of it ---- */

static const char *detail(int index)
{
    static sid2_device_info info;
    must(sid2_backend_vk.describe(index, NULL, &info));
    return info.detail;
}

static sid2_device *open_device(int index)
{
    char id[32];
    snprintf(id, sizeof id, "vulkan:%d", index);
    return sid2_backends_open(vulkan, 1, id, NULL, &err);
}

static void computes_well(sid2_device *device)
{
    static const sid2_op ops[] = {SID2_OP_conv2d, SID2_OP_attention, SID2_OP_attention_grad};
    sid2_device *reference = sid2_backends_open(cpu, 1, "reference", NULL, &err);
    must(reference);
    for (int i = 0; i < 3; i++) {
        sid2_opcheck_result result;
        must(sid2_opcheck_run(device, reference, ops[i], SID2_F16, 1, i ? 1 : 5, &result, &err));
        if (result.failures) printf("%s\n", result.failure);
        must(!result.failures);
    }
    sid2_device_close(reference);
}

static void right_ones_are_used(int index)
{
    sid2_device *device = open_device(index);
    must(device && strstr(detail(index), "cooperative matrix "));
    computes_well(device);
    sid2_device_close(device);
}

/* Works without matrices and says so. */
static void goes_without(int index)
{
    must(strstr(detail(index), "cooperative matrix "));
    sid2_device *device = open_device(index);
    must(device && strstr(detail(index), "failed the check"));
    must(!strstr(detail(index), "cooperative matrix "));
    vkCmdDispatch = real_dispatch;
    computes_well(device);
    sid2_device_close(device);
    must((device = open_device(index)) && strstr(detail(index), "failed the check"));
    computes_well(device);
    sid2_device_close(device);
}

static void wrong_sums_are_found(int index)
{
    vkCmdDispatch = do_nothing;
    goes_without(index);
}

static void a_refused_shader_is_not_used(int index)
{
    vkCreateComputePipelines = refuse;
    goes_without(index);
}

static void missing_memory_is_no_verdict(int index)
{
    vkAllocateMemory = run_out;
    for (int failing = 1; failing < MOST_CALLS; failing++) {
        countdown = failing;
        sid2_device *device = open_device(index);
        must(strstr(detail(index), "cooperative matrix "));
        if (device) {
            must(failing > 3); /* the three operands, at the least */
            vkAllocateMemory = real_allocate;
            computes_well(device);
            sid2_device_close(device);
            return;
        }
        must(err.code == SID2_ERR_MEMORY && strstr(err.message, "vulkan"));
    }
    must(false);
}

/* A convolution and its weights' gradient of small integers, exact in any order, with the parts of a subgroup that large
 * products take: more rows and columns than one group has of them, and edges that fill none. */
enum { TALL = 11, WIDE = 13, INS = 136, OUTS = 140 };

static float number(size_t i) { return (float)(i * 7 % 5) - 2; }

static sid2_buffer *buffer_of(sid2_device *device, size_t count, bool half)
{
    sid2_buffer *b = sid2_buffer_create(device, count * (half ? 2 : 4), &err);
    uint16_t *bits = calloc(count, 4);
    must(b && bits);
    for (size_t i = 0; half && i < count; i++) bits[i] = sid2_f32_to_f16(number(i));
    must(sid2_buffer_upload(b, 0, bits, count * (half ? 2 : 4), &err));
    free(bits);
    return b;
}

static float x_at(int row, int column, int channel)
{
    bool inside = row >= 0 && row < TALL && column >= 0 && column < WIDE;
    return inside ? number((size_t)((row * WIDE + column) * INS + channel)) : 0;
}

static void large_parts_are_right(int index)
{
    char id[32];
    snprintf(id, sizeof id, "vulkan:%d", index);
    sid2_device *device =
        sid2_backends_open(vulkan, 1, id, &(sid2_device_options){.blocks = "shared-128x128"}, &err);
    sid2_graph *g = sid2_graph_create(SID2_F16);
    must(device && g);
    sid2_tensor t[] = {sid2_graph_external(g, "x", SID2_F16, sid2_shape_of(1, TALL, WIDE, INS)),
                       sid2_graph_external(g, "w", SID2_F16, sid2_shape_of(OUTS, 3, 3, INS)),
                       sid2_graph_external(g, "dy", SID2_F16, sid2_shape_of(1, TALL, WIDE, OUTS)),
                       sid2_graph_external(g, "y", SID2_F16, sid2_shape_of(1, TALL, WIDE, OUTS)),
                       sid2_graph_external(g, "dw", SID2_F32, sid2_shape_of(OUTS, 3, 3, INS))};
    sid2_attr attr = {.shape = sid2_shape_of(OUTS, 3, 3, INS)};
    sid2_graph_emit_into(g, SID2_OP_conv2d, attr, (sid2_tensor[]){t[0], t[1]}, 2, &t[3], 1);
    sid2_graph_emit_into(g, SID2_OP_conv2d_wgrad, attr, (sid2_tensor[]){t[0], t[2]}, 2, &t[4], 1);
    must(sid2_graph_finish(g, &err));
    const size_t ys = TALL * WIDE * OUTS, ws = OUTS * 9 * INS;
    sid2_buffer *y = buffer_of(device, ys, false), *dw = buffer_of(device, ws, false);
    sid2_buffer *x = buffer_of(device, TALL * WIDE * INS, true), *w = buffer_of(device, ws, true),
                *dy = buffer_of(device, ys, true);
    const sid2_binding bindings[] = {{"x", x}, {"w", w}, {"dy", dy}, {"y", y}, {"dw", dw}};
    sid2_program *program = sid2_program_create(device, g, NULL, bindings, 5, &err);
    float *made = calloc(ws > ys ? ws : ys, sizeof *made);
    must(program && made && sid2_program_run(program, &err));
    const uint16_t *rounded = (uint16_t *)made;
    must(sid2_buffer_download(y, 0, made, ys * sizeof *rounded, &err));
    for (int i = 0; i < (int)ys; i++) {
        int row = i / OUTS / WIDE, column = i / OUTS % WIDE;
        float sum = 0;
        for (int k = 0; k < 9 * INS; k++)
            sum += x_at(row + k / INS / 3 - 1, column + k / INS % 3 - 1, k % INS) *
                   number((size_t)(i % OUTS * 9 * INS + k));
        must(rounded[i] == sid2_f32_to_f16(sum));
    }
    must(sid2_buffer_download(dw, 0, made, ws * sizeof *made, &err));
    for (int i = 0; i < (int)ws; i++) {
        int tap = i / INS % 9, out = i / INS / 9;
        float sum = 0;
        for (int k = 0; k < TALL * WIDE; k++)
            sum += x_at(k / WIDE + tap / 3 - 1, k % WIDE + tap % 3 - 1, i % INS) *
                   number((size_t)(k * OUTS + out));
        must(made[i] == sum);
    }
    free(made);
    sid2_program_destroy(program);
    sid2_graph_destroy(g);
    for (int i = 0; i < 5; i++) sid2_buffer_destroy(bindings[i].buffer);
    sid2_device_close(device);
}

/* ---- Each by itself ---- */

/* The first device that offers them; -1 where none does. */
static int find(void)
{
    for (int i = 0; i < sid2_backend_vk.count(); i++)
        if (strstr(detail(i), "cooperative matrix ")) return i;
    return -1;
}

static int alone(const char *name, void (*test)(int))
{
    fflush(stdout);
    int process = fork(), status = 0;
    if (process < 0) return perror("fork"), 1;
    if (process)
        return waitpid(process, &status, 0) == process && WIFEXITED(status) ? WEXITSTATUS(status) : 1;
    int index = find();
    if (index < 0) exit(SKIPPED);
    real_dispatch = vkCmdDispatch;
    real_create = vkCreateComputePipelines;
    real_allocate = vkAllocateMemory;
    test(index);
    printf("%s: ok\n", name);
    exit(0);
}

int main(void)
{
    setenv("SID2_VK_AS_GPU", "1", 1); /* CPU drivers that have them are not asked otherwise */
    int worst = 0;
#define ALONE(test)                                                                                          \
    do {                                                                                                     \
        int status = alone(#test, test);                                                                     \
        if (status == SKIPPED) return puts("skipped: no device with cooperative matrices"), SKIPPED;         \
        worst |= status;                                                                                     \
    } while (0)
    ALONE(right_ones_are_used);
    ALONE(large_parts_are_right);
    ALONE(wrong_sums_are_found);
    ALONE(a_refused_shader_is_not_used);
    ALONE(missing_memory_is_no_verdict);
    return worst;
}
