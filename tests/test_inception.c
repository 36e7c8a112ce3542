/* FID's Inception: how pictures are prepared, a narrow network against numbers of another program's (tests/golden/inception.py),
 * conversion, and, with SID2_INCEPTION=FILE, the real one against its published answers. */
#include "judge_support.h"

#include "frechet.h"
#include "inception.h"
#include "judge.h"
#include "metrics.h"

#include <unistd.h>

enum { SIDE = SID2_INCEPTION_SIDE, NARROW = 16 };

/* ---- Pictures ---- */

static void pictures_are_resized_as_tensorflow_did(void **state)
{
    (void)state;
    enum { H = 7, W = 11 };
    uint8_t pixels[H * W * 3];
    for (int i = 0; i < H * W * 3; i++) pixels[i] = (uint8_t)(i * 89 % 256);
    float *to = malloc(sizeof(float[SIDE][SIDE][3]));
    assert_non_null(to);
    sid2_inception_prepare(pixels, H, W, 3, to);
    for (int y = 0; y < SIDE; y++)
        for (int x = 0; x < SIDE; x++)
            for (int c = 0; c < 3; c++) {
                double at_y = y * (double)H / SIDE, at_x = x * (double)W / SIDE, sum = 0;
                for (int k = 0; k < 4; k++) {
                    int py = (int)at_y + k / 2, px = (int)at_x + k % 2;
                    double part = (k / 2 ? at_y - (int)at_y : 1 - (at_y - (int)at_y)) *
                                  (k % 2 ? at_x - (int)at_x : 1 - (at_x - (int)at_x));
                    sum += part * pixels[((py < H ? py : H - 1) * W + (px < W ? px : W - 1)) * 3 + c];
                }
                near((double)to[(y * SIDE + x) * 3 + c], (sum - 128) / 128, 1e-4);
            }
    sid2_inception_prepare(pixels, H, W, 1, to); /* grey: three alike */
    for (int i = 0; i < SIDE * SIDE; i++)
        assert_true(to[3 * i] == to[3 * i + 1] && to[3 * i] == to[3 * i + 2]);
    free(to);
}

/* ---- A narrow one ---- */

/* Features of one picture by a network a sixteenth as wide. */
static void run_narrow(const char *id, float *features)
{
    sid2_graph *g = sid2_graph_create(SID2_F32);
    sid2_params *params = sid2_graph_params(g, "", false);
    sid2_tensor x = sid2_graph_external(g, "x", SID2_F32, sid2_shape_of(1, 1, SIDE, SIDE, 3));
    sid2_graph_export(g, sid2_inception_build(g, params, x, NARROW, false).features, "features");
    must(sid2_graph_finish(g, &err));
    if (getenv("SID2_WRITE")) { /* for tests/golden/inception.py */
        float *weights = sid2_params_initial(params, 7, &err);
        must(weights && sid2_params_save(NULL, 1, getenv("SID2_WRITE"), params,
                                         &(sid2_params_part){.prefix = "", .flat = weights}, 1, NULL, &err));
        free(weights);
    }
    uint8_t pixels[32 * 32 * 3];
    for (int i = 0; i < 32 * 32 * 3; i++) pixels[i] = (uint8_t)(i * 37 % 251);
    float *picture = malloc(sizeof(float[SIDE][SIDE][3]));
    assert_non_null(picture);
    sid2_inception_prepare(pixels, 32, 32, 3, picture);
    run_network(id, g, params, picture, "features", features);
    sid2_graph_destroy(g);
}

static void a_narrow_network_agrees_with_another_program(void **state)
{
    (void)state;
    static const double expected[] = {
#include "golden/inception.inc"
    };
    assert_int_equal(sizeof expected / sizeof *expected, SID2_INCEPTION_FEATURES / NARROW);
    agrees(run_narrow, expected, SID2_INCEPTION_FEATURES / NARROW);
}

/* ---- Conversion ---- */

/* Tensors of pytorch-fid's names: weights count up, variances are 2, means 1, shifts 0.5. */
static bool has(void *user, const char *name)
{
    return strcmp(name, "fc.weight") == 0 ? *(const bool *)user : strncmp(name, "Conv2d_1a_3x3.bn.", 17) == 0;
}

