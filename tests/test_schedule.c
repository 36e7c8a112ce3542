/* The diffusion process: the recipe's check values, derivatives, the three forms of the loss, the draw of
 * times. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "schedule.h"

static void near(double got, double want, double tolerance)
{
    if (!(fabs(got - want) <= tolerance)) fail_msg("%.12g is not %.12g within %g", got, want, tolerance);
}

/* A schedule of "key=value" settings, NULL-terminated. */
static sid2_schedule with(const char *const settings[])
{
    sid2_config *config = sid2_config_create();
    sid2_error err = {0};
    for (int i = 0; settings[i]; i++)
        if (!sid2_config_set(config, settings[i], &err)) fail_msg("%s", err.message);
    sid2_schedule schedule = sid2_schedule_create(config);
    sid2_config_destroy(config);
    return schedule;
}
#define SCHEDULE(...) with((const char *const[]){__VA_ARGS__, NULL})

static void check_values(void **state)
{
    (void)state;
    static const double want[3][5] = {{10.00, 0.36, -2.77, -5.90, -15.55},
                                      {11.39, 1.74, -1.39, -4.52, -14.16},
                                      {12.77, 3.13, 0, -3.13, -12.77}};
    static const char *const sizes[] = {"model.image_size=512", "model.image_size=256",
                                        "model.image_size=128"};
    for (int i = 0; i < 3; i++) {
        sid2_schedule s = SCHEDULE(sizes[i], "schedule.low=32", "schedule.high=512");
        for (int j = 0; j < 5; j++) near(sid2_schedule_logsnr(&s, j / 4.0), want[i][j], 0.0051);
    }
    sid2_schedule cosine = SCHEDULE("schedule.kind=cosine");
    near(sid2_schedule_slope(&cosine, 0), -462, 1);
    near(sid2_schedule_slope(&cosine, 1), -462, 1);
    sid2_schedule shifted =
        SCHEDULE("schedule.kind=shifted", "model.image_size=256", "schedule.reference=64");
    near(sid2_schedule_logsnr(&shifted, 0.3) - sid2_schedule_logsnr(&cosine, 0.3), 2 * log(0.25), 1e-12);
}

static void slope_is_the_derivative(void **state)
{
    (void)state;
    const sid2_schedule schedules[] = {
        SCHEDULE("schedule.kind=cosine"), SCHEDULE("schedule.kind=shifted", "model.image_size=512"),
        SCHEDULE("model.image_size=512"),
        SCHEDULE("schedule.low=16", "schedule.high=64", "schedule.logsnr_min=-7")};
    for (int i = 0; i < 4; i++) {
        for (double t = 0.02; t < 0.99; t += 0.01) {
            double h = 1e-5;
            double finite =
                (sid2_schedule_logsnr(&schedules[i], t + h) - sid2_schedule_logsnr(&schedules[i], t - h)) /
                (2 * h);
            double slope = sid2_schedule_slope(&schedules[i], t);
            near(finite / slope, 1, 1e-6);
            assert_true(slope < 0);
            near(sid2_schedule_time(&schedules[i], sid2_schedule_logsnr(&schedules[i], t)), t, 1e-12);
        }
        near(sid2_schedule_position(&schedules[i], sid2_schedule_logsnr(&schedules[i], 0)), 1000, 1e-9);
        near(sid2_schedule_position(&schedules[i], sid2_schedule_logsnr(&schedules[i], 1)), 0, 1e-9);
        near(sid2_schedule_time(&schedules[i], 100), 0, 0);
        near(sid2_schedule_time(&schedules[i], -100), 1, 0);
    }
}

static void alpha_and_sigma(void **state)
{
    (void)state;
    for (double x = -40; x <= 40; x += 0.37) {
        near(sid2_alpha(x) * sid2_alpha(x) + sid2_sigma(x) * sid2_sigma(x), 1, 1e-15);
        near(2 * log(sid2_alpha(x) / sid2_sigma(x)), x, 1e-12);
    }
    near(sid2_log_sigmoid(-800), -800, 0);
    near(sid2_log_sigmoid(800), 0, 0);
}

static const char *const weightings[] = {"loss.weighting=sigmoid",  "loss.weighting=elbo",
                                         "loss.weighting=edm",      "loss.weighting=edm_monotonic",
                                         "loss.weighting=v_cosine", "loss.weighting=snr_truncated",
                                         "loss.weighting=min_snr"};

