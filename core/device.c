#include "device.h"

#include "text.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct sid2_device {
    const sid2_backend *backend;
    void *self;
    sid2_device_info info;
    sid2_device *whole;  /* of a part */
    _Atomic size_t used; /* with that of its parts */
};

static void count_bytes(sid2_device *device, size_t more, size_t less)
{
    for (; device; device = device->whole) device->used += more - less;
}

/* Scratch that some program could not share any more lives on for those that use it. */
typedef struct scratch {
    void *handle;
    size_t bytes;
    struct scratch *smaller;
} scratch;

struct sid2_arena {
    sid2_device *device;
    size_t room, bytes; /* for activations; held */
    void **pieces;      /* of `span` bytes, the last one shorter */
    size_t span;
    int piece_count;
    scratch *scratch; /* the largest first */
};

/* Something that a node of a section writes. */
typedef struct written {
    sid2_buffer *buffer;
    int section;
} written;

struct sid2_program {
    sid2_device *device;
    const sid2_graph *graph;
    sid2_plan *plan;
    sid2_buffer **externals; /* by tensor; NULL of others */
    sid2_arena *arena, *own; /* own: NULL where it is shared */
    sid2_steps steps;
    int next;                 /* section to run */
    int stop[SID2_MAX_STOPS]; /* sections before each of the graph's stops */
    void *self;
    size_t bytes; /* beside the arena */
    written *written;
    int written_count;
};

/* ---- Devices ---- */

enum { EXACT = 1 << 20 };

/* How well a device answers to `id`: 0 not at all; its id beats a part of its name. */
static int match(const sid2_device_info *info, const char *id)
{
    if (!strcmp(id, "auto")) return 1 + info->rank;
    if (sid2_text_equal(info->id, id)) return EXACT;
    size_t length = strlen(id); /* "vulkan": the best of "vulkan:0", "vulkan:1" */
    if (sid2_text_begins(info->id, id, length) && info->id[length] == ':') return EXACT / 2 + info->rank;
    for (const char *part = info->name; *part; part++)
        if (sid2_text_begins(part, id, length)) return 1 + info->rank;
    return 0;
}

static bool has_devices(const sid2_backend *backend)
{
    sid2_device_info info;
    for (int i = 0; i < backend->count(); i++)
        if (backend->describe(i, NULL, &info)) return true;
    return false;
}

/* Of "cuda:0", where the CUDA backend has no device: why. */
static bool explain(const sid2_backend *const *backends, int count, const char *id, char why[200])
{
    for (int b = 0; b < count; b++) {
        const sid2_backend *backend = backends[b];
        if (backend->missing && sid2_text_begins(id, backend->name, strlen(backend->name)))
            return !has_devices(backend) && backend->missing(0, why);
    }
    return false;
}

static const sid2_device_options defaults;

typedef struct choice {
    const sid2_backend *backend;
    int index;
    sid2_device_info info;
} choice;

static bool choose(const sid2_backend *const *backends, int backend_count, const char *id,
                   const sid2_device_options *options, choice *chosen, sid2_error *err)
{
    int best = 0;
    char known[256] = "";
    /* An exact id ends the search, so that asking for the CPU does not wake the GPUs' drivers. */
    for (int b = 0; b < backend_count && best < EXACT; b++)
        for (int i = 0; i < backends[b]->count(); i++) {
            sid2_device_info info = {0};
            if (!backends[b]->describe(i, options, &info)) continue;
            size_t used = strlen(known);
            snprintf(known + used, sizeof known - used, "%s%s", used ? ", " : "", info.id);
            int score = match(&info, id);
            if (score > best) best = score, *chosen = (choice){backends[b], i, info};
        }
    char why[200];
    if (!best && explain(backends, backend_count, id, why))
        return sid2_fail(err, SID2_ERR_DEVICE, "no device '%s'. %s", id, why);
    return best || sid2_fail(err, SID2_ERR_USAGE, "no device '%s'; there are: auto, %s", id, known);
}

sid2_device *sid2_backends_open(const sid2_backend *const *backends, int backend_count, const char *id,
                                const sid2_device_options *options, sid2_error *err)
{
    if (!options) options = &defaults;
    choice chosen;
    if (!choose(backends, backend_count, id, options, &chosen, err)) return NULL;
    if (chosen.info.fp8 != options->fp8)
        return sid2_fail(err, SID2_ERR_UNSUPPORTED,
                         "%s (%s) has no FP8 products: they need an NVIDIA GPU of compute capability 8.9 "
                         "(Ada, Hopper) "
                         "or later, and cublasLt",
                         chosen.info.id, chosen.info.name),
               NULL;
    sid2_device *device = calloc(1, sizeof *device);
    if (!device)
        return sid2_fail(err, SID2_ERR_MEMORY, "out of memory opening device %s", chosen.info.id), NULL;
    device->backend = chosen.backend;
    device->info = chosen.info;
    device->self = chosen.backend->open(chosen.index, options, err);
    if (!device->self) {
        free(device);
        return NULL;
    }
    chosen.backend->describe(chosen.index, options, &device->info); /* some is known only now */
    return device;
}

