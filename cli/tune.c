/* sid2 tune: what is the fastest on a device. On a Vulkan device that is left the choice, the block sizes of products: measured
 * are the products that a model's time goes to. On CUDA, by which of the ways that cublasLt and cuDNN propose they compute the
 * calls of a model, in a step of its training and one of its samplers. On the CPU own loops or the library for linear layers and for convolutions, by
 * products; the type, f32 or bf16, and the size of micro-batches, by steps of a training and of a sampler; what it costs to
 * wake all threads. What won is kept for the device and its driver (core/keep.h). */
#include "cli.h"

#include "backends.h"
#include "config.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct product {
    const char *name;
    sid2_op op;
    sid2_dtype type;
    sid2_shape x, w;
} product;

/* Of a GPU, where block sizes are the choice; of the CPU, where it is between own loops and a library, which a lane's one
 * thread runs. */
static const product gpu_products[] = {
    {"linear", SID2_OP_linear, SID2_F32, {3, {4, 256, 512}}, {2, {512, 512}}},
    {"conv2d", SID2_OP_conv2d, SID2_F32, {4, {4, 32, 32, 128}}, {4, {128, 3, 3, 128}}},
    {"  by input", SID2_OP_conv2d_dgrad, SID2_F32, {4, {4, 32, 32, 128}}, {4, {128, 3, 3, 128}}},
    {"  by weights", SID2_OP_conv2d_wgrad, SID2_F32, {4, {4, 32, 32, 128}}, {4, {128, 3, 3, 128}}},
};
enum { EACH = 3 }; /* products a choice; choices in the order of their bits (cpu/choices.h) */
static const product cpu_products[] = {
    {"linear f32", SID2_OP_linear, SID2_F32, {3, {8, 256, 256}}, {2, {256, 256}}},
    {"  by input", SID2_OP_linear_dgrad, SID2_F32, {3, {8, 256, 256}}, {2, {256, 256}}},
    {"  by weights", SID2_OP_linear_wgrad, SID2_F32, {3, {8, 256, 256}}, {2, {256, 256}}},
    {"linear bf16", SID2_OP_linear, SID2_BF16, {3, {8, 256, 256}}, {2, {256, 256}}},
    {"  by input", SID2_OP_linear_dgrad, SID2_BF16, {3, {8, 256, 256}}, {2, {256, 256}}},
    {"  by weights", SID2_OP_linear_wgrad, SID2_BF16, {3, {8, 256, 256}}, {2, {256, 256}}},
    {"conv f32", SID2_OP_conv2d, SID2_F32, {4, {16, 16, 16, 64}}, {4, {64, 3, 3, 64}}},
    {"  by input", SID2_OP_conv2d_dgrad, SID2_F32, {4, {16, 16, 16, 64}}, {4, {64, 3, 3, 64}}},
    {"  by weights", SID2_OP_conv2d_wgrad, SID2_F32, {4, {16, 16, 16, 64}}, {4, {64, 3, 3, 64}}},
    {"conv bf16", SID2_OP_conv2d, SID2_BF16, {4, {16, 16, 16, 64}}, {4, {64, 3, 3, 64}}},
    {"  by input", SID2_OP_conv2d_dgrad, SID2_BF16, {4, {16, 16, 16, 64}}, {4, {64, 3, 3, 64}}},
    {"  by weights", SID2_OP_conv2d_wgrad, SID2_BF16, {4, {16, 16, 16, 64}}, {4, {64, 3, 3, 64}}},
};

/* Whose calls are measured where a library has several ways of them. */
typedef struct model_choice {
    const char *preset;
    assignments set;
} model_choice;

typedef struct product_list {
    const product *item;
    int count;
} product_list;

static const product_list on_gpu = {gpu_products, sizeof gpu_products / sizeof *gpu_products};
static const product_list on_cpu = {cpu_products, sizeof cpu_products / sizeof *cpu_products};

/* ---- Measuring ---- */

