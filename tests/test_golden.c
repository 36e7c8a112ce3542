/* The whole model against an independent implementation: tests/golden/uvit.py computed, in float64, what
 * these fixtures hold. Forward pass, loss and the gradient of every parameter, on the reference device in f64
 * and on both devices in f32. */
#include "model_support.h"
#include "safetensors.h"

static const char *const fixtures[] = {"uvit-res", "uvit-patch2", "uvit-parallel", "uvit-oblong",
                                       "uvit-clips"};
enum { FIXTURES = sizeof fixtures / sizeof *fixtures };

/* A tensor of the fixture as doubles. */
static double *values(const sid2_safetensors *file, const char *name, int64_t *count)
{
    const sid2_safetensors_entry *entry = sid2_safetensors_find(file, name);
    if (!entry) fail_msg("the fixture lacks %s", name);
    bool wide = strcmp(entry->type_name, "F64") == 0;
    bool integer = strcmp(entry->type_name, "I64") == 0;
    *count = (int64_t)(entry->bytes / (wide || integer ? 8 : 4));
    double *out = malloc((size_t)*count * sizeof *out);
    char *data = malloc(entry->bytes + 1);
    must(sid2_safetensors_read(file, entry, data, &err));
    for (int64_t i = 0; i < *count; i++) {
        float narrow;
        int64_t number;
        const char *at = data + i * (wide || integer ? 8 : 4);
        if (wide)
            memcpy(&out[i], at, 8);
        else if (integer)
            memcpy(&number, at, 8), out[i] = (double)number;
        else
            memcpy(&narrow, at, 4), out[i] = (double)narrow;
    }
    free(data);
    return out;
}

/* Error relative to the size of the whole tensor, plus `slack`. */
static void close_to(const char *what, const double *got, const double *want, int64_t count, double tolerance,
                     double slack)
{
    double error = 0, size = 0;
    for (int64_t i = 0; i < count; i++)
        error += (got[i] - want[i]) * (got[i] - want[i]), size += want[i] * want[i];
    if (!(sqrt(error) <= tolerance * sqrt(size) + slack))
        fail_msg("%s: relative error %.3g, allowed %.3g", what, sqrt(error / size), tolerance);
}

/* Host doubles to a buffer of the graph's wide type, and back. */
static void upload(sid2_buffers *buffers, const char *name, const double *from, int64_t count,
                   sid2_dtype type)
{
    float *narrow = malloc((size_t)count * sizeof *narrow);
    for (int64_t i = 0; i < count; i++) narrow[i] = (float)from[i];
    must(sid2_buffers_upload(buffers, name, type == SID2_F64 ? (const void *)from : narrow, &err));
    free(narrow);
}

static double *fetch(const sid2_buffers *buffers, const char *name, int64_t count, sid2_dtype type)
{
    float *raw = download(buffers, name);
    double *out = malloc((size_t)count * sizeof *out);
    for (int64_t i = 0; i < count; i++) out[i] = type == SID2_F64 ? ((double *)raw)[i] : (double)raw[i];
    free(raw);
    return out;
}

static sid2_config *fixture_config(const sid2_safetensors *file)
{
    const char *text = sid2_safetensors_metadata(file, "config.ini");
    assert_non_null(text);
    char path[] = "/tmp/sid2-golden-XXXXXX";
    int fd = mkstemp(path);
    FILE *ini = fdopen(fd, "w");
    assert_non_null(ini);
    fputs(text, ini);
    fclose(ini);
    sid2_config *config = sid2_config_create();
    bool ok = sid2_config_load(config, path, &err);
    remove(path);
    must(ok);
    return config;
}

