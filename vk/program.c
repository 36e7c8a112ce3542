#include "program.h"

#include "hazard.h"
#include "kept.h"
#include "lowering.h"
#include "pipeline.h"
#include "transfer.h"

#include <stdlib.h>
#include <string.h>

enum { COMPUTE = VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT };

struct sid2_vk_program {
    sid2_vk_memory scratch; /* its size is known when all calls, which point here, are lowered */
    bool own_scratch;       /* else the arena's */
    sid2_vk_kept *kept;
    sid2_vk_memory kept_memory; /* its */
    size_t own_kept;            /* bytes of it that no program before had */
    size_t first_count;         /* records that make it, before all nodes' */
    uint32_t first_commands;
    sid2_vk_record *records;
    size_t record_count;
    int32_t node_count;
    int section_count;
    int32_t section_end[SID2_MAX_STOPS + 1];       /* nodes */
    uint32_t section_commands[SID2_MAX_STOPS + 1]; /* command buffers recorded up to there */
    VkDescriptorPool descriptor_pool;
    VkDescriptorSet *sets; /* by record */
    VkBufferView *views;   /* of tensors read as texels */
    size_t view_count;
    VkPipeline *pipelines; /* by record; the device's */
    VkCommandPool pool;
    VkCommandBuffer *commands; /* submitted in order */
    uint32_t command_count;
    double recorded;       /* work in the last command buffer */
    VkQueryPool clock;     /* one time stamp before the first node and one after each; else none */
    sid2_node_time *times; /* by node */
};

/* ---- Lowering ---- */

static sid2_vk_tensor tensor_of(const sid2_operand *o)
{
    if (!o->data) return (sid2_vk_tensor){.shape.rank = -1};
    return (sid2_vk_tensor){o->dtype, o->shape, o->data, o->offset, o->version};
}

/* Whether results of externals are worth keeping: a program with gradients meets other weights in its next run, or soon. */
static bool computes_gradients(const sid2_steps *steps)
{
    for (int32_t i = 0; i < steps->count; i++)
        if (steps->item[i].call.op == SID2_OP_linear_wgrad || steps->item[i].call.op == SID2_OP_conv2d_wgrad)
            return true;
    return false;
}

static bool writes_to(const sid2_steps *steps, const uint64_t *version)
{
    for (int32_t i = 0; i < steps->count; i++)
        for (int o = 0; o < SID2_MAX_OUTPUTS; o++)
            if (steps->item[i].call.out[o].data && steps->item[i].call.out[o].version == version) return true;
    return false;
}

static bool find_scratch(sid2_vk_device *device, sid2_vk_program *p, sid2_arena *arena, size_t bytes,
                         sid2_error *err)
{
    void *shared = NULL;
    if (!bytes) return true;
    if (!arena)
        return p->own_scratch =
                   sid2_vk_memory_create(device, SID2_VK_ON_DEVICE, bytes, "scratch", &p->scratch, err);
    if (!sid2_arena_scratch(arena, bytes, &shared, err)) return false;
    p->scratch = *(const sid2_vk_memory *)shared;
    return true;
}

static bool lower(sid2_vk_device *device, sid2_vk_program *p, const sid2_steps *steps, size_t *scratch,
                  size_t *kept, sid2_error *err)
{
    sid2_vk_lowering l = {
        .device = device, .scratch = &p->scratch, .kept = computes_gradients(steps) ? NULL : &p->kept_memory};
    for (l.node = 0; l.node < steps->count && !l.error.code; l.node++) {
        const sid2_call *bound = &steps->item[l.node].call;
        sid2_vk_call call = {.op = bound->op, .attr = bound->attr};
        for (int i = 0; i < SID2_MAX_INPUTS; i++) {
            call.in[i] = tensor_of(&bound->in[i]);
            if (l.kept && writes_to(steps, call.in[i].version)) call.in[i].version = NULL;
        }
        for (int i = 0; i < SID2_MAX_OUTPUTS; i++) call.out[i] = tensor_of(&bound->out[i]);
        if (!sid2_vk_lower_call(&l, &call))
            sid2_fail(err, l.error.code, "node %d (%s): %s", l.node, sid2_op_name(call.op), l.error.message);
    }
    p->records = l.records;
    p->record_count = l.count;
    p->node_count = steps->count;
    p->section_count = steps->section_count;
    memcpy(p->section_end, steps->section_end, sizeof p->section_end);
    *scratch = l.scratch_bytes;
    *kept = l.kept_bytes;
    return !l.error.code;
}

