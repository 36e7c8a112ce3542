/* Distillation: the closed form of a linear denoiser, gradients of whole steps, masks that are shared, and that a training
 * of three networks is one as any other. */
#include "checkpoint_support.h"

#include "distill.h"
#include "solver.h"

static sid2_device *device, *reference;

/* ---- A denoiser x = a(t) z of Gaussian data, of one number for each of BINS + 1 times, straight between ---- */

enum { PIXELS = 16 * 16, IMAGES = 64, BINS = 64 };
static const double deviation = 0.5; /* of the data */

static sid2_tensor external(sid2_graph *g, const char *name, sid2_dtype dtype, sid2_shape shape)
{
    sid2_tensor found = sid2_graph_find(g, name);
    return found == SID2_NONE ? sid2_graph_external(g, name, dtype, shape) : found;
}

static sid2_tensor scaled(sid2_graph *g, sid2_tensor x, double scale)
{
    return sid2_graph_emit(g, SID2_OP_scale, (sid2_attr){.scale = (float)scale}, &x, 1, false);
}

/* Numbers of the table at two neighbouring times, by the shares of either. */
static sid2_tensor slope_at(sid2_graph *g, const char *set, bool trained, bool later)
{
    sid2_params *params = sid2_graph_params(g, set, trained);
    sid2_tensor table = sid2_graph_param(g, params, "slope", sid2_shape_of(BINS + 2, 1), false, 0, 0),
                sum = SID2_NONE;
    for (int i = 0; i < 2; i++) {
        char bin[16], share[16];
        snprintf(bin, sizeof bin, "bin%d%s", i, later ? "" : "_s");
        snprintf(share, sizeof share, "share%d%s", i, later ? "" : "_s");
        sid2_tensor part =
            sid2_film(g, sid2_embedding(g, table, external(g, bin, SID2_I32, sid2_shape_of(IMAGES))),
                      external(g, share, SID2_F32, sid2_shape_of(IMAGES, 2)));
        sum = i ? sid2_add(g, sum, part) : part;
    }
    return sum;
}

/* v = (1 + slope) z. */
static sid2_tensor linear_denoiser(sid2_graph *g, const sid2_config *config, const char *set, bool trained,
                                   const sid2_noised *at)
{
    (void)config;
    sid2_tensor to_film = external(g, "to_film", SID2_F32, sid2_shape_of(2 * PIXELS, 1)),
                nothing = external(g, "nothing", SID2_F32, sid2_shape_of(2, 1)), /* of a label */
        slope = sid2_add(g, slope_at(g, set, trained, strcmp(g->tensors[at->time].name, "time") == 0),
                         sid2_embedding(g, nothing, at->label)),
                row = sid2_reshape(g, at->z, sid2_shape_of(IMAGES, PIXELS)),
                v = sid2_film(g, row, sid2_linear(g, slope, to_film, SID2_NONE));
    return sid2_reshape(g, v, sid2_graph_type(g, at->z).shape);
}

static sid2_graph *linear_graph(const sid2_config *config, int64_t n, bool student, sid2_error *error)
{
    sid2_graph *g = sid2_graph_create(SID2_F32);
    sid2_noised at = sid2_noised_images(g, config, n);
    sid2_shape images = sid2_config_images(config, n);
    sid2_tensor normal = sid2_random_normal(g, at.samples, at.seed, images, 77),
                eps = sid2_random_normal(g, at.samples, at.seed, images, SID2_PURPOSE_NOISE);
    at.x = sid2_add(g, scaled(g, normal, deviation), scaled(g, at.x, 0)); /* for the pixels */
    at.z = sid2_diffuse(g, at.x, eps, at.alpha, at.sigma);
    return sid2_objective_finish(g, sid2_distill_build(g, config, linear_denoiser, at, student).loss, error);
}

static sid2_graph *linear_auxiliary(const sid2_config *config, int64_t n, sid2_error *error)
{
    return linear_graph(config, n, false, error);
}

static sid2_graph *linear_student(const sid2_config *config, int64_t n, sid2_error *error)
{
    return linear_graph(config, n, true, error);
}

static sid2_schedule schedule;  /* of the configuration in work */
static double fixed_t, fixed_s; /* 0: as they are drawn */

enum { NUMBERS = 17 };
typedef struct number {
    const char *name;
    double value;
} number;

