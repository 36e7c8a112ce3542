#include "cooperative.h"

#include "program.h"
#include "transfer.h"

#include <stdlib.h>
#include <string.h>

/* ---- Which shape ---- */

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

/* ---- The check ---- */

/* A linear layer and its weights' gradient, whose sums are small integers, exact in any order, and whose
 * edges fill no block. */
enum { ROWS = 70, INS = 40, OUTS = 72 }; /* rows that lie a block apart differ */
enum { X, W, DY, Y, DW, OPERANDS };

typedef struct check {
    sid2_tensor tensor[OPERANDS];
    sid2_vk_memory memory[OPERANDS];
    uint16_t x[ROWS * INS], w[OUTS * INS], dy[ROWS * OUTS];
    float y[ROWS * OUTS], dw[OUTS * INS];
} check;

static float number(size_t i) { return (float)(i * 5 % 11) - 5; }

static void fill(uint16_t *to, size_t count)
{
    for (size_t i = 0; i < count; i++) to[i] = sid2_f32_to_f16(number(i));
}

static bool agrees(const check *c)
{
    for (size_t i = 0; i < ROWS * OUTS; i++) {
        float sum = 0;
        for (size_t k = 0; k < INS; k++) sum += number(i / OUTS * INS + k) * number(i % OUTS * INS + k);
        if (c->y[i] != sum) return false;
    }
    for (size_t i = 0; i < OUTS * INS; i++) {
        float sum = 0;
        for (size_t k = 0; k < ROWS; k++) sum += number(k * OUTS + i / INS) * number(k * INS + i % INS);
        if (c->dw[i] != sum) return false;
    }
    return true;
}

static sid2_graph *products(check *c, sid2_error *err)
{
    sid2_graph *g = sid2_graph_create(SID2_F16);
    if (!g) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory checking cooperative matrices"), NULL;
    sid2_tensor *t = c->tensor;
    t[X] = sid2_graph_external(g, "x", SID2_F16, sid2_shape_of(ROWS, INS));
    t[W] = sid2_graph_external(g, "w", SID2_F16, sid2_shape_of(OUTS, INS));
    t[DY] = sid2_graph_external(g, "dy", SID2_F16, sid2_shape_of(ROWS, OUTS));
    t[Y] = sid2_graph_external(g, "y", SID2_F32, sid2_shape_of(ROWS, OUTS));
    t[DW] = sid2_graph_external(g, "dw", SID2_F32, sid2_shape_of(OUTS, INS));
    const sid2_attr attr = {.dtype = SID2_F32};
    sid2_graph_emit_into(g, SID2_OP_linear, attr, (sid2_tensor[]){t[X], t[W]}, 2, &t[Y], 1);
    sid2_graph_emit_into(g, SID2_OP_linear_wgrad, attr, (sid2_tensor[]){t[X], t[DY]}, 2, &t[DW], 1);
    if (sid2_graph_finish(g, err)) return g;
    sid2_graph_destroy(g);
    return NULL;
}

static bool compute(sid2_vk_device *device, check *c, const sid2_graph *g, const sid2_plan *plan,
                    void **memories, sid2_vk_program **program, sid2_error *err)
{
    static const size_t bytes[OPERANDS] = {sizeof c->x, sizeof c->w, sizeof c->dy, sizeof c->y, sizeof c->dw};
    for (int i = 0; i < OPERANDS; i++) {
        memories[c->tensor[i]] = &c->memory[i];
        if (!sid2_vk_memory_create(device, SID2_VK_ON_DEVICE, bytes[i], "a buffer", &c->memory[i], err))
            return false;
    }
    const sid2_memory_map map = {.span = SIZE_MAX, .handle = memories};
    sid2_steps steps;
    return sid2_vk_upload(device, &c->memory[X], 0, c->x, bytes[X], err) &&
           sid2_vk_upload(device, &c->memory[W], 0, c->w, bytes[W], err) &&
           sid2_vk_upload(device, &c->memory[DY], 0, c->dy, bytes[DY], err) &&
           sid2_vk_zero(device, &c->memory[Y], err) && sid2_vk_zero(device, &c->memory[DW], err) &&
           sid2_steps_bind(&steps, g, plan, &map, err) &&
           (*program = sid2_vk_program_create(device, &steps, NULL, err)) &&
           sid2_vk_program_run(device, *program, 0, err) &&
           sid2_vk_download(device, &c->memory[Y], 0, c->y, bytes[Y], err) &&
           sid2_vk_download(device, &c->memory[DW], 0, c->dw, bytes[DW], err);
}

/* Computes what is to be compared, and leaves nothing on the device. */
static bool try_out(sid2_vk_device *device, check *c, sid2_error *err)
{
    fill(c->x, ROWS * INS);
    fill(c->w, OUTS * INS);
    fill(c->dy, ROWS * OUTS);
    sid2_graph *g = products(c, err);
    sid2_plan *plan = g ? sid2_plan_create(g, 256, err) : NULL;
    void **memories = g ? calloc((size_t)g->tensor_count, sizeof *memories) : NULL;
    sid2_vk_program *program = NULL;
    if (plan && !memories) sid2_fail(err, SID2_ERR_MEMORY, "%s: out of memory", device->id);
    bool ok = plan && memories && compute(device, c, g, plan, memories, &program, err);
    /* As for any buffer: what was recorded must not outlive it. */
    sid2_error ignored;
    if (!sid2_vk_flush(device, &ignored)) device->lost = true;
    sid2_vk_idle(device);
    sid2_vk_program_destroy(device, program);
    for (int i = 0; i < OPERANDS; i++) sid2_vk_memory_destroy(device, &c->memory[i]);
    free(memories);
    sid2_plan_destroy(plan);
    sid2_graph_destroy(g);
    return ok;
}

bool sid2_vk_check_cooperative(sid2_vk_device *device, sid2_error *err)
{
    if (!device->caps->cooperative.m || device->gpu->cooperative != SID2_VK_UNCHECKED) return true;
    check *c = calloc(1, sizeof *c);
    if (!c) return sid2_fail(err, SID2_ERR_MEMORY, "%s: out of memory", device->id);
    sid2_error failure = {0};
    bool ran = try_out(device, c, &failure), right = ran && agrees(c);
    free(c);
    if (!ran && (failure.code == SID2_ERR_MEMORY || device->lost))
        return sid2_fail(err, failure.code, "%s", failure.message);
    sid2_vk_gpu_note_cooperative(device->gpu, right);
    return true;
}
