#include "cooperative.h"

#include "program.h"
#include "transfer.h"

#include <stdlib.h>
#include <string.h>

/* ---- Which shape -----------------------------------------------------------------------------------------
 */

/* Four subgroups stage 64 rows and columns of 32 channels, and a matrix of sums each: product_coop.comp. */
static bool fits(const sid2_vk_cooperative_shape *s, const sid2_vk_caps *caps)
{
    uint32_t all = 4 * caps->cooperative.subgroup;
    return all <= caps->max_invocations && all <= caps->max_local[0] &&
           2 * 64 * 80 + 4 * s->m * s->n * 4 <= caps->shared_bytes;
}

/* f16 x f16 -> f32 over a subgroup, in matrices of whole quads that blocks of 32 x 32 divide into. */
static bool usable(const sid2_vk_cooperative_shape *s)
{
    return s->scope == SID2_VK_COOPERATIVE_SUBGROUP && s->a == SID2_VK_COOPERATIVE_F16 &&
           s->b == SID2_VK_COOPERATIVE_F16 && s->c == SID2_VK_COOPERATIVE_F32 &&
           s->result == SID2_VK_COOPERATIVE_F32 && s->m % 4 == 0 && s->n % 4 == 0 && s->k % 4 == 0 && s->m &&
           s->n && s->k && 32 % s->m == 0 && 32 % s->n == 0 && 32 % s->k == 0;
}

static bool promised(const sid2_vk_gpu *gpu)
{
    if (!sid2_vk_gpu_has(gpu, SID2_VK_COOPERATIVE_EXTENSION)) return false;
    sid2_vk_cooperative_features features = {.sType = SID2_VK_COOPERATIVE_FEATURES};
    sid2_vk_cooperative_stages stages = {.sType = SID2_VK_COOPERATIVE_STAGES};
    vkGetPhysicalDeviceFeatures2(
        gpu->handle, &(VkPhysicalDeviceFeatures2){.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2,
                                                  .pNext = &features});
    vkGetPhysicalDeviceProperties2(
        gpu->handle, &(VkPhysicalDeviceProperties2){.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2,
                                                    .pNext = &stages});
    return features.cooperativeMatrix && (stages.stages & VK_SHADER_STAGE_COMPUTE_BIT);
}

void sid2_vk_ask_cooperative(sid2_vk_gpu *gpu)
{
    sid2_vk_caps *caps = &gpu->caps;
    if (caps->software) return; /* emulated there: register tiles are up to three times as fast */
    if (!caps->storage16 || !caps->float16 || !gpu->memory_model || !gpu->full_subgroups || !promised(gpu))
        return;
    sid2_vk_ask_shapes ask = (sid2_vk_ask_shapes)vkGetInstanceProcAddr(
        volkGetLoadedInstance(), "vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR");
    uint32_t count = 0, best = 0;
    if (!ask || ask(gpu->handle, &count, NULL) != VK_SUCCESS) return;
    sid2_vk_cooperative_shape *shapes = calloc(count + 1, sizeof *shapes);
    for (uint32_t i = 0; shapes && i < count; i++) shapes[i].sType = SID2_VK_COOPERATIVE_SHAPE;
    if (shapes && ask(gpu->handle, &count, shapes) >= VK_SUCCESS)
        for (uint32_t i = 0; i < count; i++) {
            const sid2_vk_cooperative_shape *s = &shapes[i];
            if (!usable(s) || !fits(s, caps) || s->m * s->n * s->k <= best) continue;
            best = s->m * s->n * s->k;
            caps->cooperative.m = s->m, caps->cooperative.n = s->n, caps->cooperative.k = s->k;
        }
    free(shapes);
}

/* ---- The check -------------------------------------------------------------------------------------------
 */

/* A linear layer whose sums are small integers, exact in any order, and whose edges fill no block. */
enum { ROWS = 70, INS = 44, OUTS = 72, OPERANDS = 3 };

static float x_at(int row, int k) { return (float)((row * 5 + k * 3) % 7 - 3); }
static float w_at(int column, int k) { return (float)((column * 3 + k * 5) % 11 - 5); }

