/* Sampling: from a seed to an image, batch by batch. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "file.h"
#include "params.h"
#include "philox.h"
#include "sampler.h"
#include "sampling.h"
#include "solver.h"
#include "trainer.h"

/* The key of every random number in sampling and evaluation; the sample number is the image's seed. The high
 * word is 0 for starting noise, labels and evaluation, and 1 + its number for the noise of an evaluation. */
enum { SAMPLE_KEY = 0x53694432 };

typedef enum program_kind { START, PLAIN, GUIDED, FINISH, ERRORS, PROGRAM_COUNT } program_kind;

struct sid2_sampler {
    sid2_config config;
    sid2_schedule schedule;
    int batch;
    sid2_graph *graph[PROGRAM_COUNT];
    sid2_program *program[PROGRAM_COUNT];
    sid2_buffers buffers;
    sid2_solver_stage *stages; /* one an evaluation */
    int64_t stage_count;
    bool loaded;
};

static sid2_graph *make_graph(const sid2_config *config, program_kind kind, int64_t n, sid2_error *err)
{
    switch (kind) {
    case START: return sid2_start_graph(config, n, err);
    case FINISH: return sid2_finish_graph(config, n, err);
    case ERRORS: return sid2_error_graph(config, n, err);
    default: return sid2_sample_graph(config, n, kind == GUIDED, err);
    }
}

/* Makes a program and the buffers it needs. */
static bool prepare(sid2_sampler *s, program_kind kind, sid2_error *err)
{
    if (s->program[kind]) return true;
    if (!s->graph[kind] && !(s->graph[kind] = make_graph(&s->config, kind, s->batch, err))) return false;
    return (s->program[kind] = sid2_buffers_program(&s->buffers, s->graph[kind], err)) != NULL;
}

static bool run(sid2_sampler *s, program_kind kind, sid2_error *err)
{
    return prepare(s, kind, err) && sid2_program_run(s->program[kind], err);
}

/* Uploads one 32-bit value for every image of the batch. */
static bool upload_all(sid2_sampler *s, const char *name, const void *value, sid2_error *err)
{
    uint32_t *words = malloc((size_t)s->batch * sizeof *words);
    if (!words) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory");
    for (int i = 0; i < s->batch; i++) memcpy(&words[i], value, sizeof *words);
    bool ok = sid2_buffers_upload(&s->buffers, name, words, err);
    free(words);
    return ok;
}

static bool upload_float(sid2_sampler *s, const char *name, double value, sid2_error *err)
{
    float rounded = (float)value;
    return upload_all(s, name, &rounded, err);
}

static bool upload_key(sid2_sampler *s, uint32_t high, sid2_error *err)
{
    if (!sid2_buffers_find(&s->buffers, "seed")) return true; /* a sampler without noise, past its start */
    return sid2_buffers_upload(&s->buffers, "seed", (uint32_t[]){SAMPLE_KEY, high}, err);
}

static void clear(sid2_sampler *s)
{
    for (int i = 0; i < PROGRAM_COUNT; i++) {
        sid2_program_destroy(s->program[i]);
        sid2_graph_destroy(s->graph[i]);
        s->program[i] = NULL;
        s->graph[i] = NULL;
    }
    sid2_buffers_clear(&s->buffers);
}

sid2_program *sid2_sampler_program(sid2_sampler *s, const sid2_graph **graph)
{
    *graph = s->graph[PLAIN];
    return s->program[PLAIN];
}

static size_t bytes_held(const sid2_sampler *s)
{
    size_t bytes = sid2_buffers_bytes(&s->buffers);
    for (int i = 0; i < PROGRAM_COUNT; i++)
        if (s->program[i])
            bytes += sid2_program_plan(s->program[i])->arena_bytes + sid2_program_workspace(s->program[i]);
    return bytes;
}

/* Makes the programs. What they hold beside their plans is known only then, so a limit may take a smaller
 * batch. */
