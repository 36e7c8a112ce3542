/* Ranks that compute as one: sums against the tree that they are meant to be, and all else that they do together.
 * Alone, ranks are threads; started by an MPI, each process is one. */
#include "environment_support.h"
#include "file.h"
#include "group_scenarios.h"
#include "thread_ranks.h"
#include "transports.h"
#include "watch.h"

#include <unistd.h>

/* ---- Ranks that are threads ---- */

static const char *act(sid2_group *group, sid2_device *device, const void *number)
{
    return play(group, device, *(const int *)number);
}

static void as_threads_by(int s, int way)
{
    for (int ranks = s < FIRST_OF_SEVERAL ? 1 : 2; ranks <= MOST_RANKS; ranks *= 2)
        as_ranks(ranks, way, act, &s);
}

static void as_threads(int s)
{
    for (int way = 0; way < WAYS; way++) as_threads_by(s, way);
}

/* One process without a group. */
static void test_alone(void **state)
{
    (void)state;
    sid2_device *device = open_device_of(false);
    for (int s = 0; s < FIRST_OF_SEVERAL; s++) {
        if (scenarios[s] == words) continue; /* whose errors are of ranks */
        const char *wrong = play(NULL, device, s);
        if (wrong) fail_msg("%s", wrong);
    }
    sid2_error err = {0};
    assert_true(sid2_group_concur(NULL, true, &err));
    assert_false(sid2_group_concur(NULL, false, &err));
    assert_int_equal(sid2_group_place(NULL)->ranks, 1);
    sid2_device_close(device);
}

static void test_sums(void **state) { (void)state, as_threads(0); }
static void test_words(void **state) { (void)state, as_threads_by(1, AT_HAND); }
static void test_large(void **state) { (void)state, as_threads(2); }
static void test_mixed(void **state) { (void)state, as_threads_by(3, AT_HAND); }
static void test_folders(void **state) { (void)state, as_threads_by(4, AT_HAND); }

static void test_silence(void **state)
{
    (void)state;
    uint32_t flags = 0;
    sid2_error err = {0};
    the_post.silent = 1;
    sid2_group *group = sid2_group_join(&threads, &(sid2_place){.rank = 0, .ranks = 2}, 1, &err);
    assert_false(sid2_group_agree(group, &flags, &err));
    sid2_group_leave(group, false);
    the_post.silent = -1;
    assert_int_equal(err.code, SID2_ERR_LOST);
    assert_non_null(strstr(err.message, "rank 1"));
}

/* Numbers of ranks that have no tree: everything else goes, and sums are the library's. */
static const char *odd(sid2_group *group, sid2_device *device, const void *data)
{
    (void)data;
    int rank = sid2_group_rank(group), ranks = sid2_group_ranks(group);
    if (sid2_group_may_be_exact(group) || !sid2_group_is_fast(group))
        return "an order for a number that has none";
    if (!sid2_group_attach(group, device, NULL)) return "no device";
    const char *wrong = words(group, device, 77);
    int64_t count = 1000, block = 7, largest = rank == 1 ? 12 : -rank;
    float values[1000];
    for (int64_t i = 0; i < count; i++) values[i] = (float)(i % 100 + rank);
    if (!sum_and_spread(group, device, values, count, (sid2_span){100, 800}, block, false))
        return "a call failed";
    for (int64_t i = 0; i < count; i++) {
        bool inside = i >= 100 && i < 900;
        float expected = (float)(inside ? ranks * (i % 100) + ranks * (ranks - 1) / 2 : i % 100 + rank);
        if (values[i] != expected) wrong = "a sum is wrong";
    }
    if (!sid2_group_largest(group, &largest, NULL) || largest != 12) wrong = "another number is the largest";
    return wrong;
}

static void test_no_power_of_two(void **state)
{
    (void)state;
    for (int ranks = 3; ranks <= 7; ranks++)
        for (int way = AT_HAND; ranks != 4 && way <= COPIED; way++) as_ranks(ranks, way, odd, NULL);
}

/* ---- Places ---- */

static const char *const variables[] = {"SID2_RANKS",
                                        "SID2_RANK",
                                        "SID2_LOCAL_RANK",
                                        "SID2_LOCAL_RANKS",
                                        "WORLD_SIZE",
                                        "RANK",
                                        "LOCAL_RANK",
                                        "LOCAL_WORLD_SIZE",
                                        "OMPI_COMM_WORLD_SIZE",
                                        "OMPI_COMM_WORLD_RANK",
                                        "OMPI_COMM_WORLD_LOCAL_RANK",
                                        "OMPI_COMM_WORLD_LOCAL_SIZE",
                                        "PMI_SIZE",
                                        "PMI_RANK",
                                        "MPI_LOCALRANKID",
                                        "MPI_LOCALNRANKS",
                                        "SLURM_STEP_NUM_TASKS",
                                        "SLURM_PROCID",
                                        "SLURM_LOCALID"};

