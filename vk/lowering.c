#include "lowering.h"

#include "pipeline.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Operators whose lowering is not linked in are NULL here. */
#define OP(name, inputs, outputs, attributes, gradient, formula)                                             \
    void sid2_vk_lower_##name(sid2_vk_lowering *, const sid2_vk_call *) __attribute__((weak));
#include "op.def"
static const sid2_vk_lower table[] = {
#define OP(name, inputs, outputs, attributes, gradient, formula) sid2_vk_lower_##name,
#include "op.def"
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
    sid2_vk_tensor t = {dtype, shape, lowering->scratch, lowering->scratch_used};
    lowering->scratch_used += (sid2_vk_bytes(&t) + 255) & ~(size_t)255;
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

void sid2_vk_emit(sid2_vk_lowering *lowering, const sid2_vk_dispatch *dispatch)
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
    *record = (sid2_vk_record){*dispatch, lowering->node};
    int bindings = sid2_vk_shader_bindings(dispatch->shader);
    for (int i = 0; i < SID2_VK_BINDINGS; i++) /* a tensor that the caller left out is absent, not a scalar */
        if (i >= bindings || !dispatch->tensor[i].memory) record->dispatch.tensor[i].shape.rank = -1;
}

/* ---- Cutting along the batch ---- */

/* Slots that hold one thing for the whole batch, by their names in op.def. All others begin with the batch,
 * or with a multiple of it (statistics by row); flat buffers count as batches of single elements. */
static bool whole(const char *name, size_t length)
{
    static const char *const names[] = {"w",     "bias", "gamma", "beta",   "table", "seed",   "coef", "norm",
                                        "hyper", "dw",   "dbias", "dgamma", "dbeta", "dtable", NULL};
    for (int i = 0; names[i]; i++)
        if (strlen(names[i]) == length && !memcmp(names[i], name, length)) return true;
    return false;
}

/* Calls `visit` with each slot that is cut; slots as in op.def: "x w bias? residual?=". */
static void each_cut(const char *slots, sid2_vk_tensor *tensor, void (*visit)(sid2_vk_tensor *, void *),
                     void *user)
{
    for (const char *at = slots; *at; tensor++) {
        size_t length = strcspn(at, " "), name = strcspn(at, " ?=+");
        if (sid2_vk_has(tensor) && tensor->shape.rank > 0 && !whole(at, name)) visit(tensor, user);
        at += length;
        while (*at == ' ') at++;
    }
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

/* How many samples fit; the whole batch where nothing needs to be cut or the operator cannot be. */
static cut plan_cut(const sid2_vk_lowering *lowering, const sid2_op_info *info, sid2_vk_call *call)
{
    const sid2_vk_tensor *first = sid2_vk_has(&call->in[0]) ? &call->in[0] : &call->out[0];
    if (call->op == SID2_OP_random_normal || call->op == SID2_OP_random_uniform) first = &call->out[0];
    cut c = {.batch = first->shape.rank > 0 ? first->shape.dim[0] : 1};
    c.samples = c.batch;
    if (call->op == SID2_OP_global_norm || call->op == SID2_OP_embedding) return c;
    each_cut(info->inputs, call->in, measure, &c);
    each_cut(info->outputs, call->out, measure, &c);
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
        return sid2_vk_refuse(lowering, "operator %s is not there yet", sid2_op_name(call->op)), false;
    const sid2_op_info info = sid2_op_describe(call->op);
    sid2_vk_call all = *call;
    cut c = plan_cut(lowering, &info, &all);
    for (; c.first < c.batch && !lowering->error.code; c.first += c.samples) {
        if (c.samples > c.batch - c.first) c.samples = c.batch - c.first;
        sid2_vk_call piece = *call;
        sid2_attr attr = *call->attr;
        if (c.samples < c.batch) {
            each_cut(info.inputs, piece.in, take, &c);
            each_cut(info.outputs, piece.out, take, &c);
            if (call->op == SID2_OP_random_normal || call->op == SID2_OP_random_uniform)
                attr.shape.dim[0] = c.samples;
            piece.attr = &attr;
        }
        lowering->scratch_used = 0;
        table[call->op](lowering, &piece);
    }
    return !lowering->error.code;
}