/* All that depends on t and s, as the paper has it. */
static void numbers_at(double t, double s, bool student, double guidance, number numbers[NUMBERS])
{
    double from = sid2_schedule_logsnr(&schedule, t), to = sid2_schedule_logsnr(&schedule, s);
    double alpha = sid2_alpha(from), sigma = sid2_sigma(from), alpha_s = sid2_alpha(to),
           sigma_s = sid2_sigma(to), r = alpha / alpha_s, tau2 = sigma * sigma - r * r * sigma_s * sigma_s;
    const number all[NUMBERS] = {{"time", sid2_schedule_position(&schedule, from)},
                                 {"alpha", alpha},
                                 {"sigma", sigma},
                                 {"minus_sigma", -sigma},
                                 {"time_s", sid2_schedule_position(&schedule, to)},
                                 {"alpha_s", alpha_s},
                                 {"sigma_s", sigma_s},
                                 {"minus_sigma_s", -sigma_s},
                                 {"keep", r * sigma_s * sigma_s / (sigma * sigma)},
                                 {"take", alpha_s * tau2 / (sigma * sigma)},
                                 {"renoise", sigma_s * sqrt(tau2) / sigma},
                                 {"weight", student ? 1 : 2},
                                 {"guided", guidance},
                                 {"unguided", 1 - guidance},
                                 {"half_sigma_s", -sigma_s / 2},
                                 {"half", 0.5},
                                 {"one", 1}};
    memcpy(numbers, all, sizeof all);
}

static bool fix_times(sid2_buffers *buffers, bool student, sid2_error *error)
{
    number numbers[NUMBERS];
    float values[IMAGES];
    numbers_at(fixed_t, fixed_s, student, 1, numbers);
    for (int i = 0; i < NUMBERS; i++) {
        for (int k = 0; k < IMAGES; k++) values[k] = (float)numbers[i].value;
        if (sid2_buffers_find(buffers, numbers[i].name) &&
            !sid2_buffers_upload(buffers, numbers[i].name, values, error))
            return false;
    }
    return true;
}

/* Where in the table a time is: `suffix` is that of t or of s. */
static bool tell_bins(sid2_buffers *buffers, const char *suffix, sid2_error *error)
{
    float alpha[IMAGES], sigma[IMAGES], share[2][IMAGES][2] = {0};
    int32_t bin[2][IMAGES];
    char name[16];
    snprintf(name, sizeof name, "alpha%s", suffix);
    bool ok = sid2_buffers_download(buffers, name, alpha, error);
    snprintf(name, sizeof name, "sigma%s", suffix);
    ok = ok && sid2_buffers_download(buffers, name, sigma, error);
    for (int i = 0; ok && i < IMAGES; i++) {
        double at = sid2_schedule_time(&schedule, 2 * log((double)alpha[i] / sigma[i])) * BINS,
               whole = floor(at);
        for (int k = 0; k < 2; k++) bin[k][i] = (int32_t)whole + k;
        share[0][i][0] = (float)(whole - at); /* FiLM adds one */
        share[1][i][0] = (float)(at - whole - 1);
    }
    for (int k = 0; ok && k < 2; k++) {
        snprintf(name, sizeof name, "bin%d%s", k, suffix);
        ok = sid2_buffers_upload(buffers, name, bin[k], error);
        snprintf(name, sizeof name, "share%d%s", k, suffix);
        ok = ok && sid2_buffers_upload(buffers, name, share[k], error);
    }
    return ok;
}

static bool tell_linear(const sid2_objective *real, void *self, sid2_buffers *buffers,
                        const sid2_step_input *step, int first, float *logsnr, sid2_error *error)
{
    float to_film[2 * PIXELS] = {0};
    for (int i = 0; i < PIXELS; i++) to_film[i] = 1;
    return real->tell(self, buffers, step, first, logsnr, error) &&
           (!fixed_t || fix_times(buffers, real == &sid2_distill_student, error)) &&
           tell_bins(buffers, "", error) && tell_bins(buffers, "_s", error) &&
           sid2_buffers_upload(buffers, "to_film", to_film, error);
}

static bool tell_linear_auxiliary(void *self, sid2_buffers *buffers, const sid2_step_input *step, int first,
                                  float *logsnr, sid2_error *error)
{
    return tell_linear(&sid2_distill_auxiliary, self, buffers, step, first, logsnr, error);
}

static bool tell_linear_student(void *self, sid2_buffers *buffers, const sid2_step_input *step, int first,
                                float *logsnr, sid2_error *error)
{
    return tell_linear(&sid2_distill_student, self, buffers, step, first, logsnr, error);
}