/* One number x, its noise and a wrong v: the loss by x, by eps and by v is the same. */
static void the_forms_agree(void **state)
{
    (void)state;
    for (int w = 0; w < 7; w++) {
        sid2_schedule s = SCHEDULE(weightings[w], "loss.bias=-1");
        for (double t = 0; t <= 1; t += 0.0625) {
            double logsnr = sid2_schedule_logsnr(&s, t), alpha = sid2_alpha(logsnr),
                   sigma = sid2_sigma(logsnr);
            double x = 0.3, eps = -1.1, v_hat = 0.7, z = alpha * x + sigma * eps, v = alpha * eps - sigma * x;
            double x_error = alpha * z - sigma * v_hat - x, eps_error = sigma * z + alpha * v_hat - eps;
            double outer = -0.5 * sid2_schedule_slope(&s, t) * sid2_loss_weighting(&s, logsnr);
            double by_x = sid2_loss_weight(&s, t) * x_error * x_error;
            near(outer * eps_error * eps_error / by_x, 1, 1e-8);
            near(outer / (1 + exp(-logsnr)) * (v_hat - v) * (v_hat - v) / by_x, 1, 1e-8);
        }
    }
}

static void weightings_as_published(void **state)
{
    (void)state;
    sid2_schedule s = SCHEDULE(weightings[0], "loss.bias=2");
    near(sid2_loss_weighting(&s, 2), 0.5, 1e-15);
    near(sid2_loss_weight(&s, 0.4) /
             (-0.5 * sid2_schedule_slope(&s, 0.4) * exp(2) / (1 + exp(2 - sid2_schedule_logsnr(&s, 0.4)))),
         1, 1e-12);
    s = SCHEDULE(weightings[1]);
    near(sid2_loss_weighting(&s, -3), 1, 0);
    /* EDM at 64 pixels is its formula; at 256, the same moved by -2 log 4. */
    s = SCHEDULE(weightings[2], "model.image_size=64");
    near(sid2_loss_weighting(&s, 2.4), 1 / (2.4 * sqrt(2 * acos(-1))) * (exp(-2.4) + 0.25), 1e-15);
    sid2_schedule large = SCHEDULE(weightings[2], "model.image_size=256");
    near(sid2_loss_weighting(&large, 1 - 2 * log(4)), sid2_loss_weighting(&s, 1), 1e-15);
    sid2_schedule held = SCHEDULE(weightings[3], "model.image_size=64");
    double largest = 0;
    for (double x = -20; x < 20; x += 0.001) largest = fmax(largest, sid2_loss_weighting(&s, x));
    near(sid2_loss_weighting(&held, -15) / largest, 1, 1e-6);
    near(sid2_loss_weighting(&held, 5), sid2_loss_weighting(&s, 5), 0);
    for (double x = -20; x < 20; x += 0.1)
        assert_true(sid2_loss_weighting(&held, x) >= sid2_loss_weighting(&held, x + 0.1));
    /* These are plain errors under the cosine schedule: weight / their factor of |x - xhat|² is the same at
     * all t. */
    static const char *const under_cosine[] = {"loss.weighting=v_cosine", "loss.weighting=snr_truncated",
                                               "loss.weighting=min_snr"};
    for (int w = 0; w < 3; w++) {
        s = SCHEDULE(under_cosine[w], "schedule.kind=cosine");
        double first = 0;
        for (double t = 0.1; t < 0.95; t += 0.1) {
            double snr = exp(sid2_schedule_logsnr(&s, t));
            double plain = w == 0 ? 1 + snr : w == 1 ? fmax(1, snr) : fmin(snr, 5);
            double ratio = sid2_loss_weight(&s, t) / plain;
            if (first == 0) first = ratio;
            near(ratio / first, 1, 1e-3); /* the schedule's ends are cut at +-10 */
        }
    }
}

