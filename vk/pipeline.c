#include "pipeline.h"

#include "cache.h"
#include "fold.h"
#include "lowering.h"
#include "modules.h"
#include "quirks.h"
#include "report.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name, *access, *variants;
} shaders[] = {
#define SHADER(name, access, variants) {#name, access, variants},
#include "shaders.def"
#undef SHADER
};

int sid2_vk_shader_bindings(sid2_vk_shader shader) { return (int)strlen(shaders[shader].access); }
const char *sid2_vk_shader_name(sid2_vk_shader shader) { return shaders[shader].name; }
bool sid2_vk_shader_reads(sid2_vk_shader shader, int binding)
{
    return shaders[shader].access[binding] != 'w';
}
bool sid2_vk_shader_writes(sid2_vk_shader shader, int binding)
{
    return shaders[shader].access[binding] == 'w' || shaders[shader].access[binding] == 'b';
}

/* ---- The table ---- */

enum { PLAIN = 0, BITS_16 = 1, SUBGROUP = 2, TEXELS = 4, BF16_MATRICES = 8, VARIANTS = 9 };
enum { FIRST_CONSTANT = 16, LOCAL_CONSTANT = 12, VALUES = SID2_VK_BINDINGS + 3 + SID2_VK_CONSTANTS };

/* All that tells pipelines apart; numbers only, so that it compares and hashes as bytes. */
typedef struct key {
    uint32_t shader, variant;
    uint32_t value[VALUES]; /* element type by binding; local size; constants */
} key;

typedef struct entry {
    key key;
    VkPipeline pipeline;
} entry;

struct sid2_vk_pipelines {
    VkPipelineCache cache;
    VkDescriptorSetLayout set_layout[SID2_VK_SHADER_COUNT][2]; /* [1]: with texel buffers */
    VkPipelineLayout layout[SID2_VK_SHADER_COUNT][2];
    VkShaderModule module[SID2_VK_SHADER_COUNT][VARIANTS];
    entry *entries; /* a hash table with open addressing; capacity a power of two */
    size_t count, capacity;
};

static size_t hash(const key *k)
{
    uint64_t h = 0xcbf29ce484222325u;
    const uint32_t *word = (const uint32_t *)k;
    for (size_t i = 0; i < sizeof *k / sizeof *word; i++) h = (h ^ word[i]) * 0x100000001b3u;
    return (size_t)(h ^ h >> 32);
}

/* The key's place: its entry, or the free one where it belongs. */
static entry *find(const sid2_vk_pipelines *p, const key *k)
{
    size_t at = hash(k) & (p->capacity - 1);
    while (p->entries[at].pipeline && memcmp(&p->entries[at].key, k, sizeof *k) != 0)
        at = (at + 1) & (p->capacity - 1);
    return &p->entries[at];
}

static bool grow(sid2_vk_pipelines *p)
{
    sid2_vk_pipelines larger = {.capacity = p->capacity ? 2 * p->capacity : 256};
    if (!(larger.entries = calloc(larger.capacity, sizeof *larger.entries))) return false;
    for (size_t i = 0; i < p->capacity; i++)
        if (p->entries[i].pipeline) *find(&larger, &p->entries[i].key) = p->entries[i];
    free(p->entries);
    p->entries = larger.entries;
    p->capacity = larger.capacity;
    return true;
}

/* ---- Layouts ---- */

/* The variant with texel buffers, where the device prefers it and the tensors are not too large. */
static bool has_texels(const sid2_vk_device *device, const sid2_vk_dispatch *d)
{
    if (!device->caps->texels || !strstr(shaders[d->shader].variants, "TEX")) return false;
    for (int i = 0; i < sid2_vk_shader_bindings(d->shader); i++)
        if (shaders[d->shader].access[i] == 't' && sid2_vk_has(&d->tensor[i]) &&
            (sid2_vk_bytes(&d->tensor[i]) + device->caps->offset_alignment) /
                    (4 * sid2_dtype_size(d->tensor[i].dtype)) >=
                device->caps->max_texels)
            return false;
    return true;
}

bool sid2_vk_reads_texels(const sid2_vk_device *device, const sid2_vk_dispatch *d, int binding)
{
    return shaders[d->shader].access[binding] == 't' && has_texels(device, d);
}

