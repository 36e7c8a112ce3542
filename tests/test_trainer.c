/* Training: resuming is bit-identical, micro-batches add up, the loss falls, trouble is named. */
#include <ftw.h>
#include <unistd.h>

#include "file.h"
#include "model_support.h"
#include "safetensors.h"

enum { BATCH = 8, BYTES = 64, CLASSES = 3 };

static sid2_device *device;
static char folder[64];

static int remove_entry(const char *path, const struct stat *info, int kind, struct FTW *walk)
{
    (void)info;
    (void)kind;
    (void)walk;
    return remove(path);
}

static sid2_trainer *make_trainer(const sid2_config *config)
{
    sid2_trainer *t = sid2_trainer_create(device, config, 0, &err);
    must(t);
    return t;
}

static void resume_is_bit_identical(void **state)
{
    (void)state;
    static const char *const precisions[] = {"train.precision=f32", "train.precision=bf16"};
    for (int i = 0; i < 2; i++) {
        sid2_config *config = TINY(precisions[i], "model.dropout=0.1", "model.qk_norm=layer");
        const char *path = path_in(folder, i ? "bf16" : "f32");
        sid2_trainer *straight = make_trainer(config), *first = make_trainer(config);
        train_steps(straight, 6);
        train_steps(first, 3);
        must(sid2_trainer_save(first, path, &err));
        sid2_trainer_destroy(first);
        sid2_trainer *second = make_trainer(config);
        must(sid2_trainer_resume(second, path, &err));
        assert_int_equal(sid2_trainer_steps(second), 3);
        assert_int_equal(sid2_trainer_images(second), 3 * BATCH);
        train_steps(second, 3);
        same_state(straight, second);
        sid2_trainer_destroy(straight);
        sid2_trainer_destroy(second);
        sid2_config_destroy(config);
    }
}

static void same_seed_same_weights(void **state)
{
    (void)state;
    sid2_config *config = TINY(NULL), *other = TINY("train.seed=1");
    sid2_trainer *a = make_trainer(config), *b = make_trainer(config), *c = make_trainer(other);
    train_steps(a, 2);
    train_steps(b, 2);
    train_steps(c, 2);
    same_state(a, b);
    float *x = download(&a->buffers, "weights"), *y = download(&c->buffers, "weights");
    assert_true(memcmp(x, y, sid2_buffers_find(&a->buffers, "weights")->bytes) != 0);
    free(x);
    free(y);
    sid2_trainer_destroy(a);
    sid2_trainer_destroy(b);
    sid2_trainer_destroy(c);
    sid2_config_destroy(config);
    sid2_config_destroy(other);
}

/* The gradient of the whole batch does not depend on how it is cut, but for rounding. */
static void microbatches_add_up(void **state)
{
    (void)state;
    static const char *const sizes[] = {"train.microbatch=1", "train.microbatch=2", "train.microbatch=8"};
    sid2_train_stats stats[3];
    float *m[3];
    int64_t count = 0;
    for (int i = 0; i < 3; i++) {
        sid2_config *config = TINY(sizes[i]);
        sid2_trainer *t = make_trainer(config);
        stats[i] = train_steps(t, 2);
        m[i] = download(&t->buffers, "m");
        count = t->states[0].params->elements;
        sid2_trainer_destroy(t);
        sid2_config_destroy(config);
    }
    double size = 0, error = 0;
    for (int64_t j = 0; j < count; j++) {
        size += (double)m[0][j] * m[0][j];
        for (int i = 1; i < 3; i++) error += (double)(m[i][j] - m[0][j]) * (m[i][j] - m[0][j]);
    }
    assert_true(size > 0 && sqrt(error / size) < 1e-3);
    for (int i = 1; i < 3; i++) {
        assert_true(fabs(stats[i].loss / stats[0].loss - 1) < 1e-5);
        assert_true(fabs(stats[i].grad_norm / stats[0].grad_norm - 1) < 1e-3);
    }
    for (int i = 0; i < 3; i++) free(m[i]);
}

