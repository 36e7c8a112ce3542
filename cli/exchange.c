/* sid2 bench --exchange, by several ranks: what sums over them cost, and what ranks of one thread give beside threads. */
#include "bench.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "group.h"
#include "ranks.h"
#include "trainer.h"

/* What is measured, in turn. */
enum { SUM_F32, SUM_BF16, SUM_LIBRARY, SPREAD, TOGETHER, ALONE, ROWS };

typedef struct side {
    sid2_device *device;
    sid2_trainer *trainer;
    int images; /* that it brings to a step */
} side;

typedef struct exchange {
    const bench_job *job;
    ranks ranks;
    sid2_group *group;
    side together, alone; /* alone: of rank 0, with the threads of all */
    uint8_t *pixels;      /* [train.batch] */
    sid2_buffer *values;
    float *own; /* [elements] */
    int64_t elements;
    int times[ROWS];
    double seconds[ROWS][BENCH_MAX_ROUNDS];
    double sent[ROWS]; /* bytes, by this rank, each time */
} exchange;

static bool train(const exchange *x, const side *s, sid2_error *err)
{
    return sid2_trainer_step(s->trainer, x->pixels, NULL, err);
}

static bool run(exchange *x, int row, sid2_error *err)
{
    const sid2_span all = {0, x->elements};
    switch (row) {
    case SUM_F32:
    case SUM_BF16: return sid2_group_sum(x->group, x->values, all, SID2_SUM_BLOCK, row == SUM_BF16, err);
    case SUM_LIBRARY:
        return sid2_group_sum_inexact(x->group, sid2_buffer_memory(x->values), x->own, x->elements, err);
    case SPREAD:
        return sid2_group_spread_buffers(x->group, &(sid2_parted){x->values, sizeof(float), NULL, NULL}, 1,
                                         all, SID2_SUM_BLOCK, err);
    case TOGETHER: return train(x, &x->together, err);
    default: return !x->alone.trainer || train(x, &x->alone, err);
    }
}

/* Seconds of each of `times`: those of the slowest rank. They begin together. */
static bool time_row(exchange *x, int row, int times, double *seconds, sid2_error *err)
{
    uint32_t none = 0;
    int count = sid2_group_ranks(x->group);
    double took[2] = {0}, *all = calloc((size_t)count, sizeof *all);
    bool ok =
        (all || sid2_fail(err, SID2_ERR_MEMORY, "out of memory")) && sid2_group_agree(x->group, &none, err);
    uint64_t before = sid2_group_sent(x->group);
    double began = sid2_clock();
    for (int i = 0; ok && i < times; i++) ok = run(x, row, err);
    took[0] = (sid2_clock() - began) / times;
    x->sent[row] = (double)(sid2_group_sent(x->group) - before) / times;
    if (all) all[sid2_group_rank(x->group)] = took[0];
    ok = ok && sid2_group_gather(x->group, all, sizeof *all, err);
    for (int r = 0; ok && r < count; r++) took[1] = fmax(took[1], all[r]);
    *seconds = took[1];
    free(all);
    return ok;
}

static bool measure(exchange *x, sid2_error *err)
{
    bool ok = true;
    for (int row = 0; ok && row < ROWS; row++) {
        double once;
        ok = time_row(x, row, 1, &once, err) && time_row(x, row, 1, &once, err);
        x->times[row] = (int)fmin(fmax(1, x->job->seconds / once), 1000);
        ok = ok && sid2_group_share(x->group, &x->times[row], sizeof x->times[row], err);
    }
    for (int round = 0; ok && round < x->job->rounds; round++)
        for (int row = 0; ok && row < ROWS; row++)
            ok = time_row(x, row, x->times[row], &x->seconds[row][round], err);
    return ok;
}

static bool open_side(exchange *x, side *s, sid2_group *group, int threads, sid2_error *err)
{
    const sid2_config *config = x->job->config;
    sid2_recipe recipe = sid2_recipe_of(config);
    s->device = open_device(&(device_choice){.id = "cpu", .threads = threads}, err);
    s->trainer = s->device ? sid2_trainer_create_recipe(s->device, config, &recipe, 0, group, err) : NULL;
    return s->trainer;
}

static void close_side(side *s)
{
    sid2_trainer_destroy(s->trainer);
    sid2_device_close(s->device);
}

