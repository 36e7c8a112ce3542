/* Sampling: from a seed to an image or a clip, batch by batch. */
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
    double cost[2]; /* multiply-adds of an evaluation for one image, without guide and with */
    float *means[3],
        *shares[2];         /* of guidance that is measured, [batch, frames] each: see sid2_guidance_shares */
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

static bool make_means(sid2_sampler *s, sid2_error *err)
{
    size_t count = (size_t)s->on.plan.batch * (size_t)s->on.config.model_frames;
    float *all = calloc(5 * count, sizeof *all);
    if (!all) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory");
    for (size_t i = 0; i < 5; i++) *(i < 3 ? &s->means[i] : &s->shares[i - 3]) = all + i * count;
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
        sid2_inference_open(&s->on, device, config, guide, runs, memory, "sampling", err)) {
        if (make_means(s, err)) return s;
        sid2_inference_close(&s->on);
    }
    free(s->stages);
    free(s);
    return NULL;
}

void sid2_sampler_destroy(sid2_sampler *s)
{
    if (!s) return;
    sid2_inference_close(&s->on);
    free(s->stages);
    free(s->means[0]);
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
    const uint8_t *given; /* [count, model.given frames], or NULL */
    int frames, windows;  /* of each clip: how many are wanted, and in how many goes they are made */
    uint8_t *pixels;      /* [count, frames] */
    uint8_t *staging;     /* one batch */
    uint8_t *history;     /* one batch, of which the given frames count */
    float *z;             /* one batch */
    sid2_sample_callback callback;
    void *user;
    sid2_sample_progress progress;
} job;

enum { MOST_STAGES = 1 << 20, MOST_WINDOWS = 1 << 12 };

/* Each window of a clip has random numbers of its own. */
static uint32_t key_of(int window, int64_t stage)
{
    return (uint32_t)window * MOST_STAGES + (uint32_t)(stage + 1);
}

/* Noise levels: given frames are clean, but for a guide that is not told the history. */
static bool tell_level(sid2_inference *n, const sid2_solver_stage *stage, sid2_error *err)
{
    const sid2_schedule *own = &n->schedule, *guides = &n->guide_schedule;
    double logsnr = stage->logsnr;
    if (!sid2_inference_upload_frames(n, "time", sid2_schedule_position(own, logsnr),
                                      sid2_schedule_position(own, own->first), err))
        return false;
    if (n->guided_by_another)
        return sid2_inference_upload_frames(n, "guide_time", sid2_schedule_position(guides, logsnr),
                                            sid2_schedule_position(guides, guides->first), err);
    return !stage->guided || !sid2_guide_forgets(&n->config, NULL) ||
           (sid2_inference_upload(n, "guide_time", sid2_schedule_position(own, logsnr), err) &&
            sid2_inference_upload(n, "history_alpha", sid2_alpha(logsnr), err) &&
            sid2_inference_upload(n, "history_sigma", sid2_sigma(logsnr), err));
}

/* Network and guide are asked; what they say is measured, and how much of each an image becomes follows from it: of a clip,
 * from the frames that are made. */
static bool weigh(sid2_sampler *s, const sid2_solver_stage *stage, sid2_error *err)
{
    sid2_inference *n = &s->on;
    int frames = (int)n->config.model_frames;
    static const char *const names[] = {"x_square", "d_square", "apart_square"};
    bool ok = sid2_inference_upload(n, "level_alpha", stage->alpha, err) &&
              sid2_inference_upload(n, "level_sigma", -stage->sigma, err) &&
              sid2_inference_run(n, SID2_PASS_GUIDED, err);
    for (int i = 0; ok && i < 3; i++) ok = sid2_inference_gather(n, names[i], s->means[i], err);
    for (int image = 0; ok && image < n->plan.batch; image++) {
        double means[3] = {0}, shares[2];
        for (int f = image * frames + n->given; f < (image + 1) * frames; f++)
            for (int i = 0; i < 3; i++) means[i] += (double)s->means[i][f] / (frames - n->given);
        sid2_guidance_shares(&n->config, stage->w, means, shares);
        for (int f = image * frames; f < (image + 1) * frames; f++)
            for (int i = 0; i < 2; i++) s->shares[i][f] = (float)shares[i];
    }
    return ok && sid2_inference_scatter(n, "share_x", s->shares[0], err) &&
           sid2_inference_scatter(n, "share_d", s->shares[1], err);
}