/* Those that run first go to the front. */
static bool sort_records(sid2_vk_device *device, sid2_vk_program *p, sid2_error *err)
{
    for (size_t i = 0; i < p->record_count; i++) p->first_count += p->records[i].node == SID2_VK_FIRST;
    if (!p->first_count) return true;
    sid2_vk_record *sorted = malloc(p->record_count * sizeof *sorted);
    if (!sorted) return sid2_fail(err, SID2_ERR_MEMORY, "%s: out of memory for a program", device->id);
    size_t first = 0, later = p->first_count;
    for (size_t i = 0; i < p->record_count; i++)
        sorted[p->records[i].node == SID2_VK_FIRST ? first++ : later++] = p->records[i];
    free(p->records);
    p->records = sorted;
    return true;
}

static bool find_kept(sid2_vk_device *device, sid2_vk_program *p, size_t bytes, sid2_error *err)
{
    if (!p->first_count) return true;
    if (!(p->kept = sid2_vk_kept_open(device, p->records, p->first_count, bytes, err))) return false;
    p->kept_memory = sid2_vk_kept_memory(p->kept);
    p->own_kept = sid2_vk_kept_is_shared(p->kept) ? 0 : p->kept_memory.bytes;
    return true;
}

/* ---- Descriptors ---- */

static uint32_t bindings_of(const sid2_vk_record *record)
{
    return (uint32_t)sid2_vk_shader_bindings(record->dispatch.shader);
}

/* Where the binding begins: the tensor's offset, aligned down as the device wants; the shader adds the rest. */
static size_t aligned(const sid2_vk_device *device, size_t offset)
{
    return offset & ~(device->caps->offset_alignment - 1);
}

/* The bytes that a binding spans. For a tensor that the call lacks, those of one that the shader writes: it
 * does not touch the binding, and one that it shares adds no hazard. */
static sid2_vk_range place_of(const sid2_vk_device *device, const sid2_vk_dispatch *d, int binding)
{
    int present = binding;
    if (!sid2_vk_has(&d->tensor[binding]))
        for (present = 0; !sid2_vk_has(&d->tensor[present]) || !sid2_vk_shader_writes(d->shader, present);)
            present++;
    const sid2_vk_tensor *t = &d->tensor[present];
    size_t end = (t->offset + sid2_vk_bytes(t) + 15) & ~(size_t)15;
    return (sid2_vk_range){t->memory, aligned(device, t->offset), end,
                           sid2_vk_shader_writes(d->shader, binding)};
}

/* Four elements a texel: tensor.glsl. */
static VkResult create_view(sid2_vk_device *device, sid2_vk_program *p, const sid2_vk_tensor *t,
                            VkDescriptorBufferInfo place)
{
    bool bits_16 = sid2_vk_has(t) && sid2_dtype_size(t->dtype) == 2;
    VkResult result = vkCreateBufferView(
        device->handle,
        &(VkBufferViewCreateInfo){.sType = VK_STRUCTURE_TYPE_BUFFER_VIEW_CREATE_INFO,
                                  .buffer = place.buffer,
                                  .format = bits_16 ? VK_FORMAT_R32G32_UINT : VK_FORMAT_R32G32B32A32_UINT,
                                  .offset = place.offset,
                                  .range = place.range},
        NULL, &p->views[p->view_count]);
    if (result == VK_SUCCESS) p->view_count++;
    return result;
}

static VkResult write_set(sid2_vk_device *device, sid2_vk_program *p, const sid2_vk_record *record,
                          VkDescriptorSet set)
{
    VkDescriptorBufferInfo buffer[SID2_VK_BINDINGS];
    VkWriteDescriptorSet write[SID2_VK_BINDINGS];
    uint32_t bindings = bindings_of(record);
    for (uint32_t i = 0; i < bindings; i++) {
        const sid2_vk_tensor *t = &record->dispatch.tensor[i];
        sid2_vk_range place = place_of(device, &record->dispatch, (int)i);
        buffer[i] = (VkDescriptorBufferInfo){place.memory->buffer, place.begin, place.end - place.begin};
        write[i] = (VkWriteDescriptorSet){.sType = VK_STRUCTURE_TYPE_WRITE_DESCRIPTOR_SET,
                                          .dstSet = set,
                                          .dstBinding = i,
                                          .descriptorCount = 1,
                                          .descriptorType = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER,
                                          .pBufferInfo = &buffer[i]};
        if (!sid2_vk_reads_texels(device, &record->dispatch, (int)i)) continue;
        VkResult result = create_view(device, p, t, buffer[i]);
        if (result != VK_SUCCESS) return result;
        write[i].descriptorType = VK_DESCRIPTOR_TYPE_UNIFORM_TEXEL_BUFFER;
        write[i].pTexelBufferView = &p->views[p->view_count - 1];
    }
    vkUpdateDescriptorSets(device->handle, bindings, write, 0, NULL);
    return VK_SUCCESS;
}

