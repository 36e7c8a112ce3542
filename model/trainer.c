/* The training step: micro-batches of loss and gradient, then one update. */
#include "trainer.h"

#include <math.h>
#include <stdlib.h>

#include "philox.h"
#include "params.h"

/* What one micro-batch is told, per image. */
struct sid2_host_batch {
    float *time, *alpha, *sigma, *weight, *dloss;
    int32_t *label;
    uint32_t *samples;
};

static struct sid2_host_batch *host_batch_create(int n)
{
    /* One block: the struct, then six arrays of n words and one of 2n. */
    struct sid2_host_batch *h = calloc(1, sizeof *h + (size_t)n * 8 * sizeof(float));
    if (!h) return NULL;
    float *next = (float *)(h + 1);
    float **const arrays[] = {&h->time, &h->alpha, &h->sigma, &h->weight, &h->dloss};
    for (int i = 0; i < 5; i++, next += n) *arrays[i] = next;
    h->label = (int32_t *)next;
    h->samples = (uint32_t *)next + n;
    return h;
}

static sid2_program *compile(sid2_trainer *t, sid2_error *err)
{
    t->update = NULL;
    t->step = sid2_buffers_program(&t->buffers, t->training.step, err);
    return t->step ? t->update = sid2_buffers_program(&t->buffers, t->update_graph, err) : NULL;
}

static void dismantle(sid2_trainer *t)
{
    sid2_program_destroy(t->step);
    sid2_program_destroy(t->update);
    sid2_buffers_clear(&t->buffers);
    sid2_graph_destroy(t->training.step);
    sid2_graph_destroy(t->update_graph);
    t->step = t->update = NULL;
    t->training.step = t->update_graph = NULL;
}

/* Plans and compiles. What the backend needs beside the plan is known only then, so a limit may take further
 * rounds, the last with the least that there is. A GPU's memory is there to be filled with images, four
 * fifths of it, which leaves room to sample beside the training; train.arena is about the caches of a CPU. */
static bool build(sid2_trainer *t, sid2_device *device, size_t memory, sid2_error *err)
{
    const sid2_device_info *info = sid2_device_describe(device);
    sid2_config config = t->config;
    if (info->own_memory) {
        config.train_arena = 0;
        if (!memory) memory = info->memory / 5 * 4;
    }
    t->buffers.device = device;
    for (size_t round = 0, room = memory;; round++) {
        sid2_training *plan = &t->training;
        if (!sid2_training_plan(&config, room, sid2_device_alignment(device), plan, err)) return false;
        bool least = memory && plan->state + plan->arena > room;
        sid2_memory_report need = {
            .state = plan->state, .arena = plan->arena, .microbatch = plan->microbatch};
        if (least && info->memory && !sid2_training_fits(&need, info->memory, NULL))
            return sid2_training_fits(&need, memory, err); /* not even to be compiled */
        t->update_graph = sid2_update_graph(plan->step->compute, plan->step->params[0].elements, err);
        if (!t->update_graph || !compile(t, err)) return false;
        need = sid2_trainer_memory(t);
        if (sid2_training_fits(&need, memory, least ? err : NULL)) return true;
        if (least) return false;
        dismantle(t);
        room = round < 2 && need.workspace < memory ? memory - need.workspace : 1;
    }
}

static bool start(sid2_trainer *t, sid2_error *err)
{
    const sid2_graph *g = t->training.step;
    uint32_t seed[2] = {(uint32_t)t->config.train_seed, (uint32_t)((uint64_t)t->config.train_seed >> 32)};
    for (int i = 0; i < t->training.microbatch; i++) t->host->dloss[i] = 1 / (float)t->config.train_batch;
    float *weights = sid2_params_initial(&g->params[0], (uint64_t)t->config.train_seed, err);
    bool ok = weights && sid2_params_upload(&t->buffers, g, &g->params[0], weights, err) &&
              sid2_buffers_upload(&t->buffers, "ema", weights, err) &&
              sid2_buffers_upload(&t->buffers, "seed", seed, err) &&
              sid2_buffers_upload(&t->buffers, "dloss", t->host->dloss, err);
    free(weights);
    return ok;
}