static void the_loss_falls(void **state)
{
    (void)state;
    static const char *const weightings[] = {"loss.weighting=sigmoid", "loss.weighting=edm_monotonic",
                                             "loss.weighting=min_snr"};
    for (int i = 0; i < 3; i++) {
        sid2_config *config = TINY(weightings[i], "train.precision=bf16");
        sid2_trainer *t = make_trainer(config);
        sid2_train_stats stats = train_steps(t, 1);
        double first = stats.loss;
        assert_true(stats.learning_rate == 2e-3 / 4 && stats.step == 1 && stats.images == BATCH &&
                    stats.grad_norm > 0);
        double mean = 0;
        for (int j = 0; j < BATCH; j++) mean += stats.sample_loss[j] / BATCH;
        assert_true(fabs(mean / stats.loss - 1) < 1e-6);
        train_steps(t, 60);
        double last = 0;
        for (int j = 0; j < 20; j++) last += train_steps(t, 1).loss / 20;
        if (!(last < 0.6 * first)) fail_msg("%s: loss went from %g to %g", weightings[i], first, last);
        sid2_trainer_destroy(t);
        sid2_config_destroy(config);
    }
}

static void ema_follows_the_weights(void **state)
{
    (void)state;
    sid2_config *config = TINY("train.ema=0");
    sid2_trainer *t = make_trainer(config);
    train_steps(t, 2);
    float *weights = download(&t->buffers, "weights"), *ema = download(&t->buffers, "ema");
    for (int64_t i = 0; i < t->states[0].params->elements; i++)
        assert_true(fabsf(weights[i] - ema[i]) <= 1e-6f);
    free(weights);
    free(ema);
    sid2_trainer_destroy(t);
    sid2_config_destroy(config);
}

static void trouble_is_named(void **state)
{
    (void)state;
    uint8_t pixels[BATCH * BYTES];
    int32_t labels[BATCH];
    make_images(pixels, labels, BATCH, BYTES, CLASSES, 0);
    sid2_config *config = TINY("train.learning_rate=1", "train.warmup=0", "train.clip=1e30");
    sid2_trainer *t = make_trainer(config);
    labels[5] = 3;
    assert_false(sid2_trainer_step(t, pixels, labels, &err));
    assert_non_null(strstr(err.message, "label 3"));
    labels[5] = -1;
    /* Weights spoilt on purpose: the step says so and nothing is saved. */
    float *weights = download(&t->buffers, "weights");
    for (int64_t i = 0; i < t->states[0].params->elements; i++) weights[i] = NAN;
    must(sid2_state_upload(&t->states[0], "weights", weights, &err));
    free(weights);
    assert_false(sid2_trainer_step(t, pixels, labels, &err));
    assert_non_null(strstr(err.message, "step 1"));
    assert_non_null(strstr(err.message, "not finite"));
    assert_false(sid2_trainer_save(t, path_in(folder, "broken"), &err));
    assert_int_equal(access(path_in(folder, "broken"), F_OK), -1);
    assert_false(sid2_trainer_step(t, pixels, labels, &err));
    sid2_trainer_destroy(t);
    sid2_config_destroy(config);
}