static bool build(sid2_sampler *s, size_t memory, sid2_error *err)
{
    for (;; s->batch = (s->batch + 1) / 2) {
        bool guided = sid2_is_guided(&s->config);
        if (!prepare(s, PLAIN, err) || (guided && !prepare(s, GUIDED, err)) || !prepare(s, START, err) ||
            !prepare(s, FINISH, err))
            return false;
        size_t held = bytes_held(s);
        if (!memory || held <= memory) return true;
        if (s->batch == 1)
            return sid2_fail(err, SID2_ERR_MEMORY,
                             "sampling one image at a time needs %zu MiB, more than the %g MiB allowed",
                             (held >> 20) + 1, (double)memory / (1 << 20));
        clear(s);
    }
}

sid2_sampler *sid2_sampler_create(sid2_device *device, const sid2_config *config, size_t memory,
                                  sid2_error *err)
{
    sid2_sampling sampling;
    if (!sid2_sampling_plan(config, memory, sid2_device_alignment(device), &sampling, err)) return NULL;
    sid2_sampler *s = calloc(1, sizeof *s);
    if (!s) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory"), NULL;
    s->config = *config;
    s->schedule = sid2_schedule_create(config);
    s->batch = sampling.batch;
    s->buffers.device = device;
    s->stage_count = sid2_solver_evaluations(config);
    s->stages = malloc((size_t)s->stage_count * sizeof *s->stages);
    if (!s->stages) {
        sid2_fail(err, SID2_ERR_MEMORY, "out of memory");
    } else {
        sid2_solver_plan(&s->schedule, config, s->stages);
        if (build(s, memory, err)) return s;
    }
    sid2_sampler_destroy(s);
    return NULL;
}

void sid2_sampler_destroy(sid2_sampler *s)
{
    if (!s) return;
    clear(s);
    free(s->stages);
    free(s);
}

/* ---- Weights ---- */

bool sid2_sampler_load(sid2_sampler *s, const char *directory, bool ema, sid2_error *err)
{
    const sid2_graph *g = s->graph[PLAIN];
    char path[4096];
    if (!sid2_path(path, err, "%s/%s.safetensors", directory, ema ? "ema" : "weights") ||
        !sid2_params_read(path, &s->buffers, g, &g->params[0], err))
        return false;
    return s->loaded = true;
}

bool sid2_sampler_load_trainer(sid2_sampler *s, sid2_trainer *trainer, sid2_error *err)
{
    const sid2_graph *g = s->graph[PLAIN];
    const sid2_params *params = &g->params[0];
    if (params->elements != trainer->states[0].params->elements)
        return sid2_fail(err, SID2_ERR_USAGE, "the sampler's model is not the trainer's");
    float *flat = malloc((size_t)params->elements * sizeof *flat);
    if (!flat) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory for the weights");
    bool ok = sid2_state_download(&trainer->states[0], "ema", flat, err) &&
              sid2_params_upload(&s->buffers, g, params, flat, err);
    free(flat);
    s->loaded |= ok;
    return ok;
}

/* ---- Images ---- */

typedef struct job {
    const uint64_t *seeds;
    int32_t *labels;
    int count;
    uint8_t *pixels, *staging; /* staging: one batch */
    sid2_sample_callback callback;
    void *user;
    sid2_sample_progress progress;
} job;

static size_t image_bytes(const sid2_sampler *s)
{
    return (size_t)(s->config.model_image_size * s->config.model_image_size * s->config.model_image_channels);
}

/* Labels (-1: none, the table's last row) and seeds of images first .. first + batch; past the end, the last is
 * repeated. */
static bool upload_images(sid2_sampler *s, const job *j, int first, sid2_error *err)
{
    uint32_t *words = malloc((size_t)s->batch * 3 * sizeof *words);
    if (!words) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory");
    for (int i = 0; i < s->batch; i++) {
        int image = first + i < j->count ? first + i : j->count - 1;
        words[2 * i] = (uint32_t)j->seeds[image];
        words[2 * i + 1] = (uint32_t)(j->seeds[image] >> 32);
        words[2 * s->batch + i] =
            (uint32_t)(j->labels[image] < 0 ? s->config.model_classes : j->labels[image]);
    }
    bool ok = sid2_buffers_upload(&s->buffers, "samples", words, err) &&
              sid2_buffers_upload(&s->buffers, "label", words + 2 * s->batch, err);
    free(words);
    return ok;
}

