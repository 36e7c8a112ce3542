/* cuDNN on the host, for tests of cuda/cudnn_*.c: its backend descriptors, and graphs computed from them as
 * its manual defines each operation. Whether the real one accepts these graphs is test_cuda_plans' to say;
 * here, whether they say what they should.
 *
 * The heuristics propose engines that may not be taken, by their notes or workspace, before one that may. */
#include "fake_cuda.h"

#include "../cuda/libraries.h"

#include <stdio.h>
#include <string.h>

#if !SID2_HAVE_CUDNN
bool sid2_cudnn_load(sid2_cudnn *cudnn, char *why, size_t size)
{
    *cudnn = (sid2_cudnn){0};
    snprintf(why, size, "libcudnn.so.9 not found");
    return false;
}

const char *sid2_cudnn_version(const sid2_cudnn *cudnn, char text[32])
{
    (void)cudnn;
    return strcpy(text, "");
}
#else

#include <math.h>
#include <stdlib.h>

#include "element.h"

/* ---- Descriptors: a type, and what was set ---- */

enum { MOST_ATTRIBUTES = 12 };

typedef struct attribute {
    cudnnBackendAttributeName_t name;
    cudnnBackendAttributeType_t type;
    int64_t count;
    void *values;
} attribute;

typedef struct descriptor {
    cudnnBackendDescriptorType_t type;
    bool final;
    int count;
    attribute set[MOST_ATTRIBUTES];
    int engine;                     /* of an engine, configuration or plan */
    const struct descriptor *graph; /* of heuristics, a configuration or plan */
} descriptor;

static descriptor *of(cudnnBackendDescriptor_t d) { return (descriptor *)(void *)d; }

static const attribute *find(const descriptor *d, cudnnBackendAttributeName_t name)
{
    for (int i = 0; i < d->count; i++)
        if (d->set[i].name == name) return &d->set[i];
    return NULL;
}

/* Where it was not set: zeros. */
static const void *values(const descriptor *d, cudnnBackendAttributeName_t name)
{
    static const int64_t nothing[8];
    const attribute *a = find(d, name);
    return a ? a->values : nothing;
}
static int64_t number(const descriptor *d, cudnnBackendAttributeName_t name)
{
    return *(const int64_t *)values(d, name);
}
static int word(const descriptor *d, cudnnBackendAttributeName_t name)
{
    return *(const int *)values(d, name);
}
static bool flag(const descriptor *d, cudnnBackendAttributeName_t name)
{
    return *(const bool *)values(d, name);
}
static float real(const descriptor *d, cudnnBackendAttributeName_t name)
{
    return *(const float *)values(d, name);
}
/* Descriptor i of an attribute that holds such. */
static const descriptor *held(const attribute *a, int64_t i)
{
    return of(((cudnnBackendDescriptor_t *)a->values)[i]);
}

static const descriptor *child(const descriptor *d, cudnnBackendAttributeName_t name)
{
    const attribute *a = find(d, name);
    return a ? held(a, 0) : NULL;
}

static cudnnStatus_t create_descriptor(cudnnBackendDescriptorType_t type, cudnnBackendDescriptor_t *made)
{
    descriptor *d = calloc(1, sizeof *d);
    d->type = type;
    *made = (cudnnBackendDescriptor_t)(void *)d;
    fake.descriptors++;
    return CUDNN_STATUS_SUCCESS;
}

static cudnnStatus_t destroy_descriptor(cudnnBackendDescriptor_t made)
{
    descriptor *d = of(made);
    for (int i = 0; i < d->count; i++) free(d->set[i].values);
    free(d);
    fake.descriptors--;
    return CUDNN_STATUS_SUCCESS;
}

static size_t size_of(cudnnBackendAttributeType_t type)
{
    switch (type) {
    case CUDNN_TYPE_HANDLE:
    case CUDNN_TYPE_VOID_PTR:
    case CUDNN_TYPE_BACKEND_DESCRIPTOR: return sizeof(void *);
    case CUDNN_TYPE_INT64: return 8;
    case CUDNN_TYPE_BOOLEAN: return sizeof(bool);
    default: return 4; /* enumerations, float */
    }
}

