#include "buffers.h"

#include <stdlib.h>
#include <string.h>

/* Whether a tensor is an external that some node reads or writes, itself or through a view. (A set of
 * parameters has all its flat buffers, also those that a graph does not use.) */
static bool is_buffer(const sid2_graph *graph, sid2_tensor tensor)
{
    if (!graph->tensors[tensor].external || graph->tensors[tensor].base != SID2_NONE) return false;
    for (int32_t n = 0; n < graph->node_count; n++) {
        for (int i = 0; i < SID2_MAX_INPUTS + SID2_MAX_OUTPUTS; i++) {
            const sid2_node *node = &graph->nodes[n];
            sid2_tensor used = i < SID2_MAX_INPUTS ? node->in[i] : node->out[i - SID2_MAX_INPUTS];
            if (used == tensor || (used != SID2_NONE && graph->tensors[used].base == tensor)) return true;
        }
    }
    return false;
}

static size_t bytes_of(const sid2_tensor_info *t)
{
    return (size_t)sid2_shape_count(t->shape) * sid2_dtype_size(t->dtype);
}

/* Whether a tensor is a flat array of parameters, or of their gradients. */
static bool is_params(const sid2_graph *graph, sid2_tensor tensor)
{
    for (int32_t s = 0; s < graph->params_count; s++) {
        const sid2_params *p = &graph->params[s];
        if (tensor == p->read || tensor == p->vectors || tensor == p->grads) return true;
    }
    return false;
}

static bool add(sid2_buffers *buffers, const char *name, sid2_buffer *buffer, sid2_error *err)
{
    if (buffers->count == buffers->capacity) {
        int capacity = buffers->capacity ? 2 * buffers->capacity : 16;
        sid2_binding *grown = realloc(buffers->item, (size_t)capacity * sizeof *grown);
        if (!grown) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory");
        buffers->item = grown;
        buffers->capacity = capacity;
    }
    sid2_binding binding = {strdup(name), buffer};
    if (!binding.name) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory");
    buffers->item[buffers->count++] = binding;
    return true;
}

bool sid2_buffers_add(sid2_buffers *buffers, const char *name, size_t bytes, sid2_error *err)
{
    if (sid2_buffers_find(buffers, name)) return true;
    sid2_buffer *buffer = sid2_buffer_create(buffers->device, bytes, err);
    return buffer && (add(buffers, name, buffer, err) || (sid2_buffer_destroy(buffer), false));
}

static bool provide(sid2_buffers *buffers, const sid2_graph *graph, bool params_only, sid2_error *err)
{
    for (sid2_tensor i = 0; i < graph->tensor_count; i++) {
        const sid2_tensor_info *t = &graph->tensors[i];
        if (!is_buffer(graph, i) || (params_only && !is_params(graph, i))) continue;
        if (!sid2_buffers_add(buffers, t->name, bytes_of(t), err)) return false;
    }
    return true;
}

bool sid2_buffers_params(sid2_buffers *buffers, const sid2_graph *graph, sid2_error *err)
{
    return provide(buffers, graph, true, err);
}

bool sid2_buffers_externals(sid2_buffers *buffers, const sid2_graph *graph, sid2_error *err)
{
    return provide(buffers, graph, false, err);
}

bool sid2_buffers_borrow(sid2_buffers *buffers, const sid2_buffers *from, sid2_error *err)
{
    for (int i = 0; i < from->count; i++, buffers->borrowed++)
        if (!add(buffers, from->item[i].name, from->item[i].buffer, err)) return false;
    return true;
}

sid2_buffer *sid2_buffers_find(const sid2_buffers *buffers, const char *name)
{
    for (int i = 0; i < buffers->count; i++)
        if (strcmp(buffers->item[i].name, name) == 0) return buffers->item[i].buffer;
    return NULL;
}

size_t sid2_buffers_bytes(const sid2_buffers *buffers)
{
    size_t bytes = 0;
    for (int i = buffers->borrowed; i < buffers->count; i++) bytes += buffers->item[i].buffer->bytes;
    return bytes;
}

void sid2_buffers_clear(sid2_buffers *buffers)
{
    for (int i = 0; i < buffers->count; i++) {
        if (i >= buffers->borrowed) sid2_buffer_destroy(buffers->item[i].buffer);
        free((char *)buffers->item[i].name);
    }
    free(buffers->item);
    *buffers = (sid2_buffers){.device = buffers->device};
}

bool sid2_buffers_upload(sid2_buffers *buffers, const char *name, const void *from, sid2_error *err)
{
    sid2_buffer *buffer = sid2_buffers_find(buffers, name);
    if (!buffer) return sid2_fail(err, SID2_ERR_INTERNAL, "no buffer '%s'", name);
    return sid2_buffer_upload(buffer, 0, from, buffer->bytes, err);
}

bool sid2_buffers_download(const sid2_buffers *buffers, const char *name, void *to, sid2_error *err)
{
    const sid2_buffer *buffer = sid2_buffers_find(buffers, name);
    if (!buffer) return sid2_fail(err, SID2_ERR_INTERNAL, "no buffer '%s'", name);
    return sid2_buffer_download(buffer, 0, to, buffer->bytes, err);
}

sid2_program *sid2_buffers_program(sid2_buffers *buffers, const sid2_graph *graph, sid2_arena *arena,
                                   sid2_error *err)
{
    if (!provide(buffers, graph, false, err)) return NULL;
    return sid2_program_create(buffers->device, graph, arena, buffers->item, buffers->count, err);
}

static bool is_counted(const sid2_graph *const *graphs, int count, const char *name)
{
    for (int i = 0; i < count; i++) {
        sid2_tensor tensor = sid2_graph_find(graphs[i], name);
        if (tensor != SID2_NONE && is_buffer(graphs[i], tensor)) return true;
    }
    return false;
}

size_t sid2_externals_bytes(const sid2_graph *const *graphs, int count, bool params)
{
    size_t bytes = 0;
    for (int k = 0; k < count; k++)
        for (sid2_tensor i = 0; i < graphs[k]->tensor_count; i++)
            if (is_buffer(graphs[k], i) && is_params(graphs[k], i) == params &&
                !is_counted(graphs, k, graphs[k]->tensors[i].name))
                bytes += bytes_of(&graphs[k]->tensors[i]);
    return bytes;
}