/* x = a z. */
static double slope_of(double a, double logsnr) { return (sid2_alpha(logsnr) - a) / sid2_sigma(logsnr) - 1; }
static double a_of(double slope, double logsnr)
{
    return sid2_alpha(logsnr) - sid2_sigma(logsnr) * (1 + slope);
}

/* The best denoiser of all: E[x | z] = K z. */
static double teacher_at(double logsnr)
{
    double c2 = deviation * deviation, alpha = sid2_alpha(logsnr), sigma = sid2_sigma(logsnr);
    return alpha * c2 / (alpha * alpha * c2 + sigma * sigma);
}

static double logsnr_of(int bin) { return sid2_schedule_logsnr(&schedule, (double)bin / BINS); }

/* The student's slopes after so many steps, from the teacher's with so much added. */
static void train_linear(const sid2_config *config, int steps, double added, double slopes[BINS + 1])
{
    sid2_objective auxiliary = sid2_distill_auxiliary, student = sid2_distill_student;
    auxiliary.graph = linear_auxiliary, auxiliary.tell = tell_linear_auxiliary;
    student.graph = linear_student, student.tell = tell_linear_student;
    sid2_recipe recipe = sid2_recipe_of(config);
    recipe.objectives[0] = &auxiliary, recipe.objectives[1] = &student;
    sid2_trainer *t = sid2_trainer_create_recipe(device, config, &recipe, 0, NULL, &err);
    must(t);
    size_t elements = (size_t)t->states[0].params->elements;
    float *weights = calloc(elements, sizeof *weights);
    for (int i = 0; i <= BINS; i++) weights[i] = (float)slope_of(teacher_at(logsnr_of(i)), logsnr_of(i));
    for (int i = 1; i < 3; i++) must(sid2_state_set(&t->states[i], weights, &err));
    for (int i = 0; i <= BINS; i++) weights[i] += (float)added;
    must(sid2_state_set(&t->states[0], weights, &err));
    train_steps(t, steps);
    must(sid2_state_download(&t->states[0], "ema", weights, &err));
    for (int i = 0; i <= BINS; i++) slopes[i] = weights[i];
    free(weights);
    sid2_trainer_destroy(t);
}

#define LINEAR(...)                                                                                          \
    TINY("model.image_size=16", "model.classes=1", "train.batch=64", "train.microbatch=64", "train.lanes=1", \
         "schedule.kind=cosine", "train.beta1=0", "train.warmup=1", "train.decay=linear", "train.ema=0.99",  \
         "train.eval_every=0", "sample.gamma=0", __VA_ARGS__)

/* One t and one s: the positive root of a quadratic equation, which alternating steps reach. */
static void closed_form(void **state)
{
    (void)state;
    sid2_config *config = LINEAR("distill.k=4", "train.steps=800", "train.learning_rate=0.006");
    double slopes[BINS + 1];
    schedule = sid2_schedule_create(config);
    fixed_t = 0.75, fixed_s = 0.5;
    double logsnr = sid2_schedule_logsnr(&schedule, fixed_t);
    assert_true(fabs(teacher_at(logsnr) - 0.10857) < 1e-5);
    train_linear(config, 800, 0, slopes);
    double a = a_of(slopes[BINS * 3 / 4], logsnr);
    if (!(fabs(a - 0.394306) < 0.0005)) fail_msg("a = %.6f", a);
    fixed_t = fixed_s = 0;
    sid2_config_destroy(config);
}

/* The standard deviation of samples of a denoiser that is linear at each step. */
static double deviation_of(const sid2_config *config, const double slopes[BINS + 1])
{
    sid2_solver_stage stages[16];
    double variance = 1;
    sid2_solver_plan(&schedule, config, stages);
    for (int i = 0; i < config->sample_steps; i++) {
        double t = sid2_schedule_time(&schedule, stages[i].logsnr);
        double a = slopes ? a_of(slopes[lround(t * BINS)], stages[i].logsnr) : teacher_at(stages[i].logsnr);
        double by = stages[i].z + stages[i].x * a;
        variance = by * by * variance + stages[i].noise * stages[i].noise;
    }
    return sqrt(variance);
}

/* In the first steps the student comes to say what the teacher does further on in DDIM's step by what the student says:
 * a = K (keep + take a). */