static bool is_by_weights(const product *p)
{
    return p->op == SID2_OP_conv2d_wgrad || p->op == SID2_OP_linear_wgrad;
}

/* The product alone in a graph; x, w, y are externals of its inputs' and its output's names. */
static sid2_graph *graph_of(const product *p)
{
    sid2_dtype type = p->type;
    sid2_graph *g = sid2_graph_create(type);
    if (!g) return NULL;
    bool by_weights = is_by_weights(p);
    sid2_tensor x = sid2_graph_external(g, "x", type, p->x), y;
    sid2_tensor w = sid2_graph_external(g, "w", by_weights ? SID2_F32 : type, p->w);
    sid2_shape shape = p->x;
    shape.dim[shape.rank - 1] = p->w.dim[0];
    y = sid2_graph_external(g, "y", type, shape);
    const sid2_attr attr = {.dtype = type, .shape = p->w};
    if (by_weights)
        sid2_graph_emit_into(g, p->op, attr, (sid2_tensor[]){x, y}, 2, &w, 1);
    else
        sid2_graph_emit_into(g, p->op, attr, (sid2_tensor[]){x, w}, 2, &y, 1);
    return g;
}

static bool wait_for(const sid2_buffer *buffer, sid2_error *err)
{
    float number;
    return sid2_buffer_download(buffer, 0, &number, sizeof number, err);
}

/* Seconds of one run: the least of several rounds, each long enough to be measured. */
static bool time_program(sid2_program *program, const sid2_buffer *result, double *seconds, sid2_error *err)
{
    *seconds = 1e30;
    if (!sid2_program_run(program, err) || !wait_for(result, err)) return false;
    for (int round = 0, runs = 1; round < 5; round++) {
        double began = sid2_clock();
        for (int i = 0; i < runs; i++)
            if (!sid2_program_run(program, err)) return false;
        if (!wait_for(result, err)) return false;
        double each = (sid2_clock() - began) / runs;
        if (each < *seconds) *seconds = each;
        while (runs * each < 0.02 && runs < 1024) runs *= 2;
    }
    return true;
}

static bool time_product(sid2_device *device, const product *p, double *seconds, sid2_error *err)
{
    sid2_graph *graph = graph_of(p);
    sid2_buffer *buffer[4] = {NULL};
    sid2_program *program = NULL;
    bool ok = graph ? sid2_graph_finish(graph, err) : sid2_fail(err, SID2_ERR_MEMORY, "out of memory");
    static const char *const names[] = {"x", "w", "y"};
    sid2_binding bindings[6];
    for (int i = 0; ok && i < 3; i++) {
        const sid2_type t = sid2_graph_type(graph, sid2_graph_find(graph, names[i]));
        buffer[i] =
            sid2_buffer_create(device, (size_t)sid2_shape_count(t.shape) * sid2_dtype_size(t.dtype), err);
        bindings[i] = (sid2_binding){names[i], buffer[i]};
        ok = buffer[i] != NULL;
    }
    ok = ok && (buffer[3] = sid2_buffer_create(device, 64, err)); /* for the empty flat buffers */
    static const char *const flat[] = {"weights", "weights_low", "grads"};
    for (int i = 0; i < 3; i++) bindings[3 + i] = (sid2_binding){flat[i], buffer[3]};
    ok = ok && (program = sid2_program_create(device, graph, NULL, bindings, 6, err)) &&
         time_program(program, buffer[is_by_weights(p) ? 1 : 2], seconds, err);
    sid2_program_destroy(program);
    for (int i = 0; i < 4; i++) sid2_buffer_destroy(buffer[i]);
    sid2_graph_destroy(graph);
    return ok;
}

static double multiply_adds(const product *p)
{
    return (double)sid2_shape_count(p->x) * (double)sid2_shape_count(p->w) / (double)p->x.dim[p->x.rank - 1];
}

/* ---- Products ---- */