/* "A=1 B=2" */
static bool place_in(const char *environment, sid2_place *place, sid2_error *err)
{
    set_environment(variables, sizeof variables / sizeof *variables, environment);
    return sid2_place_find(place, err);
}

static void test_places(void **state)
{
    (void)state;
    static const struct {
        const char *environment, *launcher;
        int rank, ranks, local_rank, local_ranks;
    } good[] = {
        {"", "", 0, 1, 0, 1},
        {"WORLD_SIZE=1 RANK=0", "", 0, 1, 0, 1},
        {"RANK=3", "", 0, 1, 0, 1},
        {"WORLD_SIZE=8 RANK=5 LOCAL_RANK=1 LOCAL_WORLD_SIZE=4", "torchrun", 5, 8, 1, 4},
        {"WORLD_SIZE=8 RANK=0", "torchrun", 0, 8, 0, 0},
        {"SLURM_STEP_NUM_TASKS=16 SLURM_PROCID=15 SLURM_LOCALID=7", "Slurm", 15, 16, 7, 0},
        {"SLURM_NTASKS=16 SLURM_PROCID=0", "", 0, 1, 0, 1}, /* a batch script */
        {"SLURM_STEP_NUM_TASKS=1 SLURM_PROCID=0 OMPI_COMM_WORLD_SIZE=4 OMPI_COMM_WORLD_RANK=2", "Open MPI", 2,
         4, 0, 0},
        {"PMI_SIZE=2 PMI_RANK=1 MPI_LOCALRANKID=1 MPI_LOCALNRANKS=2", "MPICH", 1, 2, 1, 2},
    };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        sid2_place p;
        assert_true(place_in(good[i].environment, &p, NULL));
        assert_string_equal(p.launcher, good[i].launcher);
        assert_int_equal(p.rank, good[i].rank);
        assert_int_equal(p.ranks, good[i].ranks);
        assert_int_equal(p.local_rank, good[i].local_rank);
        assert_int_equal(p.local_ranks, good[i].local_ranks);
        assert_true(p.host[0]);
    }
    static const char *const bad[][2] = {{"WORLD_SIZE=4", "RANK is not set"},
                                         {"WORLD_SIZE=4 RANK=4", "RANK=4"},
                                         {"WORLD_SIZE=4 RANK=-1", "RANK=-1"},
                                         {"WORLD_SIZE=4 RANK=two", "RANK=two"},
                                         {"WORLD_SIZE=many RANK=0", "WORLD_SIZE=many"},
                                         {"PMI_SIZE=0 PMI_RANK=0", "PMI_SIZE=0"},
                                         {"WORLD_SIZE=99999999999999999999 RANK=0", "WORLD_SIZE=9999"},
                                         {"WORLD_SIZE=2 RANK=0 LOCAL_RANK=2", "LOCAL_RANK=2"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        sid2_place p;
        sid2_error err = {0};
        assert_false(place_in(bad[i][0], &p, &err));
        assert_int_equal(err.code, SID2_ERR_USAGE);
        assert_non_null(strstr(err.message, bad[i][1]));
    }
    place_in("", &(sid2_place){0}, NULL);
}

/* ---- Ranks that are processes ---- */

static int complain(const sid2_place *place, const char *what)
{
    fprintf(stderr, "rank %d of %d: %s\n", place->rank, place->ranks, what);
    return 1;
}

static int as_rank(const sid2_place *place)
{
    sid2_error err = {0};
    const sid2_transport *transport = sid2_transport_open(place, NULL, &err);
    sid2_group *group = transport ? sid2_group_join(transport, place, 60, &err) : NULL;
    if (!group) return complain(place, err.message);
    sid2_device *device = open_device_of(false);
    const char *wrong = device ? NULL : "no device";
    for (int s = 0; !wrong && s < SCENARIOS; s++) wrong = play(group, device, s);
    if (wrong) return complain(place, wrong);
    if (!place->rank) printf("%d ranks, %s: fine\n", place->ranks, transport->version());
    sid2_group_leave(group, true);
    sid2_device_close(device);
    return 0;
}

int main(void)
{
    sid2_place place;
    sid2_error err;
    prepare_devices();
    if (!sid2_place_find(&place, &err)) return fprintf(stderr, "%s\n", err.message), 1;
    if (place.ranks > 1) return as_rank(&place);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_alone),
        cmocka_unit_test(test_sums),
        cmocka_unit_test(test_words),
        cmocka_unit_test(test_large),
        cmocka_unit_test(test_mixed),
        cmocka_unit_test(test_folders),
        cmocka_unit_test(test_silence),
        cmocka_unit_test(test_no_power_of_two), /* silence leaves letters behind */
        cmocka_unit_test(test_places),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