static cudnnStatus_t set_attribute(cudnnBackendDescriptor_t made, cudnnBackendAttributeName_t name,
                                   cudnnBackendAttributeType_t type, int64_t count, const void *from)
{
    descriptor *d = of(made);
    if (!d || d->final || find(d, name) || d->count == MOST_ATTRIBUTES || count < 1 || !from)
        return CUDNN_STATUS_BAD_PARAM;
    size_t bytes = size_of(type) * (size_t)count;
    attribute *a = &d->set[d->count++];
    *a = (attribute){name, type, count, calloc(1, bytes)};
    memcpy(a->values, from, bytes);
    if (type == CUDNN_TYPE_BACKEND_DESCRIPTOR)
        for (int64_t i = 0; i < count; i++) {
            const descriptor *c = held(a, i);
            if (!c || (!c->final && c->type != CUDNN_BACKEND_ENGINECFG_DESCRIPTOR))
                return CUDNN_STATUS_BAD_PARAM;
        }
    return CUDNN_STATUS_SUCCESS;
}

/* ---- Engines ---- */

enum { WINOGRAD, ANY_ORDER, HUGE_SCRATCH, TENSOR_CORES, PLAIN };

/* A tensor of a graph's step, by the order in which they were set; NULL past the last. */
static const descriptor *tensor_of(const descriptor *step, int number)
{
    for (int i = 0; i < step->count; i++)
        if (step->set[i].type == CUDNN_TYPE_BACKEND_DESCRIPTOR &&
            held(&step->set[i], 0)->type == CUDNN_BACKEND_TENSOR_DESCRIPTOR && number-- == 0)
            return held(&step->set[i], 0);
    return NULL;
}

/* Of a graph's first input; it decides what engines there are. */
static int64_t channels(const descriptor *graph)
{
    const descriptor *t = tensor_of(held(find(graph, CUDNN_ATTR_OPERATIONGRAPH_OPS), 0), 0);
    return ((const int64_t *)values(t, CUDNN_ATTR_TENSOR_DIMENSIONS))[1];
}

static cudnnStatus_t finalize(cudnnBackendDescriptor_t made)
{
    descriptor *d = of(made);
    if (d->final) return CUDNN_STATUS_BAD_PARAM;
    if (d->type == CUDNN_BACKEND_TENSOR_DESCRIPTOR) {
        const attribute *dim = find(d, CUDNN_ATTR_TENSOR_DIMENSIONS),
                        *stride = find(d, CUDNN_ATTR_TENSOR_STRIDES);
        if (!dim || !stride || dim->count != 4 || stride->count != 4 ||
            !find(d, CUDNN_ATTR_TENSOR_UNIQUE_ID) || !find(d, CUDNN_ATTR_TENSOR_DATA_TYPE))
            return CUDNN_STATUS_BAD_PARAM;
    }
    if (d->type == CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR)
        d->graph = child(d, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH);
    if (d->type == CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR) {
        const descriptor *config = child(d, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG);
        d->graph = config->graph;
        d->engine = config->engine;
        if (d->engine == ANY_ORDER && channels(d->graph) % 3 == 0) return CUDNN_STATUS_NOT_SUPPORTED;
    }
    d->final = true;
    return CUDNN_STATUS_SUCCESS;
}

static cudnnStatus_t get_attribute(cudnnBackendDescriptor_t const made, cudnnBackendAttributeName_t name,
                                   cudnnBackendAttributeType_t type, int64_t most, int64_t *count, void *to)
{
    const descriptor *d = of(made);
    (void)type;
    *count = 1;
    switch (name) {
    case CUDNN_ATTR_ENGINEHEUR_RESULTS: {
        bool fallback = word(d, CUDNN_ATTR_ENGINEHEUR_MODE) == CUDNN_HEUR_MODE_FALLBACK;
        bool few = channels(d->graph) % 4 == 0; /* then the first mode knows nothing that may be taken */
        int first = fallback ? PLAIN : WINOGRAD, last = few && !fallback ? WINOGRAD : PLAIN;
        *count = 0;
        for (int engine = first; engine <= last && *count < most; engine++) {
            descriptor *config = of(((cudnnBackendDescriptor_t *)to)[(*count)++]);
            config->graph = d->graph;
            config->engine = engine;
        }
        return CUDNN_STATUS_SUCCESS;
    }
    case CUDNN_ATTR_ENGINECFG_ENGINE: of(*(cudnnBackendDescriptor_t *)to)->engine = d->engine; break;
    case CUDNN_ATTR_ENGINE_GLOBAL_INDEX: *(int64_t *)to = d->engine; break;
    case CUDNN_ATTR_ENGINE_NUMERICAL_NOTE:
        *(cudnnBackendNumericalNote_t *)to = d->engine == WINOGRAD    ? CUDNN_NUMERICAL_NOTE_WINOGRAD
                                             : d->engine == ANY_ORDER ? CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC
                                                                      : CUDNN_NUMERICAL_NOTE_TENSOR_CORE;
        *count = d->engine != HUGE_SCRATCH && d->engine != PLAIN;
        break;
    case CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE: *count = 0; break;
    case CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE:
        *(int64_t *)to = d->engine == HUGE_SCRATCH ? (int64_t)3 << 30 : 1000 + d->engine;
        break;
    default: return CUDNN_STATUS_BAD_PARAM;
    }
    return CUDNN_STATUS_SUCCESS;
}

