#include "graph.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- Storage ---- */

sid2_graph *sid2_graph_create(sid2_dtype compute)
{
    sid2_graph *g = calloc(1, sizeof *g);
    if (!g) return NULL;
    g->compute = compute;
    g->master = compute == SID2_F64 ? SID2_F64 : SID2_F32;
    g->segment = -1;
    return g;
}

void sid2_graph_destroy(sid2_graph *g)
{
    if (!g) return;
    for (int32_t i = 0; i < g->tensor_count; i++) free((char *)g->tensors[i].name);
    for (int32_t s = 0; s < g->params_count; s++) {
        sid2_params *params = &g->params[s];
        for (int32_t i = 0; i < params->count; i++) free((char *)params->item[i].name);
        free(params->item);
        free((char *)params->name);
    }
    free(g->tensors);
    free(g->nodes);
    free(g->grad_of);
    free(g);
}

/* Makes room for one more element; on failure the graph holds the error. */
static bool grow(sid2_graph *g, void **array, int32_t count, int32_t *capacity, size_t size)
{
    if (g->error.code) return false;
    if (count < *capacity) return true;
    int32_t wanted = *capacity ? 2 * *capacity : 64;
    void *larger = realloc(*array, (size_t)wanted * size);
    if (!larger) return sid2_fail(&g->error, SID2_ERR_MEMORY, "out of memory building the graph");
    *array = larger;
    *capacity = wanted;
    return true;
}

static char *copy_name(sid2_graph *g, const char *name)
{
    char *copy = strdup(name);
    if (!copy) sid2_fail(&g->error, SID2_ERR_MEMORY, "out of memory building the graph");
    return copy;
}

static sid2_tensor add_tensor(sid2_graph *g, sid2_tensor_info info)
{
    if (!grow(g, (void **)&g->tensors, g->tensor_count, &g->tensor_capacity, sizeof *g->tensors))
        return SID2_NONE;
    if (info.name && !(info.name = copy_name(g, info.name))) return SID2_NONE;
    g->tensors[g->tensor_count] = info;
    return g->tensor_count++;
}

/* ---- Leaves ---- */

static sid2_tensor add_external(sid2_graph *g, const char *name, sid2_dtype dtype, sid2_shape shape,
                                bool grad)
{
    if (g->error.code) return SID2_NONE;
    if (sid2_graph_find(g, name) != SID2_NONE)
        return sid2_fail(&g->error, SID2_ERR_INTERNAL, "the graph has two externals named '%s'", name),
               SID2_NONE;
    return add_tensor(g, (sid2_tensor_info){.name = name,
                                            .dtype = dtype,
                                            .shape = shape,
                                            .external = true,
                                            .requires_grad = grad,
                                            .base = SID2_NONE,
                                            .producer = -1});
}

sid2_tensor sid2_graph_external(sid2_graph *g, const char *name, sid2_dtype dtype, sid2_shape shape)
{
    return add_external(g, name, dtype, shape, false);
}

sid2_tensor sid2_graph_variable(sid2_graph *g, const char *name, sid2_dtype dtype, sid2_shape shape)
{
    return add_external(g, name, dtype, shape, true);
}

static sid2_tensor add_view(sid2_graph *g, sid2_tensor of, int64_t offset, sid2_shape shape, bool grad)
{
    if (g->error.code || of == SID2_NONE) return SID2_NONE;
    const sid2_tensor_info *info = &g->tensors[of];
    return add_tensor(g, (sid2_tensor_info){.dtype = info->dtype,
                                            .shape = shape,
                                            .external = info->external,
                                            .requires_grad = grad,
                                            .base = sid2_graph_base(g, of),
                                            .offset = info->offset + offset,
                                            .producer = -1});
}

sid2_tensor sid2_graph_view(sid2_graph *g, sid2_tensor base, int64_t offset, sid2_shape shape)
{
    return add_view(g, base, offset, shape, false);
}

sid2_tensor sid2_reshape(sid2_graph *g, sid2_tensor x, sid2_shape shape)
{
    if (g->error.code || x == SID2_NONE) return SID2_NONE;
    const sid2_tensor_info *info = &g->tensors[x];
    if (sid2_shape_equal(info->shape, shape)) return x;
    if (sid2_shape_count(info->shape) != sid2_shape_count(shape)) {
        char text[2][64];
        sid2_fail(&g->error, SID2_ERR_INTERNAL, "a tensor of %s cannot become %s",
                  sid2_shape_text(info->shape, text[0]), sid2_shape_text(shape, text[1]));
        return SID2_NONE;
    }
    /* Reshaped back, it is the tensor itself again. */
    sid2_tensor base = sid2_graph_base(g, x);
    const sid2_tensor_info *b = &g->tensors[base];
    if (sid2_shape_equal(b->shape, shape) && b->requires_grad == info->requires_grad) return base;
    return add_view(g, x, 0, shape, info->requires_grad);
}