VkDescriptorSetLayout sid2_vk_set_layout(const sid2_vk_device *device, const sid2_vk_dispatch *d)
{
    return device->pipelines->set_layout[d->shader][has_texels(device, d)];
}

VkPipelineLayout sid2_vk_pipeline_layout(const sid2_vk_device *device, const sid2_vk_dispatch *d)
{
    return device->pipelines->layout[d->shader][has_texels(device, d)];
}

static VkResult create_layout(sid2_vk_device *device, sid2_vk_pipelines *p, int shader, int texels)
{
    VkDescriptorSetLayoutBinding binding[SID2_VK_BINDINGS];
    uint32_t bindings = (uint32_t)strlen(shaders[shader].access);
    for (uint32_t i = 0; i < bindings; i++)
        binding[i] =
            (VkDescriptorSetLayoutBinding){.binding = i,
                                           .descriptorType = texels && shaders[shader].access[i] == 't'
                                                                 ? VK_DESCRIPTOR_TYPE_UNIFORM_TEXEL_BUFFER
                                                                 : VK_DESCRIPTOR_TYPE_STORAGE_BUFFER,
                                           .descriptorCount = 1,
                                           .stageFlags = VK_SHADER_STAGE_COMPUTE_BIT};
    VkDescriptorSetLayout *set_layout = &p->set_layout[shader][texels];
    VkPipelineLayout *layout = &p->layout[shader][texels];
    VkResult result = vkCreateDescriptorSetLayout(
        device->handle,
        &(VkDescriptorSetLayoutCreateInfo){.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_LAYOUT_CREATE_INFO,
                                           .bindingCount = bindings,
                                           .pBindings = binding},
        NULL, set_layout);
    if (result != VK_SUCCESS) return *set_layout = VK_NULL_HANDLE, result;
    result = vkCreatePipelineLayout(
        device->handle,
        &(VkPipelineLayoutCreateInfo){.sType = VK_STRUCTURE_TYPE_PIPELINE_LAYOUT_CREATE_INFO,
                                      .setLayoutCount = 1,
                                      .pSetLayouts = set_layout,
                                      .pushConstantRangeCount = 1,
                                      .pPushConstantRanges =
                                          &(VkPushConstantRange){VK_SHADER_STAGE_COMPUTE_BIT, 0,
                                                                 4 * (SID2_VK_BINDINGS + SID2_VK_PUSH)}},
        NULL, layout);
    if (result != VK_SUCCESS) *layout = VK_NULL_HANDLE;
    return result;
}

sid2_vk_pipelines *sid2_vk_pipelines_create(sid2_vk_device *device, sid2_error *err)
{
    sid2_vk_pipelines *p = calloc(1, sizeof *p);
    if (!p || !grow(p)) {
        free(p);
        return sid2_fail(err, SID2_ERR_MEMORY, "%s: out of memory", device->id), NULL;
    }
    VkResult result = VK_SUCCESS;
    for (int s = 0; s < SID2_VK_SHADER_COUNT && result == VK_SUCCESS; s++) {
        if (strlen(shaders[s].access) > device->caps->max_bindings) continue; /* refused when asked for */
        result = create_layout(device, p, s, false);
        if (result == VK_SUCCESS && device->caps->texels && strstr(shaders[s].variants, "TEX"))
            result = create_layout(device, p, s, true);
    }
    if (result == VK_SUCCESS && !device->reports) result = sid2_vk_cache_load(device, &p->cache);
    if (sid2_vk_ok(device, result, "preparing pipelines", err)) return p;
    sid2_vk_pipelines_destroy(device, p);
    return NULL;
}

void sid2_vk_pipelines_destroy(sid2_vk_device *device, sid2_vk_pipelines *p)
{
    if (!p) return;
    if (p->count && !device->lost && !device->reports) sid2_vk_cache_save(device, p->cache);
    for (size_t i = 0; i < p->capacity; i++) vkDestroyPipeline(device->handle, p->entries[i].pipeline, NULL);
    for (int s = 0; s < SID2_VK_SHADER_COUNT; s++)
        for (int v = 0; v < VARIANTS; v++) vkDestroyShaderModule(device->handle, p->module[s][v], NULL);
    for (int s = 0; s < SID2_VK_SHADER_COUNT; s++)
        for (int texels = 0; texels < 2; texels++) {
            vkDestroyPipelineLayout(device->handle, p->layout[s][texels], NULL);
            vkDestroyDescriptorSetLayout(device->handle, p->set_layout[s][texels], NULL);
        }
    vkDestroyPipelineCache(device->handle, p->cache, NULL);
    free(p->entries);
    free(p);
}

