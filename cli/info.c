/* sid2 info: what a model is, costs and needs, without running it. */
#include "cli.h"

#include "cpu.h"
#include "file.h"
#include "plan.h"
#include "safetensors.h"
#include "training.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

typedef struct job {
    const char *path, *preset;
    size_t memory;
    int64_t threads;
    bool json, hash, plan, verify;
    assignments set;
    char directory[4096], digest[33];
    double length; /* that its weights are averaged over, where sid2 export --ema made them; or 0 */
    int hold;      /* on the directory */
    sid2_config *config;
    sid2_classes *names; /* of its classes */
    sid2_device_info cpu;
    sid2_model_info *info;
} job;

static bool read_length(job *j, sid2_error *err)
{
    char path[4096], *end;
    sid2_safetensors *file =
        sid2_path(path, err, "%s/ema.safetensors", j->directory) ? sid2_safetensors_open(path, err) : NULL;
    if (!file) return false;
    const char *length = sid2_safetensors_metadata(file, "ema");
    j->length = length ? sid2_text_real(length, &end) : 0;
    sid2_safetensors_close(file);
    return true;
}

static bool prepare(job *j, sid2_error *err)
{
    j->config = sid2_config_create();
    if (!j->config) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory");
    sid2_backend_cpu.describe(0, &sid2_with(sid2_device_options, .threads = (int)j->threads), &j->cpu);
    sid2_kind kind = SID2_ABSENT;
    if (j->path && !sid2_look(j->path, &kind, err)) return false;
    if (j->preset || (kind != SID2_ABSENT && kind != SID2_FOLDER)) {
        if (!sid2_config_preset(j->config, j->preset ? j->preset : j->path, err)) return false;
    } else if (!sid2_checkpoint_hold(j->path, j->directory, sizeof j->directory, &j->hold, err) ||
               !sid2_checkpoint_config(j->directory, j->config, err) ||
               !sid2_checkpoint_classes(j->directory, &j->names, err)) {
        return false;
    }
    if (j->directory[0] && (!sid2_checkpoint_digest(j->directory, j->digest, err) || !read_length(j, err)))
        return false;
    if (j->verify && !j->directory[0])
        return sid2_fail(err, SID2_ERR_USAGE,
                         "--verify is of a checkpoint; a configuration has nothing to compare");
    if (j->verify && !sid2_checkpoint_verify(j->directory, err)) return false;
    if (j->hash && !j->digest[0])
        return sid2_fail(err, SID2_ERR_USAGE, "--hash is of a checkpoint's weights; a preset has none");
    return options_apply(j->config, &j->set, err) && sid2_config_check(j->config, err);
}

static void print_layers(const job *j)
{
    char a[32], b[32], shape[64];
    printf("%-12s %-18s %-14s %12s %14s\n", "layer", "blocks", "output", "parameters", "multiply-adds");
    for (int i = 0; i < j->info->layer_count; i++) {
        const sid2_layer *layer = j->info->layers[i];
        printf("%-12s %-18s %-14s %12s %14s\n", layer->name, layer->kind,
               sid2_shape_text(layer->output, shape), sid2_text_count((double)layer->parameters, a),
               sid2_text_count(layer->multiply_adds, b));
    }
    printf("%-12s %-18s %-14s %12s %14s\n", "all", "", "", sid2_text_count((double)j->info->parameters, a),
           sid2_text_count(j->info->multiply_adds, b));
}

static void print_classes(const job *j)
{
    if (j->names) printf("\nclasses\n");
    for (int i = 0; i < sid2_classes_count(j->names); i++)
        printf("%5d  %s\n", i, sid2_classes_name(j->names, i));
}