/* Two x_hat that are read come as one, their sum by the shares uploaded here. */
static bool run_stage(sid2_sampler *s, const sid2_solver_stage *stage, uint32_t number, sid2_error *err)
{
    bool summed = sid2_solver_of(&s->config)->history == 2;
    const double values[8] = {stage->alpha,
                              stage->sigma,
                              stage->w,
                              stage->z,
                              stage->x,
                              stage->noise,
                              summed ? 1 : stage->past[0],
                              0};
    float coef[8];
    for (int i = 0; i < 8; i++) coef[i] = (float)values[i];
    return (!summed || (upload_float(s, "past_0", stage->past[0], err) &&
                        upload_float(s, "past_1", stage->past[1], err))) &&
           upload_float(s, "time", sid2_schedule_position(&s->schedule, stage->logsnr), err) &&
           sid2_buffers_upload(&s->buffers, "coef", coef, err) && upload_key(s, 1 + number, err) &&
           run(s, stage->guided ? GUIDED : PLAIN, err);
}

/* Until the device has done what it was given: progress is what happened, not what was asked for. */
static bool wait(sid2_sampler *s, sid2_error *err)
{
    float any;
    return sid2_buffer_download(sid2_buffers_find(&s->buffers, "coef"), 0, &any, sizeof any, err);
}

static bool run_batch(sid2_sampler *s, job *j, int first, sid2_error *err)
{
    int real = j->count - first < s->batch ? j->count - first : s->batch;
    if (!upload_images(s, j, first, err) || !upload_key(s, 0, err) || !run(s, START, err)) return false;
    for (int64_t i = 0; i < s->stage_count; i++) {
        const sid2_solver_stage *stage = &s->stages[i];
        if (!run_stage(s, stage, (uint32_t)i, err)) return false;
        j->progress.step = stage->step + 1;
        j->progress.evaluations += real * (stage->guided ? 2 : 1);
        j->progress.full_evaluations += real * (s->config.sample_guidance != 1 ? 2 : 1);
        if (i + 1 == s->stage_count) j->progress.images += real;
        if (j->callback && !wait(s, err)) return false;
        if (j->callback && !j->callback(j->user, &j->progress))
            return sid2_fail(err, SID2_ERR_CANCELLED, "sampling was stopped");
    }
    if (!run(s, FINISH, err) || !sid2_buffers_download(&s->buffers, "image", j->staging, err)) return false;
    memcpy(j->pixels + (size_t)first * image_bytes(s), j->staging, (size_t)real * image_bytes(s));
    return true;
}

/* Without classes there are no labels, whatever was asked for. */
static bool choose_labels(const sid2_config *config, const uint64_t *seeds, int32_t *labels, int count,
                          sid2_error *err)
{
    int32_t classes = (int32_t)config->model_classes;
    for (int i = 0; i < count; i++) {
        if (labels[i] < -1 || (labels[i] >= classes && classes))
            return sid2_fail(err, SID2_ERR_USAGE, "class %d: the model has classes 0 to %d", (int)labels[i],
                             (int)classes - 1);
        uint64_t word = sid2_philox_word(SAMPLE_KEY, seeds[i], SID2_PURPOSE_LABEL, 0);
        if (!classes)
            labels[i] = -1;
        else if (labels[i] < 0)
            labels[i] = (int32_t)(word * (uint64_t)classes >> 32);
    }
    return true;
}

static bool is_loaded(const sid2_sampler *s, sid2_error *err)
{
    return s->loaded || sid2_fail(err, SID2_ERR_USAGE, "no weights are loaded yet");
}

