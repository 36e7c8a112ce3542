/* FVD's I3D: a narrow network against numbers of another program's (tests/golden/i3d.py), conversion, and, with SID2_I3D=FILE,
 * the real one against its known answer. With SID2_WRITE=FILE it writes one of random weights and ends: divided by
 * SID2_WIDTH (1). */
#include "judge_support.h"

#include "frechet.h"
#include "i3d.h"
#include "judge.h"

#include <unistd.h>

enum { SIDE = SID2_I3D_SIDE, NARROW = 16, FRAMES = SID2_I3D_LEAST_FRAMES, SMALL = 24 };

static sid2_graph *graph_of(int width, sid2_params **params)
{
    sid2_graph *g = sid2_graph_create(SID2_F32);
    *params = sid2_graph_params(g, "", false);
    sid2_tensor x = sid2_graph_external(g, "x", SID2_F32, sid2_shape_of(1, FRAMES, SIDE, SIDE, 3));
    sid2_graph_export(g, sid2_i3d_build(g, *params, x, width), "logits");
    must(sid2_graph_finish(g, &err));
    return g;
}

/* For tests/golden/i3d.py, and for tests of the program. */
static int write_weights(const char *path)
{
    const char *width = getenv("SID2_WIDTH");
    sid2_params *params;
    sid2_graph *g = graph_of(width ? atoi(width) : 1, &params);
    float *weights = sid2_params_initial(params, 7, &err);
    bool ok = weights && sid2_params_save(NULL, 1, path, params,
                                          &(sid2_params_part){.prefix = "", .flat = weights}, 1, NULL, &err);
    if (!ok) fprintf(stderr, "%s\n", err.message);
    free(weights);
    sid2_graph_destroy(g);
    return !ok;
}

/* ---- A narrow one ---- */

static void run_narrow(const char *id, float *logits)
{
    sid2_params *params;
    sid2_graph *g = graph_of(NARROW, &params);
    uint8_t pixels[SMALL * SMALL * 3];
    float *clip = malloc(sizeof(float[FRAMES][SIDE][SIDE][3]));
    assert_non_null(clip);
    for (int f = 0; f < FRAMES; f++) {
        for (int i = 0; i < SMALL * SMALL * 3; i++) pixels[i] = (uint8_t)((i + 5 * f) * (37 + f) % 251);
        sid2_i3d_prepare(pixels, SMALL, SMALL, 3, clip + (size_t)f * SIDE * SIDE * 3);
    }
    run_network(id, g, params, clip, "logits", logits);
    sid2_graph_destroy(g);
}

static void a_narrow_network_agrees_with_another_program(void **state)
{
    (void)state;
    static const double expected[] = {
#include "golden/i3d.inc"
    };
    assert_int_equal(sizeof expected / sizeof *expected, SID2_I3D_FEATURES / NARROW);
    agrees(run_narrow, expected, SID2_I3D_FEATURES / NARROW);
}

static void short_clips_are_refused(void **state)
{
    (void)state;
    sid2_device *device = open_device("cpu");
    assert_null(sid2_judge_open_clips(device, "nowhere", 1, FRAMES - 1, &err));
    assert_int_equal(err.code, SID2_ERR_USAGE);
    sid2_device_close(device);
    sid2_graph *g = sid2_graph_create(SID2_F32);
    sid2_params *params = sid2_graph_params(g, "", false);
    sid2_tensor x = sid2_graph_external(g, "x", SID2_F32, sid2_shape_of(1, FRAMES - 1, SIDE, SIDE, 3));
    assert_int_equal(sid2_i3d_build(g, params, x, NARROW), SID2_NONE);
    sid2_graph_destroy(g);
}

/* ---- Conversion ---- */

/* Tensors of Flax's names: weights count up, variances are 2, means 1, shifts 0.5. */
static bool has(void *user, const char *name)
{
    return *(const bool *)user && strcmp(name, "params.Conv3d_1a_7x7.Conv_0.kernel") == 0;
}