static bool create_sets(sid2_vk_device *device, sid2_vk_program *p, sid2_error *err)
{
    VkDescriptorPoolSize size[] = {{VK_DESCRIPTOR_TYPE_STORAGE_BUFFER, 0},
                                   {VK_DESCRIPTOR_TYPE_UNIFORM_TEXEL_BUFFER, 0}};
    for (size_t i = 0; i < p->record_count; i++)
        for (int b = 0; b < (int)bindings_of(&p->records[i]); b++)
            size[sid2_vk_reads_texels(device, &p->records[i].dispatch, b)].descriptorCount++;
    uint32_t views = size[1].descriptorCount;
    if (views && !(p->views = calloc(views, sizeof(VkBufferView))))
        return sid2_fail(err, SID2_ERR_MEMORY, "%s: out of memory for a program", device->id);
    VkResult result = vkCreateDescriptorPool(
        device->handle,
        &(VkDescriptorPoolCreateInfo){.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_POOL_CREATE_INFO,
                                      .maxSets = (uint32_t)p->record_count,
                                      .poolSizeCount = views ? 2 : 1,
                                      .pPoolSizes = size},
        NULL, &p->descriptor_pool);
    if (result != VK_SUCCESS) p->descriptor_pool = VK_NULL_HANDLE;
    for (size_t i = 0; i < p->record_count && result == VK_SUCCESS; i++) {
        VkDescriptorSetLayout layout = sid2_vk_set_layout(device, &p->records[i].dispatch);
        result = vkAllocateDescriptorSets(
            device->handle,
            &(VkDescriptorSetAllocateInfo){.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_ALLOCATE_INFO,
                                           .descriptorPool = p->descriptor_pool,
                                           .descriptorSetCount = 1,
                                           .pSetLayouts = &layout},
            &p->sets[i]);
        if (result == VK_SUCCESS) result = write_set(device, p, &p->records[i], p->sets[i]);
    }
    return sid2_vk_ok(device, result, "preparing descriptors", err);
}

/* ---- Recording ---- */

/* Work (multiply-adds, or elements) in one dispatch and in one submission: some tens of milliseconds, and
 * some hundreds, on the slowest GPU of the kind. A CPU driver has no watchdog. */
static double longest(const sid2_vk_device *device, bool submission)
{
    switch (device->gpu->properties.deviceType) {
    case VK_PHYSICAL_DEVICE_TYPE_CPU: return submission ? 1e12 : 1e11;
    case VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU: return submission ? 1e11 : 1e10;
    default: return submission ? 2e10 : 2e9;
    }
}

/* Groups base .. base + count - 1, halved until each piece is within the device's limits and short enough. */
static void record_groups(const sid2_vk_device *device, VkCommandBuffer commands, const uint32_t base[3],
                          const uint32_t count[3], double work)
{
    int axis = count[1] > count[0] ? 1 : 0;
    if (count[2] > count[axis]) axis = 2;
    bool fits = work <= longest(device, false) || count[axis] == 1;
    for (int i = 0; i < 3; i++) {
        if (count[i] <= device->caps->max_groups[i]) continue;
        fits = false;
        axis = i;
        break;
    }
    if (fits && !(base[0] | base[1] | base[2])) {
        vkCmdDispatch(commands, count[0], count[1], count[2]);
        return;
    }
    if (fits) {
        vkCmdDispatchBase(commands, base[0], base[1], base[2], count[0], count[1], count[2]);
        return;
    }
    uint32_t first[3], second[3], middle[3];
    for (int i = 0; i < 3; i++) first[i] = second[i] = count[i], middle[i] = base[i];
    first[axis] = count[axis] / 2;
    second[axis] -= first[axis];
    middle[axis] += first[axis];
    record_groups(device, commands, base, first, work * first[axis] / count[axis]);
    record_groups(device, commands, middle, second, work * second[axis] / count[axis]);
}