static float *read_tensor(void *user, const char *name, int64_t count, sid2_error *e)
{
    float *to = malloc((size_t)count * sizeof *to);
    const char *lost = "Mixed_7c.branch_pool.bn.bias";
    if (!to || (!*(const bool *)user && strcmp(name, lost) == 0)) {
        free(to);
        return sid2_fail(e, SID2_ERR_FORMAT, "no %s", name), NULL;
    }
    for (int64_t i = 0; i < count; i++)
        to[i] = strstr(name, "running_var")    ? 2.0f
                : strstr(name, "running_mean") ? 1.0f
                : strstr(name, "bn.bias")      ? 0.5f
                                               : (float)(i % 1000);
    return to;
}

static void norms_are_folded(void **state)
{
    (void)state;
    char path[] = "/tmp/sid2-inception-XXXXXX";
    close(mkstemp(path));
    unlink(path); /* nothing is replaced */
    bool whole = true, head = false;
    const sid2_tensor_source source = {&whole, has, read_tensor};
    must(sid2_inception_convert(&source, path, NULL, &head, &err));
    assert_true(head);
    sid2_safetensors *file = sid2_safetensors_open(path, &err);
    must(file != NULL);
    assert_int_equal(sid2_safetensors_count(file), 2 * 94 + 1);
    const sid2_safetensors_entry *w = sid2_safetensors_find(file, "mixed_4.tower_1.conv_2.weight"),
                                 *b = sid2_safetensors_find(file, "mixed_4.tower_1.conv_2.bias");
    assert_non_null(w);
    assert_non_null(b);
    assert_true(sid2_shape_equal(w->shape, sid2_shape_of(128, 1, 1, 7, 128)));
    float *values = malloc(w->bytes), bias[128];
    assert_non_null(values);
    must(sid2_safetensors_read(file, w, values, &err) && sid2_safetensors_read(file, b, bias, &err));
    const double share = 1 / sqrt(2.001);
    for (int o = 0; o < 128; o++) {
        near((double)bias[o], 0.5 - share, 1e-6);
        for (int tap = 0; tap < 7; tap++) /* [out,in,1,7] becomes [out,1,1,7,in] */
            for (int i = 0; i < 128; i++)
                near((double)values[(o * 7 + tap) * 128 + i], ((o * 128 + i) * 7 + tap) % 1000 * share, 1e-3);
    }
    free(values);
    sid2_safetensors_close(file);
    unlink(path);
    whole = false;
    assert_false(sid2_inception_convert(&source, path, NULL, &head, &err));
    assert_string_equal(err.message, "no Mixed_7c.branch_pool.bn.bias");
}

/* ---- The real one ---- */

enum { COUNT = 100, PICTURE = 3 * SIDE * SIDE };

/* MT19937 of numpy's RandomState(42). */
static uint32_t twister[624];
static int twisted = 624;

static uint32_t next_word(void)
{
    if (twisted == 624) {
        for (int i = 0; i < 624; i++) {
            uint32_t y = (twister[i] & 0x80000000u) | (twister[(i + 1) % 624] & 0x7fffffffu);
            twister[i] = twister[(i + 397) % 624] ^ y >> 1 ^ (y & 1 ? 0x9908b0dfu : 0);
        }
        twisted = 0;
    }
    uint32_t y = twister[twisted++];
    y ^= y >> 11;
    y ^= y << 7 & 0x9d2c5680u;
    y ^= y << 15 & 0xefc60000u;
    return y ^ y >> 18;
}

/* [COUNT,3,SIDE,SIDE] of words % range + low, as [COUNT,SIDE,SIDE,3]. */
static uint8_t *draw_pictures(uint32_t range, uint32_t low)
{
    uint8_t *to = malloc((size_t)COUNT * PICTURE);
    assert_non_null(to);
    for (int n = 0; n < COUNT; n++)
        for (int c = 0; c < 3; c++)
            for (int i = 0; i < SIDE * SIDE; i++)
                to[(size_t)n * PICTURE + (size_t)(3 * i + c)] = (uint8_t)(next_word() % range + low);
    return to;
}

