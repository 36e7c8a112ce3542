/* The network: what must hold at the start, the published operation counts, memory limits. */
#include "model_support.h"

static sid2_device *device;

/* The network alone, on `device`, with fresh weights. Exports "v", and the outputs of the layers `a` and `b`. */
typedef struct network {
    sid2_graph *graph;
    sid2_program *program;
    sid2_buffers buffers;
    int64_t pixels;
} network;

static network make_network(const sid2_config *config, const char *a, const char *b)
{
    enum { N = 2 };
    network net = {.graph = sid2_graph_create(SID2_F32), .buffers = {.device = device}};
    sid2_graph *g = net.graph;
    sid2_shape images = sid2_config_images(config, N);
    net.pixels = sid2_shape_count(images);
    sid2_uvit uvit = sid2_uvit_build(
        g, config,
        (sid2_uvit_inputs){.params = sid2_graph_params(g, "", true),
                           .z = sid2_graph_external(g, "z", SID2_F32, images),
                           .time = sid2_graph_external(g, "time", SID2_F32, sid2_shape_of(N)),
                           .label = sid2_graph_external(g, "label", SID2_I32, sid2_shape_of(N)),
                           .samples = SID2_NONE,
                           .seed = SID2_NONE});
    sid2_graph_export(g, uvit.v, "v");
    for (int i = 0; i < uvit.layer_count; i++) {
        if (a && strcmp(uvit.layers[i].name, a) == 0) sid2_graph_export(g, uvit.layers[i].output, a);
        if (b && strcmp(uvit.layers[i].name, b) == 0) sid2_graph_export(g, uvit.layers[i].output, b);
    }
    sid2_graph_fuse(g);
    must(sid2_graph_finish(g, &err));
    must(net.program = sid2_buffers_program(&net.buffers, g, NULL, &err));
    float *weights = sid2_params_initial(&g->params[0], 3, &err), *z = malloc((size_t)net.pixels * sizeof *z);
    must(weights);
    for (int64_t i = 0; i < net.pixels; i++)
        z[i] = 2 * sid2_uniform(sid2_philox_word(1, 2, 3, (uint64_t)i)) - 1;
    must(sid2_params_upload(&net.buffers, g, &g->params[0], weights, &err));
    must(sid2_buffers_upload(&net.buffers, "z", z, &err));
    must(sid2_buffers_upload(&net.buffers, "time", (float[]){40, 700}, &err));
    must(sid2_buffers_upload(&net.buffers, "label", (int32_t[]){1, (int32_t)config->model_classes}, &err));
    must(sid2_program_run(net.program, &err));
    free(weights);
    free(z);
    return net;
}

static void drop_network(network *net)
{
    sid2_program_destroy(net->program);
    sid2_buffers_clear(&net->buffers);
    sid2_graph_destroy(net->graph);
}

static const char *const variants[][4] = {
    {NULL},
    {"model.patch=2", NULL},
    {"model.parallel=yes", "model.qk_norm=none", NULL},
    {"model.updown_kernel=3", "model.activation=gelu", "model.qk_norm=rms", NULL},
    {"model.depth=3", "model.blocks=transformer,res", NULL},
};

static void output_starts_at_zero(void **state)
{
    (void)state;
    static const char *const skips[] = {"model.skip=level", "model.skip=block", "model.skip=none"};
    for (size_t i = 0; i < sizeof variants / sizeof variants[0]; i++) {
        for (int k = 0; k < 3; k++) {
            sid2_config *config = tiny_config(variants[i]);
            must(sid2_config_set(config, skips[k], &err));
            network net = make_network(config, "embed", "up.0");
            float *v = download(&net.buffers, "v"), *x = download(&net.buffers, "embed"),
                  *y = download(&net.buffers, "up.0");
            double size = 0, difference = 0;
            for (int64_t j = 0; j < net.pixels; j++) assert_true(v[j] == 0);
            int64_t count = (int64_t)(sid2_buffers_find(&net.buffers, "embed")->bytes / sizeof(float));
            for (int64_t j = 0; j < count; j++) size += fabs(x[j]), difference += fabs(x[j] - y[j]);
            /* With every block the identity, the up path adds exactly nothing: what leaves is what entered. */
            assert_true(size / (double)count > 0.1);
            if (k == 0) assert_true(difference == 0);
            if (k == 2) assert_true(difference > 0); /* without a skip that cannot be */
            free(v);
            free(x);
            free(y);
            drop_network(&net);
            sid2_config_destroy(config);
        }
    }
}

