/* Programs: prepared calls over one arena, launched as one CUDA graph.
 *
 * The first run of a program launches its calls one by one: libraries load their kernels on first use, and
 * an error there has a node's name. The second captures the same calls into a graph; from then on a run is
 * one launch. Nothing in a call waits, allocates or depends on the host, and all addresses are fixed, so the
 * graph stays true. */
#include "runtime.h"

#include <stdlib.h>

typedef struct cuda_step {
    sid2_cuda_call call;
    const sid2_cuda_kernel *kernel;
} cuda_step;

typedef struct cuda_program {
    cuda_step *steps;
    int step_count;
    void *arena, *scratch;
    size_t scratch_bytes;
    uint64_t runs;
    cudaGraphExec_t graph; /* NULL: not captured (yet) */
    bool not_captured;     /* tried, and refused */
    sid2_node_time *times; /* NULL: not profiling */
    cudaEvent_t *marks;    /* step_count + 1 while profiling */
} cuda_program;

/* ---- Compiling ---- */

typedef struct binder {
    const sid2_graph *graph;
    const sid2_plan *plan;
    sid2_buffer *const *externals;
    char *arena;
} binder;

static sid2_cuda_tensor bind(const binder *b, sid2_tensor tensor)
{
    if (tensor == SID2_NONE) return (sid2_cuda_tensor){0};
    const sid2_tensor_info *info = &b->graph->tensors[tensor];
    sid2_place place = sid2_plan_place(b->plan, b->graph, tensor);
    char *memory = place.external == SID2_NONE ? b->arena : b->externals[place.external]->handle;
    sid2_cuda_tensor t = {.dtype = info->dtype, .shape = info->shape, .data = memory + place.offset};
    for (int32_t s = 0; s < b->graph->params_count; ++s) {
        const sid2_params *params = &b->graph->params[s];
        sid2_tensor low = params->weights_low;
        if (info->base != params->weights || low == info->base || !b->externals[low]) continue;
        t.low_dtype = b->graph->tensors[low].dtype;
        t.low = (char *)b->externals[low]->handle + (size_t)info->offset * sid2_dtype_size(t.low_dtype);
    }
    return t;
}

/* Prepares the call on the first table that takes it. */
static bool choose_kernel(const sid2_cuda_target *target, cuda_step *step, int node, sid2_error *err)
{
    sid2_op op = step->call.op;
    const sid2_cuda_kernel *const candidates[] = {target->cudnn ? &sid2_cuda_cudnn[op] : NULL,
                                                  target->cublaslt ? &sid2_cuda_cublaslt[op] : NULL,
                                                  &sid2_cuda_own[op]};
    sid2_error why = {.code = SID2_ERR_UNSUPPORTED, .message = "no kernel for it"};
    for (int i = 0; i < 3; i++) {
        if (!candidates[i] || !candidates[i]->run) continue;
        step->call.state = NULL;
        step->call.scratch_bytes = 0;
        if (!candidates[i]->prepare || candidates[i]->prepare(&step->call, &why)) {
            step->kernel = candidates[i];
            return true;
        }
        if (why.code != SID2_ERR_UNSUPPORTED) break;
    }
    return sid2_fail(err, why.code, "node %d (%s): %s", node, sid2_op_name(op), why.message);
}

static bool prepare_steps(const sid2_cuda_device *d, cuda_program *program, const binder *b, sid2_error *err)
{
    for (int n = 0; n < program->step_count; n++) {
        const sid2_node *node = &b->graph->nodes[n];
        sid2_cuda_call *call = &program->steps[n].call;
        call->op = node->op;
        call->attr = &node->attr;
        call->target = &d->target;
        for (int i = 0; i < SID2_MAX_INPUTS; i++) call->in[i] = bind(b, node->in[i]);
        for (int i = 0; i < SID2_MAX_OUTPUTS; i++) call->out[i] = bind(b, node->out[i]);
        if (!choose_kernel(&d->target, &program->steps[n], n, err)) return false;
        if (call->scratch_bytes > program->scratch_bytes) program->scratch_bytes = call->scratch_bytes;
    }
    if (program->scratch_bytes == 0) return true;
    program->scratch = sid2_cuda_malloc(program->scratch_bytes, "scratch", err);
    for (int n = 0; n < program->step_count; n++) program->steps[n].call.scratch = program->scratch;
    return program->scratch != NULL;
}

static void drop_marks(cuda_program *program)
{
    for (int n = 0; program->marks && n <= program->step_count; n++)
        if (program->marks[n]) cudaEventDestroy(program->marks[n]);
    free(program->marks);
    program->marks = NULL;
}

void sid2_cuda_destroy(void *self, void *handle)
{
    sid2_cuda_device *d = self;
    cuda_program *program = handle;
    if (!program) return;
    cudaSetDevice(d->index);
    cudaStreamSynchronize(d->compute);
    if (program->graph) cudaGraphExecDestroy(program->graph);
    for (int n = 0; n < program->step_count; n++) {
        cuda_step *step = &program->steps[n];
        if (step->kernel && step->kernel->release) step->kernel->release(&step->call);
    }
    drop_marks(program);
    sid2_cuda_mfree(program->arena);
    sid2_cuda_mfree(program->scratch);
    free(program->times);
    free(program->steps);
    free(program);
}