sid2_device *sid2_device_part(sid2_device *device, int cores, sid2_error *err)
{
    const sid2_backend *backend = device->backend;
    if (!backend->part)
        return sid2_fail(err, SID2_ERR_INTERNAL, "%s cannot be cut into parts", device->info.id), NULL;
    sid2_device *part = calloc(1, sizeof *part);
    if (!part)
        return sid2_fail(err, SID2_ERR_MEMORY, "out of memory opening device %s", device->info.id), NULL;
    part->backend = backend;
    part->info = device->info;
    part->info.cores = cores;
    part->whole = device;
    if ((part->self = backend->part(device->self, cores, err))) return part;
    free(part);
    return NULL;
}

const sid2_code_report *sid2_device_report(const sid2_device *device, int i)
{
    return device->backend->report ? device->backend->report(device->self, i) : NULL;
}

bool sid2_device_rebinds(const sid2_device *device) { return device->backend->rebinds; }

double sid2_device_region(sid2_device *device)
{
    return device->backend->region ? device->backend->region(device->self) : 0;
}
void *sid2_device_self(const sid2_device *device, const sid2_backend *backend)
{
    return device->backend == backend ? device->self : NULL;
}
bool sid2_device_is_host(const sid2_device *device) { return device->backend->rebinds; }

void sid2_device_close(sid2_device *device)
{
    if (!device) return;
    device->backend->close(device->self);
    free(device);
}

const sid2_device_info *sid2_device_describe(const sid2_device *device) { return &device->info; }

bool sid2_device_supports(const sid2_device *device, sid2_op op, sid2_dtype compute)
{
    return device->backend->supports(device->self, op, compute);
}

size_t sid2_device_alignment(const sid2_device *device) { return device->backend->alignment(device->self); }
size_t sid2_device_used(const sid2_device *device) { return device->used; }

const char *sid2_device_notice(sid2_device *device)
{
    return device->backend->notice ? device->backend->notice(device->self) : NULL;
}

/* ---- Buffers ---- */

sid2_buffer *sid2_buffer_create(sid2_device *device, size_t bytes, sid2_error *err)
{
    sid2_buffer *buffer = calloc(1, sizeof *buffer);
    if (!buffer) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory for a buffer"), NULL;
    *buffer = (sid2_buffer){.device = device, .bytes = bytes};
    buffer->handle = device->backend->alloc(device->self, bytes, "a buffer", true, err);
    if (!buffer->handle) {
        free(buffer);
        return NULL;
    }
    count_bytes(device, bytes, 0);
    return buffer;
}

void sid2_buffer_destroy(sid2_buffer *buffer)
{
    if (!buffer) return;
    buffer->device->backend->free(buffer->device->self, buffer->handle);
    count_bytes(buffer->device, 0, buffer->bytes);
    free(buffer);
}

static bool in_range(const sid2_buffer *buffer, size_t offset, size_t bytes, sid2_error *err)
{
    if (offset <= buffer->bytes && bytes <= buffer->bytes - offset) return true;
    return sid2_fail(err, SID2_ERR_INTERNAL, "bytes %zu to %zu are outside a buffer of %zu", offset,
                     offset + bytes, buffer->bytes);
}

/* Of several that write ranges of one buffer each counts. */
static void count_write(sid2_buffer *buffer) { __atomic_fetch_add(&buffer->version, 1, __ATOMIC_RELAXED); }
void sid2_buffer_touch(sid2_buffer *buffer) { count_write(buffer); }

void *sid2_buffer_memory(const sid2_buffer *buffer)
{
    return sid2_device_is_host(buffer->device) ? buffer->handle : NULL;
}

bool sid2_buffer_upload(sid2_buffer *buffer, size_t offset, const void *from, size_t bytes, sid2_error *err)
{
    if (!in_range(buffer, offset, bytes, err)) return false;
    count_write(buffer);
    const sid2_device *device = buffer->device;
    return device->backend->upload(device->self, buffer->handle, offset, from, bytes, err);
}