sid2_tensor sid2_stop_gradient(sid2_graph *g, sid2_tensor x)
{
    if (g->error.code || x == SID2_NONE || !g->tensors[x].requires_grad) return x;
    return add_view(g, x, 0, g->tensors[x].shape, false);
}

sid2_tensor sid2_graph_activation(sid2_graph *g, sid2_type type)
{
    return add_tensor(
        g, (sid2_tensor_info){.dtype = type.dtype, .shape = type.shape, .base = SID2_NONE, .producer = -1});
}

const char *sid2_params_buffer(const char *set, const char *what, char name[96])
{
    snprintf(name, 96, "%s%s%s", set, set[0] ? "." : "", what);
    return name;
}

static sid2_tensor add_flat(sid2_graph *g, const sid2_params *params, const char *what, sid2_dtype dtype)
{
    char name[96];
    return sid2_graph_external(g, sid2_params_buffer(params->name, what, name), dtype, sid2_shape_of(0));
}

sid2_params *sid2_graph_params(sid2_graph *g, const char *name, bool trained)
{
    if (g->error.code) return NULL;
    for (int32_t s = 0; s < g->params_count; s++) {
        sid2_params *params = &g->params[s];
        if (strcmp(params->name, name) != 0) continue;
        if (params->trained == trained) return params;
        return sid2_fail(&g->error, SID2_ERR_INTERNAL, "the parameters '%s' are %s elsewhere in the graph",
                         name, params->trained ? "trained" : "frozen"),
               NULL;
    }
    if (g->params_count == SID2_MAX_PARAMS || strlen(name) > 64)
        return sid2_fail(&g->error, SID2_ERR_INTERNAL,
                         "the parameters '%s' are one set too many, or their name is long", name),
               NULL;
    sid2_params *params = &g->params[g->params_count];
    *params = (sid2_params){.name = copy_name(g, name), .trained = trained, .grads = SID2_NONE};
    if (!params->name) return NULL;
    g->params_count++;
    bool low = g->compute != g->master;
    params->read = params->vectors = add_flat(g, params, low ? "weights_low" : "weights", g->compute);
    if (low) params->vectors = add_flat(g, params, "vectors", g->master);
    if (trained) params->grads = add_flat(g, params, "grads", g->master);
    return g->error.code ? NULL : params;
}

/* A parameter that is there already, asked for again. */
static sid2_tensor same_param(sid2_graph *g, const sid2_param *known, sid2_shape shape, bool matrix)
{
    char text[2][64];
    if (sid2_shape_equal(known->shape, shape) && known->matrix == matrix) return known->tensor;
    sid2_fail(&g->error, SID2_ERR_INTERNAL,
              "the parameter '%s' is a %s of %s, and was asked for as a %s of %s", known->name,
              known->matrix ? "matrix" : "vector", sid2_shape_text(known->shape, text[0]),
              matrix ? "matrix" : "vector", sid2_shape_text(shape, text[1]));
    return SID2_NONE;
}

/* Elements that a parameter takes. */
static int64_t room_of(const sid2_param *param)
{
    return (sid2_shape_count(param->shape) + SID2_PARAM_ALIGN - 1) / SID2_PARAM_ALIGN * SID2_PARAM_ALIGN;
}

sid2_tensor sid2_graph_param(sid2_graph *g, sid2_params *params, const char *name, sid2_shape shape,
                             bool matrix, float init_mean, float init_std)
{
    if (g->error.code || !params) return SID2_NONE;
    for (int32_t i = 0; i < params->count; i++)
        if (!strcmp(params->item[i].name, name)) return same_param(g, &params->item[i], shape, matrix);
    if (!grow(g, (void **)&params->item, params->count, &params->capacity, sizeof *params->item))
        return SID2_NONE;
    sid2_param param = {.name = copy_name(g, name),
                        .shape = shape,
                        .offset = params->elements,
                        .init_mean = init_mean,
                        .init_std = init_std,
                        .matrix = matrix};
    if (!param.name) return SID2_NONE;
    bool apart = !matrix && params->vectors != params->read;
    param.place = apart ? params->vector_elements : param.offset;
    param.tensor = add_view(g, matrix ? params->read : params->vectors, param.place, shape, params->trained);
    params->item[params->count++] = param;
    params->elements += room_of(&param);
    if (apart) params->vector_elements += room_of(&param);
    return param.tensor;
}

