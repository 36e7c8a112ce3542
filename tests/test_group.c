/* Ranks that compute as one: sums against the tree that they are meant to be, and all else that they do together.
 * Alone, ranks are threads; started by an MPI, each process is one. */
#include "group.h"
#include "philox.h"
#include "transports.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

/* ---- A transport between threads: what a rank sends waits, copied, until its peer takes it ---- */

enum { MOST_RANKS = 16 };

typedef struct letter {
    struct letter *next;
    size_t bytes;
    char content[];
} letter;

typedef struct post {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    letter *box[MOST_RANKS][MOST_RANKS]; /* [from][to], the oldest first */
    int silent;                          /* a rank whose letters get lost; -1: none */
} post;

static post the_post = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER, .silent = -1};

static const char *post_version(void) { return "threads"; }

static void *post_join(const sid2_place *place, sid2_error *err)
{
    int *rank = malloc(sizeof *rank);
    if (!rank) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory"), NULL;
    *rank = place->rank;
    return rank;
}

static void send_letter(int from, const sid2_transfer *t)
{
    letter *l = malloc(sizeof *l + t->send_bytes), **end = &the_post.box[from][t->peer];
    l->next = NULL;
    l->bytes = t->send_bytes;
    memcpy(l->content, t->send, t->send_bytes);
    while (*end) end = &(*end)->next;
    if (from == the_post.silent)
        free(l);
    else
        *end = l;
    pthread_cond_broadcast(&the_post.changed);
}

static bool take_letter(int to, const sid2_transfer *t, const struct timespec *until, sid2_error *err)
{
    letter **box = &the_post.box[t->peer][to];
    while (!*box)
        if (pthread_cond_timedwait(&the_post.changed, &the_post.lock, until))
            return sid2_fail(err, SID2_ERR_LOST, "rank %d has not answered", t->peer);
    letter *l = *box;
    bool fits = l->bytes == t->receive_bytes;
    if (fits) memcpy(t->receive, l->content, l->bytes);
    *box = l->next;
    free(l);
    return fits || sid2_fail(err, SID2_ERR_INTERNAL, "rank %d sent other bytes than were expected", t->peer);
}

static bool post_exchange(void *self, const sid2_transfer *transfers, int count, double seconds,
                          sid2_error *err)
{
    int rank = *(int *)self;
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += (time_t)seconds;
    bool ok = true;
    pthread_mutex_lock(&the_post.lock);
    for (int i = 0; i < count; i++)
        if (transfers[i].send_bytes) send_letter(rank, &transfers[i]);
    for (int i = 0; ok && i < count; i++)
        if (transfers[i].receive_bytes) ok = take_letter(rank, &transfers[i], &until, err);
    pthread_mutex_unlock(&the_post.lock);
    return ok;
}

static void post_leave(void *self, bool in_order)
{
    (void)in_order;
    free(self);
}

static const sid2_transport threads = {"threads", post_version, post_join, post_exchange, post_leave};

/* ---- What a rank does; each returns what was wrong, or NULL ---- */

typedef const char *scenario(sid2_group *group, uint64_t number);

static float value(uint64_t number, int rank, int64_t i)
{
    sid2_philox_block block = sid2_philox(number, (uint64_t)i, (uint32_t)rank, 7);
    return (float)(int32_t)block.word[0] * (float)(block.word[1] % 1000);
}

/* The sum over `ranks` from `first`, in the tree. */
static float tree(uint64_t number, int first, int ranks, int64_t i)
{
    if (ranks == 1) return value(number, first, i);
    return tree(number, first, ranks / 2, i) + tree(number, first + ranks / 2, ranks / 2, i);
}

static const char *sums(sid2_group *group, uint64_t number)
{
    const sid2_place *place = sid2_group_place(group);
    sid2_philox_block draw = sid2_philox(number, 1, 2, 3);
    int64_t block = 1 + draw.word[0] % 50, count = draw.word[1] % 4000, covered = 0;
    float *values = malloc(((size_t)count + 1) * sizeof *values);
    for (int64_t i = 0; i < count; i++) values[i] = value(number, place->rank, i);
    const char *wrong = sid2_group_sum(group, values, count, block, NULL) ? NULL : "the sum failed";
    sid2_span own = sid2_group_part(group, place->rank, count, block);
    for (int64_t i = own.first; !wrong && i < own.first + own.count; i++)
        if (values[i] != tree(number, 0, place->ranks, i)) wrong = "a sum is not the tree's";
    for (int r = 0; r < place->ranks; r++) {
        sid2_span part = sid2_group_part(group, r, count, block);
        covered += part.count;
        if (part.count && part.first % block) wrong = "a part begins within a block";
    }
    if (covered != count) wrong = "the parts are not the whole";
    if (!wrong && !sid2_group_spread(group, values, sizeof *values, count, block, NULL))
        wrong = "spread failed";
    for (int64_t i = 0; !wrong && i < count; i++)
        if (values[i] != tree(number, 0, place->ranks, i)) wrong = "spread brought something else";
    free(values);
    return wrong;
}

static const char *words(sid2_group *group, uint64_t number)
{
    const sid2_place *place = sid2_group_place(group);
    uint64_t all[MOST_RANKS] = {0}, told = place->rank ? 0 : number;
    uint32_t flags = 1u << place->rank;
    all[place->rank] = number + (uint64_t)place->rank;
    if (!sid2_group_gather(group, all, sizeof *all, NULL) ||
        !sid2_group_share(group, &told, sizeof told, NULL) || !sid2_group_agree(group, &flags, NULL))
        return "a call failed";
    for (int r = 0; r < place->ranks; r++)
        if (all[r] != number + (uint64_t)r) return "gather brought something else";
    if (flags != (1u << place->ranks) - 1) return "a flag got lost";
    return told == number ? NULL : "share brought something else";
}

