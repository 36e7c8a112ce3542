/* Evaluation: the network's errors on given images, one noise level at a time. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "evaluator.h"
#include "inference.h"
#include "sampler.h"

struct sid2_evaluator {
    sid2_inference on;
    sid2_eval_point point;
};

sid2_evaluator *sid2_evaluator_create(sid2_device *device, const sid2_config *config, size_t memory,
                                      sid2_error *err)
{
    static const bool runs[SID2_PASS_COUNT] = {[SID2_PASS_ERRORS] = true};
    sid2_evaluator *e = calloc(1, sizeof *e);
    if (!e) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory"), NULL;
    bool ok = sid2_inference_open(&e->on, device, config, NULL, runs, memory, "evaluating", err);
    e->on.given = (int)config->model_given; /* the task that was learnt */
    if (ok) return e;
    free(e);
    return NULL;
}

void sid2_evaluator_destroy(sid2_evaluator *e)
{
    if (!e) return;
    sid2_inference_close(&e->on);
    free(e);
}

bool sid2_evaluator_load(sid2_evaluator *e, const char *directory, bool ema, sid2_error *err)
{
    return sid2_inference_load(&e->on, directory, ema, err);
}

bool sid2_evaluator_load_trainer(sid2_evaluator *e, sid2_trainer *trainer, sid2_error *err)
{
    return sid2_inference_load_trainer(&e->on, trainer, err);
}

sid2_memory_report sid2_evaluator_memory(const sid2_evaluator *e) { return sid2_inference_memory(&e->on); }

/* What all batches of one call share. */
typedef struct job {
    const uint8_t *pixels;
    int32_t *labels;
    uint64_t *seeds;
    int count;
    uint8_t *staging; /* one batch */
    float *errors;    /* of one batch's frames */
} job;

static bool job_create(job *j, const sid2_inference *n, const uint8_t *pixels, const int32_t *labels,
                       int count, uint64_t first_sample, sid2_error *err)
{
    *j = (job){.pixels = pixels,
               .count = count,
               .labels = malloc((size_t)count * sizeof *j->labels),
               .seeds = malloc((size_t)count * sizeof *j->seeds),
               .staging = malloc((size_t)n->plan.batch * n->image_bytes),
               .errors = malloc((size_t)(n->plan.batch * n->config.model_frames) * sizeof *j->errors)};
    if (!j->labels || !j->seeds || !j->staging || !j->errors)
        return sid2_fail(err, SID2_ERR_MEMORY, "out of memory");
    for (int i = 0; i < count; i++) {
        bool known = labels && labels[i] >= 0 && labels[i] < n->config.model_classes;
        j->labels[i] = known ? labels[i] : -1;
        j->seeds[i] = first_sample + (uint64_t)i;
    }
    return true;
}

static void job_destroy(job *j)
{
    free(j->labels);
    free(j->seeds);
    free(j->staging);
    free(j->errors);
}

/* The errors of images first .. first + batch; past the end, the last is repeated and not counted. */
static bool batch_errors(sid2_inference *n, const job *j, int first, float *errors, sid2_error *err)
{
    for (int i = 0; i < n->plan.batch; i++) {
        int image = first + i < j->count ? first + i : j->count - 1;
        memcpy(j->staging + (size_t)i * n->image_bytes, j->pixels + (size_t)image * n->image_bytes,
               n->image_bytes);
    }
    bool ok = sid2_inference_upload_images(n, j->seeds, j->labels, first, j->count, err) &&
              sid2_inference_scatter(n, "pixels", j->staging, err) &&
              sid2_inference_run(n, SID2_PASS_ERRORS, err) &&
              sid2_inference_gather(n, "error", j->errors, err);
    int frames = (int)n->config.model_frames;
    for (int i = 0; ok && i < n->plan.batch && first + i < j->count; i++) {
        char cause[200];
        double sum = 0;
        for (int f = 0; f < frames; f++) sum += j->errors[i * frames + f];
        errors[first + i] = (float)(sum / frames);
        if (!isfinite(errors[first + i]))
            ok = sid2_fail(err, SID2_ERR_DEVICE, "evaluation: the error of image %d is not finite%s",
                           first + i, sid2_inference_cause(n, cause));
    }
    return ok;
}

