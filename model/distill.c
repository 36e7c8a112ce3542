#include "distill.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "philox.h"
#include "schedule.h"
#include "solver.h"
#include "uvit.h"

/* ---- Graphs ---- */

/* What a micro-batch is told, for each of its images. */
enum {
    /* of t, and of s */
    TIME,
    ALPHA,
    SIGMA,
    MINUS_SIGMA,
    TIME_S,
    ALPHA_S,
    SIGMA_S,
    MINUS_SIGMA_S,
    /* z_s = keep z_t + take x~ + renoise noise */
    KEEP,
    TAKE,
    RENOISE,
    WEIGHT,       /* of the loss */
    GUIDED,       /* shares of what the teacher says with the class, */
    UNGUIDED,     /* and without */
    HALF_SIGMA_S, /* negative */
    HALF,
    ONE,
    NUMBERS
};

static const char *const names[NUMBERS] = {
    [TIME] = "time",
    [ALPHA] = "alpha",
    [SIGMA] = "sigma",
    [MINUS_SIGMA] = "minus_sigma",
    [TIME_S] = "time_s",
    [ALPHA_S] = "alpha_s",
    [SIGMA_S] = "sigma_s",
    [MINUS_SIGMA_S] = "minus_sigma_s",
    [KEEP] = "keep",
    [TAKE] = "take",
    [RENOISE] = "renoise",
    [WEIGHT] = "weight",
    [GUIDED] = "guided",
    [UNGUIDED] = "unguided",
    [HALF_SIGMA_S] = "half_sigma_s",
    [HALF] = "half",
    [ONE] = "one",
};

/* One of them, for as many images as there are labels. */
static sid2_tensor number(sid2_graph *g, const sid2_noised *at, int which)
{
    sid2_tensor found = sid2_graph_find(g, names[which]);
    if (found != SID2_NONE) return found;
    return sid2_graph_external(g, names[which], g->master, sid2_graph_type(g, at->label).shape);
}

/* a x + b y, through which no gradient passes. */
static sid2_tensor blend(sid2_graph *g, const sid2_noised *at, int a, sid2_tensor x, int b, sid2_tensor y)
{
    return sid2_diffuse(g, sid2_stop_gradient(g, x), sid2_stop_gradient(g, y), number(g, at, a),
                        number(g, at, b));
}

static bool is_guided(const sid2_config *c)
{
    return c->distill_guidance != 1 && c->distill_interval.low <= c->distill_interval.high;
}

static sid2_tensor ask_teacher(sid2_graph *g, const sid2_config *config, sid2_denoiser denoiser,
                               const sid2_noised *at)
{
    sid2_tensor v = denoiser(g, config, "teacher", false, at);
    if (!is_guided(config)) return v;
    sid2_noised without = *at;
    without.label = sid2_graph_external(g, "no_label", SID2_I32, sid2_graph_type(g, at->label).shape);
    return blend(g, at, GUIDED, v, UNGUIDED, denoiser(g, config, "teacher", false, &without));
}

sid2_distilled sid2_distill_build(sid2_graph *g, const sid2_config *config, sid2_denoiser denoiser,
                                  sid2_noised at, bool student)
{
    sid2_tensor v_student = denoiser(g, config, "", student, &at),
                x_student = blend(g, &at, ALPHA, at.z, MINUS_SIGMA, v_student),
                noise = sid2_uvit_noise(g, config, sid2_graph_type(g, at.samples).shape.dim[0], at.samples,
                                        at.seed, SID2_PURPOSE_STEP),
                mean = blend(g, &at, KEEP, at.z, TAKE, x_student);
    sid2_noised at_s = at;
    at_s.z = blend(g, &at, ONE, mean, RENOISE, noise);
    at_s.time = number(g, &at, TIME_S);
    at_s.alpha = number(g, &at, ALPHA_S);
    at_s.sigma = number(g, &at, SIGMA_S);
    sid2_tensor v_auxiliary = denoiser(g, config, "auxiliary", !student, &at_s),
                v_teacher = ask_teacher(g, config, denoiser, &at_s);
    sid2_distilled d = {.x_student = x_student, .z_s = at_s.z};
    if (student) {
        d.at = at;
        d.v = v_student;
        d.x = blend(g, &at, ONE, x_student, HALF_SIGMA_S, sid2_sub(g, v_teacher, v_auxiliary));
    } else {
        sid2_tensor x_teacher = blend(g, &at, ALPHA_S, at_s.z, MINUS_SIGMA_S, v_teacher);
        d.at = at_s;
        d.v = v_auxiliary;
        d.x = blend(g, &at, HALF, x_student, HALF, x_teacher);
    }
    d.loss = sid2_diffusion_loss(g, d.v, d.at.z, d.x, d.at.alpha, d.at.sigma, number(g, &at, WEIGHT));
    return d;
}

