/* The graph: what is computed, in order, with every shape known.
 *
 * A model is written once as calls of the builders below. Each appends a node; tensors are numbers.
 * Errors stick: after the first, builders return SID2_NONE and sid2_graph_finish reports it, so model
 * code needs no checks. Then, each a function of the graph alone:
 *
 *     build ─► sid2_graph_fuse ─► sid2_graph_backward ─► sid2_graph_fit (recompute) ─► sid2_plan_create
 *
 * Tensors live in one of two places. *Activations* live in the arena that the plan lays out. *Externals*
 * live in buffers bound by name when a program is made: inputs, outputs, and the flat buffers that hold
 * parameters. A *view* is another look at either: a reshape, or a part of an external. It costs nothing.
 *
 * A *parameter set* is a network's parameters, under a name, trained or frozen; a graph may have several (a
 * teacher and its student). Its flat buffers are `weights` and, where trained, `grads`: of the set "teacher",
 * "teacher.weights" and so on. A parameter is a view into these, at the same element offset in each, so norm, Adam,
 * averages and casts are one call over everything and a checkpoint is a slice. Where the compute type is not the
 * master type, the network reads `weights_low`, all of them in the compute type, and `vectors`: those of them that
 * are no matrices, closed up, in the master type. `weights` are then their keeper's, not the network's. */
#ifndef SID2_GRAPH_H
#define SID2_GRAPH_H

#include "op.h"

typedef int32_t sid2_tensor;
enum { SID2_NONE = -1 };

typedef struct sid2_tensor_info {
    const char *name; /* externals and parameters; else NULL */
    sid2_dtype dtype;
    sid2_shape shape;
    bool external;
    bool requires_grad; /* a trained parameter, or computed from one */
    sid2_tensor base;   /* a view: what it looks into, itself no view; else SID2_NONE */
    int64_t offset;     /* a view: first element within the base; 0 of an activation */
    int32_t producer;   /* node, or -1; of a view too */
} sid2_tensor_info;

typedef struct sid2_node {
    sid2_op op;
    sid2_attr attr;
    sid2_tensor in[SID2_MAX_INPUTS];   /* SID2_NONE where absent */
    sid2_tensor out[SID2_MAX_OUTPUTS]; /* SID2_NONE where absent */
    int32_t segment;                   /* recompute unit of a forward node, or -1 */
    enum { SID2_FORWARD, SID2_BACKWARD, SID2_RECOMPUTED } phase;
} sid2_node;

/* A parameter starts as init_mean + init_std * normal. */
typedef struct sid2_param {
    const char *name;
    sid2_shape shape;
    int64_t offset; /* element offset in the flat buffers, a multiple of SID2_PARAM_ALIGN */
    float init_mean, init_std;
    int64_t place;      /* the same in the buffer that the model reads it from */
    bool matrix;        /* read in the compute type (a matrix or a kernel) rather than f32 */
    sid2_tensor tensor; /* the view the model reads */
} sid2_param;

enum { SID2_PARAM_ALIGN = 128 };

/* The parameters of one network. */
typedef struct sid2_params {
    const char *name; /* "" where a graph has one network */
    bool trained;     /* gradients are wanted */
    sid2_param *item;
    int32_t count, capacity;
    int64_t elements;        /* length of the flat buffers */
    int64_t vector_elements; /* of `vectors`, where that is a buffer of its own; else 0 */
    sid2_tensor read;        /* all, in the compute type */
    sid2_tensor vectors;     /* what those that are no matrices are read from, perhaps the same */
    sid2_tensor grads;       /* SID2_NONE where frozen */
} sid2_params;

enum { SID2_MAX_PARAMS = 8 }; /* sets of a graph */

/* A named place between two nodes: after the last node that writes elements first .. first + count - 1 of a
 * tensor, or before the first that reads such parameters. A program can be run up to there (device.h). */
typedef struct sid2_stop {
    char name[32];
    sid2_tensor tensor;        /* no view */
    const sid2_params *params; /* or, where these are read */
    int64_t first, count;
} sid2_stop;

enum { SID2_MAX_STOPS = 16 };

typedef struct sid2_graph {
    sid2_dtype compute; /* of activations and matrices: f32, bf16, f16; f64 makes everything f64 */
    sid2_dtype master;  /* of parameters, statistics, gradients: f32, or f64 with compute f64 */
    sid2_tensor_info *tensors;
    int32_t tensor_count, tensor_capacity;
    sid2_node *nodes;
    int32_t node_count, node_capacity;
    sid2_params params[SID2_MAX_PARAMS];
    int32_t params_count;
    sid2_stop stops[SID2_MAX_STOPS];
    int32_t stop_count;
    sid2_tensor *grad_of; /* after sid2_graph_backward: gradient by forward tensor, or SID2_NONE */
    int32_t grad_count;
    int32_t segment; /* given to the nodes that follow */
    int32_t segment_count;
    sid2_error error; /* the first one */
} sid2_graph;

sid2_graph *sid2_graph_create(sid2_dtype compute);
void sid2_graph_destroy(sid2_graph *graph);

