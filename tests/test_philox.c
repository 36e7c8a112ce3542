/* Philox against its published vectors, and the normal numbers against Box-Muller in double precision. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>

#include "normal.h"

/* kat_vectors of Random123: philox4x32, 10 rounds. */
static void known_answers(void **state)
{
    (void)state;
    static const struct {
        uint32_t counter[4], key[2], expected[4];
    } vectors[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++) {
        const uint32_t *c = vectors[i].counter, *k = vectors[i].key;
        sid2_philox_block block =
            sid2_philox(k[0] | (uint64_t)k[1] << 32, c[2] | (uint64_t)c[3] << 32, c[1], c[0]);
        for (int w = 0; w < 4; w++) assert_int_equal(block.word[w], vectors[i].expected[w]);
    }
}

static void words_come_from_their_block(void **state)
{
    (void)state;
    for (uint64_t i = 0; i < 40; i++)
        assert_int_equal(sid2_philox_word(7, 1ull << 40, 3, i),
                         sid2_philox(7, 1ull << 40, 3, (uint32_t)(i / 4)).word[i % 4]);
}

static void uniform_stays_inside(void **state)
{
    (void)state;
    assert_true(sid2_uniform(0) > 0);
    assert_true(sid2_uniform(~0u) < 1);
    assert_true(sid2_uniform(0) == 0x1p-24f);
    assert_true(sid2_uniform(~0u) == 1 - 0x1p-24f);
}

/* Every uniform there is: the logarithm to 1 ulp, sine and cosine to 1 ulp of 1. */
static void functions_are_accurate(void **state)
{
    (void)state;
    double worst_log = 0, worst_turn = 0;
    for (uint32_t k = 0; k < 1u << 23; k++) {
        float u = sid2_uniform(k << 9), c, s;
        double l = log((double)u), angle = 2 * M_PI * (double)u;
        worst_log = fmax(worst_log, fabs((double)sid2_log_unit(u) - l) / -l);
        sid2_cos_sin_turn(u, &c, &s);
        worst_turn = fmax(worst_turn, fmax(fabs((double)c - cos(angle)), fabs((double)s - sin(angle))));
    }
    assert_true(worst_log < 0x1p-23);
    assert_true(worst_turn < 0x1p-23);
}

static void normals_match_box_muller(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 200000; i++) {
        sid2_philox_block block = sid2_philox(11, i, 0, i);
        float got[2];
        sid2_normal_pair(block.word[0], block.word[1], got);
        double radius = sqrt(-2 * log((double)sid2_uniform(block.word[0])));
        double angle = 2 * M_PI * (double)sid2_uniform(block.word[1]);
        assert_true(fabs((double)got[0] - radius * cos(angle)) < 1e-6);
        assert_true(fabs((double)got[1] - radius * sin(angle)) < 1e-6);
    }
}

/* Share of standard normal numbers beyond x, on either side. */
static double tail(double x) { return erfc(x * M_SQRT1_2); }

static void normals_have_the_right_moments(void **state)
{
    (void)state;
    enum { PAIRS = 1 << 21, TAILS = 4 };
    double sum[5] = {0}, product = 0, n = 2.0 * PAIRS;
    int64_t beyond[TAILS + 1] = {0};
    for (uint32_t i = 0; i < PAIRS; i++) {
        sid2_philox_block block = sid2_philox(2024, 5, SID2_PURPOSE_NOISE, i / 2);
        float pair[2];
        sid2_normal_pair(block.word[i % 2 * 2], block.word[i % 2 * 2 + 1], pair);
        product += (double)pair[0] * (double)pair[1];
        for (int e = 0; e < 2; e++) {
            double x = (double)pair[e], power = 1;
            for (int m = 1; m <= 4; m++) sum[m] += power *= x;
            for (int t = 1; t <= TAILS; t++) beyond[t] += fabs(x) > t;
        }
    }
    /* Five standard deviations of each estimate. */
    assert_true(fabs(sum[1] / n) < 5 / sqrt(n));
    assert_true(fabs(sum[2] / n - 1) < 5 * sqrt(2 / n));
    assert_true(fabs(sum[3] / n) < 5 * sqrt(15 / n));
    assert_true(fabs(sum[4] / n - 3) < 5 * sqrt(96 / n));
    assert_true(fabs(product / PAIRS) < 5 / sqrt((double)PAIRS));
    for (int t = 1; t <= TAILS; t++) {
        double p = tail(t);
        assert_true(fabs((double)beyond[t] / n - p) < 5 * sqrt(p / n));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_answers),
        cmocka_unit_test(words_come_from_their_block),
        cmocka_unit_test(uniform_stays_inside),
        cmocka_unit_test(functions_are_accurate),
        cmocka_unit_test(normals_match_box_muller),
        cmocka_unit_test(normals_have_the_right_moments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
