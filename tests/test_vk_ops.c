/* Every operator of Vulkan devices.
 *
 *     test_vk_ops [cases] [operator] [dtype] [device]
 *
 * cases ($SID2_VK_CASES; 100) each, of one operator or "all", one of f32, bf16, f16 or "all" ($SID2_VK_TYPE),
 * on the devices whose name or driver holds `device` ($SID2_VK_DEVICE; all), with block sizes $SID2_VK_BLOCKS
 * (as without it). 77 where there is none. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "op_test.h"
#include "vk.h"

enum { SKIPPED = 77 };

int main(int argc, char **argv)
{
    const char *cases = getenv("SID2_VK_CASES"), *wish = argc > 4 ? argv[4] : getenv("SID2_VK_DEVICE");
    op_test test = {.backend = &sid2_backend_vk,
                    .blocks = getenv("SID2_VK_BLOCKS"),
                    .workers = 1,
                    .cases = argc > 1 ? atoi(argv[1])
                             : cases  ? atoi(cases)
                                      : 100,
                    .op = argc > 2 ? argv[2] : NULL,
                    .dtype = argc > 3 ? argv[3] : getenv("SID2_VK_TYPE")};
    int devices = 0, failures = 0;
    for (int i = 0; i < sid2_backend_vk.count(); i++) {
        sid2_device_info info;
        if (!sid2_backend_vk.describe(i, NULL, &info)) continue;
        if (wish && !strcasestr(info.name, wish) && !strcasestr(info.driver, wish)) continue;
        devices++;
        test.device = info.id;
        failures += op_test_run(&test);
    }
    if (!devices) printf("skipped: no Vulkan device%s%s\n", wish ? " like " : "", wish ? wish : "");
    return failures ? 1 : devices ? 0 : SKIPPED;
}