static void warm_start_changes_the_patch(void **state)
{
    (void)state;
    sid2_config *coarse = TINY("model.image_size=16", "model.patch=4", "train.batch=8");
    sid2_config *fine = TINY("model.image_size=16", "model.patch=2"), *wider = TINY("model.channels=8,24");
    static uint8_t pixels[BATCH * 256];
    int32_t labels[BATCH];
    make_images(pixels, labels, BATCH, 256, CLASSES, 0);
    sid2_trainer *a = make_trainer(coarse);
    for (int i = 0; i < 3; i++) must(sid2_trainer_step(a, pixels, labels, &err));
    must(sid2_trainer_save(a, path_in(folder, "coarse"), &err));
    sid2_trainer *b = make_trainer(fine);
    must(sid2_trainer_warm_start(b, path_in(folder, "coarse"), &err));
    assert_int_equal(sid2_trainer_steps(b), 0);
    float *from = download(&a->buffers, "ema"), *to = download(&b->buffers, "weights"),
          *ema = download(&b->buffers, "ema");
    const sid2_graph *ga = a->training.graph[0], *gb = b->training.graph[0];
    assert_int_equal(ga->params[0].count, gb->params[0].count);
    for (int32_t p = 0; p < ga->params[0].count; p++) {
        const sid2_param *x = &ga->params[0].item[p], *y = &gb->params[0].item[p];
        assert_string_equal(x->name, y->name);
        bool fresh = !sid2_shape_equal(x->shape, y->shape);
        assert_int_equal(fresh, !strcmp(x->name, "embed.weight") || !strncmp(x->name, "head.out", 8));
        if (!fresh)
            assert_memory_equal(from + x->offset, to + y->offset,
                                (size_t)sid2_shape_count(x->shape) * sizeof(float));
        assert_memory_equal(ema + y->offset, to + y->offset,
                            (size_t)sid2_shape_count(y->shape) * sizeof(float));
    }
    must(sid2_trainer_step(b, pixels, labels, &err));
    sid2_trainer *c = make_trainer(wider);
    assert_false(sid2_trainer_warm_start(c, path_in(folder, "coarse"), &err));
    assert_non_null(strstr(err.message, "down.0.proj.weight"));
    assert_false(sid2_trainer_resume(c, path_in(folder, "coarse"), &err));
    assert_false(sid2_trainer_resume(c, path_in(folder, "nothing"), &err));
    assert_non_null(strstr(err.message, "nothing"));
    free(from);
    free(to);
    free(ema);
    sid2_trainer_destroy(a);
    sid2_trainer_destroy(b);
    sid2_trainer_destroy(c);
    sid2_config_destroy(coarse);
    sid2_config_destroy(fine);
    sid2_config_destroy(wider);
}