/* ---- Computing: every tensor as a dense array of float64, rounded to its type ---- */

enum { MOST_TENSORS = 32 };

typedef struct tensor {
    const descriptor *d;
    int64_t dim[4], stride[4];
    sid2_dtype dtype;
    double *x;    /* NULL: not there yet */
    void *memory; /* NULL: virtual, or a number */
    double number;
} tensor;

typedef struct execution {
    const descriptor *graph;
    int64_t count, ids[MOST_TENSORS];
    void *data[MOST_TENSORS];
    float by_value[MOST_TENSORS];
    void *workspace;
    size_t workspace_bytes;
    int engine;
} execution;

typedef struct run {
    const execution *e;
    int count;
    tensor tensors[MOST_TENSORS];
} run;

static int64_t count_of(const tensor *t) { return t->dim[0] * t->dim[1] * t->dim[2] * t->dim[3]; }

/* Of dense element i, by the tensor's strides. */
static int64_t offset(const tensor *t, int64_t i)
{
    int64_t at = 0;
    for (int k = 3; k >= 0; i /= t->dim[k--]) at += i % t->dim[k] * t->stride[k];
    return at;
}

static tensor *describe(run *r, const descriptor *d)
{
    for (int i = 0; i < r->count; i++)
        if (r->tensors[i].d == d) return &r->tensors[i];
    tensor *t = &r->tensors[r->count++];
    *t = (tensor){.d = d};
    memcpy(t->dim, values(d, CUDNN_ATTR_TENSOR_DIMENSIONS), sizeof t->dim);
    memcpy(t->stride, values(d, CUDNN_ATTR_TENSOR_STRIDES), sizeof t->stride);
    int type = word(d, CUDNN_ATTR_TENSOR_DATA_TYPE);
    t->dtype = type == CUDNN_DATA_BFLOAT16 ? SID2_BF16 : type == CUDNN_DATA_HALF ? SID2_F16 : SID2_F32;
    for (int64_t i = 0; i < r->e->count; i++) {
        if (r->e->ids[i] != number(d, CUDNN_ATTR_TENSOR_UNIQUE_ID)) continue;
        t->memory = r->e->data[i];
        if (flag(d, CUDNN_ATTR_TENSOR_IS_BY_VALUE)) t->number = (double)r->e->by_value[i];
    }
    return t;
}

static tensor *get(run *r, const descriptor *step, cudnnBackendAttributeName_t name)
{
    const descriptor *d = child(step, name);
    return d ? describe(r, d) : NULL;
}

/* An operand, read when it is wanted: an earlier step may have written its memory. */
static const double *read(tensor *t)
{
    if (t->memory) {
        free(t->x);
        t->x = malloc((size_t)count_of(t) * sizeof *t->x);
        for (int64_t i = 0; i < count_of(t); i++)
            t->x[i] = sid2_element_get(t->dtype, t->memory, offset(t, i));
    }
    if (!t->x && flag(t->d, CUDNN_ATTR_TENSOR_IS_BY_VALUE)) *(t->x = malloc(sizeof *t->x)) = t->number;
    if (!t->x) abort(); /* a virtual tensor that no step before made */
    return t->x;
}

/* Takes x, which is the tensor's from now on. */
static void write(tensor *t, double *x)
{
    for (int64_t i = 0; i < count_of(t); i++) {
        x[i] = sid2_element_round(t->dtype, x[i]);
        if (t->memory) sid2_element_set(t->dtype, t->memory, offset(t, i), x[i]);
    }
    free(t->x);
    t->x = x;
}