/* ---- Making one ---- */

/* The richest variant that the device can run and the tensors need. */
static int choose_variant(const sid2_vk_device *device, const sid2_vk_dispatch *d)
{
    bool bits_16 = false;
    for (int i = 0; i < sid2_vk_shader_bindings(d->shader); i++)
        bits_16 |= sid2_vk_has(&d->tensor[i]) && sid2_dtype_size(d->tensor[i].dtype) == 2;
    const char *variants = shaders[d->shader].variants;
    if (strstr(variants, "COOP")) return d->tensor[0].dtype == SID2_BF16 ? BF16_MATRICES : BITS_16;
    bool subgroup = strstr(variants, "SUB") && device->caps->subgroup_arithmetic;
    return (bits_16 ? BITS_16 : PLAIN) + (subgroup ? SUBGROUP : PLAIN) +
           (has_texels(device, d) ? TEXELS : PLAIN);
}

static key key_of(const sid2_vk_device *device, const sid2_vk_dispatch *d)
{
    key k = {.shader = d->shader, .variant = (uint32_t)choose_variant(device, d)};
    uint32_t *value = k.value;
    for (int i = 0, n = sid2_vk_shader_bindings(d->shader); i < SID2_VK_BINDINGS; i++)
        *value++ = i < n && sid2_vk_has(&d->tensor[i])            ? d->tensor[i].dtype
                   : i < n && shaders[d->shader].access[i] == 'o' ? SID2_F32
                                                                  : SID2_VK_ABSENT;
    for (int i = 0; i < 3; i++) *value++ = d->local[i] ? d->local[i] : 1;
    memcpy(value, d->constant, sizeof d->constant);
    return k;
}

static VkResult create_module(const sid2_vk_device *device, const uint32_t *words, size_t bytes,
                              VkShaderModule *module)
{
    VkResult result = vkCreateShaderModule(
        device->handle,
        &(VkShaderModuleCreateInfo){
            .sType = VK_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO, .codeSize = bytes, .pCode = words},
        NULL, module);
    if (result != VK_SUCCESS) *module = VK_NULL_HANDLE;
    return result;
}

/* The module's: the shader's and the variant's. */
static void name_of(const key *k, char name[64])
{
    static const char *const suffix[] = {"",        "_16",      "_sub",        "_16_sub", "_tex",
                                         "_16_tex", "_sub_tex", "_16_sub_tex", "_bf16"};
    snprintf(name, 64, "%s%s", shaders[k->shader].name, suffix[k->variant]);
}

/* What tells it from others of the same name: types by binding (-: absent), local size, constants. */
static bool report(sid2_vk_device *device, const key *k, VkPipeline pipeline, sid2_error *err)
{
    char name[64], made_for[200];
    int used = 0;
    name_of(k, name);
    for (int i = 0; i < sid2_vk_shader_bindings(k->shader); i++)
        used += snprintf(made_for + used, sizeof made_for - (size_t)used, "%s%s", i ? "," : "",
                         k->value[i] == SID2_VK_ABSENT ? "-" : sid2_dtype_name((sid2_dtype)k->value[i]));
    const uint32_t *value = k->value + SID2_VK_BINDINGS;
    used +=
        snprintf(made_for + used, sizeof made_for - (size_t)used, " %ux%ux%u", value[0], value[1], value[2]);
    for (int i = 0; i < SID2_VK_CONSTANTS && used < (int)sizeof made_for; i++)
        used +=
            snprintf(made_for + used, sizeof made_for - (size_t)used, "%s%u", i ? "," : " ", value[3 + i]);
    return sid2_vk_reports_add(device, pipeline, name, made_for, err);
}

