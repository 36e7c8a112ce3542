/* Packed weights stay from run to run, are shared by programs over the same weights, and are made anew when somebody wrote to
 * them: told by what is submitted, and by results. */
#include "program_support.h"

#include "gpu.h"
#include "vk.h"

enum {
    SKIPPED = 77,
    SECTIONS = 3,
    ROWS = 700,
    BYTES = ROWS * CHAIN_WIDTH * 4,
    WEIGHTS = CHAIN_WIDTH * CHAIN_WIDTH
};

static sid2_device *device;
static int submissions;
static PFN_vkQueueSubmit real_submit;

static VkResult VKAPI_CALL count_submit(VkQueue queue, uint32_t count, const VkSubmitInfo *info,
                                        VkFence fence)
{
    submissions++;
    return real_submit(queue, count, info, fence);
}

/* What a chain of that depth gives with weights of that scale. */
static float *expected(int depth, float scale)
{
    chain c = chain_build(device, ROWS, depth);
    chain_upload(&c, c.w, WEIGHTS, scale);
    chain_must(&c, chain_compile(device, &c, NULL), "compile");
    float *y = chain_run(&c);
    chain_free(&c);
    return y;
}

/* Runs it: a submission for each section and perhaps one that packs, and that result. */
static void run_is(chain *c, bool packs, int depth, float scale)
{
    float *wanted = expected(depth, scale); /* and what was uploaded before is submitted */
    submissions = 0;
    chain_must(c, sid2_program_run(c->program, &c->error), "run");
    assert_int_equal(submissions, SECTIONS + packs);
    float *y = chain_result(c);
    assert_memory_equal(y, wanted, BYTES);
    free(y);
    free(wanted);
}

/* One more program over the weights of another. */
static chain beside(const chain *other, int depth)
{
    chain c = chain_build(device, ROWS, depth);
    sid2_buffer_destroy(c.w);
    c.w = other->w;
    chain_must(&c, chain_compile(device, &c, NULL), "compile");
    return c;
}

static void free_beside(chain *c)
{
    c->w = NULL;
    chain_free(c);
}

/* w = scale * from, as an optimizer's program would write it. */
static void write_weights(chain *c, float scale)
{
    sid2_graph *g = sid2_graph_create(SID2_F32);
    sid2_tensor from = sid2_graph_external(g, "from", SID2_F32, sid2_shape_of(CHAIN_WIDTH, CHAIN_WIDTH));
    sid2_tensor w = sid2_graph_emit(g, SID2_OP_scale, (sid2_attr){.scale = scale}, &from, 1, false);
    sid2_graph_export(g, w, "w");
    chain_must(c, sid2_graph_finish(g, &c->error), "graph");
    sid2_buffer *values = sid2_buffer_create(device, WEIGHTS * 4, &c->error);
    chain_must(c, values != NULL, "buffer");
    chain_upload(c, values, WEIGHTS, 1);
    const sid2_binding bindings[] = {{"from", values}, {"w", c->w}};
    sid2_program *program = sid2_program_create(device, g, NULL, bindings, 2, &c->error);
    chain_must(c, program && sid2_program_run(program, &c->error), "the writing program");
    sid2_program_destroy(program);
    sid2_buffer_destroy(values);
    sid2_graph_destroy(g);
}

static void packed_once(void **state)
{
    (void)state;
    size_t before = sid2_device_used(device);
    chain a = chain_build(device, ROWS, 2);
    chain_must(&a, chain_compile(device, &a, NULL), "compile");
    chain b = beside(&a, 3);
    run_is(&a, true, 2, 1);
    run_is(&a, false, 2, 1);
    run_is(&b, false, 3, 1); /* the other has packed them */
    chain_upload(&a, a.w, WEIGHTS, 2);
    run_is(&b, true, 3, 2);
    run_is(&a, false, 2, 2);
    write_weights(&a, 4);
    run_is(&a, true, 2, 4);
    run_is(&b, false, 3, 4);
    free_beside(&b);
    run_is(&a, false, 2, 4); /* its own still */
    chain_free(&a);
    assert_int_equal(sid2_device_used(device), before);
}

/* Other weights, though they lie at the same place later. */
static void forgotten_with_their_programs(void **state)
{
    (void)state;
    for (int scale = 1; scale < 4; scale++) {
        chain c = chain_build(device, ROWS, 2);
        chain_upload(&c, c.w, WEIGHTS, (float)scale);
        chain_must(&c, chain_compile(device, &c, NULL), "compile");
        run_is(&c, true, 2, (float)scale);
        chain_free(&c);
    }
}

int main(void)
{
    static const sid2_backend *const backends[] = {&sid2_backend_vk};
    sid2_error err;
    const char *name = getenv("SID2_VK_DEVICE");
    if (!(device = sid2_backends_open(backends, 1, name ? name : "auto", NULL, &err)))
        return printf("skipped: %s\n", err.message), SKIPPED;
    real_submit = vkQueueSubmit;
    vkQueueSubmit = count_submit;
    const struct CMUnitTest tests[] = {cmocka_unit_test(packed_once),
                                       cmocka_unit_test(forgotten_with_their_programs)};
    int failures = cmocka_run_group_tests(tests, NULL, NULL);
    sid2_device_close(device);
    return failures;
}