bool sid2_buffer_download(const sid2_buffer *buffer, size_t offset, void *to, size_t bytes, sid2_error *err)
{
    const sid2_device *device = buffer->device;
    return in_range(buffer, offset, bytes, err) &&
           device->backend->download(device->self, buffer->handle, offset, to, bytes, err);
}

bool sid2_buffer_download_later(const sid2_buffer *buffer, size_t offset, void *to, size_t bytes,
                                sid2_error *err)
{
    const sid2_device *device = buffer->device;
    if (!device->backend->download_later) return sid2_buffer_download(buffer, offset, to, bytes, err);
    return in_range(buffer, offset, bytes, err) &&
           device->backend->download_later(device->self, buffer->handle, offset, to, bytes, err);
}

/* ---- Arenas ---- */

/* Tensors lie within pieces, or begin with one: plan.h. */
static size_t span_of(const sid2_device *device, size_t bytes)
{
    size_t most = device->backend->largest ? device->backend->largest(device->self) : SIZE_MAX;
    if (bytes <= most) return bytes ? bytes : 1;
    return most < SID2_ARENA_PIECE ? SID2_ARENA_PIECE : most - most % SID2_ARENA_PIECE;
}

static sid2_arena *create_arena(sid2_device *device, size_t bytes, sid2_error *err)
{
    sid2_arena *arena = calloc(1, sizeof *arena);
    size_t span = span_of(device, bytes), count = bytes ? (bytes + span - 1) / span : 1;
    if (arena) *arena = (sid2_arena){.device = device, .room = bytes, .span = span};
    if (!arena || !(arena->pieces = calloc(count, sizeof *arena->pieces))) {
        free(arena);
        return sid2_fail(err, SID2_ERR_MEMORY, "out of memory for an arena"), NULL;
    }
    for (size_t left = bytes; (size_t)arena->piece_count < count; arena->piece_count++) {
        size_t piece = left < span ? left : span;
        void *handle = device->backend->alloc(device->self, piece, "the arena of activations", false, err);
        if (!handle) return sid2_arena_destroy(arena), NULL;
        arena->pieces[arena->piece_count] = handle;
        arena->bytes += piece;
        count_bytes(device, piece, 0);
        left -= piece;
    }
    return arena;
}

sid2_arena *sid2_arena_create(sid2_device *device, const sid2_graph *const *graphs, int count,
                              sid2_error *err)
{
    size_t most = 0;
    for (int i = 0; i < count; i++) {
        sid2_plan *plan = sid2_plan_create(graphs[i], sid2_device_alignment(device), err);
        if (!plan) return NULL;
        if (plan->arena_bytes > most) most = plan->arena_bytes;
        sid2_plan_destroy(plan);
    }
    return create_arena(device, most, err);
}

bool sid2_arena_scratch(sid2_arena *arena, size_t bytes, void **handle, sid2_error *err)
{
    sid2_device *device = arena->device;
    if (bytes && (!arena->scratch || arena->scratch->bytes < bytes)) {
        scratch *larger = calloc(1, sizeof *larger);
        if (!larger) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory for scratch");
        *larger = (scratch){device->backend->alloc(device->self, bytes, "scratch", false, err), bytes,
                            arena->scratch};
        if (!larger->handle) return free(larger), false;
        arena->scratch = larger;
        arena->bytes += bytes;
        count_bytes(device, bytes, 0);
    }
    *handle = bytes ? arena->scratch->handle : NULL;
    return true;
}

void sid2_arena_destroy(sid2_arena *arena)
{
    if (!arena) return;
    sid2_device *device = arena->device;
    for (int i = 0; i < arena->piece_count; i++) device->backend->free(device->self, arena->pieces[i]);
    for (scratch *s = arena->scratch, *next; s; s = next) {
        next = s->smaller;
        device->backend->free(device->self, s->handle);
        free(s);
    }
    count_bytes(device, 0, arena->bytes);
    free(arena->pieces);
    free(arena);
}

size_t sid2_arena_bytes(const sid2_arena *arena) { return arena->bytes; }

/* ---- Programs ---- */

static sid2_buffer *bound(const sid2_binding *bindings, int count, const char *name)
{
    for (int i = 0; i < count; i++)
        if (!strcmp(bindings[i].name, name)) return bindings[i].buffer;
    return NULL;
}

/* Whether a tensor, or what it looks into, has a buffer that is large enough. */
static bool fits(const sid2_graph *g, sid2_tensor t, sid2_buffer *const *externals, sid2_error *err)
{
    const sid2_tensor_info *view = &g->tensors[t];
    sid2_tensor base = sid2_graph_base(g, t);
    const char *name = g->tensors[base].name;
    if (!externals[base])
        return sid2_fail(err, SID2_ERR_INTERNAL, "the graph's external '%s' has no buffer", name);
    size_t end = (size_t)(view->offset + sid2_shape_count(view->shape)) * sid2_dtype_size(view->dtype);
    return externals[base]->bytes >= end ||
           sid2_fail(err, SID2_ERR_INTERNAL, "the buffer of '%s' has %zu bytes where %zu are used", name,
                     externals[base]->bytes, end);
}