static void automatic_bias(void **state)
{
    (void)state;
    static const struct {
        const char *size;
        double bias;
    } want[] = {{"16", 2.5}, {"32", 2.5},  {"64", 2},    {"128", 0},    {"256", -1},
                {"512", -3}, {"1024", -4}, {"2048", -4}, {"32x128", 2}, {"128x32", 2}};
    for (size_t i = 0; i < sizeof want / sizeof want[0]; i++) {
        char setting[64];
        snprintf(setting, sizeof setting, "model.image_size=%s", want[i].size);
        sid2_schedule s = SCHEDULE(setting);
        near(s.bias, want[i].bias, 1e-12);
    }
}

/* Noise levels go by the root of the pixels: 64 x 256 is as noisy as 128 x 128. */
static void oblong_images(void **state)
{
    (void)state;
    static const char *const kinds[] = {"schedule.kind=interpolated", "schedule.kind=shifted",
                                        "schedule.kind=cosine"};
    for (int i = 0; i < 3; i++) {
        sid2_schedule square = SCHEDULE(kinds[i], "model.image_size=128"),
                      wide = SCHEDULE(kinds[i], "model.image_size=64x256"),
                      high = SCHEDULE(kinds[i], "model.image_size=256x64");
        for (double t = 0; t <= 1; t += 0.125) {
            assert_true(sid2_schedule_logsnr(&square, t) == sid2_schedule_logsnr(&wide, t));
            assert_true(sid2_schedule_logsnr(&square, t) == sid2_schedule_logsnr(&high, t));
            assert_true(sid2_loss_weight(&square, t) == sid2_loss_weight(&wide, t));
        }
    }
}

/* An error that depends on logSNR alone has the same expected loss under every schedule between the same
 * ends: the integral over t is one over logSNR. */
static double expectation(const sid2_schedule *s)
{
    const int n = 400000;
    double sum = 0;
    for (int i = 0; i < n; i++) {
        double t = (i + 0.5) / n, logsnr = sid2_schedule_logsnr(s, t);
        double x_error = 1 / (1 + exp(logsnr)) * (2 + sin(logsnr));
        sum += sid2_loss_weight(s, t) * x_error;
    }
    return sum / n;
}

static void interior_does_not_matter(void **state)
{
    (void)state;
    for (int w = 0; w < 7; w++) {
        sid2_schedule base = SCHEDULE(weightings[w], "schedule.kind=cosine", "loss.bias=1");
        double want = expectation(&base);
        /* Bent inwards: a cosine with ends further out and a slope that pulls them back to the same two
         * values. */
        for (double bend = -2.5; bend <= 2.6; bend += 5) {
            sid2_schedule bent = base;
            bent.b = atan(exp(-(10 + bend) / 2));
            bent.a = atan(exp((10 + bend) / 2)) - bent.b;
            bent.shift_clean = -bend;
            bent.shift_noise = bend;
            near(sid2_schedule_logsnr(&bent, 0), base.first, 1e-9);
            near(sid2_schedule_logsnr(&bent, 1), base.last, 1e-9);
            assert_true(fabs(sid2_schedule_logsnr(&bent, 0.2) - sid2_schedule_logsnr(&base, 0.2)) > 0.3);
            near(expectation(&bent) / want, 1, 1e-5);
        }
    }
}

static void times_spread_evenly(void **state)
{
    (void)state;
    double mean = 0;
    for (uint64_t step = 0; step < 400; step++) {
        bool seen[16] = {false};
        for (int i = 0; i < 16; i++) {
            double t = sid2_draw_time(7, step, i, 16);
            assert_true(t >= 0 && t < 1);
            assert_false(seen[(int)(t * 16)]);
            seen[(int)(t * 16)] = true;
        }
        mean += sid2_draw_time(7, step, 0, 16) / 400;
    }
    near(mean, 0.5, 0.06);
    assert_true(sid2_draw_time(7, 1, 0, 16) != sid2_draw_time(7, 2, 0, 16));
    assert_true(sid2_draw_time(7, 1, 0, 16) != sid2_draw_time(8, 1, 0, 16));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(check_values),
        cmocka_unit_test(slope_is_the_derivative),
        cmocka_unit_test(alpha_and_sigma),
        cmocka_unit_test(the_forms_agree),
        cmocka_unit_test(weightings_as_published),
        cmocka_unit_test(automatic_bias),
        cmocka_unit_test(oblong_images),
        cmocka_unit_test(interior_does_not_matter),
        cmocka_unit_test(times_spread_evenly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