int64_t sid2_params_offset(const sid2_graph *g, const sid2_params *params, sid2_tensor tensor)
{
    if (tensor == SID2_NONE) return -1;
    const sid2_tensor_info *info = &g->tensors[tensor];
    if (info->base == params->read) return info->offset;
    for (int32_t i = 0; info->base == params->vectors && i < params->count; i++) {
        const sid2_param *param = &params->item[i];
        int64_t within = info->offset - param->place;
        if (!param->matrix && within >= 0 && within < room_of(param)) return param->offset + within;
    }
    return -1;
}

int64_t sid2_params_vectors(const sid2_params *params, int64_t elements)
{
    int64_t count = 0;
    for (int32_t i = 0; i < params->count && params->item[i].offset < elements; i++) {
        const sid2_param *param = &params->item[i];
        int64_t before = elements - param->offset, room = room_of(param);
        if (!param->matrix) count += before < room ? before : room;
    }
    return params->vectors == params->read ? 0 : count;
}

void sid2_graph_begin_segment(sid2_graph *g) { g->segment = g->segment_count++; }
void sid2_graph_end_segment(sid2_graph *g) { g->segment = -1; }

/* ---- Nodes ---- */

sid2_type sid2_graph_type(const sid2_graph *g, sid2_tensor t)
{
    if (t == SID2_NONE) return (sid2_type){.shape.rank = -1};
    return (sid2_type){g->tensors[t].dtype, g->tensors[t].shape};
}

/* Appends a node whose outputs are the given tensors, or new activations where `out` says SID2_NONE. */
static sid2_node *append(sid2_graph *g, sid2_op op, sid2_attr attr, const sid2_tensor *in, int count,
                         const sid2_tensor *out, int out_count, bool optional_outputs)
{
    if (!grow(g, (void **)&g->nodes, g->node_count, &g->node_capacity, sizeof *g->nodes)) return NULL;
    sid2_op_info info = sid2_op_describe(op);
    sid2_node node = {.op = op, .attr = attr, .segment = g->segment};
    sid2_type in_type[SID2_MAX_INPUTS], out_type[SID2_MAX_OUTPUTS];
    bool requires_grad = false;
    for (int i = 0; i < SID2_MAX_INPUTS; i++) {
        node.in[i] = i < count ? in[i] : SID2_NONE;
        in_type[i] = sid2_graph_type(g, node.in[i]);
        if (node.in[i] != SID2_NONE) requires_grad |= g->tensors[node.in[i]].requires_grad;
    }
    if (!sid2_op_infer(op, &attr, in_type, out_type, &g->error)) return NULL;
    for (int i = 0; i < SID2_MAX_OUTPUTS; i++) {
        node.out[i] = i < out_count ? out[i] : SID2_NONE;
        if (i >= info.output_count) continue;
        if (node.out[i] == SID2_NONE) {
            if (info.output[i].optional && !optional_outputs) continue;
            node.out[i] = add_tensor(g, (sid2_tensor_info){.dtype = out_type[i].dtype,
                                                           .shape = out_type[i].shape,
                                                           .requires_grad = requires_grad,
                                                           .base = SID2_NONE,
                                                           .producer = g->node_count});
            if (node.out[i] == SID2_NONE) return NULL;
        } else {
            sid2_tensor_info *t = &g->tensors[node.out[i]];
            if (!sid2_shape_equal(t->shape, out_type[i].shape) || t->dtype != out_type[i].dtype) {
                char text[2][64];
                sid2_fail(&g->error, SID2_ERR_INTERNAL, "operator %s makes %s %s where %s %s is wanted",
                          info.name, sid2_dtype_name(out_type[i].dtype),
                          sid2_shape_text(out_type[i].shape, text[0]), sid2_dtype_name(t->dtype),
                          sid2_shape_text(t->shape, text[1]));
                return NULL;
            }
            if (t->producer < 0 && t->base == SID2_NONE) t->producer = g->node_count;
        }
    }
    g->nodes[g->node_count] = node;
    return &g->nodes[g->node_count++];
}