/* The loss as training builds it, on tensors of the fixture, which has n images, or frames of clips. */
static sid2_graph *build(const sid2_config *config, sid2_dtype compute, int64_t n)
{
    sid2_graph *g = sid2_graph_create(compute);
    sid2_dtype type = g->master;
    sid2_shape images = sid2_config_images(config, n / config->model_frames), each = sid2_shape_of(n);
    sid2_tensor x = sid2_graph_external(g, "x", type, images),
                eps = sid2_graph_external(g, "eps", type, images);
    sid2_tensor alpha = sid2_graph_external(g, "alpha", type, each),
                sigma = sid2_graph_external(g, "sigma", type, each);
    sid2_tensor z = sid2_diffuse(g, x, eps, alpha, sigma);
    sid2_uvit net =
        sid2_uvit_build(g, config,
                        (sid2_uvit_inputs){.params = sid2_graph_params(g, "", true),
                                           .z = z,
                                           .time = sid2_graph_external(g, "time", type, each),
                                           .label = sid2_graph_external(g, "label", SID2_I32, each),
                                           .samples = SID2_NONE,
                                           .seed = SID2_NONE});
    sid2_tensor loss =
        sid2_diffusion_loss(g, net.v, z, x, alpha, sigma, sid2_graph_external(g, "weight", type, each));
    sid2_graph_export(g, net.emb, "emb");
    sid2_graph_export(g, net.v, "v");
    sid2_graph_export(g, loss, "loss");
    sid2_graph_fuse(g);
    sid2_tensor dloss = sid2_graph_external(g, "dloss", type, each);
    sid2_graph_backward(g, &loss, &dloss, 1);
    must(sid2_graph_finish(g, &err));
    return g;
}

static void fill_process(sid2_buffers *buffers, const sid2_config *config, const sid2_safetensors *file,
                         sid2_dtype type)
{
    sid2_schedule schedule = sid2_schedule_create(config);
    int64_t n;
    double *t = values(file, "in.t", &n), *label = values(file, "in.label", &n);
    double *logsnr = values(file, "out.lambda", &n), *slope = values(file, "out.dlambda", &n),
           *u = values(file, "out.u", &n);
    double alpha[8], sigma[8], weight[8], time[8], dloss[8];
    int32_t index[8];
    assert_in_range(n, 1, 8);
    for (int i = 0; i < n; i++) {
        double l = sid2_schedule_logsnr(&schedule, t[i]);
        assert_true(fabs(l - logsnr[i]) < 1e-12 * (1 + fabs(l)));
        assert_true(fabs(sid2_schedule_slope(&schedule, t[i]) / slope[i] - 1) < 1e-12);
        assert_true(fabs(sid2_schedule_position(&schedule, l) - u[i]) < 1e-9);
        alpha[i] = sid2_alpha(l);
        sigma[i] = sid2_sigma(l);
        weight[i] = sid2_loss_weight(&schedule, t[i]);
        time[i] = u[i];
        dloss[i] = 1 / (double)n;
        index[i] = (int32_t)label[i];
    }
    upload(buffers, "alpha", alpha, n, type);
    upload(buffers, "sigma", sigma, n, type);
    upload(buffers, "weight", weight, n, type);
    upload(buffers, "time", time, n, type);
    upload(buffers, "dloss", dloss, n, type);
    must(sid2_buffers_upload(buffers, "label", index, &err));
    free(t);
    free(label);
    free(logsnr);
    free(slope);
    free(u);
}

/* Parameters of the fixture into the flat layout, or the gradients out of it. */
static double *flat_weights(const sid2_graph *g, const sid2_safetensors *file)
{
    double *flat = calloc((size_t)g->params[0].elements, sizeof *flat);
    int found = 0;
    for (int32_t p = 0; p < g->params[0].count; p++) {
        char name[128];
        int64_t count;
        snprintf(name, sizeof name, "param.%s", g->params[0].item[p].name);
        double *value = values(file, name, &count);
        if (count != sid2_shape_count(g->params[0].item[p].shape)) fail_msg("%s has another size", name);
        memcpy(flat + g->params[0].item[p].offset, value, (size_t)count * sizeof *flat);
        free(value);
    }
    for (int i = 0; i < sid2_safetensors_count(file); i++)
        found += strncmp(sid2_safetensors_at(file, i)->name, "param.", 6) == 0;
    assert_int_equal(found, g->params[0].count);
    return flat;
}

