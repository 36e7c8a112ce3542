#include "cudnn_graph.h"

#include <stdlib.h>
#include <string.h>

#define COUNT_OF(array) ((int64_t)(sizeof(array) / sizeof *(array)))

/* Engines that want more are passed over; all but fallbacks want far less. */
static const int64_t workspace_limit = (int64_t)2 << 30;

/* ---- Writing a graph ---- */

static cudnnDataType_t data_type(sid2_dtype dtype)
{
    return dtype == SID2_BF16 ? CUDNN_DATA_BFLOAT16 : dtype == SID2_F16 ? CUDNN_DATA_HALF : CUDNN_DATA_FLOAT;
}

sid2_cudnn_tensor sid2_cudnn_add_tensor(sid2_cudnn_graph *g, sid2_cudnn_storage storage, sid2_dtype dtype,
                                        const int64_t dim[4], const int64_t stride[4])
{
    int64_t t = g->tensor_count++;
    g->tensors[t].storage = storage;
    g->tensors[t].type = data_type(dtype);
    for (int i = 0; i < 4; i++) g->tensors[t].dim[i] = dim[i], g->tensors[t].stride[i] = stride[i];
    return (sid2_cudnn_tensor)t;
}

sid2_cudnn_tensor sid2_cudnn_add_scalar(sid2_cudnn_graph *g, float value)
{
    static const int64_t ones[4] = {1, 1, 1, 1};
    sid2_cudnn_tensor t = sid2_cudnn_add_tensor(g, SID2_CUDNN_SCALAR, SID2_F32, ones, ones);
    g->tensors[t].value = value;
    return t;
}

void sid2_cudnn_add_step(sid2_cudnn_graph *g, sid2_cudnn_verb verb, int mode, sid2_cudnn_tensor a,
                         sid2_cudnn_tensor b, sid2_cudnn_tensor y)
{
    int64_t s = g->step_count++;
    g->steps[s].verb = verb;
    g->steps[s].mode = mode;
    g->steps[s].a = a;
    g->steps[s].b = b;
    g->steps[s].y = y;
}

/* ---- Descriptors: everything made is kept in the plan, which needs it as long as it lives. Errors stick. ---- */

typedef struct maker {
    const sid2_cuda_target *target;
    const sid2_cudnn *api;
    sid2_cudnn_plan *plan;
    cudnnStatus_t status;
} maker;

static cudnnBackendDescriptor_t create(maker *m, cudnnBackendDescriptorType_t type)
{
    sid2_cudnn_plan *plan = m->plan;
    if (m->status != CUDNN_STATUS_SUCCESS) return NULL;
    if (plan->descriptor_count == plan->descriptor_capacity) {
        int capacity = 2 * plan->descriptor_capacity + 64;
        void *grown = realloc(plan->descriptors, (size_t)capacity * sizeof *plan->descriptors);
        if (!grown) return m->status = CUDNN_STATUS_ALLOC_FAILED, NULL;
        plan->descriptors = grown;
        plan->descriptor_capacity = capacity;
    }
    cudnnBackendDescriptor_t d = NULL;
    m->status = m->api->cudnnBackendCreateDescriptor(type, &d);
    if (m->status == CUDNN_STATUS_SUCCESS) plan->descriptors[plan->descriptor_count++] = d;
    return d;
}

static void destroy_from(const sid2_cudnn *api, sid2_cudnn_plan *plan, int first)
{
    while (plan->descriptor_count > first)
        api->cudnnBackendDestroyDescriptor(plan->descriptors[--plan->descriptor_count]);
}

static void set(maker *m, cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name,
                cudnnBackendAttributeType_t type, int64_t count, const void *values)
{
    if (m->status == CUDNN_STATUS_SUCCESS)
        m->status = m->api->cudnnBackendSetAttribute(d, name, type, count, values);
}