/* More than a piece (core/group.c), and unequal halves. */
static const char *large(sid2_group *group, uint64_t number)
{
    const sid2_place *place = sid2_group_place(group);
    int64_t count = (3 << 20) + 12345, block = 16384;
    float *values = malloc((size_t)count * sizeof *values);
    for (int64_t i = 0; i < count; i++) values[i] = (float)(i % 1000 + place->rank);
    const char *wrong = sid2_group_sum(group, values, count, block, NULL) &&
                                sid2_group_spread(group, values, sizeof *values, count, block, NULL)
                            ? NULL
                            : "a call failed";
    int p = place->ranks;
    for (int64_t i = 0; !wrong && i < count; i++)
        if (values[i] != (float)(p * (i % 1000) + p * (p - 1) / 2)) wrong = "a sum is wrong";
    double expected = 8.0 * (double)count * (p - 1) / p, sent = (double)sid2_group_sent(group);
    if (!wrong && (sent < 0.98 * expected || sent > 1.02 * expected))
        wrong = "more or fewer bytes than planned";
    free(values);
    (void)number;
    return wrong;
}

static scenario *const scenarios[] = {sums, words, large};
static const int rounds[] = {40, 10, 1};

static const char *play(sid2_group *group, int s)
{
    const char *wrong = NULL;
    for (int i = 0; !wrong && i < rounds[s]; i++) wrong = scenarios[s](group, 100 + (uint64_t)i);
    return wrong;
}

/* ---- Ranks that are threads ---- */

typedef struct actor {
    pthread_t thread;
    sid2_place place;
    int scenario;
    const char *wrong;
    sid2_error error;
} actor;

static void *act(void *data)
{
    actor *a = data;
    sid2_group *group = sid2_group_join(&threads, &a->place, 5, &a->error);
    a->wrong = group ? play(group, a->scenario) : "joining failed";
    sid2_group_leave(group, true);
    return NULL;
}

static void as_threads(int s)
{
    for (int ranks = 1; ranks <= MOST_RANKS; ranks *= 2) {
        actor actors[MOST_RANKS] = {{0}};
        for (int r = 0; r < ranks; r++) {
            actors[r].place = (sid2_place){.rank = r, .ranks = ranks};
            actors[r].scenario = s;
            assert_int_equal(pthread_create(&actors[r].thread, NULL, act, &actors[r]), 0);
        }
        for (int r = 0; r < ranks; r++) {
            pthread_join(actors[r].thread, NULL);
            if (actors[r].wrong) fail_msg("rank %d of %d: %s", r, ranks, actors[r].wrong);
        }
    }
}

static void test_sums(void **state) { (void)state, as_threads(0); }
static void test_words(void **state) { (void)state, as_threads(1); }
static void test_large(void **state) { (void)state, as_threads(2); }

static void *be_left_alone(void *data)
{
    actor *a = data;
    sid2_group *group = sid2_group_join(&threads, &a->place, 1, &a->error);
    uint32_t flags = 0;
    if (sid2_group_agree(group, &flags, &a->error)) a->wrong = "nobody answered, and it was no error";
    sid2_group_leave(group, false);
    return NULL;
}

static void test_silence(void **state)
{
    (void)state;
    the_post.silent = 1;
    actor a = {.place = {.rank = 0, .ranks = 2}};
    be_left_alone(&a);
    the_post.silent = -1;
    assert_null(a.wrong);
    assert_int_equal(a.error.code, SID2_ERR_LOST);
    assert_non_null(strstr(a.error.message, "rank 1"));
}

static void test_no_power_of_two(void **state)
{
    (void)state;
    sid2_error err;
    assert_null(sid2_group_join(&threads, &(sid2_place){.ranks = 6}, 1, &err));
    assert_int_equal(err.code, SID2_ERR_USAGE);
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
    char text[200], *rest = text;
    for (size_t i = 0; i < sizeof variables / sizeof *variables; i++) unsetenv(variables[i]);
    snprintf(text, sizeof text, "%s", environment);
    for (char *one; (one = strsep(&rest, " "));)
        if (strchr(one, '=')) {
            *strchr(one, '=') = 0;
            setenv(one, one + strlen(one) + 1, 1);
        }
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
    const sid2_transport *transport = sid2_transport_open(place, &err);
    sid2_group *group = transport ? sid2_group_join(transport, place, 60, &err) : NULL;
    if (!group) return complain(place, err.message);
    const char *wrong = NULL;
    for (int s = 2; !wrong && s >= 0; s--) wrong = play(group, s); /* the largest first: it counts bytes */
    if (wrong) return complain(place, wrong);
    if (!place->rank) printf("%d ranks, %s: fine\n", place->ranks, transport->version());
    sid2_group_leave(group, true);
    return 0;
}

int main(void)
{
    sid2_place place;
    sid2_error err;
    if (!sid2_place_find(&place, &err)) return fprintf(stderr, "%s\n", err.message), 1;
    if (place.ranks > 1) return as_rank(&place);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sums),    cmocka_unit_test(test_words),           cmocka_unit_test(test_large),
        cmocka_unit_test(test_silence), cmocka_unit_test(test_no_power_of_two), cmocka_unit_test(test_places),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