static void record_dispatch(sid2_vk_device *device, const sid2_vk_program *p, size_t index,
                            VkCommandBuffer commands)
{
    const sid2_vk_dispatch *d = &p->records[index].dispatch;
    uint32_t bindings = bindings_of(&p->records[index]), push[SID2_VK_BINDINGS + SID2_VK_PUSH] = {0};
    for (uint32_t i = 0; i < bindings; i++)
        push[i] = sid2_vk_has(&d->tensor[i])
                      ? (uint32_t)((d->tensor[i].offset - aligned(device, d->tensor[i].offset)) /
                                   sid2_dtype_size(d->tensor[i].dtype))
                      : UINT32_MAX; /* tensor.glsl's GIVEN asks for it */
    memcpy(push + SID2_VK_BINDINGS, d->push, sizeof d->push);
    VkPipelineLayout layout = sid2_vk_pipeline_layout(device, d);
    vkCmdBindPipeline(commands, VK_PIPELINE_BIND_POINT_COMPUTE, p->pipelines[index]);
    vkCmdBindDescriptorSets(commands, VK_PIPELINE_BIND_POINT_COMPUTE, layout, 0, 1, &p->sets[index], 0, NULL);
    vkCmdPushConstants(commands, layout, VK_SHADER_STAGE_COMPUTE_BIT, 0, sizeof push, push);
    uint32_t base[3] = {0}, count[3];
    for (int i = 0; i < 3; i++) count[i] = d->groups[i] ? d->groups[i] : 1;
    record_groups(device, commands, base, count, d->work);
}

static bool add_hazards(const sid2_vk_device *device, sid2_vk_hazards *hazards, const sid2_vk_dispatch *d,
                        bool *barrier)
{
    sid2_vk_range access[SID2_VK_BINDINGS];
    int count = sid2_vk_shader_bindings(d->shader);
    for (int i = 0; i < count; i++) access[i] = place_of(device, d, i);
    return sid2_vk_hazard(hazards, access, count, barrier);
}

/* Ends the command buffer at hand, if any, and begins the next. */
static VkCommandBuffer next_commands(sid2_vk_device *device, sid2_vk_program *p, sid2_error *err)
{
    VkCommandBuffer *more = realloc(p->commands, (p->command_count + 1) * sizeof *more), commands;
    if (!more) return sid2_fail(err, SID2_ERR_MEMORY, "%s: out of memory recording", device->id), NULL;
    p->commands = more;
    if (p->command_count && !sid2_vk_ok(device, vkEndCommandBuffer(p->commands[p->command_count - 1]),
                                        "recording a program", err))
        return NULL;
    VkResult result = vkAllocateCommandBuffers(
        device->handle,
        &(VkCommandBufferAllocateInfo){.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
                                       .commandPool = p->pool,
                                       .commandBufferCount = 1},
        &commands);
    if (!sid2_vk_ok(device, result, "recording a program", err)) return NULL;
    p->commands[p->command_count++] = commands;
    p->recorded = 0;
    return sid2_vk_begin(device, commands, false, err) ? commands : NULL;
}

/* Once nothing runs any more. */
static void forget_commands(sid2_vk_device *device, sid2_vk_program *p)
{
    sid2_vk_idle(device);
    vkDestroyCommandPool(device->handle, p->pool, NULL);
    free(p->commands);
    p->pool = VK_NULL_HANDLE;
    p->commands = NULL;
    p->command_count = 0;
}

/* The time when nodes first .. last - 1 are done. */
static void stamp(const sid2_vk_program *p, VkCommandBuffer commands, int32_t first, int32_t last)
{
    for (int32_t i = first; p->clock && first >= 0 && i < last; i++)
        vkCmdWriteTimestamp(commands, VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT, p->clock, (uint32_t)i + 1);
}

/* The dispatches of nodes node .. end - 1, from `*next` on, beginning with a barrier: what ran before on this queue need not
 * be what was recorded before. */
