/* The scaling model: the estimate that the exchange was designed by, and what holds for any. */
#include <math.h>
#include <string.h>

#include "model_support.h"
#include "scaling.h"

static sid2_rank_work work_of(const char *preset, int ranks, const sid2_cluster *cluster)
{
    sid2_config *config = sid2_config_create();
    sid2_rank_work work = {0};
    must(config != NULL);
    must(sid2_config_preset(config, preset, &err));
    must(sid2_rank_work_of(config, cluster, ranks, &work, &err));
    sid2_config_destroy(config);
    return work;
}

static sid2_cluster cluster_of(const char *gpu)
{
    sid2_cluster cluster = {0};
    must(sid2_cluster_of(&cluster, gpu, &err));
    return cluster;
}

static double seconds(const sid2_rank_work *work, const sid2_cluster *cluster, sid2_sum sum, bool overlap)
{
    sid2_step_time step = sid2_scaling_step(work, cluster, sum, overlap);
    return sid2_step_seconds(&step);
}

static double efficiency(const sid2_rank_work *work, const sid2_cluster *cluster, sid2_sum sum, bool overlap)
{
    return 100 * sid2_scaling_alone(work, cluster) / work->ranks / seconds(work, cluster, sum, overlap);
}

/* imagenet256-2, batch 2048, on H100s: the estimate counted 828 G operations a trained image; the graph has 831. */
static void as_designed(void **state)
{
    (void)state;
    static const struct {
        int ranks, images;
        double share[2][SID2_SUM_COUNT], tolerance[2][SID2_SUM_COUNT], rate, rate_tolerance;
    } rows[] = {
        {8, 256, {{98.5, 98.8, 99.0}, {99.8, 99.8, 99.8}}, {{.05, .05, .05}, {.05, .05, .05}}, 3807, .5},
        {64, 32, {{82, 87, 87}, {97, 97.5, 97}}, {{.5, .5, .5}, {.5, .05, .5}}, 29500, 50},
        {256, 8, {{51, 48, 60}, {69, 64, 79}}, {{.5, .5, .5}, {.5, .5, .5}}, 83700, 50},
    };
    const sid2_cluster h100 = cluster_of("h100");
    for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
        sid2_rank_work work = work_of("imagenet256-2", rows[r].ranks, &h100);
        assert_int_equal(work.images, rows[r].images);
        assert_int_equal(work.again, 0);
        assert_true(fabs(work.operations / 828e9 - 1) < 0.005);
        assert_true(fabs(2048 / seconds(&work, &h100, SID2_SUM_F32, true) / rows[r].rate - 1) < 0.005);
        work.operations = 828e9;
        assert_int_equal(2048 / sid2_scaling_alone(&work, &h100), 477);
        for (int overlap = 0; overlap < 2; overlap++)
            for (int sum = 0; sum < SID2_SUM_COUNT; sum++) {
                double got = efficiency(&work, &h100, (sid2_sum)sum, overlap),
                       want = rows[r].share[overlap][sum];
                if (!(fabs(got - want) <= rows[r].tolerance[overlap][sum]))
                    fail_msg("%d ranks, sum %d, overlap %d: %.3f %% is not %g", rows[r].ranks, sum, overlap,
                             got, want);
            }
        double rate = 2048 / seconds(&work, &h100, SID2_SUM_F32, true);
        if (!(fabs(rate - rows[r].rate) <= rows[r].rate_tolerance))
            fail_msg("%d ranks: %.1f images/s is not %g", rows[r].ranks, rate, rows[r].rate);
    }
}

/* Bytes a parameter, of which a rank has only its part: moments, the average and masters. */
static void parted(const sid2_rank_work *w)
{
    double parameters = (double)w->elements, ranks = w->ranks;
    assert_true((double)w->state >= (6 + 16 / ranks) * parameters);
    assert_true((double)w->state <= (6 + 16 / ranks) * parameters * 1.01); /* vectors, what goes in and out */
}

static void memory_is_parted(void **state)
{
    (void)state;
    const sid2_cluster h100 = cluster_of("h100");
    sid2_rank_work one = work_of("imagenet256-2", 8, &h100), many = work_of("imagenet256-2", 256, &h100);
    double parameters = (double)one.elements;
    assert_true(parameters > 397e6 && parameters < 398e6);
    parted(&one);
    parted(&many);
    assert_true(many.arena < one.arena);
    assert_true(fabs(sid2_sum_bytes(&one, SID2_SUM_F32) - parameters * 7 / 8 * 6) < 1);
    assert_true(fabs(sid2_sum_bytes(&one, SID2_SUM_BF16) - parameters * 7 / 8 * 4) < 1);
}

/* The front of the buffers is wanted first and whole last; a pass has all that it wants by its end. */
static void order_of_the_buffers(void **state)
{
    (void)state;
    const sid2_cluster h100 = cluster_of("h100");
    for (int i = 0; sid2_preset_name(i); i++) {
        sid2_config *config =
            sid2_config_create(); /* a rank wants a lane, so an image of the batch at least */
        must(config != NULL);
        must(sid2_config_preset(config, sid2_preset_name(i), &err));
        int ranks = config->train_batch < 8 ? (int)config->train_batch : 8;
        sid2_config_destroy(config);
        sid2_rank_work work = work_of(sid2_preset_name(i), ranks, &h100);
        for (int b = 1; b < SID2_BUCKETS; b++) assert_true(work.whole[b] <= work.whole[b - 1]);
        for (int p = 1; p < SID2_PIECES; p++) assert_true(work.wanted[p] >= work.wanted[p - 1]);
        assert_true(work.whole[SID2_BUCKETS - 1] > 0 && work.whole[0] <= 1 + 1e-9);
        assert_true(work.wanted[0] == 0 && work.wanted[SID2_PIECES - 1] < 1);
    }
}

