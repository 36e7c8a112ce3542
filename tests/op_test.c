#include "op_test.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "cpu.h"
#include "opcheck.h"

enum { MOST_WORKERS = 8, TYPES = 3, ALL = SID2_OP_COUNT * TYPES };

typedef struct work {
    const op_test *test;
    atomic_int next, failures;
} work;

static bool is_wanted(const char *wish, const char *name)
{
    return !wish || strcmp(wish, "all") == 0 || strcmp(wish, name) == 0;
}

/* Everything of one operator and type is one line, for workers print side by side. */
static bool check(const work *w, sid2_device *device, sid2_device *reference, sid2_op op, sid2_dtype dtype)
{
    const char *name = sid2_op_name(op), *type = sid2_dtype_name(dtype);
    if (!sid2_device_supports(device, op, dtype)) return printf("%-20s %-5s not there\n", name, type), true;
    sid2_opcheck_result result;
    sid2_error err = {0};
    bool ran = sid2_opcheck_run(device, reference, op, dtype, 1, w->test->cases, &result, &err);
    bool ok = ran && !result.failures;
    if (ok)
        printf("%-20s %-5s %8.3f\n", name, type, result.worst);
    else
        printf("FAILED %s %s: %d of %d cases: %s\n", name, type, result.failures, result.cases,
               ran ? result.failure : err.message);
    fflush(stdout);
    return ok;
}

static void *run(void *argument)
{
    static const sid2_backend *const cpu = &sid2_backend_cpu;
    static const sid2_dtype dtypes[TYPES] = {SID2_F32, SID2_BF16, SID2_F16};
    work *w = argument;
    const op_test *t = w->test;
    const sid2_device_options options = {.blocks = t->blocks};
    sid2_error err = {0};
    sid2_device *device = sid2_backends_open(&t->backend, 1, t->device, &options, &err);
    sid2_device *reference = device ? sid2_backends_open(&cpu, 1, "reference", NULL, &err) : NULL;
    if (!reference) {
        printf("FAILED %s: %s\n", t->device, err.message);
        atomic_fetch_add(&w->failures, 1);
    }
    for (int i; reference && (i = atomic_fetch_add(&w->next, 1)) < ALL;) {
        const sid2_device_info *info = sid2_device_describe(device);
        sid2_op op = (sid2_op)(i / TYPES);
        sid2_dtype dtype = dtypes[i % TYPES];
        bool has = dtype == SID2_F32 || (dtype == SID2_BF16 ? info->bf16 : info->f16);
        if (!i) printf("%s, %s\n%s\n", info->name, info->driver, info->detail);
        if (has && is_wanted(t->op, sid2_op_name(op)) && is_wanted(t->dtype, sid2_dtype_name(dtype)))
            atomic_fetch_add(&w->failures, !check(w, device, reference, op, dtype));
    }
    sid2_device_close(reference);
    sid2_device_close(device);
    return NULL;
}

int op_test_run(const op_test *test)
{
    work w = {.test = test};
    printf("%d cases each; worst error as a share of what is allowed\n", test->cases);
    pthread_t threads[MOST_WORKERS];
    bool started[MOST_WORKERS];
    for (int i = 0; i < test->workers; i++) started[i] = pthread_create(&threads[i], NULL, run, &w) == 0;
    for (int i = 0; i < test->workers; i++)
        if (started[i]) pthread_join(threads[i], NULL);
    return atomic_load(&w.failures) + (atomic_load(&w.next) < ALL);
}
