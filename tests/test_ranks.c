/* Training by ranks: whatever their number, the same bits; and what one of them meets, all know. */
#include "thread_ranks.h"

#include "file.h"
#include "model_support.h"

#include <unistd.h>

enum { BATCH = 16 };

static char folder[64];

/* Large enough that eight ranks have something to hold. */
#define RANKED(...)                                                                                          \
    TINY("model.channels=32,64", "model.mid_depth=2", "model.head_dim=16", "train.batch=16",                 \
         "train.microbatch=2", "train.lanes=8", "model.dropout=0.1", __VA_ARGS__)

/* ---- What ranks do ---- */

typedef struct task {
    const sid2_config *config;
    int steps;
    const char *from, *to; /* checkpoints; NULL: none */
    const char *folder;
} task;

static const char *complaint(sid2_error *cause)
{
    char *text = strdup(cause->message); /* for the end of the test */
    return text ? text : "out of memory";
}

/* A step on this rank's pictures of the batch. */
static bool step(sid2_trainer *t, sid2_error *error)
{
    enum { BYTES = 64, CLASSES = 3 };
    uint8_t pixels[BATCH * BYTES];
    int32_t labels[BATCH];
    int count = BATCH / sid2_group_ranks(t->group);
    make_images(pixels, labels, count, BYTES, CLASSES,
                sid2_trainer_images(t) + (uint64_t)(count * sid2_group_rank(t->group)));
    return sid2_trainer_step(t, pixels, labels, error);
}

static sid2_trainer *make(sid2_group *group, sid2_device *device, const sid2_config *config,
                          sid2_error *error)
{
    sid2_recipe recipe = sid2_recipe_of(config);
    return sid2_trainer_create_recipe(device, config, &recipe, 0, group, error);
}

static const char *train(sid2_group *group, sid2_device *device, const void *data)
{
    const task *j = data;
    sid2_error cause = {0};
    sid2_trainer *t = make(group, device, j->config, &cause);
    bool ok = t && (!j->from || sid2_trainer_resume(t, j->from, &cause));
    for (int i = 0; ok && i < j->steps; i++) ok = step(t, &cause);
    ok = ok && (!j->to || sid2_trainer_save(t, j->to, &cause));
    sid2_trainer_destroy(t);
    return ok ? NULL : complaint(&cause);
}

static void same_checkpoint(const char *a, const char *b)
{
    sid2_list names;
    must(sid2_list_folder(&names, a, NULL, &err));
    assert_true(names.count >= 5);
    for (size_t i = 0; i < names.count; i++) {
        size_t size[2];
        uint8_t *one = sid2_file_read(path_in(a, names.name[i]), 0, &size[0], &err),
                *other = sid2_file_read(path_in(b, names.name[i]), 0, &size[1], &err);
        must(one && other);
        if (size[0] != size[1] || memcmp(one, other, size[0]) != 0)
            fail_msg("%s of %s and %s differ", names.name[i], a, b);
        free(one);
        free(other);
    }
    sid2_list_free(&names);
}

static void remove_all(const char *path) { must(sid2_remove_tree(path, &err)); }

/* ---- The promises ---- */

static const char *const precisions[] = {"train.precision=f32", "train.precision=bf16"};

/* 1, 2, 4 and 8 ranks, by each way that sums can take: files of checkpoints equal byte for byte. Of the last network
 * there is too little for all. */
static void number_changes_no_bit(void **state)
{
    (void)state;
    for (int p = 0; p < 3; p++) {
        sid2_config *config =
            p < 2 ? RANKED(precisions[p]) : RANKED("model.channels=8,16", "model.mid_depth=1");
        char alone[100], these[100];
        snprintf(alone, sizeof alone, "%s/alone", folder);
        snprintf(these, sizeof these, "%s/these", folder);
        task j = {.config = config, .steps = 6, .to = alone};
        as_ranks(1, AT_HAND, train, &j);
        j.to = these;
        for (int way = 0; way < WAYS; way++)
            for (int ranks = 2; ranks <= 8; ranks *= 2) {
                as_ranks(ranks, way, train, &j);
                same_checkpoint(alone, these);
                remove_all(these);
            }
        remove_all(alone);
        sid2_config_destroy(config);
    }
}

/* Saved by P ranks, resumed by Q. */
static void resuming_by_others_changes_no_bit(void **state)
{
    (void)state;
    sid2_config *config = RANKED("train.precision=bf16"),
                *narrow = RANKED("train.precision=bf16", "train.writers=1");
    char straight[100], first[100], second[100];
    snprintf(straight, sizeof straight, "%s/straight", folder);
    snprintf(first, sizeof first, "%s/first", folder);
    snprintf(second, sizeof second, "%s/second", folder);
    task whole = {.config = config, .steps = 4, .to = straight};
    as_ranks(1, AT_HAND, train, &whole);
    for (int p = 1; p <= 8; p *= 2) {
        task begin = {.config = config, .steps = 2, .to = first};
        as_ranks(p, AT_HAND, train, &begin);
        for (int q = 1; q <= 8; q *= 2) {
            task end = {.config = config, .steps = 2, .from = first, .to = second};
            as_ranks(q, AT_HAND, train, &end);
            same_checkpoint(straight, second);
            remove_all(second);
        }
        remove_all(first);
    }
    /* One writer: only the configuration tells. */
    task one = {.config = narrow, .steps = 4, .to = first};
    as_ranks(4, AT_HAND, train, &one);
    unlink(path_in(straight, "config.ini")), unlink(path_in(first, "config.ini"));
    unlink(path_in(straight, "state.json")), unlink(path_in(first, "state.json"));
    sid2_list left;
    must(sid2_list_folder(&left, straight, NULL, &err));
    assert_int_equal(left.count, 3);
    for (size_t i = 0; i < left.count; i++) {
        size_t size[2];
        uint8_t *a = sid2_file_read(path_in(straight, left.name[i]), 0, &size[0], &err),
                *b = sid2_file_read(path_in(first, left.name[i]), 0, &size[1], &err);
        must(a && b && size[0] == size[1]);
        assert_memory_equal(a, b, size[0]);
        free(a);
        free(b);
    }
    sid2_list_free(&left);
    remove_all(first);
    remove_all(straight);
    sid2_config_destroy(config);
    sid2_config_destroy(narrow);
}

static int make_folder(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/sid2-ranks-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int drop_folder(void **state)
{
    (void)state;
    return sid2_remove_tree(folder, NULL) ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(number_changes_no_bit),
        cmocka_unit_test(resuming_by_others_changes_no_bit),
    };
    return cmocka_run_group_tests(tests, make_folder, drop_folder);
}