static void checkpoints_are_found_and_checked(void **state)
{
    (void)state;
    sid2_config *config = TINY("train.precision=bf16");
    sid2_trainer *t = make_trainer(config);
    char found[256], digest[33], again[33], command[256];
    must(mkdir(path_in(folder, "run"), 0777) == 0);
    assert_false(sid2_checkpoint_find(path_in(folder, "run"), found, sizeof found, &err));
    assert_non_null(strstr(err.message, "run"));
    must(mkdir(path_in(folder, "run/checkpoints"), 0777) == 0);
    train_steps(t, 1);
    must(sid2_trainer_save(t, path_in(folder, "run/checkpoints/step-00000001"), &err));
    train_steps(t, 1);
    must(sid2_trainer_save(t, path_in(folder, "run/checkpoints/step-00000002"), &err));
    must(mkdir(path_in(folder, "run/checkpoints/step-00000003"), 0777) == 0); /* not complete */
    must(sid2_checkpoint_find(path_in(folder, "run"), found, sizeof found, &err));
    assert_string_equal(found, path_in(folder, "run/checkpoints/step-00000002"));
    must(sid2_checkpoint_find(path_in(folder, "run/checkpoints/step-00000001"), found, sizeof found, &err));
    assert_string_equal(found, path_in(folder, "run/checkpoints/step-00000001"));
    /* Again under the same name: replaced, whole. */
    must(sid2_trainer_save(t, path_in(folder, "run/checkpoints/step-00000002"), &err));
    must(sid2_checkpoint_digest(path_in(folder, "run/checkpoints/step-00000002"), digest, &err));
    must(sid2_checkpoint_digest(path_in(folder, "run/checkpoints/step-00000001"), again, &err));
    assert_int_equal(strlen(digest), 32);
    assert_string_not_equal(digest, again);
    /* What is given away: the same weights in f32, close ones in 16 bits, and all of them sample. */
    static const sid2_dtype types[] = {SID2_F32, SID2_BF16, SID2_F16};
    static const char *const exports[] = {"export-f32", "export-bf16", "export-f16"};
    for (int i = 0; i < 3; i++) {
        must(sid2_checkpoint_export(path_in(folder, "run/checkpoints/step-00000001"),
                                    path_in(folder, exports[i]), types[i], &err));
        must(sid2_checkpoint_digest(path_in(folder, exports[i]), digest, &err));
        assert_int_equal(strcmp(digest, again) == 0, types[i] == SID2_F32);
        sid2_sampler *s = sid2_sampler_create(device, config, 0, &err);
        must(s);
        must(sid2_sampler_load(s, path_in(folder, exports[i]), true, &err));
        assert_false(sid2_sampler_load(s, path_in(folder, exports[i]), false, &err));
        assert_non_null(strstr(err.message, "weights.safetensors"));
        sid2_sampler_destroy(s);
    }
    assert_false(sid2_trainer_resume(t, path_in(folder, "export-f32"), &err));
    assert_non_null(strstr(err.message, "state.json"));
    /* Nothing that exists is replaced, least of all the run itself. */
    assert_false(sid2_checkpoint_export(path_in(folder, "run"), path_in(folder, "run"), SID2_F16, &err));
    assert_non_null(strstr(err.message, "exists"));
    must(sid2_checkpoint_find(path_in(folder, "run"), found, sizeof found, &err));
    sid2_config *read = sid2_config_create();
    must(sid2_checkpoint_config(path_in(folder, "run/checkpoints/step-00000002"), read, &err));
    assert_memory_equal(read, config, offsetof(sid2_config, is_set));
    /* Cut short: resuming says which file, and the trainer can go on. */
    snprintf(command, sizeof command, "%s/run/checkpoints/step-00000002/optimizer.safetensors", folder);
    must(truncate(command, 5000) == 0);
    assert_false(sid2_trainer_resume(t, path_in(folder, "run/checkpoints/step-00000002"), &err));
    assert_non_null(strstr(err.message, "optimizer.safetensors"));
    must(sid2_trainer_resume(t, path_in(folder, "run/checkpoints/step-00000001"), &err));
    assert_int_equal(sid2_trainer_steps(t), 1);
    /* A folder under a file cannot be. */
    assert_false(sid2_trainer_save(t, path_in(folder, "run/checkpoints/step-00000001/state.json/x"), &err));
    sid2_trainer_destroy(t);
    sid2_config_destroy(config);
    sid2_config_destroy(read);
}

static void flip(const char *path, long at, int bit)
{
    FILE *file = fopen(path, "r+b");
    must(file);
    fseek(file, at, at < 0 ? SEEK_END : SEEK_SET);
    int byte = fgetc(file);
    fseek(file, -1, SEEK_CUR);
    fputc(byte ^ 1 << bit, file);
    fclose(file);
}