sid2_tensor sid2_distill_network(sid2_graph *g, const sid2_config *config, const char *set, bool trained,
                                 const sid2_noised *at)
{
    sid2_config network = *config;
    network.model_dropout = (sid2_config_FLOATS){.count = 1, .item = {config->distill_dropout}};
    return sid2_uvit_build(
               g, &network,
               (sid2_uvit_inputs){.params = sid2_graph_params(g, set, trained),
                                  .z = at->z,
                                  .time = at->time,
                                  .label = at->label,
                                  .samples = at->samples,
                                  .seed = at->seed,
                                  .purpose = set[0] ? SID2_PURPOSE_DROPOUT : SID2_PURPOSE_DROPOUT_STUDENT})
        .v;
}

static sid2_graph *distill_graph(const sid2_config *config, int64_t n, bool student, sid2_error *err)
{
    sid2_graph *g = sid2_graph_create(sid2_config_dtype(config->train_precision));
    if (!g) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory building the graph"), NULL;
    sid2_noised at = sid2_noised_images(g, config, n);
    return sid2_objective_finish(g, sid2_distill_build(g, config, sid2_distill_network, at, student).loss,
                                 err);
}

static sid2_graph *auxiliary_graph(const sid2_config *config, int64_t n, sid2_error *err)
{
    return distill_graph(config, n, false, err);
}

static sid2_graph *student_graph(const sid2_config *config, int64_t n, sid2_error *err)
{
    return distill_graph(config, n, true, err);
}

/* ---- The host's part ---- */

typedef struct host {
    sid2_config config;
    sid2_schedule schedule;
    int n, frames;           /* clips, frames of each */
    float *numbers[NUMBERS]; /* [n frames] each */
    uint32_t *room;
} host;

static bool tell_no_label(const sid2_config *config, int images, sid2_buffers *buffers, sid2_error *err)
{
    if (!is_guided(config)) return true;
    int32_t *label = malloc((size_t)images * sizeof *label);
    if (!label) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory");
    for (int i = 0; i < images; i++) label[i] = (int32_t)config->model_classes;
    bool ok = sid2_buffers_upload(buffers, "no_label", label, err);
    free(label);
    return ok;
}

static void *distill_open(const sid2_config *config, int n, sid2_buffers *buffers, sid2_error *err)
{
    /* One block: the struct, its numbers, and the room. */
    int images = n * (int)config->model_frames;
    host *h = calloc(1, sizeof *h + ((size_t)images * (NUMBERS + 1) + (size_t)n * 2) * sizeof(float));
    if (!h) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory"), NULL;
    float *next = (float *)(h + 1);
    for (int i = 0; i < NUMBERS; i++, next += images) h->numbers[i] = next;
    h->room = (uint32_t *)next;
    h->config = *config;
    h->schedule = sid2_schedule_create(config);
    h->n = n;
    h->frames = (int)config->model_frames;
    if (sid2_objective_tell_once(config, n, buffers, err) && tell_no_label(config, images, buffers, err))
        return h;
    free(h);
    return NULL;
}

/* t of an image, given its s. */
static double draw_later(const sid2_config *c, uint64_t sample, double s)
{
    uint32_t word = sid2_philox_word((uint64_t)c->train_seed, sample, SID2_PURPOSE_DELTA, 0);
    double share = c->distill_delta == SID2_DELTA_fixed ? 1 : (double)sid2_uniform(word);
    return fmin(1, s + share / (double)c->distill_k);
}

/* Whether a step from t is one of the first, in which the student comes to say the teacher's mean further on, where DDIM's
 * step by what the student says leads. */
static bool is_first(const sid2_config *c, double t)
{
    return c->distill_first && t > 1 - ((double)c->distill_first - 0.5) / (double)c->distill_k;
}

static double weight_of(const host *h, double s)
{
    return h->config.distill_weighting == SID2_DISTILL_WEIGHTING_flat ? 1 : sid2_loss_weight(&h->schedule, s);
}

