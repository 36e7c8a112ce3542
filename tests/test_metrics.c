/* Kernel distance, manifolds and Inception score against sums over all pairs and closed forms. */
#include "model_support.h"

#include "cpu.h"
#include "metrics.h"

enum { REAL = 530, OTHER = 41, WIDTH = 19 };
static float real[REAL * WIDTH], other[OTHER * WIDTH];
static sid2_device *device;

static void draw(float *rows, int64_t count, float shift, uint64_t state)
{
    for (int64_t i = 0; i < count; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        rows[i] = shift + (float)(state >> 40) / 16777216.0f;
    }
}

static sid2_features reals(void) { return (sid2_features){real, REAL, WIDTH}; }
static sid2_features others(void) { return (sid2_features){other, OTHER, WIDTH}; }

static double kernel(const float *a, const float *b)
{
    double dot = 0;
    for (int i = 0; i < WIDTH; i++) dot += (double)a[i] * (double)b[i];
    return pow(dot / WIDTH + 1, 3);
}

static double distance(const float *a, const float *b)
{
    double sum = 0;
    for (int i = 0; i < WIDTH; i++) sum += pow((double)a[i] - (double)b[i], 2);
    return sqrt(sum);
}

static void near(double got, double want, double tolerance)
{
    if (!(fabs(got - want) <= tolerance)) fail_msg("%.17g is not %.17g", got, want);
}

static void kernel_distance_is_a_sum_over_pairs(void **state)
{
    (void)state;
    double aa = 0, bb = 0, ab = 0, got;
    for (int i = 0; i < REAL; i++)
        for (int j = 0; j < REAL; j++)
            if (i != j) aa += kernel(real + i * WIDTH, real + j * WIDTH);
    for (int i = 0; i < OTHER; i++)
        for (int j = 0; j < OTHER; j++)
            if (i != j) bb += kernel(other + i * WIDTH, other + j * WIDTH);
    for (int i = 0; i < REAL; i++)
        for (int j = 0; j < OTHER; j++) ab += kernel(real + i * WIDTH, other + j * WIDTH);
    must(sid2_kernel_distance(device, reals(), others(), &got, NULL, &err));
    near(got, aa / REAL / (REAL - 1) + bb / OTHER / (OTHER - 1) - 2 * ab / REAL / OTHER, 1e-6);
}

/* The k-th smallest distance from row `i` to the other rows. */
static double radius(const float *rows, int count, int i, int k)
{
    double last = -1;
    for (; k > 0; k--) {
        double next = INFINITY;
        for (int j = 0; j < count; j++) {
            double d = distance(rows + i * WIDTH, rows + j * WIDTH);
            if (j != i && d > last && d < next) next = d;
        }
        last = next;
    }
    return last;
}

static void manifolds_are_balls(void **state)
{
    (void)state;
    sid2_manifold m;
    sid2_neighbour nearest[OTHER];
    must(sid2_manifolds(device, reals(), others(), &m, nearest, NULL, &err));
    double precision = 0, recall = 0, balls = 0, holds = 0;
    bool inside[OTHER] = {false};
    for (int i = 0; i < REAL; i++) {
        double third = radius(real, REAL, i, 3), fifth = radius(real, REAL, i, 5);
        bool is_in = false, holds_one = false;
        for (int j = 0; j < OTHER; j++) {
            double d = distance(real + i * WIDTH, other + j * WIDTH);
            inside[j] |= d <= third;
            balls += d <= fifth;
            holds_one |= d <= fifth;
            is_in |= d <= radius(other, OTHER, j, 3);
        }
        recall += is_in;
        holds += holds_one;
    }
    for (int j = 0; j < OTHER; j++) {
        int best = 0;
        precision += inside[j];
        for (int i = 1; i < REAL; i++)
            if (distance(real + i * WIDTH, other + j * WIDTH) <
                distance(real + best * WIDTH, other + j * WIDTH))
                best = i;
        assert_int_equal(nearest[j].index, best);
        near(nearest[j].distance, distance(real + best * WIDTH, other + j * WIDTH), 1e-4);
    }
    assert_true(precision > 0 && precision < OTHER && holds > 0); /* else nothing is tested */
    near(m.precision, precision / OTHER, 1e-12);
    near(m.recall, recall / REAL, 1e-12);
    near(m.density, balls / 5 / OTHER, 1e-12);
    near(m.coverage, holds / REAL, 1e-12);
}

/* N rows that are sure of N different classes score N, equal rows 1. */
static void scores_have_closed_forms(void **state)
{
    (void)state;
    float rows[6 * 6] = {0};
    double score, deviation;
    for (int i = 0; i < 6; i++) rows[i * 6 + i] = 1;
    sid2_inception_score((sid2_features){rows, 6, 6}, 6, &score, &deviation);
    near(score, 6, 1e-12);
    assert_true(isnan(deviation));
    sid2_inception_score((sid2_features){rows, 6, 6}, 4, &score, &deviation); /* 4, then 2 */
    near(score, 3, 1e-12);
    near(deviation, 1, 1e-12);
    for (int i = 0; i < 36; i++) rows[i] = 1.0f / 6;
    sid2_inception_score((sid2_features){rows, 6, 6}, 3, &score, &deviation);
    near(score, 1, 1e-6);
}

static bool stop(void *user, double done)
{
    *(double *)user = done;
    return false;
}

static void refuses_and_stops(void **state)
{
    (void)state;
    double got, done = 0;
    sid2_manifold m;
    assert_false(
        sid2_kernel_distance(device, reals(), (sid2_features){other, 30, WIDTH - 1}, &got, NULL, &err));
    assert_int_equal(err.code, SID2_ERR_USAGE);
    assert_false(sid2_kernel_distance(device, reals(), (sid2_features){other, 1, WIDTH}, &got, NULL, &err));
    assert_int_equal(err.code, SID2_ERR_USAGE);
    assert_false(sid2_manifolds(device, reals(), (sid2_features){other, 5, WIDTH}, &m, NULL, NULL, &err));
    assert_int_equal(err.code, SID2_ERR_USAGE);
    assert_false(
        sid2_manifolds(device, reals(), others(), &m, NULL, &(sid2_metric_progress){stop, &done}, &err));
    assert_int_equal(err.code, SID2_ERR_CANCELLED);
    assert_true(done > 0 && done < 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kernel_distance_is_a_sum_over_pairs),
        cmocka_unit_test(manifolds_are_balls),
        cmocka_unit_test(scores_have_closed_forms),
        cmocka_unit_test(refuses_and_stops),
    };
    const sid2_backend *const backends[] = {&sid2_backend_cpu};
    device = sid2_backends_open(backends, 1, "cpu", NULL, &err);
    must(device != NULL);
    draw(real, REAL * WIDTH, 0, 1);
    draw(other, OTHER * WIDTH, 0.15f, 2);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    sid2_device_close(device);
    return failed;
}
