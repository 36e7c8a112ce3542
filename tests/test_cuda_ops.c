/* Every operator of the CUDA device against the float64 reference, on random shapes, attributes and numbers:
 * tolerances and guards in core/opcheck.h. Skipped where there is no GPU. Arguments: cases (40), operator
 * (all). Threads with devices of their own share the work, for the reference takes most of the time. */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <threads.h>

#include "cpu.h"
#include "cuda_backend.h"
#include "opcheck.h"

enum { WORKERS = 8 };

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
    static const sid2_backend *const backends[] = {&sid2_backend_cpu, &sid2_backend_cuda};
    work *w = argument;
    sid2_error err = {0};
    sid2_device *device = sid2_device_open(backends, 2, "cuda:0", NULL, &err);
    sid2_device *reference = device ? sid2_device_open(backends, 2, "reference", NULL, &err) : NULL;
    if (!reference) {
        printf("FAILED no device: %s\n", err.message);
        atomic_fetch_add(&w->failures, 1);
    }
    for (int i; reference && (i = atomic_fetch_add(&w->next, 1)) < 3 * SID2_OP_COUNT;) {
        static const sid2_dtype dtypes[] = {SID2_F32, SID2_BF16, SID2_F16};
        sid2_op op = (sid2_op)(i / 3);
        if (w->only && strcmp(w->only, sid2_op_name(op)) != 0) continue;
        double worst = worst_of(device, reference, op, dtypes[i % 3], w);
        printf("%-20s %-5s %8.3f\n", sid2_op_name(op), sid2_dtype_name(dtypes[i % 3]), worst);
        fflush(stdout);
    }
    sid2_device_close(reference);
    sid2_device_close(device);
    return 0;
}

int main(int argc, char **argv)
{
    char why[200] = "no CUDA device";
    if (sid2_backend_cuda.count() == 0) {
        if (sid2_backend_cuda.missing) sid2_backend_cuda.missing(0, why);
        printf("skipped: %s\n", why);
        return 77;
    }
    work w = {.cases = argc > 1 ? atoi(argv[1]) : 40, .only = argc > 2 ? argv[2] : NULL};
    printf("%d cases each; worst error as a share of what is allowed\n", w.cases);
    thrd_t threads[WORKERS];
    bool started[WORKERS];
    for (int i = 0; i < WORKERS; i++) started[i] = thrd_create(&threads[i], run, &w) == thrd_success;
    for (int i = 0; i < WORKERS; i++)
        if (started[i]) thrd_join(threads[i], NULL);
    return atomic_load(&w.failures) != 0 || atomic_load(&w.next) < 3 * SID2_OP_COUNT;
}
