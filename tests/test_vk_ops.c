/* Every operator on a Vulkan device against the float64 reference, on random shapes, attributes and numbers:
 * tolerances and guards in core/opcheck.h.
 *
 *     test_vk_ops [cases] [operator] [dtype] [device]
 *
 * cases ($SID2_VK_CASES; 100) each, of one operator or "all", one of f32, bf16, f16 or "all", on the devices
 * whose name or driver holds `device` ($SID2_VK_DEVICE; all), with block sizes $SID2_VK_BLOCKS (as without
 * it). 77 where there is none. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cpu.h"
#include "opcheck.h"
#include "vk.h"

enum { SKIPPED = 77 };

typedef struct wanted {
    int cases;
    const char *op, *dtype, *device;
} wanted;

static bool is_wanted(const char *wish, const char *name)
{
    return !wish || strcmp(wish, "all") == 0 || strcmp(wish, name) == 0;
}

static int check(sid2_device *device, sid2_device *reference, sid2_op op, sid2_dtype dtype, int cases)
{
    if (!sid2_device_supports(device, op, dtype)) {
        printf("  %-20s %-5s MISSING\n", sid2_op_name(op), sid2_dtype_name(dtype));
        return 1;
    }
    sid2_opcheck_result result;
    sid2_error err = {0};
    bool ran = sid2_opcheck_run(device, reference, op, dtype, 1, cases, &result, &err);
    bool good = ran && !result.failures;
    printf("  %-20s %-5s %8.3f%s", sid2_op_name(op), sid2_dtype_name(dtype), result.worst,
           good ? "\n" : "  FAILED ");
    if (!good)
        printf("%d of %d cases: %s\n", result.failures, result.cases, ran ? result.failure : err.message);
    fflush(stdout);
    return !good;
}

static int check_device(int index, sid2_device_info *info, sid2_device *reference, const wanted *w)
{
    static const sid2_backend *const backends[] = {&sid2_backend_vk};
    static const sid2_dtype dtypes[] = {SID2_F32, SID2_BF16, SID2_F16};
    sid2_error err = {0};
    const sid2_device_options options = {.blocks = getenv("SID2_VK_BLOCKS")};
    sid2_device *device = sid2_device_open(backends, 1, info->id, &options, &err);
    if (!device) return printf("FAILED %s: %s\n", info->id, err.message), 1;
    sid2_backend_vk.describe(index, &options, info); /* what is left after the checks at its opening */
    printf("%s, %s\n  %s\n", info->name, info->driver, info->detail);
    int failures = 0;
    for (int op = 0; op < SID2_OP_COUNT; op++)
        for (int i = 0; i < 3; i++) {
            bool has = dtypes[i] == SID2_F32 || (dtypes[i] == SID2_BF16 ? info->bf16 : info->f16);
            if (has && is_wanted(w->op, sid2_op_name((sid2_op)op)) &&
                is_wanted(w->dtype, sid2_dtype_name(dtypes[i])))
                failures += check(device, reference, (sid2_op)op, dtypes[i], w->cases);
        }
    sid2_device_close(device);
    return failures;
}

int main(int argc, char **argv)
{
    const char *cases = getenv("SID2_VK_CASES");
    wanted w = {cases ? atoi(cases) : 100, NULL, NULL, getenv("SID2_VK_DEVICE")};
    if (argc > 1) w.cases = atoi(argv[1]);
    if (argc > 2) w.op = argv[2];
    if (argc > 3) w.dtype = argv[3];
    if (argc > 4) w.device = argv[4];
    static const sid2_backend *const cpu[] = {&sid2_backend_cpu};
    sid2_error err = {0};
    sid2_device *reference = sid2_device_open(cpu, 1, "reference", NULL, &err);
    if (!reference) return printf("FAILED: %s\n", err.message), 1;
    printf("%d cases each; worst error as a share of what is allowed\n", w.cases);
    int devices = 0, failures = 0;
    for (int i = 0; i < sid2_backend_vk.count(); i++) {
        sid2_device_info info;
        if (!sid2_backend_vk.describe(i, NULL, &info)) continue;
        if (w.device && !strcasestr(info.name, w.device) && !strcasestr(info.driver, w.device)) continue;
        devices++;
        failures += check_device(i, &info, reference, &w);
    }
    sid2_device_close(reference);
    if (!devices)
        printf("skipped: no Vulkan device%s%s\n", w.device ? " like " : "", w.device ? w.device : "");
    return failures ? 1 : devices ? 0 : SKIPPED;
}
