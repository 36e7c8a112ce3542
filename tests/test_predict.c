/* Predictions of steps on more cores: their limits, and what is counted. */
#include <math.h>

#include "model_support.h"
#include "predict.h"

static const sid2_step_work step = {
    .lanes = 8, .seconds = 0.6, .bytes = 5e9, .weights = 1e8, .sum = 1.25e7, .update = 1e8};
static const sid2_machine_rates quick = {.sockets = 1, .core = 1e10, .socket = 1e15, .link = 1e15};

static double seconds(const sid2_step_work *w, const sid2_machine_rates *m, int threads)
{
    sid2_prediction p = sid2_predict_step(w, m, threads);
    return p.lanes + p.sums_and_update + p.waking;
}

static void near(double got, double want)
{
    if (!(fabs(got - want) <= 1e-9 * want)) fail_msg("%.12g is not %.12g", got, want);
}

static void one_core_is_as_measured(void **state)
{
    (void)state;
    sid2_machine_rates slow = quick;
    slow.socket = slow.link = 1, slow.sockets = 2, slow.wake = 1;
    near(seconds(&step, &quick, 1), 0.63);
    near(seconds(&step, &slow, 1), 0.63);
}

static void lanes_are_the_limit(void **state)
{
    (void)state;
    for (int threads = 8; threads <= 128; threads *= 2) {
        assert_int_equal(sid2_predict_step(&step, &quick, threads).cores, 8);
        near(seconds(&step, &quick, threads), 0.63 / 8);
    }
    near(sid2_predict_step(&step, &quick, 5).lanes, 0.6 * 2 / 8); /* two rounds of 5 and 3 */
}

static void more_is_never_less(void **state)
{
    (void)state;
    for (int sockets = 1; sockets <= 8; sockets++)
        for (double socket = 1e9; socket < 1e13; socket *= 10)
            for (int threads = 1; threads < 20; threads++) {
                sid2_machine_rates m = {.sockets = sockets, .core = 1e10, .socket = socket, .link = 2e10},
                                   wider = m, sleepy = m;
                wider.socket *= 2;
                sleepy.wake = 1e-3;
                double now = seconds(&step, &m, threads);
                assert_true(seconds(&step, &m, threads + 1) <= now * (1 + 1e-12));
                assert_true(seconds(&step, &wider, threads) <= now);
                assert_true(seconds(&step, &sleepy, threads) >= now);
                assert_true(now >= 0.63 / 8 * (1 - 1e-12));
            }
}

static void memory_is_shared(void **state)
{
    (void)state;
    sid2_machine_rates m = quick;
    m.socket = 2e10; /* two cores' */
    near(seconds(&step, &m, 8), 5e9 / 2e10 + 3e8 / 2e10);
    m.sockets = 2;
    near(seconds(&step, &m, 8), 5e9 / 4e10 + 3e8 / 4e10);
    m.link = 1e10; /* and a half of what has no home goes over the links */
    near(sid2_predict_step(&step, &m, 8).sums_and_update, 3e8 / 2e10);
}

/* Twice the images: twice the work of lanes, as many lanes, the same update. */
static void bytes_are_counted(void **state)
{
    (void)state;
    sid2_step_work work[2];
    for (int i = 0; i < 2; i++) {
        sid2_config *config = i ? TINY("train.batch=32", "train.lanes=8", "train.microbatch=2")
                                : TINY("train.batch=16", "train.lanes=8", "train.microbatch=2");
        sid2_recipe recipe = sid2_recipe_of(config);
        const sid2_training_site site = sid2_training_site_of(NULL, 0);
        sid2_training plan;
        must(sid2_training_plan(config, &recipe, &site, &plan, &err));
        work[i] = sid2_step_work_of(&plan, &recipe, i ? 32 : 16);
        near(sid2_step_sums(&work[i]), 16 * (double)plan.sum);
        assert_true(work[i].update >= 9 * (double)plan.sum);
        sid2_training_clear(&plan);
        sid2_config_destroy(config);
    }
    assert_true(work[0].multiply_adds > 0 && work[0].bytes > work[0].weights);
    near(work[1].multiply_adds, 2 * work[0].multiply_adds);
    near(work[1].bytes, 2 * work[0].bytes);
    near(work[1].weights, 2 * work[0].weights);
    near(work[1].update, work[0].update);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_core_is_as_measured), cmocka_unit_test(lanes_are_the_limit),
        cmocka_unit_test(more_is_never_less),      cmocka_unit_test(memory_is_shared),
        cmocka_unit_test(bytes_are_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
