/* What ranks say of themselves in the run's folder, and what is made of it. */
#include "thread_ranks.h"

#include "file.h"
#include "pulse.h"

#include <math.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[64];

static void breach(void *user, const char *line)
{
    (void)user;
    print_error("%s\n", line);
}

static void rest(long milliseconds) { nanosleep(&(struct timespec){0, 1000000 * milliseconds}, NULL); }

/* The first beat comes at once, the others are not waited for. */
static const char *read_all(int count, sid2_rank_status **all)
{
    int heard = 0;
    for (int i = 0, had = 0; i < 500 && heard < count; i++, heard = 0) {
        if (!sid2_pulse_read(folder, all, &had, NULL)) return "it cannot be read";
        for (int r = 0; r < had; r++) heard += !(*all)[r].silent;
        if (heard == count) return had == count ? NULL : "there are other ranks";
        free(*all);
        rest(10);
    }
    return "not all were heard of";
}

static const char *beat(sid2_group *group, sid2_device *device, const void *data)
{
    const bool *in_order = data;
    int rank = sid2_group_rank(group), ranks = sid2_group_ranks(group);
    sid2_watch *watch = sid2_watch_begin(sid2_group_place(group), breach, NULL, NULL);
    if (!sid2_group_attach(group, device, NULL)) return "its device is not taken";
    sid2_group_watch(group, watch);
    sid2_group_enter(group, SID2_PHASE_STEP, 100 + (uint64_t)rank);
    sid2_pulse *pulse = sid2_pulse_begin(folder, group, "a device");
    sid2_rank_status *all = NULL;
    const char *wrong = pulse ? read_all(ranks, &all) : "there is no pulse";
    for (int r = 0; !wrong && r < ranks; r++) {
        char doing[32];
        const sid2_rank_status *s = &all[r];
        snprintf(doing, sizeof doing, "step %d", 100 + r);
        if (s->rank != r || strcmp(s->host, "here") != 0 || strcmp(s->device, "a device") != 0 ||
            strcmp(s->doing, doing) != 0 || s->memory < 100000 || !(s->age < 20) || !(s->seconds >= 0))
            wrong = "a rank is told of otherwise than it is";
    }
    if (!wrong) free(all);
    double waits = sid2_pulse_waits(pulse);
    if (!wrong && sid2_group_queues(group) ? !isnan(waits) : !(waits >= 0 && waits <= 1))
        wrong = "it waits for another share than there is";
    sid2_error cause = {0};
    if (!sid2_group_concur(group, true, &cause)) wrong = "the others are gone"; /* all have looked */
    sid2_pulse_end(pulse, *in_order);
    sid2_group_watch(group, NULL);
    sid2_watch_end(watch);
    return wrong;
}

static void test_beats(void **state)
{
    (void)state;
    sid2_rank_status *all;
    int count;
    sid2_kind kind;
    char path[128];
    snprintf(path, sizeof path, "%s/ranks", folder);
    as_ranks(4, AT_HAND, beat, &(bool){true});
    as_ranks(2, QUEUED, beat, &(bool){true});
    assert_true(sid2_look(path, &kind, NULL));
    assert_int_equal(kind, SID2_ABSENT); /* nothing stays of those that are done */
    as_ranks(4, AT_HAND, beat, &(bool){false});
    assert_true(
        sid2_pulse_read(folder, &all, &count, NULL)); /* of those that are lost, what they said last */
    assert_int_equal(count, 4);
    free(all);
    char checkpoint[4096];
    assert_true(sid2_run_examine(folder, checkpoint, NULL)); /* where a run may begin anew */
    sid2_pulse_clear(folder);
    assert_true(sid2_pulse_read(folder, &all, &count, NULL));
    assert_int_equal(count, 0);
    assert_null(all);
    assert_null(sid2_pulse_begin(folder, NULL, "alone"));
    assert_true(isnan(sid2_pulse_waits(NULL)));
}

static void write_rank(const char *name, const char *text)
{
    char path[160];
    snprintf(path, sizeof path, "%s/ranks/%s", folder, name);
    assert_true(sid2_file_write(path, text, strlen(text), NULL));
}

/* One that is late, one that was never heard of, and what is no rank's at all. */
static void test_silent(void **state)
{
    (void)state;
    char text[256];
    sid2_rank_status *all;
    int count;
    const long ages[] = {0, 60};
    for (int r = 0; r < 2; r++) {
        char name[32];
        snprintf(text, sizeof text,
                 "{\"rank\": %d, \"ranks\": 5, \"host\": \"node%d\", \"doing\": \"step 9\", \"time\": %ld}",
                 r, r, (long)time(NULL) - ages[r]);
        snprintf(name, sizeof name, "%d.json", r);
        write_rank(name, text);
    }
    write_rank("3.json",
               "{\"ranks\": 4000000000, \"host\": 7, \"doing\": [], \"memory\": -1, \"time\": \"now\"}");
    write_rank("4.json", "{\"ranks\": 5, \"host\": \"");
    write_rank("0004.json", "{\"ranks\": 60000}");
    write_rank("99999999999.json", "{\"ranks\": 60000}");
    write_rank("notes.txt", "of others");
    assert_true(sid2_pulse_read(folder, &all, &count, NULL));
    assert_int_equal(count, 5);
    for (int r = 0; r < 5; r++) {
        assert_int_equal(all[r].rank, r);
        assert_int_equal(all[r].silent, r > 0);
    }
    assert_string_equal(all[1].host, "node1");
    assert_true(all[1].age >= 60 && all[1].age < 70);
    assert_true(isnan(all[2].age) && isnan(all[3].age) && isnan(all[4].age) && !all[3].memory &&
                !all[3].host[0]);
    free(all);
    sid2_pulse_clear(folder);
    sid2_list left;
    char path[128];
    snprintf(path, sizeof path, "%s/ranks", folder);
    assert_true(sid2_list_folder(&left, path, NULL, NULL));
    assert_int_equal(left.count, 3); /* what is no rank's stays */
    sid2_list_free(&left);
}

static int set_up(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/sid2-pulse-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    return sid2_remove_tree(folder, NULL) ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_beats), cmocka_unit_test(test_silent)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
