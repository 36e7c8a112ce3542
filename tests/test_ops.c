/* Every operator of the fast CPU device against the float64 reference, on random shapes, attributes and
 * numbers: tolerances and guards in core/opcheck.h. Arguments: cases (1000), operator (all). Two threads,
 * each with devices of its own, share the work. */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <threads.h>

#include "cpu.h"
#include "opcheck.h"

enum { WORKERS = 2 };

typedef struct work {
    int cases;
    const char *only; /* operator, or NULL */
    atomic_int next, failures;
} work;

static double worst_of(sid2_device *device, sid2_device *reference, sid2_op op, sid2_dtype dtype, work *w)
{
    sid2_opcheck_result result;
    sid2_error err = {0};
    bool ran = sid2_opcheck_run(device, reference, op, dtype, 1, w->cases, &result, &err);
    if (!ran || result.failures) {
        atomic_fetch_add(&w->failures, 1);
        printf("FAILED %s %s: %d of %d cases: %s\n", sid2_op_name(op), sid2_dtype_name(dtype),
               result.failures, result.cases, ran ? result.failure : err.message);
    }
    return result.worst;
}

static int run(void *argument)
{
    static const sid2_backend *const backends[] = {&sid2_backend_cpu};
    work *w = argument;
    sid2_error err = {0};
    sid2_device *device = sid2_device_open(backends, 1, "cpu", NULL, &err);
    sid2_device *reference = device ? sid2_device_open(backends, 1, "reference", NULL, &err) : NULL;
    if (!reference) {
        printf("FAILED no device: %s\n", err.message);
        atomic_fetch_add(&w->failures, 1);
    }
    for (int i; reference && (i = atomic_fetch_add(&w->next, 1)) < SID2_OP_COUNT;) {
        sid2_op op = (sid2_op)i;
        if (w->only && strcmp(w->only, sid2_op_name(op)) != 0) continue;
        double f32 = worst_of(device, reference, op, SID2_F32, w);
        double bf16 = worst_of(device, reference, op, SID2_BF16, w);
        printf("%-20s %8.3f %8.3f\n", sid2_op_name(op), f32, bf16);
        fflush(stdout);
    }
    sid2_device_close(reference);
    sid2_device_close(device);
    return 0;
}

int main(int argc, char **argv)
{
    work w = {.cases = argc > 1 ? atoi(argv[1]) : 1000, .only = argc > 2 ? argv[2] : NULL};
    printf("%d cases each; worst error as a share of what is allowed\n%-20s %8s %8s\n", w.cases, "operator",
           "f32", "bf16");
    thrd_t threads[WORKERS];
    bool started[WORKERS];
    for (int i = 0; i < WORKERS; i++) started[i] = thrd_create(&threads[i], run, &w) == thrd_success;
    for (int i = 0; i < WORKERS; i++)
        if (started[i]) thrd_join(threads[i], NULL);
    return atomic_load(&w.failures) != 0 || atomic_load(&w.next) < SID2_OP_COUNT;
}
