/* Sampling: a seed is an image whatever the batch, guidance costs what it should, trouble is named. */
#include "model_support.h"

#include "file.h"
#include "sampler.h"

enum { COUNT = 9, BYTES = 64, CLASSES = 3 };

static sid2_device *device;

/* Trained for a moment, so that images depend on seeds and labels. */
static sid2_trainer *trained;

static sid2_sampler *make_sampler(const char *const settings[])
{
    sid2_config *config = tiny_config(settings);
    sid2_sampler *s = sid2_sampler_create(device, config, 0, &err);
    must(s);
    uint8_t pixel[BYTES];
    int32_t label = 0;
    assert_false(sid2_sampler_run(s, &(uint64_t){0}, &label, 1, pixel, NULL, NULL, &err));
    assert_non_null(strstr(err.message, "no weights"));
    must(sid2_sampler_load_trainer(s, trained, &err));
    sid2_config_destroy(config);
    return s;
}
#define MAKE(...) make_sampler((const char *const[]){__VA_ARGS__, NULL})

static const uint64_t seeds[COUNT] = {0, 1, 2, 3, 4, 5, 1ull << 40, 77, 12345678901234ull};

static sid2_sample_progress last;
static int calls, stop_at;

static bool watch(void *user, const sid2_sample_progress *progress)
{
    assert_ptr_equal(user, &last);
    last = *progress;
    return ++calls != stop_at;
}

static void sample(sid2_sampler *s, int first, int count, int32_t *labels, uint8_t *pixels)
{
    for (int i = 0; i < count; i++) labels[i] = -1;
    calls = stop_at = 0;
    must(sid2_sampler_run(s, seeds + first, labels, count, pixels, watch, &last, &err));
    assert_int_equal(last.images, count);
    assert_int_equal(last.total, count);
}

static void a_seed_is_an_image(void **state)
{
    (void)state;
    static const char *const samplers[] = {
#define SAMPLER(word, evaluations, history, noise, help) "sample.sampler=" #word,
#include "samplers.def"
    };
    enum { SAMPLERS = sizeof samplers / sizeof samplers[0] };
    static const char *const batches[] = {"sample.batch=1", "sample.batch=2", "sample.batch=9",
                                          "sample.batch=16"};
    static const char *const precisions[] = {"sample.precision=f32", "sample.precision=bf16"};
    static const char *const rules[] = {"sample.guidance_rule=linear", "sample.guidance_rule=apg"};
    for (int k = 0; k < 2 * SAMPLERS; k++) {
        uint8_t want[COUNT * BYTES], got[COUNT * BYTES];
        int32_t labels[COUNT], want_labels[COUNT];
        for (int b = 0; b < 4; b++) {
            sid2_sampler *s =
                MAKE(samplers[k % SAMPLERS], batches[b], precisions[k / SAMPLERS],
                     rules[(k + k / SAMPLERS) % 2], "sample.guidance=2", "sample.interval=-3,3");
            sample(s, 0, COUNT, b ? labels : want_labels, b ? got : want);
            if (b) {
                assert_memory_equal(labels, want_labels, sizeof labels);
                assert_memory_equal(got, want, sizeof want);
            }
            sample(s, 6, 1, labels, got); /* alone */
            assert_memory_equal(got, want + 6 * BYTES, BYTES);
            assert_int_equal(labels[0], want_labels[6]);
            sid2_sampler_destroy(s);
        }
        assert_true(memcmp(want, want + BYTES, BYTES) != 0);
        assert_true(memcmp(want, want + 6 * BYTES, BYTES) != 0); /* seeds beyond 32 bits count */
        for (int i = 0; i < COUNT; i++) assert_in_range(want_labels[i], 0, CLASSES - 1);
    }
}

/* Parts of a batch on one core or on several, more than there are among them; 9 images are 5 parts of 2, 64 are 8 of 8.
 * Errors of evaluation are sums in a fixed order, so they too are the same. */
