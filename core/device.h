/* Devices: the one interface between sid2 and whatever computes.
 *
 * A backend fills a sid2_backend; nothing above core knows which. A *device* owns *buffers*; a graph and
 * its plan compile to a *program* on a device, with its externals bound to buffers and its activations in an
 * *arena*; running it is one call.
 * A device is used from one thread at a time. One of many cores can be cut into *parts*, each for a thread. */
#ifndef SID2_CORE_DEVICE_H
#define SID2_CORE_DEVICE_H

#include <sid2/device.h>

#include "call.h"

typedef struct sid2_buffer sid2_buffer;
typedef struct sid2_arena sid2_arena;
typedef struct sid2_program sid2_program;

/* Memory on a device. `version` counts writes, so that a program can keep a packed copy of weights. */
struct sid2_buffer {
    sid2_device *device;
    size_t bytes;
    uint64_t version;
    void *handle; /* the backend's; host memory on the CPU */
};

/* Time spent in one node of a program, summed over runs. */
typedef struct sid2_node_time {
    double seconds;
    uint64_t runs;
} sid2_node_time;

/* sid2_device_info.arena where nothing was measured. */
enum { SID2_ARENA = 48 };

/* What `sid2 tune` measures of a device that is left all these choices. */
typedef struct sid2_fastest {
    sid2_dtype train, sample; /* types */
    const char *blocks;       /* the ways of products, which the types were measured with */
    int arena;                /* MiB of activations of a micro-batch */
    double region;            /* nanoseconds */
} sid2_fastest;

/* What a GPU's compiler made of a shader. Numbers that it does not tell are -1. */
enum {
    SID2_CODE_MATRIX,
    SID2_CODE_FMA,
    SID2_CODE_VECTOR, /* other arithmetic on vectors */
    SID2_CODE_MEMORY,
    SID2_CODE_BARRIER,
    SID2_CODE_OTHER, /* scalars, branches, waiting */
    SID2_CODE_KINDS
};
typedef struct sid2_code_report {
    char name[48];      /* "product_shared_16" */
    char made_for[200]; /* types of its bindings, local size, constants */
    double registers, scalar_registers, spills, scratch_bytes, shared_bytes, instructions;
    double subgroup, subgroups; /* invocations in one; how many a SIMD (or a multiprocessor) holds at once */
    int loop[SID2_CODE_KINDS];  /* instructions of the hottest loop, once around; all 0: there is none */
} sid2_code_report;

/* A call for which a library proposes several ways, and what it took by them. */
typedef struct sid2_way_report {
    char call[240];     /* operator, type, shapes */
    int ways, fastest;  /* how many, and which in the library's order; 0: its own choice stands */
    double first, best; /* seconds by the library's own choice, and by the fastest */
} sid2_way_report;

/* Whether a product, m x n from sums of k, takes less time of operands in eight bits, by counting: 2 mnk operations at twice
 * the rate, beside three bytes more for each of the k (m + n) numbers, which are read to be rounded, and four more launches
 * of 3 us. At 80 % of the data sheet's operations in 16 bits, 70 % in eight, and 90 % of the bandwidth it does from
 * mnk = 920 k (m + n) + 1.1e10 on (H100; H200: 640, B200: 870 and 2.5e10, RTX 4090: 510); here is what holds for each. */
static inline bool sid2_fp8_gains(double m, double n, double k)
{
    return m * n * k >= 920 * k * (m + n) + 2.5e10;
}

