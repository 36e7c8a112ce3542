/* Programs: prepared calls, launched as one CUDA graph a section.
 *
 * The first run of a section launches its calls one by one: libraries load their kernels on first use, and
 * an error there has a node's name. The second captures the same calls into a graph; from then on a run is
 * one launch. Nothing in a call waits, allocates or depends on the host, and all addresses are fixed, so the
 * graph stays true. */
#include "runtime.h"

#include <stdio.h>
#include <stdlib.h>

typedef struct cuda_section {
    uint64_t runs;
    cudaGraphExec_t graph; /* NULL: not captured (yet) */
    bool not_captured;     /* tried, and refused */
} cuda_section;

typedef struct cuda_program {
    sid2_steps *steps;
    cuda_section section[SID2_MAX_STOPS + 1];
    sid2_node_time *times; /* NULL: not profiling */
    cudaEvent_t *marks;    /* one more than steps, while profiling */
} cuda_program;

/* ---- Compiling ---- */

static void drop_marks(cuda_program *program)
{
    for (int n = 0; program->marks && n <= program->steps->count; n++)
        if (program->marks[n]) cudaEventDestroy(program->marks[n]);
    free(program->marks);
    program->marks = NULL;
}

void sid2_cuda_destroy(void *self, void *handle)
{
    sid2_cuda_device *d = self;
    cuda_program *program = handle;
    cudaSetDevice(d->index);
    cudaStreamSynchronize(d->compute);
    for (int i = 0; i < program->steps->section_count; i++)
        if (program->section[i].graph) cudaGraphExecDestroy(program->section[i].graph);
    drop_marks(program);
    free(program->times);
    free(program);
}

void *sid2_cuda_compile(void *self, sid2_steps *steps, sid2_arena *arena, sid2_error *err)
{
    sid2_cuda_device *d = self;
    void *scratch;
    if (!sid2_cuda_check(cudaSetDevice(d->index), "the GPU", err) ||
        !sid2_steps_prepare(steps, &d->kernels, err) ||
        !sid2_arena_scratch(arena, steps->scratch_bytes, &scratch, err))
        return NULL;
    sid2_steps_give_scratch(steps, scratch);
    cuda_program *program = calloc(1, sizeof *program);
    if (!program) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory for a program"), NULL;
    program->steps = steps;
    return program;
}

/* ---- Running ---- */

static bool mark(const sid2_cuda_device *d, const cuda_program *program, int at, sid2_error *err)
{
    return !program->marks ||
           sid2_cuda_check(cudaEventRecord(program->marks[at], d->compute), "profiling", err);
}

/* Gives every call of a section to the stream. */
static bool enqueue(const sid2_cuda_device *d, cuda_program *program, int section, sid2_error *err)
{
    sid2_steps *steps = program->steps;
    sid2_error *why = &steps->error;
    bool wait = d->launch == SID2_CUDA_LAUNCH_SYNC;
    int32_t first = sid2_steps_first(steps, section);
    why->code = SID2_OK;
    if (!mark(d, program, first, err)) return false;
    for (int32_t n = first; n < steps->section_end[section]; n++) {
        sid2_step *step = &steps->item[n];
        step->kernel->run(&step->call);
        if (wait && !why->code) sid2_cuda_check(cudaStreamSynchronize(d->compute), "it failed", why);
        if (why->code)
            return sid2_fail(err, why->code, "node %d (%s): %s", n, sid2_op_name(step->call.op),
                             why->message);
        if (!mark(d, program, n + 1, err)) return false;
    }
    return true;
}

/* Relaxed: a library may still load a kernel while it is captured. */
static bool capture(const sid2_cuda_device *d, cuda_program *program, int section, sid2_error *err)
{
    static const char *const what = "capturing a graph";
    cudaGraph_t graph = NULL;
    if (!sid2_cuda_check(cudaStreamBeginCapture(d->compute, cudaStreamCaptureModeRelaxed), what, err))
        return false;
    bool ok = enqueue(d, program, section, err);
    cudaError_t ended = cudaStreamEndCapture(d->compute, &graph); /* also after a failure */
    if (!ok)
        cudaGetLastError();
    else
        ok = sid2_cuda_check(ended, what, err) &&
             sid2_cuda_check(cudaGraphInstantiate(&program->section[section].graph, graph, 0), what, err);
    if (graph) cudaGraphDestroy(graph);
    return ok;
}

/* Adds the times between the marks of a section. */
static bool collect(const sid2_cuda_device *d, const cuda_program *program, int section, sid2_error *err)
{
    const sid2_steps *steps = program->steps;
    if (!sid2_cuda_check(cudaStreamSynchronize(d->compute), "the GPU's work", err)) return false;
    for (int32_t n = sid2_steps_first(steps, section); n < steps->section_end[section]; n++) {
        float milliseconds = 0;
        if (!sid2_cuda_check(cudaEventElapsedTime(&milliseconds, program->marks[n], program->marks[n + 1]),
                             "profiling", err))
            return false;
        program->times[n].seconds += 1e-3 * (double)milliseconds;
        program->times[n].runs++;
    }
    return true;
}

bool sid2_cuda_run(void *self, void *handle, int section, sid2_error *err)
{
    sid2_cuda_device *d = self;
    cuda_program *program = handle;
    cuda_section *s = &program->section[section];
    if (!sid2_cuda_check(cudaSetDevice(d->index), "the GPU", err)) return false;
    if (program->marks) return enqueue(d, program, section, err) && collect(d, program, section, err);
    bool graphs = d->launch == SID2_CUDA_LAUNCH_AUTO || d->launch == SID2_CUDA_LAUNCH_GRAPH;
    if (graphs && s->runs++ > 0 && !s->graph && !s->not_captured) {
        sid2_error why = {0};
        s->not_captured = !capture(d, program, section, &why);
        if (s->not_captured && d->launch == SID2_CUDA_LAUNCH_GRAPH)
            return sid2_fail(err, why.code, "a step cannot be a CUDA graph: %s", why.message);
        if (s->not_captured && d->noticed == SID2_CUDA_QUIET) {
            snprintf(
                d->notice, sizeof d->notice,
                "cuda:%d: %d kernels are launched one by one, which is slower, for they cannot be a CUDA "
                "graph: %.160s",
                d->index, program->steps->section_end[section] - sid2_steps_first(program->steps, section),
                why.message);
            d->noticed = SID2_CUDA_NOTICED;
        }
    }
    if (!s->graph) return enqueue(d, program, section, err);
    return sid2_cuda_check(cudaGraphLaunch(s->graph, d->compute), "a step", err);
}

/* ---- Questions ---- */

/* Steps and graphs are on the host. */
size_t sid2_cuda_workspace(void *self, void *program)
{
    (void)self, (void)program;
    return 0;
}

/* A program that is profiled is launched call by call, with an event between any two. */
const sid2_node_time *sid2_cuda_profile(void *self, void *handle)
{
    sid2_cuda_device *d = self;
    cuda_program *program = handle;
    size_t marks = (size_t)program->steps->count + 1;
    if (program->times) return program->times;
    cudaSetDevice(d->index);
    program->marks = calloc(marks, sizeof *program->marks);
    bool ok = program->marks != NULL;
    for (size_t n = 0; ok && n < marks; n++) ok = cudaEventCreate(&program->marks[n]) == cudaSuccess;
    if (ok) program->times = calloc(marks, sizeof *program->times);
    if (!program->times) drop_marks(program);
    return program->times;
}
