/* Ranks over NCCL without a GPU: cuda/nccl.c over a CUDA and a NCCL that live on the host (fake_cuda.h, fake_nccl.h). Each
 * rank is a process. */
#include "environment_support.h"
#include "group_scenarios.h"
#include "nccl_ranks.h"

#include <signal.h>

static const char *play_all(sid2_group *group, sid2_device *device, sid2_place *place)
{
    const char *wrong = NULL;
    (void)place;
    grain = 8;
    for (int s = 0; !wrong && s < SCENARIOS; s++) {
        if (scenarios[s] == large) continue;
        wrong = play(group, device, s);
    }
    return wrong;
}

static const char *play_large(sid2_group *group, sid2_device *device, sid2_place *place)
{
    (void)place;
    return large(group, device, 1);
}

static void test_scenarios(void **state) { (void)state, all_fine(play_all, 8); }
static void test_large(void **state) { (void)state, all_fine(play_large, 2); }

/* ---- The device's own work ---- */

/* Sums of what the device has only just been given, and work that follows them at once: the one waits for the other, and
 * nobody on the host. */
static const char *between_programs(sid2_group *group, sid2_device *device, sid2_place *place)
{
    enum { COUNT = 4096 };
    float values[COUNT];
    sid2_buffer *b = sid2_buffer_create(device, sizeof values, NULL);
    bool ok = b;
    for (int turn = 0; ok && turn < 20; turn++) {
        for (int i = 0; i < COUNT; i++) values[i] = (float)(turn + i + place->rank);
        ok = sid2_buffer_upload(b, 0, values, sizeof values, NULL) &&
             sid2_group_sum(group, b, (sid2_span){0, COUNT}, 16, turn % 2, NULL) &&
             sid2_group_spread_buffers(group, &(sid2_parted){b, sizeof *values, NULL, NULL}, 1,
                                       (sid2_span){0, COUNT}, 16, NULL) &&
             sid2_group_finish(group, NULL) && sid2_buffer_download(b, 0, values, sizeof values, NULL);
        for (int i = 0; ok && i < COUNT; i++) {
            float sum = 0;
            for (int r = 0; r < place->ranks; r++) sum += rounded((float)(turn + i + r), turn % 2);
            if (values[i] != sum) return "a sum took what was not yet, or no longer, there";
        }
    }
    sid2_buffer_destroy(b);
    return ok ? NULL : "a call failed";
}

static void test_between_programs(void **state) { (void)state, all_fine(between_programs, 2); }

/* ---- Faults ---- */

static int fault;

static const char *suffer(sid2_group *group, sid2_device *device, sid2_place *place)
{
    static const char *const says[][2] = {
        [FAKE_NCCL_ERROR] = {"has not answered", "remote process exited"},
        [FAKE_NCCL_NEVER] = {"rank 1 has not answered", "rank 0 has not answered"},
        [FAKE_NCCL_GONE] = {"rank 1 has not answered", ""}};
    static sid2_error err;
    uint32_t flags = 0;
    bool ok = true;
    if (place->rank == 1) nccl_here = (fake_nccl){.fault = fault, .at = 3, .version = nccl_here.version};
    for (int i = 0; ok && i < 5; i++) ok = sid2_group_agree(group, &flags, &err);
    if (ok || err.code != SID2_ERR_LOST) return "it was no loss";
    if (!strstr(err.message, says[fault][place->rank])) return err.message;
    sid2_group_leave(group, false);
    (void)device;
    _exit(75);
}

static void test_faults(void **state)
{
    (void)state;
    patience = 2;
    for (fault = FAKE_NCCL_ERROR; fault <= FAKE_NCCL_GONE; fault++) {
        int code[SCENARIO_RANKS];
        as_processes(suffer, 2, code);
        assert_int_equal(code[0], 75);
        assert_int_equal(code[1], fault == FAKE_NCCL_GONE ? 128 + SIGKILL : 75);
    }
}

static const char *say_more(sid2_group *group, sid2_device *device, sid2_place *place)
{
    static sid2_error err;
    uint64_t words[40] = {0};
    (void)device;
    if (sid2_group_gather(group, words, place->rank ? 8 : 16, &err)) return "unequal counts were not seen";
    if (!strstr(err.message, "rank 0 sent 16 bytes, rank 1 expects 8") &&
        !strstr(err.message, "rank 1 sent 8 bytes, rank 0 expects 16"))
        return err.message;
    _exit(75);
}

static void test_unequal(void **state)
{
    (void)state;
    int code[SCENARIO_RANKS];
    as_processes(say_more, 2, code);
    assert_int_equal(code[0], 75);
    assert_int_equal(code[1], 75);
}