/* Bytes from its first element to the end of its last. */
static size_t extent_of(const tensor *t)
{
    int64_t last = 0;
    for (int k = 0; k < 4; k++) last += (t->dim[k] - 1) * t->stride[k];
    return (size_t)(last + 1) * sid2_dtype_size(t->dtype);
}

static double *zeros(const tensor *t) { return calloc((size_t)count_of(t), sizeof(double)); }

/* Calls for all pairs of an output pixel and an input pixel that a tap of the filter joins. */
static void convolve(run *r, const descriptor *step, const cudnnBackendAttributeName_t names[6])
{
    const descriptor *c = child(step, names[0]);
    const int64_t *padding = values(c, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS);
    tensor *a = get(r, step, names[3]), *b = get(r, step, names[4]), *y = get(r, step, names[5]);
    bool forward = step->type == CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR;
    bool data = step->type == CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR;
    /* In each of the three one of image, filter and output is what comes out. */
    const tensor *image = data ? y : a, *filter = forward || data ? b : y, *out = forward ? y : data ? a : b;
    const double *in_a = read(a), *in_b = read(b);
    double beta = (double)real(step, names[2]), alpha = (double)real(step, names[1]), *sum = zeros(y);
    int64_t height = image->dim[2], width = image->dim[3], k = filter->dim[2];
    for (int64_t n = 0; n < out->dim[0]; n++)
        for (int64_t o = 0; o < out->dim[1]; o++)
            for (int64_t i = 0; i < image->dim[1]; i++)
                for (int64_t row = 0; row < out->dim[2]; row++)
                    for (int64_t column = 0; column < out->dim[3]; column++)
                        for (int64_t tap = 0; tap < k * k; tap++) {
                            int64_t v = row + tap / k - padding[0], u = column + tap % k - padding[1];
                            if (v < 0 || v >= height || u < 0 || u >= width) continue;
                            int64_t at_image = ((n * image->dim[1] + i) * height + v) * width + u;
                            int64_t at_filter = (o * image->dim[1] + i) * k * k + tap;
                            int64_t at_out =
                                ((n * out->dim[1] + o) * out->dim[2] + row) * out->dim[3] + column;
                            if (forward)
                                sum[at_out] += in_a[at_image] * in_b[at_filter];
                            else if (data)
                                sum[at_image] += in_a[at_out] * in_b[at_filter];
                            else
                                sum[at_filter] += in_a[at_image] * in_b[at_out];
                        }
    for (int64_t i = 0; i < count_of(y); i++) sum[i] *= alpha;
    if (beta != 0) {
        const double *before = read(y);
        for (int64_t i = 0; i < count_of(y); i++) sum[i] += beta * before[i];
    }
    write(y, sum);
}

static void multiply(run *r, const descriptor *step)
{
    tensor *a = get(r, step, CUDNN_ATTR_OPERATION_MATMUL_ADESC);
    tensor *b = get(r, step, CUDNN_ATTR_OPERATION_MATMUL_BDESC);
    tensor *c = get(r, step, CUDNN_ATTR_OPERATION_MATMUL_CDESC);
    const double *in_a = read(a), *in_b = read(b);
    double *sum = zeros(c);
    int64_t m = c->dim[2], n = c->dim[3], k = a->dim[3];
    if (a->dim[2] != m || b->dim[2] != k || b->dim[3] != n || a->dim[0] != c->dim[0] ||
        a->dim[1] != c->dim[1])
        abort();
    for (int64_t batch = 0; batch < c->dim[0] * c->dim[1]; batch++)
        for (int64_t i = 0; i < m; i++)
            for (int64_t t = 0; t < k; t++) {
                double left = in_a[(batch * m + i) * k + t];
                for (int64_t j = 0; j < n; j++)
                    sum[(batch * m + i) * n + j] += left * in_b[(batch * k + t) * n + j];
            }
    write(c, sum);
}

/* The dense index in t of element i of `all`, where t has dimensions of 1 instead. */
static int64_t narrowed(const tensor *t, const tensor *all, int64_t i)
{
    int64_t at = 0, step = 1;
    for (int k = 3; k >= 0; i /= all->dim[k--]) {
        at += t->dim[k] == 1 ? 0 : i % all->dim[k] * step;
        step *= t->dim[k];
    }
    return at;
}

