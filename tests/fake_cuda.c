#include "fake_cuda.h"

#include <cuda_runtime_api.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

fake_cuda fake = {.devices = 1, .capability = 90, .memory = (size_t)1 << 40, .fail_after = -1};

/* ---- Work ---- */

enum { MAX_STREAMS = 16, GUARD = 4096 };

typedef struct task {
    enum { WORK, TRY, RECORD, WAIT } kind;
    void (*run)(void *);
    bool (*try)(void *); /* again and again, until it is done */
    void *argument;
    size_t size;
    cudaEvent_t event;
    int ticket;
    struct task *next;
} task;

struct CUevent_st {
    int recorded, done; /* tickets */
    struct CUstream_st *stream;
    bool timing;
    float at; /* of the clock */
};

struct CUstream_st {
    task *first, **last;
    struct CUgraph_st *capturing;
};

struct CUgraph_st {
    task *first, **last;
    bool broken;
};

static struct CUstream_st *streams[MAX_STREAMS];
static cudaError_t sticky, last_error;

static uint32_t draw(uint32_t below)
{
    fake.seed = fake.seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(fake.seed >> 33) % below;
}

static cudaError_t give(cudaError_t status)
{
    if (sticky != cudaSuccess) status = sticky;
    if (status != cudaSuccess) last_error = status;
    return status;
}

static void drop_task(task *t)
{
    free(t->argument);
    free(t);
}

static void run_work(const task *t)
{
    if (sticky != cudaSuccess) return;
    if (fake.fail_after == 0) sticky = cudaErrorIllegalAddress;
    if (fake.fail_after >= 0) fake.fail_after--;
    if (sticky == cudaSuccess) t->run(t->argument);
}

/* The stream's next task, if nothing holds it back. */
static bool step(struct CUstream_st *s)
{
    task *t = s->first;
    if (!t || (t->kind == WAIT && t->event->done < t->ticket)) return false;
    if (t->kind == TRY && sticky == cudaSuccess && !t->try(t->argument)) return sched_yield(), false;
    if (t->kind == WORK) run_work(t);
    if (t->kind == RECORD) t->event->done = t->ticket, t->event->at = fake.clock;
    s->first = t->next;
    if (!s->first) s->last = &s->first;
    drop_task(t);
    return true;
}

static void finish_event(cudaEvent_t event, int ticket);

static void advance(struct CUstream_st *s)
{
    task *t = s->first;
    if (t->kind == WAIT) finish_event(t->event, t->ticket);
    step(s);
}

static void finish_event(cudaEvent_t event, int ticket)
{
    while (event->done < ticket) advance(event->stream);
}

/* Some work of some streams. */
static void wander(void)
{
    for (uint32_t steps = draw(4); steps > 0; steps--) {
        struct CUstream_st *s = streams[draw(MAX_STREAMS)];
        if (s) step(s);
    }
}

static void append(task ***last, task t)
{
    task *made = malloc(sizeof *made);
    *made = t;
    made->next = NULL;
    made->argument = t.size ? malloc(t.size) : NULL;
    if (t.size) memcpy(made->argument, t.argument, t.size);
    **last = made;
    *last = &made->next;
}

static bool launch(void *stream, task t, const void *argument, size_t size)
{
    struct CUstream_st *s = stream;
    union {
        const void *from;
        void *to;
    } plain = {argument};
    t.argument = plain.to;
    t.size = size;
    append(s->capturing ? &s->capturing->last : &s->last, t);
    wander();
    return sticky == cudaSuccess;
}

bool fake_launch(void *stream, void (*run)(void *), const void *argument, size_t size)
{
    return launch(stream, (task){.kind = WORK, .run = run}, argument, size);
}

bool fake_try(void *stream, bool (*try)(void *), const void *argument, size_t size)
{
    return launch(stream, (task){.kind = TRY, .try = try}, argument, size);
}

bool fake_is_captured(void *stream) { return ((struct CUstream_st *)stream)->capturing; }

/* ---- Memory ---- */

typedef struct block {
    char *base;
    size_t bytes;
    bool device;
    struct block *next;
} block;
static block *blocks;

static const block *block_of(const void *memory, size_t bytes)
{
    const char *at = memory;
    for (const block *b = blocks; b; b = b->next)
        if (at >= b->base && bytes <= b->bytes && (size_t)(at - b->base) <= b->bytes - bytes) return b;
    return NULL;
}

bool fake_is_device(const void *memory, size_t bytes)
{
    const block *b = block_of(memory, bytes);
    return b && b->device;
}

static bool is_pinned(const void *memory, size_t bytes)
{
    const block *b = block_of(memory, bytes);
    return b && !b->device;
}

