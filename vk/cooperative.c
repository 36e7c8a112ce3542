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

/* type x type -> f32 over a subgroup, in matrices of whole quads that blocks of 32 x 32 divide into. */
static bool usable(const sid2_vk_cooperative_shape *s, int32_t type)
{
    return s->scope == SID2_VK_COOPERATIVE_SUBGROUP && s->a == type && s->b == type &&
           s->c == SID2_VK_COOPERATIVE_F32 && s->result == SID2_VK_COOPERATIVE_F32 && s->m % 4 == 0 &&
           s->n % 4 == 0 && s->k % 4 == 0 && s->m && s->n && s->k && 32 % s->m == 0 && 32 % s->n == 0 &&
           32 % s->k == 0;
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

static bool promised_bfloat16(const sid2_vk_gpu *gpu)
{
    if (!sid2_vk_gpu_has(gpu, SID2_VK_BFLOAT16_EXTENSION)) return false;
    sid2_vk_bfloat16_features features = {.sType = SID2_VK_BFLOAT16_FEATURES};
    vkGetPhysicalDeviceFeatures2(
        gpu->handle, &(VkPhysicalDeviceFeatures2){.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2,
                                                  .pNext = &features});
    return features.type && features.cooperative_matrix;
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
    if (!shapes || ask(gpu->handle, &count, shapes) < VK_SUCCESS) count = 0;
    for (uint32_t i = 0; i < count; i++) {
        const sid2_vk_cooperative_shape *s = &shapes[i];
        if (!usable(s, SID2_VK_COOPERATIVE_F16) || !fits(s, caps) || s->m * s->n * s->k <= best) continue;
        best = s->m * s->n * s->k;
        caps->cooperative.m = s->m, caps->cooperative.n = s->n, caps->cooperative.k = s->k;
    }
    bool bfloat16 = caps->cooperative.m && promised_bfloat16(gpu);
    for (uint32_t i = 0; bfloat16 && i < count; i++) {
        const sid2_vk_cooperative_shape *s = &shapes[i];
        caps->cooperative.bf16 |= usable(s, SID2_VK_COOPERATIVE_BF16) && s->m == caps->cooperative.m &&
                                  s->n == caps->cooperative.n && s->k == caps->cooperative.k;
    }
    free(shapes);
}

/* ---- The check ---- */

/* What must come out exact in any order of sums: a linear layer and its weights' gradient of small integers, whose
 * edges fill no block; and attention whose every query has one key that is nearer than all others by so much that
 * nothing of them is left, so that its outcome and its gradients are copies, or zero. */
enum { ROWS = 70, INS = 40, OUTS = 72 }; /* rows that lie a block apart differ */
enum { TOKENS = 75, HEADS = 2, HEAD = 28, WIDTH = HEADS * HEAD };
enum { X, W, DY, QK, QKV, DMIX, GIVEN, Y = GIVEN, DW, MIX, LSE, DQK, DV, OPERANDS };

static const struct operand {
    const char *name;
    sid2_shape shape;
    bool full; /* f32 in any case */
} operands[OPERANDS] = {
    [X] = {"x", {2, {ROWS, INS}}, false},
    [W] = {"w", {2, {OUTS, INS}}, false},
    [DY] = {"dy", {2, {ROWS, OUTS}}, false},
    [Y] = {"y", {2, {ROWS, OUTS}}, true},
    [DW] = {"dw", {2, {OUTS, INS}}, true},
    [QK] = {"qk", {3, {1, TOKENS, 2 * WIDTH}}, false},
    [QKV] = {"qkv", {3, {1, TOKENS, 3 * WIDTH}}, false},
    [DMIX] = {"dmix", {3, {1, TOKENS, WIDTH}}, false},
    [MIX] = {"mix", {3, {1, TOKENS, WIDTH}}, false},
    [LSE] = {"lse", {3, {1, HEADS, TOKENS}}, true},
    [DQK] = {"dqk", {3, {1, TOKENS, 2 * WIDTH}}, false},
    [DV] = {"dv", {3, {1, TOKENS, WIDTH}}, false},
};

typedef struct check {
    sid2_dtype dtype;
    sid2_tensor tensor[OPERANDS];
    sid2_vk_memory memory[OPERANDS];
    float value[OPERANDS][TOKENS * 3 * WIDTH]; /* given, or computed */
    uint16_t bits[TOKENS * 3 * WIDTH];
} check;

static float number(size_t i) { return (float)(i * 5 % 11) - 5; }

/* Of seven channels a token's number in binary, 1 as +12, 0 as -12. */
static float code(size_t token, size_t channel) { return token >> channel % 7 & 1 ? 12 : -12; }
/* The key that a query finds, and the query that a key is found by. */
static size_t found_by(size_t query) { return (query + 36) % TOKENS; }
static size_t finder(size_t key) { return (key + TOKENS - 36) % TOKENS; }

static void fill(check *c)
{
    for (int o = 0; o < GIVEN; o++)
        for (size_t i = 0; i < TOKENS * 3 * WIDTH; i++) c->value[o][i] = number(i);
    for (size_t t = 0; t < TOKENS; t++)
        for (size_t i = 0; i < WIDTH; i++) {
            c->value[QK][t * 2 * WIDTH + i] = code(found_by(t), i % HEAD);
            c->value[QK][t * 2 * WIDTH + WIDTH + i] = code(t, i % HEAD);
        }
}

static bool products_agree(const check *c)
{
    for (size_t i = 0; i < ROWS * OUTS; i++) {
        float sum = 0;
        for (size_t k = 0; k < INS; k++) sum += number(i / OUTS * INS + k) * number(i % OUTS * INS + k);
        if (c->value[Y][i] != sum) return false;
    }
    for (size_t i = 0; i < OUTS * INS; i++) {
        float sum = 0;
        for (size_t k = 0; k < ROWS; k++) sum += number(k * OUTS + i / INS) * number(k * INS + i % INS);
        if (c->value[DW][i] != sum) return false;
    }
    return true;
}

static bool attention_agrees(const check *c)
{
    for (size_t t = 0; t < TOKENS; t++)
        for (size_t i = 0; i < WIDTH; i++)
            if (c->value[MIX][t * WIDTH + i] != number((found_by(t) * 3 + 2) * WIDTH + i) ||
                c->value[DV][t * WIDTH + i] != number(finder(t) * WIDTH + i) ||
                c->value[DQK][t * 2 * WIDTH + i] != 0 || c->value[DQK][(t * 2 + 1) * WIDTH + i] != 0)
                return false;
    return true;
}

static sid2_graph *operators(check *c, sid2_error *err)
{
    sid2_graph *g = sid2_graph_create(c->dtype);
    if (!g) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory checking cooperative matrices"), NULL;
    sid2_tensor *t = c->tensor;
    for (int o = 0; o < OPERANDS; o++)
        t[o] = sid2_graph_external(g, operands[o].name, operands[o].full ? SID2_F32 : c->dtype,
                                   operands[o].shape);
    const sid2_attr product = {.dtype = SID2_F32}, attention = {.heads = HEADS};
    sid2_graph_emit_into(g, SID2_OP_linear, product, (sid2_tensor[]){t[X], t[W]}, 2, &t[Y], 1);
    sid2_graph_emit_into(g, SID2_OP_linear_wgrad, product, (sid2_tensor[]){t[X], t[DY]}, 2, &t[DW], 1);
    sid2_graph_emit_into(g, SID2_OP_attention, attention, (sid2_tensor[]){t[QK], t[QKV]}, 2,
                         (sid2_tensor[]){t[MIX], t[LSE]}, 2);
    sid2_graph_emit_into(g, SID2_OP_attention_grad, attention,
                         (sid2_tensor[]){t[DMIX], t[QK], t[QKV], t[MIX], t[LSE]}, 5,
                         (sid2_tensor[]){t[DQK], t[DV]}, 2);
    if (sid2_graph_finish(g, err)) return g;
    sid2_graph_destroy(g);
    return NULL;
}

static size_t bytes_of(const check *c, int o)
{
    return (size_t)sid2_shape_count(operands[o].shape) *
           sid2_dtype_size(operands[o].full ? SID2_F32 : c->dtype);
}

static bool give(sid2_vk_device *device, check *c, int o, sid2_error *err)
{
    for (int64_t i = 0; i < sid2_shape_count(operands[o].shape); i++)
        c->bits[i] =
            c->dtype == SID2_F16 ? sid2_f32_to_f16(c->value[o][i]) : sid2_f32_to_bf16(c->value[o][i]);
    return sid2_vk_upload(device, &c->memory[o], 0, c->bits, bytes_of(c, o), err);
}

static bool take(sid2_vk_device *device, check *c, int o, sid2_error *err)
{
    if (operands[o].full) return sid2_vk_download(device, &c->memory[o], 0, c->value[o], bytes_of(c, o), err);
    if (!sid2_vk_download(device, &c->memory[o], 0, c->bits, bytes_of(c, o), err)) return false;
    for (int64_t i = 0; i < sid2_shape_count(operands[o].shape); i++)
        c->value[o][i] = c->dtype == SID2_F16 ? sid2_f16_to_f32(c->bits[i]) : sid2_bf16_to_f32(c->bits[i]);
    return true;
}

static bool compute(sid2_vk_device *device, check *c, const sid2_graph *g, const sid2_plan *plan,
                    void **memories, sid2_vk_program **program, sid2_error *err)
{
    for (int o = 0; o < OPERANDS; o++) {
        memories[c->tensor[o]] = &c->memory[o];
        if (!sid2_vk_memory_create(device, SID2_VK_ON_DEVICE, bytes_of(c, o), "a buffer", &c->memory[o],
                                   err) ||
            !(o < GIVEN ? give(device, c, o, err) : sid2_vk_zero(device, &c->memory[o], err)))
            return false;
    }
    const sid2_memory_map map = {.span = SIZE_MAX, .handle = memories};
    sid2_steps steps;
    if (!sid2_steps_bind(&steps, g, plan, &map, err) ||
        !(*program = sid2_vk_program_create(device, &steps, NULL, err)) ||
        !sid2_vk_program_run(device, *program, 0, err))
        return false;
    for (int o = GIVEN; o < OPERANDS; o++)
        if (!take(device, c, o, err)) return false;
    return true;
}

/* Computes what is to be compared, and leaves nothing on the device. */
static bool try_out(sid2_vk_device *device, check *c, sid2_error *err)
{
    fill(c);
    sid2_graph *g = operators(c, err);
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
    for (int o = 0; o < OPERANDS; o++) sid2_vk_memory_destroy(device, &c->memory[o]);
    free(memories);
    sid2_plan_destroy(plan);
    sid2_graph_destroy(g);
    return ok;
}

/* Whether matrices of a type are right. False without a verdict where memory or the device is gone. */
static bool judge(sid2_vk_device *device, sid2_dtype dtype, bool *right, sid2_error *err)
{
    check *c = calloc(1, sizeof *c);
    if (!c) return sid2_fail(err, SID2_ERR_MEMORY, "%s: out of memory", device->id);
    c->dtype = dtype;
    sid2_error failure = {0};
    bool ran = try_out(device, c, &failure);
    *right = ran && products_agree(c) && attention_agrees(c);
    free(c);
    return ran || (failure.code != SID2_ERR_MEMORY && !device->lost) ||
           sid2_fail(err, failure.code, "%s", failure.message);
}

bool sid2_vk_check_cooperative(sid2_vk_device *device, sid2_error *err)
{
    if (!device->caps->cooperative.m || device->gpu->cooperative != SID2_VK_UNCHECKED) return true;
    bool f16, bf16 = false;
    if (!judge(device, SID2_F16, &f16, err)) return false;
    if (f16 && device->caps->cooperative.bf16 && !judge(device, SID2_BF16, &bf16, err)) return false;
    sid2_vk_gpu_note_cooperative(device->gpu, f16, bf16);
    return true;
}
