/* One NaN in an activation, a gradient, a weight, or a step that does not repeat itself: on the reference and on the
 * CPU. */
#include "nan_support.h"

static void on(const char *id)
{
    sid2_device *device = open_device(id);
    nan_is_caught(device);
    sid2_device_close(device);
}

static void by_the_reference(void **state)
{
    (void)state;
    on("reference");
}

static void by_the_cpu(void **state)
{
    (void)state;
    on("cpu");
}

static void by_two_threads(void **state)
{
    (void)state;
    const sid2_backend *backend = &sid2_backend_cpu;
    sid2_device *device =
        sid2_backends_open(&backend, 1, "cpu", &sid2_with(sid2_device_options, .threads = 2), &err);
    must(device);
    verified_is_the_same(device, "train.precision=f32");
    verified_is_the_same(device, "train.precision=bf16");
    sid2_device_close(device);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(by_the_reference), cmocka_unit_test(by_the_cpu),
                                       cmocka_unit_test(by_two_threads)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