/* What a backend provides. `self` is what open returned. Functions that fail fill `err`. */
typedef struct sid2_backend {
    const char *name;
    int (*count)(void);
    bool (*describe)(int index, const sid2_device_options *options, sid2_device_info *info);
    /* What keeps it from having (more) devices or full speed, one line each: "CUDA: no driver (libcuda.so.1
     * not found)". False past the last. May be NULL. */
    bool (*missing)(int line, char text[200]);
    /* What it could not do as well as it should, once: sid2_device_notice. May be NULL. */
    const char *(*notice)(void *self);
    /* Ways of products (block sizes; own loops or a library) to choose from for device `index`: name `i`, best guess first,
     * NULL past the last; and the choice for all programs to come. Both may be NULL. */
    const char *(*blocks)(int index, int i);
    bool (*keep_blocks)(int index, const char *name, sid2_error *err);
    /* What was measured to be the fastest, for sid2_device_info and programs from now on. NULL: it is known, and
     * keep_blocks keeps the choice. */
    bool (*keep_fast)(int index, const sid2_fastest *fastest, sid2_error *err);
    /* From now on, where a library proposes several ways of a call, its first run measures them and goes on with the
     * fastest: to be called before there are programs. What was measured, number `i`, NULL past the last. And to keep it, for
     * whoever opens such a device later. All three NULL: there is nothing to choose. */
    void (*measure)(void *self);
    const sid2_way_report *(*measured)(void *self, int i);
    bool (*keep_measured)(void *self, sid2_error *err);
    /* Nanoseconds that it takes to have all threads begin a loop and end it. NULL where it has none. */
    double (*region)(void *self);
    void *(*open)(int index, const sid2_device_options *options, sid2_error *err);
    void (*close)(void *self);
    /* A part with so many of its cores, which takes every handle of memory of the whole; `close` ends it. NULL: it is
     * one piece. */
    void *(*part)(void *self, int cores, sid2_error *err);
    bool addresses; /* handles of memory are addresses */
    bool rebinds;   /* with addresses, the host's: each run looks anew where its calls' tensors lie */
    size_t (*alignment)(void *self); /* of tensors in the arena, bytes */
    size_t (*largest)(void *self);   /* allocation, bytes; NULL: any */
    bool (*supports)(void *self, sid2_op op, sid2_dtype compute);
    /* A handle of memory, zero-filled where that is asked for. `what` is for messages: "a buffer". */
    void *(*alloc)(void *self, size_t bytes, const char *what, bool zero, sid2_error *err);
    void (*free)(void *self, void *handle); /* waits for whatever uses it */
    bool (*upload)(void *self, void *handle, size_t offset, const void *from, size_t bytes, sid2_error *err);
    bool (*download)(void *self, const void *handle, size_t offset, void *to, size_t bytes, sid2_error *err);
    /* The buffer's bytes as of now, but `to` is filled only by the next download. NULL: where a download
     * costs nothing. */
    bool (*download_later)(void *self, const void *handle, size_t offset, void *to, size_t bytes,
                           sid2_error *err);
    /* f32, `count` from element `first` on: into += from, from = 0; low: both are rounded to bf16 before. From any
     * thread. There where it rebinds. */
    void (*fold)(void *into, void *from, size_t first, size_t count, bool low);
    /* Prepares bound steps, which live as long as the program; whoever needs them no more may free them. Scratch
     * comes from the arena. */
    void *(*compile)(void *self, sid2_steps *steps, sid2_arena *arena, sid2_error *err);
    /* One section of the steps; they are run in turn. */
    bool (*run)(void *self, void *program, int section, sid2_error *err);
    /* Bytes beside the arena: prepared primitives, packed weights. */
    size_t (*workspace)(void *self, void *program);
    /* Switches timing on and returns one entry a node; valid until destroy. */
    const sid2_node_time *(*profile)(void *self, void *program);
    void (*destroy)(void *self, void *program);
    /* What the device's compiler made of shader `i`; NULL past the last. NULL: it does not say. */
    const sid2_code_report *(*report)(void *self, int i);
} sid2_backend;

/* ---- Used by the floors above ---- */
/* sid2_device_open among given backends. */
sid2_device *sid2_backends_open(const sid2_backend *const *backends, int backend_count, const char *id,
                                const sid2_device_options *options, sid2_error *err);
bool sid2_device_supports(const sid2_device *device, sid2_op op, sid2_dtype compute);
/* Shader `i` of all programs so far, in the order they were compiled; NULL past the last, or where none are told. */
const sid2_code_report *sid2_device_report(const sid2_device *device, int i);
size_t sid2_device_alignment(const sid2_device *device);

/* A device of many cores (sid2_device_info.cores) can be cut into parts, to be used from several threads at the same
 * time: a part is a device of its own over the same memory, with some of the cores, and used from one thread at a time.
 * Its programs may bind buffers of the whole and of other parts; while one part writes to a buffer, no other touches
 * it. The whole computes while no part does. Parts are closed before it. */