/* A bit in any of a checkpoint's files is seen when the file is read, in state.json and in digests too. */
static void flipped_bits_are_seen(void **state)
{
    (void)state;
    static const char *const names[] = {"config.ini", "ema.safetensors", "weights.safetensors",
                                        "optimizer.safetensors", "state.json"};
    sid2_config *config = TINY("train.precision=f32");
    sid2_trainer *t = make_trainer(config);
    train_steps(t, 1);
    const char *saved = path_in(folder, "step-00000001");
    char path[256];
    must(sid2_trainer_save(t, saved, &err));
    must(sid2_checkpoint_verify(saved, &err));
    struct stat status;
    for (int i = 0; i < 5; i++) {
        snprintf(path, sizeof path, "%s/%s", path_in(folder, "step-00000001"), names[i]);
        must(stat(path, &status) == 0);
        long step = i == 4 ? 1 : status.st_size / 60 + 1;
        for (long at = 0; at < status.st_size - (i == 4); at += step) {
            flip(path, at, (int)(at % 8));
            if (sid2_checkpoint_verify(path_in(folder, "step-00000001"), &err))
                fail_msg("%s: bit %ld of byte %ld may flip", names[i], at % 8, at);
            if (i > 1 && sid2_trainer_resume(t, path_in(folder, "step-00000001"), &err))
                fail_msg("resumed from bit %ld of byte %ld of %s", at % 8, at, names[i]);
            flip(path, at, (int)(at % 8));
        }
    }
    must(sid2_trainer_resume(t, path_in(folder, "step-00000001"), &err));
    /* Files of another step do not belong together, nor does a folder of another name. */
    train_steps(t, 1);
    must(sid2_trainer_save(t, path_in(folder, "step-00000002"), &err));
    char other[256];
    snprintf(path, sizeof path, "%s/weights.safetensors", path_in(folder, "step-00000001"));
    snprintf(other, sizeof other, "%s/weights.safetensors", path_in(folder, "step-00000002"));
    must(rename(path, other) == 0);
    assert_false(sid2_trainer_resume(t, path_in(folder, "step-00000002"), &err));
    assert_non_null(strstr(err.message, "of another checkpoint"));
    must(rename(path_in(folder, "step-00000001"), path_in(folder, "step-00000003")) == 0);
    assert_false(sid2_trainer_resume(t, path_in(folder, "step-00000003"), &err));
    assert_non_null(strstr(err.message, "it says step 1, its folder step 3"));
    sid2_trainer_destroy(t);
    sid2_config_destroy(config);
}

static void save_step(sid2_trainer *t, const char *run)
{
    char path[256];
    snprintf(path, sizeof path, "%s/checkpoints/step-%08llu", run, (unsigned long long)t->steps);
    must(sid2_trainer_save(t, path, &err));
}

/* Only checkpoints as they were saved are removed, the oldest by number, and none that is being read. */
static void pruning_touches_only_checkpoints(void **state)
{
    (void)state;
    sid2_config *config = TINY("train.precision=f32");
    sid2_trainer *t = make_trainer(config);
    const char *run = path_in(folder, "pruned");
    char path[256], found[256];
    static const uint64_t steps[] = {2, 3, 99999998, 100000000, 100000001};
    for (int i = 0; i < 5; i++) {
        t->steps = steps[i];
        save_step(t, run);
    }
    static const char *const others[] = {"step-00000002-best",    "step-2", "step-x", "step-00000001",
                                         "step-00000001.damaged", "best"};
    for (int i = 0; i < 6; i++) {
        snprintf(path, sizeof path, "%s/checkpoints/%s/photos", path_in(folder, "pruned"), others[i]);
        must(sid2_make_directories(path, &err));
    }
    snprintf(path, sizeof path, "%s/checkpoints/step-00000003/notes.txt", path_in(folder, "pruned"));
    must(sid2_file_write(path, "mine", 4, &err));
    must(sid2_checkpoint_newest(path_in(folder, "pruned"), UINT64_MAX, found, sizeof found, &err));
    assert_non_null(strstr(found, "step-100000001")); /* by number, not by letter */
    must(sid2_checkpoint_newest(path_in(folder, "pruned"), 100000000, found, sizeof found, &err));
    assert_non_null(strstr(found, "step-99999998"));
    int hold;
    snprintf(path, sizeof path, "%s/checkpoints/step-00000002", path_in(folder, "pruned"));
    must(sid2_checkpoint_hold(path, found, sizeof found, &hold, &err));
    must(sid2_checkpoint_prune(path_in(folder, "pruned"), 100000001, 2, &err));
    must(access(path, F_OK) == 0);
    sid2_checkpoint_release(hold);
    must(sid2_checkpoint_prune(path_in(folder, "pruned"), 100000001, 2, &err));
    assert_int_equal(access(path, F_OK), -1);
    for (int i = 0; i < 6; i++) {
        snprintf(path, sizeof path, "%s/checkpoints/%s/photos", path_in(folder, "pruned"), others[i]);
        must(access(path, F_OK) == 0);
    }
    static const char *const left[] = {"step-00000003", "step-100000000", "step-100000001"};
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/checkpoints/%s", path_in(folder, "pruned"), left[i]);
        must(access(path, F_OK) == 0);
    }
    snprintf(path, sizeof path, "%s/checkpoints/step-99999998", path_in(folder, "pruned"));
    assert_int_equal(access(path, F_OK), -1);
    /* A training that for whatever reason began again removes nothing that is ahead of it. */
    must(sid2_checkpoint_prune(path_in(folder, "pruned"), 1, 1, &err));
    snprintf(path, sizeof path, "%s/checkpoints/step-100000001", path_in(folder, "pruned"));
    must(access(path, F_OK) == 0);
    /* Nothing else is replaced either. */
    t->steps = 1;
    snprintf(path, sizeof path, "%s/checkpoints/step-00000001", path_in(folder, "pruned"));
    assert_false(sid2_trainer_save(t, path, &err));
    assert_non_null(strstr(err.message, "exists"));
    sid2_trainer_destroy(t);
    sid2_config_destroy(config);
}

