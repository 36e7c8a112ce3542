/* The same training and the same images on the CPU and on a Vulkan device: losses agree at every step, seeds
 * give the same pictures. Arguments: training steps (200), and the only tests to
 * run, by name with * as in a shell. $SID2_VK_DEVICE: part of the device's name. */
#include <unistd.h>

#include "file.h"
#include "model_support.h"
#include "program_support.h"
#include "vk.h"

enum { BATCH = 8, BYTES = 64, CLASSES = 3, IMAGES = 16, SKIPPED = 77 };

static sid2_device *cpu, *gpu;
static sid2_trainer *on_cpu, *on_gpu;
static char folder[] = "/tmp/sid2-vk-XXXXXX", checkpoint[64];
static int steps = 200;

static sid2_device *open_vulkan(void)
{
    const sid2_backend *backend = &sid2_backend_vk;
    const char *name = getenv("SID2_VK_DEVICE");
    return sid2_backends_open(&backend, 1, name ? name : "auto", NULL, &err);
}

static void losses_agree(void **state)
{
    (void)state;
    sid2_config *config = TINY("train.precision=f32", "model.dropout=0.1", "train.ema=0.98");
    must(on_cpu = sid2_trainer_create(cpu, config, 0, &err));
    must(on_gpu = sid2_trainer_create(gpu, config, 0, &err));
    double first = 0, last = 0, worst = 0;
    for (int i = 0; i < steps; i++) {
        uint8_t pixels[BATCH * BYTES];
        int32_t labels[BATCH];
        sid2_train_stats a, b;
        make_images(pixels, labels, BATCH, BYTES, CLASSES, sid2_trainer_images(on_cpu));
        must(sid2_trainer_step(on_cpu, pixels, labels, &err));
        a = *sid2_trainer_stats(on_cpu);
        must(sid2_trainer_step(on_gpu, pixels, labels, &err));
        b = *sid2_trainer_stats(on_gpu);
        double difference = fabs(a.loss - b.loss) / fmax(1, fabs(a.loss));
        if (!(difference <= worst)) worst = difference;
        if (!i) first = a.loss;
        last = a.loss;
        if (!(difference < 1e-3))
            fail_msg("step %d: loss %.6f on the CPU, %.6f on Vulkan", i, a.loss, b.loss);
    }
    printf("%d steps: loss %.4f to %.4f, worst difference %.2g\n", steps, first, last, worst);
    must(sid2_trainer_save(on_cpu, checkpoint, &err));
    sid2_config_destroy(config);
}

/* One lane unless told otherwise; more are computed one after another, each moved out of the state's own gradients. */
static void lanes_meet_on_a_gpu(void **state)
{
    (void)state;
    static const char *const lanes[] = {"train.lanes=auto", "train.lanes=8"};
    float *m[2];
    int64_t count = 0;
    for (int i = 0; i < 2; i++) {
        sid2_config *config =
            TINY("train.precision=f32", "train.microbatch=1", "train.skip_bad_steps=1", lanes[i]);
        sid2_trainer *t = sid2_trainer_create(gpu, config, 0, &err);
        must(t);
        assert_int_equal(sid2_trainer_memory(t)->lanes, i ? 8 : 1);
        assert_int_equal(t->training.sums, i ? 4 : 0);
        train_steps(t, 3);
        m[i] = download(&t->buffers, "m");
        count = t->states[0].params->elements;
        float *bad = download(&t->buffers, "grads");
        bad[5] = NAN; /* passes through the sums, and stays in none */
        must(sid2_buffers_upload(&t->buffers, "grads", bad, &err));
        free(bad);
        assert_true(train_steps(t, 1).skipped);
        assert_false(train_steps(t, 1).skipped);
        sid2_trainer_destroy(t);
        sid2_config_destroy(config);
    }
    double size = 0, error = 0;
    for (int64_t k = 0; k < count; k++) {
        size += (double)m[0][k] * m[0][k];
        error += (double)(m[1][k] - m[0][k]) * (m[1][k] - m[0][k]);
    }
    assert_true(size > 0 && sqrt(error / size) < 1e-4);
    free(m[0]);
    free(m[1]);
}

