/* The diffusion objective: noise is added to images, and the network's guess of what they were is compared. */
#include <stdlib.h>

#include "objective.h"
#include "philox.h"
#include "schedule.h"
#include "uvit.h"

/* Externals (N = micro-batch, in clips of F frames, so M = N F images):
 *   pixels u8 [M,H,W,c] · label i32 [M] · time, alpha, sigma, weight f32 [M] · samples u32 [N,2] · seed u32 [2]
 *   dloss f32 [M], 1 / (F train.batch) · loss f32 [M] · weights, weights_low, grads */
static sid2_graph *diffusion_graph(const sid2_config *config, int64_t n, sid2_error *err)
{
    sid2_graph *g = sid2_graph_create(sid2_config_dtype(config->train_precision));
    if (!g) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory building the graph"), NULL;
    sid2_shape images = sid2_config_images(config, n), each = sid2_shape_of(images.dim[0]);

    sid2_tensor x = sid2_image_to_float(g, sid2_graph_external(g, "pixels", SID2_U8, images));
    sid2_tensor samples = sid2_graph_external(g, "samples", SID2_U32, sid2_shape_of(n, 2));
    sid2_tensor seed = sid2_graph_external(g, "seed", SID2_U32, sid2_shape_of(2));
    sid2_tensor alpha = sid2_graph_external(g, "alpha", SID2_F32, each);
    sid2_tensor sigma = sid2_graph_external(g, "sigma", SID2_F32, each);
    sid2_tensor eps = sid2_uvit_noise(g, config, n, samples, seed, SID2_PURPOSE_NOISE);
    sid2_tensor z = sid2_diffuse(g, x, eps, alpha, sigma);
    sid2_uvit net =
        sid2_uvit_build(g, config,
                        (sid2_uvit_inputs){.params = sid2_graph_params(g, "", true),
                                           .z = z,
                                           .time = sid2_graph_external(g, "time", SID2_F32, each),
                                           .label = sid2_graph_external(g, "label", SID2_I32, each),
                                           .samples = samples,
                                           .seed = seed});
    sid2_tensor weight = sid2_graph_external(g, "weight", SID2_F32, each);
    sid2_tensor loss = sid2_diffusion_loss(g, net.v, z, x, alpha, sigma, weight);
    sid2_graph_export(g, loss, "loss");
    sid2_graph_fuse(g);
    sid2_tensor dloss = sid2_graph_external(g, "dloss", SID2_F32, each);
    sid2_graph_backward(g, &loss, &dloss, 1);
    if (sid2_graph_finish(g, err)) return g;
    sid2_graph_destroy(g);
    return NULL;
}

/* What one micro-batch is told, per image, but for the samples' numbers: per clip. */
typedef struct host {
    sid2_config config;
    sid2_schedule schedule;
    int n, frames; /* clips, frames of each */
    float *time, *alpha, *sigma, *weight, *dloss;
    int32_t *label;
    uint32_t *samples;
} host;

static void *diffusion_open(const sid2_config *config, int n, sid2_buffers *buffers, sid2_error *err)
{
    /* One block: the struct, then six arrays of a word an image and one of two a clip. */
    int images = n * (int)config->model_frames;
    host *h = calloc(1, sizeof *h + ((size_t)images * 6 + (size_t)n * 2) * sizeof(float));
    if (!h) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory"), NULL;
    float *next = (float *)(h + 1);
    float **const arrays[] = {&h->time, &h->alpha, &h->sigma, &h->weight, &h->dloss};
    for (int i = 0; i < 5; i++, next += images) *arrays[i] = next;
    h->label = (int32_t *)next;
    h->samples = (uint32_t *)next + images;
    h->config = *config;
    h->schedule = sid2_schedule_create(config);
    h->n = n;
    h->frames = (int)config->model_frames;
    for (int i = 0; i < images; i++) h->dloss[i] = 1 / (float)(config->train_batch * config->model_frames);
    uint32_t seed[2] = {(uint32_t)config->train_seed, (uint32_t)((uint64_t)config->train_seed >> 32)};
    if (sid2_buffers_upload(buffers, "seed", seed, err) &&
        sid2_buffers_upload(buffers, "dloss", h->dloss, err))
        return h;
    free(h);
    return NULL;
}