static void has_operations(const char *preset, const char *setting, double want)
{
    sid2_config *config = sid2_config_create();
    must(sid2_config_preset(config, preset, &err) && sid2_config_set(config, setting, &err));
    sid2_model_info *info = sid2_model_describe(config, NULL, 0, &err);
    must(info);
    double giga = info->block_multiply_adds / 1e9;
    if (fabs(giga - want) > 0.06) fail_msg("%s, %s: %.3f G, not %.1f G", preset, setting, giga, want);
    assert_true(info->multiply_adds > info->block_multiply_adds &&
                info->multiply_adds < 1.03 * info->block_multiply_adds);
    sid2_model_info_destroy(info);
    sid2_config_destroy(config);
}

static void published_operation_counts(void **state)
{
    (void)state;
    static const struct {
        const char *preset;
        double giga;
    } want[] = {{"imagenet64-1", 108.45}, {"imagenet128-2", 32.7},  {"imagenet128-1", 137.4},
                {"imagenet256-2", 137.4}, {"imagenet512-4", 137.4}, {"imagenet1024-8", 137.4},
                {"imagenet256-1", 652.8}, {"imagenet512-2", 652.8}, {"imagenet1024-4", 652.8}};
    for (size_t i = 0; i < sizeof want / sizeof want[0]; i++)
        has_operations(want[i].preset, "model.frames=1", want[i].giga);
}

/* 16 frames cost what a picture of as many pixels does. */
static void clips_have_operations(void **state)
{
    (void)state;
    has_operations("k600-64-1", "model.patch=1", 652.8);
    has_operations("k600-64-2", "model.patch=2", 137.4);
    has_operations("k600-128-2", "model.patch=2", 652.8);
    has_operations("k600-128-2", "model.patch=1", 4260.6);
}

static void presets_describe(void **state)
{
    (void)state;
    for (int i = 0; sid2_preset_name(i); i++) {
        sid2_config *config = sid2_config_create();
        must(sid2_config_preset(config, sid2_preset_name(i), &err));
        sid2_model_info *info = sid2_model_describe(config, NULL, 0, &err);
        must(info);
        int64_t parameters = 0;
        for (int l = 0; l < info->layer_count; l++) {
            assert_true(info->layers[l]->name[0] && info->layers[l]->kind[0] &&
                        info->layers[l]->parameters > 0);
            assert_true(info->layers[l]->output.rank == (l ? 3 : 1));
            parameters += info->layers[l]->parameters;
        }
        assert_true(parameters == info->parameters && info->train_microbatch >= 1 &&
                    info->train_arena_bytes > 0);
        assert_true(info->train_state_bytes >= 22 * (size_t)info->parameters);
        assert_true(info->sample_state_bytes >= 2 * (size_t)info->parameters);
        assert_true(info->sample_state_bytes < info->train_state_bytes);
        assert_int_equal(info->recomputed_segments, 0);
        sid2_model_info_destroy(info);
        sid2_config_destroy(config);
    }
}

static void unusual_shapes_train(void **state)
{
    (void)state;
    static const char *const shapes[][4] = {
        {"model.channels=12", "model.blocks=res", "model.groups=32", NULL}, /* one level, 12 groups */
        {"model.channels=10,16", "model.depth=0", "model.groups=4",
         NULL},                                       /* 2 groups; nothing on the first level */
        {"model.mid_depth=0", "model.patch=2", NULL}, /* nothing at the bottom */
        {"model.image_size=24", "model.channels=4,8,16,24", "model.blocks=res,res,res,transformer", NULL},
        {"model.skip=block", "model.depth=3", "model.image_channels=3", NULL},
    };
    static uint8_t pixels[8 * 24 * 24 * 3];
    int32_t labels[8] = {0};
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        sid2_config *config = tiny_config(shapes[i]);
        sid2_trainer *t = sid2_trainer_create(device, config, 0, &err);
        must(t);
        sid2_train_stats stats;
        for (int j = 0; j < 2; j++) {
            must(sid2_trainer_step(t, pixels, labels, &err));
            stats = *sid2_trainer_stats(t);
        }
        assert_true(stats.loss > 0 && stats.grad_norm > 0);
        sid2_trainer_destroy(t);
        sid2_config_destroy(config);
    }
}

/* Bytes a parameter: the network's, in its compute type; in training also gradients, two moments, an average, and
 * beside 16 bits masters. All else is small. */
