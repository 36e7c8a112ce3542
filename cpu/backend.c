/* Both CPU devices. A program is an array of prepared calls over one arena; running it is a loop. */
#include "cpu.h"
#include "host.h"
#include "kernel.h"
#include "waiting.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

enum { FAST, REFERENCE, DEVICE_COUNT };
enum { ALIGNMENT = 64, HUGE_PAGE = 2 << 20 };

typedef struct cpu_device {
    int index, threads;
    const sid2_cpu_isa *isa;   /* NULL on the reference device */
    sid2_cpu_waiting *waiting; /* NULL: as OpenMP's own settings say */
} cpu_device;

typedef struct cpu_step {
    sid2_cpu_call call;
    const sid2_cpu_kernel *kernel;
} cpu_step;

typedef struct cpu_program {
    cpu_step *steps;
    int step_count;
    void *arena, *scratch;
    size_t workspace;
    sid2_node_time *times; /* NULL: not profiling */
} cpu_program;

/* ---- Memory ----
 * Mapped, not malloc'ed: zero-filled without touching, and aligned to huge pages, since with 4 KiB pages the
 * first pass over an arena is spent in page faults. A header in front remembers the mapping. */
typedef struct map_header {
    void *base;
    size_t bytes;
} map_header;

static void *map_memory(size_t bytes, const char *what, sid2_error *err)
{
    size_t align = bytes >= HUGE_PAGE ? HUGE_PAGE : ALIGNMENT, memory = sid2_cpu_host_memory();
    size_t total = bytes + align + ALIGNMENT;
    void *base = MAP_FAILED;
    if (total > bytes && (memory == 0 || bytes <= memory))
        base = mmap(NULL, total, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED)
        return sid2_fail(err, SID2_ERR_MEMORY,
                         "%s needs %.2f GiB of memory; this process may use %.2f GiB in all", what,
                         (double)bytes / (1 << 30), (double)memory / (1 << 30)),
               NULL;
    char *data = (char *)(((uintptr_t)base + ALIGNMENT + align - 1) & ~(uintptr_t)(align - 1));
    if (bytes >= HUGE_PAGE) madvise(data, bytes, MADV_HUGEPAGE); /* a wish: refusal only costs time */
    memcpy(data - ALIGNMENT, &(map_header){base, total}, sizeof(map_header));
    return data;
}

static void unmap_memory(void *data)
{
    if (!data) return;
    map_header header;
    memcpy(&header, (char *)data - ALIGNMENT, sizeof header);
    munmap(header.base, header.bytes);
}

static void *cpu_alloc(void *self, size_t bytes, sid2_error *err)
{
    (void)self;
    return map_memory(bytes, "a buffer", err);
}

static void cpu_free(void *self, void *handle)
{
    (void)self;
    unmap_memory(handle);
}

static bool cpu_upload(void *self, void *handle, size_t offset, const void *from, size_t bytes,
                       sid2_error *err)
{
    (void)self, (void)err;
    memcpy((char *)handle + offset, from, bytes);
    return true;
}

static bool cpu_download(void *self, const void *handle, size_t offset, void *to, size_t bytes,
                         sid2_error *err)
{
    (void)self, (void)err;
    memcpy(to, (const char *)handle + offset, bytes);
    return true;
}

/* ---- Devices ---- */
static const sid2_cpu_isa *best_isa(void)
{
    const sid2_cpu_isa *const *isa = sid2_cpu_isas;
    while (*isa && !(*isa)->usable()) isa++;
    return *isa;
}

static int cpu_count(void) { return DEVICE_COUNT; }

static int thread_count(const sid2_device_options *options)
{
    return options && options->threads > 0 ? options->threads : sid2_cpu_host_threads();
}

/* "own loops: AVX2; reference only: adam, add" */
static void describe_fast(const sid2_cpu_isa *isa, char *text, size_t size)
{
    size_t at = (size_t)snprintf(text, size, "own loops: %s", isa->name);
    const char *separator = "; reference only: ";
    for (int op = 0; op < SID2_OP_COUNT && at < size; op++) {
        if (isa->kernels[op].run || sid2_cpu_onednn[op].run) continue;
        at += (size_t)snprintf(text + at, size - at, "%s%s", separator, sid2_op_name((sid2_op)op));
        separator = ", ";
    }
}

