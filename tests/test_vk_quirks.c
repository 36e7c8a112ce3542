/* The table of drivers' faults (vk/quirks.c), asked about GPUs that nobody needs to have: what must not be used where. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "quirks.h"

static sid2_vk_gpu gpu_of(VkDriverId driver, uint32_t subgroup, bool mixed_dots)
{
    sid2_vk_gpu gpu = {.driver_id = driver, .mixed_dots = mixed_dots};
    gpu.properties.driverVersion = VK_MAKE_VERSION(25, 1, 0);
    gpu.caps.subgroup_size = subgroup;
    gpu.caps.subgroup_arithmetic = true;
    gpu.caps.cooperative.m = gpu.caps.cooperative.n = gpu.caps.cooperative.k = 16;
    gpu.caps.cooperative.subgroup = subgroup;
    sid2_vk_apply_quirks(&gpu);
    return gpu;
}

static void matrices_where_chips_have_units(void **state)
{
    (void)state;
    static const struct {
        const char *chip;
        VkDriverId driver;
        uint32_t subgroup;
        bool mixed_dots, matrices;
    } known[] = {
        {"RDNA 2, AMD's driver", VK_DRIVER_ID_AMD_PROPRIETARY, 32, false, false},
        {"RDNA 3, AMD's driver", VK_DRIVER_ID_AMD_PROPRIETARY, 32, true, true},
        {"RDNA 2, AMDVLK", VK_DRIVER_ID_AMD_OPEN_SOURCE, 32, false, false},
        {"RDNA 4, AMDVLK", VK_DRIVER_ID_AMD_OPEN_SOURCE, 32, true, true},
        {"RDNA 3, RADV", VK_DRIVER_ID_MESA_RADV, 32, true, true},
        {"Xe HPG, ANV", VK_DRIVER_ID_INTEL_OPEN_SOURCE_MESA, 8, true, false},
        {"Xe2, ANV", VK_DRIVER_ID_INTEL_OPEN_SOURCE_MESA, 16, true, true},
        {"Xe HPG, Windows", VK_DRIVER_ID_INTEL_PROPRIETARY_WINDOWS, 8, true, false},
        {"Xe2, Windows", VK_DRIVER_ID_INTEL_PROPRIETARY_WINDOWS, 16, true, true},
        {"NVIDIA", VK_DRIVER_ID_NVIDIA_PROPRIETARY, 32, true, true},
        {"a driver that does not say who it is", 0, 32, false, true},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        sid2_vk_gpu gpu = gpu_of(known[i].driver, known[i].subgroup, known[i].mixed_dots);
        if ((gpu.caps.cooperative.m != 0) != known[i].matrices)
            fail_msg("%s: matrices are %sused", known[i].chip, known[i].matrices ? "not " : "");
        assert_true(gpu.caps.subgroup_arithmetic);
    }
}

static void constants_are_folded(void **state)
{
    (void)state;
    assert_true(gpu_of(VK_DRIVER_ID_MOLTENVK, 32, false).quirks & SID2_VK_FOLD_CONSTANTS);
    assert_true(gpu_of(VK_DRIVER_ID_GOOGLE_SWIFTSHADER, 4, false).quirks & SID2_VK_FOLD_CONSTANTS);
    assert_false(gpu_of(VK_DRIVER_ID_MESA_RADV, 32, true).quirks);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(matrices_where_chips_have_units),
        cmocka_unit_test(constants_are_folded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
