/* One NaN in an activation, a gradient, a weight: on the reference and on the CPU. */
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

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(by_the_reference), cmocka_unit_test(by_the_cpu)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