static void print_info(const job *j)
{
    char a[32], b[32], c[32], lanes[320];
    const sid2_model_info *info = j->info;
    if (j->directory[0])
        printf("checkpoint %s (%s)\n%s", j->directory, j->digest, j->length > 0 ? "" : "\n");
    else
        printf("preset %s\n\n", j->preset ? j->preset : j->path);
    if (j->length > 0) printf("weights averaged over %g of the training\n\n", j->length);
    print_layers(j);
    print_classes(j);
    printf("\nblocks alone, one forward pass of one %s: %s multiply-adds\n\n",
           sid2_config_frames(j->config) > 1 ? "clip" : "image",
           sid2_text_count(info->block_multiply_adds, a));
    printf("training   %s: weights, gradients, Adam and EMA %s; activations %s\n",
           sid2_text_bytes((double)(info->train_state_bytes + info->train_arena_bytes), a),
           sid2_text_bytes((double)info->train_state_bytes, b),
           sid2_text_bytes((double)info->train_arena_bytes, c));
    const sid2_memory_report on_cores = {.lanes = info->train_lanes,
                                         .workers = info->train_workers,
                                         .cores = info->train_cores,
                                         .microbatch = info->train_microbatch,
                                         .wish = info->train_wish_bytes};
    printf("           %s\n", lanes_text("lane", &on_cores, config_int(j->config, "train.batch"), lanes));
    if (info->recomputed_segments)
        printf("           %d of %d blocks are computed twice to save memory\n", info->recomputed_segments,
               info->segments);
    printf("sampling   %s: weights %s; activations %s\n",
           sid2_text_bytes((double)(info->sample_state_bytes + info->sample_arena_bytes), a),
           sid2_text_bytes((double)info->sample_state_bytes, b),
           sid2_text_bytes((double)info->sample_arena_bytes, c));
    const sid2_memory_report sampling = {.lanes = info->sample_parts,
                                         .workers = info->sample_workers,
                                         .cores = info->sample_cores,
                                         .microbatch = info->sample_images};
    printf("           %s\n", lanes_text("part", &sampling, config_int(j->config, "sample.batch"), lanes));
    puts("           (a device's own workspace comes on top; sid2 train prints it)");
}

/* Every node of the training step in order, with where its first output lies and how much is alive around it. */
static void print_nodes(const sid2_graph *g, const sid2_plan *plan)
{
    static const char *const phases[] = {"", "backward", "again"};
    printf("%5s  %-20s %-9s %-5s %-18s %10s %10s\n", "node", "operator", "phase", "type", "output", "at",
           "size");
    for (int32_t n = 0; n < g->node_count; n++) {
        const sid2_node *node = &g->nodes[n];
        char shape[64], at[32] = "external", size[32];
        sid2_tensor t = node->out[0];
        if (t == SID2_NONE) continue;
        sid2_type type = sid2_graph_type(g, t);
        if (plan->offset[t] != SID2_NOT_IN_ARENA) sid2_text_bytes((double)plan->offset[t], at);
        sid2_text_bytes((double)sid2_shape_count(type.shape) * (double)sid2_dtype_size(type.dtype), size);
        printf("%5" PRId32 "  %-20s %-9s %-5s %-18s %10s %10s%s\n", n, sid2_op_name(node->op),
               phases[node->phase], sid2_dtype_name(type.dtype), sid2_shape_text(type.shape, shape), at, size,
               n == plan->peak_node ? "  <- most is alive here" : "");
    }
}

static bool print_plan(const job *j, sid2_error *err)
{
    sid2_training training;
    sid2_recipe recipe = sid2_recipe_of(j->config);
    const sid2_training_site site = sid2_training_site_of(&j->cpu, j->memory);
    if (!sid2_training_plan(j->config, &recipe, &site, &training, err)) return false;
    const sid2_memory_report need = {.state = sid2_training_state(&training),
                                     .arena = sid2_training_arena(&training),
                                     .microbatch = training.microbatch,
                                     .lanes = training.lanes};
    bool fits = sid2_training_fits(&need, j->memory, err);
    sid2_plan *plan = fits ? sid2_plan_create(training.graph[0], site.alignment, err) : NULL;
    if (plan) {
        char arena[32];
        printf("training step of %d images: %" PRId32 " nodes, one arena of %s\n\n", training.microbatch,
               training.graph[0]->node_count, sid2_text_bytes((double)plan->arena_bytes, arena));
        print_nodes(training.graph[0], plan);
    }
    bool ok = plan != NULL;
    sid2_plan_destroy(plan);
    sid2_training_clear(&training);
    return ok;
}

static json_t *layer_json(const sid2_layer *layer)
{
    json_t *output = json_array();
    bool ok = output != NULL;
    for (int d = 0; ok && d < layer->output.rank; d++)
        ok = !json_array_append_new(output, json_integer(layer->output.dim[d]));
    if (ok)
        return json_pack("{s:s, s:s, s:o, s:I, s:f}", "name", layer->name, "kind", layer->kind, "output",
                         output, "parameters", (json_int_t)layer->parameters, "multiply_adds",
                         layer->multiply_adds);
    json_decref(output);
    return NULL;
}

static json_t *classes_json(const sid2_classes *names)
{
    json_t *list = json_array();
    bool ok = list != NULL;
    for (int i = 0; ok && i < sid2_classes_count(names); i++)
        ok = !json_array_append_new(list, json_string(sid2_classes_name(names, i)));
    if (ok) return list;
    json_decref(list);
    return NULL;
}