static void first_steps_look_ahead(void **state)
{
    (void)state;
    enum { K = 4 };
    for (int ahead = 0; ahead < 2; ahead++) { /* not at all, or half a step */
        sid2_config *config =
            LINEAR("distill.k=4", "distill.first=2", ahead ? "distill.ahead=0.5" : "distill.ahead=0",
                   "train.steps=800", "train.learning_rate=0.01");
        double slopes[BINS + 1];
        schedule = sid2_schedule_create(config);
        train_linear(config, 800, 0.2, slopes);
        for (int i = BINS * 3 / 4; i <= BINS; i++) {
            double from = logsnr_of(i), to = logsnr_of(i - ahead * BINS / (2 * K)), k = teacher_at(to);
            double keep = sid2_sigma(to) / sid2_sigma(from), take = sid2_alpha(to) - sid2_alpha(from) * keep;
            double a = a_of(slopes[i], from), expected = k * keep / (1 - k * take);
            if (!(fabs(a - expected) < 0.002))
                fail_msg("t = %.3f: a = %.4f, not %.4f", (double)i / BINS, a, expected);
        }
        sid2_config_destroy(config);
    }
}

/* 8 and 16 steps: what a teacher makes of them, and a student by either way to draw t. The truth is 0.5. Fixed, each pair of
 * times has its quadratic equation; at random, one auxiliary number for all t behind an s makes 0.498 and 0.503 of it in
 * the limit (with one for each t it would be 0.466 and 0.490). */
static void deviations_of_samples(void **state)
{
    (void)state;
    static const struct {
        const char *k, *steps, *delta;
        double teacher, student;
    } rows[] = {{"distill.k=8", "sample.steps=8", "distill.delta=random", 0.371, 0.498},
                {"distill.k=8", "sample.steps=8", "distill.delta=fixed", 0.371, 0.630},
                {"distill.k=16", "sample.steps=16", "distill.delta=random", 0.420, 0.503},
                {"distill.k=16", "sample.steps=16", "distill.delta=fixed", 0.420, 0.587}};
    fixed_t = fixed_s = 0;
    for (int i = 0; i < 4; i++) {
        sid2_config *config = LINEAR(rows[i].k, rows[i].steps, rows[i].delta, "train.steps=700",
                                     "train.learning_rate=0.013", "distill.weighting=flat");
        double slopes[BINS + 1];
        schedule = sid2_schedule_create(config);
        double teacher = deviation_of(config, NULL);
        train_linear(config, 700, 0, slopes);
        double student = deviation_of(config, slopes);
        if (!(fabs(teacher - rows[i].teacher) < 0.001 && fabs(student - rows[i].student) < 0.025))
            fail_msg("%s %s: teacher %.4f, student %.4f", rows[i].k, rows[i].delta, teacher, student);
        sid2_config_destroy(config);
    }
}

/* ---- Gradients in float64 ---- */

enum { N = 3 };
static const char *const sets[] = {"", "teacher", "auxiliary"};
static const double later[N] = {0.35, 0.6, 1}, sooner[N] = {0.3, 0.5, 0.9}, guidance[N] = {2, 1, 2};

/* A graph on the reference device, all of it in f64. */
typedef struct wide {
    const sid2_config *config;
    sid2_graph *g;
    sid2_program *program;
    sid2_buffers buffers;
} wide;

static sid2_noised wide_images(sid2_graph *g, const sid2_config *config)
{
    sid2_shape images = sid2_config_images(config, N), each = sid2_shape_of(N);
    sid2_noised at = {.x = sid2_graph_external(g, "x", SID2_F64, images),
                      .time = sid2_graph_external(g, "time", SID2_F64, each),
                      .alpha = sid2_graph_external(g, "alpha", SID2_F64, each),
                      .sigma = sid2_graph_external(g, "sigma", SID2_F64, each),
                      .label = sid2_graph_external(g, "label", SID2_I32, each),
                      .samples = sid2_graph_external(g, "samples", SID2_U32, sid2_shape_of(N, 2)),
                      .seed = sid2_graph_external(g, "seed", SID2_U32, sid2_shape_of(2))};
    sid2_tensor eps = sid2_random_normal(g, at.samples, at.seed, images, SID2_PURPOSE_NOISE);
    at.z = sid2_diffuse(g, at.x, eps, at.alpha, at.sigma);
    return at;
}

static double *get(const wide *w, const char *name, int64_t *count)
{
    sid2_buffer *buffer = sid2_buffers_find(&w->buffers, name);
    if (!buffer) fail_msg("no buffer %s", name);
    double *values = malloc(buffer->bytes);
    must(sid2_buffer_download(buffer, 0, values, buffer->bytes, &err));
    if (count) *count = (int64_t)(buffer->bytes / sizeof *values);
    return values;
}

