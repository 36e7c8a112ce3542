/* Sets of pictures and repeated measurements against closed forms and published values. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "paired.h"
#include "philox.h"
#include "pictures.h"

enum { COUNT = 60, SIDE = 8, BYTES = SIDE * SIDE };
static uint8_t real[COUNT * BYTES], other[COUNT * BYTES];
static sid2_error err;

static const sid2_pictures real_pictures = {real, COUNT, SIDE, SIDE, 1};
static const sid2_pictures other_pictures = {other, COUNT, SIDE, SIDE, 1};

static sid2_picture_distances compare(const sid2_pictures *a, const sid2_pictures *b)
{
    sid2_picture_distances d = {0};
    sid2_real_pictures *r = sid2_real_pictures_create(a, &err);
    if (!r || !sid2_real_pictures_compare(r, b, &d, &err)) fail_msg("%s", err.message);
    sid2_real_pictures_destroy(r);
    return d;
}

/* Even values around 128, whose half can be written. */
static void make_real(void)
{
    for (int i = 0; i < COUNT * BYTES; i++)
        real[i] = (uint8_t)(128 + 2 * (int)(sid2_philox_word(1, (uint64_t)i, 0, 0) % 41) - 40);
}

static void distances(void **state)
{
    (void)state;
    make_real();
    sid2_picture_distances d = compare(&real_pictures, &real_pictures);
    assert_true(fabs(d.pixels) < 1e-6 && d.spectrum == 0);

    /* All 64 values are axes: brighter by ten is (10/127.5)² along each of 64 values; the spectrum has no mean in it. */
    for (int i = 0; i < COUNT * BYTES; i++) other[i] = (uint8_t)(real[i] + 10);
    d = compare(&real_pictures, &other_pictures);
    assert_true(fabs(d.pixels - 64 * pow(10 / 127.5, 2)) < 1e-4);
    assert_true(d.spectrum < 1e-6);

    /* Half the contrast around 127.5 halves amplitudes: 6.02 dB, up to the half step that 128 is off. */
    for (int i = 0; i < COUNT * BYTES; i++) other[i] = (uint8_t)(128 + (real[i] - 128) / 2);
    assert_true(fabs(compare(&real_pictures, &other_pictures).spectrum - 20 * log10(2)) < 1e-6);
}

/* Averages over blocks of uneven size: pictures that differ within blocks only are the same. */
static void blocks(void **state)
{
    (void)state;
    enum { HIGH = 40, WIDE = 33, N = 20 };
    static uint8_t a[N * HIGH * WIDE * 3], b[N * HIGH * WIDE * 3];
    for (int i = 0; i < N; i++)
        for (int y = 0; y < HIGH; y++)
            for (int x = 0; x < WIDE; x++)
                for (int c = 0; c < 3; c++) {
                    int row = y * 16 / HIGH, column = x * 16 / WIDE;
                    size_t place = (size_t)(((i * HIGH + y) * WIDE + x) * 3 + c);
                    a[place] = (uint8_t)(40 + sid2_philox_word(2, (uint64_t)(i * 3 + c), 0,
                                                               (uint64_t)(row * 16 + column)) %
                                                  150);
                    /* Of two neighbours in a block one gains what the other loses. */
                    bool pair =
                        y + 1 < HIGH && (y + 1) * 16 / HIGH == row && (y == 0 || (y - 1) * 16 / HIGH != row);
                    bool partner =
                        y > 0 && (y - 1) * 16 / HIGH == row && (y == 1 || (y - 2) * 16 / HIGH != row);
                    b[place] = (uint8_t)(a[place] + (pair ? 20 : partner ? -20 : 0));
                }
    const sid2_pictures first = {a, N, HIGH, WIDE, 3}, second = {b, N, HIGH, WIDE, 3};
    sid2_picture_distances d = compare(&first, &second);
    assert_true(fabs(d.pixels) < 1e-6 && d.spectrum > 0.1);
}

