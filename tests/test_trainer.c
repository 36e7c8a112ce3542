/* Training: resuming is bit-identical, micro-batches add up, the loss falls, trouble is named. */
#include <ftw.h>
#include <unistd.h>

#include "model_support.h"

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

static const char *in_folder(const char *name)
{
    static char path[4][128];
    static int next;
    char *text = path[next++ % 4];
    snprintf(text, sizeof path[0], "%s/%s", folder, name);
    return text;
}

static sid2_trainer *make_trainer(const sid2_config *config)
{
    sid2_trainer *t = sid2_trainer_create(device, config, 0, &err);
    must(t);
    return t;
}

static sid2_train_stats train(sid2_trainer *t, int steps)
{
    uint8_t pixels[BATCH * BYTES];
    int32_t labels[BATCH];
    sid2_train_stats stats = {0};
    for (int i = 0; i < steps; i++) {
        make_images(pixels, labels, BATCH, BYTES, CLASSES, sid2_trainer_images(t));
        must(sid2_trainer_step(t, pixels, labels, &stats, &err));
    }
    return stats;
}

static void same_state(const sid2_trainer *a, const sid2_trainer *b)
{
    static const char *const names[] = {"weights", "m", "v", "ema"};
    for (int i = 0; i < 4; i++) {
        float *x = download(&a->buffers, names[i]), *y = download(&b->buffers, names[i]);
        assert_memory_equal(x, y, sid2_buffers_find(&a->buffers, names[i])->bytes);
        free(x);
        free(y);
    }
}