static bool record_nodes(sid2_vk_device *device, sid2_vk_program *p, int32_t node, int32_t end, size_t *next,
                         sid2_error *err)
{
    VkCommandBuffer commands = next_commands(device, p, err);
    if (!commands) return false;
    sid2_vk_barrier(commands, COMPUTE, COMPUTE);
    if (p->clock && !node) {
        vkCmdResetQueryPool(commands, p->clock, 0, (uint32_t)p->node_count + 1);
        vkCmdWriteTimestamp(commands, VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT, p->clock, 0);
    }
    sid2_vk_hazards hazards = {0};
    bool ok = true;
    for (; ok && *next < p->record_count && p->records[*next].node < end; ++*next) {
        const sid2_vk_dispatch *d = &p->records[*next].dispatch;
        bool barrier;
        stamp(p, commands, node, p->records[*next].node);
        node = p->records[*next].node;
        if (p->recorded > 0 && p->recorded + d->work > longest(device, true))
            ok = (commands = next_commands(device, p, err)) != NULL;
        if (ok && !add_hazards(device, &hazards, d, &barrier))
            ok = sid2_fail(err, SID2_ERR_MEMORY, "%s: out of memory recording", device->id);
        if (!ok) break;
        if (barrier) sid2_vk_barrier(commands, COMPUTE, COMPUTE);
        record_dispatch(device, p, *next, commands);
        p->recorded += d->work;
    }
    if (ok) stamp(p, commands, node, end);
    sid2_vk_hazards_free(&hazards);
    return ok;
}

static bool record(sid2_vk_device *device, sid2_vk_program *p, sid2_error *err)
{
    VkResult result =
        vkCreateCommandPool(device->handle,
                            &(VkCommandPoolCreateInfo){.sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO,
                                                       .queueFamilyIndex = device->gpu->family},
                            NULL, &p->pool);
    if (result != VK_SUCCESS) p->pool = VK_NULL_HANDLE;
    if (!sid2_vk_ok(device, result, "recording a program", err)) return false;
    size_t next = 0;
    if (p->first_count && !record_nodes(device, p, SID2_VK_FIRST, 0, &next, err)) return false;
    p->first_commands = p->command_count;
    for (int section = 0, node = 0; section < p->section_count; node = p->section_end[section++]) {
        if (!record_nodes(device, p, node, p->section_end[section], &next, err)) return false;
        p->section_commands[section] = p->command_count;
    }
    return sid2_vk_ok(device, vkEndCommandBuffer(p->commands[p->command_count - 1]), "recording a program",
                      err);
}

/* ---- Programs ---- */

static bool find_pipelines(sid2_vk_device *device, sid2_vk_program *p, sid2_error *err)
{
    for (size_t i = 0; i < p->record_count; i++)
        if (!sid2_vk_pipeline_for(device, &p->records[i].dispatch, &p->pipelines[i], err)) return false;
    return true;
}

sid2_vk_program *sid2_vk_program_create(sid2_vk_device *device, sid2_steps *steps, sid2_arena *arena,
                                        sid2_error *err)
{
    size_t scratch, kept;
    sid2_vk_program *p = calloc(1, sizeof *p);
    bool ok = p ? lower(device, p, steps, &scratch, &kept, err) && sort_records(device, p, err) &&
                      find_scratch(device, p, arena, scratch, err) && find_kept(device, p, kept, err)
                : sid2_fail(err, SID2_ERR_MEMORY, "%s: out of memory for a program", device->id);
    sid2_steps_free(steps);
    if (ok && p->record_count) {
        p->sets = calloc(p->record_count, sizeof *p->sets);
        p->pipelines = calloc(p->record_count, sizeof *p->pipelines);
        ok = (p->sets && p->pipelines) ||
             sid2_fail(err, SID2_ERR_MEMORY, "%s: out of memory for a program", device->id);
        ok = ok && find_pipelines(device, p, err) && create_sets(device, p, err) && record(device, p, err);
    }
    if (ok) return p;
    sid2_vk_program_destroy(device, p);
    return NULL;
}

bool sid2_vk_program_compile(sid2_vk_device *device, sid2_steps *steps, sid2_error *err)
{
    size_t scratch, kept;
    sid2_vk_program p = {0};
    bool ok = lower(device, &p, steps, &scratch, &kept, err);
    sid2_steps_free(steps);
    for (size_t i = 0; ok && i < p.record_count; i++) {
        VkPipeline pipeline;
        ok = sid2_vk_pipeline_for(device, &p.records[i].dispatch, &pipeline, err);
    }
    free(p.records);
    return ok;
}

