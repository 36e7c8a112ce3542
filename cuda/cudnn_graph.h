/* cuDNN's backend API as three words: a graph is plain data, a plan is found for it once, running needs
 * pointers.
 *
 *     graph: tensors and steps, written by conv and attention ─► plan: an engine that can do all of it in one
 * go
 *
 * Since a graph is plain data, it is its own key: two calls with the same graph share one plan, so heuristics
 * are asked once a shape. Plans live with the device's sid2_cudnn. */
#ifndef SID2_CUDNN_GRAPH_H
#define SID2_CUDNN_GRAPH_H

#include "kernel.h"
#include "libraries.h"
#include "ways.h"

enum { SID2_CUDNN_TENSORS = 28, SID2_CUDNN_STEPS = 20 };

typedef int sid2_cudnn_tensor; /* index in a graph */

typedef enum sid2_cudnn_storage {
    SID2_CUDNN_MEMORY,
    SID2_CUDNN_VIRTUAL, /* exists between steps only */
    SID2_CUDNN_SCALAR,  /* a number, f32 */
} sid2_cudnn_storage;

typedef enum sid2_cudnn_verb {
    SID2_CUDNN_CONV,      /* y = a * b, by the convolution's attributes: x, w, y */
    SID2_CUDNN_DGRAD,     /* dy, w, dx */
    SID2_CUDNN_WGRAD,     /* x, dy, dw */
    SID2_CUDNN_MATMUL,    /* a, b, c: over the last two dimensions */
    SID2_CUDNN_POINTWISE, /* x, b or -1, y; mode: cudnnPointwiseMode_t */
    SID2_CUDNN_REDUCTION, /* x, -1, y; mode: cudnnReduceTensorOp_t */
    SID2_CUDNN_RESHAPE,   /* x, -1, y: the same elements under other dimensions */
} sid2_cudnn_verb;

/* The mode of a convolution: y is written, or added to. */
enum { SID2_CUDNN_WRITTEN, SID2_CUDNN_ADDED };

/* All fields are 64 bits wide, for graphs are compared as bytes. */
typedef struct sid2_cudnn_graph {
    int64_t tensor_count, step_count;
    int64_t kernel;              /* side of the filter, of convolutions */
    int64_t f32;                 /* products of f32: no tensor cores, unless TF32 is asked for */
    int64_t deterministic, tf32; /* of the target; set by sid2_cudnn_find_plan */
    struct {
        int64_t storage, type, dim[4], stride[4];
        double value;
    } tensors[SID2_CUDNN_TENSORS];
    struct {
        int64_t verb, mode, a, b, y;
    } steps[SID2_CUDNN_STEPS];
} sid2_cudnn_graph;

/* Four dimensions; strides in elements. */
sid2_cudnn_tensor sid2_cudnn_add_tensor(sid2_cudnn_graph *g, sid2_cudnn_storage storage, sid2_dtype dtype,
                                        const int64_t dim[4], const int64_t stride[4]);
sid2_cudnn_tensor sid2_cudnn_add_scalar(sid2_cudnn_graph *g, float value);
/* `b` is -1 where the verb has only one input. */
void sid2_cudnn_add_step(sid2_cudnn_graph *g, sid2_cudnn_verb verb, int mode, sid2_cudnn_tensor a,
                         sid2_cudnn_tensor b, sid2_cudnn_tensor y);

typedef struct sid2_cudnn_plan {
    struct sid2_cudnn_plan *next;
    sid2_cudnn_graph graph;
    cudnnBackendDescriptor_t *descriptors; /* all that the plan is made of */
    int descriptor_count, descriptor_capacity;
    sid2_cuda_ways ways; /* count 0: no engine can do it */
    cudnnBackendDescriptor_t made[SID2_CUDA_WAYS];
    size_t workspace; /* of the one that wants most */
    int64_t engine;   /* of the last one, as is: */
    bool compiled;    /* for this graph, by cuDNN; else ready-made */
} sid2_cudnn_plan;

/* The plan for this graph; cuDNN's to free. False with SID2_ERR_UNSUPPORTED where no engine can do it. */
sid2_cudnn_plan *sid2_cudnn_find_plan(const sid2_cuda_target *target, const sid2_cudnn_graph *graph,
                                      sid2_error *err);
/* Enqueues. pointers[i] is the memory of tensor i, ignored where that is no memory. False with the call's error. */
bool sid2_cudnn_execute(const sid2_call *call, sid2_cudnn_plan *plan, void *const *pointers, void *workspace);

/* ---- The kernels of cudnn.c's table: cudnn_conv.c, cudnn_attention.c ---- */
bool sid2_cudnn_prepare_conv(sid2_call *call, sid2_error *err);
void sid2_cudnn_run_conv(sid2_call *call);
bool sid2_cudnn_prepare_wgrad(sid2_call *call, sid2_error *err);
void sid2_cudnn_run_wgrad(sid2_call *call);
bool sid2_cudnn_prepare_attention(sid2_call *call, sid2_error *err);
void sid2_cudnn_run_attention(sid2_call *call);
bool sid2_cudnn_prepare_attention_grad(sid2_call *call, sid2_error *err);
void sid2_cudnn_run_attention_grad(sid2_call *call);
void sid2_cudnn_release_conv(sid2_call *call);

#endif
