/* Sampling: from a seed to an image, batch by batch. */
#include "sampler.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "inference.h"
#include "philox.h"
#include "solver.h"

struct sid2_sampler {
    sid2_inference on;
    sid2_solver_stage *stages; /* one an evaluation */
    int64_t stage_count;
    double cost[2];         /* multiply-adds of an evaluation for one image, without guide and with */
    const struct job *told; /* while its callback is called */
};

sid2_program *sid2_sampler_program(sid2_sampler *s, int worker, const sid2_graph **graph)
{
    const sid2_sampling *plan = &s->on.plan;
    sid2_pass pass = plan->graph[SID2_PASS_PLAIN] ? SID2_PASS_PLAIN : SID2_PASS_GUIDED;
    *graph = plan->graph[pass];
    return worker < plan->workers ? s->on.worker[worker].program[pass] : NULL;
}

sid2_memory_report sid2_sampler_memory(const sid2_sampler *s) { return sid2_inference_memory(&s->on); }

static bool count_costs(sid2_sampler *s, const sid2_config *config, const sid2_config *guide, sid2_error *err)
{
    for (int guided = 0; guided < (sid2_config_guides(config) ? 2 : 1); guided++) {
        sid2_graph *g = sid2_pass_graph(config, guide, guided ? SID2_PASS_GUIDED : SID2_PASS_PLAIN, 1, err);
        if (!g) return false;
        s->cost[guided] = sid2_graph_cost(g).multiply_adds;
        sid2_graph_destroy(g);
    }
    return true;
}

sid2_sampler *sid2_sampler_create(sid2_device *device, const sid2_config *config, size_t memory,
                                  sid2_error *err)
{
    return sid2_sampler_create_guided(device, config, NULL, memory, err);
}

sid2_sampler *sid2_sampler_create_guided(sid2_device *device, const sid2_config *config,
                                         const sid2_config *guide, size_t memory, sid2_error *err)
{
    bool runs[SID2_PASS_COUNT];
    sid2_sampler *s = calloc(1, sizeof *s);
    if (!s) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory"), NULL;
    s->stages = sid2_sampling_stages(config, guide, &s->stage_count, runs, err);
    if (s->stages && count_costs(s, config, guide, err) &&
        sid2_inference_open(&s->on, device, config, guide, runs, memory, "sampling", err))
        return s;
    free(s->stages);
    free(s);
    return NULL;
}

void sid2_sampler_destroy(sid2_sampler *s)
{
    if (!s) return;
    sid2_inference_close(&s->on);
    free(s->stages);
    free(s);
}

bool sid2_sampler_load(sid2_sampler *s, const char *directory, bool ema, sid2_error *err)
{
    return sid2_inference_load(&s->on, directory, ema, err);
}

bool sid2_sampler_load_guide(sid2_sampler *s, const char *directory, bool ema, sid2_error *err)
{
    return sid2_inference_load_guide(&s->on, directory, ema, err);
}

bool sid2_sampler_load_trainer(sid2_sampler *s, sid2_trainer *trainer, sid2_error *err)
{
    return sid2_inference_load_trainer(&s->on, trainer, err);
}

/* ---- Images ---- */

typedef struct job {
    const uint64_t *seeds;
    int32_t *labels;
    int count;
    uint8_t *pixels, *staging; /* staging: one batch */
    float *z;                  /* one batch */
    sid2_sample_callback callback;
    void *user;
    sid2_sample_progress progress;
} job;

/* Two x_hat that are read come as one, their sum by the shares uploaded here. */
static bool run_stage(sid2_inference *n, const sid2_solver_stage *stage, uint32_t number, sid2_error *err)
{
    const sid2_solver *solver = sid2_solver_of(&n->config);
    bool summed = solver->history == 2;
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
    return (!summed || (sid2_inference_upload(n, "past_0", stage->past[0], err) &&
                        sid2_inference_upload(n, "past_1", stage->past[1], err))) &&
           sid2_inference_upload(n, "time", sid2_schedule_position(&n->schedule, stage->logsnr), err) &&
           (!n->guided_by_another ||
            sid2_inference_upload(n, "guide_time", sid2_schedule_position(&n->guide_schedule, stage->logsnr),
                                  err)) &&
           sid2_inference_tell(n, "coef", coef, err) &&
           (!solver->noise || sid2_inference_upload_key(n, 1 + number, err)) &&
           sid2_inference_run(n, stage->guided ? SID2_PASS_GUIDED : SID2_PASS_PLAIN, err);
}

/* Downloads z; the first of `count` images that has a value which is not finite, or `count`. */
static bool look(const sid2_inference *n, const job *j, int count, int *broken, sid2_error *err)
{
    if (!sid2_inference_gather(n, "z", j->z, err)) return false;
    size_t i = 0;
    while (i < (size_t)count * n->image_bytes && isfinite(j->z[i])) i++;
    *broken = (int)(i / n->image_bytes);
    return true;
}

/* The images in work, as z makes them now. */
static bool develop(sid2_inference *n, const job *j, uint8_t *pixels, sid2_error *err)
{
    if (!sid2_inference_run(n, SID2_PASS_FINISH, err) || !sid2_inference_gather(n, "image", j->staging, err))
        return false;
    memcpy(pixels, j->staging, (size_t)j->progress.batch * n->image_bytes);
    return true;
}