/* Weights that are no numbers any more replace nothing. */
static void nothing_infinite_is_saved(void **state)
{
    (void)state;
    sid2_config *config = TINY("train.precision=f32");
    sid2_trainer *t = make_trainer(config);
    train_steps(t, 1);
    static const char *const names[] = {"weights", "ema", "m", "v"};
    for (int i = 0; i < 4; i++) {
        float *values = download(&t->buffers, names[i]), kept = values[3];
        values[3] = i % 2 ? NAN : INFINITY;
        must(sid2_buffers_upload(&t->buffers, names[i], values, &err));
        assert_false(sid2_trainer_save(t, path_in(folder, "infinite"), &err));
        assert_non_null(strstr(err.message, "no longer finite"));
        assert_int_equal(access(path_in(folder, "infinite"), F_OK), -1);
        values[3] = kept;
        must(sid2_buffers_upload(&t->buffers, names[i], values, &err));
        free(values);
    }
    must(sid2_trainer_save(t, path_in(folder, "infinite"), &err));
    sid2_trainer_destroy(t);
    sid2_config_destroy(config);
}

/* A bad step is stepped over as often in a row as allowed, and leaves everything as it was. */
static void bad_steps_are_stepped_over(void **state)
{
    (void)state;
    static const char *const names[] = {"weights", "m", "v", "ema"};
    sid2_config *config = TINY("train.precision=f32", "train.skip_bad_steps=2");
    sid2_trainer *t = make_trainer(config);
    train_steps(t, 2);
    float *before[4], *bad = download(&t->buffers, "grads");
    for (int i = 0; i < 4; i++) before[i] = download(&t->buffers, names[i]);
    for (int round = 0; round < 2; round++) {
        bad[5] = round ? INFINITY : NAN;
        must(sid2_buffers_upload(&t->buffers, "grads", bad, &err));
        sid2_train_stats stats = train_steps(t, 1);
        assert_true(stats.skipped && stats.step == 3 + (uint64_t)round && !isfinite(stats.grad_norm));
        for (int i = 0; i < 4; i++) {
            float *now = download(&t->buffers, names[i]);
            assert_memory_equal(now, before[i], sid2_buffers_find(&t->buffers, names[i])->bytes);
            free(now);
        }
    }
    sid2_train_stats good = train_steps(t, 1);
    assert_true(!good.skipped && isfinite(good.grad_norm));
    for (int round = 0; round < 2; round++) {
        must(sid2_buffers_upload(&t->buffers, "grads", bad, &err));
        train_steps(t, 1);
    }
    must(sid2_trainer_save(t, path_in(folder, "skipped"), &err));
    must(sid2_buffers_upload(&t->buffers, "grads", bad, &err));
    uint8_t pixels[BATCH * BYTES];
    int32_t labels[BATCH];
    make_images(pixels, labels, BATCH, BYTES, CLASSES, 0);
    assert_false(sid2_trainer_step(t, pixels, labels, &err)); /* the third in a row */
    assert_non_null(strstr(err.message, "step 8: "));
    for (int i = 0; i < 4; i++) free(before[i]);
    free(bad);
    sid2_trainer_destroy(t);
    sid2_config_destroy(config);
}

