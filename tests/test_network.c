/* A network that is not ours to train: built by calls, its parameters a frozen set read from a file, run by core alone.
 * This is what docs/adding.md says of adding one, done once. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "cpu.h"
#include "params.h"

enum { N = 3, SIDE = 6, IN = 3, WIDTH = 8, CLASSES = 5, GROUPS = 2 };
static const float EPS = 1e-5f;

static sid2_error err;

static void must(bool ok)
{
    if (!ok) fail_msg("%s", err.message);
}

/* ---- The network: convolution, norm, SiLU, 2 x 2 average, logits ---- */

static sid2_tensor classify(sid2_graph *g, sid2_params *params, sid2_tensor pixels)
{
    sid2_tensor w = sid2_graph_param(g, params, "conv.weight", sid2_shape_of(WIDTH, 3, 3, IN), true, 0, 0.2f);
    sid2_tensor gamma = sid2_graph_param(g, params, "norm.weight", sid2_shape_of(WIDTH), false, 1, 0.1f);
    sid2_tensor beta = sid2_graph_param(g, params, "norm.bias", sid2_shape_of(WIDTH), false, 0, 0.1f);
    const int64_t features = SIDE / 2 * (SIDE / 2) * WIDTH;
    sid2_tensor head =
        sid2_graph_param(g, params, "head.weight", sid2_shape_of(CLASSES, features), true, 0, 0.1f);
    sid2_tensor h = sid2_conv2d(g, sid2_image_to_float(g, pixels), w, SID2_NONE);
    h = sid2_avg_pool2(g, sid2_silu(g, sid2_group_norm(g, h, gamma, beta, GROUPS, EPS)));
    return sid2_linear(g, sid2_reshape(g, h, sid2_shape_of(N, features)), head, SID2_NONE);
}

/* ---- The same in plain loops ---- */

static const float *of(const sid2_params *params, const float *flat, const char *name)
{
    for (int32_t i = 0; i < params->count; i++)
        if (strcmp(params->item[i].name, name) == 0) return flat + params->item[i].offset;
    fail_msg("no parameter %s", name);
    return NULL;
}

static void plain(const sid2_params *params, const float *flat, const uint8_t *pixels, double *logits)
{
    const float *w = of(params, flat, "conv.weight"), *head = of(params, flat, "head.weight");
    const float *gamma = of(params, flat, "norm.weight"), *beta = of(params, flat, "norm.bias");
    for (int n = 0; n < N; n++) {
        double h[SIDE][SIDE][WIDTH] = {0}, pooled[SIDE / 2][SIDE / 2][WIDTH] = {0};
        for (int i = 0; i < SIDE * SIDE * WIDTH; i++)
            for (int k = 0; k < 9 * IN; k++) {
                int o = i % WIDTH, x = i / WIDTH % SIDE, y = i / WIDTH / SIDE, c = k % IN;
                int from_x = x + k / IN % 3 - 1, from_y = y + k / IN / 3 - 1;
                if (from_x < 0 || from_y < 0 || from_x >= SIDE || from_y >= SIDE) continue;
                double pixel = pixels[((n * SIDE + from_y) * SIDE + from_x) * IN + c] / 127.5 - 1;
                h[y][x][o] += pixel * (double)w[o * 9 * IN + k];
            }
        for (int group = 0; group < GROUPS; group++) {
            double mean = 0, square = 0, count = SIDE * SIDE * WIDTH / GROUPS;
            for (int i = 0; i < SIDE * SIDE * WIDTH; i++) {
                double v = (&h[0][0][0])[i];
                if (i % WIDTH / (WIDTH / GROUPS) == group) mean += v / count, square += v * v / count;
            }
            for (int i = 0; i < SIDE * SIDE * WIDTH; i++) {
                int o = i % WIDTH;
                if (o / (WIDTH / GROUPS) != group) continue;
                double u = ((&h[0][0][0])[i] - mean) / sqrt(square - mean * mean + (double)EPS);
                u = u * (double)gamma[o] + (double)beta[o];
                pooled[i / WIDTH / SIDE / 2][i / WIDTH % SIDE / 2][o] += u / (1 + exp(-u)) / 4;
            }
        }
        const int features = SIDE / 2 * (SIDE / 2) * WIDTH;
        for (int c = 0; c < CLASSES; c++) {
            logits[n * CLASSES + c] = 0;
            for (int i = 0; i < features; i++)
                logits[n * CLASSES + c] += (&pooled[0][0][0])[i] * (double)head[c * features + i];
        }
    }
}