sid2_tensor sid2_graph_emit(sid2_graph *g, sid2_op op, sid2_attr attr, const sid2_tensor *in, int count,
                            bool optional_outputs)
{
    sid2_node *node = append(g, op, attr, in, count, NULL, 0, optional_outputs);
    return node ? node->out[0] : SID2_NONE;
}

void sid2_graph_emit_into(sid2_graph *g, sid2_op op, sid2_attr attr, const sid2_tensor *in, int count,
                          const sid2_tensor *out, int out_count)
{
    append(g, op, attr, in, count, out, out_count, false);
}

sid2_tensor sid2_graph_output(const sid2_graph *g, sid2_tensor tensor, int index)
{
    if (tensor == SID2_NONE || g->error.code) return SID2_NONE;
    return g->nodes[g->tensors[sid2_graph_base(g, tensor)].producer].out[index];
}

sid2_tensor sid2_graph_export(sid2_graph *g, sid2_tensor tensor, const char *name)
{
    if (tensor == SID2_NONE || g->error.code) return SID2_NONE;
    sid2_tensor base = sid2_graph_base(g, tensor);
    if (g->tensors[base].external || sid2_graph_find(g, name) != SID2_NONE)
        return sid2_fail(&g->error, SID2_ERR_INTERNAL, "cannot export a tensor as '%s'", name), SID2_NONE;
    char *copy = copy_name(g, name);
    if (!copy) return SID2_NONE;
    g->tensors[base].name = copy;
    for (sid2_tensor t = 0; t < g->tensor_count; t++)
        if (sid2_graph_base(g, t) == base) g->tensors[t].external = true;
    return tensor;
}

/* ---- Stops ---- */

static sid2_stop *add_stop(sid2_graph *g, const char *name)
{
    if (g->error.code) return NULL;
    if (g->stop_count == SID2_MAX_STOPS || strlen(name) >= sizeof g->stops[0].name ||
        sid2_graph_stop_at(g, name) >= 0) {
        sid2_fail(&g->error, SID2_ERR_INTERNAL,
                  "'%s' is one stop too many, too long a name, or there already", name);
        return NULL;
    }
    sid2_stop *stop = &g->stops[g->stop_count++];
    snprintf(stop->name, sizeof stop->name, "%s", name);
    return stop;
}

void sid2_graph_stop(sid2_graph *g, const char *name, sid2_tensor tensor, int64_t first, int64_t count)
{
    sid2_stop *stop = tensor == SID2_NONE ? NULL : add_stop(g, name);
    if (!stop) return;
    stop->tensor = sid2_graph_base(g, tensor);
    stop->first = g->tensors[tensor].offset + first;
    stop->count = count;
}

void sid2_graph_stop_before(sid2_graph *g, const char *name, const sid2_params *params, int64_t first,
                            int64_t count)
{
    sid2_stop *stop = add_stop(g, name);
    if (!stop) return;
    stop->tensor = SID2_NONE;
    stop->params = params;
    stop->first = first;
    stop->count = count;
}

bool sid2_graph_reads(const sid2_graph *g, const sid2_node *node, const sid2_params *params, int64_t first,
                      int64_t count)
{
    for (int k = 0; k < SID2_MAX_INPUTS; k++) {
        int64_t offset = sid2_params_offset(g, params, node->in[k]);
        if (offset < 0) continue;
        int64_t end = offset + sid2_shape_count(g->tensors[node->in[k]].shape);
        if (offset < first + count && first < end) return true;
    }
    return false;
}

static bool writes(const sid2_graph *g, const sid2_node *node, const sid2_stop *stop)
{
    for (int k = 0; k < SID2_MAX_OUTPUTS; k++) {
        sid2_tensor t = node->out[k];
        if (t == SID2_NONE || sid2_graph_base(g, t) != stop->tensor) continue;
        int64_t first = g->tensors[t].offset, end = first + sid2_shape_count(g->tensors[t].shape);
        if (first < stop->first + stop->count && stop->first < end) return true;
    }
    return false;
}

int32_t sid2_graph_stop_at(const sid2_graph *g, const char *name)
{
    for (int32_t s = 0; s < g->stop_count; s++) {
        const sid2_stop *stop = &g->stops[s];
        int32_t end = g->node_count, at = 0;
        if (strcmp(stop->name, name) != 0) continue;
        while (stop->params && at < end &&
               !sid2_graph_reads(g, &g->nodes[at], stop->params, stop->first, stop->count))
            at++;
        if (stop->params) return at;
        while (end > 0 && !writes(g, &g->nodes[end - 1], &g->stops[s])) end--;
        return end;
    }
    return -1;
}

