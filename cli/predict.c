/* sid2 bench --scaling --predict: training on machines that are not at hand. */
#include "bench.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "predict.h"

/* Bytes a second, read and written, of copies that no cache holds. */
static bool measure_core(double *rate, sid2_error *err)
{
    enum { BYTES = 128 << 20, TIMES = 6 };
    char *from = malloc(BYTES), *to = malloc(BYTES);
    bool ok = (from && to) || sid2_fail(err, SID2_ERR_MEMORY, "out of memory");
    *rate = 0;
    if (ok) memset(from, 1, BYTES);
    for (int i = 0; ok && i < TIMES; i++) {
        double start = sid2_clock();
        from[i] = (char)i;
        memcpy(to, from, BYTES);
        ok = to[i] == (char)i || sid2_fail(err, SID2_ERR_INTERNAL, "memory does not hold what is written");
        *rate = fmax(*rate, 2.0 * BYTES / (sid2_clock() - start));
    }
    free(from);
    free(to);
    return ok;
}

/* Seconds of one core on a step of one micro-batch and one lane. */
static bool measure_microbatch(const bench_job *j, const char *dtype, int images, double *seconds,
                               sid2_error *err)
{
    bench_job one = *j;
    worker w = {0};
    char text[32];
    one.batch = images;
    one.on.threads = 1;
    one.on.id = "cpu"; /* whatever would be the fastest */
    snprintf(text, sizeof text, "%d", images);
    json_t *request = bench_request(&one, "train", dtype), *config = json_object_get(request, "config");
    bool ok = (config && !json_object_set_new(config, "train.lanes", json_string("1")) &&
               !json_object_set_new(config, "train.microbatch", json_string(text))) ||
              sid2_fail(err, SID2_ERR_MEMORY, "out of memory");
    ok = ok && bench_start_sid2(&one, &w, request, err) && bench_measure(&one, &w, 1, seconds, err);
    worker_stop(&w);
    json_decref(request);
    return ok;
}

static double whole(const sid2_prediction *p) { return p->lanes + p->sums_and_update + p->waking; }

/* Lanes for all cores, of the same micro-batches, whose time is known: more lanes of the same batch if it has so many,
 * else of a larger one. */
static void print_advice(const bench_job *j, const sid2_step_work *work, const sid2_machine_rates *m,
                         int images, int threads)
{
    sid2_step_work more = *work;
    char batch[48] = "", rate[32];
    while (more.lanes < threads) more.lanes *= 2;
    int64_t least = (int64_t)more.lanes * images, size = (j->batch + least - 1) / least * least;
    double times = (double)size / (double)j->batch;
    more.seconds *= times, more.bytes *= times, more.weights *= times;
    sid2_prediction p = sid2_predict_step(&more, m, threads);
    if (size != j->batch) snprintf(batch, sizeof batch, "train.batch=%lld ", (long long)size);
    printf("  %strain.lanes=%d: %s", batch, more.lanes, sid2_text_rate((double)size / whole(&p), rate));
}

static void print_rows(const bench_job *j, const char *dtype, const sid2_step_work *work,
                       const sid2_machine_rates *m, int images)
{
    char rate[32], name[48];
    sid2_prediction one = sid2_predict_step(work, m, 1);
    double alone = whole(&one);
    snprintf(name, sizeof name, "train, %s, images/s", dtype);
    printf("%-26s %9s %6s %6s %9s %11s %9s\n", name, "predicted", "speed", "cores", "lanes, ms", "sums, Adam",
           "waking");
    printf("  %-24s %9s %6.2f %6d %9.1f %11.2f %9.2f\n", "1 thread, measured",
           sid2_text_rate((double)j->batch / alone, rate), 1.0, 1, 1e3 * one.lanes, 1e3 * one.sums_and_update,
           1e3 * one.waking);
    for (int t = 0; t < j->predicted_count; t++) {
        int threads = j->predicted[t];
        sid2_prediction p = sid2_predict_step(work, m, threads);
        double seconds = whole(&p);
        snprintf(name, sizeof name, "%d thread%s", threads, threads > 1 ? "s" : "");
        printf("  %-24s %9s %6.2f %6d %9.1f %11.2f %9.2f", name,
               sid2_text_rate((double)j->batch / seconds, rate), alone / seconds, p.cores, 1e3 * p.lanes,
               1e3 * p.sums_and_update, 1e3 * p.waking);
        if (p.cores < threads) print_advice(j, work, m, images, threads);
        putchar('\n');
    }
}

static bool predict(bench_job *j, const char *dtype, const sid2_machine_rates *m, sid2_error *err)
{
    char a[32], b[32], c[32], d[32];
    sid2_recipe recipe = sid2_recipe_of(j->config);
    const sid2_training_site site = sid2_training_site_of(NULL, 0);
    sid2_training plan;
    double seconds;
    if (!config_set_int(j->config, "train.batch", j->batch, err) ||
        !config_set(j->config, "train.precision", dtype, err) ||
        !sid2_training_plan(j->config, &recipe, &site, &plan, err))
        return false;
    sid2_step_work work = sid2_step_work_of(&plan, &recipe, j->batch);
    int images = plan.microbatch;
    sid2_training_clear(&plan);
    printf(
        "%s: lanes %d, images a lane %lld, at a time %d; %s multiply-adds; lanes move %s, sums %s, the "
        "update "
        "%s\n",
        dtype, work.lanes, (long long)(j->batch / work.lanes), images, sid2_text_count(work.multiply_adds, a),
        sid2_text_bytes(work.bytes, b), sid2_text_bytes(sid2_step_sums(&work), c),
        sid2_text_bytes(work.update, d));
    if (!measure_microbatch(j, dtype, images, &seconds, err)) return false;
    /* An update of a small model stays in the caches: then it takes less than its bytes say. */
    work.seconds = (seconds - fmin(work.update / m->core, seconds / 2)) * (double)j->batch / images;
    print_rows(j, dtype, &work, m, images);
    return true;
}

bool bench_predict(bench_job *j, sid2_error *err)
{
    static const char *const dtypes[] = {"f32", "bf16"};
    sid2_machine_rates m = {.sockets = (int)j->sockets,
                            .socket = j->bandwidth * 1e9,
                            .link = 50e9,
                            .wake = 50e-6,
                            .wake_each = 5e-6};
    if (!measure_core(&m.core, err)) return false;
    printf("%s, batch %lld, predicted from one core's micro-batches and counted bytes\n", j->preset,
           (long long)j->batch);
    printf(
        "assumed: memory of a core %.1f GB/s (measured: a copy), of a socket %g, between sockets %g; %d "
        "socket%s;\n"
        "         %d parallel regions a step, each %.0f us and %.0f a core; a core beside others as fast as "
        "alone\n",
        m.core * 1e-9, m.socket * 1e-9, m.link * 1e-9, m.sockets, m.sockets > 1 ? "s" : "", SID2_STEP_REGIONS,
        m.wake * 1e6, m.wake_each * 1e6);
    bool ok = true;
    for (int d = 0; d < 2 && ok; d++)
        if (bench_wants(j->dtypes, dtypes[d])) ok = predict(j, dtypes[d], &m, err);
    return ok;
}
