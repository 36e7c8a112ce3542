/* Clips: what a model of frames shares with one of images, what is given and what is made, going on, and the same bits. */
#include <unistd.h>

#include "file.h"
#include "model_support.h"
#include "sampler.h"

enum { FRAMES = 4, GIVEN = 2, FRAME = 64, CLIP = FRAMES * FRAME, CLIPS = 5 };

static sid2_device *reference, *cpu;
static sid2_trainer *trained; /* on the CPU, for a moment */
static char folder[] = "/tmp/sid2-video-XXXXXX";

#define VIDEO(...) TINY("model.frames=4", "model.given=2", "train.microbatch=2", __VA_ARGS__)

/* ---- The network ---- */

/* v of `clips` clips whose frames come in the order `order`, by weights of which none is zero. */
static float *ask(const sid2_config *config, int clips, const int *order)
{
    sid2_graph *g = sid2_graph_create(SID2_F32);
    sid2_shape images = sid2_config_images(config, clips), each = sid2_shape_of(images.dim[0]);
    sid2_buffers buffers = {.device = reference};
    sid2_uvit net =
        sid2_uvit_build(g, config,
                        (sid2_uvit_inputs){.params = sid2_graph_params(g, "", false),
                                           .z = sid2_graph_external(g, "z", SID2_F32, images),
                                           .time = sid2_graph_external(g, "time", SID2_F32, each),
                                           .label = sid2_graph_external(g, "label", SID2_I32, each),
                                           .samples = SID2_NONE,
                                           .seed = SID2_NONE});
    sid2_graph_export(g, net.v, "v");
    sid2_graph_fuse(g);
    must(sid2_graph_finish(g, &err));
    sid2_program *program = sid2_buffers_program(&buffers, g, NULL, &err);
    must(program);
    const sid2_params *params = &g->params[0];
    float *weights = malloc((size_t)params->elements * sizeof *weights);
    for (int64_t i = 0; i < params->elements; i++)
        weights[i] = sid2_uniform(sid2_philox_word(1, 2, 3, (uint64_t)i)) - 0.5f;
    must(sid2_params_upload(&buffers, g, params, weights, &err));
    int count = (int)images.dim[0];
    float z[2 * CLIP], time[2 * FRAMES];
    int32_t label[2 * FRAMES];
    for (int i = 0; i < count; i++) {
        int from = i / FRAMES * FRAMES + order[i % FRAMES];
        for (int k = 0; k < FRAME; k++)
            z[i * FRAME + k] = 2 * sid2_uniform(sid2_philox_word(4, (uint64_t)from, 0, (uint64_t)k)) - 1;
        time[i] = (float)(100 * from);
        label[i] = from / FRAMES;
    }
    must(sid2_buffers_upload(&buffers, "z", z, &err) && sid2_buffers_upload(&buffers, "time", time, &err) &&
         sid2_buffers_upload(&buffers, "label", label, &err) && sid2_program_run(program, &err));
    free(weights);
    float *v = download(&buffers, "v");
    sid2_program_destroy(program);
    sid2_buffers_clear(&buffers);
    sid2_graph_destroy(g);
    return v;
}

static const int in_order[] = {0, 1, 2, 3}, mixed[] = {2, 0, 3, 1};

/* How far v of mixed frames is from v, mixed; beside the size of v. */
static double error_of_mixing(const char *width)
{
    sid2_config *config = VIDEO("model.image_size=8", width);
    float *v = ask(config, 2, in_order), *w = ask(config, 2, mixed);
    double error = 0, size = 0;
    for (int i = 0; i < 2 * CLIP; i++) {
        int frame = i / FRAME % FRAMES, from = i + (mixed[frame] - frame) * FRAME;
        error += fabs(w[i] - v[from]);
        size += fabs(v[from]);
    }
    free(v);
    free(w);
    sid2_config_destroy(config);
    return error / size;
}

/* Heads of 4 have no room for a rotation by frame, so that only what is in the frames tells them apart. */
static void frames_may_change_places(void **state)
{
    (void)state;
    double without = error_of_mixing("model.head_dim=4"), with = error_of_mixing("model.head_dim=8");
    if (!(without < 1e-6 && with > 3e-4)) fail_msg("%g without a rotation by frame, %g with", without, with);
}