static void threads_change_no_bit(void **state)
{
    (void)state;
    enum { MANY = 64 };
    static const int threads[] = {1, 2, 3, 8};
    static const char *const batches[] = {"sample.batch=9", "sample.batch=64"}, *const precisions[] = {
                                                                                    "sample.precision=f32",
                                                                                    "sample.precision=bf16"};
    uint64_t many[MANY];
    for (int i = 0; i < MANY; i++) many[i] = (uint64_t)i;
    for (int k = 0; k < 4; k++) {
        static uint8_t want[MANY * BYTES], got[MANY * BYTES];
        sid2_config *config = TINY(batches[k / 2], precisions[k % 2], "sample.guidance=2", "sample.steps=4");
        sid2_eval_point point = {0};
        for (int t = 0; t < 4; t++) {
            int32_t labels[MANY];
            for (int i = 0; i < MANY; i++) labels[i] = -1;
            const sid2_backend *cpu = &sid2_backend_cpu;
            sid2_device *on = sid2_backends_open(
                &cpu, 1, "cpu", &sid2_with(sid2_device_options, .threads = threads[t]), &err);
            must(on);
            sid2_sampler *s = sid2_sampler_create(on, config, 0, &err);
            sid2_evaluator *e = sid2_evaluator_create(on, config, 0, &err);
            must(s && e);
            int parts = k < 2 ? 5 : 8, workers = threads[t] < parts ? threads[t] : parts;
            assert_int_equal(sid2_sampler_memory(s).lanes, parts);
            assert_int_equal(sid2_sampler_memory(s).workers, workers);
            must(sid2_sampler_load_trainer(s, trained, &err));
            must(sid2_evaluator_load_trainer(e, trained, &err));
            must(sid2_sampler_run(s, many, labels, MANY, t ? got : want, NULL, NULL, &err));
            must(sid2_evaluator_run(e, want, NULL, MANY, 0.5, 0, &err));
            if (t) assert_memory_equal(got, want, sizeof want);
            if (t) assert_memory_equal(sid2_evaluator_point(e), &point, sizeof point);
            point = *sid2_evaluator_point(e);
            sid2_sampler_destroy(s);
            sid2_evaluator_destroy(e);
            sid2_device_close(on);
        }
        sid2_config_destroy(config);
    }
}

static void guidance_costs_what_it_should(void **state)
{
    (void)state;
    static const struct {
        const char *guidance, *interval;
        int guided;
    } cases[] = {
        {"sample.guidance=1", "sample.interval=always", 0},
        {"sample.guidance=2", "sample.interval=always", 6},
        {"sample.guidance=2", "sample.interval=none", 0},
        /* at t = 1, 5/6 .. 1/6: logsnr -10, -2.6, -1.1, 0, 1.1, 2.6, moved by the schedule of 8 pixels */
        {"sample.guidance=2", "sample.interval=-1.6,1.6", 3}};
    for (int i = 0; i < 4; i++) {
        sid2_sampler *s = MAKE(cases[i].guidance, cases[i].interval, "schedule.low=8", "schedule.high=8");
        uint8_t pixels[5 * BYTES];
        int32_t labels[5];
        sample(s, 0, 5, labels, pixels);
        assert_int_equal(last.evaluations, 5 * 6);
        assert_int_equal(last.guided, 5 * cases[i].guided);
        assert_float_equal(last.multiply_adds / last.unguided_adds, 1 + cases[i].guided / 6.0, 1e-12);
        assert_int_equal(calls, 12);
        sid2_sampler_destroy(s);
    }
}

static void guidance_of_weight_one_is_none(void **state)
{
    (void)state;
    sid2_sampler *plain = MAKE("sample.guidance=1"), *guided = MAKE("sample.guidance=1.000001");
    sid2_sampler *strong = MAKE("sample.guidance=8");
    uint8_t a[COUNT * BYTES], b[COUNT * BYTES], c[COUNT * BYTES];
    int32_t labels[COUNT];
    sample(plain, 0, COUNT, labels, a);
    sample(guided, 0, COUNT, labels, b);
    sample(strong, 0, COUNT, labels, c);
    int difference = 0;
    for (int i = 0; i < COUNT * BYTES; i++) assert_in_range(a[i] - b[i] + 1, 0, 2);
    for (int i = 0; i < COUNT * BYTES; i++) difference += abs(a[i] - c[i]);
    assert_true(difference > COUNT * BYTES);
    sid2_sampler_destroy(plain);
    sid2_sampler_destroy(guided);
    sid2_sampler_destroy(strong);
}

