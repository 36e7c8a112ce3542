/* A graph with numbers: leaves, a backward pass from random weights of the result, gradients read back. */
#ifndef SID2_TESTS_GRADIENT_SUPPORT_H
#define SID2_TESTS_GRADIENT_SUPPORT_H

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cpu.h"
#include "element.h"
#include "opcase.h"

enum { MAX_LEAVES = 16, MAX_RESULTS = 2 };

typedef struct leaf {
    char name[24];
    sid2_tensor tensor, gradient; /* SID2_NONE: no gradient wanted or none made */
    sid2_dtype dtype;
    int64_t count;
    double *values, *gradients, *direction;
    sid2_buffer *buffer, *gradient_buffer;
} leaf;

/* A tensor whose gradient is supplied: exported as "y" or "y1", its gradient from "y_weights" or "y_weights1". */
typedef struct result {
    sid2_tensor tensor;
    sid2_type type;
    int64_t count;
    sid2_buffer *buffer, *weights;
} result;

typedef struct net {
    sid2_device *device;
    sid2_graph *g;
    sid2_program *program;
    sid2_draw draw;
    leaf leaves[MAX_LEAVES];
    int leaf_count;
    result results[MAX_RESULTS];
    int result_count;
    int64_t y_count;              /* elements of all results, one after the other */
    double *y_values, *y_weights; /* the loss is the sum of their products */
    sid2_error error;
} net;

static inline bool net_fail(net *n, const char *what)
{
    return sid2_fail(&n->error, SID2_ERR_MEMORY, "%s", what);
}

static inline void net_open(net *n, sid2_device *device, sid2_dtype compute, uint64_t seed)
{
    *n = (net){.device = device, .g = sid2_graph_create(compute), .draw = {.seed = seed}};
    if (!n->g) net_fail(n, "no graph");
}

/* An external filled by the caller's numbers; a variable if its gradient is wanted. */
static inline leaf *net_leaf(net *n, sid2_dtype dtype, sid2_shape shape, bool variable)
{
    leaf *l = &n->leaves[n->leaf_count];
    *l = (leaf){.dtype = dtype, .count = sid2_shape_count(shape), .gradient = SID2_NONE};
    snprintf(l->name, sizeof l->name, "leaf%d", n->leaf_count++);
    l->tensor = variable ? sid2_graph_variable(n->g, l->name, dtype, shape)
                         : sid2_graph_external(n->g, l->name, dtype, shape);
    l->values = calloc((size_t)l->count + 1, sizeof(double));
    return l;
}

static inline void leaf_normal(net *n, leaf *l, double mean, double deviation)
{
    for (int64_t i = 0; i < l->count; i++)
        l->values[i] = sid2_element_round(l->dtype, mean + deviation * sid2_draw_normal(&n->draw));
}

/* A variable of normal numbers in the compute type. */
static inline sid2_tensor net_variable(net *n, sid2_shape shape)
{
    leaf *l = net_leaf(n, n->g->compute, shape, true);
    leaf_normal(n, l, 0, 1);
    return l->tensor;
}

static inline bool upload(sid2_buffer *buffer, sid2_dtype dtype, const double *values, int64_t count,
                          sid2_error *err)
{
    void *bytes = calloc((size_t)count + 1, sid2_dtype_size(dtype));
    for (int64_t i = 0; values && i < count; i++) sid2_element_set(dtype, bytes, i, values[i]);
    bool ok = bytes && sid2_buffer_upload(buffer, 0, bytes, (size_t)count * sid2_dtype_size(dtype), err);
    free(bytes);
    return ok;
}

static inline bool download(const sid2_buffer *buffer, sid2_dtype dtype, double *values, int64_t count,
                            sid2_error *err)
{
    void *bytes = calloc((size_t)count + 1, sid2_dtype_size(dtype));
    bool ok = bytes && sid2_buffer_download(buffer, 0, bytes, (size_t)count * sid2_dtype_size(dtype), err);
    for (int64_t i = 0; ok && i < count; i++) values[i] = sid2_element_get(dtype, bytes, i);
    free(bytes);
    return ok;
}

/* The backward pass from the results, which are exported, and the gradients of all variables. Then passes may
 * follow. */
