/* sid2 bench --scaling: what more threads give. */
#include "bench.h"

#include <stdlib.h>
#include <string.h>

enum { OURS, PYTORCH, COMPILED, KINDS };
static const char *const kind_names[KINDS] = {"sid2", "PyTorch", "compiled"};

typedef struct sides {
    worker at[BENCH_MAX_COUNTS * KINDS]; /* by number of threads, then by kind */
    double seconds[BENCH_MAX_COUNTS * KINDS], mib[BENCH_MAX_COUNTS * KINDS];
    int kinds, count;
} sides;

static bool start(const bench_job *j, const char *mode, const char *dtype, sides *s, sid2_error *err)
{
    s->kinds = !j->against ? 1 : j->compile ? KINDS : KINDS - 1;
    for (int t = 0; t < j->count; t++) {
        bench_job one = *j;
        one.on.threads = j->counts[t];
        for (int kind = 0; kind < s->kinds; kind++) {
            one.compile = kind == COMPILED;
            json_t *request = bench_request(&one, mode, dtype);
            worker *w = &s->at[s->count++], *ours = w - kind;
            bool ok = kind == OURS ? bench_start_sid2(&one, w, request, err)
                                   : bench_start_pytorch(&one, w, request, ours, err);
            json_decref(request);
            if (!ok) return false;
        }
    }
    return true;
}

static bool measure(const bench_job *j, sides *s, sid2_error *err)
{
    if (!bench_measure(j, s->at, s->count, s->seconds, err)) return false;
    for (int i = 0; i < s->count; i++) {
        double mib[2];
        if (!bench_memory(&s->at[i], mib, err)) return false;
        s->mib[i] = mib[0];
    }
    return true;
}

static void print_head(const char *name, const sides *s)
{
    printf("%-28s", name);
    for (int kind = 0; kind < s->kinds; kind++) {
        printf(" %9s %6s %7s", kind_names[kind], "speed", "MiB");
        if (kind != OURS) printf(" %6s %6s", "ratio", "memory");
    }
    putchar('\n');
}

static void print_row(const bench_job *j, const sides *s, int t)
{
    char name[64], rate[32];
    const double *seconds = &s->seconds[t * s->kinds], *mib = &s->mib[t * s->kinds];
    int threads = j->counts[t];
    snprintf(name, sizeof name, "%d thread%s%s", threads, threads > 1 ? "s" : "",
             threads > j->cores ? ", too many" : "");
    printf("  %-26s", name);
    for (int kind = 0; kind < s->kinds; kind++) {
        printf(" %9s %6.2f %7.0f", sid2_text_rate((double)j->batch / seconds[kind], rate),
               s->seconds[kind] / seconds[kind], mib[kind]);
        if (kind != OURS) printf(" %6.2f %6.2f", seconds[kind] / seconds[OURS], mib[OURS] / mib[kind]);
    }
    putchar('\n');
}

static bool scale(const bench_job *j, const char *mode, const char *dtype, sid2_error *err)
{
    char name[64];
    sides *s = calloc(1, sizeof *s);
    bool ok = s || sid2_fail(err, SID2_ERR_MEMORY, "out of memory");
    ok = ok && start(j, mode, dtype, s, err) && measure(j, s, err);
    if (ok) {
        snprintf(name, sizeof name, "%s, %s, %s", mode, dtype,
                 strcmp(mode, "sample") == 0 ? "evaluations/s" : "images/s");
        print_head(name, s);
        for (int t = 0; t < j->count; t++) print_row(j, s, t);
    }
    for (int i = 0; s && i < s->count; i++) worker_stop(&s->at[i]);
    free(s);
    return ok;
}

bool bench_scaling(const bench_job *j, sid2_error *err)
{
    static const char *const modes[] = {"train", "sample"}, *const dtypes[] = {"f32", "bf16"};
    char load[64] = "";
    if (j->load) snprintf(load, sizeof load, ", beside %d busy processes", (int)j->load);
    printf("%s, batch %lld, %d core%s%s; speed: relative to the first row\n", j->preset, (long long)j->batch,
           j->cores, j->cores > 1 ? "s" : "", load);
    bool ok = true;
    for (int m = 0; m < 2; m++)
        for (int d = 0; d < 2 && ok; d++)
            if (bench_wants(j->rows, modes[m]) && bench_wants(j->dtypes, dtypes[d]))
                ok = scale(j, modes[m], dtypes[d], err);
    return ok;
}
