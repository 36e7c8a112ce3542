/* Tensors larger than a binding may span are cut along the batch, and an arena larger than one allocation
 * lies in several. The limits are lowered for the test where a device has larger ones. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "gpu.h"
#include "vk.h"

enum { SKIPPED = 77 };

static sid2_device *device;
static sid2_error err;

/* y = ((x + x/4) + -x) + x/4 ..: activations that are all alive until the last node, then their sum. */
static void sum_of_scales(int64_t samples, int64_t width, int terms)
{
    sid2_graph *g = sid2_graph_create(SID2_F32);
    sid2_tensor x = sid2_graph_external(g, "x", SID2_F32, sid2_shape_of(samples, width)), part[8];
    for (int i = 0; i < terms; i++)
        part[i] = sid2_graph_emit(g, SID2_OP_scale, (sid2_attr){.scale = (float)(1 << i)}, &x, 1, false);
    sid2_tensor sum = part[0];
    for (int i = 1; i < terms; i++) sum = sid2_add(g, part[i], sum);
    sum = sid2_graph_export(g, sum, "y");
    assert_true(sid2_graph_finish(g, &err));
    size_t bytes = (size_t)(samples * width) * sizeof(float);
    float *numbers = malloc(bytes);
    assert_non_null(numbers);
    for (int64_t i = 0; i < samples * width; i++) numbers[i] = (float)(i % 9973);
    sid2_buffer *in = sid2_buffer_create(device, bytes, &err), *out = sid2_buffer_create(device, bytes, &err);
    sid2_buffer *none = sid2_buffer_create(device, 64, &err);
    assert_true(in && out && none);
    const sid2_binding bindings[] = {
        {"x", in}, {"y", out}, {"weights", none}, {"weights_low", none}, {"grads", none}};
    sid2_program *program = sid2_program_create(device, g, NULL, bindings, 5, &err);
    if (!program) fail_msg("%s", err.message);
    printf("arena: %zu MiB\n", sid2_program_plan(program)->arena_bytes >> 20);
    assert_true(sid2_buffer_upload(in, 0, numbers, bytes, &err));
    assert_true(sid2_program_run(program, &err));
    assert_true(sid2_buffer_download(out, 0, numbers, bytes, &err));
    for (int64_t i = 0; i < samples * width; i++)
        if (numbers[i] != (float)(i % 9973) * (float)((1 << terms) - 1))
            fail_msg("element %lld", (long long)i);
    sid2_program_destroy(program);
    sid2_buffer_destroy(in);
    sid2_buffer_destroy(out);
    sid2_buffer_destroy(none);
    sid2_graph_destroy(g);
    free(numbers);
}

static void tensors_are_cut(void **state)
{
    (void)state;
    sum_of_scales(7, 60001, 3);   /* by samples, at odd offsets */
    sum_of_scales(1000003, 1, 3); /* a flat buffer */
}

static void arenas_are_cut(void **state)
{
    (void)state;
    sum_of_scales(5, 20 << 20, 3); /* 400 MiB each */
}

int main(void)
{
    static const sid2_backend *const backends[] = {&sid2_backend_vk};
    int count;
    sid2_vk_gpu *gpus = (sid2_vk_gpu *)sid2_vk_gpus(&count); /* the list is not in constant memory */
    for (int i = 0; i < count; i++) {
        if (gpus[i].caps.max_range > 128 << 20) gpus[i].caps.max_range = 128 << 20;
        gpus[i].max_allocation = (size_t)1100 << 20;
    }
    const char *name = getenv("SID2_VK_DEVICE");
    if (!(device = sid2_backends_open(backends, 1, name ? name : "auto", NULL, &err)))
        return printf("skipped: %s\n", err.message), SKIPPED;
    const struct CMUnitTest large[] = {cmocka_unit_test(arenas_are_cut)};
    int failures = cmocka_run_group_tests(large, NULL, NULL);
    sid2_device_close(device);
    for (int i = 0; i < count; i++) gpus[i].caps.max_range = 1 << 20;
    device = sid2_backends_open(backends, 1, name ? name : "auto", NULL, &err);
    const struct CMUnitTest cut[] = {cmocka_unit_test(tensors_are_cut)};
    failures += cmocka_run_group_tests(cut, NULL, NULL);
    sid2_device_close(device);
    return failures;
}