bool sid2_graph_finish(sid2_graph *g, sid2_error *err)
{
    if (g->error.code) return sid2_fail(err, g->error.code, "%s", g->error.message);
    for (int32_t s = 0; s < g->params_count; s++) {
        const sid2_params *params = &g->params[s];
        sid2_shape flat = sid2_shape_of(params->elements);
        g->tensors[params->vectors].shape = sid2_shape_of(params->vector_elements);
        g->tensors[params->read].shape = flat;
        if (params->trained) g->tensors[params->grads].shape = flat;
    }
    return true;
}

sid2_tensor sid2_graph_find(const sid2_graph *g, const char *name)
{
    for (sid2_tensor t = 0; t < g->tensor_count; t++)
        if (g->tensors[t].external && g->tensors[t].name && !strcmp(g->tensors[t].name, name)) return t;
    return SID2_NONE;
}

sid2_cost sid2_graph_node_cost(const sid2_graph *g, const sid2_node *node)
{
    sid2_type in[SID2_MAX_INPUTS], out[SID2_MAX_OUTPUTS];
    for (int i = 0; i < SID2_MAX_INPUTS; i++) in[i] = sid2_graph_type(g, node->in[i]);
    for (int i = 0; i < SID2_MAX_OUTPUTS; i++) out[i] = sid2_graph_type(g, node->out[i]);
    return sid2_op_cost(node->op, &node->attr, in, out);
}

sid2_cost sid2_graph_cost(const sid2_graph *g)
{
    sid2_cost sum = {0};
    for (int32_t n = 0; n < g->node_count; n++) {
        sid2_cost cost = sid2_graph_node_cost(g, &g->nodes[n]);
        sum.multiply_adds += cost.multiply_adds;
        sum.bytes += cost.bytes;
    }
    return sum;
}

/* ---- Builders ---- */

#define EMIT(op, attr, ...)                                                                                  \
    sid2_graph_emit(g, SID2_OP_##op, attr, (sid2_tensor[]){__VA_ARGS__},                                     \
                    (int)(sizeof((sid2_tensor[]){__VA_ARGS__}) / sizeof(sid2_tensor)), false)
#define ATTR(...) ((sid2_attr){__VA_ARGS__})
#define NO_ATTR   ((sid2_attr){0})

sid2_tensor sid2_linear_to(sid2_graph *g, sid2_dtype dtype, sid2_tensor x, sid2_tensor w, sid2_tensor bias)
{
    return EMIT(linear, ATTR(.dtype = dtype), x, w, bias);
}

sid2_tensor sid2_linear(sid2_graph *g, sid2_tensor x, sid2_tensor w, sid2_tensor bias)
{
    return sid2_linear_to(g, x == SID2_NONE ? SID2_F32 : g->tensors[x].dtype, x, w, bias);
}

sid2_tensor sid2_conv2d(sid2_graph *g, sid2_tensor x, sid2_tensor w, sid2_tensor bias)
{
    return EMIT(conv2d, NO_ATTR, x, w, bias);
}

sid2_tensor sid2_group_norm(sid2_graph *g, sid2_tensor x, sid2_tensor gamma, sid2_tensor beta, int groups,
                            float eps)
{
    return EMIT(group_norm, ATTR(.groups = groups, .eps = eps), x, gamma, beta);
}

sid2_tensor sid2_layer_norm(sid2_graph *g, sid2_tensor x, sid2_tensor gamma, sid2_tensor beta, float eps)
{
    return EMIT(row_norm, ATTR(.center = 1, .eps = eps), x, gamma, beta);
}

sid2_tensor sid2_rms_norm(sid2_graph *g, sid2_tensor x, sid2_tensor gamma, float eps)
{
    return EMIT(row_norm, ATTR(.eps = eps), x, gamma);
}