/* A range in the middle of 16 bytes is refused, not read wrongly. */
static const char *misplace(sid2_group *group, sid2_device *device, sid2_place *place)
{
    static sid2_error err;
    sid2_buffer *b = sid2_buffer_create(device, 400, NULL);
    (void)place;
    if (!b || sid2_group_sum(group, b, (sid2_span){1, 80}, 3, false, &err)) return "it was taken";
    if (err.code != SID2_ERR_INTERNAL || !strstr(err.message, "16 bytes")) return err.message;
    _exit(75);
}

static void test_misplaced(void **state)
{
    (void)state;
    int code[SCENARIO_RANKS];
    as_processes(misplace, 2, code);
    assert_int_equal(code[0], 75);
    assert_int_equal(code[1], 75);
}

static void test_versions(void **state)
{
    (void)state;
    static const struct {
        int version;
        const char *says; /* NULL: it is taken */
    } cases[] = {
        {0, "libnccl.so.2 not found"}, {21703, "NCCL 2.17.3"}, {21800, NULL}, {22809, NULL}, {23203, NULL},
        {30000, "NCCL 3.0.0"}};
    int before = nccl_here.version;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char why[200] = "";
        nccl_here.version = cases[i].version;
        assert_int_equal(sid2_nccl_there(why, sizeof why), !cases[i].says);
        if (cases[i].says) assert_non_null(strstr(why, cases[i].says));
    }
    nccl_here.version = before;
    assert_string_equal(sid2_nccl_transport.version(), "NCCL 2.28.9");
}

/* ---- Where ranks meet ---- */

static const char *const variables[] = {"NCCL_COMM_ID",        "MASTER_ADDR",   "MASTER_PORT",
                                        "SLURM_STEP_NODELIST", "SLURM_JOB_ID",  "SLURM_STEP_ID",
                                        "TORCHELASTIC_RUN_ID", "PMIX_NAMESPACE"};

/* In an environment "A=1 B=2". */
static bool root_in(const char *environment, int local_ranks, char root[300], sid2_error *err)
{
    set_environment(variables, sizeof variables / sizeof *variables, environment);
    const sid2_place place = {.ranks = 8, .local_ranks = local_ranks, .launcher = "Slurm"};
    bool ok = sid2_nccl_root(&place, root, err);
    for (size_t i = 0; i < sizeof variables / sizeof *variables; i++) unsetenv(variables[i]);
    return ok;
}

static void test_roots(void **state)
{
    (void)state;
    static const struct {
        const char *environment;
        int local_ranks;
        const char *host; /* with the colon */
    } cases[] = {{"NCCL_COMM_ID=10.0.0.1:999 MASTER_ADDR=a", 4, "10.0.0.1:"},
                 {"MASTER_ADDR=node1 MASTER_PORT=29500", 4, "node1:"},
                 {"MASTER_ADDR=fe80::1 MASTER_PORT=29500", 4, "[fe80::1]:"},
                 {"", 8, "127.0.0.1:"},
                 {"SLURM_STEP_NODELIST=node[01-04,7],b3 SLURM_JOB_ID=1", 4, "node01:"},
                 {"SLURM_STEP_NODELIST=gpu-[7,9-11]-ib SLURM_JOB_ID=1", 4, "gpu-7-ib:"},
                 {"SLURM_STEP_NODELIST=alpha,beta SLURM_JOB_ID=1", 4, "alpha:"},
                 {"SLURM_STEP_NODELIST=alpha SLURM_JOB_ID=1", 0, "alpha:"}};
    char root[300], other[300];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_true(root_in(cases[i].environment, cases[i].local_ranks, root, NULL));
        size_t length = strlen(cases[i].host);
        if (strncmp(root, cases[i].host, length) != 0) fail_msg("%s: %s", cases[i].environment, root);
        int port = atoi(root + length);
        if (i) assert_in_range(port, 20000, 29999);
        if (!i) assert_int_equal(port, 999);
    }
    /* One job, one port; another, another. */
    assert_true(root_in("MASTER_ADDR=a SLURM_JOB_ID=17", 4, root, NULL));
    assert_true(root_in("MASTER_ADDR=a SLURM_JOB_ID=17", 4, other, NULL));
    assert_string_equal(root, other);
    assert_true(root_in("MASTER_ADDR=a SLURM_JOB_ID=18", 4, other, NULL));
    assert_string_not_equal(root, other);
    sid2_error err = {0};
    assert_false(root_in("", 4, root, &err));
    assert_int_equal(err.code, SID2_ERR_USAGE);
    assert_non_null(strstr(err.message, "MASTER_ADDR"));
    assert_false(root_in("SLURM_STEP_NODELIST=", 4, root, &err));
}

/* Argument: only the tests of this name, with * as in a shell. */
int main(int argc, char **argv)
{
    if (argc > 1) cmocka_set_test_filter(argv[1]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scenarios),        cmocka_unit_test(test_large),
        cmocka_unit_test(test_between_programs), cmocka_unit_test(test_faults),
        cmocka_unit_test(test_unequal),          cmocka_unit_test(test_misplaced),
        cmocka_unit_test(test_versions),         cmocka_unit_test(test_roots),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