/* Where the device is among the backends. */
static bool locate(const char *id, const sid2_backend **backend, int *index)
{
    for (int b = 0; b < sid2_backend_count; b++)
        for (int i = 0; i < sid2_backends[b]->count(); i++) {
            sid2_device_info info;
            if (!sid2_backends[b]->describe(i, &(sid2_device_options){0}, &info) || strcmp(info.id, id) != 0)
                continue;
            *backend = sid2_backends[b];
            *index = i;
            return true;
        }
    return false;
}

/* Seconds of each product with one candidate. */
static bool measure(const char *id, product_list products, const char *blocks, double *seconds,
                    sid2_error *err)
{
    const sid2_device_options options = sid2_with(sid2_device_options, .blocks = blocks, .threads = 1);
    sid2_device *device = sid2_device_open(id, &options, err);
    bool ok = device != NULL;
    for (int i = 0; ok && i < products.count; i++)
        ok = time_product(device, &products.item[i], &seconds[i], err);
    sid2_device_close(device);
    return ok;
}

static double speed(const product *p, double seconds) { return 2e-9 * multiply_adds(p) / seconds; }

/* A home that cannot be written to is no failure: all that is lost is the measurement. */
static void tell_kept(bool kept, const sid2_error *why)
{
    if (kept)
        puts("kept for this device and driver");
    else
        printf("not kept: %s\n", why->message);
}

static const double margin = 0.97; /* what a measurement is wrong by */

/* The fastest; the best guess where none is faster for sure. */
static bool tune_blocks(const sid2_device_info *info, const sid2_backend *backend, int index,
                        const char **best, sid2_error *err)
{
    double seconds[sizeof gpu_products / sizeof *gpu_products], least = 0;
    const char *blocks;
    printf("%-34s", "GFLOP/s");
    for (int i = 0; i < on_gpu.count; i++) printf("%12s", on_gpu.item[i].name);
    putchar('\n');
    for (int i = 0; (blocks = backend->blocks(index, i)); i++) {
        double total = 0;
        if (!measure(info->id, on_gpu, blocks, seconds, err)) return false;
        printf("%-34s", blocks);
        for (int k = 0; k < on_gpu.count; k++) {
            printf("%12.1f", speed(&on_gpu.item[k], seconds[k]));
            total += 1 / speed(&on_gpu.item[k], seconds[k]);
        }
        putchar('\n');
        if (!i || total < margin * least) *best = blocks, least = total;
    }
    printf("\nfastest: %s\n", *best);
    return true;
}

/* Each choice by its own products: as the rule has it, or the other way. */
static bool tune_ways(const sid2_device_info *info, const sid2_backend *backend, int index, const char **best,
                      sid2_error *err)
{
    enum { COUNT = sizeof cpu_products / sizeof *cpu_products };
    double by_rule[COUNT], other[COUNT];
    int changed = 0;
    *best = backend->blocks(index, 0);
    const char *opposite = backend->blocks(index, (1 << COUNT / EACH) - 1);
    if (opposite) {
        if (!measure(info->id, on_cpu, *best, by_rule, err) ||
            !measure(info->id, on_cpu, opposite, other, err))
            return false;
        printf("%-16s%14s%14s\n", "GFLOP/s", "by rule", "the other way");
    }
    for (int i = 0; opposite && i < COUNT; i += EACH) {
        double sum[2] = {0};
        for (int k = i; k < i + EACH; k++) {
            const product *p = &on_cpu.item[k];
            printf("%-16s%14.1f%14.1f\n", p->name, speed(p, by_rule[k]), speed(p, other[k]));
            sum[0] += by_rule[k], sum[1] += other[k];
        }
        if (sum[1] < margin * sum[0]) changed |= 1 << i / EACH;
    }
    *best = backend->blocks(index, changed);
    printf("\nfastest: %s\n", *best);
    return true;
}

/* ---- Types and micro-batches ---- */