void *sid2_cuda_compile(void *self, const sid2_graph *graph, const sid2_plan *plan,
                        sid2_buffer *const *externals, sid2_error *err)
{
    sid2_cuda_device *d = self;
    if (!sid2_cuda_check(cudaSetDevice(d->index), "the GPU", err)) return NULL;
    cuda_program *program = calloc(1, sizeof *program);
    if (program) program->steps = calloc((size_t)graph->node_count + 1, sizeof *program->steps);
    if (!program || !program->steps) {
        free(program);
        return sid2_fail(err, SID2_ERR_MEMORY, "no memory to prepare %d nodes", graph->node_count), NULL;
    }
    program->step_count = graph->node_count;
    program->arena = sid2_cuda_malloc(plan->arena_bytes, "the arena of activations", err);
    const binder b = {graph, plan, externals, program->arena};
    if (program->arena && prepare_steps(d, program, &b, err)) return program;
    sid2_cuda_destroy(d, program);
    return NULL;
}

/* ---- Running ---- */

static bool mark(const sid2_cuda_device *d, const cuda_program *program, int at, sid2_error *err)
{
    return !program->marks ||
           sid2_cuda_check(cudaEventRecord(program->marks[at], d->compute), "profiling", err);
}

/* Gives every call to the stream. */
static bool enqueue(const sid2_cuda_device *d, cuda_program *program, sid2_error *err)
{
    bool wait = d->launch == SID2_CUDA_LAUNCH_SYNC;
    if (!mark(d, program, 0, err)) return false;
    for (int n = 0; n < program->step_count; n++) {
        cuda_step *step = &program->steps[n];
        sid2_error why = {0};
        bool ok = step->kernel->run(&step->call, d->compute, &why) &&
                  (!wait || sid2_cuda_check(cudaStreamSynchronize(d->compute), "it failed", &why));
        if (!ok)
            return sid2_fail(err, why.code ? why.code : SID2_ERR_DEVICE, "node %d (%s): %s", n,
                             sid2_op_name(step->call.op), why.message);
        if (!mark(d, program, n + 1, err)) return false;
    }
    return true;
}

/* Relaxed: a library may still load a kernel while it is captured. */
static bool capture(const sid2_cuda_device *d, cuda_program *program, sid2_error *err)
{
    static const char *const what = "capturing a graph";
    cudaGraph_t graph = NULL;
    if (!sid2_cuda_check(cudaStreamBeginCapture(d->compute, cudaStreamCaptureModeRelaxed), what, err))
        return false;
    bool ok = enqueue(d, program, err);
    cudaError_t ended = cudaStreamEndCapture(d->compute, &graph); /* also after a failure */
    if (!ok)
        cudaGetLastError();
    else
        ok = sid2_cuda_check(ended, what, err) &&
             sid2_cuda_check(cudaGraphInstantiate(&program->graph, graph, 0), what, err);
    if (graph) cudaGraphDestroy(graph);
    return ok;
}

/* Adds the times between the marks. */
static bool collect(const sid2_cuda_device *d, const cuda_program *program, sid2_error *err)
{
    if (!sid2_cuda_check(cudaStreamSynchronize(d->compute), "the GPU's work", err)) return false;
    for (int n = 0; n < program->step_count; n++) {
        float milliseconds = 0;
        if (!sid2_cuda_check(cudaEventElapsedTime(&milliseconds, program->marks[n], program->marks[n + 1]),
                             "profiling", err))
            return false;
        program->times[n].seconds += 1e-3 * (double)milliseconds;
        program->times[n].runs++;
    }
    return true;
}

bool sid2_cuda_run(void *self, void *handle, sid2_error *err)
{
    sid2_cuda_device *d = self;
    cuda_program *program = handle;
    if (!sid2_cuda_check(cudaSetDevice(d->index), "the GPU", err)) return false;
    if (program->marks) return enqueue(d, program, err) && collect(d, program, err);
    bool graphs = d->launch == SID2_CUDA_LAUNCH_AUTO || d->launch == SID2_CUDA_LAUNCH_GRAPH;
    if (graphs && program->runs++ > 0 && !program->graph && !program->not_captured) {
        sid2_error why = {0};
        program->not_captured = !capture(d, program, &why);
        if (program->not_captured && d->launch == SID2_CUDA_LAUNCH_GRAPH)
            return sid2_fail(err, why.code, "a step cannot be a CUDA graph: %s", why.message);
    }
    if (!program->graph) return enqueue(d, program, err);
    return sid2_cuda_check(cudaGraphLaunch(program->graph, d->compute), "a step", err);
}

/* ---- Questions ---- */

size_t sid2_cuda_workspace(void *self, void *program)
{
    (void)self;
    return ((cuda_program *)program)->scratch_bytes;
}

/* A program that is profiled is launched call by call, with an event between any two. */
const sid2_node_time *sid2_cuda_profile(void *self, void *handle)
{
    sid2_cuda_device *d = self;
    cuda_program *program = handle;
    size_t marks = (size_t)program->step_count + 1;
    if (program->times) return program->times;
    cudaSetDevice(d->index);
    program->marks = calloc(marks, sizeof *program->marks);
    bool ok = program->marks != NULL;
    for (size_t n = 0; ok && n < marks; n++) ok = cudaEventCreate(&program->marks[n]) == cudaSuccess;
    if (ok) program->times = calloc(marks, sizeof *program->times);
    if (!program->times) drop_marks(program);
    return program->times;
}