/* The network is told of no noise level past the ends of its schedule. */
static double known_position(const sid2_schedule *s, double logsnr)
{
    return sid2_schedule_position(s, fmin(fmax(logsnr, s->last), s->first));
}

static bool errors_at(sid2_evaluator *e, const uint8_t *pixels, const int32_t *labels, int count,
                      double logsnr, uint64_t first_sample, float *errors, sid2_error *err)
{
    sid2_inference *n = &e->on;
    if (!sid2_inference_is_loaded(n, err)) return false;
    if (count < 1) return sid2_fail(err, SID2_ERR_USAGE, "no images to evaluate on");
    double frames = (double)n->config.model_frames;
    job j;
    bool ok = job_create(&j, n, pixels, labels, count, first_sample, err) &&
              sid2_inference_upload_frames(n, "time", known_position(&n->schedule, logsnr),
                                           sid2_schedule_position(&n->schedule, n->schedule.first), err) &&
              sid2_inference_upload_frames(n, "alpha", sid2_alpha(logsnr), 1, err) &&
              sid2_inference_upload_frames(n, "sigma", sid2_sigma(logsnr), 0, err) &&
              sid2_inference_upload_frames(n, "weight", frames / (frames - n->given), 0, err) &&
              sid2_inference_upload_key(n, 0, err);
    for (int first = 0; ok && first < count; first += n->plan.batch)
        ok = batch_errors(n, &j, first, errors, err);
    job_destroy(&j);
    return ok;
}

static void conclude(sid2_evaluator *e, const float *errors, int count, double t, double logsnr)
{
    double sum = 0;
    for (int i = 0; i < count; i++) sum += errors[i];
    double mse = sum / count;
    e->point = (sid2_eval_point){.logsnr = logsnr,
                                 .x_mse = mse,
                                 .eps_mse = exp(logsnr) * mse,
                                 .v_mse = (1 + exp(logsnr)) * mse,
                                 .weighted = sid2_loss_weight(&e->on.schedule, t) * mse};
}

static bool run(sid2_evaluator *e, const uint8_t *pixels, const int32_t *labels, int count, double t,
                double logsnr, uint64_t first_sample, sid2_error *err)
{
    float *errors = malloc(((size_t)(count > 0 ? count : 0) + 1) * sizeof *errors);
    bool ok = errors || sid2_fail(err, SID2_ERR_MEMORY, "out of memory");
    ok = ok && errors_at(e, pixels, labels, count, logsnr, first_sample, errors, err);
    if (ok) conclude(e, errors, count, t, logsnr);
    free(errors);
    return ok;
}

bool sid2_evaluator_run(sid2_evaluator *e, const uint8_t *pixels, const int32_t *labels, int count, double t,
                        uint64_t first_sample, sid2_error *err)
{
    return run(e, pixels, labels, count, t, sid2_schedule_logsnr(&e->on.schedule, t), first_sample, err);
}

bool sid2_evaluator_run_at(sid2_evaluator *e, const uint8_t *pixels, const int32_t *labels, int count,
                           double logsnr, uint64_t first_sample, sid2_error *err)
{
    return run(e, pixels, labels, count, sid2_schedule_time(&e->on.schedule, logsnr), logsnr, first_sample,
               err);
}

bool sid2_evaluator_errors(sid2_evaluator *e, const uint8_t *pixels, const int32_t *labels, int count,
                           double t, uint64_t first_sample, float *errors, sid2_error *err)
{
    return errors_at(e, pixels, labels, count, sid2_schedule_logsnr(&e->on.schedule, t), first_sample, errors,
                     err);
}

void sid2_evaluator_conclude(sid2_evaluator *e, const float *errors, int count, double t)
{
    conclude(e, errors, count, t, sid2_schedule_logsnr(&e->on.schedule, t));
}

const sid2_eval_point *sid2_evaluator_point(const sid2_evaluator *e) { return &e->point; }