enum { TYPES = 2, ARENAS = 3, BATCH = 32, STEPS = 2, ROUNDS = 5, LANE = 16, MOST_IMAGES = 1024 };
static const char *const type_names[TYPES] = {"f32", "bf16"};
static const sid2_dtype types[TYPES] = {SID2_F32, SID2_BF16};
static const int arenas[ARENAS] = {48, 24, 96}; /* MiB; the rule's first */

/* A network of the usual kind, as one candidate has it. */
typedef struct network {
    sid2_config *config;
    sid2_trainer *trainer;
    sid2_sampler *sampler; /* NULL: only trains */
    double train, sample;  /* seconds an image, and an evaluation of one; the least of all rounds */
} network;

static bool configure(network *n, const char *type, int64_t batch, sid2_error *err)
{
    n->config = sid2_config_create();
    bool ok = n->config ? sid2_config_preset(n->config, "fashion-mnist", err)
                        : sid2_fail(err, SID2_ERR_MEMORY, "out of memory");
    return ok && config_set(n->config, "train.precision", type, err) &&
           config_set(n->config, "sample.precision", type, err) &&
           config_set_int(n->config, "train.batch", batch, err) &&
           config_set_int(n->config, "sample.batch", batch, err) &&
           config_set_int(n->config, "sample.steps", STEPS, err);
}

static bool open_trainer(network *n, sid2_device *device, sid2_error *err)
{
    return (n->trainer = sid2_trainer_create(device, n->config, 0, err)) != NULL;
}

static bool open_sampler(network *n, sid2_device *device, sid2_error *err)
{
    return (n->sampler = sid2_sampler_create(device, n->config, 0, err)) &&
           sid2_sampler_load_trainer(n->sampler, n->trainer, err);
}

static void close_networks(network *n, int count)
{
    for (int i = 0; i < count; i++) {
        sid2_sampler_destroy(n[i].sampler);
        sid2_trainer_destroy(n[i].trainer);
        sid2_config_destroy(n[i].config);
    }
}

static bool time_network(network *n, int batch, uint8_t *pixels, sid2_error *err)
{
    uint64_t seeds[BATCH] = {0};
    int32_t labels[MOST_IMAGES] = {0};
    double began = sid2_clock();
    if (!sid2_trainer_step(n->trainer, pixels, labels, err)) return false;
    double trained = sid2_clock();
    n->train = fmin(n->train, (trained - began) / batch);
    if (!n->sampler) return true;
    if (!sid2_sampler_run(n->sampler, seeds, labels, BATCH, pixels, NULL, NULL, err)) return false;
    n->sample = fmin(n->sample, (sid2_clock() - trained) / batch / STEPS);
    return true;
}

/* All in turn; the first round warms up. */
static bool time_networks(network *n, int count, int batch, sid2_error *err)
{
    uint8_t *pixels = calloc((size_t)batch, sid2_config_image_bytes(n->config));
    bool ok = pixels || sid2_fail(err, SID2_ERR_MEMORY, "out of memory");
    for (int round = 0; ok && round <= ROUNDS; round++)
        for (int i = 0; ok && i < count; i++) {
            if (round <= 1) n[i].train = n[i].sample = INFINITY;
            ok = time_network(&n[i], batch, pixels, err);
        }
    free(pixels);
    return ok;
}

static bool tune_types(sid2_device *device, sid2_fastest *best, sid2_error *err)
{
    network n[TYPES] = {0};
    bool ok = true;
    for (int i = 0; ok && i < TYPES; i++)
        ok = configure(&n[i], type_names[i], BATCH, err) && open_trainer(&n[i], device, err) &&
             open_sampler(&n[i], device, err);
    ok = ok && time_networks(n, TYPES, BATCH, err);
    if (ok) {
        printf("\n%-16s%16s%18s\n", "", "training, im/s", "sampling, evals/s");
        for (int i = 0; i < TYPES; i++)
            printf("%-16s%16.1f%18.1f\n", type_names[i], 1 / n[i].train, 1 / n[i].sample);
        int train = n[1].train < n[0].train, sample = n[1].sample < n[0].sample;
        best->train = types[train], best->sample = types[sample];
        printf("\nfastest: %s to train, %s to sample\n", type_names[train], type_names[sample]);
    }
    close_networks(n, TYPES);
    return ok;
}