/* A guide that is the model itself changes nothing, whatever the weight; its class-less self is what guides without one;
 * and another network needs not have its size, its schedule or its classes. */
static void another_network_guides(void **state)
{
    (void)state;
    char path[] = "/tmp/sid2-guide-XXXXXX", own[64], small[64];
    assert_non_null(mkdtemp(path));
    snprintf(own, sizeof own, "%s/own", path);
    snprintf(small, sizeof small, "%s/small", path);
    must(sid2_trainer_save(trained, own, &err));
    sid2_config *smaller = TINY("model.channels=8,8", "model.head_dim=4", "model.classes=0", "schedule.low=8",
                                "schedule.high=8", "sample.guidance=1");
    sid2_trainer *other = sid2_trainer_create(device, smaller, 0, &err);
    must(other);
    must(sid2_trainer_save(other, small, &err));
    sid2_trainer_destroy(other);
    sid2_config *same = TINY("sample.guidance=1"),
                *strong = TINY("sample.guidance=3", "sample.precision=f32"),
                *plain = TINY("sample.guidance=1", "sample.precision=f32"),
                *wide = TINY("model.image_size=16");
    uint8_t none[COUNT * BYTES], by_itself[COUNT * BYTES], by_small[COUNT * BYTES];
    int32_t labels[COUNT];
    sid2_sampler *s = sid2_sampler_create(device, plain, 0, &err);
    must(s);
    must(sid2_sampler_load_trainer(s, trained, &err));
    sample(s, 0, COUNT, labels, none);
    sid2_sampler_destroy(s);
    for (int i = 0; i < 2; i++) {
        s = sid2_sampler_create_guided(device, strong, i ? smaller : same, 0, &err);
        must(s);
        must(sid2_sampler_load_trainer(s, trained, &err));
        assert_false(sid2_sampler_run(s, seeds, labels, 1, by_small, NULL, NULL, &err));
        assert_non_null(strstr(err.message, "of the guide"));
        must(sid2_sampler_load_guide(s, i ? small : own, true, &err));
        sample(s, 0, COUNT, labels, i ? by_small : by_itself);
        double times = last.multiply_adds / last.unguided_adds;
        assert_true(i ? times > 1 && times < 1.9 : fabs(times - 2) < 1e-12);
        sid2_sampler_destroy(s);
    }
    int far = 0, near = 0;
    for (int i = 0; i < COUNT * BYTES; i++) near += abs(none[i] - by_itself[i]);
    for (int i = 0; i < COUNT * BYTES; i++) far += abs(none[i] - by_small[i]);
    assert_true(near <= COUNT * BYTES / 50 && far > COUNT * BYTES);
    assert_null(sid2_sampler_create_guided(device, strong, wide, 0, &err));
    assert_non_null(strstr(err.message, "images of"));
    assert_null(sid2_sampler_create_guided(device, plain, same, 0, &err));
    assert_non_null(strstr(err.message, "asks for none"));
    sid2_config_destroy(same);
    sid2_config_destroy(strong);
    sid2_config_destroy(plain);
    sid2_config_destroy(wide);
    sid2_config_destroy(smaller);
    must(sid2_remove_tree(path, &err));
}