/* The shader's module: kept for all its pipelines, or *folded with these constants for one, who destroys it. */
static bool module_for(sid2_vk_device *device, const key *k, const VkSpecializationInfo *constants,
                       VkShaderModule *module, bool *folded, sid2_error *err)
{
    VkShaderModule *kept = &device->pipelines->module[k->shader][k->variant];
    char name[64];
    name_of(k, name);
    const sid2_vk_module *m = sid2_vk_modules;
    while (m->name && strcmp(m->name, name) != 0) m++;
    if (!m->name)
        return sid2_fail(err, SID2_ERR_UNSUPPORTED, "%s: this build has no shader %s", device->id, name);
    VkResult result = VK_SUCCESS;
    size_t bytes = m->bytes;
    uint32_t *words =
        device->gpu->quirks & SID2_VK_FOLD_CONSTANTS ? sid2_vk_fold(m->words, &bytes, constants) : NULL;
    if ((*folded = words != NULL)) {
        result = create_module(device, words, bytes, module);
        free(words);
    } else {
        if (!*kept) result = create_module(device, m->words, m->bytes, kept);
        *module = *kept;
    }
    return sid2_vk_ok(device, result, "loading a shader", err);
}

static bool create_pipeline(sid2_vk_device *device, const key *k, VkPipeline *pipeline, sid2_error *err)
{
    VkSpecializationMapEntry map[VALUES];
    for (uint32_t i = 0; i < VALUES; i++) {
        uint32_t id = i < LOCAL_CONSTANT + 3 ? i : i + FIRST_CONSTANT - (LOCAL_CONSTANT + 3);
        map[i] = (VkSpecializationMapEntry){id, i * (uint32_t)sizeof(uint32_t), sizeof(uint32_t)};
    }
    const VkSpecializationInfo constants = {VALUES, map, sizeof k->value, k->value};
    VkShaderModule module = VK_NULL_HANDLE;
    bool folded = false;
    if (!module_for(device, k, &constants, &module, &folded, err)) return false;
    /* A matrix is held by a full subgroup, whose size the shader's group was made for. */
    bool cooperative = strstr(shaders[k->shader].variants, "COOP");
    VkPipelineShaderStageRequiredSubgroupSizeCreateInfo subgroup = {
        .sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_REQUIRED_SUBGROUP_SIZE_CREATE_INFO,
        .requiredSubgroupSize = device->caps->cooperative.subgroup};
    VkComputePipelineCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_COMPUTE_PIPELINE_CREATE_INFO,
        .flags = VK_PIPELINE_CREATE_DISPATCH_BASE | (device->reports ? SID2_VK_REPORT_FLAGS : 0),
        .stage = {.sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO,
                  .pNext = cooperative && device->gpu->subgroups_vary ? &subgroup : NULL,
                  .flags = cooperative ? VK_PIPELINE_SHADER_STAGE_CREATE_REQUIRE_FULL_SUBGROUPS_BIT : 0,
                  .stage = VK_SHADER_STAGE_COMPUTE_BIT,
                  .module = module,
                  .pName = "main",
                  .pSpecializationInfo = folded ? NULL : &constants},
        .layout = device->pipelines->layout[k->shader][(k->variant & TEXELS) != 0]};
    char doing[80];
    snprintf(doing, sizeof doing, "compiling shader %s", shaders[k->shader].name);
    VkResult result =
        vkCreateComputePipelines(device->handle, device->pipelines->cache, 1, &info, NULL, pipeline);
    if (folded) vkDestroyShaderModule(device->handle, module, NULL);
    return sid2_vk_ok(device, result, doing, err);
}

bool sid2_vk_pipeline_for(sid2_vk_device *device, const sid2_vk_dispatch *dispatch, VkPipeline *pipeline,
                          sid2_error *err)
{
    sid2_vk_pipelines *p = device->pipelines;
    if (2 * p->count >= p->capacity && !grow(p))
        return sid2_fail(err, SID2_ERR_MEMORY, "%s: out of memory", device->id);
    key k = key_of(device, dispatch);
    entry *e = find(p, &k);
    if (!e->pipeline) {
        VkPipeline made;
        if (!create_pipeline(device, &k, &made, err)) return false;
        *e = (entry){k, made};
        p->count++;
        if (device->reports && !report(device, &k, made, err)) return false;
    }
    *pipeline = e->pipeline;
    return true;
}