static inline void net_backward_from(net *n, const sid2_tensor *y, int count)
{
    sid2_tensor weights[MAX_RESULTS];
    for (int i = 0; i < count; i++) {
        result *r = &n->results[n->result_count++];
        char name[16], weight[16];
        snprintf(name, sizeof name, i ? "y%d" : "y", i);
        snprintf(weight, sizeof weight, i ? "y_weights%d" : "y_weights", i);
        r->tensor = sid2_graph_export(n->g, y[i], name);
        r->type = sid2_graph_type(n->g, r->tensor);
        r->count = r->tensor == SID2_NONE ? 0 : sid2_shape_count(r->type.shape);
        n->y_count += r->count;
        weights[i] = sid2_graph_external(n->g, weight, r->type.dtype, r->type.shape);
    }
    sid2_graph_backward(n->g, y, weights, count);
    for (int i = 0; i < n->leaf_count && !n->g->error.code; i++) {
        leaf *l = &n->leaves[i];
        l->gradient = sid2_graph_grad(n->g, l->tensor);
        char name[32];
        snprintf(name, sizeof name, "d%s", l->name);
        if (l->gradient != SID2_NONE && !n->g->tensors[l->gradient].external)
            sid2_graph_export(n->g, l->gradient, name);
    }
}

static inline void net_backward(net *n, sid2_tensor y) { net_backward_from(n, &y, 1); }

/* Finishes the graph, makes the parameters a leaf with a gradient, and compiles. */
static inline bool net_compile(net *n)
{
    if (!sid2_graph_finish(n->g, &n->error)) return false;
    for (int32_t set = 0; set < n->g->params_count; set++) { /* compute is the master type: no weights_low */
        const sid2_params *params = &n->g->params[set];
        leaf *l = &n->leaves[n->leaf_count++];
        *l = (leaf){.dtype = n->g->master, .count = params->elements, .tensor = params->read};
        snprintf(l->name, sizeof l->name, "%s", n->g->tensors[params->read].name);
        l->gradient = params->grads;
        l->values = calloc((size_t)l->count + 1, sizeof(double));
        for (int32_t i = 0; i < params->count; i++) {
            const sid2_param *p = &params->item[i];
            for (int64_t j = 0; j < sid2_shape_count(p->shape); j++)
                l->values[p->offset + j] =
                    (double)p->init_mean + (double)p->init_std * sid2_draw_normal(&n->draw);
        }
    }
    sid2_binding bindings[2 * MAX_LEAVES + 5];
    int count = 0;
    for (int i = 0; i < n->leaf_count; i++) {
        leaf *l = &n->leaves[i];
        l->buffer = sid2_buffer_create(n->device, (size_t)l->count * 8 + 64, &n->error);
        if (!l->buffer || !upload(l->buffer, l->dtype, l->values, l->count, &n->error)) return false;
        bindings[count++] = (sid2_binding){l->name, l->buffer};
        if (l->gradient == SID2_NONE) continue;
        l->gradients = calloc((size_t)l->count + 1, sizeof(double));
        l->direction = calloc((size_t)l->count + 1, sizeof(double));
        const char *name = n->g->tensors[l->gradient].name;
        if (!strncmp(name, "y_weights", 9)) continue; /* the gradient of a term of y: as it is */
        bool shared = false;                          /* with another leaf: both are terms of one sum */
        for (int j = 0; j < i; j++)
            if (n->leaves[j].gradient == l->gradient)
                shared = true, l->gradient_buffer = n->leaves[j].gradient_buffer;
        if (shared) continue;
        l->gradient_buffer = sid2_buffer_create(n->device, (size_t)l->count * 8 + 64, &n->error);
        bindings[count++] = (sid2_binding){name, l->gradient_buffer};
    }
    n->y_values = calloc((size_t)n->y_count + 1, sizeof(double));
    n->y_weights = calloc((size_t)n->y_count + 1, sizeof(double));
    for (int64_t i = 0; i < n->y_count; i++) n->y_weights[i] = sid2_draw_normal(&n->draw);
    const double *weights = n->y_weights;
    for (int i = 0; i < n->result_count; i++) {
        result *r = &n->results[i];
        r->buffer = sid2_buffer_create(n->device, (size_t)r->count * 8 + 64, &n->error);
        r->weights = sid2_buffer_create(n->device, (size_t)r->count * 8 + 64, &n->error);
        if (!r->buffer || !r->weights || !upload(r->weights, r->type.dtype, weights, r->count, &n->error))
            return false;
        bindings[count++] = (sid2_binding){i ? "y1" : "y", r->buffer};
        bindings[count++] = (sid2_binding){i ? "y_weights1" : "y_weights", r->weights};
        weights += r->count;
    }
    n->program = sid2_program_create(n->device, n->g, NULL, bindings, count, &n->error);
    return n->program != NULL;
}