/* In lanes of sixteen images, one for each core: so the arena decides how many of them are computed at a time. */
static bool tune_arena(sid2_device *device, sid2_fastest *best, sid2_error *err)
{
    network n[ARENAS] = {0};
    int lanes = 1, fastest = 0;
    while (2 * lanes <= sid2_device_describe(device)->cores && 2 * lanes * LANE <= MOST_IMAGES) lanes *= 2;
    bool ok = true;
    for (int i = 0; ok && i < ARENAS; i++)
        ok = configure(&n[i], type_names[best->train == SID2_BF16], lanes * LANE, err) &&
             config_set_int(n[i].config, "train.lanes", lanes, err) &&
             config_set_int(n[i].config, "train.arena", arenas[i], err) && open_trainer(&n[i], device, err);
    ok = ok && time_networks(n, ARENAS, lanes * LANE, err);
    if (ok) {
        printf("\n%-16s%16s\n", "activations", "training, im/s");
        for (int i = 0; i < ARENAS; i++) {
            printf("%3d MiB,%3d at once%15.1f\n", arenas[i], sid2_trainer_memory(n[i].trainer)->microbatch,
                   1 / n[i].train);
            if (n[i].train < (fastest ? 1 : margin) * n[fastest].train) fastest = i;
        }
        best->arena = arenas[fastest];
        printf("\nfastest: %d MiB\n", best->arena);
    }
    close_networks(n, ARENAS);
    return ok;
}

/* On all threads, as trainings and samplers run. */
static bool tune_whole(const device_choice *on, sid2_fastest *best, sid2_error *err)
{
    const sid2_device_options options = sid2_with(sid2_device_options, .blocks = best->blocks,
                                                  .threads = (int)on->threads, .share_cores = true);
    sid2_device *device = sid2_device_open("cpu", &options, err);
    bool ok = device && tune_types(device, best, err) && tune_arena(device, best, err);
    if (ok) {
        best->region = sid2_device_region(device);
        printf("\na loop over %d threads begins and ends in %.1f us\n", sid2_device_describe(device)->cores,
               1e-3 * best->region);
    }
    sid2_device_close(device);
    return ok;
}

/* ---- Ways of libraries ---- */

/* A model's first step and first pictures, which measure. */
static bool run_once(sid2_device *device, const sid2_config *config, sid2_error *err)
{
    int64_t batch = config_int(config, "train.batch"), images = config_int(config, "sample.batch"),
            most = batch > images ? batch : images;
    uint8_t *pixels = calloc((size_t)most, sid2_config_image_bytes(config));
    int32_t *labels = calloc((size_t)most, sizeof *labels);
    uint64_t *seeds = calloc((size_t)most, sizeof *seeds);
    sid2_sampler *sampler = NULL;
    sid2_trainer *trainer = NULL;
    bool ok = (pixels && labels && seeds) || sid2_fail(err, SID2_ERR_MEMORY, "out of memory");
    ok = ok && (trainer = sid2_trainer_create(device, config, 0, err)) &&
         sid2_trainer_step(trainer, pixels, labels, err) &&
         (sampler = sid2_sampler_create(device, config, 0, err)) &&
         sid2_sampler_load_trainer(sampler, trainer, err) &&
         sid2_sampler_run(sampler, seeds, labels, (int)images, pixels, NULL, NULL, err);
    sid2_sampler_destroy(sampler);
    sid2_trainer_destroy(trainer);
    free(pixels), free(labels), free(seeds);
    return ok;
}