bool sid2_sampler_run(sid2_sampler *s, const uint64_t *seeds, int32_t *labels, int count, uint8_t *pixels,
                      sid2_sample_callback callback, void *user, sid2_error *err)
{
    if (!is_loaded(s, err) || !choose_labels(&s->config, seeds, labels, count, err)) return false;
    if (sid2_is_guided(&s->config) &&
        !upload_all(s, "no_label", &(int32_t){(int32_t)s->config.model_classes}, err))
        return false;
    job j = {.seeds = seeds,
             .labels = labels,
             .count = count,
             .pixels = pixels,
             .staging = malloc((size_t)s->batch * image_bytes(s)),
             .callback = callback,
             .user = user,
             .progress = {.steps = (int)s->config.sample_steps, .total = count}};
    bool ok = j.staging || sid2_fail(err, SID2_ERR_MEMORY, "out of memory");
    for (int first = 0; ok && first < count; first += s->batch) ok = run_batch(s, &j, first, err);
    free(j.staging);
    return ok;
}

/* ---- Evaluation ---- */

/* Sums the errors of images first .. first + batch; past the end, the last is repeated and not counted. */
static bool add_errors(sid2_sampler *s, const job *j, int first, const uint8_t *pixels, double *sum,
                       sid2_error *err)
{
    for (int i = 0; i < s->batch; i++) {
        int image = first + i < j->count ? first + i : j->count - 1;
        memcpy(j->staging + (size_t)i * image_bytes(s), pixels + (size_t)image * image_bytes(s),
               image_bytes(s));
    }
    float *errors = malloc((size_t)s->batch * sizeof *errors);
    bool ok = errors || sid2_fail(err, SID2_ERR_MEMORY, "out of memory");
    ok = ok && upload_images(s, j, first, err) &&
         sid2_buffers_upload(&s->buffers, "pixels", j->staging, err) && run(s, ERRORS, err) &&
         sid2_buffers_download(&s->buffers, "error", errors, err);
    for (int i = 0; ok && i < s->batch && first + i < j->count; i++) *sum += errors[i];
    free(errors);
    return ok;
}

bool sid2_sampler_evaluate(sid2_sampler *s, const uint8_t *pixels, const int32_t *labels, int count, double t,
                           uint64_t first_sample, sid2_eval_point *point, sid2_error *err)
{
    if (!is_loaded(s, err) || !prepare(s, ERRORS, err)) return false;
    if (count < 1) return sid2_fail(err, SID2_ERR_USAGE, "no images to evaluate on");
    double logsnr = sid2_schedule_logsnr(&s->schedule, t), sum = 0;
    job j = {.count = count, .labels = malloc((size_t)count * sizeof *j.labels)};
    uint64_t *seeds = malloc((size_t)count * sizeof *seeds);
    j.seeds = seeds;
    j.staging = malloc((size_t)s->batch * image_bytes(s));
    bool ok = (j.labels && seeds && j.staging) || sid2_fail(err, SID2_ERR_MEMORY, "out of memory");
    for (int i = 0; ok && i < count; i++) {
        bool known = labels && labels[i] >= 0 && labels[i] < s->config.model_classes;
        j.labels[i] = known ? labels[i] : -1;
        seeds[i] = first_sample + (uint64_t)i;
    }
    ok = ok && upload_float(s, "time", sid2_schedule_position(&s->schedule, logsnr), err) &&
         upload_float(s, "alpha", sid2_alpha(logsnr), err) &&
         upload_float(s, "sigma", sid2_sigma(logsnr), err) && upload_float(s, "weight", 1, err) &&
         upload_key(s, 0, err);
    for (int first = 0; ok && first < count; first += s->batch)
        ok = add_errors(s, &j, first, pixels, &sum, err);
    free(j.labels);
    free(seeds);
    free(j.staging);
    if (!ok) return false;
    double mse = sum / count;
    *point = (sid2_eval_point){.logsnr = logsnr,
                               .x_mse = mse,
                               .eps_mse = exp(logsnr) * mse,
                               .v_mse = (1 + exp(logsnr)) * mse,
                               .weighted = sid2_loss_weight(&s->schedule, t) * mse};
    return true;
}