/* A clip without attention is its frames, to the bit; with it it is not. */
static void only_attention_sees_the_others(void **state)
{
    (void)state;
    static const char *const blocks[] = {"model.blocks=res,res", "model.blocks=res,transformer"};
    for (int i = 0; i < 2; i++) {
        sid2_config *clips = VIDEO(blocks[i]), *images = TINY(blocks[i]);
        float *v = ask(clips, 2, in_order), *w = ask(images, 2 * FRAMES, in_order);
        assert_int_equal(memcmp(v, w, 2 * CLIP * sizeof *v) == 0, i == 0);
        free(v);
        free(w);
        sid2_config_destroy(clips);
        sid2_config_destroy(images);
    }
}

/* ---- Training ---- */

/* What a micro-batch is told of frames 0 .. FRAMES - 1 of each clip. */
static void given_frames_are_clean(void **state)
{
    (void)state;
    static const char *const drops[] = {"train.history_drop=0", "train.history_drop=1"};
    uint8_t pixels[8 * CLIP] = {0};
    for (int dropped = 0; dropped < 2; dropped++) {
        sid2_config *config = VIDEO("train.batch=2", "train.lanes=1", drops[dropped]);
        sid2_trainer *t = sid2_trainer_create(reference, config, 0, &err);
        must(t && sid2_trainer_step(t, pixels, NULL, &err));
        const sid2_buffers *told = &t->lanes.worker[0].buffers;
        float *alpha = download(told, "alpha"), *sigma = download(told, "sigma"),
              *time = download(told, "time"), *weight = download(told, "weight"),
              *loss = download(told, "loss");
        for (int i = 0; i < 2 * FRAMES; i++) {
            int made = i % FRAMES >= GIVEN || dropped, last = i / FRAMES * FRAMES + FRAMES - 1;
            assert_true(made ? alpha[i] == alpha[last] && alpha[i] < 1 : alpha[i] == 1);
            assert_true(made ? sigma[i] == sigma[last] && sigma[i] > 0 : sigma[i] == 0);
            assert_true(made ? time[i] == time[last] && time[i] < 999 : time[i] == 1000);
            assert_true(made ? weight[i] == weight[last] && weight[i] > 0 : weight[i] == 0);
            assert_true(made ? loss[i] > 0 : loss[i] == 0);
        }
        const sid2_train_stats *stats = sid2_trainer_stats(t);
        for (int i = 0; i < 2; i++) {
            double sum = 0, logsnr = stats->sample_logsnr[i];
            for (int f = 0; f < FRAMES; f++) sum += loss[i * FRAMES + f];
            assert_true(fabs(stats->sample_loss[i] - sum / FRAMES) < 1e-6 * sum);
            sid2_schedule schedule = sid2_schedule_create(config);
            double want = sid2_loss_weight(&schedule, sid2_schedule_time(&schedule, logsnr)) *
                          (dropped ? 1 : (double)FRAMES / (FRAMES - GIVEN));
            assert_true(fabs(weight[(i + 1) * FRAMES - 1] / want - 1) < 1e-4);
        }
        free(alpha);
        free(sigma);
        free(time);
        free(weight);
        free(loss);
        sid2_trainer_destroy(t);
        sid2_config_destroy(config);
    }
}

/* Noise in given frames, as large as it may be: z, losses and the gradient stay the same, and nothing flows into what
 * the network says of these frames. */
