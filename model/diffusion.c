/* The diffusion objective: noise is added to images, and the network's guess of what they were is compared. */
#include <stdlib.h>

#include "objective.h"
#include "schedule.h"
#include "uvit.h"

/* Externals beside those of sid2_noised_images: weight f32 [M] · dloss, loss · weights, weights_low, grads */
static sid2_graph *diffusion_graph(const sid2_config *config, int64_t n, sid2_error *err)
{
    sid2_graph *g = sid2_graph_create(sid2_config_dtype(config->train_precision));
    if (!g) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory building the graph"), NULL;
    sid2_noised at = sid2_noised_images(g, config, n);
    sid2_uvit net = sid2_uvit_build(g, config,
                                    (sid2_uvit_inputs){.params = sid2_graph_params(g, "", true),
                                                       .z = at.z,
                                                       .time = at.time,
                                                       .label = at.label,
                                                       .samples = at.samples,
                                                       .seed = at.seed});
    sid2_tensor weight = sid2_graph_external(g, "weight", SID2_F32, sid2_graph_type(g, at.label).shape);
    sid2_tensor loss = sid2_diffusion_loss(g, net.v, at.z, at.x, at.alpha, at.sigma, weight);
    return sid2_objective_finish(g, loss, err);
}

/* What one micro-batch is told, per image. */
typedef struct host {
    sid2_config config;
    sid2_schedule schedule;
    int n, frames; /* clips, frames of each */
    float *time, *alpha, *sigma, *weight;
    uint32_t *room;
} host;

static void *diffusion_open(const sid2_config *config, int n, sid2_buffers *buffers, sid2_error *err)
{
    /* One block: the struct, then four arrays of a word an image and the room. */
    int images = n * (int)config->model_frames;
    host *h = calloc(1, sizeof *h + ((size_t)images * 5 + (size_t)n * 2) * sizeof(float));
    if (!h) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory"), NULL;
    float *next = (float *)(h + 1);
    float **const arrays[] = {&h->time, &h->alpha, &h->sigma, &h->weight};
    for (int i = 0; i < 4; i++, next += images) *arrays[i] = next;
    h->room = (uint32_t *)next;
    h->config = *config;
    h->schedule = sid2_schedule_create(config);
    h->n = n;
    h->frames = (int)config->model_frames;
    if (sid2_objective_tell_once(config, n, buffers, err)) return h;
    free(h);
    return NULL;
}

/* In double, and then rounded once. Given frames are clean, and nothing is learnt of them. */
static void fill(host *h, const sid2_step_input *step, int first, float *logsnrs)
{
    const sid2_config *c = &h->config;
    for (int i = 0; i < h->n; i++) {
        double time = sid2_draw_time((uint64_t)c->train_seed, step->step, first + i, c->train_batch);
        double logsnr = sid2_schedule_logsnr(&h->schedule, time);
        int given = sid2_draw_given(c, step->first_sample + (uint64_t)(first + i)), frames = h->frames;
        double weight = sid2_loss_weight(&h->schedule, time) * frames / (frames - given);
        for (int f = 0, at = i * frames; f < frames; f++, at++) {
            bool made = f >= given;
            h->time[at] = (float)sid2_schedule_position(&h->schedule, made ? logsnr : h->schedule.first);
            h->alpha[at] = made ? (float)sid2_alpha(logsnr) : 1;
            h->sigma[at] = made ? (float)sid2_sigma(logsnr) : 0;
            h->weight[at] = made ? (float)weight : 0;
        }
        logsnrs[i] = (float)logsnr;
    }
}

static bool diffusion_tell(void *self, sid2_buffers *buffers, const sid2_step_input *step, int first,
                           float *logsnr, sid2_error *err)
{
    host *h = self;
    fill(h, step, first, logsnr);
    const struct {
        const char *name;
        const float *data;
    } uploads[] = {{"time", h->time}, {"alpha", h->alpha}, {"sigma", h->sigma}, {"weight", h->weight}};
    for (size_t i = 0; i < sizeof uploads / sizeof uploads[0]; i++)
        if (!sid2_buffers_upload(buffers, uploads[i].name, uploads[i].data, err)) return false;
    return sid2_objective_tell_images(&h->config, buffers, step, first, h->n, h->room, err);
}

const sid2_objective sid2_diffusion = {.name = "diffusion",
                                       .trains = "",
                                       .graph = diffusion_graph,
                                       .open = diffusion_open,
                                       .close = free,
                                       .tell = diffusion_tell};