static void labels_and_stops(void **state)
{
    (void)state;
    sid2_sampler *s = MAKE("sample.steps=4");
    uint8_t pixels[COUNT * BYTES], other[COUNT * BYTES];
    int32_t labels[COUNT] = {0, 1, 2, 0, 1, 2, 0, 1, 3};
    assert_false(sid2_sampler_run(s, seeds, labels, COUNT, pixels, NULL, NULL, &err));
    assert_non_null(strstr(err.message, "class 3"));
    assert_int_equal(err.code, SID2_ERR_USAGE);
    int32_t zeros[COUNT] = {0}, ones[COUNT];
    for (int i = 0; i < COUNT; i++) ones[i] = 1;
    must(sid2_sampler_run(s, seeds, zeros, COUNT, pixels, NULL, NULL, &err));
    must(sid2_sampler_run(s, seeds, ones, COUNT, other, NULL, NULL, &err));
    assert_true(memcmp(pixels, other, sizeof pixels) != 0);
    calls = 0;
    stop_at = 3;
    assert_false(sid2_sampler_run(s, seeds, ones, COUNT, other, watch, &last, &err));
    assert_int_equal(err.code, SID2_ERR_CANCELLED);
    assert_int_equal(calls, 3);
    sid2_sampler_destroy(s);
}

/* Of every step, the images as they stood. */
typedef struct previews {
    sid2_sampler *sampler;
    int count;
    uint8_t pixels[8][COUNT * BYTES];
} previews;

static bool preview(void *user, const sid2_sample_progress *progress)
{
    previews *p = user;
    assert_int_equal(p->count % progress->steps, progress->step - 1);
    p->count++;
    must(sid2_sampler_preview(p->sampler, p->pixels[progress->step - 1] + progress->first * BYTES, &err));
    return true;
}

static void a_preview_is_the_picture_on_its_way(void **state)
{
    (void)state;
    static previews p;
    int32_t labels[COUNT], want_labels[COUNT];
    uint8_t want[COUNT * BYTES], got[COUNT * BYTES];
    p.sampler = MAKE("sample.steps=8", "sample.batch=4", "sample.sampler=dpm2m");
    assert_false(sid2_sampler_preview(p.sampler, got, &err));
    assert_int_equal(err.code, SID2_ERR_USAGE);
    sample(p.sampler, 0, COUNT, want_labels, want);
    for (int i = 0; i < COUNT; i++) labels[i] = -1;
    must(sid2_sampler_run(p.sampler, seeds, labels, COUNT, got, preview, &p, &err));
    assert_int_equal(p.count, 3 * 8); /* 4, 4 and 1 images */
    assert_memory_equal(got, want, sizeof want);
    assert_memory_equal(p.pixels[7], want, sizeof want);
    double before = INFINITY;
    for (int step = 0; step < 8; step++) {
        double distance = 0;
        for (int i = 0; i < COUNT * BYTES; i++) distance += abs(p.pixels[step][i] - want[i]);
        assert_true(distance < before || distance == 0);
        before = distance;
    }
    assert_false(sid2_sampler_preview(p.sampler, got, &err));
    sid2_sampler_destroy(p.sampler);
}

static sid2_evaluator *make_evaluator(size_t memory, const char *const settings[])
{
    sid2_config *config = tiny_config(settings);
    sid2_evaluator *e = sid2_evaluator_create(device, config, memory, &err);
    must(e);
    uint8_t pixel[BYTES] = {0};
    assert_false(sid2_evaluator_run(e, pixel, NULL, 1, 0.5, 0, &err));
    assert_non_null(strstr(err.message, "no weights"));
    must(sid2_evaluator_load_trainer(e, trained, &err));
    sid2_config_destroy(config);
    return e;
}
#define EVALUATOR(...) make_evaluator(0, (const char *const[]){__VA_ARGS__, NULL})