/* What may not be called while any stream is captured breaks that capture. */
static bool captured(void)
{
    bool any = false;
    for (int i = 0; i < MAX_STREAMS; i++) {
        if (!streams[i] || !streams[i]->capturing) continue;
        any = true;
        streams[i]->capturing->broken = true;
    }
    return any;
}

static cudaError_t allocate(void **memory, size_t bytes, bool device)
{
    if (captured()) return give(cudaErrorStreamCaptureUnsupported);
    if (sticky != cudaSuccess) return give(sticky);
    if (device && bytes > fake.memory - fake.allocated) return give(cudaErrorMemoryAllocation);
    block *b = malloc(sizeof *b);
    *b = (block){aligned_alloc(GUARD, (bytes / GUARD + 1) * GUARD), bytes, device, blocks};
    memset(b->base, 0xff, bytes); /* NaN, whatever the type */
    blocks = b;
    fake.allocated += device ? bytes : 0;
    fake.allocations++;
    *memory = b->base;
    return cudaSuccess;
}

static cudaError_t give_back(void *memory, bool device)
{
    for (block **at = &blocks; *at; at = &(*at)->next) {
        block *b = *at;
        if (b->base != memory || b->device != device) continue;
        *at = b->next;
        fake.allocated -= device ? b->bytes : 0;
        fake.allocations--;
        free(b->base);
        free(b);
        return cudaSuccess;
    }
    return memory ? give(cudaErrorInvalidValue) : cudaSuccess;
}

cudaError_t cudaMalloc(void **memory, size_t bytes) { return allocate(memory, bytes, true); }
cudaError_t cudaFree(void *memory) { return give_back(memory, true); }
cudaError_t cudaFreeHost(void *memory) { return give_back(memory, false); }
cudaError_t cudaHostAlloc(void **memory, size_t bytes, unsigned flags)
{
    (void)flags;
    return allocate(memory, bytes, false);
}

cudaError_t cudaMemGetInfo(size_t *available, size_t *total)
{
    *available = fake.memory - fake.allocated;
    *total = fake.memory;
    return cudaSuccess;
}

typedef struct copy_work {
    void *to;
    const void *from;
    size_t bytes;
} copy_work;

static void do_copy(void *argument)
{
    const copy_work *c = argument;
    memcpy(c->to, c->from, c->bytes);
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind,
                            cudaStream_t stream)
{
    bool up = kind == cudaMemcpyHostToDevice, down = kind == cudaMemcpyDeviceToHost;
    if (!(down ? is_pinned : fake_is_device)(to, bytes) || !(up ? is_pinned : fake_is_device)(from, bytes))
        return give(cudaErrorInvalidValue);
    const copy_work c = {to, from, bytes};
    fake_launch(stream, do_copy, &c, sizeof c);
    return give(cudaSuccess);
}

typedef struct set_work {
    void *to;
    int value;
    size_t bytes;
} set_work;

static void do_set(void *argument)
{
    const set_work *s = argument;
    memset(s->to, s->value, s->bytes);
}

cudaError_t cudaMemsetAsync(void *to, int value, size_t bytes, cudaStream_t stream)
{
    if (!fake_is_device(to, bytes)) return give(cudaErrorInvalidValue);
    const set_work s = {to, value, bytes};
    fake_launch(stream, do_set, &s, sizeof s);
    return give(cudaSuccess);
}

/* ---- Devices and errors ---- */

cudaError_t cudaGetDeviceCount(int *count)
{
    if (!fake.devices) return give(cudaErrorInsufficientDriver);
    *count = fake.devices;
    return give(cudaSuccess);
}

cudaError_t cudaDriverGetVersion(int *version)
{
    *version = fake.devices ? CUDART_VERSION : 0;
    return cudaSuccess;
}

static int current;

cudaError_t cudaSetDevice(int device)
{
    if (device >= fake.devices) return give(cudaErrorInvalidDevice);
    current = device;
    return give(cudaSuccess);
}

cudaError_t cudaGetDevice(int *device)
{
    *device = current;
    return give(cudaSuccess);
}

cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attribute, int device)
{
    if (device >= fake.devices) return give(cudaErrorInvalidDevice);
    *value = attribute == cudaDevAttrComputeCapabilityMajor   ? fake.capability / 10
             : attribute == cudaDevAttrComputeCapabilityMinor ? fake.capability % 10
                                                              : 4;
    return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *properties, int device)
{
    if (device >= fake.devices) return give(cudaErrorInvalidDevice);
    memset(properties, 0, sizeof *properties);
    snprintf(properties->name, sizeof properties->name, "Fake GPU");
    properties->totalGlobalMem = fake.memory;
    properties->major = fake.capability / 10;
    properties->minor = fake.capability % 10;
    properties->multiProcessorCount = 4;
    return cudaSuccess;
}

