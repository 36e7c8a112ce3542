/* The optimizer in parts: a range of the flat buffers gives the bits of the whole; an average more is a row more. */
#include "model_support.h"

enum { BLOCKS = 5, COUNT = (BLOCKS - 1) * SID2_SUM_BLOCK + 300, FROM = 2 * SID2_SUM_BLOCK };

static const char *const flats[] = {"weights", "grads", "m", "v", "ema"};

/* One update: over all, or over 0 .. FROM and the rest, whose sums meet in one tensor. */
static sid2_graph *update(bool split)
{
    sid2_graph *g = sid2_graph_create(SID2_F32);
    sid2_tensor whole[5], sums = sid2_graph_external(g, "sums", SID2_F64, sid2_shape_of(BLOCKS));
    for (int i = 0; i < 5; i++) whole[i] = sid2_graph_external(g, flats[i], SID2_F32, sid2_shape_of(COUNT));
    sid2_tensor hyper = sid2_graph_external(g, "hyper", SID2_F32, sid2_shape_of(7)),
                share = sid2_graph_external(g, "share", SID2_F32, sid2_shape_of(1));
    const int64_t edges[] = {0, split ? FROM : COUNT, COUNT};
    sid2_tensor part[2][5];
    for (int k = 0; k < 1 + split; k++) {
        int64_t first = edges[k], length = edges[k + 1] - first, block = first / SID2_SUM_BLOCK,
                blocks = (length + SID2_SUM_BLOCK - 1) / SID2_SUM_BLOCK;
        for (int i = 0; i < 5; i++) part[k][i] = sid2_graph_view(g, whole[i], first, sid2_shape_of(length));
        sid2_tensor to = sid2_graph_view(g, sums, block, sid2_shape_of(blocks));
        sid2_graph_emit_into(g, SID2_OP_square_sums, (sid2_attr){0}, &part[k][1], 1, &to, 1);
    }
    sid2_tensor norm = sid2_graph_emit(g, SID2_OP_norm_of, (sid2_attr){.dtype = SID2_F32}, &sums, 1, false);
    norm = sid2_graph_export(g, norm, "norm");
    for (int k = 0; k < 1 + split; k++) {
        const sid2_tensor *p = part[k];
        sid2_graph_emit_into(g, SID2_OP_adam, (sid2_attr){0},
                             (sid2_tensor[]){p[0], p[1], p[2], p[3], norm, hyper}, 6,
                             (sid2_tensor[]){p[0], p[2], p[3], p[1]}, 4);
        sid2_graph_emit_into(g, SID2_OP_ema, (sid2_attr){0}, (sid2_tensor[]){p[4], p[0], norm, share}, 4,
                             &p[4], 1);
    }
    must(sid2_graph_finish(g, &err));
    return g;
}

static void ranges_give_the_bits_of_the_whole(void **state)
{
    (void)state;
    static const char *const devices[] = {"reference", "cpu"};
    static float numbers[5][COUNT], result[2][5][COUNT];
    const float hyper[7] = {1e-3f, 0.9f, 0.99f, 1e-8f, 0.1f, 0.01f, 1}, share = 0.25f;
    for (int i = 0; i < 5; i++)
        for (int k = 0; k < COUNT; k++)
            numbers[i][k] =
                (float)sid2_uniform(sid2_philox_word(1, (uint64_t)i, 0, (uint64_t)k)) - (i == 1) * 0.5f;
    for (int d = 0; d < 2; d++) {
        double norms[2], squares = 0;
        for (int split = 0; split < 2; split++) {
            sid2_buffers buffers = {.device = open_device(devices[d])};
            sid2_graph *g = update(split);
            sid2_program *program = sid2_buffers_program(&buffers, g, NULL, &err);
            must(program);
            for (int i = 0; i < 5; i++) must(sid2_buffers_upload(&buffers, flats[i], numbers[i], &err));
            must(sid2_buffers_upload(&buffers, "hyper", hyper, &err));
            must(sid2_buffers_upload(&buffers, "share", &share, &err));
            must(sid2_program_run(program, &err));
            for (int i = 0; i < 5; i++)
                must(sid2_buffers_download(&buffers, flats[i], result[split][i], &err));
            float norm;
            must(sid2_buffers_download(&buffers, "norm", &norm, &err));
            norms[split] = (double)norm;
            sid2_program_destroy(program);
            sid2_graph_destroy(g);
            sid2_buffers_clear(&buffers);
            sid2_device_close(buffers.device);
        }
        for (int k = 0; k < COUNT; k++) squares += (double)numbers[1][k] * (double)numbers[1][k];
        assert_true(fabs(norms[0] / sqrt(squares) - 1) < 1e-7);
        assert_true(norms[0] == norms[1]);
        assert_memory_equal(result[0], result[1], sizeof result[0]);
        for (int k = 0; k < COUNT; k++) assert_true(result[0][1][k] == 0 && result[0][0][k] != numbers[0][k]);
    }
}

static void averages_are_rows(void **state)
{
    (void)state;
    enum { BATCH = 8, BYTES = 64 };
    uint8_t pixels[BATCH * BYTES];
    int32_t labels[BATCH];
    sid2_device *device = open_device("cpu");
    sid2_config *config = TINY("train.ema=0.9");
    sid2_recipe recipe = sid2_recipe_of(config);
    sid2_average *second = &recipe.states[0].averages[1];
    *second = recipe.states[0].averages[0];
    second->name = "newest";
    second->rate = 0;
    recipe.states[0].average_count = 2;
    sid2_trainer *one = sid2_trainer_create(device, config, 0, &err);
    sid2_trainer *two = sid2_trainer_create_recipe(device, config, &recipe, 0, NULL, &err);
    must(one && two);
    for (int i = 0; i < 3; i++) {
        make_images(pixels, labels, BATCH, BYTES, 3, (uint64_t)i * BATCH);
        must(sid2_trainer_step(one, pixels, labels, &err));
        must(sid2_trainer_step(two, pixels, labels, &err));
    }
    float *a = download(&one->buffers, "ema"), *b = download(&two->buffers, "ema"),
          *weights = download(&two->buffers, "weights"), *newest = download(&two->buffers, "newest");
    int64_t count = one->states[0].params->elements;
    assert_memory_equal(a, b, (size_t)count * sizeof(float));
    for (int64_t i = 0; i < count; i++) assert_true(fabsf(weights[i] - newest[i]) <= 1e-6f);
    assert_true(memcmp(b, newest, (size_t)count * sizeof(float)) != 0);
    free(a);
    free(b);
    free(weights);
    free(newest);
    sid2_trainer_destroy(one);
    sid2_trainer_destroy(two);
    sid2_config_destroy(config);
    sid2_device_close(device);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(ranges_give_the_bits_of_the_whole),
                                       cmocka_unit_test(averages_are_rows)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
