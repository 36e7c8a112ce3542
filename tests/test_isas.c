/* The fast loops of every instruction set this machine has, also those that the device would not choose here
 * or leaves to oneDNN, against the float64 reference. Arguments: cases (60), operator (all). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cpu.h"
#include "isa_backend.h"
#include "opcheck.h"

/* Returns how many kernels went wrong. */
static int check_isa(const char *id, sid2_device *reference, int cases, const char *only)
{
    static const sid2_backend *const backends[] = {&bare};
    sid2_error err = {0};
    sid2_device *device = sid2_backends_open(backends, 1, id, NULL, &err);
    if (!device) return printf("%s: not on this machine\n", id), 0;
    int failures = 0, checked = 0;
    for (int op = 0; op < SID2_OP_COUNT; op++) {
        if (only && strcmp(only, sid2_op_name((sid2_op)op)) != 0) continue;
        for (int d = 0; d < 2; d++) {
            const sid2_dtype dtype = d ? SID2_BF16 : SID2_F32;
            if (!sid2_device_supports(device, (sid2_op)op, dtype)) continue;
            sid2_opcheck_result result;
            checked++;
            bool ran = sid2_opcheck_run(device, reference, (sid2_op)op, dtype, 2, cases, &result, &err);
            if (ran && !result.failures) continue;
            failures++;
            printf("FAILED %s %s: %d of %d cases: %s\n", sid2_op_name((sid2_op)op), sid2_dtype_name(dtype),
                   result.failures, result.cases, ran ? result.failure : err.message);
        }
    }
    printf("%s: %d kernels, %d wrong\n", sid2_device_describe(device)->name, checked, failures);
    fflush(stdout);
    sid2_device_close(device);
    return failures;
}

int main(int argc, char **argv)
{
    static const sid2_backend *const backends[] = {&sid2_backend_cpu};
    const int cases = argc > 1 ? atoi(argv[1]) : 60;
    sid2_error err = {0};
    sid2_device *reference = sid2_backends_open(backends, 1, "reference", NULL, &err);
    if (!reference) return printf("%s\n", err.message), 1;
    int failures = 0;
    for (int i = 0; sid2_cpu_isas[i]; i++) {
        char id[16];
        snprintf(id, sizeof id, "isa:%d", i);
        failures += check_isa(id, reference, cases, argc > 2 ? argv[2] : NULL);
    }
    sid2_device_close(reference);
    return failures != 0;
}