/* Exports are of the type that was asked for, from whatever type; what it cannot hold is refused. */
static void exports_convert_and_refuse(void **state)
{
    (void)state;
    sid2_config *config = TINY("train.precision=f32");
    sid2_trainer *t = make_trainer(config);
    train_steps(t, 1);
    float *ema = download(&t->buffers, "ema");
    ema[0] = 1e6f;
    must(sid2_buffers_upload(&t->buffers, "ema", ema, &err));
    free(ema);
    must(sid2_trainer_save(t, path_in(folder, "large"), &err));
    assert_false(
        sid2_checkpoint_export(path_in(folder, "large"), path_in(folder, "large-f16"), SID2_F16, &err));
    assert_non_null(strstr(err.message, "1e+06, which is too large for f16"));
    assert_int_equal(access(path_in(folder, "large-f16"), F_OK), -1);
    must(sid2_checkpoint_export(path_in(folder, "large"), path_in(folder, "large-bf16"), SID2_BF16, &err));
    must(sid2_checkpoint_export(path_in(folder, "large-bf16"), path_in(folder, "large-f32"), SID2_F32, &err));
    must(sid2_checkpoint_verify(path_in(folder, "large-f32"), &err));
    char path[256];
    snprintf(path, sizeof path, "%s/ema.safetensors", path_in(folder, "large-f32"));
    sid2_safetensors *file = sid2_safetensors_open(path, &err);
    must(file);
    for (int i = 0; i < sid2_safetensors_count(file); i++)
        assert_int_equal(sid2_safetensors_at(file, i)->dtype, SID2_F32);
    assert_string_equal(sid2_safetensors_metadata(file, "step"), "1");
    sid2_safetensors_close(file);
    flip(path, -3, 6);
    assert_false(sid2_checkpoint_verify(path_in(folder, "large-f32"), &err));
    assert_non_null(strstr(err.message, "damaged"));
    sid2_trainer_destroy(t);
    sid2_config_destroy(config);
}

static int open_cpu(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/sid2-trainer-XXXXXX");
    device = open_device("cpu");
    return mkdtemp(folder) ? 0 : -1;
}

static int close_cpu(void **state)
{
    (void)state;
    sid2_device_close(device);
    return nftw(folder, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(resume_is_bit_identical),      cmocka_unit_test(same_seed_same_weights),
        cmocka_unit_test(microbatches_add_up),          cmocka_unit_test(the_loss_falls),
        cmocka_unit_test(ema_follows_the_weights),      cmocka_unit_test(trouble_is_named),
        cmocka_unit_test(warm_start_changes_the_patch), cmocka_unit_test(checkpoints_are_found_and_checked),
        cmocka_unit_test(flipped_bits_are_seen),        cmocka_unit_test(pruning_touches_only_checkpoints),
        cmocka_unit_test(nothing_infinite_is_saved),    cmocka_unit_test(bad_steps_are_stepped_over),
        cmocka_unit_test(exports_convert_and_refuse),
    };
    return cmocka_run_group_tests(tests, open_cpu, close_cpu);
}
