/* Means, covariances and Fréchet distances against closed forms; the same bits however rows arrive. */
#include "model_support.h"

#include "frechet.h"

#include <omp.h>

/* Rows of normal numbers: a third of the features are sums of others, so the covariance is singular. */
static float *draw_rows(int64_t count, int64_t width, uint64_t seed)
{
    float *rows = malloc((size_t)(count * width) * sizeof *rows);
    assert_non_null(rows);
    uint64_t state = seed;
    for (int64_t n = 0; n < count; n++)
        for (int64_t i = 0; i < width; i++) {
            double sum = 0;
            for (int k = 0; k < 12; k++) {
                state = state * 6364136223846793005u + 1442695040888963407u;
                sum += (double)(state >> 40) / 16777216.0;
            }
            float *row = rows + n * width;
            row[i] = i % 3 == 2 ? row[i - 1] + row[i - 2] : (float)(3 + (double)i * (sum - 6));
        }
    return rows;
}

static sid2_gaussian gaussian_of(const float *rows, int64_t count, int64_t width)
{
    sid2_gaussian g;
    if (!sid2_gaussian_of(rows, count, width, &g, &err)) fail_msg("%s", err.message);
    return g;
}

static double distance_of(const sid2_gaussian *a, const sid2_gaussian *b)
{
    double distance = NAN;
    if (!sid2_frechet(a, b, &distance, &err)) fail_msg("%s", err.message);
    return distance;
}

static void near(double got, double want, double tolerance)
{
    if (!(fabs(got - want) <= tolerance)) fail_msg("%.17g is not %.17g", got, want);
}

static void moments_are_those_of_two_passes(void **state)
{
    (void)state;
    enum { COUNT = 700, WIDTH = 75 };
    float *rows = draw_rows(COUNT, WIDTH, 1);
    sid2_gaussian g = gaussian_of(rows, COUNT, WIDTH);
    assert_int_equal(g.count, COUNT);
    assert_int_equal(g.width, WIDTH);
    double mean[WIDTH] = {0};
    for (int n = 0; n < COUNT; n++)
        for (int i = 0; i < WIDTH; i++) mean[i] += (double)rows[n * WIDTH + i] / COUNT;
    for (int i = 0; i < WIDTH; i++) {
        near(g.mean[i], mean[i], 1e-10);
        for (int j = 0; j < WIDTH; j++) {
            double sum = 0;
            for (int n = 0; n < COUNT; n++)
                sum += ((double)rows[n * WIDTH + i] - mean[i]) * ((double)rows[n * WIDTH + j] - mean[j]);
            near(g.covariance[i * WIDTH + j], sum / (COUNT - 1), 1e-8);
            assert_true(g.covariance[i * WIDTH + j] == g.covariance[j * WIDTH + i]);
        }
    }
    sid2_gaussian_free(&g);
    free(rows);
}

static void bits_do_not_depend_on_how_rows_arrive(void **state)
{
    (void)state;
    enum { COUNT = 1111, WIDTH = 130 };
    float *rows = draw_rows(COUNT, WIDTH, 2);
    sid2_gaussian whole = gaussian_of(rows, COUNT, WIDTH);
    static const int batches[] = {1, 7, 256, 300, 1000};
    const int threads = omp_get_max_threads();
    for (int b = 0; b < 5; b++) {
        omp_set_num_threads(1 + b % 4);
        sid2_gaussian part;
        sid2_moments *m = sid2_moments_create(WIDTH, NULL);
        assert_non_null(m);
        for (int64_t n = 0; n < COUNT; n += batches[b]) {
            int64_t count = n + batches[b] > COUNT ? COUNT - n : batches[b];
            assert_true(sid2_moments_add(m, rows + n * WIDTH, count, NULL));
            if (n + count >= 2) { /* looking disturbs nothing */
                assert_true(sid2_moments_get(m, &part, NULL));
                if (n + count < COUNT) sid2_gaussian_free(&part);
            }
        }
        assert_int_equal(part.count, whole.count);
        assert_memory_equal(part.mean, whole.mean, WIDTH * sizeof(double));
        assert_memory_equal(part.covariance, whole.covariance, WIDTH * WIDTH * sizeof(double));
        sid2_gaussian_free(&part);
        sid2_moments_destroy(m);
    }
    omp_set_num_threads(threads);
    sid2_gaussian_free(&whole);
    free(rows);
}