static bool print_json(const job *j, sid2_error *err)
{
    const sid2_model_info *info = j->info;
    json_t *layers = json_array(), *config = json_object();
    bool ok = layers && config;
    for (int i = 0; ok && i < info->layer_count; i++)
        ok = !json_array_append_new(layers, layer_json(info->layers[i]));
    const sid2_config_key *key;
    char value[256];
    for (int i = 0; ok && (key = sid2_config_key_at(i)); i++)
        ok = !json_object_set_new(config, key->name, json_string(config_text(j->config, key->name, value)));
    if (!ok) {
        json_decref(layers);
        json_decref(config);
        return sid2_fail(err, SID2_ERR_MEMORY, "out of memory");
    }
    json_t *all = json_pack(
        "{s:I, s:f, s:f, s:{s:I, s:I, s:i, s:i, s:i, s:i, s:i, s:i}, s:{s:I, s:I, s:i, s:i, s:i, s:i}, s:o, "
        "s:o}",
        "parameters", (json_int_t)info->parameters, "multiply_adds", info->multiply_adds,
        "block_multiply_adds", info->block_multiply_adds, "train", "state_bytes",
        (json_int_t)info->train_state_bytes, "arena_bytes", (json_int_t)info->train_arena_bytes, "lanes",
        info->train_lanes, "workers", info->train_workers, "cores", info->train_cores, "microbatch",
        info->train_microbatch, "recomputed", info->recomputed_segments, "segments", info->segments, "sample",
        "state_bytes", (json_int_t)info->sample_state_bytes, "arena_bytes",
        (json_int_t)info->sample_arena_bytes, "images", info->sample_images, "parts", info->sample_parts,
        "workers", info->sample_workers, "cores", info->sample_cores, "layers", layers, "config", config);
    ok = all && (!j->names || !json_object_set_new(all, "classes", classes_json(j->names)));
    if (ok && j->digest[0])
        ok = !json_object_set_new(all, "checkpoint", json_string(j->directory)) &&
             !json_object_set_new(all, "hash", json_string(j->digest));
    if (ok && j->length > 0) ok = !json_object_set_new(all, "ema", json_real(j->length));
    ok = ok && all && json_dumpf(all, stdout, JSON_INDENT(2) | JSON_ENSURE_ASCII) == 0;
    if (ok) putchar('\n');
    json_decref(all);
    return ok || sid2_fail(err, SID2_ERR_IO, "cannot write the facts as JSON");
}

int command_info(int argc, char **argv)
{
    job j = {.hold = -1};
    const option_row rows[] = {
        {OPTION_OPTIONAL, "PATH", NULL, &j.path, "a checkpoint, a run or a configuration file", NULL},
        {OPTION_TEXT, "preset", "NAME", &j.preset, "a preset instead", NULL},
        {OPTION_FLAG, "hash", NULL, &j.hash, "print only the digest of all weights", NULL},
        {OPTION_FLAG, "verify", NULL, &j.verify,
         "read every file of a checkpoint, and compare digests, steps and values", NULL},
        {OPTION_FLAG, "json", NULL, &j.json, "print JSON", NULL},
        {OPTION_FLAG, "plan", NULL, &j.plan,
         "print every node of the training step, and where its result lies in memory", NULL},
        OPTION_THREADS(&j.threads),
        {OPTION_BYTES, "memory", "SIZE", &j.memory,
         "plan training within this limit, such as 8GiB, beside which a device has its own workspace (none)",
         NULL},
        OPTION_SET_KEY(&j.set),
    };
    int code = options_parse(
        &(option_table){"info", "What a model is, costs and needs", NULL, rows, sizeof rows / sizeof rows[0]},
        argc, argv);
    if (code != OPTIONS_RUN) return code;
    if (!j.path == !j.preset) return report_usage("info", "give either PATH or --preset");
    sid2_error err = {0};
    bool ok = prepare(&j, &err);
    if (ok && j.verify)
        printf("%s: all files can be read, and agree\n", j.directory);
    else if (ok && j.hash)
        printf("%s\n", j.digest);
    else if (ok && j.plan)
        ok = print_plan(&j, &err);
    else if (ok) {
        j.info = sid2_model_describe(j.config, &j.cpu, j.memory, &err);
        ok = j.info != NULL;
        if (ok && j.json)
            ok = print_json(&j, &err);
        else if (ok)
            print_info(&j);
    }
    sid2_checkpoint_release(j.hold);
    sid2_model_info_destroy(j.info);
    sid2_classes_destroy(j.names);
    sid2_config_destroy(j.config);
    return ok ? 0 : report_error("info", &err);
}