static double draw(uint64_t sample, int64_t i)
{
    return 2 * (double)sid2_uniform(sid2_philox_word(5, sample, 0, (uint64_t)i)) - 1;
}

static void put_random(wide *w, const char *name, uint64_t sample, double size)
{
    int64_t count;
    double *values = get(w, name, &count);
    for (int64_t i = 0; i < count; i++) values[i] = size * draw(sample, i);
    must(sid2_buffers_upload(&w->buffers, name, values, &err));
    free(values);
}

/* The same numbers for every graph: they go by names. */
static void fill(wide *w, bool student)
{
    number all[N][NUMBERS];
    schedule = sid2_schedule_create(w->config);
    for (int k = 0; k < N; k++) numbers_at(later[k], sooner[k], student, guidance[k], all[k]);
    for (int i = 0; i < NUMBERS; i++) {
        double values[N];
        for (int k = 0; k < N; k++) values[k] = all[k][i].value;
        if (sid2_buffers_find(&w->buffers, all[0][i].name))
            must(sid2_buffers_upload(&w->buffers, all[0][i].name, values, &err));
    }
    must(sid2_buffers_upload(&w->buffers, "label", (int32_t[N]){0, 1, 2}, &err));
    if (sid2_buffers_find(&w->buffers, "no_label"))
        must(sid2_buffers_upload(&w->buffers, "no_label", (int32_t[N]){3, 3, 3}, &err));
    must(sid2_buffers_upload(&w->buffers, "samples", (uint32_t[2 * N]){7, 0, 8, 0, 9, 0}, &err));
    must(sid2_buffers_upload(&w->buffers, "seed", (uint32_t[2]){3, 0}, &err));
    for (int s = 0; s < 3; s++) {
        char name[96];
        if (sid2_buffers_find(&w->buffers, sid2_params_buffer(sets[s], "weights", name)))
            put_random(w, name, (uint64_t)s, 0.3);
    }
}

static void open_wide(wide *w, bool student)
{
    must(sid2_graph_finish(w->g, &err));
    w->buffers.device = reference;
    must(w->program = sid2_buffers_program(&w->buffers, w->g, NULL, &err));
    fill(w, student);
}

static void close_wide(wide *w)
{
    sid2_program_destroy(w->program);
    sid2_buffers_clear(&w->buffers);
    sid2_graph_destroy(w->g);
}

/* The whole step of one of the two that learn. */
static void open_step(wide *w, const sid2_config *config, bool student)
{
    static const double ones[N] = {0.7, 1, 1.2};
    *w = (wide){.config = config, .g = sid2_graph_create(SID2_F64)};
    sid2_noised at = wide_images(w->g, config);
    sid2_distilled d = sid2_distill_build(w->g, config, sid2_distill_network, at, student);
    sid2_graph_export(w->g, d.x, "target");
    sid2_graph_export(w->g, d.x_student, "x_student");
    sid2_graph_export(w->g, d.z_s, "z_s");
    if (student) sid2_graph_export(w->g, at.z, "z_t");
    sid2_graph_export(w->g, d.loss, "loss");
    sid2_graph_fuse(w->g);
    sid2_tensor dloss = sid2_graph_external(w->g, "dloss", SID2_F64, sid2_shape_of(N));
    sid2_graph_backward(w->g, &d.loss, &dloss, 1);
    open_wide(w, student);
    put_random(w, "x", 10, 1);
    must(sid2_buffers_upload(&w->buffers, "dloss", ones, &err));
    must(sid2_program_run(w->program, &err));
}

/* One network, asked for what it says of a given z at t or s; and the loss of that beside a given x. */
static void open_network(wide *w, const sid2_config *config, const char *set, bool at_t, bool labelled)
{
    *w = (wide){.config = config, .g = sid2_graph_create(SID2_F64)};
    sid2_graph *g = w->g;
    sid2_shape images = sid2_config_images(config, N), each = sid2_shape_of(N);
    sid2_noised at = {.z = sid2_graph_external(g, "z", SID2_F64, images),
                      .x = sid2_graph_external(g, "x", SID2_F64, images),
                      .time = sid2_graph_external(g, at_t ? "time" : "time_s", SID2_F64, each),
                      .alpha = sid2_graph_external(g, at_t ? "alpha" : "alpha_s", SID2_F64, each),
                      .sigma = sid2_graph_external(g, at_t ? "sigma" : "sigma_s", SID2_F64, each),
                      .label = sid2_graph_external(g, "label", SID2_I32, each),
                      .samples = sid2_graph_external(g, "samples", SID2_U32, sid2_shape_of(N, 2)),
                      .seed = sid2_graph_external(g, "seed", SID2_U32, sid2_shape_of(2))};
    sid2_tensor v = sid2_distill_network(g, config, set, true, &at);
    sid2_graph_export(g, v, "v");
    sid2_graph_export(g,
                      sid2_diffusion_loss(g, v, at.z, at.x, at.alpha, at.sigma,
                                          sid2_graph_external(g, "weight", SID2_F64, each)),
                      "loss");
    open_wide(w, at_t);
    if (!labelled) must(sid2_buffers_upload(&w->buffers, "label", (int32_t[N]){3, 3, 3}, &err));
}