/* Fills the buffer of every external that the nodes touch; false if one is missing or too small. */
static bool bind(const sid2_graph *g, const sid2_binding *bindings, int count, sid2_buffer **externals,
                 sid2_error *err)
{
    for (sid2_tensor t = 0; t < g->tensor_count; t++) {
        const sid2_tensor_info *info = &g->tensors[t];
        if (!info->external || info->base != SID2_NONE) continue;
        externals[t] = bound(bindings, count, info->name);
    }
    for (int32_t i = 0; i < g->node_count; i++)
        for (int k = 0; k < SID2_MAX_INPUTS + SID2_MAX_OUTPUTS; k++) {
            sid2_tensor t = k < SID2_MAX_INPUTS ? g->nodes[i].in[k] : g->nodes[i].out[k - SID2_MAX_INPUTS];
            if (t == SID2_NONE || !g->tensors[t].external) continue;
            if (!fits(g, t, externals, err)) return false;
        }
    return true;
}

/* Whether the device has every operator in the type the graph computes in. */
static bool all_supported(const sid2_device *device, const sid2_graph *g, sid2_error *err)
{
    for (int32_t i = 0; i < g->node_count; i++)
        if (!sid2_device_supports(device, g->nodes[i].op, g->compute))
            return sid2_fail(err, SID2_ERR_UNSUPPORTED, "%s (%s) does not compute %s in %s", device->info.id,
                             device->info.name, sid2_op_name(g->nodes[i].op), sid2_dtype_name(g->compute));
    return true;
}

/* Remembers each buffer that a section writes, once. */
static bool note_writes(sid2_program *program, const sid2_graph *g, sid2_buffer *const *externals,
                        int binding_count, sid2_error *err)
{
    const sid2_steps *steps = &program->steps;
    program->written = calloc((size_t)(binding_count * steps->section_count) + 1, sizeof(written));
    if (!program->written) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory preparing a program");
    int section = 0;
    for (int32_t i = 0; i < g->node_count; i++) {
        section += i == steps->section_end[section];
        for (int k = 0; k < SID2_MAX_OUTPUTS; k++) {
            sid2_tensor t = g->nodes[i].out[k];
            if (t == SID2_NONE || !g->tensors[t].external) continue;
            sid2_buffer *buffer = externals[sid2_graph_base(g, t)];
            bool known = false;
            for (int j = 0; j < program->written_count; j++)
                known |= program->written[j].buffer == buffer && program->written[j].section == section;
            if (!known) program->written[program->written_count++] = (written){buffer, section};
        }
    }
    return true;
}

static bool bind_steps(sid2_program *program, const sid2_graph *g, sid2_buffer *const *externals,
                       sid2_error *err)
{
    size_t count = (size_t)g->tensor_count + 1;
    void **handle = calloc(count, sizeof *handle);
    uint64_t **version = calloc(count, sizeof *version);
    bool ok = handle && version;
    for (sid2_tensor t = 0; ok && t < g->tensor_count; t++) {
        if (!externals[t]) continue;
        handle[t] = externals[t]->handle;
        version[t] = &externals[t]->version;
    }
    const sid2_memory_map map = {program->device->backend->addresses, program->arena->pieces,
                                 program->arena->span, handle, version};
    ok = ok ? sid2_steps_bind(&program->steps, g, program->plan, &map, err)
            : sid2_fail(err, SID2_ERR_MEMORY, "out of memory preparing a program");
    for (int s = 0; ok && s < g->stop_count; s++) {
        int32_t at = sid2_graph_stop_at(g, g->stops[s].name);
        while (sid2_steps_first(&program->steps, program->stop[s]) < at) program->stop[s]++;
    }
    free(handle);
    free(version);
    return ok;
}

/* The arena it was given, if that is large enough, or its own. */
static bool find_arena(sid2_program *program, sid2_arena *given, sid2_error *err)
{
    size_t bytes = program->plan->arena_bytes;
    program->arena = given ? given : (program->own = create_arena(program->device, bytes, err));
    if (!program->arena) return false;
    return bytes <= program->arena->room ||
           sid2_fail(err, SID2_ERR_INTERNAL, "a program of %zu bytes does not fit into an arena of %zu",
                     bytes, program->arena->room);
}