static void numbers_take_so_many_bytes(void **state)
{
    (void)state;
    static const struct {
        const char *train_as, *sample_as;
        double train, sample;
    } want[] = {{"train.precision=f32", "sample.precision=f32", 20, 4},
                {"train.precision=bf16", "sample.precision=bf16", 22, 2}};
    for (int i = 0; i < 2; i++) {
        sid2_config *config = sid2_config_create();
        must(sid2_config_preset(config, "imagenet256-2", &err));
        must(sid2_config_set(config, want[i].train_as, &err) &&
             sid2_config_set(config, want[i].sample_as, &err) &&
             sid2_config_set(config, "train.lanes=1", &err));
        sid2_model_info *info = sid2_model_describe(config, NULL, 0, &err);
        must(info);
        double count = (double)info->parameters, train = (double)info->train_state_bytes / count,
               sample = (double)info->sample_state_bytes / count;
        if (train < want[i].train || train > want[i].train + 0.2 || sample < want[i].sample ||
            sample > want[i].sample + 0.1)
            fail_msg("%s: %g and %g bytes a parameter", want[i].train_as, train, sample);
        sid2_model_info_destroy(info);
        sid2_config_destroy(config);
    }
}

/* The same two steps with and without a memory limit that forces blocks to be recomputed. */
static void recomputing_changes_nothing(void **state)
{
    (void)state;
    uint8_t pixels[8 * 64];
    int32_t labels[8];
    make_images(pixels, labels, 8, 64, 3, 0);
    sid2_config *config = TINY("model.depth=3", "model.mid_depth=4", "train.warmup=0", "model.dropout=0.2");
    sid2_model_info *info = sid2_model_describe(config, NULL, 0, &err);
    must(info);
    float *weights[2];
    int64_t count = 0;
    for (int limited = 0; limited < 2; limited++) {
        sid2_trainer *t = NULL;
        /* The workspace is known only to the device: look for the tightest limit that it accepts. */
        size_t limit = info->train_state_bytes + info->train_arena_bytes / 2;
        for (; limited && !t; limit += info->train_arena_bytes / 16) {
            t = sid2_trainer_create(device, config, limit, &err);
            if (!t) assert_int_equal(err.code, SID2_ERR_MEMORY);
        }
        if (!limited) must(t = sid2_trainer_create(device, config, 0, &err));
        sid2_memory_report report = *sid2_trainer_memory(t);
        assert_int_equal(report.microbatch, 4);
        assert_int_equal(report.recomputed_segments > 0, limited);
        for (int i = 0; i < 2; i++) must(sid2_trainer_step(t, pixels, labels, &err));
        weights[limited] = download(&t->buffers, "weights");
        count = t->states[0].params->elements;
        sid2_trainer_destroy(t);
    }
    assert_memory_equal(weights[0], weights[1], (size_t)count * sizeof(float));
    free(weights[0]);
    free(weights[1]);
    sid2_model_info_destroy(info);
    sid2_config_destroy(config);
}

static void too_little_memory_is_refused(void **state)
{
    (void)state;
    sid2_config *config = TINY("train.microbatch=auto", "train.batch=32", "train.arena=0", "train.lanes=1");
    sid2_model_info *info = sid2_model_describe(config, NULL, 0, &err), *least;
    must(info);
    assert_int_equal(info->train_microbatch, 32);
    /* Less memory: first a smaller micro-batch, that divides the batch. */
    must(least =
             sid2_model_describe(config, NULL, info->train_state_bytes + info->train_arena_bytes / 3, &err));
    assert_true(least->train_microbatch < 32 && 32 % least->train_microbatch == 0);
    sid2_model_info_destroy(least);
    /* Too little: the message tells how much would do. */
    assert_null(sid2_model_describe(config, NULL, info->train_state_bytes / 2, &err));
    assert_int_equal(err.code, SID2_ERR_MEMORY);
    assert_non_null(strstr(err.message, "at least"));
    assert_null(sid2_trainer_create(device, config, 1000, &err));
    assert_int_equal(err.code, SID2_ERR_MEMORY);
    assert_null(sid2_sampler_create(device, config, 1000, &err));
    assert_int_equal(err.code, SID2_ERR_MEMORY);
    sid2_model_info_destroy(info);
    sid2_config_destroy(config);
}

static int open_reference(void **state)
{
    (void)state;
    device = open_device("reference");
    return 0;
}

static int close_reference(void **state)
{
    (void)state;
    sid2_device_close(device);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(output_starts_at_zero),       cmocka_unit_test(published_operation_counts),
        cmocka_unit_test(clips_have_operations),       cmocka_unit_test(presets_describe),
        cmocka_unit_test(unusual_shapes_train),        cmocka_unit_test(numbers_take_so_many_bytes),
        cmocka_unit_test(recomputing_changes_nothing), cmocka_unit_test(too_little_memory_is_refused),
    };
    return cmocka_run_group_tests(tests, open_reference, close_reference);
}
