/* What objectives have in common, and which ones a configuration asks for. */
#include <stdlib.h>

#include "averages.h"
#include "distill.h"
#include "philox.h"
#include "uvit.h"

sid2_noised sid2_noised_images(sid2_graph *g, const sid2_config *config, int64_t n)
{
    sid2_shape images = sid2_config_images(config, n), each = sid2_shape_of(images.dim[0]);
    sid2_noised at = {.x = sid2_image_to_float(g, sid2_graph_external(g, "pixels", SID2_U8, images)),
                      .alpha = sid2_graph_external(g, "alpha", SID2_F32, each),
                      .sigma = sid2_graph_external(g, "sigma", SID2_F32, each),
                      .time = sid2_graph_external(g, "time", SID2_F32, each),
                      .label = sid2_graph_external(g, "label", SID2_I32, each),
                      .samples = sid2_graph_external(g, "samples", SID2_U32, sid2_shape_of(n, 2)),
                      .seed = sid2_graph_external(g, "seed", SID2_U32, sid2_shape_of(2))};
    sid2_tensor eps = sid2_uvit_noise(g, config, n, at.samples, at.seed, SID2_PURPOSE_NOISE);
    at.z = sid2_diffuse(g, at.x, eps, at.alpha, at.sigma);
    return at;
}

sid2_graph *sid2_objective_finish(sid2_graph *g, sid2_tensor loss, sid2_error *err)
{
    sid2_graph_export(g, loss, "loss");
    sid2_graph_fuse(g);
    sid2_tensor dloss = sid2_graph_external(g, "dloss", SID2_F32, sid2_graph_type(g, loss).shape);
    sid2_graph_backward(g, &loss, &dloss, 1);
    if (sid2_graph_finish(g, err)) return g;
    sid2_graph_destroy(g);
    return NULL;
}

bool sid2_objective_tell_once(const sid2_config *config, int n, sid2_buffers *buffers, sid2_error *err)
{
    const uint64_t seed = (uint64_t)config->train_seed;
    const uint32_t words[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    int images = n * (int)config->model_frames;
    float *dloss = malloc((size_t)images * sizeof *dloss);
    if (!dloss) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory");
    for (int i = 0; i < images; i++) dloss[i] = 1 / (float)(config->train_batch * config->model_frames);
    bool ok =
        sid2_buffers_upload(buffers, "seed", words, err) && sid2_buffers_upload(buffers, "dloss", dloss, err);
    free(dloss);
    return ok;
}

/* The label that image `sample` trains with: its own, or none. */
static int32_t draw_label(const sid2_config *config, uint64_t sample, int32_t label)
{
    uint32_t word = sid2_philox_word((uint64_t)config->train_seed, sample, SID2_PURPOSE_LABEL, 0);
    bool drop = label < 0 || sid2_uniform(word) < config->train_label_drop;
    return drop ? (int32_t)config->model_classes : label;
}

int sid2_draw_given(const sid2_config *config, uint64_t sample)
{
    uint32_t word = sid2_philox_word((uint64_t)config->train_seed, sample, SID2_PURPOSE_HISTORY, 0);
    return sid2_uniform(word) < config->train_history_drop ? 0 : (int)config->model_given;
}

bool sid2_objective_tell_images(const sid2_config *config, sid2_buffers *buffers, const sid2_step_input *step,
                                int first, int n, uint32_t *room, sid2_error *err)
{
    int frames = (int)config->model_frames;
    uint32_t *samples = room;
    int32_t *label = (int32_t *)(room + 2 * n);
    for (int i = 0; i < n; i++) {
        int image = first + i;
        uint64_t sample = step->first_sample + (uint64_t)image;
        int32_t own = draw_label(config, sample, step->labels ? step->labels[image - step->begin] : -1);
        for (int f = 0; f < frames; f++) label[i * frames + f] = own;
        samples[2 * i] = (uint32_t)sample;
        samples[2 * i + 1] = (uint32_t)(sample >> 32);
    }
    size_t image = sid2_config_image_bytes(config);
    const uint8_t *pixels = step->pixels + (size_t)(first - step->begin) * image;
    return sid2_buffers_upload(buffers, "pixels", pixels, err) &&
           sid2_buffers_upload(buffers, "label", label, err) &&
           sid2_buffers_upload(buffers, "samples", samples, err);
}

sid2_recipe sid2_recipe_of(const sid2_config *config)
{
    const sid2_average ema = {.name = "ema",
                              .decay = sid2_exponential_decay,
                              .rate = config->train_ema,
                              .rampup = config->train_ema_rampup};
    sid2_state_rule learner = {.name = "", .trained = true, .averages = {ema}, .average_count = 1};
    sid2_track_averages(&learner, config);
    if (config->distill_k)
        return (sid2_recipe){.states = {learner, {.name = "teacher"}, {.name = "auxiliary", .trained = true}},
                             .state_count = 3,
                             .objectives = {&sid2_distill_auxiliary, &sid2_distill_student},
                             .objective_count = 2};
    return (sid2_recipe){
        .states = {learner}, .state_count = 1, .objectives = {&sid2_diffusion}, .objective_count = 1};
}