/* The errors of evaluation are those of the training loss, and do not depend on the batch. */
static void evaluation_is_consistent(void **state)
{
    (void)state;
    sid2_evaluator *a = EVALUATOR("sample.batch=2"), *b = EVALUATOR("sample.batch=5");
    uint8_t pixels[7 * BYTES];
    int32_t labels[7];
    make_images(pixels, labels, 7, BYTES, CLASSES, 50);
    labels[3] = -1;
    sid2_eval_point p, q, early, late;
    must(sid2_evaluator_run(a, pixels, labels, 7, 0.4, 1000, &err));
    p = *sid2_evaluator_point(a);
    must(sid2_evaluator_run(b, pixels, labels, 7, 0.4, 1000, &err));
    q = *sid2_evaluator_point(b);
    assert_true(fabs(p.x_mse / q.x_mse - 1) < 1e-5);
    assert_true(fabs(p.eps_mse / (exp(p.logsnr) * p.x_mse) - 1) < 1e-12);
    assert_true(fabs(p.v_mse / (p.x_mse + p.eps_mse) - 1) < 1e-12);
    assert_true(p.weighted > 0);
    must(sid2_evaluator_run(a, pixels, labels, 7, 0.1, 1000, &err));
    early = *sid2_evaluator_point(a);
    must(sid2_evaluator_run(a, pixels, labels, 7, 0.9, 1000, &err));
    late = *sid2_evaluator_point(a);
    assert_true(early.x_mse < late.x_mse && early.logsnr > late.logsnr);
    assert_false(sid2_evaluator_run(a, pixels, labels, 0, 0.5, 0, &err));
    sid2_evaluator_destroy(a);
    sid2_evaluator_destroy(b);
}

static void a_model_without_classes(void **state)
{
    (void)state;
    sid2_config *config = TINY("model.classes=0");
    sid2_trainer *t = sid2_trainer_create(device, config, 0, &err);
    must(t);
    uint8_t pixels[8 * BYTES];
    int32_t labels[8];
    make_images(pixels, labels, 8, BYTES, CLASSES, 0);
    must(sid2_trainer_step(t, pixels, NULL, &err));
    must(sid2_trainer_step(t, pixels, labels, &err)); /* labels of nothing */
    sid2_sampler *s = sid2_sampler_create(device, config, 0, &err);
    must(s);
    must(sid2_sampler_load_trainer(s, t, &err));
    sample(s, 0, 8, labels, pixels);
    for (int i = 0; i < 8; i++) assert_int_equal(labels[i], -1);
    labels[3] = 5; /* of nothing */
    must(sid2_sampler_run(s, seeds, labels, 8, pixels, NULL, NULL, &err));
    assert_int_equal(labels[3], -1);
    sid2_sampler_destroy(s);
    sid2_trainer_destroy(t);
    sid2_config_destroy(config);
}

/* Under a limit the batch shrinks, and the images stay. */
static void memory_limits_the_batch(void **state)
{
    (void)state;
    sid2_config *config = TINY("sample.batch=64", "sample.guidance=2");
    sid2_model_info *info = sid2_model_describe(config, NULL, 0, &err);
    must(info);
    /* The tightest limit, within a half percent, that can be kept. */
    sid2_sampler *s = NULL, *next;
    for (size_t limit = 8 * (info->sample_state_bytes + info->sample_arena_bytes);; limit -= limit / 200) {
        if (!(next = sid2_sampler_create(device, config, limit, &err))) break;
        sid2_sampler_destroy(s);
        s = next;
    }
    assert_int_equal(err.code, SID2_ERR_MEMORY);
    must(s);
    must(sid2_sampler_load_trainer(s, trained, &err));
    sid2_sampler *free_one = sid2_sampler_create(device, config, 0, &err);
    must(free_one);
    must(sid2_sampler_load_trainer(free_one, trained, &err));
    uint8_t a[COUNT * BYTES], b[COUNT * BYTES];
    int32_t labels[COUNT];
    sample(s, 0, COUNT, labels, a);
    int steps = calls; /* more batches, more steps */
    sample(free_one, 0, COUNT, labels, b);
    assert_true(steps > calls);
    assert_memory_equal(a, b, sizeof a);
    sid2_sampler_destroy(s);
    sid2_sampler_destroy(free_one);
    sid2_model_info_destroy(info);
    sid2_config_destroy(config);
}

/* Every sampler, guided or not: what the plan says is what the device holds, but for a workspace of its own;
 * one arena for all programs, and none that does not run. */
