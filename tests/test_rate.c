/* The learning rate: warm-up, and every decay against its closed form. */
#include "model_support.h"

#include "rate.h"

static double rate(sid2_config *config, double step)
{
    return sid2_learning_rate(config, (uint64_t)(step - 1));
}

static void near(double got, double want)
{
    if (!(fabs(got - want) <= 1e-15)) fail_msg("%.17g is not %.17g", got, want);
}

/* Warm-up is the same whatever follows, and nothing falls before decay_start. */
static void warms_up(void **state)
{
    (void)state;
    static const char *const words[] = {"constant", "cosine", "linear", "inverse_sqrt"};
    for (int i = 0; i < 4; i++) {
        char decay[40];
        snprintf(decay, sizeof decay, "train.decay=%s", words[i]);
        sid2_config *c = TINY("train.learning_rate=1e-2", "train.warmup=10", "train.decay_start=40",
                              "train.steps=100", decay);
        for (int step = 1; step <= 10; step++) near(rate(c, step), 1e-3 * step);
        for (int step = 10; step <= 40; step++) near(rate(c, step), 1e-2);
        assert_true(i == 0 ? rate(c, 41) == 1e-2 : rate(c, 41) < 1e-2);
        for (int step = 41; step < 300; step++)
            assert_true(rate(c, step + 1) <= rate(c, step) && rate(c, step) >= 0);
        assert_true(rate(c, 100) > 0);
        sid2_config_destroy(c);
    }
}

static void follows_its_formula(void **state)
{
    (void)state;
    sid2_config *c = TINY("train.learning_rate=1", "train.warmup=20", "train.steps=119");
    for (int step = 20; step <= 130; step++) {
        double way = fmin(1, (step - 20) / 100.0);
        must(sid2_config_set(c, "train.decay=cosine", &err));
        near(rate(c, step), (1 + cos(3.14159265358979323846 * way)) / 2);
        must(sid2_config_set(c, "train.decay=linear", &err));
        near(rate(c, step), 1 - way);
        must(sid2_config_set(c, "train.decay=inverse_sqrt", &err));
        near(rate(c, step), sqrt(20.0 / step));
    }
    must(sid2_config_set(c, "train.warmup=0", &err));
    near(rate(c, 1), 1);
    near(rate(c, 4), 0.5);
    must(sid2_config_set(c, "train.warmup=500", &err)); /* longer than the training */
    must(sid2_config_set(c, "train.decay=cosine", &err));
    near(rate(c, 119), 119 / 500.0);
    assert_true(isfinite(rate(c, 600)));
    assert_true(sid2_config_uses(c, "train.decay_start"));
    must(sid2_config_set(c, "train.decay=constant", &err));
    assert_false(sid2_config_uses(c, "train.decay_start"));
    sid2_config_destroy(c);
}

/* A training takes it, and says so. */
static void is_what_a_step_takes(void **state)
{
    (void)state;
    sid2_device *device = open_device("cpu");
    sid2_config *c = TINY("train.decay=linear", "train.steps=6", "train.warmup=2");
    sid2_trainer *trainer = sid2_trainer_create(device, c, 0, &err);
    must(trainer);
    for (int step = 1; step <= 6; step++) {
        uint8_t pixels[8 * 64];
        int32_t labels[8];
        make_images(pixels, labels, 8, 64, 3, (uint64_t)step);
        must(sid2_trainer_step(trainer, pixels, labels, &err));
        near(sid2_trainer_stats(trainer)->learning_rate, rate(c, step));
    }
    sid2_trainer_destroy(trainer);
    sid2_config_destroy(c);
    sid2_device_close(device);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(warms_up), cmocka_unit_test(follows_its_formula),
                                       cmocka_unit_test(is_what_a_step_takes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