sid2_device *sid2_device_part(sid2_device *device, int cores, sid2_error *err);
/* Whether its programs can be given other buffers: sid2_program_rebind. */
bool sid2_device_rebinds(const sid2_device *device);
/* Nanoseconds to begin and end a loop over all its threads, now; 0: it has none. */
double sid2_device_region(sid2_device *device);
/* What that backend's `open` returned; NULL: the device is another's. */
void *sid2_device_self(const sid2_device *device, const sid2_backend *backend);
/* Whether its buffers are in the host's memory. */
bool sid2_device_is_host(const sid2_device *device);

sid2_buffer *sid2_buffer_create(sid2_device *device, size_t bytes, sid2_error *err); /* zero-filled */
void sid2_buffer_destroy(sid2_buffer *buffer);
bool sid2_buffer_upload(sid2_buffer *buffer, size_t offset, const void *from, size_t bytes, sid2_error *err);
bool sid2_buffer_download(const sid2_buffer *buffer, size_t offset, void *to, size_t bytes, sid2_error *err);
/* The bytes as of now, without waiting for the device: `to` is sure to be filled after the next
 * sid2_buffer_download from any buffer of the device, and must live until then, or until this buffer is
 * destroyed. */
bool sid2_buffer_download_later(const sid2_buffer *buffer, size_t offset, void *to, size_t bytes,
                                sid2_error *err);
/* Its bytes where the device's memory is the host's, else NULL. Whoever writes there says so afterwards. */
void *sid2_buffer_memory(const sid2_buffer *buffer);
/* It is written by others than this device's programs and uploads. */
void sid2_buffer_touch(sid2_buffer *buffer);
/* Of two buffers of f32, `count` elements from `first` on: into += from, from = 0; with `low` both are rounded to bf16
 * before. Only where sid2_device_rebinds;
 * several threads may do so at once, each with a range of its own. */
bool sid2_buffer_fold(sid2_buffer *into, sid2_buffer *from, size_t first, size_t count, bool low,
                      sid2_error *err);

/* Memory for activations and scratch, for programs that never run at the same time: what one leaves there means
 * nothing to the next. Large enough for each of `graphs`; a program that wants more scratch than those before it
 * adds it. To be destroyed after its programs. */
sid2_arena *sid2_arena_create(sid2_device *device, const sid2_graph *const *graphs, int count,
                              sid2_error *err);
void sid2_arena_destroy(sid2_arena *arena);
size_t sid2_arena_bytes(const sid2_arena *arena); /* with scratch */
/* For backends: scratch for the steps of a program, aligned as tensors are; as long as the arena lives. NULL
 * without an error where it is of no bytes. */
bool sid2_arena_scratch(sid2_arena *arena, size_t bytes, void **scratch, sid2_error *err);

typedef struct sid2_binding {
    const char *name;
    sid2_buffer *buffer;
} sid2_binding;

/* Plans the graph and prepares every call. The graph and the arena must outlive the program; without an arena (NULL)
 * it has its own. Every external needs a binding whose buffer is large enough; bindings the graph does not use are
 * ignored. An operator that the device does not have in the graph's compute type is SID2_ERR_UNSUPPORTED, with a line
 * that names device, operator and type. */
sid2_program *sid2_program_create(sid2_device *device, const sid2_graph *graph, sid2_arena *arena,
                                  const sid2_binding *bindings, int binding_count, sid2_error *err);
/* Runs what is left of the program, all of it as a rule; the next run begins anew, as it does after an error. */
bool sid2_program_run(sid2_program *program, sid2_error *err);
/* Runs up to a stop of the graph (sid2_graph_stop) and no further: what was computed until there may be read, and what
 * is read after it may be written, before this or sid2_program_run goes on. Stops come in the graph's order; one that
 * was passed, or that the graph does not have, is an error. */
bool sid2_program_run_to(sid2_program *program, const char *stop, sid2_error *err);
/* Binds an external, one that is no weights, to another buffer that is large enough. Between runs, and only where
 * sid2_device_rebinds. */
bool sid2_program_rebind(sid2_program *program, const char *name, sid2_buffer *buffer, sid2_error *err);
void sid2_program_destroy(sid2_program *program);
const sid2_plan *sid2_program_plan(const sid2_program *program);
/* Bytes beside the plan's arena: prepared primitives, packed weights, and scratch where the arena is its own. */
size_t sid2_program_workspace(const sid2_program *program);
const sid2_node_time *sid2_program_profile(sid2_program *program);

#endif