sid2_trainer *sid2_trainer_create(sid2_device *device, const sid2_config *config, size_t memory,
                                  sid2_error *err)
{
    if (!sid2_config_check(config, err)) return NULL;
    sid2_trainer *t = calloc(1, sizeof *t);
    if (!t) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory"), NULL;
    t->config = *config;
    t->schedule = sid2_schedule_create(config);
    size_t batch = (size_t)config->train_batch;
    t->loss = calloc(batch, sizeof(float));
    t->logsnr = calloc(batch, sizeof(float));
    if (!t->loss || !t->logsnr)
        sid2_fail(err, SID2_ERR_MEMORY, "out of memory");
    else if (build(t, device, memory, err)) {
        t->host = host_batch_create(t->training.microbatch);
        if (!t->host)
            sid2_fail(err, SID2_ERR_MEMORY, "out of memory");
        else if (start(t, err))
            return t;
    }
    sid2_trainer_destroy(t);
    return NULL;
}

void sid2_trainer_destroy(sid2_trainer *t)
{
    if (!t) return;
    dismantle(t);
    free(t->host);
    free(t->loss);
    free(t->logsnr);
    free(t);
}

uint64_t sid2_trainer_steps(const sid2_trainer *t) { return t->steps; }
uint64_t sid2_trainer_images(const sid2_trainer *t) { return t->images; }

sid2_memory_report sid2_trainer_memory(const sid2_trainer *t)
{
    return (sid2_memory_report){.state = sid2_buffers_bytes(&t->buffers),
                                .arena = sid2_program_plan(t->step)->arena_bytes,
                                .workspace =
                                    sid2_program_workspace(t->step) + sid2_program_workspace(t->update),
                                .microbatch = t->training.microbatch,
                                .recomputed_segments = t->training.recomputed,
                                .segments = t->training.segments};
}

sid2_program *sid2_trainer_program(sid2_trainer *t, const sid2_graph **graph)
{
    *graph = t->training.step;
    return t->step;
}

/* ---- One step ---- */

/* The label that image `sample` trains with: its own, or none. */
static int32_t draw_label(const sid2_config *config, uint64_t sample, int32_t label)
{
    uint32_t word = sid2_philox_word((uint64_t)config->train_seed, sample, SID2_PURPOSE_LABEL, 0);
    bool drop = label < 0 || sid2_uniform(word) < config->train_label_drop;
    return drop ? (int32_t)config->model_classes : label;
}

/* Images first .. first + microbatch of the step: what each is told, in double and then rounded once. */
static void fill_host(sid2_trainer *t, int first, const int32_t *labels)
{
    struct sid2_host_batch *h = t->host;
    for (int i = 0; i < t->training.microbatch; i++) {
        int image = first + i;
        uint64_t sample = t->images + (uint64_t)image;
        double time = sid2_draw_time((uint64_t)t->config.train_seed, t->steps, image, t->config.train_batch);
        double logsnr = sid2_schedule_logsnr(&t->schedule, time);
        h->time[i] = (float)sid2_schedule_position(&t->schedule, logsnr);
        h->alpha[i] = (float)sid2_alpha(logsnr);
        h->sigma[i] = (float)sid2_sigma(logsnr);
        h->weight[i] = (float)sid2_loss_weight(&t->schedule, time);
        h->label[i] = draw_label(&t->config, sample, labels ? labels[image] : -1);
        h->samples[2 * i] = (uint32_t)sample;
        h->samples[2 * i + 1] = (uint32_t)(sample >> 32);
        t->logsnr[image] = (float)logsnr;
    }
}