/* One run from cleared gradients; y and all gradients are read back. */
static inline bool net_run(net *n)
{
    for (int i = 0; i < n->leaf_count; i++) {
        leaf *l = &n->leaves[i];
        if (l->gradient_buffer &&
            !upload(l->gradient_buffer, n->g->tensors[l->gradient].dtype, NULL, l->count, &n->error))
            return false;
    }
    bool ok = sid2_program_run(n->program, &n->error);
    double *values = n->y_values;
    for (int i = 0; ok && i < n->result_count; values += n->results[i++].count)
        ok = download(n->results[i].buffer, n->results[i].type.dtype, values, n->results[i].count, &n->error);
    for (int i = 0; ok && i < n->leaf_count; i++) {
        leaf *l = &n->leaves[i];
        if (l->gradient == SID2_NONE) continue;
        sid2_dtype dtype = n->g->tensors[l->gradient].dtype;
        const sid2_buffer *from = l->gradient_buffer ? l->gradient_buffer : n->results[0].weights;
        ok = download(from, dtype, l->gradients, l->count, &n->error);
    }
    return ok;
}

static inline void net_close(net *n)
{
    sid2_program_destroy(n->program);
    for (int i = 0; i < n->leaf_count; i++) {
        leaf *l = &n->leaves[i];
        bool shared = false;
        for (int j = 0; j < i; j++) shared |= n->leaves[j].gradient_buffer == l->gradient_buffer;
        if (!shared) sid2_buffer_destroy(l->gradient_buffer);
        sid2_buffer_destroy(l->buffer);
        free(l->values);
        free(l->gradients);
        free(l->direction);
    }
    for (int i = 0; i < n->result_count; i++) {
        sid2_buffer_destroy(n->results[i].buffer);
        sid2_buffer_destroy(n->results[i].weights);
    }
    free(n->y_values);
    free(n->y_weights);
    sid2_graph_destroy(n->g);
}

/* ---- Finite differences ---- */

/* Runs at values + step * direction, and adds factor * y to `sum`. */
static inline bool net_probe(net *n, double step, double factor, double *sum)
{
    for (int i = 0; i < n->leaf_count; i++) {
        leaf *l = &n->leaves[i];
        if (l->gradient == SID2_NONE) continue;
        double *moved = malloc((size_t)(l->count + 1) * sizeof *moved);
        for (int64_t j = 0; j < l->count; j++) moved[j] = l->values[j] + step * l->direction[j];
        bool ok = upload(l->buffer, l->dtype, moved, l->count, &n->error);
        free(moved);
        if (!ok) return false;
    }
    if (!net_run(n)) return false;
    for (int64_t i = 0; i < n->y_count; i++) sum[i] += factor * n->y_values[i];
    return true;
}

/* The derivative along the leaves' directions, by gradients and by a fourth-order difference; their
 * difference relative to the root of the squares of the terms of the sum. Negative if a run failed. */
static inline double net_direction_error(net *n)
{
    const double h = 2e-4;
    double along = 0, difference = 0, squares = 0;
    double *slope = calloc((size_t)n->y_count + 1, sizeof *slope);
    bool ok = net_probe(n, 0, 0, slope);
    for (int i = 0; ok && i < n->leaf_count; i++)
        for (int64_t j = 0; n->leaves[i].gradient != SID2_NONE && j < n->leaves[i].count; j++)
            along += n->leaves[i].gradients[j] * n->leaves[i].direction[j];
    ok = ok && net_probe(n, h, 8 / (12 * h), slope) && net_probe(n, -h, -8 / (12 * h), slope) &&
         net_probe(n, 2 * h, -1 / (12 * h), slope) && net_probe(n, -2 * h, 1 / (12 * h), slope);
    for (int64_t i = 0; i < n->y_count; i++) {
        double term = n->y_weights[i] * slope[i];
        difference += term;
        squares += term * term;
    }
    free(slope);
    return ok ? fabs(along - difference) / (sqrt(squares) + 1e-3) : -1;
}

static inline double net_random_direction_error(net *n)
{
    for (int i = 0; i < n->leaf_count; i++)
        for (int64_t j = 0; n->leaves[i].direction && j < n->leaves[i].count; j++)
            n->leaves[i].direction[j] = sid2_draw_normal(&n->draw);
    return net_direction_error(n);
}

/* The largest error over the unit directions of every element. */
static inline double net_elementwise_error(net *n)
{
    double worst = 0;
    for (int i = 0; i < n->leaf_count; i++)
        for (int64_t j = 0; n->leaves[i].direction && j < n->leaves[i].count; j++)
            n->leaves[i].direction[j] = 0;
    for (int i = 0; i < n->leaf_count && worst >= 0; i++)
        for (int64_t j = 0; n->leaves[i].direction && j < n->leaves[i].count; j++) {
            n->leaves[i].direction[j] = 1;
            double error = net_direction_error(n);
            n->leaves[i].direction[j] = 0;
            if (error < 0) return error;
            if (error > worst) worst = error;
        }
    return worst;
}

#endif
