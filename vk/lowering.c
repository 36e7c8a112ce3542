#include "lowering.h"

#include "pipeline.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const sid2_vk_lower table[SID2_OP_COUNT] = {
#define KERNEL(name) [SID2_OP_##name] = sid2_vk_lower_##name,
#include "lower.def"
};

bool sid2_vk_lowers(sid2_op op) { return table[op] != NULL; }

/* ---- Questions ---- */

const sid2_vk_caps *sid2_vk_lowering_caps(const sid2_vk_lowering *lowering) { return lowering->device->caps; }
const sid2_vk_tiles *sid2_vk_lowering_tiles(const sid2_vk_lowering *l) { return l->device->tiles; }
int64_t sid2_vk_count(const sid2_vk_tensor *t) { return sid2_shape_count(t->shape); }
int64_t sid2_vk_last(const sid2_vk_tensor *t) { return t->shape.rank ? t->shape.dim[t->shape.rank - 1] : 1; }
int64_t sid2_vk_rows(const sid2_vk_tensor *t) { return sid2_vk_count(t) / sid2_vk_last(t); }
int64_t sid2_vk_rows_per_sample(const sid2_vk_tensor *t) { return sid2_vk_rows(t) / t->shape.dim[0]; }
bool sid2_vk_quads(const sid2_vk_tensor *t) { return t->offset % (4 * sid2_dtype_size(t->dtype)) == 0; }
size_t sid2_vk_bytes(const sid2_vk_tensor *t)
{
    return sid2_vk_has(t) ? (size_t)sid2_vk_count(t) * sid2_dtype_size(t->dtype) : 0;
}

/* ---- Collecting ---- */

void sid2_vk_refuse(sid2_vk_lowering *lowering, const char *format, ...)
{
    if (lowering->error.code) return;
    char text[300];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    sid2_fail(&lowering->error, SID2_ERR_UNSUPPORTED, "%s: %s", lowering->device->id, text);
}

sid2_vk_tensor sid2_vk_scratch(sid2_vk_lowering *lowering, sid2_dtype dtype, sid2_shape shape)
{
    sid2_vk_tensor t = {dtype, shape, lowering->scratch, lowering->scratch_used, NULL};
    lowering->scratch_used += sid2_vk_whole_lines(sid2_vk_bytes(&t));
    if (lowering->scratch_used > lowering->scratch_bytes) lowering->scratch_bytes = lowering->scratch_used;
    return t;
}

/* What the device cannot do, whichever lowering asks for it. */
static bool check_limits(sid2_vk_lowering *lowering, const sid2_vk_dispatch *d)
{
    const sid2_vk_caps *caps = lowering->device->caps;
    const char *shader = sid2_vk_shader_name(d->shader);
    uint64_t invocations = 1;
    for (int i = 0; i < 3; i++) {
        uint32_t local = d->local[i] ? d->local[i] : 1;
        invocations *= local;
        if (local > caps->max_local[i]) invocations = UINT64_MAX / 2;
    }
    if (invocations > caps->max_invocations)
        return sid2_vk_refuse(lowering, "shader %s asks for groups of %ux%ux%u, the device takes %u", shader,
                              d->local[0], d->local[1], d->local[2], caps->max_invocations),
               false;
    int bindings = sid2_vk_shader_bindings(d->shader), written = 0;
    for (int i = 0; i < bindings; i++)
        written += sid2_vk_has(&d->tensor[i]) && d->tensor[i].memory && sid2_vk_shader_writes(d->shader, i);
    if (!written) return sid2_vk_refuse(lowering, "shader %s would write nothing", shader), false;
    if ((uint32_t)bindings > caps->max_bindings)
        return sid2_vk_refuse(lowering, "shader %s binds %d tensors, the device takes %u", shader, bindings,
                              caps->max_bindings),
               false;
    for (int i = 0; i < bindings; i++) {
        const sid2_vk_tensor *t = &d->tensor[i];
        char text[64];
        size_t reach = sid2_vk_bytes(t) + (t->offset & (caps->offset_alignment - 1));
        if (sid2_vk_has(t) && t->memory && t->memory->bytes &&
            t->offset + sid2_vk_bytes(t) > t->memory->bytes)
            return sid2_vk_refuse(lowering, "shader %s: a tensor of %s %s does not fit in one allocation",
                                  shader, sid2_dtype_name(t->dtype), sid2_shape_text(t->shape, text)),
                   false;
        if (sid2_vk_has(t) && t->memory && reach > caps->max_range)
            return sid2_vk_refuse(lowering,
                                  "shader %s: a tensor of %s %s is larger than one binding spans (%zu MiB)",
                                  shader, sid2_dtype_name(t->dtype), sid2_shape_text(t->shape, text),
                                  caps->max_range >> 20),
                   false;
    }
    return true;
}