static void give(wide *to, const char *as, const wide *from, const char *name)
{
    double *values = get(from, name, NULL);
    must(sid2_buffers_upload(&to->buffers, as, values, &err));
    free(values);
}

/* What `set` says of z_s, or the student of z_t. */
static double *say(const wide *step, const char *set, bool labelled)
{
    wide w;
    open_network(&w, step->config, set, set[0] == 0, labelled);
    give(&w, "z", step, set[0] ? "z_s" : "z_t");
    must(sid2_program_run(w.program, &err));
    double *v = get(&w, "v", NULL);
    close_wide(&w);
    return v;
}

/* The loss, weighted as the gradient wants it, with the weights of `set` moved along a direction. */
static double moved(wide *w, const wide *step, const char *set, uint64_t direction, double by)
{
    char name[96];
    int64_t count;
    double *weights = get(w, sid2_params_buffer(set, "weights", name), &count),
           *old = malloc((size_t)count * sizeof *old), *dloss = get(step, "dloss", NULL), sum = 0;
    for (int64_t i = 0; i < count; i++) {
        old[i] = weights[i];
        weights[i] += by * draw(direction, i);
    }
    must(sid2_buffers_upload(&w->buffers, name, weights, &err));
    must(sid2_program_run(w->program, &err));
    double *loss = get(w, "loss", NULL);
    for (int i = 0; i < N; i++) sum += dloss[i] * loss[i];
    must(sid2_buffers_upload(&w->buffers, name, old, &err));
    free(weights);
    free(old);
    free(dloss);
    free(loss);
    return sum;
}

static double slope_along(wide *w, const wide *step, const char *set, uint64_t direction)
{
    enum { POINTS = 2 };
    const double h = 1e-4;
    double near = (moved(w, step, set, direction, h) - moved(w, step, set, direction, -h)) / (2 * h),
           far = (moved(w, step, set, direction, 2 * h) - moved(w, step, set, direction, -2 * h)) / (4 * h);
    return (4 * near - far) / 3;
}

/* Of both turns, guided and with dropout: the gradient is that of the loss beside a target which stands still, although
 * the student's would move with it, through the noise and the other two networks. */
static void gradients_of_a_step(void **state)
{
    (void)state;
    sid2_config *config = TINY("distill.k=4", "distill.guidance=2", "distill.dropout=0.3");
    for (int student = 0; student < 2; student++) {
        const char *set = student ? "" : "auxiliary";
        char name[96];
        wide step, fixed;
        open_step(&step, config, student);
        for (int s = 0; s < 3; s++)
            assert_int_equal(sid2_graph_find(step.g, sid2_params_buffer(sets[s], "grads", name)) != SID2_NONE,
                             strcmp(sets[s], set) == 0);
        int64_t count;
        double *grads = get(&step, sid2_params_buffer(set, "grads", name), &count);
        open_network(&fixed, config, set, student, true);
        give(&fixed, "x", &step, "target");
        give(&fixed, "z", &step, student ? "z_t" : "z_s");
        double worst = 0, through = 0;
        for (uint64_t direction = 20; direction < 24; direction++) {
            double along = 0, slope = slope_along(&fixed, &step, set, direction),
                   whole = slope_along(&step, &step, set, direction);
            for (int64_t i = 0; i < count; i++) along += grads[i] * draw(direction, i);
            worst = fmax(worst, fabs(slope - along) / fabs(along));
            through = fmax(through, fabs(whole - along) / fabs(along));
        }
        if (worst > 1e-6) fail_msg("%s: %g", student ? "student" : "auxiliary", worst);
        if (student) assert_true(through > 0.1);
        if (!student) assert_true(through < 1e-6);
        free(grads);
        close_wide(&fixed);
        close_wide(&step);
    }
    sid2_config_destroy(config);
}