static void resume_is_bit_identical(void **state)
{
    (void)state;
    static const char *const precisions[] = {"train.precision=f32", "train.precision=bf16"};
    for (int i = 0; i < 2; i++) {
        sid2_config *config = TINY(precisions[i], "model.dropout=0.1", "model.qk_norm=layer");
        const char *path = in_folder(i ? "bf16" : "f32");
        sid2_trainer *straight = make_trainer(config), *first = make_trainer(config);
        train(straight, 6);
        train(first, 3);
        must(sid2_trainer_save(first, path, &err));
        sid2_trainer_destroy(first);
        sid2_trainer *second = make_trainer(config);
        must(sid2_trainer_resume(second, path, &err));
        assert_int_equal(sid2_trainer_steps(second), 3);
        assert_int_equal(sid2_trainer_images(second), 3 * BATCH);
        train(second, 3);
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
    train(a, 2);
    train(b, 2);
    train(c, 2);
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
        stats[i] = train(t, 2);
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
        sid2_train_stats stats = train(t, 1);
        double first = stats.loss;
        assert_true(stats.learning_rate == 2e-3 / 4 && stats.step == 1 && stats.images == BATCH &&
                    stats.grad_norm > 0);
        double mean = 0;
        for (int j = 0; j < BATCH; j++) mean += stats.sample_loss[j] / BATCH;
        assert_true(fabs(mean / stats.loss - 1) < 1e-6);
        train(t, 60);
        double last = 0;
        for (int j = 0; j < 20; j++) last += train(t, 1).loss / 20;
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
    train(t, 2);
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
    assert_false(sid2_trainer_step(t, pixels, labels, NULL, &err));
    assert_non_null(strstr(err.message, "label 3"));
    labels[5] = -1;
    /* Weights spoilt on purpose: the step says so and nothing is saved. */
    float *weights = download(&t->buffers, "weights");
    for (int64_t i = 0; i < t->states[0].params->elements; i++) weights[i] = NAN;
    must(sid2_state_upload(&t->states[0], "weights", weights, &err));
    free(weights);
    assert_false(sid2_trainer_step(t, pixels, labels, NULL, &err));
    assert_non_null(strstr(err.message, "step 1"));
    assert_non_null(strstr(err.message, "not finite"));
    assert_false(sid2_trainer_save(t, in_folder("broken"), &err));
    assert_int_equal(access(in_folder("broken"), F_OK), -1);
    assert_false(sid2_trainer_step(t, pixels, labels, NULL, &err));
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
    for (int i = 0; i < 3; i++) must(sid2_trainer_step(a, pixels, labels, NULL, &err));
    must(sid2_trainer_save(a, in_folder("coarse"), &err));
    sid2_trainer *b = make_trainer(fine);
    must(sid2_trainer_warm_start(b, in_folder("coarse"), &err));
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
    must(sid2_trainer_step(b, pixels, labels, NULL, &err));
    sid2_trainer *c = make_trainer(wider);
    assert_false(sid2_trainer_warm_start(c, in_folder("coarse"), &err));
    assert_non_null(strstr(err.message, "down.0.proj.weight"));
    assert_false(sid2_trainer_resume(c, in_folder("coarse"), &err));
    assert_false(sid2_trainer_resume(c, in_folder("nothing"), &err));
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
    must(mkdir(in_folder("run"), 0777) == 0);
    assert_false(sid2_checkpoint_find(in_folder("run"), found, sizeof found, &err));
    assert_non_null(strstr(err.message, "run"));
    must(mkdir(in_folder("run/checkpoints"), 0777) == 0);
    train(t, 1);
    must(sid2_trainer_save(t, in_folder("run/checkpoints/step-00000001"), &err));
    train(t, 1);
    must(sid2_trainer_save(t, in_folder("run/checkpoints/step-00000002"), &err));
    must(mkdir(in_folder("run/checkpoints/step-00000003"), 0777) == 0); /* not complete */
    must(sid2_checkpoint_find(in_folder("run"), found, sizeof found, &err));
    assert_string_equal(found, in_folder("run/checkpoints/step-00000002"));
    must(sid2_checkpoint_find(in_folder("run/checkpoints/step-00000001"), found, sizeof found, &err));
    assert_string_equal(found, in_folder("run/checkpoints/step-00000001"));
    /* Again under the same name: replaced, whole. */
    must(sid2_trainer_save(t, in_folder("run/checkpoints/step-00000002"), &err));
    must(sid2_checkpoint_digest(in_folder("run/checkpoints/step-00000002"), digest, &err));
    must(sid2_checkpoint_digest(in_folder("run/checkpoints/step-00000001"), again, &err));
    assert_int_equal(strlen(digest), 32);
    assert_string_not_equal(digest, again);
    /* What is given away: the same weights in f32, close ones in 16 bits, and all of them sample. */
    static const sid2_dtype types[] = {SID2_F32, SID2_BF16, SID2_F16};
    static const char *const exports[] = {"export-f32", "export-bf16", "export-f16"};
    for (int i = 0; i < 3; i++) {
        must(sid2_checkpoint_export(in_folder("run/checkpoints/step-00000001"), in_folder(exports[i]),
                                    types[i], &err));
        must(sid2_checkpoint_digest(in_folder(exports[i]), digest, &err));
        assert_int_equal(strcmp(digest, again) == 0, types[i] == SID2_F32);
        sid2_sampler *s = sid2_sampler_create(device, config, 0, &err);
        must(s);
        must(sid2_sampler_load(s, in_folder(exports[i]), true, &err));
        assert_false(sid2_sampler_load(s, in_folder(exports[i]), false, &err));
        assert_non_null(strstr(err.message, "weights.safetensors"));
        sid2_sampler_destroy(s);
    }
    assert_false(sid2_trainer_resume(t, in_folder("export-f32"), &err));
    assert_non_null(strstr(err.message, "state.json"));
    /* Nothing that exists is replaced, least of all the run itself. */
    assert_false(sid2_checkpoint_export(in_folder("run"), in_folder("run"), SID2_F16, &err));
    assert_non_null(strstr(err.message, "exists"));
    must(sid2_checkpoint_find(in_folder("run"), found, sizeof found, &err));
    sid2_config *read = sid2_config_create();
    must(sid2_checkpoint_config(in_folder("run/checkpoints/step-00000002"), read, &err));
    assert_memory_equal(read, config, offsetof(sid2_config, is_set));
    /* Cut short: resuming says which file, and the trainer can go on. */
    snprintf(command, sizeof command, "%s/run/checkpoints/step-00000002/optimizer.safetensors", folder);
    must(truncate(command, 5000) == 0);
    assert_false(sid2_trainer_resume(t, in_folder("run/checkpoints/step-00000002"), &err));
    assert_non_null(strstr(err.message, "optimizer.safetensors"));
    must(sid2_trainer_resume(t, in_folder("run/checkpoints/step-00000001"), &err));
    assert_int_equal(sid2_trainer_steps(t), 1);
    /* A folder under a file cannot be. */
    assert_false(sid2_trainer_save(t, in_folder("run/checkpoints/step-00000001/state.json/x"), &err));
    sid2_trainer_destroy(t);
    sid2_config_destroy(config);
    sid2_config_destroy(read);
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
    };
    return cmocka_run_group_tests(tests, open_cpu, close_cpu);
}