static void pointwise(run *r, const descriptor *step)
{
    int mode = word(child(step, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR), CUDNN_ATTR_POINTWISE_MODE);
    tensor *x = get(r, step, CUDNN_ATTR_OPERATION_POINTWISE_XDESC);
    tensor *b = get(r, step, CUDNN_ATTR_OPERATION_POINTWISE_BDESC);
    tensor *y = get(r, step, CUDNN_ATTR_OPERATION_POINTWISE_YDESC);
    const double *in_x = read(x), *in_b = b ? read(b) : NULL;
    double *out = zeros(y);
    for (int64_t i = 0; i < count_of(y); i++) {
        double p = in_x[narrowed(x, y, i)], q = b ? in_b[narrowed(b, y, i)] : 0;
        switch (mode) {
        case CUDNN_POINTWISE_ADD: out[i] = p + q; break;
        case CUDNN_POINTWISE_SUB: out[i] = p - q; break;
        case CUDNN_POINTWISE_MUL: out[i] = p * q; break;
        case CUDNN_POINTWISE_DIV: out[i] = p / q; break;
        case CUDNN_POINTWISE_EXP: out[i] = exp(p); break;
        case CUDNN_POINTWISE_LOG: out[i] = log(p); break;
        case CUDNN_POINTWISE_IDENTITY: out[i] = p; break;
        default: abort();
        }
    }
    write(y, out);
}

static void reduce(run *r, const descriptor *step)
{
    int mode = word(child(step, CUDNN_ATTR_OPERATION_REDUCTION_DESC), CUDNN_ATTR_REDUCTION_OPERATOR);
    tensor *x = get(r, step, CUDNN_ATTR_OPERATION_REDUCTION_XDESC);
    tensor *y = get(r, step, CUDNN_ATTR_OPERATION_REDUCTION_YDESC);
    const double *in = read(x);
    double *out = zeros(y);
    bool most = mode == CUDNN_REDUCE_TENSOR_MAX;
    if (!most && mode != CUDNN_REDUCE_TENSOR_ADD) abort();
    for (int64_t i = 0; most && i < count_of(y); i++) out[i] = -INFINITY;
    for (int64_t i = 0; i < count_of(x); i++) {
        double *to = &out[narrowed(y, x, i)];
        *to = most ? fmax(*to, in[i]) : *to + in[i];
    }
    write(y, out);
}

/* The same memory under other dimensions and strides. */
static void reshape(run *r, const descriptor *step)
{
    tensor *x = get(r, step, CUDNN_ATTR_OPERATION_RESHAPE_XDESC);
    tensor *y = get(r, step, CUDNN_ATTR_OPERATION_RESHAPE_YDESC);
    const double *in = read(x);
    double *memory = malloc(extent_of(x) / sid2_dtype_size(x->dtype) * sizeof *memory), *out = zeros(y);
    for (int64_t i = 0; i < count_of(x); i++) memory[offset(x, i)] = in[i];
    for (int64_t i = 0; i < count_of(y); i++) out[i] = memory[offset(y, i)];
    free(memory);
    write(y, out);
}

static void compute(void *argument)
{
    static const cudnnBackendAttributeName_t forward[] = {
        CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA,
        CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA,      CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X,
        CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W,         CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y};
    static const cudnnBackendAttributeName_t data[] = {
        CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA,
        CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA,      CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY,
        CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W,         CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX};
    static const cudnnBackendAttributeName_t filter[] = {
        CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC,
        CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA,
        CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA,
        CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X,
        CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY,
        CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW};
    const execution *e = argument;
    run r = {.e = e};
    memset(e->workspace, 0xff, e->workspace_bytes);
    fake.engines[e->engine]++;
    fake.clock += fake.engine_time[e->engine];
    const attribute *steps = find(e->graph, CUDNN_ATTR_OPERATIONGRAPH_OPS);
    for (int64_t i = 0; i < steps->count; i++) {
        const descriptor *step = held(steps, i);
        switch (step->type) {
        case CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR: convolve(&r, step, forward); break;
        case CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR: convolve(&r, step, data); break;
        case CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR:
            convolve(&r, step, filter);
            break;
        case CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR: multiply(&r, step); break;
        case CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR: pointwise(&r, step); break;
        case CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR: reduce(&r, step); break;
        case CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR: reshape(&r, step); break;
        default: abort();
        }
    }
    for (int i = 0; i < r.count; i++) free(r.tensors[i].x);
}