static void sample(sid2_device *device, const char *precision, const char *rule, uint8_t *pixels)
{
    sid2_config *config = TINY(precision, rule, "sample.guidance=2", "sample.steps=12");
    sid2_sampler *s = sid2_sampler_create(device, config, 0, &err);
    must(s);
    must(sid2_sampler_load(s, checkpoint, true, &err));
    uint64_t seeds[IMAGES];
    int32_t labels[IMAGES];
    for (int i = 0; i < IMAGES; i++) seeds[i] = (uint64_t)i, labels[i] = i % CLASSES;
    must(sid2_sampler_run(s, seeds, labels, IMAGES, pixels, NULL, NULL, &err));
    sid2_sampler_destroy(s);
    sid2_config_destroy(config);
}

static double psnr(const uint8_t *a, const uint8_t *b, int count)
{
    double squares = 0;
    for (int i = 0; i < count; i++) squares += (a[i] - b[i]) * (a[i] - b[i]);
    return squares > 0 ? 10 * log10(255.0 * 255 * count / squares) : INFINITY;
}

static void seeds_give_the_same_pictures(void **state)
{
    (void)state;
    static const char *const rules[] = {"sample.guidance_rule=linear", "sample.guidance_rule=apg"};
    uint8_t want[IMAGES * BYTES], got[IMAGES * BYTES];
    for (int i = 0; i < 2; i++) {
        sample(cpu, "sample.precision=f32", rules[i], want);
        assert_true(memcmp(want, want + BYTES, BYTES) != 0);
        sample(gpu, "sample.precision=f32", rules[i], got);
        double f32 = psnr(want, got, sizeof want);
        printf("f32: %.1f dB\n", f32);
        assert_true(f32 >= 50);
        if (!sid2_device_describe(gpu)->f16) continue;
        sample(gpu, "sample.precision=f16", rules[i], got);
        double f16 = psnr(want, got, sizeof want);
        printf("f16: %.1f dB\n", f16);
        assert_true(f16 >= 35);
    }
}

static void programs_share_an_arena(void **state)
{
    (void)state;
    check_shared_arena(gpu);
}

/* Rows and columns of attention, of convolutions and of patches are not taken for each other. */
static void oblong_images_agree(void **state)
{
    (void)state;
    static const char *const sizes[] = {"model.image_size=4x16", "model.image_size=16x4"};
    for (int i = 0; i < 2; i++) {
        sid2_config *config = TINY(sizes[i], "train.precision=f32");
        sid2_trainer *a = sid2_trainer_create(cpu, config, 0, &err),
                     *b = sid2_trainer_create(gpu, config, 0, &err);
        must(a && b);
        for (int step = 0; step < 3; step++) {
            uint8_t pixels[BATCH * BYTES];
            int32_t labels[BATCH];
            make_images(pixels, labels, BATCH, BYTES, CLASSES, sid2_trainer_images(a));
            must(sid2_trainer_step(a, pixels, labels, &err) && sid2_trainer_step(b, pixels, labels, &err));
            double loss = sid2_trainer_stats(a)->loss, norm = sid2_trainer_stats(a)->grad_norm;
            assert_true(fabs(sid2_trainer_stats(b)->loss - loss) < 1e-3 * loss);
            assert_true(fabs(sid2_trainer_stats(b)->grad_norm - norm) < 1e-2 * norm);
        }
        sid2_trainer_destroy(a);
        sid2_trainer_destroy(b);
        sid2_config_destroy(config);
    }
}