void sid2_vk_program_destroy(sid2_vk_device *device, sid2_vk_program *p)
{
    if (!p) return;
    forget_commands(device, p);
    vkDestroyQueryPool(device->handle, p->clock, NULL);
    vkDestroyDescriptorPool(device->handle, p->descriptor_pool, NULL);
    for (size_t i = 0; i < p->view_count; i++) vkDestroyBufferView(device->handle, p->views[i], NULL);
    if (p->own_scratch) sid2_vk_memory_destroy(device, &p->scratch);
    sid2_vk_kept_close(device, p->kept);
    free(p->times);
    free(p->pipelines);
    free(p->sets);
    free(p->views);
    free(p->records);
    free(p);
}

static bool read_clock(sid2_vk_device *device, sid2_vk_program *p, int section, sid2_error *err)
{
    int32_t first = section ? p->section_end[section - 1] : 0, count = p->section_end[section] - first;
    uint64_t *time = calloc((size_t)count + 1, sizeof *time);
    if (!time) return sid2_fail(err, SID2_ERR_MEMORY, "%s: out of memory reading the clock", device->id);
    size_t bytes = ((size_t)count + 1) * sizeof *time;
    VkResult result =
        vkGetQueryPoolResults(device->handle, p->clock, (uint32_t)first, (uint32_t)count + 1, bytes, time,
                              sizeof *time, VK_QUERY_RESULT_64_BIT | VK_QUERY_RESULT_WAIT_BIT);
    uint64_t mask = device->gpu->time_bits >= 64 ? UINT64_MAX : (1ull << device->gpu->time_bits) - 1;
    for (int32_t i = 0; i < count && result == VK_SUCCESS; i++) {
        uint64_t ticks = (time[i + 1] - time[i]) & mask;
        p->times[first + i].seconds += 1e-9 * (double)ticks * device->gpu->properties.limits.timestampPeriod;
        p->times[first + i].runs++;
    }
    free(time);
    return sid2_vk_ok(device, result, "reading the clock", err);
}

/* Makes what is kept, if what it is made of was written to since. */
static bool renew(sid2_vk_device *device, sid2_vk_program *p, sid2_error *err)
{
    uint64_t serial;
    if (!p->kept || !sid2_vk_kept_is_stale(p->kept)) return true;
    for (uint32_t i = 0; i < p->first_commands; i++)
        if (!sid2_vk_submit(device, p->commands[i], "packing weights", &serial, err)) return false;
    sid2_vk_kept_renewed(p->kept);
    return true;
}

bool sid2_vk_program_run(sid2_vk_device *device, sid2_vk_program *p, int section, sid2_error *err)
{
    if (!sid2_vk_flush(device, err) || !renew(device, p, err)) return false;
    uint64_t serial = 0;
    uint32_t first = section ? p->section_commands[section - 1] : p->first_commands,
             end = p->section_commands[section];
    for (uint32_t i = first; i < end; i++)
        if (!sid2_vk_submit(device, p->commands[i], "a program", &serial, err)) return false;
    return !p->clock || first == end ||
           (sid2_vk_wait(device, serial, "a program", err) && read_clock(device, p, section, err));
}

const sid2_node_time *sid2_vk_program_profile(sid2_vk_device *device, sid2_vk_program *p)
{
    if (p->times) return p->times;
    if (!device->gpu->time_bits || !p->record_count) return NULL;
    VkQueryPoolCreateInfo info = {.sType = VK_STRUCTURE_TYPE_QUERY_POOL_CREATE_INFO,
                                  .queryType = VK_QUERY_TYPE_TIMESTAMP,
                                  .queryCount = (uint32_t)p->node_count + 1};
    if (vkCreateQueryPool(device->handle, &info, NULL, &p->clock) != VK_SUCCESS)
        return p->clock = VK_NULL_HANDLE, NULL;
    sid2_error ignored;
    forget_commands(device, p);
    p->times = calloc((size_t)p->node_count + 1, sizeof *p->times);
    return record(device, p, &ignored) ? p->times : NULL;
}

size_t sid2_vk_program_workspace(const sid2_vk_program *p)
{
    return p->record_count * (sizeof *p->records + sizeof *p->sets) + p->own_kept;
}