static bool cpu_describe(int index, const sid2_device_options *options, sid2_device_info *info)
{
    const sid2_cpu_isa *isa = best_isa();
    if (index < 0 || index >= DEVICE_COUNT || (index == FAST && !isa)) return false;
    char host[64];
    sid2_cpu_host_name(host, sizeof host);
    *info = (sid2_device_info){.memory = sid2_cpu_host_memory(), .bf16 = true, .f16 = index == REFERENCE};
    if (index == FAST) {
        int threads = thread_count(options);
        snprintf(info->name, sizeof info->name, "%s, %d thread%s, %s", host, threads, threads > 1 ? "s" : "",
                 isa->name);
        snprintf(info->id, sizeof info->id, "cpu");
        snprintf(info->driver, sizeof info->driver, "%s", sid2_cpu_onednn_version());
        describe_fast(isa, info->detail, sizeof info->detail);
        /* Elsewhere bf16 is only stored, and computed with in f32. */
        info->fast = strstr(isa->name, "BF16") || !sid2_cpu_onednn[SID2_OP_linear].run ? SID2_BF16 : SID2_F32;
        info->rank = 10;
    } else {
        snprintf(info->name, sizeof info->name, "%s, reference, 1 thread", host);
        snprintf(info->id, sizeof info->id, "reference");
        snprintf(info->driver, sizeof info->driver, "plain C");
        snprintf(info->detail, sizeof info->detail, "double accumulation, for comparison; slow");
        info->rank = 1;
    }
    return true;
}

static void *cpu_open(int index, const sid2_device_options *options, sid2_error *err)
{
    if (index < 0 || index >= DEVICE_COUNT)
        return sid2_fail(err, SID2_ERR_USAGE, "cpu: no device %d", index), NULL;
    cpu_device *device = calloc(1, sizeof *device);
    if (!device) return sid2_fail(err, SID2_ERR_MEMORY, "cpu: no memory for the device"), NULL;
    device->index = index;
    device->threads = index == FAST ? thread_count(options) : 1;
    device->isa = index == FAST ? best_isa() : NULL;
    if (options && options->share_cores) device->waiting = sid2_cpu_waiting_start(device->threads);
    return device;
}

static void cpu_close(void *self)
{
    sid2_cpu_waiting_stop(((cpu_device *)self)->waiting);
    free(self);
}

static size_t cpu_alignment(void *self)
{
    (void)self;
    return ALIGNMENT;
}

static bool cpu_supports(void *self, sid2_op op, sid2_dtype compute)
{
    const cpu_device *device = self;
    if (compute == SID2_F32 || compute == SID2_BF16)
        if (device->index == FAST && (sid2_cpu_onednn[op].run || device->isa->kernels[op].run)) return true;
    if (compute == SID2_F16 || compute == SID2_F64)
        if (device->index == FAST) return false;
    return sid2_cpu_reference[op].run != NULL;
}

/* ---- Programs ---- */
/* Prepares the call on one kernel. `refused` is set where another kernel should be tried. */
static bool try_kernel(cpu_step *step, const sid2_cpu_kernel *kernel, bool *refused, sid2_error *err)
{
    sid2_error why = {0};
    *refused = true;
    if (!kernel->run) return false;
    step->call.state = NULL;
    step->call.scratch_bytes = 0;
    if (!kernel->prepare || kernel->prepare(&step->call, &why)) {
        step->kernel = kernel;
        return true;
    }
    *refused = why.code == SID2_ERR_UNSUPPORTED;
    if (!*refused && err) *err = why;
    return false;
}

/* Fast kernels compute in f32 and bf16; f64 are only sums of squares. */
static bool fast_types(const sid2_cpu_call *call)
{
    if (call->op == SID2_OP_square_sums) return call->in[0].dtype == SID2_F32;
    if (call->op == SID2_OP_norm_of) return call->out[0].dtype == SID2_F32;
    for (int i = 0; i < SID2_MAX_INPUTS; i++)
        if (call->in[i].data && (call->in[i].dtype == SID2_F16 || call->in[i].dtype == SID2_F64))
            return false;
    for (int i = 0; i < SID2_MAX_OUTPUTS; i++)
        if (call->out[i].data && (call->out[i].dtype == SID2_F16 || call->out[i].dtype == SID2_F64))
            return false;
    return true;
}

static bool choose_kernel(const cpu_device *device, cpu_step *step, sid2_error *err)
{
    sid2_op op = step->call.op;
    const sid2_cpu_kernel *candidates[] = {NULL, NULL, NULL, &sid2_cpu_reference[op]};
    if (device->index == FAST && fast_types(&step->call)) {
        candidates[0] = &device->isa->ahead[op];
        candidates[1] = &sid2_cpu_onednn[op];
        candidates[2] = &device->isa->kernels[op];
    }
    for (size_t i = 0; i < sizeof candidates / sizeof *candidates; i++) {
        bool refused = true;
        if (!candidates[i]) continue;
        if (try_kernel(step, candidates[i], &refused, err)) return true;
        if (!refused) return false;
    }
    return sid2_fail(err, SID2_ERR_UNSUPPORTED, "%s: no kernel for these tensors on this device",
                     sid2_op_name(op));
}

typedef struct binder {
    const sid2_graph *graph;
    const sid2_plan *plan;
    sid2_buffer *const *externals;
    char *arena;
} binder;

