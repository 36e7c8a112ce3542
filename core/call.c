#include "call.h"

#include <stdlib.h>

/* ---- Tables ---- */

static bool is_floating(sid2_dtype dtype) { return dtype <= SID2_F64; }

static bool has(const sid2_kernel_table *table, sid2_op op, unsigned types)
{
    return table->kernels[op].run && (types & ~table->types) == 0;
}

bool sid2_kernels_have(const sid2_kernels *kernels, sid2_op op, sid2_dtype compute)
{
    for (int i = 0; kernels->tables[i]; i++)
        if (has(kernels->tables[i], op, SID2_TYPE_BIT(compute))) return true;
    return false;
}

/* Beside another type, f64 is but what sums are kept in. */
static unsigned floating_types(const sid2_call *call)
{
    const unsigned f64 = SID2_TYPE_BIT(SID2_F64);
    unsigned types = 0;
    for (int i = 0; i < SID2_MAX_INPUTS + SID2_MAX_OUTPUTS; i++) {
        const sid2_operand *o = i < SID2_MAX_INPUTS ? &call->in[i] : &call->out[i - SID2_MAX_INPUTS];
        if (o->data && is_floating(o->dtype)) types |= SID2_TYPE_BIT(o->dtype);
    }
    return types == f64 ? f64 : types & ~f64;
}

static const sid2_kernel *choose(sid2_call *call, const sid2_kernel_table *const *tables, sid2_error *err)
{
    unsigned types = floating_types(call);
    sid2_error why = {.code = SID2_ERR_UNSUPPORTED, .message = "no kernel takes these tensors"};
    for (; *tables; tables++) {
        const sid2_kernel *kernel = &(*tables)->kernels[call->op];
        if (!has(*tables, call->op, types)) continue;
        call->state = NULL;
        call->scratch_bytes = 0;
        if (!kernel->prepare || kernel->prepare(call, &why)) return kernel;
        if (why.code != SID2_ERR_UNSUPPORTED) break;
    }
    if (err) *err = why;
    return NULL;
}

/* ---- Binding ---- */

/* The same numbers in the compute type, of a parameter. */
static void bind_low(sid2_operand *o, const sid2_graph *g, sid2_tensor tensor, const sid2_memory_map *map)
{
    for (int32_t s = 0; s < g->params_count; s++) {
        const sid2_params *params = &g->params[s];
        int64_t offset = sid2_params_offset(g, params, tensor);
        if (offset < 0 || g->tensors[tensor].base == params->read || !map->handle[params->read]) continue;
        o->low_dtype = g->tensors[params->read].dtype;
        o->low = (char *)map->handle[params->read] + (size_t)offset * sid2_dtype_size(o->low_dtype);
    }
}

static sid2_operand bind(const sid2_graph *g, const sid2_plan *plan, const sid2_memory_map *map,
                         sid2_tensor tensor)
{
    if (tensor == SID2_NONE) return (sid2_operand){0};
    const sid2_tensor_info *info = &g->tensors[tensor];
    sid2_plan_spot place = sid2_plan_place(plan, g, tensor);
    sid2_operand o = {.dtype = info->dtype, .shape = info->shape};
    if (place.external == SID2_NONE) {
        o.data = map->pieces[place.offset / map->span];
        o.offset = place.offset % map->span;
    } else {
        o.data = map->handle[place.external];
        o.offset = place.offset;
        o.version = map->version ? map->version[place.external] : NULL;
    }
    if (map->addresses) {
        o.data = (char *)o.data + o.offset;
        o.offset = 0;
        bind_low(&o, g, tensor, map);
    }
    return o;
}

/* The nodes before each stop, in order, each once; then all. */
static void cut(sid2_steps *steps, const sid2_graph *g)
{
    for (int32_t end = 0, next; end < steps->count; end = next) {
        next = steps->count;
        for (int32_t s = 0; s < g->stop_count; s++) {
            int32_t at = sid2_graph_stop_at(g, g->stops[s].name);
            if (at > end && at < next) next = at;
        }
        steps->section_end[steps->section_count++] = next;
    }
    if (!steps->section_count) steps->section_end[steps->section_count++] = 0;
}

bool sid2_steps_bind(sid2_steps *steps, const sid2_graph *g, const sid2_plan *plan,
                     const sid2_memory_map *map, sid2_error *err)
{
    *steps = (sid2_steps){.count = g->node_count};
    steps->item = calloc((size_t)g->node_count + 1, sizeof *steps->item);
    if (!steps->item)
        return sid2_fail(err, SID2_ERR_MEMORY, "out of memory preparing %d nodes", g->node_count);
    cut(steps, g);
    for (int32_t n = 0; n < g->node_count; n++) {
        const sid2_node *node = &g->nodes[n];
        sid2_call *call = &steps->item[n].call;
        call->op = node->op;
        call->attr = &node->attr;
        call->error = &steps->error;
        for (int i = 0; i < SID2_MAX_INPUTS; i++) call->in[i] = bind(g, plan, map, node->in[i]);
        for (int i = 0; i < SID2_MAX_OUTPUTS; i++) call->out[i] = bind(g, plan, map, node->out[i]);
    }
    return true;
}

/* ---- Preparing ---- */

bool sid2_steps_prepare(sid2_steps *steps, const sid2_kernels *kernels, sid2_error *err)
{
    for (int32_t n = 0; n < steps->count; n++) {
        sid2_step *step = &steps->item[n];
        sid2_call *call = &step->call;
        sid2_error why = {0};
        call->target = kernels->target;
        call->threads = kernels->threads;
        call->grain = kernels->grain;
        if (!(step->kernel = choose(call, kernels->tables, &why)))
            return sid2_fail(err, why.code, "node %d (%s): %s", n, sid2_op_name(call->op), why.message);
        if (call->scratch_bytes > steps->scratch_bytes) steps->scratch_bytes = call->scratch_bytes;
        if (step->kernel->owned) steps->owned += step->kernel->owned(call);
    }
    return true;
}

void sid2_steps_give_scratch(sid2_steps *steps, void *scratch)
{
    for (int32_t n = 0; n < steps->count; n++) steps->item[n].call.scratch = scratch;
}

static bool moves(void **address, const char *from, size_t bytes, char *to)
{
    const char *at = *address;
    if (!at || at < from || at >= from + bytes) return false;
    *address = to + (at - from);
    return true;
}

void sid2_steps_rebind(sid2_steps *steps, const void *from, size_t bytes, void *to, const uint64_t *version)
{
    for (int32_t n = 0; n < steps->count; n++) {
        sid2_call *call = &steps->item[n].call;
        for (int i = 0; i < SID2_MAX_INPUTS + SID2_MAX_OUTPUTS; i++) {
            sid2_operand *o = i < SID2_MAX_INPUTS ? &call->in[i] : &call->out[i - SID2_MAX_INPUTS];
            if (moves(&o->data, from, bytes, to)) o->version = version;
        }
    }
}

void sid2_steps_free(sid2_steps *steps)
{
    for (int32_t n = 0; steps->item && n < steps->count; n++) {
        sid2_step *step = &steps->item[n];
        if (step->kernel && step->kernel->release) step->kernel->release(&step->call);
    }
    free(steps->item);
    steps->item = NULL;
}