/* ---- Leaves ---- */
/* An external tensor, bound by `name` (copied) when a program is made. */
sid2_tensor sid2_graph_external(sid2_graph *g, const char *name, sid2_dtype dtype, sid2_shape shape);
/* The same, with a gradient wanted (tests). Its gradient is the external "grad:<name>" where an operator
 * accumulates it, else an activation; see sid2_graph_grad. */
sid2_tensor sid2_graph_variable(sid2_graph *g, const char *name, sid2_dtype dtype, sid2_shape shape);
/* The set of parameters called `name` (copied; ""), made at its first use. It is trained or frozen for the whole
 * graph: the other on a later use is an error. NULL after an error; lives as long as the graph. */
sid2_params *sid2_graph_params(sid2_graph *g, const char *name, bool trained);
/* Where in the flat buffers what a tensor looks at begins, a parameter of the set or a part of one; -1: no such. */
int64_t sid2_params_offset(const sid2_graph *g, const sid2_params *params, sid2_tensor tensor);
/* How many elements of `vectors` belong to the first `elements` of the flat buffers. */
int64_t sid2_params_vectors(const sid2_params *params, int64_t elements);
/* The name of a flat buffer of a set, "weights" or "teacher.weights". Returns `name`. */
const char *sid2_params_buffer(const char *set, const char *what, char name[96]);
/* A parameter; the first use of a name in a set creates it, later uses return the same view, and must want the
 * same shape and kind. */
sid2_tensor sid2_graph_param(sid2_graph *g, sid2_params *params, const char *name, sid2_shape shape,
                             bool matrix, float init_mean, float init_std);
/* Part of an external, from element `offset`. */
sid2_tensor sid2_graph_view(sid2_graph *g, sid2_tensor base, int64_t offset, sid2_shape shape);
/* The same elements under another shape: no node, no memory. Gradients pass through. */
sid2_tensor sid2_reshape(sid2_graph *g, sid2_tensor x, sid2_shape shape);
/* The same tensor, through which no gradient passes. No node, no memory. */
sid2_tensor sid2_stop_gradient(sid2_graph *g, sid2_tensor x);
/* A tensor that no node has written yet, to be named as an output of sid2_graph_emit_into. */
sid2_tensor sid2_graph_activation(sid2_graph *g, sid2_type type);
/* Marks what follows as one unit of recomputation (a block). -1: never recomputed. */
void sid2_graph_begin_segment(sid2_graph *g);
void sid2_graph_end_segment(sid2_graph *g);

/* Appends a node. Inputs as in op.def, SID2_NONE where absent; returns output 0, SID2_NONE after an error.
 * Optional outputs are made when `optional_outputs` is set. */
sid2_tensor sid2_graph_emit(sid2_graph *g, sid2_op op, sid2_attr attr, const sid2_tensor *in, int count,
                            bool optional_outputs);
/* Like emit, but writes output 0 into an external of the same type (how a result leaves the graph). */
void sid2_graph_emit_into(sid2_graph *g, sid2_op op, sid2_attr attr, const sid2_tensor *in, int count,
                          const sid2_tensor *out, int out_count);
/* Output `index` of the node that made `tensor`. */
sid2_tensor sid2_graph_output(const sid2_graph *g, sid2_tensor tensor, int index);
/* Makes the producer of `tensor` write to a new external `name` instead of the arena; returns it. */
sid2_tensor sid2_graph_export(sid2_graph *g, sid2_tensor tensor, const char *name);

/* ---- Builders: emit with names. Formulas in op.def. ---- */
sid2_tensor sid2_linear(sid2_graph *g, sid2_tensor x, sid2_tensor w, sid2_tensor bias);
sid2_tensor sid2_linear_to(sid2_graph *g, sid2_dtype dtype, sid2_tensor x, sid2_tensor w, sid2_tensor bias);
sid2_tensor sid2_conv2d(sid2_graph *g, sid2_tensor x, sid2_tensor w, sid2_tensor bias);
sid2_tensor sid2_group_norm(sid2_graph *g, sid2_tensor x, sid2_tensor gamma, sid2_tensor beta, int groups,
                            float eps);
sid2_tensor sid2_layer_norm(sid2_graph *g, sid2_tensor x, sid2_tensor gamma, sid2_tensor beta, float eps);
sid2_tensor sid2_rms_norm(sid2_graph *g, sid2_tensor x, sid2_tensor gamma, float eps);
sid2_tensor sid2_silu(sid2_graph *g, sid2_tensor x);
sid2_tensor sid2_gelu(sid2_graph *g, sid2_tensor x);
sid2_tensor sid2_film(sid2_graph *g, sid2_tensor x, sid2_tensor film);
sid2_tensor sid2_add(sid2_graph *g, sid2_tensor a, sid2_tensor b);
sid2_tensor sid2_sub(sid2_graph *g, sid2_tensor a, sid2_tensor b);
sid2_tensor sid2_cast(sid2_graph *g, sid2_tensor x, sid2_dtype dtype);
sid2_tensor sid2_dropout(sid2_graph *g, sid2_tensor x, sid2_tensor samples, sid2_tensor seed, float rate,
                         uint32_t purpose);