void sid2_vk_append(sid2_vk_lowering *lowering, const sid2_vk_dispatch *dispatch, int32_t node)
{
    if (lowering->error.code || !check_limits(lowering, dispatch)) return;
    if (lowering->count == lowering->capacity) {
        size_t capacity = lowering->capacity ? 2 * lowering->capacity : 64;
        sid2_vk_record *larger = realloc(lowering->records, capacity * sizeof *larger);
        if (!larger) {
            sid2_fail(&lowering->error, SID2_ERR_MEMORY, "%s: out of memory for %zu dispatches",
                      lowering->device->id, capacity);
            return;
        }
        lowering->records = larger;
        lowering->capacity = capacity;
    }
    sid2_vk_record *record = &lowering->records[lowering->count++];
    *record = (sid2_vk_record){*dispatch, node};
    int bindings = sid2_vk_shader_bindings(dispatch->shader);
    for (int i = 0; i < SID2_VK_BINDINGS; i++) /* a tensor that the caller left out is absent, not a scalar */
        if (i >= bindings || !dispatch->tensor[i].memory) record->dispatch.tensor[i].shape.rank = -1;
}

void sid2_vk_emit(sid2_vk_lowering *lowering, const sid2_vk_dispatch *dispatch)
{
    sid2_vk_append(lowering, dispatch, lowering->node);
}

/* ---- Cutting along the batch ---- */

/* Calls `visit` with each tensor that is cut: all but those that are one for the whole batch. Flat buffers count as
 * batches of single elements. */
static void each_cut(const sid2_slot *slot, int count, sid2_vk_tensor *tensor,
                     void (*visit)(sid2_vk_tensor *, void *), void *user)
{
    for (int i = 0; i < count; i++)
        if (sid2_vk_has(&tensor[i]) && tensor[i].shape.rank > 0 && !slot[i].whole) visit(&tensor[i], user);
}

typedef struct cut {
    int64_t batch, first, samples; /* samples first .. first + samples - 1 of the batch */
    size_t largest;                /* bytes of a sample */
} cut;

static void measure(sid2_vk_tensor *t, void *user)
{
    cut *c = user;
    size_t sample = sid2_vk_bytes(t) / (size_t)c->batch;
    if (sample > c->largest) c->largest = sample;
}

static void take(sid2_vk_tensor *t, void *user)
{
    const cut *c = user;
    size_t sample = sid2_vk_bytes(t) / (size_t)c->batch;
    t->shape.dim[0] = t->shape.dim[0] / c->batch * c->samples;
    t->offset += sample * (size_t)c->first;
}

/* The extent of the first tensor that is cut. An operator whose result is one for the whole batch, and not added
 * to, is not cut. */
static int64_t batch_of(const sid2_op_info *info, const sid2_vk_call *call)
{
    for (int i = 0; i < info->output_count; i++)
        if (info->output[i].whole && !info->output[i].accumulate) return 1;
    for (int i = 0; i < info->input_count; i++)
        if (sid2_vk_has(&call->in[i]) && !info->input[i].whole)
            return call->in[i].shape.rank > 0 ? call->in[i].shape.dim[0] : 1;
    return call->out[0].shape.rank > 0 ? call->out[0].shape.dim[0] : 1;
}

/* How many samples fit; the whole batch where nothing needs to be cut or the operator cannot be. */
static cut plan_cut(const sid2_vk_lowering *lowering, const sid2_op_info *info, sid2_vk_call *call)
{
    cut c = {.batch = batch_of(info, call)};
    c.samples = c.batch;
    if (c.batch < 2) return c;
    each_cut(info->input, info->input_count, call->in, measure, &c);
    each_cut(info->output, info->output_count, call->out, measure, &c);
    size_t room = lowering->device->caps->max_range - lowering->device->caps->offset_alignment;
    if (c.largest && c.largest * (size_t)c.batch > room) {
        c.samples = (int64_t)(room / c.largest);
        if (c.samples > 128)
            c.samples -= c.samples % 128; /* so that pieces of flat buffers begin with whole quads */
        if (c.samples < 1) c.samples = 1;
    }
    return c;
}

bool sid2_vk_lower_call(sid2_vk_lowering *lowering, const sid2_vk_call *call)
{
    if (!table[call->op])
        return sid2_vk_refuse(lowering, "operator %s is not there", sid2_op_name(call->op)), false;
    const sid2_op_info info = sid2_op_describe(call->op);
    sid2_vk_call all = *call;
    cut c = plan_cut(lowering, &info, &all);
    for (; c.first < c.batch && !lowering->error.code; c.first += c.samples) {
        if (c.samples > c.batch - c.first) c.samples = c.batch - c.first;
        sid2_vk_call piece = *call;
        if (c.samples < c.batch) {
            each_cut(info.input, info.input_count, piece.in, take, &c);
            each_cut(info.output, info.output_count, piece.out, take, &c);
        }
        lowering->scratch_used = 0;
        table[call->op](lowering, &piece);
    }
    return !lowering->error.code;
}