sid2_tensor sid2_silu(sid2_graph *g, sid2_tensor x)
{
    return EMIT(activation, ATTR(.act = SID2_ACT_SILU), x);
}
sid2_tensor sid2_gelu(sid2_graph *g, sid2_tensor x)
{
    return EMIT(activation, ATTR(.act = SID2_ACT_GELU), x);
}
sid2_tensor sid2_film(sid2_graph *g, sid2_tensor x, sid2_tensor film)
{
    return EMIT(activation, NO_ATTR, x, film);
}
sid2_tensor sid2_add(sid2_graph *g, sid2_tensor a, sid2_tensor b)
{
    return EMIT(add, ATTR(.scale = 1), a, b);
}
sid2_tensor sid2_sub(sid2_graph *g, sid2_tensor a, sid2_tensor b)
{
    return EMIT(add, ATTR(.scale = -1), a, b);
}

sid2_tensor sid2_cast(sid2_graph *g, sid2_tensor x, sid2_dtype dtype)
{
    if (x == SID2_NONE || g->tensors[x].dtype == dtype) return x;
    return EMIT(cast, ATTR(.dtype = dtype), x);
}

sid2_tensor sid2_dropout(sid2_graph *g, sid2_tensor x, sid2_tensor samples, sid2_tensor seed, float rate,
                         uint32_t purpose)
{
    if (rate == 0) return x;
    return EMIT(dropout, ATTR(.rate = rate, .purpose = purpose), x, samples, seed);
}

sid2_tensor sid2_conv3d(sid2_graph *g, sid2_tensor x, sid2_tensor w, sid2_tensor bias, sid2_attr attr)
{
    return EMIT(conv3d, attr, x, w, bias);
}
sid2_tensor sid2_pool3d(sid2_graph *g, sid2_tensor x, sid2_attr attr) { return EMIT(pool3d, attr, x); }
sid2_tensor sid2_concat(sid2_graph *g, const sid2_tensor *parts, int count)
{
    return sid2_graph_emit(g, SID2_OP_concat, NO_ATTR, parts, count, true);
}

sid2_tensor sid2_avg_pool2(sid2_graph *g, sid2_tensor x) { return EMIT(pool2, ATTR(.scale = 0.25f), x); }
sid2_tensor sid2_upsample2(sid2_graph *g, sid2_tensor x) { return EMIT(upsample2, ATTR(.scale = 1), x); }

sid2_tensor sid2_patchify(sid2_graph *g, sid2_tensor x, int patch)
{
    return patch == 1 ? x : EMIT(patchify, ATTR(.patch = patch), x);
}

sid2_tensor sid2_unpatchify(sid2_graph *g, sid2_tensor x, int patch)
{
    return patch == 1 ? x : EMIT(unpatchify, ATTR(.patch = patch), x);
}

sid2_tensor sid2_attention(sid2_graph *g, sid2_tensor qkv, sid2_tensor gamma, sid2_tensor beta, int heads,
                           const int32_t grid[3], bool center, float eps, float theta)
{
    sid2_attr attr = {
        .heads = heads, .grid = {grid[0], grid[1], grid[2]}, .center = center, .eps = eps, .theta = theta};
    sid2_tensor qk = EMIT(qk_norm_rope, attr, qkv, gamma, beta);
    return EMIT(attention, ATTR(.heads = heads), qk, qkv);
}

sid2_tensor sid2_embedding(sid2_graph *g, sid2_tensor table, sid2_tensor index)
{
    return EMIT(embedding, NO_ATTR, table, index);
}

sid2_tensor sid2_sinusoid(sid2_graph *g, sid2_tensor t, int width, float period)
{
    return EMIT(sinusoid, ATTR(.period = period, .dtype = g->compute, .shape = sid2_shape_of(width)), t);
}

sid2_tensor sid2_random_normal(sid2_graph *g, sid2_tensor samples, sid2_tensor seed, sid2_shape shape,
                               uint32_t purpose)
{
    return EMIT(random_normal, ATTR(.purpose = purpose, .dtype = g->master, .shape = shape), samples, seed);
}

sid2_tensor sid2_image_to_float(sid2_graph *g, sid2_tensor x) { return EMIT(image_to_float, NO_ATTR, x); }

sid2_tensor sid2_diffuse(sid2_graph *g, sid2_tensor x, sid2_tensor eps, sid2_tensor alpha, sid2_tensor sigma)
{
    return EMIT(diffuse, NO_ATTR, x, eps, alpha, sigma);
}

sid2_tensor sid2_diffusion_loss(sid2_graph *g, sid2_tensor v, sid2_tensor z, sid2_tensor x, sid2_tensor alpha,
                                sid2_tensor sigma, sid2_tensor weight)
{
    return EMIT(diffusion_loss, NO_ATTR, v, z, x, alpha, sigma, weight);
}