cudaError_t cudaGetLastError(void)
{
    cudaError_t error = sticky != cudaSuccess ? sticky : last_error;
    last_error = cudaSuccess;
    return error;
}

void fake_recover(void) { sticky = last_error = cudaSuccess; }

const char *cudaGetErrorString(cudaError_t error)
{
    return error == cudaErrorIllegalAddress ? "an illegal memory access was encountered" : "some error";
}

/* ---- Streams and events ---- */

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags)
{
    int i = 0;
    while (i < MAX_STREAMS - 1 && streams[i]) i++;
    if (streams[i] || flags != cudaStreamNonBlocking) return give(cudaErrorInvalidValue);
    streams[i] = calloc(1, sizeof *streams[i]);
    streams[i]->last = &streams[i]->first;
    *stream = streams[i];
    return give(cudaSuccess);
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    if (captured()) return give(cudaErrorStreamCaptureUnsupported);
    while (stream->first) advance(stream);
    return give(cudaSuccess);
}

cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    cudaStreamSynchronize(stream);
    for (int i = 0; i < MAX_STREAMS; i++)
        if (streams[i] == stream) streams[i] = NULL;
    free(stream);
    return cudaSuccess;
}

static cudaError_t make_event(cudaEvent_t *event, bool timing)
{
    *event = calloc(1, sizeof **event);
    (*event)->timing = timing;
    return give(cudaSuccess);
}

cudaError_t cudaEventCreate(cudaEvent_t *event) { return make_event(event, true); }
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags)
{
    return make_event(event, !(flags & cudaEventDisableTiming));
}

cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    if (event->stream) finish_event(event, event->recorded);
    free(event);
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    event->stream = stream;
    task t = {.kind = RECORD, .event = event, .ticket = ++event->recorded};
    append(&stream->last, t);
    wander();
    return give(cudaSuccess);
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags)
{
    (void)flags;
    if (!event->recorded) return give(cudaSuccess);
    task t = {.kind = WAIT, .event = event, .ticket = event->recorded};
    append(&stream->last, t);
    wander();
    return give(cudaSuccess);
}

cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    if (captured()) return give(cudaErrorStreamCaptureUnsupported);
    finish_event(event, event->recorded);
    return give(cudaSuccess);
}

cudaError_t cudaEventQuery(cudaEvent_t event)
{
    if (captured()) return give(cudaErrorStreamCaptureUnsupported);
    if (event->done < event->recorded && event->stream->first) step(event->stream);
    wander();
    if (sticky != cudaSuccess) return sticky;
    return event->done < event->recorded ? cudaErrorNotReady : cudaSuccess;
}

cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t from, cudaEvent_t to)
{
    *milliseconds = 0.5f + to->at - from->at;
    bool ready = from->recorded && to->recorded && from->done == from->recorded && to->done == to->recorded;
    return give(!from->timing || !to->timing ? cudaErrorInvalidResourceHandle
                : ready                      ? cudaSuccess
                                             : cudaErrorNotReady);
}

/* ---- Graphs. One that can be launched is the captured one with its tasks. ---- */

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode mode)
{
    (void)mode;
    struct CUgraph_st *graph = calloc(1, sizeof *graph);
    graph->last = &graph->first;
    graph->broken = fake.capture_refused;
    stream->capturing = graph;
    return give(cudaSuccess);
}

static void drop_graph(struct CUgraph_st *graph)
{
    while (graph && graph->first) {
        task *next = graph->first->next;
        drop_task(graph->first);
        graph->first = next;
    }
    free(graph);
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph)
{
    *graph = stream->capturing;
    stream->capturing = NULL;
    if (!(*graph)->broken) return give(cudaSuccess);
    drop_graph(*graph);
    *graph = NULL;
    return give(cudaErrorStreamCaptureInvalidated);
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *made, cudaGraph_t graph, unsigned long long flags)
{
    (void)flags;
    struct CUgraph_st *copy = calloc(1, sizeof *copy);
    copy->last = &copy->first;
    for (const task *t = graph->first; t; t = t->next) append(&copy->last, *t);
    *made = (cudaGraphExec_t)(void *)copy;
    fake.captures++;
    return give(cudaSuccess);
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) { return drop_graph(graph), cudaSuccess; }
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph)
{
    drop_graph((struct CUgraph_st *)(void *)graph);
    return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t stream)
{
    fake.graph_launches++;
    for (const task *t = ((struct CUgraph_st *)(void *)graph)->first; t; t = t->next)
        append(&stream->last, *t);
    wander();
    return give(cudaSuccess);
}
