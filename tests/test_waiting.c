/* How OpenMP's threads wait: briefly while something else wants the cores, as before when it is gone. */
#include "waiting.h"

#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>

#include <cmocka.h>

static atomic_bool rival_runs;

static void *rival(void *data)
{
    while (atomic_load(&rival_runs)) {
    }
    return data;
}

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static bool becomes_brief(sid2_cpu_waiting *w, bool brief, double limit)
{
    for (double end = seconds() + limit; seconds() < end && sid2_cpu_waiting_is_brief(w) != brief;)
        sid2_cpu_waiting_adapt(w);
    return sid2_cpu_waiting_is_brief(w) == brief;
}

static void test_user_knows_better(void **state)
{
    (void)state;
    static const char *const names[] = {"GOMP_SPINCOUNT", "KMP_BLOCKTIME", "OMP_WAIT_POLICY"};
    for (int i = 0; i < 3; i++) {
        setenv(names[i], "1", 1);
        assert_null(sid2_cpu_waiting_start(2));
        unsetenv(names[i]);
    }
    assert_null(sid2_cpu_waiting_start(1));
    sid2_cpu_waiting_adapt(NULL);
    sid2_cpu_waiting_stop(NULL);
}

/* A thread of our own takes the only core away, at every slice. */
static void test_rival(void **state)
{
    (void)state;
    cpu_set_t all, one;
    assert_int_equal(sched_getaffinity(0, sizeof all, &all), 0);
    CPU_ZERO(&one);
    CPU_SET(sched_getcpu(), &one);
    sid2_cpu_waiting *w = sid2_cpu_waiting_start(2);
    assert_non_null(w);
    if (sched_setaffinity(0, sizeof one, &one) != 0) skip();
    pthread_t thread;
    atomic_store(&rival_runs, true);
    assert_int_equal(pthread_create(&thread, NULL, rival, NULL), 0);
    bool brief = becomes_brief(w, true, 20);
    atomic_store(&rival_runs, false);
    pthread_join(thread, NULL);
    sched_setaffinity(0, sizeof all, &all);
    struct rusage usage;
    if (!brief && getrusage(RUSAGE_SELF, &usage) == 0 && usage.ru_nivcsw < 100)
        skip(); /* nothing is counted here */
    assert_true(brief);
    /* Back again takes a quiet machine, which this one may not be. */
    becomes_brief(w, false, 5);
    sid2_cpu_waiting_stop(w);
}

int main(void)
{
    unsetenv("GOMP_SPINCOUNT");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_user_knows_better),
        cmocka_unit_test(test_rival),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