/* ---- Frozen, from a file, beside a network that is trained ---- */

static void run_on(const char *id, const char *path, const uint8_t *pixels, const double *expected)
{
    const sid2_backend *const backends[] = {&sid2_backend_cpu};
    sid2_device *device = sid2_backends_open(backends, 1, id, NULL, &err);
    must(device != NULL);
    sid2_buffers buffers = {.device = device};
    sid2_graph *g = sid2_graph_create(SID2_F32);
    sid2_params *judge = sid2_graph_params(g, "judge", false), *other = sid2_graph_params(g, "", true);
    sid2_tensor shown = sid2_graph_external(g, "pixels", SID2_U8, sid2_shape_of(N, SIDE, SIDE, IN));
    sid2_tensor logits = sid2_graph_export(g, classify(g, judge, shown), "logits");
    sid2_tensor own = sid2_graph_export(g, classify(g, other, shown), "own");
    sid2_graph_fuse(g);
    sid2_tensor towards =
        sid2_stop_gradient(g, logits); /* a gradient for one network, made of the other's word */
    sid2_graph_backward(g, &own, &towards, 1);
    must(sid2_graph_finish(g, &err));
    sid2_program *program = sid2_buffers_program(&buffers, g, NULL, &err);
    must(program != NULL);
    assert_null(sid2_buffers_find(&buffers, "judge.grads"));
    must(sid2_params_read(path, &buffers, g, judge, &err));
    float *fresh = sid2_params_initial(other, 3, &err);
    must(fresh && sid2_params_upload(&buffers, g, other, fresh, &err));
    free(fresh);
    must(sid2_buffers_upload(&buffers, "pixels", pixels, &err) && sid2_program_run(program, &err));
    float got[N * CLASSES], *grads = calloc((size_t)other->elements, sizeof *grads);
    must(sid2_buffers_download(&buffers, "logits", got, &err) &&
         sid2_buffers_download(&buffers, "grads", grads, &err));
    bool moved = false;
    for (int64_t i = 0; i < other->elements; i++) moved |= grads[i] != 0.0f;
    assert_true(moved);
    for (int i = 0; i < N * CLASSES; i++)
        if (!(fabs((double)got[i] - expected[i]) < 2e-5))
            fail_msg("%s: %g, expected %g", id, (double)got[i], expected[i]);
    free(grads);
    sid2_program_destroy(program);
    sid2_buffers_clear(&buffers);
    sid2_graph_destroy(g);
    sid2_device_close(device);
}

static void a_frozen_network_runs_from_its_file(void **state)
{
    (void)state;
    char path[] = "/tmp/sid2-network-XXXXXX";
    close(mkstemp(path)), unlink(path);
    sid2_graph *g = sid2_graph_create(SID2_F32);
    sid2_params *params = sid2_graph_params(g, "", false);
    classify(g, params, sid2_graph_external(g, "pixels", SID2_U8, sid2_shape_of(N, SIDE, SIDE, IN)));
    float *weights = sid2_params_initial(params, 11, &err);
    must(weights && sid2_params_save(NULL, 1, path, params,
                                     &(sid2_params_part){.prefix = "", .flat = weights}, 1, NULL, &err));

    uint8_t pixels[N * SIDE * SIDE * IN];
    for (size_t i = 0; i < sizeof pixels; i++) pixels[i] = (uint8_t)(i * i * 7 + i * 31);
    double expected[N * CLASSES];
    plain(params, weights, pixels, expected);
    run_on("reference", path, pixels, expected);
    run_on("cpu", path, pixels, expected);

    unlink(path);
    /* A file that is another network's says what is missing. */
    must(sid2_params_save(NULL, 1, path, params, &(sid2_params_part){.prefix = "m.", .flat = weights}, 1,
                          NULL, &err));
    sid2_buffers none = {0};
    assert_false(sid2_params_read(path, &none, g, params, &err));
    assert_non_null(strstr(err.message, "conv.weight"));
    free(weights);
    sid2_graph_destroy(g);
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_frozen_network_runs_from_its_file)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
