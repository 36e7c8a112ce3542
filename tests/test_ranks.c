/* Training by ranks: whatever their number, the same bits; and what one of them meets, all know. */
#include "thread_ranks.h"

#include "averages.h"
#include "checkpoint_support.h"
#include "file.h"

#include <unistd.h>

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
    enum { BYTES = 64, CLASSES = 3, MOST = 48 };
    uint8_t pixels[MOST * BYTES];
    int32_t labels[MOST];
    int count = (int)t->config.train_batch / sid2_group_ranks(t->group);
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
    char record[128];
    if (ok && j->to && j->config->train_averages) {
        snprintf(record, sizeof record, "%s/record.safetensors", j->to);
        ok = sid2_record_save(t, record, &cause);
    }
    sid2_trainer_destroy(t);
    return ok ? NULL : complaint(&cause);
}

static void remove_all(const char *path) { must(sid2_remove_tree(path, &err)); }

/* ---- The promises ---- */

static const char *const precisions[] = {"train.precision=f32", "train.precision=bf16"};

/* 1, 2, 4 and 8 ranks, by each way that sums can take: files of checkpoints, and records of averages, equal byte for byte. Of
 * the third network there is too little for all; the fourth is a student with a teacher and an auxiliary one beside it. */
static void number_changes_no_bit(void **state)
{
    (void)state;
    for (int p = 0; p < 4; p++) {
        sid2_config *config = p < 2    ? RANKED(precisions[p], "train.averages=8")
                              : p == 2 ? RANKED("model.channels=8,16", "model.mid_depth=1")
                                       : RANKED("distill.k=4", "model.mid_depth=1", "train.precision=bf16");
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

/* ---- What one rank meets ---- */

enum { NAN_IMAGE = 13, PARAM = 5 };

typedef struct trouble {
    const char *what; /* "loss", or an array in which one number is spoilt */
    float number;
    int rank;          /* whose */
    const char *words; /* in everybody's message; NULL: the step is stepped over */
} trouble;

static bool tell_spoilt(void *self, sid2_buffers *buffers, const sid2_step_input *step, int first,
                        float *logsnr, sid2_error *error)
{
    const float nan = NAN;
    if (!sid2_diffusion.tell(self, buffers, step, first, logsnr, error)) return false;
    sid2_buffer *time = sid2_buffers_find(buffers, "time");
    int count = (int)(time->bytes / sizeof nan);
    return step->step != 2 || NAN_IMAGE < first || NAN_IMAGE >= first + count ||
           sid2_buffer_upload(time, (size_t)(NAN_IMAGE - first) * sizeof nan, &nan, sizeof nan, error);
}

static void spoil(sid2_trainer *t, const trouble *x)
{
    if (sid2_group_rank(t->group) != x->rank || !strcmp(x->what, "loss")) return;
    sid2_buffer *buffer = sid2_buffers_find(&t->buffers, x->what);
    size_t at = (size_t)t->states[0].params->item[PARAM].offset * sizeof(float);
    float number;
    if (!sid2_buffer_download(buffer, at, &number, sizeof number, NULL)) abort();
    number = isnan(x->number) ? x->number : number + x->number;
    if (!sid2_buffer_upload(buffer, at, &number, sizeof number, NULL)) abort();
}

/* Two good steps, and what the third comes to. */
static const char *meet_trouble(sid2_group *group, sid2_device *device, const void *data)
{
    const trouble *x = data;
    sid2_error cause = {0};
    sid2_objective spoilt = sid2_diffusion;
    char skip[64], log[64];
    snprintf(skip, sizeof skip, "train.skip_bad_steps=%d", !x->words);
    snprintf(log, sizeof log, "train.log_every=%d", 3);
    sid2_config *config = RANKED(skip, log);
    sid2_recipe recipe = sid2_recipe_of(config);
    spoilt.tell = !strcmp(x->what, "loss") ? tell_spoilt : sid2_diffusion.tell;
    recipe.objectives[0] = &spoilt;
    sid2_trainer *t = sid2_trainer_create_recipe(device, config, &recipe, 0, group, &cause);
    bool ok = t && step(t, &cause) && step(t, &cause);
    if (ok) spoil(t, x);
    bool third = ok && step(t, &cause), fourth = third && step(t, &cause);
    const char *wrong = NULL;
    if (!ok || (!x->words && !fourth))
        wrong = complaint(&cause);
    else if (x->words && (third || !strstr(cause.message, x->words) || !strstr(cause.message, "step 3: ")))
        wrong = third ? "the step went through" : complaint(&cause);
    else if (!x->words && sid2_trainer_stats(t)->step != 4)
        wrong = "another step";
    else if (x->words && sid2_trainer_steps(t) != 2)
        wrong = "the bad step counts";
    else if (x->words && sid2_trainer_save(t, "/nonexistent/ranks", NULL))
        wrong = "it was saved";
    sid2_trainer_destroy(t);
    sid2_config_destroy(config);
    return wrong;
}

/* Wherever a NaN comes in, and on whatever rank, all stop at the same step, with one message; or step over it. */
static void all_know_of_a_nan(void **state)
{
    (void)state;
    char gradient[200], weight[200];
    sid2_config *config = RANKED("train.precision=f32");
    sid2_device *device = open_device("cpu");
    sid2_trainer *t = sid2_trainer_create(device, config, 0, &err);
    must(t);
    const char *name = t->states[0].params->item[PARAM].name;
    snprintf(gradient, sizeof gradient, "the gradient of %s is not finite", name);
    snprintf(weight, sizeof weight, "the weights of rank");
    for (int rank = 0; rank < 4; rank++) {
        const trouble troubles[] = {{"loss", NAN, rank, "the loss of image 13 of the batch is not finite"},
                                    {"loss", NAN, rank, NULL},
                                    {"grads", NAN, rank, gradient},
                                    {"grads", INFINITY, rank, gradient},
                                    {"grads", NAN, rank, NULL},
                                    {"weights", NAN, rank, weight}};
        for (size_t i = 0; i < sizeof troubles / sizeof *troubles; i++)
            as_ranks(4, AT_HAND, meet_trouble, &troubles[i]);
    }
    sid2_trainer_destroy(t);
    sid2_device_close(device);
    sid2_config_destroy(config);
}

/* A bit that one rank's memory loses: the step ends, and the message names the rank. */
static void a_lost_bit_is_found(void **state)
{
    (void)state;
    for (int rank = 0; rank < 4; rank++) {
        char words[100];
        snprintf(words, sizeof words, "the weights of rank %d on here are not those of 3 of 4 ranks", rank);
        const trouble flipped = {"weights", 1e-3f, rank, words};
        as_ranks(4, AT_HAND, meet_trouble, &flipped);
    }
}

/* ---- Bytes ---- */

static size_t bytes_of_buffer(const sid2_trainer *t, const char *name)
{
    const sid2_buffer *buffer = sid2_buffers_find(&t->buffers, name);
    return buffer ? buffer->bytes : 0;
}

/* In bf16 a rank holds 6 bytes of each parameter and 16 of those of its part; vectors once more. In f32, 8 and 12. */
static const char *count_bytes(sid2_group *group, sid2_device *device, const void *data)
{
    sid2_error cause = {0};
    sid2_trainer *t = make(group, device, data, &cause);
    if (!t) return complaint(&cause);
    bool low = t->config.train_precision == SID2_PRECISION_bf16;
    const sid2_state *state = &t->states[0];
    size_t all = (size_t)state->params->elements, own = (size_t)state->owned,
           vectors = 4 * (size_t)state->params->vector_elements,
           plan = t->training.params - (low ? 6 : 8) * all - vectors;
    size_t parts = bytes_of_buffer(t, "m") + bytes_of_buffer(t, "v") + bytes_of_buffer(t, "ema"),
           weights = bytes_of_buffer(t, "weights"), read = bytes_of_buffer(t, "weights_low");
    bool ok = bytes_of_buffer(t, "grads") == 4 * all && parts == 12 * own && (vectors > 0) == low &&
              bytes_of_buffer(t, "vectors") == vectors && weights == 4 * (low ? own : all) &&
              read == (low ? 2 * all : 0);
    /* Of the plan, the largest part of all. */
    int64_t most = (int64_t)own, sum[MOST_RANKS] = {0}, together = 0;
    sum[sid2_group_rank(group)] = most;
    ok = ok && sid2_group_gather(group, sum, sizeof *sum, &cause) && sid2_group_largest(group, &most, &cause);
    for (int r = 0; r < sid2_group_ranks(group); r++) together += sum[r];
    ok =
        ok && (size_t)together == all && (sid2_group_queues(group) || plan == (low ? 16 : 12) * (size_t)most);
    sid2_trainer_destroy(t);
    return ok ? NULL : "other bytes";
}

static void parts_are_held_once(void **state)
{
    (void)state;
    for (int p = 0; p < 2; p++) {
        sid2_config *config = RANKED(precisions[p]);
        for (int way = 0; way < WAYS; way++)
            for (int ranks = 1; ranks <= 8; ranks *= 2)
                if (ranks > 1 || way != QUEUED) as_ranks(ranks, way, count_bytes, config);
        sid2_config_destroy(config);
    }
}

/* ---- Sums that begin early ---- */

static const char *count_early(sid2_group *group, sid2_device *device, const void *data)
{
    sid2_error cause = {0};
    sid2_trainer *t = make(group, device, data, &cause);
    bool ok = t && step(t, &cause);
    int stops = ok ? t->training.graph[0]->stop_count : 0;
    bool one_lane = ok && t->training.own == 1, early = ok && t->lanes.early, come = ok && t->lanes.coming;
    sid2_trainer_destroy(t);
    if (!ok) return complaint(&cause);
    bool right = stops == (one_lane ? 2 : 1) * SID2_BUCKETS && early == one_lane && come;
    return right ? NULL : "sums begin early elsewhere, or weights come at once";
}

/* Where a transport queues, the gradients' buckets are summed while others are computed, if a rank has one lane. */
static void sums_begin_early(void **state)
{
    (void)state;
    sid2_config *config = RANKED("train.precision=f32");
    for (int ranks = 4; ranks <= 8; ranks *= 2) as_ranks(ranks, QUEUED, count_early, config);
    sid2_config_destroy(config);
}

/* And weights come bucket by bucket: the network begins with the first while others are under way. */
static void weights_come_in_pieces(void **state)
{
    (void)state;
    for (int p = 0; p < 2; p++) {
        sid2_config *config = RANKED(precisions[p]);
        task j = {.config = config, .steps = 2};
        partly_waited = 0;
        as_ranks(2, QUEUED, train, &j);
        assert_true(partly_waited >= SID2_BUCKETS - 2); /* by the rank that is late; the front is empty */
        sid2_config_destroy(config);
    }
}

/* ---- Sums by the library ---- */

static const char *train_fast(sid2_group *group, sid2_device *device, const void *data)
{
    sid2_group_hasten(group);
    return train(group, device, data);
}

/* Any number of ranks, each with the same weights (a checkpoint compares them), which others go on with. */
static void any_number_trains_fast(void **state)
{
    (void)state;
    sid2_config *config =
        TINY("train.batch=48", "train.microbatch=auto", "model.channels=32,64", "model.head_dim=16");
    char saved[100], later[100];
    snprintf(saved, sizeof saved, "%s/saved", folder);
    snprintf(later, sizeof later, "%s/later", folder);
    for (int ranks = 2; ranks <= 6; ranks++) {
        if (ranks == 5) continue; /* which no part of 48 images is for */
        task j = {.config = config, .steps = 3, .to = saved},
             next = {.config = config, .steps = 1, .from = saved, .to = later};
        as_ranks(ranks, AT_HAND, train_fast, &j);
        as_ranks(ranks == 3 ? 2 : 3, AT_HAND, train_fast, &next);
        as_ranks(1, AT_HAND, train, &next);
        remove_all(saved);
        remove_all(later);
    }
    sid2_config_destroy(config);
}

/* ---- Half the bytes ---- */

static void wire_changes_no_bit_by_ranks(void **state)
{
    (void)state;
    sid2_config *config = RANKED("train.wire=bf16"), *whole = RANKED("train.wire=f32");
    char alone[100], these[100];
    snprintf(alone, sizeof alone, "%s/alone", folder);
    snprintf(these, sizeof these, "%s/these", folder);
    task j = {.config = config, .steps = 4, .to = alone};
    as_ranks(1, AT_HAND, train, &j);
    j.to = these;
    for (int ranks = 2; ranks <= 8; ranks *= 2) {
        as_ranks(ranks, AT_HAND, train, &j);
        same_checkpoint(alone, these);
        remove_all(these);
        if (ranks < 8) continue; /* one lane a rank */
        for (int way = COPIED; way < WAYS; way++) {
            as_ranks(ranks, way, train, &j);
            same_checkpoint(alone, these);
            remove_all(these);
        }
    }
    /* And it is another training than that of whole gradients. */
    size_t size;
    j.config = whole;
    as_ranks(2, AT_HAND, train, &j);
    uint8_t *a = sid2_file_read(path_in(alone, "weights.safetensors"), 0, &size, &err),
            *b = sid2_file_read(path_in(these, "weights.safetensors"), 0, &size, &err);
    must(a && b);
    assert_memory_not_equal(a, b, size);
    free(a);
    free(b);
    remove_all(these);
    remove_all(alone);
    sid2_config_destroy(config);
    sid2_config_destroy(whole);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(number_changes_no_bit),
        cmocka_unit_test(resuming_by_others_changes_no_bit),
        cmocka_unit_test(all_know_of_a_nan),
        cmocka_unit_test(a_lost_bit_is_found),
        cmocka_unit_test(parts_are_held_once),
        cmocka_unit_test(sums_begin_early),
        cmocka_unit_test(weights_come_in_pieces),
        cmocka_unit_test(any_number_trains_fast),
        cmocka_unit_test(wire_changes_no_bit_by_ranks),
    };
    return cmocka_run_group_tests(tests, make_folder, drop_folder);
}