/* Two x_hat that are read come as one, their sum by the shares uploaded here. */
static bool run_stage(sid2_sampler *s, const sid2_solver_stage *stage, uint32_t key, sid2_error *err)
{
    sid2_inference *n = &s->on;
    const sid2_solver *solver = sid2_solver_of(&n->config);
    bool summed = solver->history == 2, weighed = stage->guided && sid2_guidance_measures(&n->config);
    const double values[8] = {weighed ? 0 : stage->alpha,
                              weighed ? -1 : stage->sigma,
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
           tell_level(n, stage, err) && sid2_inference_tell(n, "coef", coef, err) &&
           (!solver->noise || sid2_inference_upload_key(n, key, err)) && (!weighed || weigh(s, stage, err)) &&
           sid2_inference_run(n,
                              weighed         ? SID2_PASS_STEP
                              : stage->guided ? SID2_PASS_GUIDED
                                              : SID2_PASS_PLAIN,
                              err);
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

/* The images in work, as z makes them now, to be found in `staging`. */
static bool develop(sid2_inference *n, const job *j, sid2_error *err)
{
    return sid2_inference_run(n, SID2_PASS_FINISH, err) && sid2_inference_gather(n, "image", j->staging, err);
}

bool sid2_sampler_preview(sid2_sampler *s, uint8_t *pixels, sid2_error *err)
{
    if (!s->told) return sid2_fail(err, SID2_ERR_USAGE, "a preview is for a callback of sampling");
    if (!develop(&s->on, s->told, err)) return false;
    memcpy(pixels, s->told->staging, (size_t)s->told->progress.batch * s->on.image_bytes);
    return true;
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

/* ---- Clips: made a window of model.frames at a time, each beginning with the last that were made ---- */

/* The first frame of a window. */
static int begin_of(const sid2_config *c, int window)
{
    return window * (int)(c->model_frames - c->model_given);
}

/* What the clips of the batch begin with in this window. */
static bool give(sid2_inference *n, const job *j, int window, sid2_error *err)
{
    const sid2_config *c = &n->config;
    size_t frame = n->image_bytes / (size_t)c->model_frames, bytes = (size_t)c->model_given * frame;
    if (!bytes) return true;
    n->given = j->given || window ? (int)c->model_given : 0;
    for (int i = 0; n->given && i < n->plan.batch; i++) {
        int real = i < j->progress.batch ? i : j->progress.batch - 1;
        const uint8_t *last = j->staging + (size_t)(real + 1) * n->image_bytes - bytes;
        memcpy(j->history + (size_t)i * n->image_bytes,
               window ? last : j->given + (size_t)(j->progress.first + real) * bytes, bytes);
    }
    const uint32_t key[] = {SID2_SAMPLE_KEY, key_of(window, -1)};
    return sid2_inference_scatter(n, "given", j->history, err) &&
           sid2_inference_upload_frames(n, "made", 1, 0, err) &&
           sid2_inference_upload_frames(n, "kept", 0, 1, err) &&
           (!sid2_buffers_find(&n->part[0], "history_seed") ||
            sid2_inference_tell(n, "history_seed", key, err));
}

/* What was made, to its place in the clips. */
static void take(const sid2_inference *n, const job *j, int window)
{
    int begin = begin_of(&n->config, window), made = (int)n->config.model_frames;
    size_t frame = n->image_bytes / (size_t)made, clip = frame * (size_t)j->frames;
    if (made > j->frames - begin) made = j->frames - begin;
    for (int i = 0; i < j->progress.batch; i++)
        memcpy(j->pixels + (size_t)(j->progress.first + i) * clip + frame * (size_t)begin,
               j->staging + (size_t)i * n->image_bytes, (size_t)made * frame);
}

static bool start(sid2_inference *n, int window, sid2_error *err)
{
    bool measures = sid2_buffers_find(&n->part[0], "zero");
    return (!measures ||
            (sid2_inference_upload(n, "zero", 0, err) && sid2_inference_upload(n, "one", 1, err))) &&
           sid2_inference_upload_key(n, key_of(window, -1), err) &&
           sid2_inference_run(n, SID2_PASS_START, err);
}

/* A batch that was not finite at its end, once more, to tell where that began. A clamped x_hat can be no other than
 * NaN, and makes z the same; z is looked at only here and at the end, so that steps cost nothing. */
static bool find_broken(sid2_sampler *s, const job *j, int window, int broken, sid2_error *err)
{
    sid2_inference *n = &s->on;
    int64_t i = 0;
    int first = j->progress.first, real = j->progress.batch, at = real;
    bool ok = forget(n, err) && start(n, window, err);
    for (; ok && at == real && i < s->stage_count; i++)
        ok = run_stage(s, &s->stages[i], key_of(window, i), err) && look(n, j, real, &at, err);
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

static bool run_window(sid2_sampler *s, job *j, int window, sid2_error *err)
{
    sid2_inference *n = &s->on;
    int real = j->progress.batch, broken, steps = (int)n->config.sample_steps;
    if (!give(n, j, window, err) || !start(n, window, err)) return false;
    for (int64_t i = 0; i < s->stage_count; i++) {
        const sid2_solver_stage *stage = &s->stages[i];
        if (!run_stage(s, stage, key_of(window, i), err)) return false;
        j->progress.step = window * steps + stage->step + 1;
        j->progress.evaluations += real;
        j->progress.guided += stage->guided ? real : 0;
        j->progress.multiply_adds += real * s->cost[stage->guided];
        j->progress.unguided_adds += real * s->cost[0];
        if (i + 1 == s->stage_count && window + 1 == j->windows) j->progress.images += real;
        if (!tell(s, j, err)) return false;
    }
    if (!look(n, j, real, &broken, err)) return false;
    if (broken < real) return find_broken(s, j, window, broken, err);
    if (!develop(n, j, err)) return false;
    take(n, j, window);
    return true;
}

static bool run_batch(sid2_sampler *s, job *j, int first, sid2_error *err)
{
    sid2_inference *n = &s->on;
    j->progress.first = first;
    j->progress.batch = j->count - first < n->plan.batch ? j->count - first : n->plan.batch;
    bool ok = sid2_inference_upload_images(n, j->seeds, j->labels, first, j->count, err);
    for (int w = 0; ok && w < j->windows; w++) ok = run_window(s, j, w, err);
    return ok;
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

static bool check_frames(const sid2_config *c, bool given, int frames, sid2_error *err)
{
    int whole = (int)c->model_frames, most = c->model_given ? begin_of(c, MOST_WINDOWS - 1) + whole : whole;
    if (given && !c->model_given)
        return sid2_fail(err, SID2_ERR_USAGE,
                         "frames are given, but the model goes on from none (model.given = 0)");
    return (frames >= 1 && frames <= most) ||
           sid2_fail(err, SID2_ERR_USAGE, "%d frames: the model can make 1 to %d", frames, most);
}

/* Until there are as many frames as are wanted. */
static int count_windows(const sid2_config *c, int frames)
{
    int windows = 1;
    while (begin_of(c, windows - 1) + (int)c->model_frames < frames) windows++;
    return windows;
}

bool sid2_sampler_run_clips(sid2_sampler *s, const uint64_t *seeds, int32_t *labels, int count,
                            const uint8_t *given, int frames, uint8_t *pixels, sid2_sample_callback callback,
                            void *user, sid2_error *err)
{
    const sid2_config *config = &s->on.config;
    size_t batch = (size_t)s->on.plan.batch * s->on.image_bytes;
    if (!sid2_inference_is_loaded(&s->on, err) || !choose_labels(config, seeds, labels, count, err) ||
        !check_frames(config, given, frames, err))
        return false;
    int windows = count_windows(config, frames);
    job j = {.seeds = seeds,
             .labels = labels,
             .count = count,
             .given = given,
             .frames = frames,
             .windows = windows,
             .pixels = pixels,
             .staging = malloc(batch),
             .history = calloc(batch, 1),
             .z = malloc(batch * sizeof(float)),
             .callback = callback,
             .user = user,
             .progress = {.steps = (int)config->sample_steps * windows, .total = count}};
    bool ok = (j.staging && j.history && j.z) || sid2_fail(err, SID2_ERR_MEMORY, "out of memory");
    for (int first = 0; ok && first < count; first += s->on.plan.batch) ok = run_batch(s, &j, first, err);
    free(j.staging);
    free(j.history);
    free(j.z);
    return ok;
}

bool sid2_sampler_run(sid2_sampler *s, const uint64_t *seeds, int32_t *labels, int count, uint8_t *pixels,
                      sid2_sample_callback callback, void *user, sid2_error *err)
{
    return sid2_sampler_run_clips(s, seeds, labels, count, NULL, (int)s->on.config.model_frames, pixels,
                                  callback, user, err);
}