/* Of an image between two times; early: in one of the first steps. */
static void number_image(const host *h, double t, double s, bool early, double weight, double values[NUMBERS])
{
    const sid2_config *c = &h->config;
    double from = sid2_schedule_logsnr(&h->schedule, t), to = sid2_schedule_logsnr(&h->schedule, s);
    bool guided = to >= c->distill_interval.low && to <= c->distill_interval.high;
    double guidance = guided ? c->distill_guidance : 1;
    sid2_solver_stage stage = {0};
    if (early)
        sid2_ddim_step(from, to, &stage);
    else
        sid2_ancestral_step(from, to, 0, &stage);
    const double all[NUMBERS] = {[TIME] = sid2_schedule_position(&h->schedule, from),
                                 [ALPHA] = sid2_alpha(from),
                                 [SIGMA] = sid2_sigma(from),
                                 [MINUS_SIGMA] = -sid2_sigma(from),
                                 [TIME_S] = sid2_schedule_position(&h->schedule, to),
                                 [ALPHA_S] = sid2_alpha(to),
                                 [SIGMA_S] = sid2_sigma(to),
                                 [MINUS_SIGMA_S] = -sid2_sigma(to),
                                 [KEEP] = stage.z,
                                 [TAKE] = stage.x,
                                 [RENOISE] = stage.noise,
                                 [WEIGHT] = weight,
                                 [GUIDED] = guidance,
                                 [UNGUIDED] = 1 - guidance,
                                 [HALF_SIGMA_S] = -0.5 * sid2_sigma(to),
                                 [HALF] = 0.5,
                                 [ONE] = 1};
    memcpy(values, all, sizeof all);
}

/* Of a frame that is given: clean at either time, and nothing is learnt of it. */
static void number_given(const host *h, double values[NUMBERS])
{
    double clean = sid2_schedule_position(&h->schedule, h->schedule.first);
    const double all[NUMBERS] = {[TIME] = clean, [ALPHA] = 1,  [TIME_S] = clean, [ALPHA_S] = 1,
                                 [KEEP] = 1,     [GUIDED] = 1, [HALF] = 0.5,     [ONE] = 1};
    memcpy(values, all, sizeof all);
}

/* In double, and then rounded once. */
static void fill(host *h, const sid2_step_input *step, int first, bool student, float *logsnrs)
{
    const sid2_config *c = &h->config;
    int frames = h->frames;
    for (int i = 0; i < h->n; i++) {
        uint64_t sample = step->first_sample + (uint64_t)(first + i);
        double s = sid2_draw_time((uint64_t)c->train_seed, step->step, first + i, c->train_batch),
               t = draw_later(c, sample, s), made[NUMBERS], given[NUMBERS];
        bool early = is_first(c, t);
        if (early) s = fmax(0, t - c->distill_ahead / (double)c->distill_k);
        int count = sid2_draw_given(c, sample);
        double weight = weight_of(h, s) * frames / (frames - count);
        number_image(h, t, s, early, student ? weight : 2 * weight,
                     made); /* the mean of two targets counts as both */
        number_given(h, given);
        for (int f = 0; f < frames; f++)
            for (int k = 0; k < NUMBERS; k++)
                h->numbers[k][i * frames + f] = (float)(f < count ? given[k] : made[k]);
        logsnrs[i] = (float)sid2_schedule_logsnr(&h->schedule, s);
    }
}

/* A graph has no more of the numbers than it needs. */
static bool tell(host *h, sid2_buffers *buffers, const sid2_step_input *step, int first, bool student,
                 float *logsnr, sid2_error *err)
{
    fill(h, step, first, student, logsnr);
    for (int k = 0; k < NUMBERS; k++)
        if (sid2_buffers_find(buffers, names[k]) &&
            !sid2_buffers_upload(buffers, names[k], h->numbers[k], err))
            return false;
    return sid2_objective_tell_images(&h->config, buffers, step, first, h->n, h->room, err);
}

static bool auxiliary_tell(void *self, sid2_buffers *buffers, const sid2_step_input *step, int first,
                           float *logsnr, sid2_error *err)
{
    return tell(self, buffers, step, first, false, logsnr, err);
}

static bool student_tell(void *self, sid2_buffers *buffers, const sid2_step_input *step, int first,
                         float *logsnr, sid2_error *err)
{
    return tell(self, buffers, step, first, true, logsnr, err);
}

const sid2_objective sid2_distill_auxiliary = {.name = "auxiliary",
                                               .trains = "auxiliary",
                                               .graph = auxiliary_graph,
                                               .open = distill_open,
                                               .close = free,
                                               .tell = auxiliary_tell};

const sid2_objective sid2_distill_student = {.name = "student",
                                             .trains = "",
                                             .graph = student_graph,
                                             .open = distill_open,
                                             .close = free,
                                             .tell = student_tell};
