/* Both CPU devices. A program is an array of prepared calls; running it is a loop. */
#include "choices.h"
#include "cpu.h"
#include "host.h"
#include "keep.h"
#include "kernel.h"
#include "waiting.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { FAST, REFERENCE, DEVICE_COUNT };
enum { ALIGNMENT = 64, HUGE_PAGE = 2 << 20 };

typedef struct cpu_device {
    const sid2_cpu_isa *isa; /* NULL: the reference */
    sid2_cpu_choices choices;
    sid2_kernel ahead[2][SID2_OP_COUNT]; /* own loops before oneDNN: for f32, for bf16 */
    sid2_kernel_table table[SID2_MAX_TABLES];
    sid2_kernels kernels;      /* made of these */
    sid2_cpu_waiting *waiting; /* NULL: as OpenMP's own settings say */
} cpu_device;

typedef struct cpu_program {
    sid2_steps *steps;
    sid2_node_time *times; /* by node; NULL: not profiling */
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

static void *cpu_alloc(void *self, size_t bytes, const char *what, bool zero, sid2_error *err)
{
    (void)self, (void)zero; /* it always is */
    return map_memory(bytes, what, err);
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

static void cpu_fold(void *into, void *from, size_t first, size_t count, bool low)
{
    float *restrict a = (float *)into + first, *restrict b = (float *)from + first;
    for (size_t i = 0; low && i < count; i++) {
        a[i] = sid2_bf16_to_f32(sid2_f32_to_bf16(a[i]));
        b[i] = sid2_bf16_to_f32(sid2_f32_to_bf16(b[i]));
    }
#pragma omp simd
    for (size_t i = 0; i < count; i++) {
        a[i] += b[i];
        b[i] = 0;
    }
}

/* ---- Devices ---- */
static const sid2_cpu_isa *best_isa(void)
{
    const sid2_cpu_isa *const *isa = sid2_cpu_isas;
    while (*isa && !(*isa)->usable()) isa++;
    return *isa;
}

static int cpu_count(void) { return DEVICE_COUNT; }

/* *few: the system lets this process start fewer threads than all that may want one. OpenMP's runtimes end a program
 * where a thread cannot be had; loaders of data and those who wait can do with fewer, and are left some. */
static int thread_count(const sid2_device_options *options, bool *few)
{
    enum { OTHERS = 12 };
    int wanted = options && options->threads > 0 ? options->threads : sid2_cpu_host_threads();
    int own = sid2_cpu_host_startable(wanted - 1 + OTHERS) - OTHERS;
    *few = own < wanted - 1;
    return *few ? own > 0 ? own + 1 : 1 : wanted;
}

/* "own loops: AVX2; without adam, add" */
static void describe_fast(const sid2_cpu_isa *isa, char *text, size_t size)
{
    size_t at = (size_t)snprintf(text, size, "own loops: %s", isa->name);
    const char *separator = "; without ";
    for (int op = 0; op < SID2_OP_COUNT && at < size; op++) {
        if (isa->kernels[op].run || sid2_cpu_onednn[op].run) continue;
        at += (size_t)snprintf(text + at, size - at, "%s%s", separator, sid2_op_name((sid2_op)op));
        separator = ", ";
    }
}

/* What `sid2 tune` measured holds for this processor, this library and this sid2. */
static void identify(char text[400])
{
    char host[64];
    sid2_cpu_host_name(host, sizeof host);
    snprintf(text, 400, "sid2 " SID2_VERSION "; %s; %s; %s", host, best_isa()->name,
             sid2_cpu_onednn_version());
}

/* What `sid2 tune` measures; by rule where it has not. */
typedef struct cpu_measured {
    sid2_dtype train, sample;
    sid2_cpu_choices choices;
    int arena;  /* MiB of activations of a micro-batch */
    int region; /* nanoseconds to begin and end a parallel loop */
} cpu_measured;

static const char kept_kind[] = "cpu-measured";

static void text_of(const cpu_measured *m, char text[160])
{
    snprintf(text, 160, "train %s, sample %s; %s; %d MiB at a time; loops %d ns", sid2_dtype_name(m->train),
             sid2_dtype_name(m->sample), sid2_cpu_choices_name(sid2_cpu_choices_number(&m->choices)),
             m->arena, m->region);
}

static sid2_dtype type_of(const char *name) { return strcmp(name, "bf16") == 0 ? SID2_BF16 : SID2_F32; }

/* Nothing but what text_of writes. */
static bool parse_measured(const char *text, cpu_measured *m)
{
    char train[8], sample[8], linear[64], conv[64], ways[130], known[160];
    if (sscanf(text, "train %7[^,], sample %7[^;]; %63[^;]; %63[^;]; %6d MiB at a time; loops %7d ns", train,
               sample, linear, conv, &m->arena, &m->region) != 6)
        return false;
    snprintf(ways, sizeof ways, "%s; %s", linear, conv);
    m->train = type_of(train), m->sample = type_of(sample);
    if (m->arena < 1 || m->region < 0 || !sid2_cpu_choose(&m->choices, ways)) return false;
    text_of(m, known);
    return strcmp(text, known) == 0;
}

/* 1: as measured; 0: by rule, none is kept; -1: by rule, for the file at `path` cannot be ours. */
static int load_measured(cpu_measured *m, char path[4096])
{
    enum { REGION = 4096 };
    char identity[400], text[160];
    sid2_dtype fast = sid2_cpu_bf16_is_fast() ? SID2_BF16 : SID2_F32;
    const cpu_measured rule = {fast, fast, sid2_cpu_default_choices(), SID2_ARENA, REGION};
    cpu_measured kept = rule;
    identify(identity);
    int there = sid2_kept_text(kept_kind, identity, text, sizeof text, path);
    if (there > 0 && !parse_measured(text, &kept)) there = -1;
    *m = there > 0 ? kept : rule;
    return there;
}

/* What it is fastest with. */
static void describe_measured(sid2_device_info *info)
{
    cpu_measured m;
    char text[160], path[4096];
    size_t used = strlen(info->detail);
    bool measured = load_measured(&m, path) > 0;
    info->fast = m.train, info->fast_sample = m.sample, info->arena = m.arena;
    text_of(&m, text);
    snprintf(info->detail + used, sizeof info->detail - used, "; fastest: %s%s", text,
             measured ? " (measured)" : " (by rule: sid2 tune measures)");
}

/* Number i differs from the rule in the families of its bits; without a library there is nothing to choose. */
static const char *cpu_blocks(int index, int i)
{
    const sid2_cpu_choices rule = sid2_cpu_default_choices();
    int count = index != FAST ? 0 : sid2_cpu_onednn[SID2_OP_linear].run ? SID2_CPU_NAMES : 1;
    return i < count ? sid2_cpu_choices_name(i ^ sid2_cpu_choices_number(&rule)) : NULL;
}

static bool cpu_keep_fast(int index, const sid2_fastest *fastest, sid2_error *err)
{
    enum { LONGEST = 1000000 }; /* of a loop: a stalled machine says nothing */
    char identity[400], text[160];
    cpu_measured m = {.train = fastest->train, .sample = fastest->sample, .arena = fastest->arena};
    m.region = fastest->region < LONGEST ? (int)fastest->region : LONGEST;
    if (index != FAST) return sid2_fail(err, SID2_ERR_USAGE, "the reference computes in any type as slowly");
    if (!sid2_cpu_choose(&m.choices, fastest->blocks))
        return sid2_fail(err, SID2_ERR_USAGE, "cpu: there is no choice '%s'", fastest->blocks);
    identify(identity);
    text_of(&m, text);
    return sid2_keep_text(kept_kind, identity, text, err);
}

/* A file of ours that cannot be ours. */
static bool cpu_missing(int line, char text[200])
{
    cpu_measured m;
    char path[4096];
    if (line > 0 || !best_isa() || load_measured(&m, path) >= 0) return false;
    snprintf(text, 200, "CPU: what sid2 tune kept cannot be read, and is not used: %.120s", path);
    return true;
}

static bool cpu_describe(int index, const sid2_device_options *options, sid2_device_info *info)
{
    const sid2_cpu_isa *isa = best_isa();
    if (index < 0 || index >= DEVICE_COUNT || (index == FAST && !isa)) return false;
    char host[64];
    sid2_cpu_host_name(host, sizeof host);
    *info = (sid2_device_info){.memory = sid2_cpu_host_memory(), .bf16 = true, .f16 = index == REFERENCE};
    if (index == FAST) {
        bool few;
        int threads = info->cores = thread_count(options, &few);
        snprintf(info->name, sizeof info->name, "%s, %d thread%s, %s", host, threads, threads > 1 ? "s" : "",
                 isa->name);
        snprintf(info->id, sizeof info->id, "cpu");
        snprintf(info->driver, sizeof info->driver, "%s", sid2_cpu_onednn_version());
        describe_fast(isa, info->detail, sizeof info->detail);
        describe_measured(info);
        info->rank = 10;
    } else {
        info->cores = 1;
        snprintf(info->name, sizeof info->name, "%s, reference, 1 thread", host);
        snprintf(info->id, sizeof info->id, "reference");
        snprintf(info->driver, sizeof info->driver, "plain C");
        snprintf(info->detail, sizeof info->detail, "double accumulation, for comparison; slow");
        info->rank = 1;
    }
    return true;
}

static void list_ahead(cpu_device *device, int type)
{
    for (int op = 0; op < SID2_OP_COUNT; op++) {
        const sid2_kernel *own = device->isa->ahead[op].run ? device->isa->ahead : device->isa->kernels;
        bool is_first =
            device->choices.ahead[type][op] || op == SID2_OP_conv3d; /* which oneDNN is not asked for */
        device->ahead[type][op] = is_first ? own[op] : (sid2_kernel){0};
    }
}

static void list_table(cpu_device *device, int i, unsigned types, const sid2_kernel *kernels)
{
    device->table[i] = (sid2_kernel_table){types, kernels};
    device->kernels.tables[i] = &device->table[i];
}

/* The reference alone; or own loops that are to go first, oneDNN, all own loops. */
static void list_kernels(cpu_device *device)
{
    const unsigned f32 = SID2_TYPE_BIT(SID2_F32), fast = f32 | SID2_TYPE_BIT(SID2_BF16);
    if (!device->isa) {
        list_table(device, 0, fast | SID2_TYPE_BIT(SID2_F16) | SID2_TYPE_BIT(SID2_F64), sid2_cpu_reference);
        return;
    }
    list_ahead(device, SID2_CPU_F32);
    list_ahead(device, SID2_CPU_BF16);
    list_table(device, 0, f32, device->ahead[SID2_CPU_F32]);
    list_table(device, 1, f32, sid2_cpu_onednn);
    list_table(device, 2, fast, device->ahead[SID2_CPU_BF16]);
    list_table(device, 3, fast, sid2_cpu_onednn);
    list_table(device, 4, fast, device->isa->kernels);
}

/* OpenMP keeps its threads: now is when they can be had. Returns how many run, so that no compiler drops the loop. */
static int start_threads(int threads)
{
    int running = 0;
#pragma omp parallel num_threads(threads) reduction(+ : running)
    running++;
    return running;
}

/* As asked for; else as measured, or by rule. A loop of which each element takes about a nanosecond is worth a second
 * thread where that saves more than waking it costs. */
static void choose(cpu_device *device, const sid2_device_options *options)
{
    enum { ELEMENTS = 2 }; /* a nanosecond, of two threads */
    cpu_measured m;
    char path[4096];
    load_measured(&m, path);
    device->choices = m.choices;
    device->kernels.grain = (int64_t)ELEMENTS * m.region;
    if (options && options->blocks) sid2_cpu_choose(&device->choices, options->blocks);
}

static void *cpu_open(int index, const sid2_device_options *options, sid2_error *err)
{
    if (index < 0 || index >= DEVICE_COUNT)
        return sid2_fail(err, SID2_ERR_USAGE, "cpu: no device %d", index), NULL;
    cpu_device *device = calloc(1, sizeof *device);
    if (!device) return sid2_fail(err, SID2_ERR_MEMORY, "cpu: no memory for the device"), NULL;
    device->isa = index == FAST ? best_isa() : NULL;
    if (device->isa) choose(device, options);
    list_kernels(device);
    bool few = false;
    device->kernels.threads = index == FAST ? thread_count(options, &few) : 1;
    if (few) device->kernels.threads = start_threads(device->kernels.threads);
    if (!few && options && options->share_cores)
        device->waiting = sid2_cpu_waiting_start(device->kernels.threads);
    return device;
}

/* The least of some rounds: what else runs only adds. */
static double cpu_region(void *self)
{
    enum { ROUNDS = 20, LOOPS = 100 };
    int threads = ((const cpu_device *)self)->kernels.threads;
    double least = 1;
    for (int round = 0; round < ROUNDS; round++) {
        double began = sid2_clock();
        for (int i = 0; i < LOOPS; i++) start_threads(threads);
        double each = (sid2_clock() - began) / LOOPS;
        if (each < least) least = each;
    }
    return 1e9 * least;
}

static void cpu_close(void *self)
{
    sid2_cpu_waiting_stop(((cpu_device *)self)->waiting);
    free(self);
}

/* Threads of different parts never wait for each other within a loop, so how OpenMP's wait is the whole's affair. */
static void *cpu_part(void *self, int cores, sid2_error *err)
{
    const cpu_device *whole = self;
    cpu_device *part = malloc(sizeof *part);
    if (!part) return sid2_fail(err, SID2_ERR_MEMORY, "cpu: no memory for a part of the device"), NULL;
    *part = *whole;
    for (int i = 0; part->kernels.tables[i]; i++) part->kernels.tables[i] = &part->table[i];
    part->kernels.threads = cores;
    part->waiting = NULL;
    return part;
}

static size_t cpu_alignment(void *self)
{
    (void)self;
    return ALIGNMENT;
}

static bool cpu_supports(void *self, sid2_op op, sid2_dtype compute)
{
    return sid2_kernels_have(&((cpu_device *)self)->kernels, op, compute);
}

/* ---- Programs ---- */

static void cpu_destroy(void *self, void *handle)
{
    (void)self;
    cpu_program *program = handle;
    free(program->times);
    free(program);
}

static void *cpu_compile(void *self, sid2_steps *steps, sid2_arena *arena, sid2_error *err)
{
    void *scratch;
    if (!sid2_steps_prepare(steps, &((cpu_device *)self)->kernels, err) ||
        !sid2_arena_scratch(arena, steps->scratch_bytes, &scratch, err))
        return NULL;
    sid2_steps_give_scratch(steps, scratch);
    cpu_program *program = calloc(1, sizeof *program);
    if (!program) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory for a program"), NULL;
    program->steps = steps;
    return program;
}

static bool cpu_run(void *self, void *handle, int section, sid2_error *err)
{
    cpu_program *program = handle;
    sid2_steps *steps = program->steps;
    sid2_cpu_waiting_adapt(((cpu_device *)self)->waiting);
    steps->error.code = SID2_OK;
    double before = program->times ? sid2_clock() : 0;
    for (int32_t n = sid2_steps_first(steps, section); n < steps->section_end[section]; n++) {
        sid2_step *step = &steps->item[n];
        step->kernel->run(&step->call);
        if (steps->error.code)
            return sid2_fail(err, steps->error.code, "node %d (%s): %s", n, sid2_op_name(step->call.op),
                             steps->error.message);
        if (!program->times) continue;
        double after = sid2_clock();
        program->times[n].seconds += after - before;
        program->times[n].runs++;
        before = after;
    }
    return true;
}

static size_t cpu_workspace(void *self, void *program)
{
    (void)self;
    const sid2_steps *steps = ((cpu_program *)program)->steps;
    return steps->owned + (size_t)steps->count * sizeof *steps->item;
}

static const sid2_node_time *cpu_profile(void *self, void *handle)
{
    (void)self;
    cpu_program *program = handle;
    if (!program->times) program->times = calloc((size_t)program->steps->count + 1, sizeof *program->times);
    return program->times;
}

const sid2_backend sid2_backend_cpu = {
    .name = "cpu",
    .count = cpu_count,
    .describe = cpu_describe,
    .missing = cpu_missing,
    .blocks = cpu_blocks,
    .keep_fast = cpu_keep_fast,
    .region = cpu_region,
    .open = cpu_open,
    .close = cpu_close,
    .part = cpu_part,
    .addresses = true,
    .rebinds = true,
    .alignment = cpu_alignment,
    .supports = cpu_supports,
    .alloc = cpu_alloc,
    .free = cpu_free,
    .upload = cpu_upload,
    .download = cpu_download,
    .fold = cpu_fold,
    .compile = cpu_compile,
    .run = cpu_run,
    .workspace = cpu_workspace,
    .profile = cpu_profile,
    .destroy = cpu_destroy,
};