static bool run_microbatch(sid2_trainer *t, int first, const uint8_t *pixels, const int32_t *labels,
                           sid2_error *err)
{
    struct sid2_host_batch *h = t->host;
    fill_host(t, first, labels);
    size_t image =
        (size_t)(t->config.model_image_size * t->config.model_image_size * t->config.model_image_channels);
    const struct {
        const char *name;
        const void *data;
    } uploads[] = {{"pixels", pixels + (size_t)first * image},
                   {"time", h->time},
                   {"alpha", h->alpha},
                   {"sigma", h->sigma},
                   {"weight", h->weight},
                   {"label", h->label},
                   {"samples", h->samples}};
    for (size_t i = 0; i < sizeof uploads / sizeof uploads[0]; i++)
        if (!sid2_buffers_upload(&t->buffers, uploads[i].name, uploads[i].data, err)) return false;
    const sid2_buffer *loss = sid2_buffers_find(&t->buffers, "loss");
    return sid2_program_run(t->step, err) &&
           sid2_buffer_download_later(loss, 0, t->loss + first, loss->bytes, err);
}

static bool check_labels(const sid2_config *config, const int32_t *labels, sid2_error *err)
{
    for (int64_t i = 0; labels && i < config->train_batch; i++)
        if (labels[i] < -1 || labels[i] >= config->model_classes)
            return sid2_fail(err, SID2_ERR_USAGE, "label %d: the model has model.classes = %d",
                             (int)labels[i], (int)config->model_classes);
    return true;
}

/* The step's learning rate, and everything else that Adam is told. */
static double set_hyper(sid2_trainer *t, float hyper[8])
{
    const sid2_config *c = &t->config;
    double number = (double)(t->steps + 1), rate = c->train_learning_rate;
    if (number < (double)c->train_warmup) rate *= number / (double)c->train_warmup;
    double decay = c->train_ema, ramp = (1 + number) / (10 + number);
    if (c->train_ema_rampup && ramp < decay) decay = ramp;
    const double values[8] = {rate,
                              c->train_beta1,
                              c->train_beta2,
                              c->train_eps,
                              1 - pow(c->train_beta1, number),
                              1 - pow(c->train_beta2, number),
                              c->train_clip,
                              1 - decay};
    for (int i = 0; i < 8; i++) hyper[i] = (float)values[i];
    return rate;
}

bool sid2_trainer_step(sid2_trainer *t, const uint8_t *pixels, const int32_t *labels, sid2_train_stats *stats,
                       sid2_error *err)
{
    if (t->broken)
        return sid2_fail(err, SID2_ERR_USAGE, "training stopped at step %llu; resume from a checkpoint",
                         (unsigned long long)t->steps + 1);
    if (!t->config.model_classes) labels = NULL;
    if (!check_labels(&t->config, labels, err)) return false;
    int batch = (int)t->config.train_batch;
    t->broken = true; /* until the step is whole */
    for (int first = 0; first < batch; first += t->training.microbatch)
        if (!run_microbatch(t, first, pixels, labels, err)) return false;
    float hyper[8], norm = 0;
    double rate = set_hyper(t, hyper), loss = 0;
    /* The one wait of a step: with the norm come the losses. */
    if (!sid2_buffers_upload(&t->buffers, "hyper", hyper, err) || !sid2_program_run(t->update, err) ||
        !sid2_buffers_download(&t->buffers, "norm", &norm, err))
        return false;
    for (int i = 0; i < batch; i++) loss += t->loss[i];
    if (!isfinite(loss) || !isfinite(norm))
        return sid2_fail(err, SID2_ERR_DEVICE,
                         "step %llu: the %s is not finite; with a lower train.learning_rate or a longer "
                         "train.warmup, go on from the last checkpoint, or anew where there is none",
                         (unsigned long long)t->steps + 1, isfinite(loss) ? "gradient" : "loss");
    t->broken = false;
    t->steps++;
    t->images += (uint64_t)batch;
    if (stats)
        *stats = (sid2_train_stats){.step = t->steps,
                                    .images = t->images,
                                    .loss = loss / batch,
                                    .grad_norm = norm,
                                    .learning_rate = rate,
                                    .sample_loss = t->loss,
                                    .sample_logsnr = t->logsnr};
    return true;
}