static void what_holds_for_any(void **state)
{
    (void)state;
    static const char *const gpus[] = {"a100", "h100", "h200", "b200"};
    for (size_t g = 0; g < sizeof gpus / sizeof *gpus; g++) {
        sid2_cluster cluster = cluster_of(gpus[g]), wider = cluster;
        wider.network *= 4;
        for (int ranks = 1; ranks <= 1024; ranks *= 4) {
            sid2_rank_work work = work_of("imagenet128-2", ranks, &cluster);
            for (int s = 0; s < SID2_SUM_COUNT; s++) {
                sid2_sum sum = (sid2_sum)s;
                double apart = seconds(&work, &cluster, sum, false),
                       hidden = seconds(&work, &cluster, sum, true);
                assert_true(hidden <= apart * (1 + 1e-12));
                assert_true(efficiency(&work, &cluster, sum, true) <= 100 + 1e-9);
                assert_true(seconds(&work, &wider, sum, false) <= apart);
                sid2_step_time step = sid2_scaling_step(&work, &cluster, sum, false);
                assert_true(step.exchange >= 0 && step.gather >= 0 && (ranks > 1) == (step.latency > 0));
            }
            if (ranks == 1) assert_true(fabs(efficiency(&work, &cluster, SID2_SUM_F32, true) - 100) < 1e-9);
        }
    }
    assert_true(sid2_sum_suits(SID2_SUM_LIBRARY, 6) && !sid2_sum_suits(SID2_SUM_F32, 6));
}

/* With memory that takes no time a pass is its products, which graphs have a little more or less of than three passes. */
static void shares_are_counted(void **state)
{
    (void)state;
    sid2_cluster h100 = cluster_of("h100"), h200 = cluster_of("h200"), unbound = h100, bound = h100;
    unbound.bandwidth = 1e30;
    bound.bandwidth = 1e11;
    sid2_rank_work slow = work_of("imagenet256-2", 64, &h100), fast = work_of("imagenet256-2", 64, &h200),
                   products = work_of("imagenet256-2", 64, &unbound),
                   bytes = work_of("imagenet256-2", 64, &bound);
    assert_true(slow.counted < fast.counted && fast.counted < products.counted);
    assert_true(products.counted > 0.7 && products.counted < 0.82);
    bound.bandwidth *= 2; /* bound by bytes: twice as fast where they come twice as fast */
    double ratio = work_of("imagenet256-2", 64, &bound).counted / bytes.counted;
    assert_true(ratio > 1.95 && ratio <= 2);
    h100.cache = 0;
    assert_true(work_of("imagenet256-2", 64, &h100).counted < slow.counted);
}

/* Eight bits: some products gain, none where bytes are dear, and an A100 has none. */
static void eight_bits_are_counted(void **state)
{
    (void)state;
    sid2_cluster h100 = cluster_of("h100"), h200 = cluster_of("h200"), a100 = cluster_of("a100"),
                 bound = h100;
    bound.bandwidth = 1e11;
    sid2_rank_work hopper = work_of("imagenet512-2", 64, &h100), more = work_of("imagenet512-2", 64, &h200),
                   bytes = work_of("imagenet512-2", 64, &bound), small = work_of("imagenet128-2", 64, &h100),
                   ampere = work_of("imagenet512-2", 64, &a100);
    assert_true(hopper.counted_fp8 > 1.01 * hopper.counted && more.counted_fp8 > 1.01 * more.counted);
    assert_true(bytes.counted_fp8 < bytes.counted);
    assert_true(small.counted_fp8 == small.counted && ampere.counted_fp8 == ampere.counted);
}

static void devices_are_known(void **state)
{
    (void)state;
    sid2_cluster cluster = {0};
    assert_true(sid2_cluster_of_device(&cluster, "NVIDIA H100 80GB HBM3"));
    assert_string_equal(cluster.gpu, "h100");
    assert_true(sid2_cluster_of_device(&cluster, "NVIDIA A100-SXM4-80GB"));
    assert_string_equal(cluster.gpu, "a100");
    assert_false(sid2_cluster_of_device(&cluster, "Intel(R) Xeon(R) Processor"));
}

static void refusals(void **state)
{
    (void)state;
    sid2_cluster cluster = {0};
    assert_false(sid2_cluster_of(&cluster, "v100", &err));
    assert_non_null(strstr(err.message, "a100, h100"));
    const sid2_cluster h100 = cluster_of("h100");
    sid2_rank_work work;
    sid2_config *config = TINY("train.batch=16", "train.microbatch=1");
    assert_false(sid2_rank_work_of(config, &h100, 32, &work, &err));
    assert_non_null(strstr(err.message, "32 ranks want as many lanes"));
    assert_false(sid2_rank_work_of(config, &h100, 3, &work, &err));
    assert_non_null(strstr(err.message, "3 ranks want as many lanes"));
    must(sid2_rank_work_of(config, &h100, 16, &work, &err));
    assert_int_equal(work.images, 1);
    sid2_config_destroy(config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_designed),          cmocka_unit_test(memory_is_parted),
        cmocka_unit_test(order_of_the_buffers), cmocka_unit_test(what_holds_for_any),
        cmocka_unit_test(shares_are_counted),   cmocka_unit_test(eight_bits_are_counted),
        cmocka_unit_test(devices_are_known),    cmocka_unit_test(refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