/* Clips train alike, and go on from the same frames to the same ones, with a guide that is not told of them. */
static void clips_agree(void **state)
{
    (void)state;
    enum { GIVEN = 2, CLIPS = 3, LONG = 7 };
    sid2_config *config =
        TINY("model.frames=4", "model.given=2", "train.batch=4", "train.microbatch=2", "train.precision=f32",
             "model.dropout=0.1", "sample.guidance=2", "sample.guide_without=both", "sample.steps=6");
    sid2_device *const devices[] = {cpu, gpu};
    uint8_t pixels[2][CLIPS * LONG * BYTES], given[CLIPS * GIVEN * BYTES];
    sid2_trainer *t[2];
    for (int d = 0; d < 2; d++) {
        must(t[d] = sid2_trainer_create(devices[d], config, 0, &err));
        train_steps(t[d], 5);
    }
    double loss = sid2_trainer_stats(t[0])->loss, norm = sid2_trainer_stats(t[0])->grad_norm;
    assert_true(fabs(sid2_trainer_stats(t[1])->loss - loss) < 1e-3 * loss);
    assert_true(fabs(sid2_trainer_stats(t[1])->grad_norm - norm) < 1e-2 * norm);
    char path[80];
    snprintf(path, sizeof path, "%s/clips", folder);
    must(sid2_trainer_save(t[0], path, &err));
    for (size_t i = 0; i < sizeof given; i++) given[i] = (uint8_t)(i * 37);
    for (int d = 0; d < 2; d++) {
        sid2_sampler *s = sid2_sampler_create(devices[d], config, 0, &err);
        int32_t labels[CLIPS] = {0, 1, 2};
        must(s && sid2_sampler_load(s, path, true, &err) &&
             sid2_sampler_run_clips(s, (uint64_t[]){1, 2, 3}, labels, CLIPS, given, LONG, pixels[d], NULL,
                                    NULL, &err));
        for (int c = 0; c < CLIPS; c++)
            assert_memory_equal(pixels[d] + c * LONG * BYTES, given + c * GIVEN * BYTES, GIVEN * BYTES);
        sid2_sampler_destroy(s);
        sid2_trainer_destroy(t[d]);
    }
    double clips = psnr(pixels[0], pixels[1], sizeof pixels[0]);
    printf("clips: %.1f dB\n", clips);
    assert_true(clips >= 50);
    sid2_config_destroy(config);
}

static void programs_stop_where_they_are_told(void **state)
{
    (void)state;
    check_stops(gpu);
}

static void what_is_not_there_is_refused_by_name(void **state)
{
    (void)state;
    assert_true(check_refusals(gpu) >= SID2_OP_COUNT); /* not f64 */
}

int main(int argc, char **argv)
{
    if (argc > 1) steps = atoi(argv[1]);
    if (argc > 2) cmocka_set_test_filter(argv[2]);
    if (!(gpu = open_vulkan())) return printf("skipped: %s\n", err.message), SKIPPED;
    printf("%s\n", sid2_device_describe(gpu)->name);
    cpu = open_device("cpu");
    if (!mkdtemp(folder)) return 1;
    snprintf(checkpoint, sizeof checkpoint, "%s/checkpoint", folder);
    const struct CMUnitTest tests[] = {cmocka_unit_test(losses_agree),
                                       cmocka_unit_test(seeds_give_the_same_pictures),
                                       cmocka_unit_test(programs_share_an_arena),
                                       cmocka_unit_test(oblong_images_agree),
                                       cmocka_unit_test(clips_agree),
                                       cmocka_unit_test(lanes_meet_on_a_gpu),
                                       cmocka_unit_test(programs_stop_where_they_are_told),
                                       cmocka_unit_test(what_is_not_there_is_refused_by_name)};
    int failures = cmocka_run_group_tests(tests, NULL, NULL);
    sid2_trainer_destroy(on_cpu);
    sid2_trainer_destroy(on_gpu);
    sid2_device_close(cpu);
    sid2_device_close(gpu);
    sid2_remove_tree(folder, NULL);
    return failures;
}
