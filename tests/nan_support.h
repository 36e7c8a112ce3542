/* One NaN, wherever it comes in, becomes no weight and no picture: the same verdict on every device. So it is with a
 * step that comes out otherwise when it is computed again. */
#ifndef SID2_TEST_NAN_SUPPORT_H
#define SID2_TEST_NAN_SUPPORT_H

#include "model_support.h"

enum { NAN_BATCH = 8, NAN_BYTES = 64, NAN_CLASSES = 3, NAN_IMAGE = 5, NAN_PARAM = 7 };

/* Diffusion, but image NAN_IMAGE is told a time that is none: its activations from the sinusoid on are NaN. */
static inline bool tell_nan(void *self, sid2_buffers *buffers, const sid2_step_input *step, int first,
                            float *logsnr, sid2_error *error)
{
    sid2_buffer *time = sid2_buffers_find(buffers, "time");
    int count = (int)(time->bytes / sizeof(float));
    float nan = NAN;
    if (!sid2_diffusion.tell(self, buffers, step, first, logsnr, error)) return false;
    return NAN_IMAGE < first || NAN_IMAGE >= first + count ||
           sid2_buffer_upload(time, (size_t)(NAN_IMAGE - first) * sizeof nan, &nan, sizeof nan, error);
}

/* Diffusion, but when a step is computed for the second time, one bit of one buffer is another. */
static struct {
    const char *buffer;
    size_t element;
    uint32_t bit;
    int pass;
} second;

static inline bool tell_second(void *self, sid2_buffers *buffers, const sid2_step_input *step, int first,
                               float *logsnr, sid2_error *error)
{
    if (!sid2_diffusion.tell(self, buffers, step, first, logsnr, error)) return false;
    if (first != 0 || ++second.pass != 2) return true;
    sid2_buffer *buffer = sid2_buffers_find(buffers, second.buffer);
    uint32_t word;
    if (!sid2_buffer_download(buffer, second.element * sizeof word, &word, sizeof word, error)) return false;
    word ^= second.bit;
    return sid2_buffer_upload(buffer, second.element * sizeof word, &word, sizeof word, error);
}

/* Everything that a step may change. */
static const char *const nan_state[] = {"weights", "m", "v", "ema"};

/* Trains for two steps, lets `spoil` put one number in the way of the third, and sees that this fails with all of
 * `words` in its message and changes nothing. The trainer cannot go on then, nor be saved. */
static inline void one_is_caught(sid2_device *device, const char *spoil, float number, const char *words)
{
    static sid2_objective poisoned;
    static uint8_t pixels[NAN_BATCH * NAN_BYTES];
    int32_t labels[NAN_BATCH];
    bool twice = strncmp(spoil, "second ", 7) == 0;
    sid2_config *config = TINY("train.ema=0.9", twice ? "train.verify_every=3" : "train.verify_every=0");
    sid2_recipe recipe = sid2_recipe_of(config);
    poisoned = sid2_diffusion;
    recipe.objectives[0] = &poisoned;
    sid2_trainer *t = sid2_trainer_create_recipe(device, config, &recipe, 0, NULL, &err);
    must(t);
    for (int i = 0; i < 2; i++) {
        make_images(pixels, labels, NAN_BATCH, NAN_BYTES, NAN_CLASSES, (uint64_t)i * NAN_BATCH);
        must(sid2_trainer_step(t, pixels, labels, &err));
    }
    const sid2_params *params = t->states[0].params;
    size_t bytes = (size_t)params->elements * sizeof(float);
    char wanted[200];
    snprintf(wanted, sizeof wanted, words, params->item[NAN_PARAM].name);
    if (strcmp(spoil, "activation") == 0)
        poisoned.tell = tell_nan;
    else if (twice) {
        bool loss = strcmp(spoil, "second weight") == 0; /* of image 2 */
        second.buffer = spoil + 7;
        second.element = loss ? 2 : (size_t)params->item[NAN_PARAM].offset + 1;
        second.bit = loss ? 1u << 22 : 1u << 30;
        second.pass = 0;
        poisoned.tell = tell_second;
    } else {
        float *flat = download(&t->buffers, spoil);
        flat[params->item[NAN_PARAM].offset + 1] = number;
        must(sid2_state_upload(&t->states[0], spoil, flat, &err));
        free(flat);
    }
    float *before[4];
    for (int i = 0; i < 4; i++) before[i] = download(&t->buffers, nan_state[i]);
    if (sid2_trainer_step(t, pixels, labels, &err))
        fail_msg("a %s of %g went through", spoil, (double)number);
    if (!strstr(err.message, "step 3: ") || !strstr(err.message, wanted))
        fail_msg("'%s' does not say '%s'", err.message, wanted);
    for (int i = 0; i < 4; i++) {
        float *after = download(&t->buffers, nan_state[i]);
        if (memcmp(before[i], after, bytes) != 0)
            fail_msg("%s changed after a spoilt %s", nan_state[i], spoil);
        free(before[i]);
        free(after);
    }
    assert_int_equal(sid2_trainer_steps(t), 2);
    assert_false(sid2_trainer_save(t, "/nonexistent/nan", &err));
    assert_false(sid2_trainer_step(t, pixels, labels, &err));
    sid2_trainer_destroy(t);
    sid2_config_destroy(config);
}