static bool prepare(exchange *x, sid2_error *err)
{
    const sid2_config *config = x->job->config;
    int threads = (int)x->job->on.threads;
    size_t bytes = (size_t)x->job->batch * sid2_config_image_bytes(config);
    x->group = x->ranks.group;
    if (!x->group)
        return sid2_fail(err, SID2_ERR_USAGE,
                         "--exchange is of several ranks: mpirun -n 2 sid2 bench --exchange");
    bool ok = open_side(x, &x->together, x->group, threads, err) &&
              (x->ranks.place.rank || open_side(x, &x->alone, NULL, threads * x->ranks.place.ranks, err));
    if (!sid2_group_concur(x->group, ok, err) || !ok) return false;
    x->elements = x->together.trainer->states[0].params->elements;
    x->pixels = malloc(bytes);
    x->own = malloc((size_t)x->elements * sizeof *x->own);
    x->values = sid2_buffer_create(x->together.device, (size_t)x->elements * sizeof(float), err);
    for (size_t i = 0; x->pixels && i < bytes; i++) x->pixels[i] = (uint8_t)(i * 37 % 251);
    ok = (x->pixels && x->own) || sid2_fail(err, SID2_ERR_MEMORY, "out of memory");
    return sid2_group_concur(x->group,
                             ok && x->values && sid2_group_attach(x->group, x->together.device, err), err);
}

static void print_exchange(exchange *x, const char *name, int row, double planned)
{
    char sent[32], plan[32];
    printf("  %-34s %9.3f", name, 1e3 * bench_median(x->seconds[row], (int)x->job->rounds));
    if (planned > 0)
        printf(" %10s %10s", sid2_text_bytes(x->sent[row], sent), sid2_text_bytes(planned, plan));
    putchar('\n');
}

static void print_training(exchange *x, const char *name, int row)
{
    char rate[32];
    double seconds = bench_median(x->seconds[row], (int)x->job->rounds);
    printf("  %-34s %9.1f %10s\n", name, 1e3 * seconds,
           sid2_text_rate((double)x->job->batch / seconds, rate));
}

static void print_all(exchange *x, const char *dtype)
{
    char elements[32], name[64];
    int count = x->ranks.place.ranks, threads = (int)x->job->on.threads;
    double part = (double)x->elements * (count - 1) / count;
    printf("%s, %d ranks through %s, medians of %d\n", x->job->preset, count, sid2_group_carrier(x->group),
           (int)x->job->rounds);
    snprintf(name, sizeof name, "%s f32 over the ranks", sid2_text_count((double)x->elements, elements));
    printf("%-36s %9s %10s %10s\n", name, "ms", "sent", "planned");
    print_exchange(x, "sum, exact, f32", SUM_F32, 4 * part);
    print_exchange(x, "sum, exact, bf16", SUM_BF16, 2 * part);
    print_exchange(x, "sum, the library's, f32", SUM_LIBRARY, 0);
    print_exchange(x, "parts to all", SPREAD, 4 * part);
    snprintf(name, sizeof name, "training, %s, batch %d", dtype, (int)x->job->batch);
    printf("%-36s %9s %10s\n", name, "ms", "images/s");
    snprintf(name, sizeof name, "%d ranks of %d thread%s", count, threads, threads > 1 ? "s" : "");
    print_training(x, name, TOGETHER);
    snprintf(name, sizeof name, "1 process of %d threads", count * threads);
    print_training(x, name, ALONE);
    printf("  a step sends %.0f bytes, planned %.0f\n", x->sent[TOGETHER],
           sid2_trainer_sends(x->together.trainer));
}

static bool bench_dtype(exchange *x, const char *dtype, sid2_error *err)
{
    bool ok = config_set(x->job->config, "train.precision", dtype, err) &&
              config_set_int(x->job->config, "train.batch", x->job->batch, err) && prepare(x, err) &&
              measure(x, err);
    if (ok && ranks_speak(&x->ranks)) print_all(x, dtype);
    sid2_buffer_destroy(x->values);
    free(x->pixels);
    free(x->own);
    close_side(&x->alone);
    close_side(&x->together);
    x->values = NULL, x->pixels = NULL, x->own = NULL;
    x->alone = x->together = (side){0};
    return ok;
}

int bench_exchange(const bench_job *job)
{
    static const char *const dtypes[] = {"f32", "bf16"};
    sid2_error err = {0};
    exchange *x = calloc(1, sizeof *x);
    bool ok = x || sid2_fail(&err, SID2_ERR_MEMORY, "out of memory");
    if (!ok) return report_error("bench", &err);
    x->job = job;
    ok = ranks_join(&x->ranks, NULL, &err);
    for (int d = 0; ok && d < 2; d++)
        if (bench_wants(job->dtypes, dtypes[d])) ok = bench_dtype(x, dtypes[d], &err);
    int code = ok ? 0 : ranks_report(&x->ranks, "bench", &err);
    code = ranks_leave(&x->ranks, code, &err);
    free(x);
    return code;
}