static void noise_of_given_frames_is_nothing(void **state)
{
    (void)state;
    float *kept[3] = {NULL};
    for (int noisy = 0; noisy < 2; noisy++) {
        sid2_config *config = VIDEO(NULL);
        sid2_graph *g = sid2_graph_create(SID2_F32);
        sid2_shape images = sid2_config_images(config, 1), each = sid2_shape_of(FRAMES);
        sid2_tensor x = sid2_graph_external(g, "x", SID2_F32, images),
                    eps = sid2_graph_external(g, "eps", SID2_F32, images),
                    alpha = sid2_graph_external(g, "alpha", SID2_F32, each),
                    sigma = sid2_graph_external(g, "sigma", SID2_F32, each),
                    z = sid2_diffuse(g, x, eps, alpha, sigma),
                    v = sid2_graph_variable(g, "v", SID2_F32, images);
        sid2_tensor loss =
            sid2_diffusion_loss(g, v, z, x, alpha, sigma, sid2_graph_external(g, "weight", SID2_F32, each));
        sid2_graph_export(g, z, "z");
        sid2_graph_export(g, loss, "loss");
        sid2_tensor dloss = sid2_graph_external(g, "dloss", SID2_F32, each);
        sid2_graph_backward(g, &loss, &dloss, 1);
        sid2_graph_export(g, sid2_graph_grad(g, v), "dv");
        must(sid2_graph_finish(g, &err));
        sid2_buffers buffers = {.device = cpu};
        sid2_program *program = sid2_buffers_program(&buffers, g, NULL, &err);
        float values[4][CLIP];
        for (int i = 0; i < CLIP; i++) {
            values[0][i] = (float)(i % 7) / 7;
            values[1][i] = i < GIVEN * FRAME && noisy ? 1e6f : (float)(i % 5) - 2;
            values[2][i] = (float)(i % 3) - 1;
        }
        must(program && sid2_buffers_upload(&buffers, "x", values[0], &err) &&
             sid2_buffers_upload(&buffers, "eps", values[1], &err) &&
             sid2_buffers_upload(&buffers, "v", values[2], &err) &&
             sid2_buffers_upload(&buffers, "alpha", (float[]){1, 1, 0.8f, 0.8f}, &err) &&
             sid2_buffers_upload(&buffers, "sigma", (float[]){0, 0, 0.6f, 0.6f}, &err) &&
             sid2_buffers_upload(&buffers, "weight", (float[]){0, 0, 2, 2}, &err) &&
             sid2_buffers_upload(&buffers, "dloss", (float[]){1, 1, 1, 1}, &err) &&
             sid2_program_run(program, &err));
        static const char *const names[] = {"z", "loss", "dv"};
        for (int k = 0; k < 3; k++) {
            float *got = download(&buffers, names[k]);
            size_t bytes = sid2_buffers_find(&buffers, names[k])->bytes;
            if (noisy) assert_memory_equal(kept[k], got, bytes);
            double flow[2] = {0};
            for (int i = 0; k == 2 && i < CLIP; i++) flow[i >= GIVEN * FRAME] += fabs(got[i]);
            assert_true(flow[0] == 0 && (k < 2 || flow[1] > 0));
            free(kept[k]);
            kept[k] = got;
        }
        sid2_program_destroy(program);
        sid2_buffers_clear(&buffers);
        sid2_graph_destroy(g);
        sid2_config_destroy(config);
    }
    for (int k = 0; k < 3; k++) free(kept[k]);
}

static sid2_trainer *train(sid2_device *device, const sid2_config *config, size_t memory, int steps)
{
    sid2_trainer *t = sid2_trainer_create(device, config, memory, &err);
    if (t && steps) train_steps(t, steps);
    return t;
}

/* On other threads and after a checkpoint too. */
static void training_repeats_to_the_bit(void **state)
{
    (void)state;
    static const char *const precisions[] = {"train.precision=f32", "train.precision=bf16"};
    const sid2_backend *backend = &sid2_backend_cpu;
    for (int i = 0; i < 2; i++) {
        sid2_config *config = VIDEO(precisions[i], "model.dropout=0.1", "train.microbatch=1", "train.lanes=4",
                                    "train.history_drop=0.4");
        const char *path = path_in(folder, precisions[i]);
        sid2_trainer *straight = train(cpu, config, 0, 4), *first = train(cpu, config, 0, 2);
        must(straight && first && sid2_trainer_save(first, path, &err));
        sid2_device *one = sid2_backends_open(&backend, 1, "cpu", &(sid2_device_options){.threads = 1}, &err);
        must(one);
        sid2_trainer *second = train(one, config, 0, 0);
        must(second && sid2_trainer_resume(second, path, &err));
        train_steps(second, 2);
        same_state(straight, second);
        sid2_trainer_destroy(straight);
        sid2_trainer_destroy(first);
        sid2_trainer_destroy(second);
        sid2_device_close(one);
        sid2_config_destroy(config);
    }
}