static sid2_cpu_tensor bind(const binder *b, sid2_tensor tensor)
{
    if (tensor == SID2_NONE) return (sid2_cpu_tensor){0};
    const sid2_tensor_info *info = &b->graph->tensors[tensor];
    sid2_place place = sid2_plan_place(b->plan, b->graph, tensor);
    sid2_cpu_tensor bound = {.dtype = info->dtype, .shape = info->shape};
    if (place.external == SID2_NONE) {
        bound.data = b->arena + place.offset;
    } else {
        sid2_buffer *buffer = b->externals[place.external];
        bound.data = (char *)buffer->handle + place.offset;
        bound.version = &buffer->version;
    }
    return bound;
}

static void cpu_destroy(void *self, void *handle)
{
    (void)self;
    cpu_program *program = handle;
    if (!program) return;
    for (int i = 0; i < program->step_count; i++) {
        cpu_step *step = &program->steps[i];
        if (step->kernel && step->kernel->release) step->kernel->release(&step->call);
    }
    free(program->steps);
    free(program->times);
    unmap_memory(program->arena);
    unmap_memory(program->scratch);
    free(program);
}

static bool prepare_steps(const cpu_device *device, cpu_program *program, const binder *b, sid2_error *err)
{
    size_t scratch_bytes = 0;
    for (int n = 0; n < program->step_count; n++) {
        const sid2_node *node = &b->graph->nodes[n];
        cpu_step *step = &program->steps[n];
        sid2_cpu_call *call = &step->call;
        call->op = node->op;
        call->attr = &node->attr;
        call->threads = device->threads;
        for (int i = 0; i < SID2_MAX_INPUTS; i++) call->in[i] = bind(b, node->in[i]);
        for (int i = 0; i < SID2_MAX_OUTPUTS; i++) call->out[i] = bind(b, node->out[i]);
        if (!choose_kernel(device, step, err)) return false;
        if (call->scratch_bytes > scratch_bytes) scratch_bytes = call->scratch_bytes;
        if (step->kernel->owned) program->workspace += step->kernel->owned(call);
    }
    program->workspace += scratch_bytes + (size_t)program->step_count * sizeof(cpu_step);
    if (scratch_bytes == 0) return true;
    program->scratch = map_memory(scratch_bytes, "scratch", err);
    for (int n = 0; n < program->step_count; n++) program->steps[n].call.scratch = program->scratch;
    return program->scratch != NULL;
}

static void *cpu_compile(void *self, const sid2_graph *graph, const sid2_plan *plan,
                         sid2_buffer *const *externals, sid2_error *err)
{
    cpu_program *program = calloc(1, sizeof *program);
    if (program) program->steps = calloc((size_t)graph->node_count + 1, sizeof *program->steps);
    if (!program || !program->steps) {
        cpu_destroy(self, program);
        return sid2_fail(err, SID2_ERR_MEMORY, "no memory to prepare %d nodes", graph->node_count), NULL;
    }
    program->step_count = graph->node_count;
    program->arena = map_memory(plan->arena_bytes, "the arena of activations", err);
    const binder b = {graph, plan, externals, program->arena};
    if (!program->arena || !prepare_steps(self, program, &b, err)) return cpu_destroy(self, program), NULL;
    return program;
}

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static bool cpu_run(void *self, void *handle, sid2_error *err)
{
    cpu_program *program = handle;
    sid2_cpu_waiting_adapt(((cpu_device *)self)->waiting);
    double before = program->times ? seconds() : 0;
    for (int n = 0; n < program->step_count; n++) {
        cpu_step *step = &program->steps[n];
        step->kernel->run(&step->call);
        if (step->call.failed)
            return sid2_fail(err, SID2_ERR_DEVICE, "node %d (%s) failed: its library refused to run it", n,
                             sid2_op_name(step->call.op));
        if (!program->times) continue;
        double after = seconds();
        program->times[n].seconds += after - before;
        program->times[n].runs++;
        before = after;
    }
    return true;
}

static size_t cpu_workspace(void *self, void *program)
{
    (void)self;
    return ((cpu_program *)program)->workspace;
}

static const sid2_node_time *cpu_profile(void *self, void *handle)
{
    (void)self;
    cpu_program *program = handle;
    if (!program->times) program->times = calloc((size_t)program->step_count + 1, sizeof *program->times);
    return program->times;
}

const sid2_backend sid2_backend_cpu = {
    .name = "cpu",
    .count = cpu_count,
    .describe = cpu_describe,
    .open = cpu_open,
    .close = cpu_close,
    .alignment = cpu_alignment,
    .supports = cpu_supports,
    .alloc = cpu_alloc,
    .free = cpu_free,
    .upload = cpu_upload,
    .download = cpu_download,
    .compile = cpu_compile,
    .run = cpu_run,
    .workspace = cpu_workspace,
    .profile = cpu_profile,
    .destroy = cpu_destroy,
};