sid2_program *sid2_program_create(sid2_device *device, const sid2_graph *g, sid2_arena *arena,
                                  const sid2_binding *bindings, int binding_count, sid2_error *err)
{
    const sid2_backend *backend = device->backend;
    sid2_program *program = calloc(1, sizeof *program);
    sid2_buffer **externals = calloc((size_t)g->tensor_count + 1, sizeof *externals);
    if (!program || !externals) {
        free(program);
        free(externals);
        return sid2_fail(err, SID2_ERR_MEMORY, "out of memory preparing a program"), NULL;
    }
    *program = (sid2_program){.device = device, .graph = g, .externals = externals};
    bool ok = all_supported(device, g, err) && bind(g, bindings, binding_count, externals, err) &&
              (program->plan = sid2_plan_create(g, backend->alignment(device->self), err)) &&
              find_arena(program, arena, err) && bind_steps(program, g, externals, err) &&
              note_writes(program, g, externals, binding_count, err) &&
              (program->self = backend->compile(device->self, &program->steps, program->arena, err));
    if (!ok) return sid2_program_destroy(program), NULL;
    program->bytes = backend->workspace(device->self, program->self);
    count_bytes(device, program->bytes, 0);
    return program;
}

static bool run_sections(sid2_program *program, int end, sid2_error *err)
{
    bool ok = true;
    for (; ok && program->next < end; program->next++) {
        ok = program->device->backend->run(program->device->self, program->self, program->next, err);
        for (int i = 0; i < program->written_count; i++)
            if (program->written[i].section == program->next) count_write(program->written[i].buffer);
    }
    if (!ok) program->next = 0;
    return ok;
}

bool sid2_program_run(sid2_program *program, sid2_error *err)
{
    bool ok = run_sections(program, program->steps.section_count, err);
    program->next = 0;
    return ok;
}

bool sid2_program_run_to(sid2_program *program, const char *name, sid2_error *err)
{
    const sid2_graph *g = program->graph;
    for (int s = 0; s < g->stop_count; s++) {
        if (strcmp(g->stops[s].name, name) != 0) continue;
        if (program->stop[s] >= program->next) return run_sections(program, program->stop[s], err);
        return sid2_fail(err, SID2_ERR_INTERNAL, "the program has passed its stop '%s'", name);
    }
    return sid2_fail(err, SID2_ERR_INTERNAL, "the program has no stop '%s'", name);
}

bool sid2_program_rebind(sid2_program *program, const char *name, sid2_buffer *buffer, sid2_error *err)
{
    sid2_tensor t = sid2_graph_find(program->graph, name);
    sid2_buffer *before = t == SID2_NONE ? NULL : program->externals[t];
    if (!before || !program->device->backend->rebinds || program->next)
        return sid2_fail(err, SID2_ERR_INTERNAL, "the program's '%s' cannot be bound anew", name);
    if (before == buffer) return true;
    program->externals[t] = buffer;
    if (!fits(program->graph, t, program->externals, err)) return program->externals[t] = before, false;
    sid2_steps_rebind(&program->steps, before->handle, before->bytes, buffer->handle, &buffer->version);
    for (int i = 0; i < program->written_count; i++)
        if (program->written[i].buffer == before) program->written[i].buffer = buffer;
    return true;
}

void sid2_program_destroy(sid2_program *program)
{
    if (!program) return;
    if (program->self) program->device->backend->destroy(program->device->self, program->self);
    count_bytes(program->device, 0, program->bytes);
    sid2_steps_free(&program->steps);
    sid2_arena_destroy(program->own);
    sid2_plan_destroy(program->plan);
    free(program->written);
    free(program->externals);
    free(program);
}

const sid2_plan *sid2_program_plan(const sid2_program *program) { return program->plan; }

size_t sid2_program_workspace(const sid2_program *program)
{
    return program->bytes + (program->own ? program->own->bytes - program->own->room : 0);
}

const sid2_node_time *sid2_program_profile(sid2_program *program)
{
    return program->device->backend->profile(program->device->self, program->self);
}

/* ---- Sums ---- */

bool sid2_buffer_fold(sid2_buffer *into, sid2_buffer *from, size_t first, size_t count, bool low,
                      sid2_error *err)
{
    const sid2_backend *backend = into->device->backend;
    size_t size = sizeof(float);
    if (!backend->fold)
        return sid2_fail(err, SID2_ERR_INTERNAL, "%s folds no buffers", into->device->info.id);
    if (!in_range(into, first * size, count * size, err) || !in_range(from, first * size, count * size, err))
        return false;
    backend->fold(into->handle, from->handle, first, count, low);
    count_write(into);
    count_write(from);
    return true;
}