static void compare(const sid2_graph *g, const sid2_buffers *buffers, const sid2_safetensors *file,
                    sid2_dtype type, double forward, double backward)
{
    static const char *const outputs[][2] = {{"emb", "out.emb"}, {"v", "out.v"}, {"loss", "out.loss"}};
    for (int i = g->compute == SID2_BF16; i < 3; i++) { /* emb leaves in the compute type */
        int64_t count;
        double *want = values(file, outputs[i][1], &count), *got = fetch(buffers, outputs[i][0], count, type);
        close_to(outputs[i][0], got, want, count, forward, 0);
        free(want);
        free(got);
    }
    double *grads = fetch(buffers, "grads", g->params[0].elements, type);
    /* Gradients of biases are sums that cancel: their error is that of the terms, not of the sum. */
    double whole = 0;
    for (int64_t i = 0; i < g->params[0].elements; i++) whole += grads[i] * grads[i];
    double slack = (type == SID2_F64 ? 0 : g->compute == SID2_F32 ? 1e-6 : 1e-4) * sqrt(whole);
    for (int32_t p = 0; p < g->params[0].count; p++) {
        char name[128];
        int64_t count;
        snprintf(name, sizeof name, "grad.%s", g->params[0].item[p].name);
        double *want = values(file, name, &count);
        close_to(name, grads + g->params[0].item[p].offset, want, count, backward, slack);
        free(want);
    }
    free(grads);
}

static void upload_weights(sid2_buffers *buffers, const sid2_graph *g, const double *flat)
{
    float *narrow = malloc((size_t)g->params[0].elements * sizeof *narrow);
    for (int64_t i = 0; i < g->params[0].elements; i++) narrow[i] = (float)flat[i];
    if (g->master == SID2_F64)
        must(sid2_buffers_upload(buffers, "weights", flat, &err));
    else
        must(sid2_params_upload(buffers, g, &g->params[0], narrow, &err));
    free(narrow);
}

static void run_fixture(const char *name, const char *device_id, sid2_dtype compute, double forward,
                        double backward)
{
    char path[512];
    snprintf(path, sizeof path, "%s/tests/golden/%s.safetensors", SID2_SOURCE_DIR, name);
    sid2_safetensors *file = sid2_safetensors_open(path, &err);
    must(file);
    sid2_config *config = fixture_config(file);
    sid2_device *device = open_device(device_id);
    int64_t n, count;
    double *x = values(file, "in.x", &count), *eps = values(file, "in.eps", &count);
    free(values(file, "in.t", &n));
    sid2_graph *g = build(config, compute, n);
    sid2_dtype type = g->master;
    sid2_buffers buffers = {.device = device};
    sid2_program *program = sid2_buffers_program(&buffers, g, NULL, &err);
    must(program);
    double *flat = flat_weights(g, file);
    upload_weights(&buffers, g, flat);
    upload(&buffers, "x", x, count, type);
    upload(&buffers, "eps", eps, count, type);
    fill_process(&buffers, config, file, type);
    must(sid2_program_run(program, &err));
    compare(g, &buffers, file, type, forward, backward);
    free(flat);
    free(x);
    free(eps);
    sid2_program_destroy(program);
    sid2_buffers_clear(&buffers);
    sid2_graph_destroy(g);
    sid2_device_close(device);
    sid2_config_destroy(config);
    sid2_safetensors_close(file);
}

/* Gradients are stored in float32, hence 1e-6 there; attributes such as eps are float32 too. */
static void reference_in_f64(void **state)
{
    (void)state;
    for (int i = 0; i < FIXTURES; i++) run_fixture(fixtures[i], "reference", SID2_F64, 1e-7, 1e-6);
}

static void reference_in_f32(void **state)
{
    (void)state;
    for (int i = 0; i < FIXTURES; i++) run_fixture(fixtures[i], "reference", SID2_F32, 1e-5, 1e-5);
}

static void cpu_in_f32(void **state)
{
    (void)state;
    for (int i = 0; i < FIXTURES; i++) run_fixture(fixtures[i], "cpu", SID2_F32, 1e-5, 2e-5);
}

/* bf16 has 8 bits: this catches what is wrong, not what is imprecise. */
static void cpu_in_bf16(void **state)
{
    (void)state;
    for (int i = 0; i < FIXTURES; i++) run_fixture(fixtures[i], "cpu", SID2_BF16, 2e-2, 6e-2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reference_in_f64),
        cmocka_unit_test(reference_in_f32),
        cmocka_unit_test(cpu_in_f32),
        cmocka_unit_test(cpu_in_bf16),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
