/* Teams of threads: everyone does a part, work is taken piece by piece, the first error wins, nobody spins. */
#include "team.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include <cmocka.h>

enum { SIZE = 5, PIECES = 1000 };

static sid2_error err;

typedef struct job {
    sid2_team *team;
    int parts[SIZE];       /* each member's alone: what it wrote is there after the run */
    int taken[PIECES + 8]; /* by whom; a piece is one member's */
    int fails;             /* number of the member that fails at once; the others wait until that is seen */
} job;

static bool take_pieces(void *data, int member, sid2_error *error)
{
    job *j = data;
    (void)error;
    j->parts[member]++;
    for (int64_t i; (i = sid2_team_next(j->team)) < PIECES;) j->taken[i] += member + 1;
    return true;
}

static void every_member_and_every_piece(void **state)
{
    (void)state;
    for (int size = 1; size <= SIZE; size++) {
        job j = {.team = sid2_team_create(size, &err)};
        assert_non_null(j.team);
        for (int round = 1; round <= 200; round++) {
            memset(j.taken, 0, sizeof j.taken);
            assert_true(sid2_team_run(j.team, take_pieces, &j, &err));
            for (int i = 0; i < SIZE; i++) assert_int_equal(j.parts[i], i < size ? round : 0);
            for (int i = 0; i < PIECES; i++) assert_in_range(j.taken[i], 1, size);
            assert_int_equal(j.taken[PIECES], 0);
        }
        sid2_team_destroy(j.team);
    }
    sid2_team_destroy(NULL);
}

static bool fail_one(void *data, int member, sid2_error *error)
{
    job *j = data;
    if (member == j->fails) return sid2_fail(error, SID2_ERR_IO, "member %d", member);
    while (!sid2_team_failed(j->team)) {
        struct timespec pause = {.tv_nsec = 100000};
        nanosleep(&pause, NULL);
    }
    return sid2_fail(error, SID2_ERR_INTERNAL, "member %d, later", member);
}

static void the_first_error_wins(void **state)
{
    (void)state;
    job j = {.team = sid2_team_create(SIZE, &err)};
    assert_non_null(j.team);
    for (j.fails = 0; j.fails < SIZE; j.fails++) {
        char line[32];
        snprintf(line, sizeof line, "member %d", j.fails);
        err = (sid2_error){0};
        assert_false(sid2_team_run(j.team, fail_one, &j, &err));
        assert_int_equal(err.code, SID2_ERR_IO);
        assert_string_equal(err.message, line);
        assert_false(sid2_team_run(j.team, fail_one, &j, NULL));
        /* It goes on after that. */
        assert_true(sid2_team_run(j.team, take_pieces, &j, &err));
        assert_false(sid2_team_failed(j.team));
    }
    sid2_team_destroy(j.team);
}

static bool linger(void *data, int member, sid2_error *error)
{
    (void)data;
    (void)error;
    struct timespec pause = {.tv_nsec = 200000000};
    if (member == 2) nanosleep(&pause, NULL);
    return true;
}

static double processor_seconds(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           1e-6 * (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

/* While one works, and between runs, the others sleep. */
static void waiting_costs_nothing(void **state)
{
    (void)state;
    sid2_team *team = sid2_team_create(SIZE, &err);
    assert_non_null(team);
    double before = processor_seconds();
    for (int i = 0; i < 3; i++) assert_true(sid2_team_run(team, linger, NULL, &err));
    assert_true(processor_seconds() - before < 0.2); /* of 0.6 s, times five */
    sid2_team_destroy(team);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_member_and_every_piece),
                                       cmocka_unit_test(the_first_error_wins),
                                       cmocka_unit_test(waiting_costs_nothing)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
