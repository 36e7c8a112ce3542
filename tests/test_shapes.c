/* Moving shapes: how they move, that pixels are where they say, and what is measured of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "motion.h"
#include "shapes.h"

enum { SIZE = 32, FRAMES = 16, CLIPS = 200 };

/* Within the edges, at one speed, and turned back only where they touch an edge in between. */
static void they_bounce(void **state)
{
    int count[SID2_SHAPES_MOST + 1] = {0}, kinds[SID2_SHAPE_KINDS] = {0}, bounces = 0;
    (void)state;
    for (uint64_t i = 0; i < CLIPS; i++) {
        const sid2_shapes s = sid2_shapes_of(7, i);
        assert_in_range(s.count, 1, SID2_SHAPES_MOST);
        count[s.count]++;
        kinds[s.kind]++;
        for (int k = 0; k < s.count; k++) {
            const sid2_moving_shape *m = &s.shape[k];
            for (int other = 0; other < k; other++) assert_int_not_equal(m->channel, s.shape[other].channel);
            for (int f = 0; f < FRAMES; f++) {
                double at[2], next[2];
                sid2_shapes_centre(m, f, at);
                sid2_shapes_centre(m, f + 1, next);
                for (int axis = 0; axis < 2; axis++) {
                    double moved = fabs(next[axis] - at[axis]), speed = fabs(m->speed[axis]);
                    double low = fmin(at[axis], next[axis]) - m->radius,
                           high = 1 - m->radius - fmax(at[axis], next[axis]);
                    assert_true(at[axis] >= m->radius - 1e-12 && at[axis] <= 1 - m->radius + 1e-12);
                    if (fabs(moved - speed) < 1e-12) continue;
                    bounces++;
                    assert_true(moved < speed && (low < speed || high < speed));
                }
            }
        }
    }
    for (int i = 1; i <= SID2_SHAPES_MOST; i++) assert_in_range(count[i], CLIPS / 5, CLIPS / 2);
    for (int i = 0; i < SID2_SHAPE_KINDS; i++) assert_int_equal(kinds[i], CLIPS / SID2_SHAPE_KINDS);
    assert_true(bounces > CLIPS);
}

static void pixels_are_where_they_say(void **state)
{
    const sid2_shape shape = sid2_shape_of(SIZE, SIZE, 3);
    uint8_t pixels[SIZE * SIZE * 3];
    (void)state;
    for (uint64_t i = 0; i < CLIPS; i++) {
        const sid2_shapes s = sid2_shapes_of(7, i);
        for (int f = 0; f < FRAMES; f += 5) {
            sid2_shapes_render(&s, f, SIZE, pixels);
            for (int k = 0; k < s.count; k++) {
                double centre[2], found[2];
                sid2_shapes_centre(&s.shape[k], f, centre);
                assert_true(sid2_motion_centroid(pixels, shape, s.shape[k].channel, found) > 0);
                for (int axis = 0; axis < 2; axis++)
                    assert_true(fabs(found[axis] - SIZE * centre[axis]) < 0.2);
            }
        }
    }
}

/* A clip as it is, one moved by two pixels, one that stands still, and one that is black. */
static void distances_are_measured(void **state)
{
    enum { GIVEN = 4, FRAME = SIZE * SIZE * 3 };
    static uint8_t real[FRAMES * FRAME], moved[FRAMES * FRAME], still[FRAMES * FRAME], black[FRAMES * FRAME];
    double centre[2 * FRAMES];
    const sid2_shape shape = sid2_shape_of(FRAMES, SIZE, SIZE, 3);
    (void)state;
    /* One that flies straight, and bounces off the right edge in the end. */
    const sid2_shapes s = {.kind = 2, .count = 1, .shape = {{1, 0.15, 1, {0.2, 0.5}, {0.05, 0}}}};
    for (int f = 0; f < FRAMES; f++) {
        sid2_shapes_centre(&s.shape[0], f, centre + 2 * f);
        for (int axis = 0; axis < 2; axis++) centre[2 * f + axis] *= SIZE;
        sid2_shapes_render(&s, f, SIZE, real + (size_t)f * FRAME);
        sid2_shapes_render(&s, f < GIVEN ? f : GIVEN - 1, SIZE, still + (size_t)f * FRAME);
    }
    memcpy(moved + (size_t)2 * SIZE * 3, real, sizeof real - (size_t)2 * SIZE * 3); /* two rows down */
    const sid2_motion_truth truth = {FRAMES, GIVEN, centre, 1};
    sid2_motion m = {0};
    sid2_motion_add(&m, &truth, real, (const uint8_t *[]){real}, 1, shape);
    int64_t straight = m.frames[SID2_MOTION_STRAIGHT], bounced = m.frames[SID2_MOTION_BOUNCED];
    assert_int_equal(straight, 13 - GIVEN + 1); /* 0.2 + 13 x 0.05 = 0.85 = 1 - 0.15 */
    assert_int_equal(straight + bounced, FRAMES - GIVEN);
    assert_true(m.made[0] < 0.1 * (double)straight && m.made[1] < 0.1 * (double)bounced);
    assert_true(m.straight[0] < 0.3 * (double)straight && m.straight[1] > 2 * (double)bounced);
    assert_int_equal(m.lost, 0);
    double last = 0; /* 1.6 pixels a frame */
    for (int f = GIVEN; f < GIVEN + straight; f++) last += 1.6 * (f - GIVEN + 1);
    assert_true(fabs(m.last[0] - last) < 0.1 * (double)straight);
    m = (sid2_motion){0};
    sid2_motion_add(&m, &truth, real, (const uint8_t *[]){moved}, 1, shape);
    assert_true(fabs(m.made[0] + m.made[1] - 2 * (FRAMES - GIVEN)) < 0.1 * (FRAMES - GIVEN));
    m = (sid2_motion){0};
    sid2_motion_add(&m, &truth, real, (const uint8_t *[]){moved, real}, 2,
                    shape); /* the mean is one pixel off */
    assert_true(fabs(m.made[0] + m.made[1] - (FRAMES - GIVEN)) < 0.1 * (FRAMES - GIVEN));
    m = (sid2_motion){0};
    sid2_motion_add(&m, &truth, real, (const uint8_t *[]){still}, 1, shape);
    assert_true(fabs(m.made[0] - m.last[0]) < 1e-9 && fabs(m.made[1] - m.last[1]) < 1e-9);
    m = (sid2_motion){0};
    sid2_motion_add(&m, &truth, real, (const uint8_t *[]){black}, 1, shape);
    assert_int_equal(m.lost, FRAMES - GIVEN);
    assert_true(m.made[0] + m.made[1] > 3 * (FRAMES - GIVEN));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(they_bounce),
        cmocka_unit_test(pixels_are_where_they_say),
        cmocka_unit_test(distances_are_measured),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
