/* A whole training over NCCL without a GPU: the CUDA backend's own files, cublasLt and NCCL over a CUDA that lives on the host and is
 * as late as it may. 1, 2 and 4 ranks, the same bytes. */
#include "checkpoint_support.h"
#include "model_support.h"
#include "nccl_ranks.h"

#include "file.h"

enum { STEPS = 3, BATCH = 8, BYTES = 64, CLASSES = 3 };

static const char *precision;
static int refuser = -1; /* the rank whose captures are refused */

static bool step(sid2_trainer *t, const sid2_place *place, sid2_error *cause)
{
    uint8_t pixels[BATCH * BYTES];
    int32_t labels[BATCH];
    int count = BATCH / place->ranks;
    make_images(pixels, labels, count, BYTES, CLASSES,
                sid2_trainer_images(t) + (uint64_t)(count * place->rank));
    return sid2_trainer_step(t, pixels, labels, cause);
}

/* A checkpoint of so many ranks; one has no group, as a process by itself has none. */
static const char *train(sid2_group *group, sid2_device *device, sid2_place *place)
{
    static sid2_error cause;
    char path[100];
    snprintf(path, sizeof path, "%s/%d", folder, place->ranks);
    fake.capture_refused = place->rank == refuser;
    sid2_config *config = TINY("train.lanes=4", "train.microbatch=1", "model.channels=32,64", precision);
    sid2_recipe recipe = sid2_recipe_of(config);
    sid2_trainer *t =
        sid2_trainer_create_recipe(device, config, &recipe, 0, place->ranks > 1 ? group : NULL, &cause);
    bool ok = t;
    for (int i = 0; ok && i < STEPS; i++) ok = step(t, place, &cause);
    bool early = ok && place->ranks == 4 && !t->lanes.early,
         pieces = ok && place->ranks > 1 && !t->lanes.coming;
    ok = ok && sid2_trainer_save(t, path, &cause);
    bool captured = fake.graph_launches > 0;
    sid2_trainer_destroy(t);
    sid2_config_destroy(config);
    if (!ok) return cause.message;
    if (early || pieces) return "sums did not begin early, or weights did not come in pieces";
    return captured == (place->rank != refuser) ? NULL : "another number of captures";
}

static void same_bytes(int most)
{
    for (int ranks = 1; ranks <= most; ranks *= 2) {
        int code[NCCL_RANKS];
        char one[100], these[100];
        as_processes(train, ranks, code);
        for (int r = 0; r < ranks; r++) assert_int_equal(code[r], 0);
        snprintf(one, sizeof one, "%s/1", folder);
        snprintf(these, sizeof these, "%s/%d", folder, ranks);
        if (ranks == 1) continue;
        same_checkpoint(one, these);
        must(sid2_remove_tree(these, &err));
    }
    char one[100];
    snprintf(one, sizeof one, "%s/1", folder);
    must(sid2_remove_tree(one, &err));
}

static void test_f32(void **state)
{
    (void)state;
    precision = "train.precision=f32";
    same_bytes(4);
}

static void test_bf16(void **state)
{
    (void)state;
    precision = "train.precision=bf16";
    same_bytes(4);
}

/* Where one rank cannot capture, it launches plainly, and nobody else need know. */
static void test_unequal_capture(void **state)
{
    (void)state;
    precision = "train.precision=bf16";
    refuser = 1;
    same_bytes(2);
    refuser = -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_f32),
        cmocka_unit_test(test_bf16),
        cmocka_unit_test(test_unequal_capture),
    };
    return cmocka_run_group_tests(tests, make_folder, drop_folder);
}