/* Blocks whose activations are seen by frame and by clip are computed a second time. */
static void recomputing_changes_nothing(void **state)
{
    (void)state;
    sid2_config *config = VIDEO("model.depth=2", "model.mid_depth=4", "model.dropout=0.2", "train.lanes=1");
    sid2_trainer *all = train(reference, config, 0, 1), *less = NULL;
    must(all);
    const sid2_memory_report *m = sid2_trainer_memory(all);
    size_t limit = m->state + m->arena / 2;
    for (; !less; limit += m->arena / 16) less = train(reference, config, limit, 0);
    assert_int_equal(sid2_trainer_memory(less)->microbatch, 2);
    assert_true(sid2_trainer_memory(less)->recomputed_segments > 0);
    train_steps(less, 1);
    same_state(all, less);
    sid2_trainer_destroy(all);
    sid2_trainer_destroy(less);
    sid2_config_destroy(config);
}

/* The fast device's whole step against the reference's, which computes in double. */
static void devices_agree(void **state)
{
    (void)state;
    sid2_config *config = VIDEO("model.dropout=0.1", "model.head_dim=16", "model.image_size=8x16");
    sid2_trainer *a = train(reference, config, 0, 3), *b = train(cpu, config, 0, 3);
    must(a && b);
    const sid2_train_stats *x = sid2_trainer_stats(a), *y = sid2_trainer_stats(b);
    assert_true(fabs(x->loss - y->loss) < 1e-4 * x->loss);
    assert_true(fabs(x->grad_norm - y->grad_norm) < 1e-3 * x->grad_norm);
    sid2_trainer_destroy(a);
    sid2_trainer_destroy(b);
    sid2_config_destroy(config);
}

/* An image is a clip of one frame whatever else is said, and other frames are another model. */
static void one_frame_is_an_image(void **state)
{
    (void)state;
    sid2_config *image = TINY(NULL), *frame = TINY("model.frames=1", "train.history_drop=0.7"),
                *two = TINY("model.frames=2");
    sid2_trainer *a = train(cpu, image, 0, 3), *b = train(cpu, frame, 0, 3);
    must(a && b);
    same_state(a, b);
    assert_int_equal(sid2_config_image_bytes(two), 2 * sid2_config_image_bytes(image));
    sid2_trainer_destroy(a);
    sid2_trainer_destroy(b);
    sid2_config_destroy(image);
    sid2_config_destroy(frame);
    sid2_config_destroy(two);
}

/* The loss on held-out clips is that of the frames that are made: at the start x̂ = α z, so its error is known. */
static void held_out_loss_is_of_made_frames(void **state)
{
    (void)state;
    sid2_config *config = VIDEO("model.image_size=32", "sample.batch=2");
    sid2_trainer *fresh = train(cpu, config, 0, 0);
    sid2_evaluator *e = sid2_evaluator_create(cpu, config, 0, &err);
    must(fresh && e && sid2_evaluator_load_trainer(e, fresh, &err));
    enum { SIDE = 32 * 32 };
    static uint8_t pixels[3 * FRAMES * SIDE];
    for (int i = 0; i < 3 * FRAMES * SIDE; i++) pixels[i] = i / SIDE % FRAMES < GIVEN ? 255 : 191;
    must(sid2_evaluator_run(e, pixels, NULL, 3, 0.5, 0, &err));
    double logsnr = sid2_evaluator_point(e)->logsnr, alpha = sid2_alpha(logsnr), sigma = sid2_sigma(logsnr),
           x = 191 / 127.5 - 1, want = sigma * sigma * (sigma * sigma * x * x + alpha * alpha);
    if (fabs(sid2_evaluator_point(e)->x_mse / want - 1) > 0.05)
        fail_msg("%g, not %g", sid2_evaluator_point(e)->x_mse, want);
    sid2_evaluator_destroy(e);
    sid2_trainer_destroy(fresh);
    sid2_config_destroy(config);
}

/* ---- Sampling ---- */

static const uint64_t seeds[CLIPS] = {0, 1, 2, 1ull << 40, 77};
static uint8_t given[CLIPS * GIVEN * FRAME];

static sid2_sample_progress last;
static bool watch(void *user, const sid2_sample_progress *progress)
{
    (void)user;
    assert_true(progress->step <= progress->steps);
    last = *progress;
    return true;
}

