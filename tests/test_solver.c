/* The samplers' coefficients against closed forms: for a point and for Gaussian data the ideal denoiser is
 * known. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "solver.h"

static void near(double got, double want, double tolerance)
{
    if (!(fabs(got - want) <= tolerance)) fail_msg("%.12g is not %.12g within %g", got, want, tolerance);
}

typedef struct plan {
    sid2_schedule schedule;
    int count;
    sid2_solver_stage stage[2048];
} plan;

static plan *make(const char *const settings[])
{
    sid2_config *config = sid2_config_create();
    sid2_error err = {0};
    for (int i = 0; settings[i]; i++)
        if (!sid2_config_set(config, settings[i], &err)) fail_msg("%s", err.message);
    plan *p = malloc(sizeof *p);
    p->schedule = sid2_schedule_create(config);
    p->count = (int)sid2_solver_evaluations(config);
    sid2_solver_plan(&p->schedule, config, p->stage);
    sid2_config_destroy(config);
    return p;
}
#define PLAN(...) make((const char *const[]){__VA_ARGS__, NULL})

/* Every sampler there is, by its row. */
static const struct {
    const char *setting;
    int evaluations, history;
    bool noise;
} samplers[] = {
#define SAMPLER(word, evaluations, history, noise, help)                                                     \
    {"sample.sampler=" #word, evaluations, history, noise},
#include "samplers.def"
};
enum { SAMPLERS = sizeof samplers / sizeof samplers[0] };

static void ends_and_needs(void **state)
{
    (void)state;
    for (int i = 0; i < SAMPLERS; i++) {
        plan *p = PLAN(samplers[i].setting, "sample.steps=7");
        assert_int_equal(p->count, 6 * samplers[i].evaluations + 1);
        near(p->stage[0].logsnr, p->schedule.last, 0);
        const sid2_solver_stage *last = &p->stage[p->count - 1];
        near(fabs(last->z) + fabs(last->noise) + fabs(last->past[0]) + fabs(last->past[1]) +
                 fabs(last->x - 1),
             0, 0);
        bool reads[SID2_MAX_HISTORY] = {false};
        for (int j = 0; j < p->count; j++) {
            const sid2_solver_stage *s = &p->stage[j];
            near(s->alpha * s->alpha + s->sigma * s->sigma, 1, 1e-14);
            near(2 * log(s->alpha / s->sigma), s->logsnr, 1e-12);
            assert_int_equal(s->step, j / samplers[i].evaluations);
            assert_int_equal(s->noise != 0, samplers[i].noise && j + 1 < p->count);
            /* What no evaluation has made yet is not read. */
            for (int k = 0; k < SID2_MAX_HISTORY; k++) {
                if (k >= samplers[i].history || k >= j) near(s->past[k], 0, 0);
                reads[k] |= s->past[k] != 0;
            }
        }
        for (int k = 0; k < samplers[i].history; k++) assert_true(reads[k]);
        free(p);
        p = PLAN(samplers[i].setting, "sample.steps=1");
        assert_int_equal(p->count, 1);
        near(p->stage[0].x, 1, 0);
        free(p);
    }
}

/* Each grid by what it is said to space evenly. */
static double even_in_time(const sid2_schedule *s, double logsnr) { return sid2_schedule_time(s, logsnr); }
static double even_in_logsnr(const sid2_schedule *s, double logsnr) { return (void)s, logsnr; }
static double even_in_root(const sid2_schedule *s, double logsnr)
{
    return (void)s, pow(sid2_sigma(logsnr) / sid2_alpha(logsnr), 1 / 5.0);
}

static void grids_are_even(void **state)
{
    (void)state;
    static const struct {
        const char *setting;
        double (*measure)(const sid2_schedule *s, double logsnr);
    } grids[] = {{"sample.grid=uniform", even_in_time},
                 {"sample.grid=logsnr", even_in_logsnr},
                 {"sample.grid=rho", even_in_root}};
    for (int i = 0; i < 3; i++) {
        plan *p = PLAN(grids[i].setting, "sample.rho=5", "sample.steps=40", "model.image_size=128");
        sid2_config *config = sid2_config_create();
        assert_true(sid2_config_set(config, grids[i].setting, NULL));
        near(sid2_grid_logsnr(&p->schedule, config, 1), p->schedule.last, 1e-12);
        near(sid2_grid_logsnr(&p->schedule, config, 0), p->schedule.first, 1e-12);
        double clean = grids[i].measure(&p->schedule, p->schedule.first),
               noise = grids[i].measure(&p->schedule, p->schedule.last);
        for (int j = 0; j < 40; j++) {
            double at = grids[i].measure(&p->schedule, p->stage[j].logsnr);
            near((at - clean) / (noise - clean), (40 - j) / 40.0, 1e-9);
        }
        sid2_config_destroy(config);
        free(p);
    }
}

/* Runs stages `first` to `end` on one number, the network knowing what `denoise` says. */
static double follow(const plan *p, int first, int end, double z, double past[SID2_MAX_HISTORY],
                     double (*denoise)(const sid2_solver_stage *stage, double z))
{
    for (int j = first; j < end; j++) {
        const sid2_solver_stage *s = &p->stage[j];
        double x_hat = denoise(s, z);
        z = s->z * z + s->x * x_hat + s->past[0] * past[0] + s->past[1] * past[1];
        past[1] = past[0];
        past[0] = x_hat;
    }
    return z;
}

/* All data at one point: xhat is that point, and deterministic samplers keep z = alpha x + sigma eps exactly. */
static const double point = 0.6;
static double point_denoiser(const sid2_solver_stage *stage, double z) { return (void)stage, (void)z, point; }

static void a_point_is_reached(void **state)
{
    (void)state;
    static const char *const grids[] = {"sample.grid=uniform", "sample.grid=logsnr", "sample.grid=rho"};
    for (int i = 0; i < SAMPLERS * 3; i++) {
        if (samplers[i / 3].noise) continue;
        plan *p = PLAN(samplers[i / 3].setting, grids[i % 3], "sample.steps=20", "model.image_size=128");
        double eps = -1.3, past[SID2_MAX_HISTORY] = {0};
        double z = p->stage[0].alpha * point + p->stage[0].sigma * eps;
        for (int j = 0; j < p->count; j++) {
            near(z, p->stage[j].alpha * point + p->stage[j].sigma * eps, 1e-12);
            z = follow(p, j, j + 1, z, past, point_denoiser);
        }
        near(z, point, 1e-15);
        free(p);
    }
}

/* DDPM's lower variance is exact for a point, its upper one for Gaussian data of unit variance. */
static void ancestral_variances(void **state)
{
    (void)state;
    plan *lower = PLAN("sample.gamma=0", "sample.steps=50"),
         *upper = PLAN("sample.gamma=1", "sample.steps=50");
    plan *between = PLAN("sample.steps=50");
    for (int j = 0; j < 49; j++) {
        const sid2_solver_stage *s = &lower->stage[j];
        double to = lower->stage[j + 1].logsnr;
        near(s->z * s->alpha + s->x, sid2_alpha(to), 1e-12);
        near((s->z * s->z * s->sigma * s->sigma + s->noise * s->noise) / (sid2_sigma(to) * sid2_sigma(to)), 1,
             1e-11);
        s = &upper->stage[j];
        double kept = s->z + s->x * s->alpha; /* xhat = alpha z */
        near(kept * kept + s->noise * s->noise, 1, 1e-12);
        double want = 0.7 * log(lower->stage[j].noise) + 0.3 * log(upper->stage[j].noise);
        near(log(between->stage[j].noise), want, 1e-12);
    }
    free(lower);
    free(upper);
    free(between);
}

/* All data at one point: z stays alpha x + sigma noise whatever share of the noise is new, and at gamma = 1 the first step is
 * ddpm's lower one. */
static void renewed_noise_keeps_its_level(void **state)
{
    (void)state;
    static const char *const gammas[] = {"sample.gamma=0.1", "sample.gamma=0.5", "sample.gamma=1"};
    for (int i = 0; i < 3; i++) {
        plan *p = PLAN("sample.sampler=sde2m", gammas[i], "sample.steps=40", "sample.grid=logsnr");
        for (int j = 0; j < 39; j++) {
            const sid2_solver_stage *s = &p->stage[j];
            double to = p->stage[j + 1].logsnr, sigma = sid2_sigma(to);
            near(s->z * s->alpha + s->x + s->past[0], sid2_alpha(to), 1e-12);
            near((s->z * s->z * s->sigma * s->sigma + s->noise * s->noise) / (sigma * sigma), 1, 1e-11);
        }
        plan *lower = PLAN("sample.gamma=0", "sample.steps=40", "sample.grid=logsnr");
        if (i == 2) {
            near(p->stage[0].z, lower->stage[0].z, 1e-14);
            near(p->stage[0].x, lower->stage[0].x, 1e-14);
            near(p->stage[7].noise, lower->stage[7].noise, 1e-14);
        }
        free(lower);
        free(p);
    }
    plan *none = PLAN("sample.sampler=sde2m", "sample.gamma=0", "sample.steps=40"),
         *ddim = PLAN("sample.sampler=ddim", "sample.steps=40");
    for (int j = 0; j < 40; j++) {
        near(none->stage[j].z, ddim->stage[j].z, 1e-13);
        near(none->stage[j].x + none->stage[j].past[0], ddim->stage[j].x, 1e-13);
        near(none->stage[j].noise, 0, 0);
    }
    free(none);
    free(ddim);
}

/* Gaussian data of deviation d: the exact path keeps z / sqrt(alpha² d² + sigma²). The error from t = 3/4 to
 * 1/4, what is read of evaluations before being exact. */
static const double deviation = 0.4;
static double path_scale(const sid2_solver_stage *s)
{
    return sqrt(s->alpha * s->alpha * deviation * deviation + s->sigma * s->sigma);
}
static double gauss_denoiser(const sid2_solver_stage *s, double z)
{
    double scale = path_scale(s);
    return s->alpha * deviation * deviation * z / (scale * scale);
}

static double path_error(const char *sampler, int count)
{
    char steps[32];
    snprintf(steps, sizeof steps, "sample.steps=%d", count);
    plan *p = PLAN(sampler, steps);
    int first = 0, end = 0; /* the stages at which those steps begin */
    while (p->stage[first].step < count / 4) first++;
    while (p->stage[end].step < count * 3 / 4) end++;
    double past[SID2_MAX_HISTORY];
    for (int k = 0; k < SID2_MAX_HISTORY; k++) {
        const sid2_solver_stage *before = &p->stage[first - 1 - k];
        past[k] = gauss_denoiser(before, path_scale(before));
    }
    double z = follow(p, first, end, path_scale(&p->stage[first]), past, gauss_denoiser);
    double error = fabs(z / path_scale(&p->stage[end]) - 1);
    free(p);
    return error;
}

/* How the error falls when steps are halved. */
static double gain(const char *sampler, int count)
{
    return path_error(sampler, count) / path_error(sampler, 2 * count);
}

/* With new noise on the way: the variance of z and its covariance with the x̂ before, step by step, from exact ones at t = 3/4.
 * The deviation's error at 1/4. */
static double deviation_error(const char *sampler, const char *gamma, int count)
{
    char steps[32];
    snprintf(steps, sizeof steps, "sample.steps=%d", count);
    plan *p = PLAN(sampler, gamma, steps);
    int first = count / 4, end = count * 3 / 4;
    /* Of (z, x̂_1): at the first step x̂_1 is what the data's own path had, of the same noise. */
    const sid2_solver_stage *before = &p->stage[first - 1];
    double scale = path_scale(&p->stage[first]), past = gauss_denoiser(before, path_scale(before));
    double zz = scale * scale, zx = scale * past, xx = past * past;
    for (int j = first; j < end; j++) {
        const sid2_solver_stage *s = &p->stage[j];
        double a = gauss_denoiser(s, 1), keep = s->z + s->x * a, b = s->past[0];
        double next = keep * keep * zz + 2 * keep * b * zx + b * b * xx + s->noise * s->noise;
        zx = a * (keep * zz + b * zx); /* with x̂ = a z of now */
        xx = a * a * zz;
        zz = next;
    }
    double error = fabs(sqrt(zz) / path_scale(&p->stage[end]) - 1);
    free(p);
    return error;
}

/* The deviation of what comes out is right to the square of the step, where ddpm's is to the first power. */
static void new_noise_converges(void **state)
{
    (void)state;
    static const char *const gammas[] = {"sample.gamma=0", "sample.gamma=0.3", "sample.gamma=1"};
    for (int i = 0; i < 3; i++) {
        double coarse = deviation_error("sample.sampler=sde2m", gammas[i], 512),
               fine = deviation_error("sample.sampler=sde2m", gammas[i], 1024);
        near(coarse / fine, 4, 0.4);
        assert_true(deviation_error("sample.sampler=sde2m", gammas[i], 64) <
                    deviation_error("sample.sampler=ddpm", "sample.gamma=0", 64) / 4);
    }
    near(deviation_error("sample.sampler=ddpm", "sample.gamma=0", 512) /
             deviation_error("sample.sampler=ddpm", "sample.gamma=0", 1024),
         2, 0.1);
}

static void orders_of_convergence(void **state)
{
    (void)state;
    near(gain("sample.sampler=ddim", 256), 2, 0.1);
    near(gain("sample.sampler=dpm2m", 256), 4, 0.3);
    near(gain("sample.sampler=dpm3m", 256), 8, 0.6);
    near(gain("sample.sampler=heun", 256), 4, 0.3);
    assert_true(path_error("sample.sampler=dpm2m", 64) < path_error("sample.sampler=ddim", 64) / 10);
    assert_true(path_error("sample.sampler=dpm3m", 64) < path_error("sample.sampler=dpm2m", 64) / 5);
    assert_true(path_error("sample.sampler=heun", 32) < path_error("sample.sampler=ddim", 64) / 10);
}

/* x̂ a polynomial in l = log(alpha/sigma): what the sampler's order covers is integrated exactly,
 * z_s/sigma_s - z_t/sigma_t = integral of e^l x̂(l), here by fine Simpson. */
static int polynomial_degree;
static double polynomial(double l)
{
    return 0.3 + (polynomial_degree > 0) * 0.2 * l - (polynomial_degree > 1) * 0.1 * l * l;
}
static double polynomial_denoiser(const sid2_solver_stage *s, double z)
{
    return (void)z, polynomial(s->logsnr / 2);
}

static void polynomials_are_exact(void **state)
{
    (void)state;
    static const struct {
        const char *sampler;
        int degree;
    } cases[] = {{"sample.sampler=ddim", 0},
                 {"sample.sampler=heun", 1},
                 {"sample.sampler=sde2m", 1},
                 {"sample.sampler=dpm3m", 2}};
    for (int i = 0; i < 3; i++) {
        plan *p = PLAN(cases[i].sampler, "sample.gamma=0", "sample.steps=30");
        polynomial_degree = cases[i].degree;
        double past[SID2_MAX_HISTORY] = {0};
        int first = 0, end = 0;
        while (p->stage[first].step < 10) first++;
        while (p->stage[end].step < 11) end++;
        for (int k = 0; k < SID2_MAX_HISTORY; k++) past[k] = polynomial_denoiser(&p->stage[first - 1 - k], 0);
        const sid2_solver_stage *from = &p->stage[first], *to = &p->stage[end];
        double z = follow(p, first, end, from->sigma * 1.1, past, polynomial_denoiser);
        double a = from->logsnr / 2, h = (to->logsnr - from->logsnr) / 2 / 200, sum = 0;
        for (int k = 0; k <= 200; k++)
            sum += (k % 200 == 0 ? 1 : k % 2 ? 4 : 2) * h / 3 * exp(a + k * h) * polynomial(a + k * h);
        near(z / to->sigma, 1.1 + sum, 1e-9);
        free(p);
    }
}

static void guidance_follows_the_interval(void **state)
{
    (void)state;
    plan *p = PLAN("sample.guidance=3", "sample.interval=-2,1", "sample.steps=100");
    int guided = 0;
    for (int j = 0; j < 100; j++) {
        bool inside = p->stage[j].logsnr >= -2 && p->stage[j].logsnr <= 1;
        assert_int_equal(p->stage[j].guided, inside);
        near(p->stage[j].w, inside ? 3 : 1, 0);
        guided += inside;
    }
    assert_true(guided > 10 && guided < 60);
    free(p);
    static const char *const none[] = {"sample.guidance=3", "sample.interval=none", NULL};
    static const char *const weight_one[] = {"sample.guidance=1", "sample.interval=always", NULL};
    static const char *const always[] = {"sample.guidance=3", "sample.interval=always", NULL};
    const char *const *cases[] = {none, weight_one, always};
    for (int i = 0; i < 3; i++) {
        p = make(cases[i]);
        for (int j = 0; j < p->count; j++) assert_int_equal(p->stage[j].guided, i == 2);
        free(p);
    }
}

/* CFG++ as it is published, on numbers that no clamp touches: xhat between guide and model, the guide's noise. */
static void cfgpp_keeps_the_guides_noise(void **state)
{
    (void)state;
    plan *p =
        PLAN("sample.guidance=0.6", "sample.guidance_rule=cfgpp", "sample.sampler=ddim", "sample.steps=12");
    for (int j = 0; j < 12; j++) {
        const sid2_solver_stage *s = &p->stage[j];
        double z = 0.4, model = 0.3, guide = -0.2, mixed = guide + 0.6 * (model - guide);
        double straight = guide + s->w * (model - guide), got = s->z * z + s->x * straight;
        if (j == 11) {
            near(got, mixed, 1e-4);
            continue;
        }
        double noise = (z - s->alpha * guide) / s->sigma;
        near(got, p->stage[j + 1].alpha * mixed + p->stage[j + 1].sigma * noise, 1e-12);
        assert_true(s->guided);
    }
    free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ends_and_needs),
        cmocka_unit_test(grids_are_even),
        cmocka_unit_test(a_point_is_reached),
        cmocka_unit_test(ancestral_variances),
        cmocka_unit_test(renewed_noise_keeps_its_level),
        cmocka_unit_test(new_noise_converges),
        cmocka_unit_test(orders_of_convergence),
        cmocka_unit_test(polynomials_are_exact),
        cmocka_unit_test(guidance_follows_the_interval),
        cmocka_unit_test(cfgpp_keeps_the_guides_noise),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