static sid2_gaussian diagonal(int64_t width, double mean, double variance)
{
    sid2_gaussian g;
    assert_true(sid2_gaussian_alloc(&g, width, NULL));
    for (int64_t i = 0; i < width; i++) {
        g.mean[i] = mean * (double)i;
        g.covariance[i * width + i] = variance * (double)(i * i); /* the first is a constant */
    }
    return g;
}

/* Of diagonal ones: the sum of squared differences of means and of standard deviations. */
static void diagonal_covariances_have_a_closed_form(void **state)
{
    (void)state;
    sid2_gaussian a = diagonal(9, 1, 4), b = diagonal(9, 1.5, 9);
    double want = 0;
    for (int i = 0; i < 9; i++) want += (0.25 + 1) * i * i;
    near(distance_of(&a, &b), want, 1e-10);
    near(distance_of(&b, &a), want, 1e-10);
    near(distance_of(&a, &a), 0, 1e-10);
    sid2_gaussian_free(&a);
    sid2_gaussian_free(&b);
}

/* Of 2 x 2 matrices Tr (AB)^(1/2) = sqrt(Tr AB + 2 sqrt(det AB)). */
static void matrices_of_two_have_a_closed_form(void **state)
{
    (void)state;
    double a[] = {3, 1, 1, 2}, b[] = {2, -1.2, -1.2, 4}, zero[2] = {0};
    sid2_gaussian x = {.width = 2, .mean = zero, .covariance = a},
                  y = {.width = 2, .mean = zero, .covariance = b};
    double trace = 3 * 2 + 1 * -1.2 + 1 * -1.2 + 2 * 4, determinant = (3 * 2 - 1) * (2 * 4 - 1.2 * 1.2);
    near(distance_of(&x, &y), 5 + 6 - 2 * sqrt(trace + 2 * sqrt(determinant)), 1e-12);
}

/* A copy scaled by s and moved: |(1-s) mean + shift|^2 + (1-s)^2 Tr, also where the covariance is singular. */
static void scaling_moves_as_far_as_it_should(void **state)
{
    (void)state;
    enum { WIDTH = 90 };
    static const int counts[] = {40, 500}; /* fewer rows than features, and more */
    for (int k = 0; k < 2; k++) {
        float *rows = draw_rows(counts[k], WIDTH, 3);
        sid2_gaussian a = gaussian_of(rows, counts[k], WIDTH);
        for (int i = 0; i < counts[k] * WIDTH; i++) rows[i] = 0.5f * rows[i] + 1;
        sid2_gaussian b = gaussian_of(rows, counts[k], WIDTH);
        double want = 0;
        for (int i = 0; i < WIDTH; i++)
            want += (0.5 * a.mean[i] - 1) * (0.5 * a.mean[i] - 1) + 0.25 * a.covariance[i * WIDTH + i];
        near(distance_of(&a, &b), want, 1e-5 * want);
        near(distance_of(&b, &a), want, 1e-5 * want);
        sid2_gaussian_free(&a);
        sid2_gaussian_free(&b);
        free(rows);
    }
}

static void refuses(void **state)
{
    (void)state;
    sid2_gaussian g, a = diagonal(2, 0, 1), b = diagonal(3, 0, 1);
    float rows[] = {0, 1, 2, NAN};
    double distance;
    assert_null(sid2_moments_create(0, &err));
    assert_int_equal(err.code, SID2_ERR_UNSUPPORTED);
    assert_null(sid2_moments_create(SID2_MAX_FEATURES + 1, NULL));
    assert_false(sid2_gaussian_of(rows, 1, 2, &g, &err));
    assert_int_equal(err.code, SID2_ERR_USAGE);
    assert_false(sid2_gaussian_of(rows, 2, 2, &g, &err));
    assert_string_equal(err.message, "feature 1 of row 1 is not finite");
    assert_false(sid2_frechet(&a, &b, &distance, &err));
    assert_int_equal(err.code, SID2_ERR_USAGE);
    sid2_gaussian_free(&a);
    sid2_gaussian_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(moments_are_those_of_two_passes),
        cmocka_unit_test(bits_do_not_depend_on_how_rows_arrive),
        cmocka_unit_test(diagonal_covariances_have_a_closed_form),
        cmocka_unit_test(matrices_of_two_have_a_closed_form),
        cmocka_unit_test(scaling_moves_as_far_as_it_should),
        cmocka_unit_test(refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