/* Both turns' targets, of what the networks say when they are asked alone: with the same masks, each its own class. */
static void targets_of_a_step(void **state)
{
    (void)state;
    sid2_config *config = TINY("distill.k=4", "distill.guidance=2", "distill.dropout=0.3");
    for (int student = 0; student < 2; student++) {
        wide step;
        int64_t count;
        open_step(&step, config, student);
        double *target = get(&step, "target", &count), *x_student = get(&step, "x_student", NULL),
               *z_s = get(&step, "z_s", NULL), *with = say(&step, "teacher", true),
               *without = say(&step, "teacher", false), *auxiliary = say(&step, "auxiliary", true);
        double worst = 0;
        for (int64_t i = 0; i < count; i++) {
            int image = (int)(i / (count / N));
            double logsnr = sid2_schedule_logsnr(&schedule, sooner[image]), alpha = sid2_alpha(logsnr),
                   sigma = sid2_sigma(logsnr),
                   teacher = without[i] + guidance[image] * (with[i] - without[i]),
                   x_teacher = alpha * z_s[i] - sigma * teacher,
                   x_auxiliary = alpha * z_s[i] - sigma * auxiliary[i];
            double expected =
                student ? x_student[i] - (x_auxiliary - x_teacher) / 2 : (x_student[i] + x_teacher) / 2;
            worst = fmax(worst, fabs(target[i] - expected));
        }
        assert_true(worst < 1e-12);
        double *const all[] = {target, x_student, z_s, with, without, auxiliary};
        for (int i = 0; i < 6; i++) free(all[i]);
        close_wide(&step);
    }
    sid2_config_destroy(config);
}

/* ---- A training as any other ---- */

static void fill_weights(sid2_trainer *t)
{
    float *weights = calloc((size_t)t->states[0].params->elements, sizeof *weights);
    for (int64_t i = 0; i < t->states[0].params->elements; i++) weights[i] = (float)(0.3 * draw(1, i));
    for (int i = 0; i < 3; i++) must(sid2_state_set(&t->states[i], weights, &err));
    free(weights);
}

static sid2_trainer *make_trainer(sid2_device *on, const sid2_config *config)
{
    sid2_trainer *t = sid2_trainer_create(on, config, 0, &err);
    must(t);
    fill_weights(t);
    return t;
}

/* All networks being one, and none learning, nothing is to be learnt: but for that the teacher and the auxiliary network
 * must have the same masks. */
static void masks_are_shared(void **state)
{
    (void)state;
    static const char *const dropouts[] = {"distill.dropout=0", "distill.dropout=0.5"};
    double loss[2];
    for (int i = 0; i < 2; i++) {
        sid2_config *config = TINY("distill.k=4", "train.learning_rate=0", dropouts[i]);
        sid2_trainer *t = make_trainer(device, config);
        loss[i] = train_steps(t, 1).loss;
        assert_true(sid2_trainer_stats(t)->grad_norm > 0);
        train_steps(t, 1);
        assert_true(sid2_trainer_stats(t)->grad_norm == 0);
        sid2_trainer_destroy(t);
        sid2_config_destroy(config);
    }
    assert_true(loss[0] != loss[1]); /* they are there */
}

#define THREE(...)                                                                                           \
    TINY("distill.k=4", "distill.guidance=2", "train.batch=16", "train.microbatch=2", "train.lanes=4",       \
         __VA_ARGS__)

/* On 1, 2 and 4 threads, straight and resumed in the middle of a turn. */
static void same_bits(void **state)
{
    (void)state;
    static const char *const precisions[] = {"train.precision=f32", "train.precision=bf16"};
    for (int p = 0; p < 2; p++) {
        sid2_config *config = THREE(precisions[p]);
        char first[100], saved[3][100];
        snprintf(first, sizeof first, "%s/first", folder);
        for (int i = 0; i < 3; i++) {
            const sid2_backend *backend = &sid2_backend_cpu;
            sid2_device *on =
                sid2_backends_open(&backend, 1, "cpu", &(sid2_device_options){.threads = 1 << i}, &err);
            must(on);
            sid2_trainer *t = make_trainer(on, config);
            assert_int_equal(sid2_trainer_memory(t)->workers, 1 << i);
            snprintf(saved[i], sizeof saved[i], "%s/threads-%d", folder, 1 << i);
            train_steps(t, 3);
            if (i == 1) { /* and goes on from there, as another trainer */
                must(sid2_trainer_save(t, first, &err));
                sid2_trainer_destroy(t);
                must(t = sid2_trainer_create(on, config, 0, &err));
                must(sid2_trainer_resume(t, first, &err));
                assert_int_equal(t->states[0].updates, 1);
                assert_int_equal(t->states[2].updates, 2);
            }
            train_steps(t, 3);
            must(sid2_trainer_save(t, saved[i], &err));
            sid2_trainer_destroy(t);
            sid2_device_close(on);
        }
        for (int i = 1; i < 3; i++) same_checkpoint(saved[0], saved[i]);
        for (int i = 0; i < 3; i++) must(sid2_remove_tree(saved[i], &err));
        must(sid2_remove_tree(first, &err));
        sid2_config_destroy(config);
    }
}