static void refusals(void **state)
{
    (void)state;
    sid2_picture_distances d;
    const sid2_pictures one = {real, 1, SIDE, SIDE, 1}, flat = {real, COUNT, SIDE, SIDE / 2, 1};
    make_real();
    assert_null(sid2_real_pictures_create(&one, &err));
    sid2_real_pictures *r = sid2_real_pictures_create(&real_pictures, &err);
    assert_non_null(r);
    assert_false(sid2_real_pictures_compare(r, &one, &d, &err));
    assert_false(sid2_real_pictures_compare(r, &flat, &d, &err));
    assert_non_null(strstr(err.message, "8x4x1"));
    sid2_real_pictures_destroy(r);
}

static void neighbours(void **state)
{
    (void)state;
    make_real();
    memcpy(other, real, sizeof other);
    memcpy(other, real + 41 * BYTES, BYTES); /* picture 0 is 41 */
    other[BYTES + 5] ^= 0x20;                /* 1 is nearly 1 */
    sid2_nearest nearest[3] = {{-1, 0}, {-1, 0}, {-1, 0}};
    const sid2_pictures three = {other, 3, SIDE, SIDE, 1}, half = {real, 30, SIDE, SIDE, 1},
                        rest = {real + 30 * BYTES, 30, SIDE, SIDE, 1};
    sid2_find_nearest(&three, &half, 100, nearest);
    assert_true(nearest[0].index < 130 && nearest[0].squares > 0);
    sid2_find_nearest(&three, &rest, 130, nearest);
    assert_int_equal(nearest[0].index, 141);
    assert_int_equal(nearest[0].squares, 0);
    assert_int_equal(nearest[1].index, 101);
    assert_int_equal(nearest[1].squares, 32 * 32);
    assert_int_equal(nearest[2].index, 102);
}

/* Quantiles as in printed tables. */
static void student(void **state)
{
    (void)state;
    static const struct {
        int degrees;
        double t, probability;
    } known[] = {{1, 12.7062, 0.05}, {2, 4.30265, 0.05},  {2, 9.92484, 0.01},
                 {3, 3.18245, 0.05}, {4, 2.77645, 0.05},  {5, 2.57058, 0.05},
                 {9, 1.83311, 0.1},  {10, 4.5869, 0.001}, {30, 2.04227, 0.05}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        assert_true(fabs(sid2_student(known[i].t, known[i].degrees) / known[i].probability - 1) < 1e-3);
    assert_true(sid2_student(0, 7) == 1 && sid2_student(-3, 4) == sid2_student(3, 4));
    assert_true(sid2_student(INFINITY, 2) == 0);
}

static void pairs(void **state)
{
    (void)state;
    const double a[] = {1, 2, NAN, 4}, b[] = {1.5, 2.7, 3, 4.3};
    sid2_paired p = sid2_paired_test(a, b, 4); /* differences .5 .7 .3: mean .5, deviation .2 */
    assert_int_equal(p.difference.count, 3);
    assert_true(fabs(p.difference.mean - 0.5) < 1e-12 && fabs(p.difference.deviation - 0.2) < 1e-12);
    assert_true(fabs(p.t - 0.5 / (0.2 / sqrt(3))) < 1e-9);
    assert_true(fabs(p.probability - 0.0494) < 1e-3);
    assert_true(isnan(sid2_paired_test(a, b, 1).probability));
    assert_true(sid2_paired_test(a, a, 4).probability == 1);
    sid2_mean m = sid2_mean_of(a, 4);
    assert_int_equal(m.count, 3);
    assert_true(fabs(m.mean - 7 / 3.0) < 1e-12 && isnan(sid2_mean_of(a, 1).deviation));

    double holm[] = {0.01, NAN, 0.04, 0.03, 0.005}; /* 4 tests: .03 - .06 .06 .02 */
    static const double corrected[] = {0.03, NAN, 0.06, 0.06, 0.02};
    sid2_holm(holm, 5);
    for (int i = 0; i < 5; i++) assert_true(i == 1 ? isnan(holm[i]) : fabs(holm[i] - corrected[i]) < 1e-12);
    double large[] = {0.9, 0, 0.8};
    sid2_holm(large, 3);
    assert_true(large[0] == 1 && large[1] == 0 && large[2] == 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(distances), cmocka_unit_test(blocks),
                                       cmocka_unit_test(refusals),  cmocka_unit_test(neighbours),
                                       cmocka_unit_test(student),   cmocka_unit_test(pairs)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