/* A gradient of 1e25, whose square no f32 holds, is large and no more. */
static inline void large_is_not_infinite(sid2_device *device)
{
    static uint8_t pixels[NAN_BATCH * NAN_BYTES];
    int32_t labels[NAN_BATCH];
    sid2_config *config = TINY("train.ema=0.9");
    sid2_trainer *t = sid2_trainer_create(device, config, 0, &err);
    must(t);
    float *grads = download(&t->buffers, "grads");
    grads[t->states[0].params->item[NAN_PARAM].offset] = 1e25f;
    must(sid2_state_upload(&t->states[0], "grads", grads, &err));
    free(grads);
    sid2_train_stats stats;
    make_images(pixels, labels, NAN_BATCH, NAN_BYTES, NAN_CLASSES, 0);
    must(sid2_trainer_step(t, pixels, labels, &err));
    stats = *sid2_trainer_stats(t);
    assert_true(fabs(stats.grad_norm / 1e25 - 1) < 1e-6);
    must(sid2_trainer_step(t, pixels, labels, &err));
    stats = *sid2_trainer_stats(t);
    assert_true(stats.grad_norm < 1e4);
    sid2_trainer_destroy(t);
    sid2_config_destroy(config);
}

/* A weight of NaN gives no picture but a line; good weights afterwards give theirs. */
static inline void no_picture_of_nan(sid2_device *device, const char *sampler)
{
    enum { COUNT = 6 };
    const uint64_t seeds[COUNT] = {7, 8, 9, 10, 11, 12};
    int32_t labels[COUNT] = {0, 1, 2, 0, 1, 2};
    uint8_t want[COUNT * NAN_BYTES], got[COUNT * NAN_BYTES];
    sid2_config *config = TINY(sampler);
    sid2_trainer *t = sid2_trainer_create(device, config, 0, &err);
    sid2_sampler *s = sid2_sampler_create(device, config, 0, &err);
    must(t && s);
    const sid2_param *param = &t->states[0].params->item[NAN_PARAM];
    must(sid2_sampler_load_trainer(s, t, &err));
    must(sid2_sampler_run(s, seeds, labels, COUNT, want, NULL, NULL, &err));
    float *ema = download(&t->buffers, "ema"), good = ema[param->offset];
    ema[param->offset] = NAN;
    must(sid2_state_upload(&t->states[0], "ema", ema, &err));
    must(sid2_sampler_load_trainer(s, t, &err));
    memset(got, 0x5a, sizeof got);
    assert_false(sid2_sampler_run(s, seeds, labels, COUNT, got, NULL, NULL, &err));
    char words[300];
    snprintf(words, sizeof words,
             "sampling step 1: x_hat of image 0 (seed 7) is not finite; the weight %s is not finite",
             param->name);
    assert_string_equal(err.message, words);
    for (size_t i = 0; i < sizeof got; i++) assert_int_equal(got[i], 0x5a);
    sid2_evaluator *e = sid2_evaluator_create(device, config, 0, &err);
    must(e && sid2_evaluator_load_trainer(e, t, &err));
    assert_false(sid2_evaluator_run(e, want, labels, COUNT, 0.5, 0, &err));
    sid2_evaluator_destroy(e);
    assert_non_null(strstr(err.message, "the error of image 0 is not finite; the weight "));
    ema[param->offset] = good;
    must(sid2_state_upload(&t->states[0], "ema", ema, &err));
    must(sid2_sampler_load_trainer(s, t, &err));
    must(sid2_sampler_run(s, seeds, labels, COUNT, got, NULL, NULL, &err));
    assert_memory_equal(want, got, sizeof want);
    free(ema);
    sid2_sampler_destroy(s);
    sid2_trainer_destroy(t);
    sid2_config_destroy(config);
}

/* Steps that are computed twice train the weights that they train when computed once. */
static inline void verified_is_the_same(sid2_device *device, const char *precision)
{
    static uint8_t pixels[NAN_BATCH * NAN_BYTES];
    int32_t labels[NAN_BATCH];
    float *kept[2][4];
    size_t bytes = 0;
    for (int verify = 0; verify < 2; verify++) {
        sid2_config *config =
            TINY(precision, "model.dropout=0.1", verify ? "train.verify_every=1" : "train.verify_every=0");
        sid2_trainer *t = sid2_trainer_create(device, config, 0, &err);
        must(t);
        for (int i = 0; i < 4; i++) {
            make_images(pixels, labels, NAN_BATCH, NAN_BYTES, NAN_CLASSES, (uint64_t)i * NAN_BATCH);
            must(sid2_trainer_step(t, pixels, labels, &err));
        }
        bytes = (size_t)t->states[0].params->elements * sizeof(float);
        for (int i = 0; i < 4; i++) kept[verify][i] = download(&t->buffers, nan_state[i]);
        sid2_trainer_destroy(t);
        sid2_config_destroy(config);
    }
    for (int i = 0; i < 4; i++) {
        assert_memory_equal(kept[0][i], kept[1][i], bytes);
        free(kept[0][i]);
        free(kept[1][i]);
    }
}

static inline void nan_is_caught(sid2_device *device)
{
    one_is_caught(device, "second weight", 0, "computed twice, the loss of image 2 of the batch differs");
    one_is_caught(device, "second grads", 0, "computed twice, the gradient of %s differs");
    verified_is_the_same(device, "train.precision=f32");
    one_is_caught(device, "activation", NAN, "the loss of image 5 of the batch is not finite");
    one_is_caught(device, "grads", NAN, "the gradient of %s is not finite");
    one_is_caught(device, "grads", INFINITY, "the gradient of %s is not finite");
    one_is_caught(device, "weights", NAN, "the weight %s is not finite");
    large_is_not_infinite(device);
    no_picture_of_nan(device, "sample.sampler=ddpm");
    no_picture_of_nan(device, "sample.sampler=dpm3m");
}

#endif