static void what_is_planned_is_held(void **state)
{
    (void)state;
    static const char *const samplers[] = {
#define SAMPLER(word, evaluations, history, noise, help) "sample.sampler=" #word,
#include "samplers.def"
    };
    static const char *const guidance[][2] = {{"sample.guidance=1", "sample.interval=always"},
                                              {"sample.guidance=2", "sample.interval=always"},
                                              {"sample.guidance=2", "sample.interval=-3,3"}};
    sid2_device *devices[] = {device, open_device("reference")};
    for (size_t k = 0; k < 2 * 3 * sizeof samplers / sizeof samplers[0]; k++) {
        sid2_device *on = devices[k % 2];
        sid2_config *config =
            TINY(samplers[k / 6], guidance[k / 2 % 3][0], guidance[k / 2 % 3][1], "sample.precision=f32");
        sid2_model_info *info = sid2_model_describe(config, sid2_device_describe(on), 0, &err);
        must(info);
        size_t before = sid2_device_used(on);
        sid2_sampler *s = sid2_sampler_create(on, config, 0, &err);
        must(s);
        sid2_memory_report held = sid2_sampler_memory(s);
        assert_int_equal(held.state, info->sample_state_bytes);
        assert_int_equal(held.arena, info->sample_arena_bytes);
        assert_int_equal(sid2_device_used(on) - before, held.state + held.arena + held.workspace);
        sid2_sampler_destroy(s);
        assert_int_equal(sid2_device_used(on), before);
        sid2_model_info_destroy(info);
        sid2_config_destroy(config);
    }
    sid2_device_close(devices[1]);
}

/* Evaluation holds less than sampling, which has more programs, and keeps to a limit or says what it would need. */
static void evaluation_keeps_the_limit(void **state)
{
    (void)state;
    sid2_config *config = TINY("sample.batch=64", "sample.guidance=2", "sample.precision=f32");
    size_t before = sid2_device_used(device);
    sid2_sampler *s = sid2_sampler_create(device, config, 0, &err);
    must(s);
    size_t limit = sid2_device_used(device) - before;
    sid2_sampler_destroy(s);
    sid2_evaluator *e;
    int fewest = 64;
    for (; (e = sid2_evaluator_create(device, config, limit, &err)); limit = limit * 4 / 5) {
        sid2_memory_report held = sid2_evaluator_memory(e);
        assert_true(sid2_device_used(device) - before <= limit);
        assert_int_equal(sid2_device_used(device) - before, held.state + held.arena + held.workspace);
        fewest = held.microbatch;
        sid2_evaluator_destroy(e);
    }
    assert_true(fewest < 64);
    assert_int_equal(err.code, SID2_ERR_MEMORY);
    assert_non_null(strstr(err.message, "evaluating one image at a time needs"));
    assert_int_equal(sid2_device_used(device), before);
    sid2_config_destroy(config);
}

static int open_cpu(void **state)
{
    (void)state;
    device = open_device("cpu");
    sid2_config *config = TINY("train.learning_rate=1e-2", "train.ema=0.5");
    trained = sid2_trainer_create(device, config, 0, &err);
    must(trained);
    uint8_t pixels[8 * BYTES];
    int32_t labels[8];
    for (int i = 0; i < 60; i++) {
        make_images(pixels, labels, 8, BYTES, CLASSES, sid2_trainer_images(trained));
        must(sid2_trainer_step(trained, pixels, labels, &err));
    }
    sid2_config_destroy(config);
    return 0;
}

static int close_cpu(void **state)
{
    (void)state;
    sid2_trainer_destroy(trained);
    sid2_device_close(device);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_seed_is_an_image),
        cmocka_unit_test(threads_change_no_bit),
        cmocka_unit_test(guidance_costs_what_it_should),
        cmocka_unit_test(guidance_of_weight_one_is_none),
        cmocka_unit_test(another_network_guides),
        cmocka_unit_test(labels_and_stops),
        cmocka_unit_test(a_preview_is_the_picture_on_its_way),
        cmocka_unit_test(evaluation_is_consistent),
        cmocka_unit_test(a_model_without_classes),
        cmocka_unit_test(memory_limits_the_batch),
        cmocka_unit_test(what_is_planned_is_held),
        cmocka_unit_test(evaluation_keeps_the_limit),
    };
    return cmocka_run_group_tests(tests, open_cpu, close_cpu);
}