bool sid2_sampler_preview(sid2_sampler *s, uint8_t *pixels, sid2_error *err)
{
    if (!s->told) return sid2_fail(err, SID2_ERR_USAGE, "a preview is for a callback of sampling");
    return develop(&s->on, s->told, pixels, err);
}

static bool tell(sid2_sampler *s, const job *j, sid2_error *err)
{
    if (!j->callback) return true;
    /* Progress is what happened, not what was asked for. */
    if (!sid2_inference_wait(&s->on, err)) return false;
    s->told = j;
    bool go_on = j->callback(j->user, &j->progress);
    s->told = NULL;
    return go_on || sid2_fail(err, SID2_ERR_CANCELLED, "sampling was stopped");
}

/* The x_hat of earlier evaluations, which even a share of 0 would let through. */
static bool forget(sid2_inference *n, sid2_error *err)
{
    static const char *const names[] = {"x_hat", "x_hat_before"};
    float *zero = calloc((size_t)n->plan.images * n->image_bytes, sizeof *zero);
    bool ok = zero || sid2_fail(err, SID2_ERR_MEMORY, "out of memory");
    for (int i = 0; ok && i < 2; i++)
        ok = !sid2_buffers_find(&n->part[0], names[i]) || sid2_inference_tell(n, names[i], zero, err);
    free(zero);
    return ok;
}

/* A batch that was not finite at its end, once more, to tell where that began. A clamped x_hat can be no other than
 * NaN, and makes z the same; z is looked at only here and at the end, so that steps cost nothing. */
static bool find_broken(sid2_sampler *s, const job *j, int first, int real, int broken, sid2_error *err)
{
    sid2_inference *n = &s->on;
    int64_t i = 0;
    int at = real;
    bool ok =
        forget(n, err) && sid2_inference_upload_key(n, 0, err) && sid2_inference_run(n, SID2_PASS_START, err);
    for (; ok && at == real && i < s->stage_count; i++)
        ok = run_stage(n, &s->stages[i], (uint32_t)i, err) && look(n, j, real, &at, err);
    if (!ok || !forget(n, err)) return false;
    char cause[200];
    if (at == real)
        return sid2_fail(err, SID2_ERR_DEVICE,
                         "sampling: z of image %d (seed %" PRIu64
                         ") is not finite, but was when it was sampled once "
                         "more: the device is not to be trusted",
                         first + broken, j->seeds[first + broken]);
    return sid2_fail(
        err, SID2_ERR_DEVICE, "sampling step %d: x_hat of image %d (seed %" PRIu64 ") is not finite%s",
        s->stages[i - 1].step + 1, first + at, j->seeds[first + at], sid2_inference_cause(n, cause));
}

static bool run_batch(sid2_sampler *s, job *j, int first, sid2_error *err)
{
    sid2_inference *n = &s->on;
    int real = j->count - first < n->plan.batch ? j->count - first : n->plan.batch, broken;
    j->progress.first = first;
    j->progress.batch = real;
    if (!sid2_inference_upload_images(n, j->seeds, j->labels, first, j->count, err) ||
        !sid2_inference_upload_key(n, 0, err) || !sid2_inference_run(n, SID2_PASS_START, err))
        return false;
    for (int64_t i = 0; i < s->stage_count; i++) {
        const sid2_solver_stage *stage = &s->stages[i];
        if (!run_stage(n, stage, (uint32_t)i, err)) return false;
        j->progress.step = stage->step + 1;
        j->progress.evaluations += real;
        j->progress.guided += stage->guided ? real : 0;
        j->progress.multiply_adds += real * s->cost[stage->guided];
        j->progress.unguided_adds += real * s->cost[0];
        if (i + 1 == s->stage_count) j->progress.images += real;
        if (!tell(s, j, err)) return false;
    }
    if (!look(n, j, real, &broken, err)) return false;
    if (broken < real) return find_broken(s, j, first, real, broken, err);
    return develop(n, j, j->pixels + (size_t)first * n->image_bytes, err);
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
        uint64_t word = sid2_philox_word(SID2_SAMPLE_KEY, seeds[i], SID2_PURPOSE_LABEL, 0);
        if (!classes)
            labels[i] = -1;
        else if (labels[i] < 0)
            labels[i] = (int32_t)(word * (uint64_t)classes >> 32);
    }
    return true;
}

bool sid2_sampler_run(sid2_sampler *s, const uint64_t *seeds, int32_t *labels, int count, uint8_t *pixels,
                      sid2_sample_callback callback, void *user, sid2_error *err)
{
    const sid2_config *config = &s->on.config;
    if (!sid2_inference_is_loaded(&s->on, err) || !choose_labels(config, seeds, labels, count, err))
        return false;
    job j = {.seeds = seeds,
             .labels = labels,
             .count = count,
             .pixels = pixels,
             .staging = malloc((size_t)s->on.plan.batch * s->on.image_bytes),
             .z = malloc((size_t)s->on.plan.batch * s->on.image_bytes * sizeof(float)),
             .callback = callback,
             .user = user,
             .progress = {.steps = (int)config->sample_steps, .total = count}};
    bool ok = (j.staging && j.z) || sid2_fail(err, SID2_ERR_MEMORY, "out of memory");
    for (int first = 0; ok && first < count; first += s->on.plan.batch) ok = run_batch(s, &j, first, err);
    free(j.staging);
    free(j.z);
    return ok;
}