static void sample(const char *const settings[], const uint8_t *begin, int frames, uint8_t *pixels)
{
    sid2_config *config = VIDEO("sample.steps=4");
    for (int i = 0; settings[i]; i++) must(sid2_config_set(config, settings[i], &err));
    sid2_sampler *s = sid2_sampler_create(cpu, config, 0, &err);
    int32_t labels[CLIPS] = {0, 1, 2, -1, 0};
    must(s && sid2_sampler_load_trainer(s, trained, &err) &&
         sid2_sampler_run_clips(s, seeds, labels, CLIPS, begin, frames, pixels, watch, NULL, &err));
    assert_true(labels[3] >= 0);
    assert_int_equal(last.images, CLIPS);
    assert_int_equal(last.step, last.steps);
    sid2_sampler_destroy(s);
    sid2_config_destroy(config);
}
#define SAMPLE(begin, frames, pixels, ...)                                                                   \
    sample((const char *const[]){__VA_ARGS__, NULL}, begin, frames, pixels)

/* By every sampler, guided or not. */
static void given_frames_come_back(void **state)
{
    (void)state;
    static const char *const samplers[] = {
#define SAMPLER(word, evaluations, history, noise, help) "sample.sampler=" #word,
#include "samplers.def"
    };
    static const char *const guided[] = {"sample.guidance=1", "sample.guidance=2"};
    for (size_t i = 0; i < sizeof samplers / sizeof *samplers; i++)
        for (int k = 0; k < 2; k++) {
            uint8_t got[CLIPS * CLIP], free_of_it[CLIPS * CLIP];
            SAMPLE(given, FRAMES, got, samplers[i], guided[k]);
            SAMPLE(NULL, FRAMES, free_of_it, samplers[i], guided[k]);
            for (int c = 0; c < CLIPS; c++) {
                const uint8_t *begin = got + c * CLIP, *other = free_of_it + c * CLIP;
                assert_memory_equal(begin, given + c * GIVEN * FRAME, GIVEN * FRAME);
                assert_true(memcmp(other, begin, GIVEN * FRAME) != 0);
                assert_true(memcmp(other + GIVEN * FRAME, begin + GIVEN * FRAME, CLIP - GIVEN * FRAME) != 0);
            }
        }
}

/* A seed is a clip, whatever the batch; more frames leave the first as they were, and fewer are the first of them. */
static void clips_go_on(void **state)
{
    (void)state;
    enum { LONG = 9, SHORT = 3 };
    uint8_t usual[CLIPS * CLIP], longer[CLIPS * LONG * FRAME], alone[CLIPS * LONG * FRAME],
        shorter[CLIPS * SHORT * FRAME];
    SAMPLE(given, FRAMES, usual, "sample.batch=5");
    assert_int_equal(last.steps, 4);
    SAMPLE(given, LONG, longer, "sample.batch=5");
    assert_int_equal(last.steps, 4 * 4); /* 4, 6, 8, 10 frames */
    SAMPLE(given, LONG, alone, "sample.batch=1");
    SAMPLE(given, SHORT, shorter, "sample.batch=2");
    assert_memory_equal(longer, alone, sizeof longer);
    for (int c = 0; c < CLIPS; c++) {
        assert_memory_equal(longer + c * LONG * FRAME, usual + c * CLIP, CLIP);
        assert_memory_equal(shorter + c * SHORT * FRAME, usual + c * CLIP, SHORT * FRAME);
    }
    /* The second go begins with the last frames of the first, and has noise of its own. */
    uint8_t begin[CLIPS * GIVEN * FRAME], anew[CLIPS * CLIP];
    for (int c = 0; c < CLIPS; c++)
        memcpy(begin + c * GIVEN * FRAME, usual + (c + 1) * CLIP - GIVEN * FRAME, GIVEN * FRAME);
    SAMPLE(begin, FRAMES, anew, "sample.batch=5");
    for (int c = 0; c < CLIPS; c++) {
        const uint8_t *next = longer + c * LONG * FRAME + (FRAMES - GIVEN) * FRAME;
        assert_memory_equal(next, anew + c * CLIP, GIVEN * FRAME);
        assert_true(memcmp(next, anew + c * CLIP, CLIP) != 0);
    }
}

/* Without class, history or both: three guides, of which that without the history has nothing to leave out where nothing
 * is given. */