static void fill(uint16_t *to, int rows, float (*at)(int, int))
{
    for (int i = 0; i < rows * INS; i++) to[i] = sid2_f32_to_f16(at(i / INS, i % INS));
}

static bool agrees(const float *y)
{
    for (int i = 0; i < ROWS * OUTS; i++) {
        float sum = 0;
        for (int k = 0; k < INS; k++) sum += x_at(i / OUTS, k) * w_at(i % OUTS, k);
        if (y[i] != sum) return false;
    }
    return true;
}

static sid2_graph *linear_layer(sid2_tensor operand[OPERANDS], sid2_error *err)
{
    sid2_graph *g = sid2_graph_create(SID2_F16);
    if (!g) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory checking cooperative matrices"), NULL;
    operand[0] = sid2_graph_external(g, "x", SID2_F16, sid2_shape_of(ROWS, INS));
    operand[1] = sid2_graph_external(g, "w", SID2_F16, sid2_shape_of(OUTS, INS));
    operand[2] = sid2_graph_external(g, "y", SID2_F32, sid2_shape_of(ROWS, OUTS));
    sid2_graph_emit_into(g, SID2_OP_linear, (sid2_attr){.dtype = SID2_F32}, operand, 2, &operand[2], 1);
    if (sid2_graph_finish(g, err)) return g;
    sid2_graph_destroy(g);
    return NULL;
}

static bool multiply(sid2_vk_device *device, const sid2_graph *g, const sid2_tensor operand[OPERANDS],
                     float *y, sid2_error *err)
{
    static const size_t bytes[OPERANDS] = {2 * ROWS * INS, 2 * OUTS * INS, 4 * ROWS * OUTS};
    uint16_t x[ROWS * INS], w[OUTS * INS];
    sid2_vk_memory memory[OPERANDS] = {{0}};
    sid2_vk_memory **memories = calloc((size_t)g->tensor_count, sizeof(sid2_vk_memory *));
    sid2_plan *plan = sid2_plan_create(g, 256, err);
    sid2_vk_program *program = NULL;
    fill(x, ROWS, x_at);
    fill(w, OUTS, w_at);
    bool ok = plan && (memories || sid2_fail(err, SID2_ERR_MEMORY, "%s: out of memory", device->id));
    for (int i = 0; ok && i < OPERANDS; i++) {
        memories[operand[i]] = &memory[i];
        ok = sid2_vk_memory_create(device, SID2_VK_ON_DEVICE, bytes[i], "a buffer", &memory[i], err);
    }
    ok = ok && sid2_vk_upload(device, &memory[0], 0, x, bytes[0], err) &&
         sid2_vk_upload(device, &memory[1], 0, w, bytes[1], err) &&
         (program = sid2_vk_program_create(device, g, plan, memories, err)) &&
         sid2_vk_program_run(device, program, err) &&
         sid2_vk_download(device, &memory[2], 0, y, bytes[2], err);
    /* As for any buffer: what was recorded must not outlive it. */
    sid2_error ignored;
    if (!sid2_vk_flush(device, &ignored)) device->lost = true;
    sid2_vk_idle(device);
    if (program) sid2_vk_program_destroy(device, program);
    for (int i = 0; i < OPERANDS; i++) sid2_vk_memory_destroy(device, &memory[i]);
    sid2_plan_destroy(plan);
    free(memories);
    return ok;
}

bool sid2_vk_check_cooperative(sid2_vk_device *device, sid2_error *err)
{
    if (!device->caps->cooperative.m || device->gpu->cooperative != SID2_VK_UNCHECKED) return true;
    sid2_tensor operand[OPERANDS];
    sid2_error failure = {0};
    float y[ROWS * OUTS] = {0};
    sid2_graph *g = linear_layer(operand, &failure);
    bool ran = g && multiply(device, g, operand, y, &failure);
    sid2_graph_destroy(g);
    if (!ran && (failure.code == SID2_ERR_MEMORY || device->lost))
        return sid2_fail(err, failure.code, "%s", failure.message);
    sid2_vk_gpu_note_cooperative(device->gpu, ran && agrees(y));
    return true;
}
