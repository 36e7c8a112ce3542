/* Every operator of the fast CPU device against the float64 reference, on random shapes, attributes and
 * numbers: tolerances and guards in core/opcheck.h. Arguments: cases (1000), operator. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cpu.h"
#include "opcheck.h"

static double worst_of(sid2_device *device, sid2_device *reference, sid2_op op, sid2_dtype dtype, int cases,
                       int *failures)
{
    sid2_opcheck_result result;
    sid2_error err = {0};
    bool ran = sid2_opcheck_run(device, reference, op, dtype, 1, cases, &result, &err);
    if (!ran || result.failures) {
        ++*failures;
        printf("FAILED %s %s: %d of %d cases: %s\n", sid2_op_name(op), sid2_dtype_name(dtype),
               result.failures, result.cases, ran ? result.failure : err.message);
    }
    return result.worst;
}

int main(int argc, char **argv)
{
    static const sid2_backend *const backends[] = {&sid2_backend_cpu};
    const int cases = argc > 1 ? atoi(argv[1]) : 1000;
    sid2_error err = {0};
    sid2_device_options options = {0};
    sid2_device *device = sid2_device_open(backends, 1, "cpu", &options, &err);
    sid2_device *reference = device ? sid2_device_open(backends, 1, "reference", &options, &err) : NULL;
    if (!reference) {
        printf("no device: %s\n", err.message);
        sid2_device_close(device);
        return 1;
    }
    int failures = 0;
    printf("%d cases each on %s; worst error as a share of what is allowed\n%-20s %8s %8s\n", cases,
           sid2_device_describe(device)->name, "operator", "f32", "bf16");
    for (int op = 0; op < SID2_OP_COUNT; op++) {
        if (argc > 2 && strcmp(argv[2], sid2_op_name((sid2_op)op)) != 0) continue;
        double f32 = worst_of(device, reference, (sid2_op)op, SID2_F32, cases, &failures);
        double bf16 = worst_of(device, reference, (sid2_op)op, SID2_BF16, cases, &failures);
        printf("%-20s %8.3f %8.3f\n", sid2_op_name((sid2_op)op), f32, bf16);
        fflush(stdout);
    }
    sid2_device_close(device);
    sid2_device_close(reference);
    return failures != 0;
}
