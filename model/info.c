/* Facts about a model that need no device: counted from its graphs and plans. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sid2/model.h>

#include "sampling.h"
#include "training.h"
#include "uvit.h"

enum { PLANNED_ALIGNMENT = 64 };

static sid2_shape one_image(sid2_shape batch)
{
    sid2_shape shape = {.rank = batch.rank - 1};
    for (int i = 0; i < shape.rank; i++) shape.dim[i] = batch.dim[i + 1];
    return shape;
}

/* The figure of papers: convolutions, linears and attention of the blocks, without what depends on the
 * conditioning alone (once an image, not once a pixel). */
static bool is_published(const sid2_node *node, const sid2_uvit *net)
{
    return node->segment >= 0 && !(node->op == SID2_OP_linear && node->in[0] == net->emb);
}

/* What sid2_model_info points to. */
typedef struct description {
    sid2_model_info info;
    const sid2_layer *pointers[SID2_UVIT_MAX_LAYERS];
    sid2_layer layers[SID2_UVIT_MAX_LAYERS];
} description;

static void describe_layers(const sid2_graph *g, const sid2_uvit *net, description *d)
{
    for (int i = 0; i < net->layer_count; i++) {
        const sid2_uvit_layer *from = &net->layers[i];
        bool last = i + 1 == net->layer_count;
        int32_t end_node = last ? g->node_count : from[1].first_node;
        int32_t end_param = last ? g->params[0].count : from[1].first_param;
        sid2_layer *layer = &d->layers[i];
        d->pointers[i] = layer;
        snprintf(layer->name, sizeof layer->name, "%s", from->name);
        snprintf(layer->kind, sizeof layer->kind, "%s", from->kind);
        layer->output = one_image(sid2_graph_type(g, from->output).shape);
        for (int32_t p = from->first_param; p < end_param; p++)
            layer->parameters += sid2_shape_count(g->params[0].item[p].shape);
        for (int32_t n = from->first_node; n < end_node; n++) {
            double cost = sid2_graph_node_cost(g, &g->nodes[n]).multiply_adds;
            layer->multiply_adds += cost;
            if (is_published(&g->nodes[n], net)) d->info.block_multiply_adds += cost;
        }
        d->info.parameters += layer->parameters;
        d->info.multiply_adds += layer->multiply_adds;
    }
    d->info.layers = d->pointers;
    d->info.layer_count = net->layer_count;
}

static bool describe_network(const sid2_config *config, description *d, sid2_error *err)
{
    sid2_graph *g = sid2_graph_create(SID2_F32);
    if (!g) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory");
    sid2_shape image = sid2_config_images(config, 1), each = sid2_shape_of(image.dim[0]);
    sid2_uvit net =
        sid2_uvit_build(g, config,
                        (sid2_uvit_inputs){.params = sid2_graph_params(g, "", false),
                                           .z = sid2_graph_external(g, "z", SID2_F32, image),
                                           .time = sid2_graph_external(g, "time", SID2_F32, each),
                                           .label = sid2_graph_external(g, "label", SID2_I32, each),
                                           .samples = SID2_NONE,
                                           .seed = SID2_NONE});
    bool ok = sid2_graph_finish(g, err);
    if (ok) describe_layers(g, &net, d);
    sid2_graph_destroy(g);
    return ok;
}

static bool plan_sampling(const sid2_config *config, const sid2_device_info *device, size_t memory,
                          sid2_sampling *sampling, sid2_error *err)
{
    const sid2_training_site site = sid2_sampling_site_of(device, memory);
    bool runs[SID2_PASS_COUNT];
    int64_t count;
    sid2_solver_stage *stages = sid2_sampling_stages(config, NULL, &count, runs, err);
    free(stages);
    return stages && sid2_sampling_plan(config, NULL, runs, (int)config->sample_batch, site.cores, &site,
                                        sampling, err);
}

sid2_model_info *sid2_model_describe(const sid2_config *config, const sid2_device_info *device, size_t memory,
                                     sid2_error *err)
{
    const sid2_training_site site = sid2_training_site_of(device, memory);
    sid2_training training = {0};
    sid2_recipe recipe = sid2_recipe_of(config);
    sid2_sampling sampling = {0};
    description *d = calloc(1, sizeof *d);
    if (!d) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory"), NULL;
    if (!sid2_config_check(config, err) || !describe_network(config, d, err) ||
        !sid2_training_plan(config, &recipe, &site, &training, err) ||
        !sid2_training_fits(&(sid2_memory_report){.state = sid2_training_state(&training),
                                                  .arena = sid2_training_arena(&training),
                                                  .microbatch = training.microbatch,
                                                  .lanes = training.lanes},
                            memory, err) ||
        !plan_sampling(config, device, memory, &sampling, err)) {
        sid2_training_clear(&training);
        free(d);
        return NULL;
    }
    sid2_model_info *info = &d->info;
    info->train_state_bytes = sid2_training_state(&training);
    info->train_arena_bytes = sid2_training_arena(&training);
    info->train_microbatch = training.microbatch;
    info->train_lanes = training.lanes;
    info->train_workers = training.workers;
    info->train_cores = training.cores;
    info->train_wish_bytes = training.wish;
    info->recomputed_segments = training.recomputed;
    info->segments = training.segments;
    info->sample_state_bytes = sid2_sampling_state(&sampling);
    info->sample_arena_bytes = sid2_sampling_arena(&sampling);
    info->sample_images = sampling.images;
    info->sample_parts = sampling.parts;
    info->sample_workers = sampling.workers;
    info->sample_cores = sampling.cores;
    sid2_sampling_clear(&sampling);
    sid2_training_clear(&training);
    return info;
}

void sid2_model_info_destroy(sid2_model_info *info) { free(info); /* the description's first member */ }