/* Windows: of `attr` the fields of the row in op.def. x, and w of a convolution, have frames, rows and columns. */
sid2_tensor sid2_conv3d(sid2_graph *g, sid2_tensor x, sid2_tensor w, sid2_tensor bias, sid2_attr attr);
sid2_tensor sid2_pool3d(sid2_graph *g, sid2_tensor x, sid2_attr attr);
/* 2 to 6 tensors. */
sid2_tensor sid2_concat(sid2_graph *g, const sid2_tensor *parts, int count);
sid2_tensor sid2_avg_pool2(sid2_graph *g, sid2_tensor x);
sid2_tensor sid2_upsample2(sid2_graph *g, sid2_tensor x);
sid2_tensor sid2_patchify(sid2_graph *g, sid2_tensor x, int patch);
sid2_tensor sid2_unpatchify(sid2_graph *g, sid2_tensor x, int patch);
/* q/k norm + rotary + attention. gamma, beta [2, C/heads] or SID2_NONE. grid: frames, rows, columns. */
sid2_tensor sid2_attention(sid2_graph *g, sid2_tensor qkv, sid2_tensor gamma, sid2_tensor beta, int heads,
                           const int32_t grid[3], bool center, float eps, float theta);
sid2_tensor sid2_embedding(sid2_graph *g, sid2_tensor table, sid2_tensor index);
sid2_tensor sid2_sinusoid(sid2_graph *g, sid2_tensor t, int width, float period);
sid2_tensor sid2_random_normal(sid2_graph *g, sid2_tensor samples, sid2_tensor seed, sid2_shape shape,
                               uint32_t purpose);
sid2_tensor sid2_image_to_float(sid2_graph *g, sid2_tensor x);
sid2_tensor sid2_diffuse(sid2_graph *g, sid2_tensor x, sid2_tensor eps, sid2_tensor alpha, sid2_tensor sigma);
sid2_tensor sid2_diffusion_loss(sid2_graph *g, sid2_tensor v, sid2_tensor z, sid2_tensor x, sid2_tensor alpha,
                                sid2_tensor sigma, sid2_tensor weight);

/* ---- Passes ---- */
/* Merges norm+FiLM+activation, activation+FiLM, and additions into the operator that can take them. */
void sid2_graph_fuse(sid2_graph *g);
/* Appends the backward pass of `count` tensors, anywhere in the graph, given the gradient of each (of its shape
 * and type). Gradients of parameters are added to their sets' `grads`. A graph may have several such passes, each
 * over all that was built forward. */
void sid2_graph_backward(sid2_graph *g, const sid2_tensor *outputs, const sid2_tensor *gradients, int count);
/* The gradient of a variable or activation after the (last) backward pass, or SID2_NONE. */
sid2_tensor sid2_graph_grad(sid2_graph *g, sid2_tensor tensor);
/* Drops the activations of the chosen segments after the forward pass and computes them again before
 * their backward pass. `segments` has segment_count entries. */
void sid2_graph_recompute(sid2_graph *g, const bool *segments);
/* Recomputes as few segments as needed, cheapest first, for the plan to fit in `arena_bytes`. Returns how
 * many were chosen, or -1 when it cannot fit; *least_bytes then holds the smallest arena that would do. */
int sid2_graph_fit(sid2_graph *g, size_t arena_bytes, size_t *least_bytes);
/* Names the place after the last node that writes elements first .. first + count - 1 of `tensor`: the end of the
 * backward pass for a range of `grads`, or an activation that the host wants to see. Passes may follow. */
void sid2_graph_stop(sid2_graph *g, const char *name, sid2_tensor tensor, int64_t first, int64_t count);
/* Names the place before the first node that reads elements first .. first + count - 1 of a set; the end: none does. */
void sid2_graph_stop_before(sid2_graph *g, const char *name, const sid2_params *params, int64_t first,
                            int64_t count);
/* Ends building: sizes the flat buffers and reports the first error of any builder or pass. */
bool sid2_graph_finish(sid2_graph *g, sid2_error *err);

/* ---- Questions ---- */
/* How many nodes come before a stop: 0 .. node_count; -1 where nothing has that name. */
int32_t sid2_graph_stop_at(const sid2_graph *g, const char *name);
/* Whether a node reads some of elements first .. first + count - 1 of a set. */
bool sid2_graph_reads(const sid2_graph *g, const sid2_node *node, const sid2_params *params, int64_t first,
                      int64_t count);
/* What a view looks into; of any other tensor, itself. */
static inline sid2_tensor sid2_graph_base(const sid2_graph *g, sid2_tensor tensor)
{
    return g->tensors[tensor].base == SID2_NONE ? tensor : g->tensors[tensor].base;
}
sid2_tensor sid2_graph_find(const sid2_graph *g, const char *external_name);
sid2_type sid2_graph_type(const sid2_graph *g, sid2_tensor tensor); /* rank -1 for SID2_NONE */
sid2_cost sid2_graph_node_cost(const sid2_graph *g, const sid2_node *node);
sid2_cost sid2_graph_cost(const sid2_graph *g); /* of all nodes */

#endif