static void guides_forget_what_they_are_told_to(void **state)
{
    (void)state;
    static const char *const without[] = {"sample.guide_without=class", "sample.guide_without=history",
                                          "sample.guide_without=both"};
    uint8_t plain[CLIPS * CLIP], guided[3][CLIPS * CLIP], unguided[CLIPS * CLIP];
    SAMPLE(given, FRAMES, plain, "sample.guidance=1");
    for (int i = 0; i < 3; i++) {
        SAMPLE(given, FRAMES, guided[i], "sample.guidance=3", without[i]);
        assert_true(memcmp(plain, guided[i], sizeof plain) != 0);
        for (int k = 0; k < i; k++) assert_true(memcmp(guided[k], guided[i], sizeof plain) != 0);
    }
    SAMPLE(NULL, FRAMES, unguided, "sample.guidance=1");
    SAMPLE(NULL, FRAMES, guided[0], "sample.guidance=3", without[0]);
    SAMPLE(NULL, FRAMES, guided[1], "sample.guidance=3", without[1]);
    SAMPLE(NULL, FRAMES, guided[2], "sample.guidance=3", without[2]);
    assert_memory_equal(guided[1], unguided, sizeof unguided);
    assert_memory_equal(guided[2], guided[0], sizeof unguided);
    SAMPLE(given, FRAMES, guided[1], "sample.guidance=3", without[1], "sample.interval=none");
    assert_memory_equal(guided[1], plain, sizeof plain);
}

static void nonsense_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *settings[5], *says;
    } wrong[] = {
        {{"model.frames=4", "model.given=4"}, "model.given = 4: must be below model.frames = 4"},
        {{"model.given=1"}, "model.given = 1: must be below model.frames = 1"},
        {{"model.frames=4", "sample.guidance=2", "sample.guide_without=history"}, "model.given = 0"},
        {{"model.frames=4", "model.given=1", "model.classes=0", "sample.guidance=2"},
         "guide_without=history"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        sid2_config *config = tiny_config(wrong[i].settings);
        assert_null(sid2_sampler_create(cpu, config, 0, &err));
        assert_int_equal(err.code, SID2_ERR_USAGE);
        if (!strstr(err.message, wrong[i].says)) fail_msg("%s", err.message);
        sid2_config_destroy(config);
    }
    uint8_t pixels[CLIP];
    for (int k = 0; k < 2;
         k++) { /* frames there are none, or not as many; a model of given frames, and one without */
        sid2_config *config = k ? TINY("model.frames=4") : VIDEO(NULL);
        sid2_trainer *t = train(cpu, config, 0, 0);
        sid2_sampler *s = sid2_sampler_create(cpu, config, 0, &err);
        int32_t label = -1;
        must(t && s && sid2_sampler_load_trainer(s, t, &err));
        assert_false(sid2_sampler_run_clips(s, seeds, &label, 1, NULL, 0, pixels, NULL, NULL, &err));
        assert_int_equal(err.code, SID2_ERR_USAGE);
        assert_false(
            sid2_sampler_run_clips(s, seeds, &label, 1, NULL, k ? 5 : 1 << 20, pixels, NULL, NULL, &err));
        assert_int_equal(err.code, SID2_ERR_USAGE);
        if (k) assert_false(sid2_sampler_run_clips(s, seeds, &label, 1, given, 4, pixels, NULL, NULL, &err));
        sid2_sampler_destroy(s);
        sid2_trainer_destroy(t);
        sid2_config_destroy(config);
    }
}

static int begin(void **state)
{
    (void)state;
    reference = open_device("reference");
    cpu = open_device("cpu");
    for (size_t i = 0; i < sizeof given; i++) given[i] = (uint8_t)(i * 37);
    sid2_config *config = VIDEO("train.history_drop=0.3");
    trained = train(cpu, config, 0, 60);
    sid2_config_destroy(config);
    return !trained || !mkdtemp(folder);
}

static int end(void **state)
{
    (void)state;
    sid2_trainer_destroy(trained);
    sid2_device_close(cpu);
    sid2_device_close(reference);
    return !sid2_remove_tree(folder, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frames_may_change_places),
        cmocka_unit_test(only_attention_sees_the_others),
        cmocka_unit_test(given_frames_are_clean),
        cmocka_unit_test(noise_of_given_frames_is_nothing),
        cmocka_unit_test(training_repeats_to_the_bit),
        cmocka_unit_test(recomputing_changes_nothing),
        cmocka_unit_test(devices_agree),
        cmocka_unit_test(one_frame_is_an_image),
        cmocka_unit_test(held_out_loss_is_of_made_frames),
        cmocka_unit_test(given_frames_come_back),
        cmocka_unit_test(clips_go_on),
        cmocka_unit_test(guides_forget_what_they_are_told_to),
        cmocka_unit_test(nonsense_is_refused),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