/* The label that image `sample` trains with: its own, or none. */
static int32_t draw_label(const sid2_config *config, uint64_t sample, int32_t label)
{
    uint32_t word = sid2_philox_word((uint64_t)config->train_seed, sample, SID2_PURPOSE_LABEL, 0);
    bool drop = label < 0 || sid2_uniform(word) < config->train_label_drop;
    return drop ? (int32_t)config->model_classes : label;
}

/* The frames that clip `sample` begins with: the model's, or none, so that these are learnt too. */
static int draw_given(const sid2_config *config, uint64_t sample)
{
    uint32_t word = sid2_philox_word((uint64_t)config->train_seed, sample, SID2_PURPOSE_HISTORY, 0);
    return sid2_uniform(word) < config->train_history_drop ? 0 : (int)config->model_given;
}

/* In double, and then rounded once. Given frames are clean, and nothing is learnt of them. */
static void fill(host *h, const sid2_step_input *step, int first, float *logsnrs)
{
    const sid2_config *c = &h->config;
    for (int i = 0; i < h->n; i++) {
        int image = first + i;
        uint64_t sample = step->first_sample + (uint64_t)image;
        double time = sid2_draw_time((uint64_t)c->train_seed, step->step, image, c->train_batch);
        double logsnr = sid2_schedule_logsnr(&h->schedule, time);
        int given = draw_given(c, sample), frames = h->frames;
        double weight = sid2_loss_weight(&h->schedule, time) * frames / (frames - given);
        int32_t label = draw_label(c, sample, step->labels ? step->labels[image - step->begin] : -1);
        for (int f = 0, at = i * frames; f < frames; f++, at++) {
            bool made = f >= given;
            h->time[at] = (float)sid2_schedule_position(&h->schedule, made ? logsnr : h->schedule.first);
            h->alpha[at] = made ? (float)sid2_alpha(logsnr) : 1;
            h->sigma[at] = made ? (float)sid2_sigma(logsnr) : 0;
            h->weight[at] = made ? (float)weight : 0;
            h->label[at] = label;
        }
        h->samples[2 * i] = (uint32_t)sample;
        h->samples[2 * i + 1] = (uint32_t)(sample >> 32);
        logsnrs[i] = (float)logsnr;
    }
}

static bool diffusion_tell(void *self, sid2_buffers *buffers, const sid2_step_input *step, int first,
                           float *logsnr, sid2_error *err)
{
    host *h = self;
    const sid2_config *c = &h->config;
    fill(h, step, first, logsnr);
    size_t image = sid2_config_image_bytes(c);
    const struct {
        const char *name;
        const void *data;
    } uploads[] = {{"pixels", step->pixels + (size_t)(first - step->begin) * image},
                   {"time", h->time},
                   {"alpha", h->alpha},
                   {"sigma", h->sigma},
                   {"weight", h->weight},
                   {"label", h->label},
                   {"samples", h->samples}};
    for (size_t i = 0; i < sizeof uploads / sizeof uploads[0]; i++)
        if (!sid2_buffers_upload(buffers, uploads[i].name, uploads[i].data, err)) return false;
    return true;
}

const sid2_objective sid2_diffusion = {.name = "diffusion",
                                       .trains = "",
                                       .graph = diffusion_graph,
                                       .open = diffusion_open,
                                       .close = free,
                                       .tell = diffusion_tell};

sid2_recipe sid2_recipe_of(const sid2_config *config)
{
    const sid2_average ema = {.name = "ema",
                              .decay = sid2_exponential_decay,
                              .rate = config->train_ema,
                              .rampup = config->train_ema_rampup};
    return (sid2_recipe){.states = {{.name = "", .trained = true, .averages = {ema}, .average_count = 1}},
                         .state_count = 1,
                         .objectives = {&sid2_diffusion},
                         .objective_count = 1};
}