/* ---- The library ---- */

static cudnnStatus_t create(cudnnHandle_t *handle)
{
    *handle = calloc(1, sizeof(cudaStream_t));
    return CUDNN_STATUS_SUCCESS;
}
static cudnnStatus_t destroy(cudnnHandle_t handle) { return free(handle), CUDNN_STATUS_SUCCESS; }
static size_t version(void) { return fake.cudnn; }
static const char *error_string(cudnnStatus_t status)
{
    return status == CUDNN_STATUS_BAD_PARAM ? "CUDNN_STATUS_BAD_PARAM" : "some error";
}
static void last_error_string(char *to, size_t size) { snprintf(to, size, "some error"); }
static cudnnStatus_t set_stream(cudnnHandle_t handle, cudaStream_t stream)
{
    *(cudaStream_t *)(void *)handle = stream;
    return CUDNN_STATUS_SUCCESS;
}

/* Whether every tensor that is not virtual has memory of the device, and virtual ones have none. */
static bool bound(const execution *e)
{
    const attribute *steps = find(e->graph, CUDNN_ATTR_OPERATIONGRAPH_OPS);
    for (int64_t s = 0; s < steps->count; s++) {
        const descriptor *t;
        for (int n = 0; (t = tensor_of(held(steps, s), n)); n++) {
            run r = {.e = e};
            const tensor *made = describe(&r, t);
            bool device = made->memory && fake_is_device(made->memory, extent_of(made));
            if (flag(t, CUDNN_ATTR_TENSOR_IS_VIRTUAL) ? made->memory != NULL
                                                      : !device && !flag(t, CUDNN_ATTR_TENSOR_IS_BY_VALUE))
                return false;
        }
    }
    return e->workspace_bytes == 0 || fake_is_device(e->workspace, e->workspace_bytes);
}

static cudnnStatus_t execute(cudnnHandle_t handle, cudnnBackendDescriptor_t plan,
                             cudnnBackendDescriptor_t pack)
{
    const descriptor *p = of(plan), *given = of(pack);
    const attribute *ids = find(given, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS);
    const attribute *data = find(given, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS);
    execution e = {.graph = p->graph, .engine = p->engine, .count = ids->count};
    if (!p->final || !given->final || ids->count != data->count || ids->count > MOST_TENSORS)
        return CUDNN_STATUS_BAD_PARAM;
    memcpy(e.ids, ids->values, sizeof(int64_t) * (size_t)e.count);
    memcpy(e.data, data->values, sizeof(void *) * (size_t)e.count);
    memcpy(&e.workspace, values(given, CUDNN_ATTR_VARIANT_PACK_WORKSPACE), sizeof e.workspace);
    e.workspace_bytes = (size_t)(1000 + p->engine);
    for (int64_t i = 0; i < e.count; i++) /* numbers are read now, memory later */
        if (e.data[i] && !fake_is_device(e.data[i], 1)) {
            memcpy(&e.by_value[i], e.data[i], sizeof(float));
            e.data[i] = NULL;
        }
    if (!bound(&e)) return CUDNN_STATUS_BAD_PARAM;
    return fake_launch(*(cudaStream_t *)(void *)handle, compute, &e, sizeof e)
               ? CUDNN_STATUS_SUCCESS
               : CUDNN_STATUS_EXECUTION_FAILED;
}

bool sid2_cudnn_load(sid2_cudnn *cudnn, char *why, size_t size)
{
    *cudnn = (sid2_cudnn){
        .cudnnCreate = create,
        .cudnnDestroy = destroy,
        .cudnnGetErrorString = error_string,
        .cudnnGetLastErrorString = last_error_string,
        .cudnnGetVersion = version,
        .cudnnSetStream = set_stream,
        .cudnnBackendCreateDescriptor = create_descriptor,
        .cudnnBackendDestroyDescriptor = destroy_descriptor,
        .cudnnBackendExecute = execute,
        .cudnnBackendFinalize = finalize,
        .cudnnBackendGetAttribute = get_attribute,
        .cudnnBackendSetAttribute = set_attribute,
    };
    if (!fake.cudnn) snprintf(why, size, "libcudnn.so.9 not found");
    return fake.cudnn != 0;
}

const char *sid2_cudnn_version(const sid2_cudnn *cudnn, char text[32])
{
    (void)cudnn;
    return strcpy(text, "fake cuDNN");
}
#endif