static void print_ways(const sid2_backend *backend, void *self)
{
    int calls = 0, others = 0;
    printf("%-76s%12s%12s%6s\n", "microseconds a call", "first way", "fastest", "way");
    for (const sid2_way_report *r; (r = backend->measured(self, calls)); calls++) {
        printf("%-76s%12.1f%12.1f%4d/%d\n", r->call, 1e6 * r->first, 1e6 * r->best, r->fastest + 1, r->ways);
        others += r->fastest > 0;
    }
    printf("\n%d of %d calls are faster another way than the library's first\n", others, calls);
}

static bool tune_libraries(sid2_device *device, const sid2_backend *backend, const model_choice *model,
                           bool dry, sid2_error *err)
{
    sid2_error why = {0};
    sid2_config *config = sid2_config_create();
    void *self = sid2_device_self(device, backend);
    backend->measure(self);
    bool ok = (config || sid2_fail(err, SID2_ERR_MEMORY, "out of memory")) &&
              sid2_config_preset(config, model->preset ? model->preset : "fashion-mnist", err) &&
              options_apply(config, &model->set, err) && config_set_int(config, "sample.steps", 1, err) &&
              run_once(device, config, err);
    if (ok) print_ways(backend, self);
    if (ok && !dry) tell_kept(backend->keep_measured(self, &why), &why);
    sid2_config_destroy(config);
    return ok;
}

/* ---- The command ---- */

static bool tune(const device_choice *on, const model_choice *model, bool dry, sid2_error *err)
{
    sid2_device *device = open_device(on, err);
    if (!device) return false;
    const sid2_device_info *info = sid2_device_describe(device);
    const sid2_backend *backend = NULL;
    int index = 0;
    bool found = locate(info->id, &backend, &index) && strcmp(info->id, "reference") != 0, ok;
    sid2_fastest best = {0};
    sid2_error why = {0};
    if (found && !backend->measure && (model->preset || model->set.count)) {
        sid2_device_close(device);
        return sid2_fail(err, SID2_ERR_USAGE,
                         "--preset and --set are for CUDA; on %s nothing depends on a model",
                         on->id ? on->id : "this device");
    }
    if (found && (backend->blocks || backend->measure))
        printf("device  %s: %s\n        %s\n\n", info->id, info->name, info->driver);
    if (found && backend->measure) {
        ok = tune_libraries(device, backend, model, dry, err);
    } else if (found && backend->blocks) {
        ok = (backend->keep_fast ? tune_ways : tune_blocks)(info, backend, index, &best.blocks, err) &&
             (!backend->keep_fast || tune_whole(on, &best, err));
        if (ok && !dry)
            tell_kept(backend->keep_fast ? backend->keep_fast(index, &best, &why)
                                         : backend->keep_blocks(index, best.blocks, &why),
                      &why);
    } else {
        ok = sid2_fail(err, SID2_ERR_USAGE, "%s has nothing to tune; --device cpu, vulkan:0 or cuda:0 would",
                       info->id);
    }
    sid2_device_close(device);
    return ok;
}

int command_tune(int argc, char **argv)
{
    device_choice on = {0};
    model_choice model = {0};
    bool dry = false;
    const option_row rows[] = {
        OPTION_DEVICE(&on.id),
        {OPTION_TEXT, "preset", "NAME", &model.preset,
         "on CUDA: the model whose calls are measured (fashion-mnist), or its file", NULL},
        OPTION_SET_KEY(&model.set),
        OPTION_DETERMINISTIC(&on.deterministic),
        OPTION_TF32(&on.tf32),
        {OPTION_FLAG, "dry-run", NULL, &dry, "measure, and keep nothing", NULL},
    };
    int code = options_parse(&(option_table){"tune",
                                             "Find and keep what is fastest on a device: types and products "
                                             "on the CPU, block sizes on Vulkan, ways of "
                                             "libraries on CUDA",
                                             NULL, rows, sizeof rows / sizeof rows[0]},
                             argc, argv);
    if (code != OPTIONS_RUN) return code;
    sid2_error err = {0};
    return tune(&on, &model, dry, &err) ? 0 : report_error("tune", &err);
}
