/* One NaN in an activation, a gradient, a weight: on a Vulkan device. $SID2_VK_DEVICE: part of its name. */
#include "nan_support.h"
#include "vk.h"

enum { SKIPPED = 77 };

static sid2_device *gpu;

static void by_vulkan(void **state)
{
    (void)state;
    nan_is_caught(gpu);
}

int main(void)
{
    const sid2_backend *backend = &sid2_backend_vk;
    const char *name = getenv("SID2_VK_DEVICE");
    if (!(gpu = sid2_backends_open(&backend, 1, name ? name : "auto", NULL, &err)))
        return printf("skipped: %s\n", err.message), SKIPPED;
    printf("%s\n", sid2_device_describe(gpu)->name);
    const struct CMUnitTest tests[] = {cmocka_unit_test(by_vulkan)};
    int failures = cmocka_run_group_tests(tests, NULL, NULL);
    sid2_device_close(gpu);
    return failures;
}
