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
    sid2_solver_step step[2048];
} plan;

static plan *make(const char *const settings[])
{
    sid2_config *config = sid2_config_create();
    sid2_error err = {0};
    for (int i = 0; settings[i]; i++)
        if (!sid2_config_set(config, settings[i], &err)) fail_msg("%s", err.message);
    plan *p = malloc(sizeof *p);
    p->schedule = sid2_schedule_create(config);
    p->count = (int)config->sample_steps;
    sid2_solver_plan(&p->schedule, config, p->step);
    sid2_config_destroy(config);
    return p;
}
#define PLAN(...) make((const char *const[]){__VA_ARGS__, NULL})

static void grid_and_ends(void **state)
{
    (void)state;
    static const char *const samplers[] = {"sample.sampler=ddpm", "sample.sampler=ddim",
                                           "sample.sampler=dpm2m"};
    for (int i = 0; i < 3; i++) {
        plan *p = PLAN(samplers[i], "sample.steps=7");
        near(p->step[0].t, 1, 0);
        near(p->step[6].s, 0, 0);
        for (int j = 1; j < 7; j++) near(p->step[j].t, p->step[j - 1].s, 0);
        const sid2_solver_step *last = &p->step[6];
        near(fabs(last->z) + fabs(last->noise) + fabs(last->prev) + fabs(last->x - 1), 0, 0);
        for (int j = 0; j < 7; j++) {
            near(p->step[j].alpha * p->step[j].alpha + p->step[j].sigma * p->step[j].sigma, 1, 1e-14);
            if (i != 0) near(p->step[j].noise, 0, 0);
            if (i != 2) near(p->step[j].prev, 0, 0);
        }
        free(p);
    }
    plan *one = PLAN("sample.steps=1");
    near(one->step[0].x, 1, 0);
    free(one);
}

/* All data at one point: xhat is that point, and deterministic samplers keep z = alpha x + sigma eps exactly. */
static void a_point_is_reached(void **state)
{
    (void)state;
    static const char *const samplers[] = {"sample.sampler=ddim", "sample.sampler=dpm2m"};
    for (int i = 0; i < 2; i++) {
        plan *p = PLAN(samplers[i], "sample.steps=20", "model.image_size=128");
        double x = 0.6, eps = -1.3, z = p->step[0].alpha * x + p->step[0].sigma * eps;
        for (int j = 0; j < 20; j++) {
            const sid2_solver_step *s = &p->step[j];
            near(z, s->alpha * x + s->sigma * eps, 1e-12);
            z = s->z * z + (s->x + s->prev) * x;
        }
        near(z, x, 1e-15);
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
        const sid2_solver_step *s = &lower->step[j];
        double to = sid2_schedule_logsnr(&lower->schedule, s->s);
        near(s->z * s->alpha + s->x, sid2_alpha(to), 1e-12);
        near((s->z * s->z * s->sigma * s->sigma + s->noise * s->noise) / (sid2_sigma(to) * sid2_sigma(to)), 1,
             1e-11);
        s = &upper->step[j];
        double kept = s->z + s->x * s->alpha; /* xhat = alpha z */
        near(kept * kept + s->noise * s->noise, 1, 1e-12);
        double want = 0.7 * log(lower->step[j].noise) + 0.3 * log(upper->step[j].noise);
        near(log(between->step[j].noise), want, 1e-12);
    }
    free(lower);
    free(upper);
    free(between);
}

/* Gaussian data of deviation d: the exact path keeps z / sqrt(alpha² d² + sigma²). The error from t = 3/4 to
 * 1/4. */
static double path_error(const char *sampler, int count)
{
    char steps[32];
    snprintf(steps, sizeof steps, "sample.steps=%d", count);
    plan *p = PLAN(sampler, steps);
    double z = 0, before = 0, scale = 0, d = 0.4;
    for (int j = count / 4 - 1; j <= count * 3 / 4; j++) {
        const sid2_solver_step *s = &p->step[j];
        double variance = s->alpha * s->alpha * d * d + s->sigma * s->sigma;
        scale = sqrt(variance);
        if (j <= count / 4) z = scale; /* exact up to the start */
        if (j == count * 3 / 4) break;
        double x_hat = s->alpha * d * d * z / variance;
        z = s->z * z + s->x * x_hat + s->prev * before;
        before = x_hat;
    }
    free(p);
    return fabs(z / scale - 1);
}

static void orders_of_convergence(void **state)
{
    (void)state;
    double first = path_error("sample.sampler=ddim", 256) / path_error("sample.sampler=ddim", 512);
    double second = path_error("sample.sampler=dpm2m", 256) / path_error("sample.sampler=dpm2m", 512);
    near(first, 2, 0.1);
    near(second, 4, 0.3);
    assert_true(path_error("sample.sampler=dpm2m", 64) < path_error("sample.sampler=ddim", 64) / 10);
}

static void guidance_follows_the_interval(void **state)
{
    (void)state;
    plan *p = PLAN("sample.guidance=3", "sample.interval=-2,1", "sample.steps=100");
    int guided = 0;
    for (int j = 0; j < 100; j++) {
        bool inside = p->step[j].logsnr >= -2 && p->step[j].logsnr <= 1;
        assert_int_equal(p->step[j].guided, inside);
        near(p->step[j].w, inside ? 3 : 1, 0);
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
        for (int j = 0; j < p->count; j++) assert_int_equal(p->step[j].guided, i == 2);
        free(p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(grid_and_ends),
        cmocka_unit_test(a_point_is_reached),
        cmocka_unit_test(ancestral_variances),
        cmocka_unit_test(orders_of_convergence),
        cmocka_unit_test(guidance_follows_the_interval),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
