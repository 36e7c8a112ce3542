/* The watch over a process: deadlines that pass, and those that do not. */
#include "watch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

static const sid2_place place = {.rank = 3, .ranks = 8, .host = "node7", .launcher = "Slurm"};

typedef struct heard {
    atomic_int count;
    char line[480];
} heard;

static void hear(void *user, const char *line)
{
    heard *h = user;
    snprintf(h->line, sizeof h->line, "%s", line);
    atomic_fetch_add(&h->count, 1);
}

static void rest(double seconds)
{
    nanosleep(&(struct timespec){(time_t)seconds, (long)(1e9 * (seconds - (double)(time_t)seconds))}, NULL);
}

static sid2_watch *begin(const char *deadlines, heard *h)
{
    setenv("SID2_DEADLINES", deadlines, 1);
    *h = (heard){0};
    sid2_watch *w = sid2_watch_begin(&place, hear, h, NULL);
    assert_non_null(w);
    return w;
}

/* Waits until it is heard, at most five seconds more than it should take. */
static double heard_after(heard *h, double began)
{
    while (!atomic_load(&h->count) && sid2_clock() - began < 5) rest(0.01);
    return sid2_clock() - began;
}

static void expect_line(const heard *h, const char *line)
{
    assert_int_equal(h->count, 1);
    assert_string_equal(h->line, line);
}

static void test_breach(void **state)
{
    (void)state;
    heard h;
    sid2_watch *w = begin("step=0.2,prepare=0.2,join=9", &h);
    sid2_watch_enter(w, SID2_PHASE_JOIN, 0);
    rest(0.3); /* not yet */
    assert_int_equal(h.count, 0);
    double began = sid2_clock();
    sid2_watch_enter(w, SID2_PHASE_STEP, 120); /* sooner than what the watch sleeps for */
    sid2_watch_expect(w, "the sum of the gradients", 2);
    double after = heard_after(&h, began);
    assert_true(after >= 0.2 && after < 3);
    rest(0.3); /* once */
    expect_line(&h,
                "rank 3 of 8 on node7: step 120 has taken more than 0.2 s, and waits for rank 2 in the sum "
                "of the gradients (SID2_DEADLINES=step=SECONDS allows more)");
    sid2_watch_end(w);
}

static void test_other_phases(void **state)
{
    (void)state;
    heard h;
    sid2_watch *w = begin("save=0.1", &h);
    sid2_watch_expect(w, "agreeing", -1);
    sid2_watch_enter(w, SID2_PHASE_SAVE, 7);
    heard_after(&h, sid2_clock());
    expect_line(
        &h,
        "rank 3 of 8 on node7: saving at step 7 has taken more than 0.1 s, and waits for others in agreeing "
        "(SID2_DEADLINES=save=SECONDS allows more)");
    sid2_watch_end(w);
    w = begin("join=0.1", &h);
    sid2_watch_enter(w, SID2_PHASE_JOIN, 0);
    heard_after(&h, sid2_clock());
    expect_line(
        &h,
        "rank 3 of 8 on node7: joining the other ranks has taken more than 0.1 s, and waits for no rank "
        "(SID2_DEADLINES=join=SECONDS allows more)");
    sid2_watch_end(w);
}

/* Going on in time, a pause, and the end are no breach. */
static void test_in_time(void **state)
{
    (void)state;
    heard h;
    sid2_watch *w = begin("step=1,prepare=1,sample=1", &h);
    for (uint64_t step = 1; step <= 8; step++) {
        sid2_watch_enter(w, SID2_PHASE_STEP, step);
        rest(0.2);
    }
    sid2_watch_enter(w, SID2_PHASE_IDLE, 8);
    rest(1.5);
    sid2_watch_enter(w, SID2_PHASE_SAMPLE, 8);
    sid2_watch_end(w);
    assert_int_equal(h.count, 0);
}

/* What others see of it, and for how long it has waited for them. */
static void test_sight(void **state)
{
    (void)state;
    heard h;
    sid2_watch *w = begin("step=9", &h);
    assert_string_equal(sid2_watch_look(w).doing, "");
    sid2_watch_enter(w, SID2_PHASE_SAVE, 7);
    assert_string_equal(sid2_watch_look(w).doing, "saving at step 7");
    sid2_watch_enter(w, SID2_PHASE_STEP, 8);
    sid2_watch_expect(w, "spreading", 2);
    rest(0.1);
    sid2_watch_expect(w, NULL, -1);
    rest(0.1);
    sid2_watch_sight s = sid2_watch_look(w);
    assert_string_equal(s.doing, "step 8");
    assert_string_equal(s.waits_for, "");
    assert_true(s.seconds >= 0.2 && s.waited >= 0.1 && s.waited <= s.seconds - 0.1);
    sid2_watch_expect(w, "gathering", 5);
    rest(0.1);
    sid2_watch_sight later = sid2_watch_look(w);
    assert_string_equal(later.waits_for, "rank 5 in gathering");
    assert_true(later.waited >= s.waited + 0.1); /* while it still does */
    sid2_watch_end(w);
    assert_string_equal(sid2_watch_look(NULL).doing, "");
    assert_int_equal(h.count, 0);
}

/* Ten medians where that is more. The first step has what the preparation has. */
static void test_median(void **state)
{
    (void)state;
    heard h;
    sid2_watch *w = begin("step=0.1,prepare=5", &h);
    for (uint64_t step = 1; step <= 5; step++) {
        sid2_watch_enter(w, SID2_PHASE_STEP, step);
        rest(step == 3 ? 0.3 : 0.15);
    }
    double began = sid2_clock();
    sid2_watch_enter(w, SID2_PHASE_STEP, 6);
    double after = heard_after(&h, began);
    assert_true(after >= 1.5 && after < 4);
    sid2_watch_end(w);
}

static void test_bad_deadlines(void **state)
{
    (void)state;
    static const char *const bad[] = {"",        "step",    "step=",   "step=0",       "step=-1",  "step=1x",
                                      "nap=3",   "step=1,", "=3",      "step=nan",     "step=inf", "idle=3",
                                      "steps=3", "st=3",    "join=1 ", "step=1;join=2"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        heard h = {0};
        sid2_error err = {0};
        setenv("SID2_DEADLINES", bad[i], 1);
        assert_null(sid2_watch_begin(&place, hear, &h, &err));
        assert_int_equal(err.code, SID2_ERR_USAGE);
        assert_non_null(strstr(err.message, "SID2_DEADLINES"));
    }
    unsetenv("SID2_DEADLINES");
    heard h = {0};
    sid2_watch *w = sid2_watch_begin(&place, hear, &h, NULL);
    assert_non_null(w);
    sid2_watch_enter(w, SID2_PHASE_STEP, 1);
    sid2_watch_end(w);
    sid2_watch_enter(NULL, SID2_PHASE_STEP, 1);
    sid2_watch_expect(NULL, "nothing", 0);
    sid2_watch_end(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_breach),  cmocka_unit_test(test_other_phases),
        cmocka_unit_test(test_in_time), cmocka_unit_test(test_sight),
        cmocka_unit_test(test_median),  cmocka_unit_test(test_bad_deadlines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