static float *read_tensor(void *user, const char *name, int64_t count, sid2_error *e)
{
    float *to = malloc((size_t)count * sizeof *to);
    (void)user;
    if (!to) return sid2_fail(e, SID2_ERR_MEMORY, "out of memory"), NULL;
    for (int64_t i = 0; i < count; i++)
        to[i] = strncmp(name, "batch_stats.", 12) != 0 ? strstr(name, ".bias") ? 0.5f : (float)(i % 1000)
                : strstr(name, ".BatchNorm_0.var") ? 2.0f
                                                       : 1.0f;
    return to;
}

static void norms_are_folded(void **state)
{
    (void)state;
    char path[] = "/tmp/sid2-i3d-XXXXXX";
    close(mkstemp(path));
    unlink(path); /* nothing is replaced */
    bool is_one = true;
    const sid2_tensor_source source = {&is_one, has, read_tensor};
    must(sid2_i3d_convert(&source, path, NULL, &err));
    sid2_safetensors *file = sid2_safetensors_open(path, &err);
    must(file != NULL);
    assert_int_equal(sid2_safetensors_count(file), 2 * 58);
    const sid2_safetensors_entry *w = sid2_safetensors_find(file, "Mixed_4c.Branch_2/Conv3d_0b_3x3.weight"),
                                 *b = sid2_safetensors_find(file, "Mixed_4c.Branch_2/Conv3d_0b_3x3.bias"),
                                 *last = sid2_safetensors_find(file, "Logits/Conv3d_0c_1x1.bias");
    assert_true(w && b && last);
    assert_true(sid2_shape_equal(w->shape, sid2_shape_of(64, 3, 3, 3, 24)));
    float *values = malloc(w->bytes), bias[64], logits[SID2_I3D_FEATURES];
    assert_non_null(values);
    must(sid2_safetensors_read(file, w, values, &err) && sid2_safetensors_read(file, b, bias, &err) &&
         sid2_safetensors_read(file, last, logits, &err));
    const double share = 1 / sqrt(2.001);
    for (int o = 0; o < 64; o++) {
        near((double)bias[o], 0.5 - share, 1e-6);
        for (int tap = 0; tap < 27; tap++) /* [3,3,3,in,out] becomes [out,3,3,3,in] */
            for (int i = 0; i < 24; i++)
                near((double)values[(o * 27 + tap) * 24 + i], ((tap * 24 + i) * 64 + o) % 1000 * share, 1e-3);
    }
    near((double)logits[0], 0.5, 0); /* has no norm */
    free(values);
    sid2_safetensors_close(file);
    unlink(path);
    is_one = false;
    assert_false(sid2_i3d_convert(&source, path, NULL, &err));
    assert_non_null(strstr(err.message, "not the weights of FVD's I3D"));
}

/* ---- The real one ---- */

static void the_real_one_gives_its_known_answer(void **state)
{
    (void)state;
    enum { LONG = 15 };
    const char *path = getenv("SID2_I3D");
    if (!path) {
        puts("skipped: SID2_I3D names no weights of sid2 eval convert-i3d");
        skip();
    }
    sid2_device *device = open_device("cpu");
    sid2_judge *judge = sid2_judge_open_clips(device, path, 1, LONG, &err);
    must(judge != NULL);
    assert_int_equal(sid2_judge_width(judge), SID2_I3D_FEATURES);
    uint8_t *pixels = malloc(2 * LONG * SMALL * SMALL);
    float rows[2][SID2_I3D_FEATURES];
    assert_non_null(pixels);
    memset(pixels, 0, LONG * SMALL * SMALL);
    memset(pixels + LONG * SMALL * SMALL, 255, LONG * SMALL * SMALL);
    must(sid2_judge_rows(judge, pixels, 2, SMALL, SMALL, 1, rows[0], &err));
    double sum = 0; /* two clips of each would have no covariance */
    for (int i = 0; i < SID2_I3D_FEATURES; i++)
        sum += ((double)rows[0][i] - (double)rows[1][i]) * ((double)rows[0][i] - (double)rows[1][i]);
    near(sum, 133.908, 5e-4);
    free(pixels);
    sid2_judge_close(judge);
    sid2_device_close(device);
}

int main(void)
{
    if (getenv("SID2_WRITE")) return write_weights(getenv("SID2_WRITE"));
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_narrow_network_agrees_with_another_program),
        cmocka_unit_test(short_clips_are_refused),
        cmocka_unit_test(norms_are_folded),
        cmocka_unit_test(the_real_one_gives_its_known_answer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