static void set_type(maker *m, cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name, int64_t value)
{
    cudnnDataType_t type = (cudnnDataType_t)value;
    set(m, d, name, CUDNN_TYPE_DATA_TYPE, 1, &type);
}

static void set_number(maker *m, cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name, int64_t value)
{
    set(m, d, name, CUDNN_TYPE_INT64, 1, &value);
}

static void set_flag(maker *m, cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name, bool value)
{
    set(m, d, name, CUDNN_TYPE_BOOLEAN, 1, &value);
}

static void set_child(maker *m, cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name,
                      cudnnBackendDescriptor_t child)
{
    set(m, d, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &child);
}

static cudnnBackendDescriptor_t finish(maker *m, cudnnBackendDescriptor_t d)
{
    if (m->status == CUDNN_STATUS_SUCCESS) m->status = m->api->cudnnBackendFinalize(d);
    return d;
}

/* ---- From graph to descriptors ---- */

static cudnnBackendDescriptor_t make_tensor(maker *m, int t)
{
    const sid2_cudnn_graph *g = &m->plan->graph;
    cudnnBackendDescriptor_t d = create(m, CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    set_type(m, d, CUDNN_ATTR_TENSOR_DATA_TYPE, g->tensors[t].type);
    set(m, d, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, g->tensors[t].dim);
    set(m, d, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, g->tensors[t].stride);
    set_number(m, d, CUDNN_ATTR_TENSOR_UNIQUE_ID, t + 1);
    set_number(m, d, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, 16);
    set_flag(m, d, CUDNN_ATTR_TENSOR_IS_VIRTUAL, g->tensors[t].storage == SID2_CUDNN_VIRTUAL);
    set_flag(m, d, CUDNN_ATTR_TENSOR_IS_BY_VALUE, g->tensors[t].storage == SID2_CUDNN_SCALAR);
    return finish(m, d);
}

static cudnnBackendDescriptor_t make_convolution(maker *m)
{
    int64_t padding = (m->plan->graph.kernel - 1) / 2;
    const int64_t paddings[2] = {padding, padding}, ones[2] = {1, 1};
    const cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
    cudnnBackendDescriptor_t d = create(m, CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
    set_number(m, d, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, 2);
    set_type(m, d, CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_DATA_FLOAT);
    set(m, d, CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, &mode);
    set(m, d, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, 2, paddings);
    set(m, d, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, 2, paddings);
    set(m, d, CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, 2, ones);
    set(m, d, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, 2, ones);
    return finish(m, d);
}

/* The three convolutions differ in the names of their attributes only. */
typedef struct conv_names {
    cudnnBackendDescriptorType_t type;
    cudnnBackendAttributeName_t convolution, alpha, beta, a, b, y;
} conv_names;

static const conv_names conv_verbs[] = {
    [SID2_CUDNN_CONV] = {CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR,
                         CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC,
                         CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA,
                         CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA,
                         CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X,
                         CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W,
                         CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y},
    [SID2_CUDNN_DGRAD] = {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR,
                          CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC,
                          CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA,
                          CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA,
                          CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY,
                          CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W,
                          CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX},
    [SID2_CUDNN_WGRAD] = {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR,
                          CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC,
                          CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA,
                          CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA,
                          CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X,
                          CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY,
                          CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW},
};

static cudnnBackendDescriptor_t make_conv_step(maker *m, int64_t verb, int64_t mode,
                                               const cudnnBackendDescriptor_t t[3])
{
    const conv_names *name = &conv_verbs[verb];
    const float one = 1, beta = mode == SID2_CUDNN_ADDED;
    cudnnBackendDescriptor_t convolution = make_convolution(m), d = create(m, name->type);
    set_child(m, d, name->convolution, convolution);
    set_child(m, d, name->a, t[0]);
    set_child(m, d, name->b, t[1]);
    set_child(m, d, name->y, t[2]);
    set(m, d, name->alpha, CUDNN_TYPE_FLOAT, 1, &one);
    set(m, d, name->beta, CUDNN_TYPE_FLOAT, 1, &beta);
    return finish(m, d);
}

static cudnnBackendDescriptor_t make_matmul(maker *m, const cudnnBackendDescriptor_t t[3])
{
    cudnnBackendDescriptor_t product = create(m, CUDNN_BACKEND_MATMUL_DESCRIPTOR);
    set_type(m, product, CUDNN_ATTR_MATMUL_COMP_TYPE, CUDNN_DATA_FLOAT);
    finish(m, product);
    cudnnBackendDescriptor_t d = create(m, CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR);
    set_child(m, d, CUDNN_ATTR_OPERATION_MATMUL_DESC, product);
    set_child(m, d, CUDNN_ATTR_OPERATION_MATMUL_ADESC, t[0]);
    set_child(m, d, CUDNN_ATTR_OPERATION_MATMUL_BDESC, t[1]);
    set_child(m, d, CUDNN_ATTR_OPERATION_MATMUL_CDESC, t[2]);
    return finish(m, d);
}

static cudnnBackendDescriptor_t make_pointwise(maker *m, int64_t mode, const cudnnBackendDescriptor_t t[3])
{
    cudnnPointwiseMode_t value = (cudnnPointwiseMode_t)mode;
    cudnnBackendDescriptor_t function = create(m, CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
    set(m, function, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, &value);
    set_type(m, function, CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_DATA_FLOAT);
    finish(m, function);
    cudnnBackendDescriptor_t d = create(m, CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
    set_child(m, d, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, function);
    set_child(m, d, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, t[0]);
    if (t[1]) set_child(m, d, CUDNN_ATTR_OPERATION_POINTWISE_BDESC, t[1]);
    set_child(m, d, CUDNN_ATTR_OPERATION_POINTWISE_YDESC, t[2]);
    return finish(m, d);
}

static cudnnBackendDescriptor_t make_reduction(maker *m, int64_t mode, const cudnnBackendDescriptor_t t[3])
{
    cudnnReduceTensorOp_t value = (cudnnReduceTensorOp_t)mode;
    cudnnBackendDescriptor_t function = create(m, CUDNN_BACKEND_REDUCTION_DESCRIPTOR);
    set(m, function, CUDNN_ATTR_REDUCTION_OPERATOR, CUDNN_TYPE_REDUCTION_OPERATOR_TYPE, 1, &value);
    set_type(m, function, CUDNN_ATTR_REDUCTION_COMP_TYPE, CUDNN_DATA_FLOAT);
    finish(m, function);
    cudnnBackendDescriptor_t d = create(m, CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR);
    set_child(m, d, CUDNN_ATTR_OPERATION_REDUCTION_DESC, function);
    set_child(m, d, CUDNN_ATTR_OPERATION_REDUCTION_XDESC, t[0]);
    set_child(m, d, CUDNN_ATTR_OPERATION_REDUCTION_YDESC, t[2]);
    return finish(m, d);
}

static cudnnBackendDescriptor_t make_reshape(maker *m, const cudnnBackendDescriptor_t t[3])
{
    cudnnBackendDescriptor_t d = create(m, CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR);
    set_child(m, d, CUDNN_ATTR_OPERATION_RESHAPE_XDESC, t[0]);
    set_child(m, d, CUDNN_ATTR_OPERATION_RESHAPE_YDESC, t[2]);
    return finish(m, d);
}

static cudnnBackendDescriptor_t make_graph(maker *m)
{
    const sid2_cudnn_graph *g = &m->plan->graph;
    cudnnBackendDescriptor_t tensors[SID2_CUDNN_TENSORS] = {0}, steps[SID2_CUDNN_STEPS] = {0};
    for (int t = 0; t < g->tensor_count; t++) tensors[t] = make_tensor(m, t);
    for (int s = 0; s < g->step_count; s++) {
        int64_t verb = g->steps[s].verb, mode = g->steps[s].mode, b = g->steps[s].b;
        const cudnnBackendDescriptor_t t[3] = {tensors[g->steps[s].a], b < 0 ? NULL : tensors[b],
                                               tensors[g->steps[s].y]};
        steps[s] = verb <= SID2_CUDNN_WGRAD       ? make_conv_step(m, verb, mode, t)
                   : verb == SID2_CUDNN_MATMUL    ? make_matmul(m, t)
                   : verb == SID2_CUDNN_POINTWISE ? make_pointwise(m, mode, t)
                   : verb == SID2_CUDNN_REDUCTION ? make_reduction(m, mode, t)
                                                  : make_reshape(m, t);
    }
    cudnnBackendDescriptor_t d = create(m, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
    set(m, d, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, g->step_count, steps);
    if (m->api->handle) set(m, d, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, &m->api->handle);
    return finish(m, d);
}

/* ---- Engines that can ---- */

/* What an engine's notes say that the target does not allow. Winograd and FFT lose digits; f32 on tensor
 * cores is TF32. */
static bool allowed(const sid2_cudnn_plan *plan, cudnnBackendNumericalNote_t note)
{
    switch (note) {
    case CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC: return !plan->graph.deterministic;
    case CUDNN_NUMERICAL_NOTE_TENSOR_CORE:
    case CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS: return !plan->graph.f32 || plan->graph.tf32;
    case CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION:
    case CUDNN_NUMERICAL_NOTE_FFT:
    case CUDNN_NUMERICAL_NOTE_WINOGRAD:
    case CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_4x4:
    case CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_6x6:
    case CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_13x13: return false;
    default: return true;
    }
}

static bool engine_allowed(maker *m, cudnnBackendDescriptor_t config)
{
    cudnnBackendDescriptor_t engine = create(m, CUDNN_BACKEND_ENGINE_DESCRIPTOR);
    cudnnBackendNumericalNote_t notes[CUDNN_NUMERICAL_NOTE_TYPE_COUNT];
    cudnnBackendBehaviorNote_t behavior[CUDNN_BEHAVIOR_NOTE_TYPE_COUNT];
    int64_t count = 0;
    if (!engine ||
        m->api->cudnnBackendGetAttribute(config, CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR,
                                         1, &count, &engine) != CUDNN_STATUS_SUCCESS)
        return false;
    m->api->cudnnBackendGetAttribute(engine, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, 1, &count,
                                     &m->plan->engine);
    if (m->api->cudnnBackendGetAttribute(engine, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE,
                                         COUNT_OF(notes), &count, notes) != CUDNN_STATUS_SUCCESS)
        return false;
    for (int64_t i = 0; i < count && i < COUNT_OF(notes); i++)
        if (!allowed(m->plan, notes[i])) return false;
    m->plan->compiled = false;
    if (m->api->cudnnBackendGetAttribute(engine, CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE, CUDNN_TYPE_BEHAVIOR_NOTE,
                                         COUNT_OF(behavior), &count, behavior) != CUDNN_STATUS_SUCCESS)
        return true;
    for (int64_t i = 0; i < count && i < COUNT_OF(behavior); i++)
        if (behavior[i] == CUDNN_BEHAVIOR_NOTE_RUNTIME_COMPILATION) m->plan->compiled = true;
    return true;
}

static bool try_config(maker *m, cudnnBackendDescriptor_t config)
{
    int64_t workspace = 0, count = 0;
    if (!engine_allowed(m, config)) return false;
    cudnnBackendDescriptor_t d = create(m, CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
    set_child(m, d, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, config);
    if (m->api->handle)
        set(m, d, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1, &m->api->handle);
    else
        set_child(m, d, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, m->api->device);
    finish(m, d);
    if (m->status != CUDNN_STATUS_SUCCESS ||
        m->api->cudnnBackendGetAttribute(d, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1,
                                         &count, &workspace) != CUDNN_STATUS_SUCCESS ||
        workspace > workspace_limit)
        return false;
    m->plan->made[m->plan->ways.count] = d;
    if ((size_t)workspace > m->plan->workspace) m->plan->workspace = (size_t)workspace;
    return true;
}

/* Takes what the heuristics propose, best first. */
static bool try_mode(maker *m, cudnnBackendDescriptor_t graph, cudnnBackendHeurMode_t mode)
{
    cudnnBackendDescriptor_t configs[64] = {0};
    int64_t count = 0;
    cudnnBackendDescriptor_t heuristics = create(m, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
    set_child(m, heuristics, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph);
    set(m, heuristics, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode);
    if (!m->api->handle) set_child(m, heuristics, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, m->api->device);
    finish(m, heuristics);
    if (m->status != CUDNN_STATUS_SUCCESS) return false;
    for (int64_t i = 0; i < COUNT_OF(configs); i++)
        configs[i] = create(m, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
    if (m->status != CUDNN_STATUS_SUCCESS ||
        m->api->cudnnBackendGetAttribute(heuristics, CUDNN_ATTR_ENGINEHEUR_RESULTS,
                                         CUDNN_TYPE_BACKEND_DESCRIPTOR, COUNT_OF(configs), &count,
                                         configs) != CUDNN_STATUS_SUCCESS)
        return false;
    if (count > COUNT_OF(configs)) count = COUNT_OF(configs);
    sid2_cudnn_plan *plan = m->plan;
    int first = sid2_cuda_way_first(m->target, &plan->graph, sizeof plan->graph, (int)count);
    for (int i = 0; i < count && plan->ways.count < sid2_cuda_ways_wanted(m->target); i++) {
        int before = plan->descriptor_count, number = sid2_cuda_way_at(first, i);
        if (try_config(m, configs[number])) {
            plan->ways.number[plan->ways.count++] = number;
            continue;
        }
        destroy_from(m->api, plan, before);
        m->status = CUDNN_STATUS_SUCCESS;
    }
    return plan->ways.count > 0;
}

static void make_plan(const sid2_cuda_target *target, sid2_cudnn_plan *plan)
{
    static const cudnnBackendHeurMode_t modes[] = {CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_FALLBACK};
    const sid2_cudnn *api = target->cudnn;
    maker m = {.target = target, .api = api, .plan = plan, .status = CUDNN_STATUS_SUCCESS};
    cudnnBackendDescriptor_t graph = make_graph(&m);
    if (m.status != CUDNN_STATUS_SUCCESS) return destroy_from(api, plan, 0);
    int before = plan->descriptor_count;
    for (int i = 0; i < COUNT_OF(modes); i++) {
        if (try_mode(&m, graph, modes[i])) return;
        destroy_from(api, plan, before);
        m.status = CUDNN_STATUS_SUCCESS;
    }
    destroy_from(api, plan, 0);
}

/* ---- Plans by graph ---- */

sid2_cudnn_plan *sid2_cudnn_find_plan(const sid2_cuda_target *target, const sid2_cudnn_graph *graph,
                                      sid2_error *err)
{
    sid2_cudnn *cudnn = target->cudnn;
    sid2_cudnn_plan *plan = cudnn->plans;
    sid2_cudnn_graph asked = *graph;
    asked.deterministic = target->deterministic;
    asked.tf32 = target->tf32;
    while (plan && memcmp(&plan->graph, &asked, sizeof asked)) plan = plan->next;
    if (!plan) {
        plan = calloc(1, sizeof *plan);
        if (!plan) return sid2_fail(err, SID2_ERR_MEMORY, "no memory for a cuDNN plan"), NULL;
        plan->graph = asked;
        make_plan(target, plan);
        plan->next = cudnn->plans;
        cudnn->plans = plan;
    }
    if (!plan->ways.count) return sid2_fail(err, SID2_ERR_UNSUPPORTED, "cuDNN has no engine for it"), NULL;
    return plan;
}

void sid2_cudnn_forget(sid2_cudnn *cudnn)
{
    while (cudnn->plans) {
        sid2_cudnn_plan *plan = cudnn->plans;
        cudnn->plans = plan->next;
        destroy_from(cudnn, plan, 0);
        free(plan->descriptors);
        free(plan);
    }
}

/* ---- Running ---- */

static cudnnBackendDescriptor_t make_pack(maker *m, const sid2_cudnn_graph *g, void *const *pointers,
                                          float values[SID2_CUDNN_TENSORS], void *workspace)
{
    int64_t ids[SID2_CUDNN_TENSORS], count = 0;
    void *data[SID2_CUDNN_TENSORS];
    for (int t = 0; t < g->tensor_count; t++) {
        if (g->tensors[t].storage == SID2_CUDNN_VIRTUAL) continue;
        values[t] = (float)g->tensors[t].value;
        ids[count] = t + 1;
        data[count++] = g->tensors[t].storage == SID2_CUDNN_SCALAR ? &values[t] : pointers[t];
    }
    cudnnBackendDescriptor_t d = create(m, CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
    set(m, d, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, count, ids);
    set(m, d, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, count, data);
    set(m, d, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &workspace);
    return finish(m, d);
}

/* A run, which may be measured. */
typedef struct execution {
    const sid2_cudnn *api;
    const sid2_cudnn_plan *plan;
    cudnnBackendDescriptor_t pack;
} execution;

static bool try_way(void *context, int way)
{
    const execution *e = context;
    return e->api->cudnnBackendExecute(e->api->handle, e->plan->made[way], e->pack) == CUDNN_STATUS_SUCCESS;
}

/* Which of several engines is the fastest, the first time. Nothing but what the last step writes is ever added to, and that
 * lies in one piece; of the rest it does not matter what was there. */
static void measure(const sid2_call *call, sid2_cudnn_plan *plan, void *const *pointers, execution *e)
{
    const sid2_cudnn_graph *g = &plan->graph;
    int64_t y = g->steps[g->step_count - 1].y;
    size_t bytes = g->tensors[y].type == CUDNN_DATA_FLOAT ? sizeof(float) : sizeof(uint16_t);
    for (int i = 0; i < 4; i++) bytes *= (size_t)g->tensors[y].dim[i];
    const sid2_cuda_trial trial = {.asked = g,
                                   .bytes = sizeof *g,
                                   .result = pointers[y],
                                   .result_bytes = bytes,
                                   .run = try_way,
                                   .context = e};
    sid2_cuda_ways_measure(&plan->ways, call, &trial);
}

bool sid2_cudnn_execute(const sid2_call *call, sid2_cudnn_plan *plan, void *const *pointers, void *workspace)
{
    const sid2_cuda_target *target = sid2_cuda_target_of(call);
    const sid2_cudnn *api = target->cudnn;
    sid2_cudnn_plan pack = {0}; /* holds this run's descriptors */
    maker m = {.api = api, .plan = &pack, .status = CUDNN_STATUS_SUCCESS};
    float values[SID2_CUDNN_TENSORS];
    cudnnBackendDescriptor_t d = make_pack(&m, &plan->graph, pointers, values, workspace);
    if (m.status == CUDNN_STATUS_SUCCESS) m.status = api->cudnnSetStream(api->handle, target->stream);
    if (m.status == CUDNN_STATUS_SUCCESS) {
        measure(call, plan, pointers, &(execution){api, plan, d});
        m.status = api->cudnnBackendExecute(api->handle, plan->made[plan->ways.taken], d);
    }
    destroy_from(api, &pack, 0);
    free(pack.descriptors);
    return m.status == CUDNN_STATUS_SUCCESS ||
           sid2_fail(call->error, SID2_ERR_DEVICE, "cuDNN: %s", api->cudnnGetErrorString(m.status));
}