/* Weights of three, gradients and moments of two, one average; and a limit is kept by computing twice, to the same bits. */
static void memory_is_planned(void **state)
{
    (void)state;
    sid2_config *config = THREE("train.lanes=1", "train.microbatch=16");
    sid2_trainer *t = make_trainer(device, config), *tight;
    size_t weights = (size_t)t->states[0].params->elements * sizeof(float);
    assert_true(t->training.params >= 10 * weights && t->training.params < 11 * weights);
    sid2_memory_report held = *sid2_trainer_memory(t);
    /* Of each update: hyper, norm, and the squares of one block; of the student's the share. */
    assert_int_equal(held.state, sid2_training_state(&t->training) + (7 * 4 + 4 + 8) * 2 + 4);
    size_t limit = held.state + held.arena * 9 / 10 + held.workspace;
    must(tight = sid2_trainer_create(device, config, limit, &err));
    held = *sid2_trainer_memory(tight);
    assert_true(held.state + held.arena + held.workspace <= limit && held.recomputed_segments > 0);
    fill_weights(tight);
    train_steps(t, 4);
    train_steps(tight, 4);
    float *one = download(&t->buffers, "weights"), *other = download(&tight->buffers, "weights");
    assert_memory_equal(one, other, weights);
    free(one);
    free(other);
    sid2_trainer_destroy(t);
    sid2_trainer_destroy(tight);
    assert_null(sid2_trainer_create(device, config, weights, &err));
    assert_int_equal(err.code, SID2_ERR_MEMORY);
    sid2_config_destroy(config);
}

/* Of clips: frames that are given stay as they are, whatever the student says of them, and nothing is learnt of them. */
static void given_frames_stay(void **state)
{
    (void)state;
    enum { FRAMES = 3, CLIPS = 4 };
    static const struct {
        const char *name;
        float given;
    } numbers[] = {{"alpha", 1},   {"sigma", 0},         {"minus_sigma", 0}, {"alpha_s", 1},
                   {"sigma_s", 0}, {"minus_sigma_s", 0}, {"keep", 1},        {"take", 0},
                   {"renoise", 0}, {"weight", 0},        {"half_sigma_s", 0}};
    sid2_config *config = TINY("distill.k=4", "model.frames=3", "model.given=1", "train.history_drop=0",
                               "train.batch=4", "train.microbatch=4", "train.lanes=1");
    sid2_trainer *t = make_trainer(device, config);
    train_steps(t, 1);
    train_steps(t, 1);
    assert_true(sid2_trainer_stats(t)->grad_norm > 0 && isfinite(sid2_trainer_stats(t)->loss));
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        float *values = download(&t->lanes.worker[0].buffers, numbers[i].name);
        for (int k = 0; k < FRAMES * CLIPS; k++)
            assert_int_equal(values[k] == numbers[i].given, k % FRAMES == 0);
        free(values);
    }
    sid2_trainer_destroy(t);
    sid2_config_destroy(config);
}

static int open_devices(void **state)
{
    const sid2_backend *backend = &sid2_backend_cpu;
    device = sid2_backends_open(&backend, 1, "cpu", &(sid2_device_options){.threads = 1}, &err);
    must(device);
    reference = open_device("reference");
    return make_folder(state);
}

static int close_devices(void **state)
{
    sid2_device_close(device);
    sid2_device_close(reference);
    return drop_folder(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(closed_form),
                                       cmocka_unit_test(first_steps_look_ahead),
                                       cmocka_unit_test(deviations_of_samples),
                                       cmocka_unit_test(gradients_of_a_step),
                                       cmocka_unit_test(targets_of_a_step),
                                       cmocka_unit_test(masks_are_shared),
                                       cmocka_unit_test(same_bits),
                                       cmocka_unit_test(memory_is_planned),
                                       cmocka_unit_test(given_frames_stay)};
    return cmocka_run_group_tests(tests, open_devices, close_devices);
}