/* The mean over the first pool's pixels: what some call the 64 features. */
static void first_features(sid2_device *device, const char *path, bool head, const uint8_t *pixels,
                           float *rows)
{
    sid2_buffers buffers = {.device = device};
    sid2_graph *g = sid2_graph_create(SID2_F32);
    sid2_params *params = sid2_graph_params(g, "", false);
    sid2_tensor x = sid2_graph_external(g, "x", SID2_F32, sid2_shape_of(1, 1, SIDE, SIDE, 3));
    sid2_inception net = sid2_inception_build(g, params, x, 1, head);
    sid2_attr whole = {.window = {1, 73, 73}, .stride = {1, 1, 1}, .mean = 1};
    sid2_graph_export(g, sid2_pool3d(g, net.first, whole), "first");
    must(sid2_graph_finish(g, &err));
    sid2_program *program = sid2_buffers_program(&buffers, g, NULL, &err);
    must(program && sid2_params_read(path, &buffers, g, params, &err));
    float *picture = malloc(PICTURE * sizeof *picture);
    assert_non_null(picture);
    for (int n = 0; n < COUNT; n++) {
        sid2_inception_prepare(pixels + (size_t)n * PICTURE, SIDE, SIDE, 3, picture);
        must(sid2_buffers_upload(&buffers, "x", picture, &err) && sid2_program_run(program, &err) &&
             sid2_buffers_download(&buffers, "first", rows + 64 * n, &err));
    }
    free(picture);
    sid2_program_destroy(program);
    sid2_buffers_clear(&buffers);
    sid2_graph_destroy(g);
}

static void the_real_one_gives_published_answers(void **state)
{
    (void)state;
    const char *path = getenv("SID2_INCEPTION");
    if (!path) skip();
    const sid2_backend *const backends[] = {&sid2_backend_cpu};
    sid2_device *device = sid2_backends_open(backends, 1, "cpu", NULL, &err);
    must(device != NULL);
    twister[0] = 42;
    for (uint32_t i = 1; i < 624; i++) twister[i] = 1812433253u * (twister[i - 1] ^ twister[i - 1] >> 30) + i;
    for (int i = 0; i < 23816528; i++) next_word();
    uint8_t *pixels[2] = {draw_pictures(200, 0), NULL};
    pixels[1] = draw_pictures(155, 100);
    static const double means[] = {0.181940, 0.176929};
    float *rows[2], *first[2];
    sid2_gaussian g[2];
    sid2_judge *judge = sid2_judge_open(device, path, 10, false, &err);
    must(judge != NULL);
    const int64_t width = sid2_judge_width(judge);
    for (int k = 0; k < 2; k++) {
        double sum = 0;
        rows[k] = malloc((size_t)(COUNT * width) * sizeof(float));
        first[k] = malloc(sizeof(float[COUNT][64]));
        assert_true(rows[k] && first[k]);
        must(sid2_judge_rows(judge, pixels[k], COUNT, SIDE, SIDE, 3, rows[k], &err));
        for (int n = 0; n < COUNT; n++) /* features alone, if there are classes too */
            memmove(rows[k] + n * SID2_INCEPTION_FEATURES, rows[k] + n * width,
                    SID2_INCEPTION_FEATURES * sizeof(float));
        for (int i = 0; i < COUNT * SID2_INCEPTION_FEATURES; i++) sum += (double)rows[k][i];
        near(sum / COUNT / SID2_INCEPTION_FEATURES, means[k], 5e-7);
        first_features(device, path, sid2_judge_has_classes(judge), pixels[k], first[k]);
        must(sid2_gaussian_of(first[k], COUNT, 64, &g[k], &err));
    }
    double distance, kernel;
    must(sid2_frechet(&g[0], &g[1], &distance, &err));
    must(sid2_kernel_distance(device, (sid2_features){rows[0], COUNT, SID2_INCEPTION_FEATURES},
                              (sid2_features){rows[1], COUNT, SID2_INCEPTION_FEATURES}, &kernel, NULL, &err));
    near(distance, 12.638819, 5e-5);
    near(kernel, 0.0314697, 5e-8);
    for (int k = 0; k < 2; k++) {
        free(rows[k]);
        free(first[k]);
        free(pixels[k]);
        sid2_gaussian_free(&g[k]);
    }
    sid2_judge_close(judge);
    sid2_device_close(device);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pictures_are_resized_as_tensorflow_did),
        cmocka_unit_test(a_narrow_network_agrees_with_another_program),
        cmocka_unit_test(norms_are_folded),
        cmocka_unit_test(the_real_one_gives_published_answers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
