/* sid2 plan: what training would give on GPUs that are not at hand. */
#include "cli.h"

#include "file.h"
#include "json.h"
#include "scaling.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_COUNTS = 32, MOST_RANKS = 65536, DAY = 24 * 60 * 60 };

typedef struct plan_job {
    const char *preset, *ranks, *gpu, *measured;
    double network, share;
    int64_t node;
    bool json;
    assignments set;
    sid2_cluster cluster;
    int counts[MOST_COUNTS], count; /* of ranks */
    json_t *known, *rows;           /* measurements; results */
    bool all;                       /* presets, a line each */
} plan_job;

/* A preset on so many ranks. */
typedef struct plan_place {
    const char *preset;
    const sid2_config *config;
    sid2_rank_work work;
} plan_place;

static const char *const sum_words[SID2_SUM_COUNT] = {"f32", "library", "bf16"};

/* ---- One way to sum ---- */

typedef struct plan_figures {
    sid2_step_time step;
    double seconds, rate, efficiency, days, sent,
        measured; /* rates: images/s; measured: NaN where nothing was */
} plan_figures;

/* Images/s that somebody measured; a row of the file without `sum` or `overlap` is of exact f32 sums that are overlapped. */
static double measured_rate(const plan_job *j, const plan_place *at, sid2_sum sum, bool overlap)
{
    size_t i;
    const json_t *row;
    json_array_foreach(j->known, i, row)
    {
        const char *preset = json_string_value(json_object_get(row, "preset")),
                   *gpu = json_string_value(json_object_get(row, "gpu")),
                   *word = json_string_value(json_object_get(row, "sum"));
        const json_t *overlapped = json_object_get(row, "overlap");
        if (preset && gpu && strcmp(preset, at->preset) == 0 && strcmp(gpu, j->gpu) == 0 &&
            sid2_json_number(row, "ranks") == at->work.ranks &&
            strcmp(word ? word : sum_words[SID2_SUM_F32], sum_words[sum]) == 0 &&
            !json_is_false(overlapped) == overlap)
            return sid2_json_number(row, "images_per_second");
    }
    return NAN;
}

static plan_figures figures_of(const plan_job *j, const plan_place *at, sid2_sum sum, bool overlap)
{
    const sid2_rank_work *w = &at->work;
    double batch = (double)w->images * w->ranks;
    plan_figures f = {.step = sid2_scaling_step(w, &j->cluster, sum, overlap)};
    f.seconds = sid2_step_seconds(&f.step);
    f.rate = batch / f.seconds;
    f.efficiency = sid2_scaling_alone(w, &j->cluster) / w->ranks / f.seconds;
    f.days = (double)config_int(at->config, "train.steps") * f.seconds / DAY;
    f.sent = sid2_sum_bytes(w, sum);
    f.measured = measured_rate(j, at, sum, overlap);
    return f;
}

static bool add_json(plan_job *j, const plan_place *at, sid2_sum sum, bool overlap, sid2_error *err)
{
    const sid2_rank_work *w = &at->work;
    plan_figures f = figures_of(j, at, sum, overlap);
    json_t *row = json_pack(
        "{s:s, s:s, s:i, s:i, s:i, s:I, s:I, s:f, s:f, s:s, s:b, s:f, s:f, s:f, s:f, s:{s:f, s:f, s:f, s:f, "
        "s:f}, "
        "s:o}",
        "preset", at->preset, "gpu", j->gpu, "ranks", w->ranks, "images", w->images, "microbatch",
        w->microbatch, "state_bytes", (json_int_t)w->state, "arena_bytes", (json_int_t)w->arena,
        "counted_share", w->counted, "counted_share_fp8", w->counted_fp8, "sum", sum_words[sum], "overlap",
        overlap, "sent_bytes", f.sent, "images_per_second", f.rate, "efficiency", f.efficiency, "days",
        f.days, "seconds", "compute", f.step.compute, "update", f.step.update, "exchange", f.step.exchange,
        "gather", f.step.gather, "latency", f.step.latency, "measured", sid2_json_real(f.measured));
    return !json_array_append_new(j->rows, row) || sid2_fail(err, SID2_ERR_MEMORY, "out of memory");
}

/* ---- Tables ---- */

static const char *days_text(double days, char text[32])
{
    if (days < 2) return sid2_text_time(days * DAY, text);
    sid2_text_format(text, 32, "%.1f days", days);
    return text;
}

static void print_head(const plan_job *j)
{
    char operations[32];
    const sid2_cluster *c = &j->cluster;
    printf(
        "%s: %s operations/s in bf16, of which %g %% are reached; memory %zu GiB, %.0f GB/s;\n"
        "  %.0f GB/s to each of %d in a node, %.0f GB/s to other nodes\n",
        c->name, sid2_text_count(c->operations, operations), 100 * c->share, c->memory >> 30,
        c->bandwidth * 1e-9, c->link * 1e-9, c->node, c->network * 1e-9);
}

static void print_assumptions(void)
{
    puts(
        "\nestimated, not measured; beside the data sheet's numbers it is assumed, times and sums fitted to "
        "an older "
        "estimate (docs/cluster.md):");
    const sid2_assumption *a;
    for (int i = 0; (a = sid2_scaling_assumption(i)); i++)
        printf("  %-17s %4.3g %-3s %s\n", a->word, a->value < 0.01 ? 1e6 * a->value : a->value,
               a->value < 0.01 ? "us" : "", a->help);
    puts(
        "  and that weights travel in bf16 and, overlapped, behind the forward pass, in three pieces; sid2 "
        "cuts them in four");
}

static void print_measured(const plan_figures *f)
{
    char rate[32];
    if (!isnan(f->measured))
        printf("  measured %s, %.1f %% of this", sid2_text_rate(f->measured, rate),
               100 * f->measured / f->rate);
    putchar('\n');
}

/* All ways to sum of one preset. */
static void print_ways(const plan_job *j, const plan_place *at)
{
    static const char *const names[SID2_SUM_COUNT] = {"f32, exact", "library's ring", "bf16, exact"};
    char all[32], state[32], arena[32], bytes[32], rate[32], time[32], recomputed[64] = "";
    const sid2_rank_work *w = &at->work;
    if (w->again > 0)
        snprintf(recomputed, sizeof recomputed, "; %.0f %% of the forward pass twice", 100 * w->again);
    printf("\n%d GPU%s, %d image%s each, %d at a time; memory of each %s: state %s, activations %s%s\n",
           w->ranks, w->ranks > 1 ? "s" : "", w->images, w->images > 1 ? "s" : "", w->microbatch,
           sid2_text_bytes((double)(w->state + w->arena), all), sid2_text_bytes((double)w->state, state),
           sid2_text_bytes((double)w->arena, arena), recomputed);
    printf("by count, forward and backward passes reach %.0f %% of the operations a second (--share %.2f)",
           100 * w->counted, w->counted);
    if (j->cluster.fp8 > 0) printf("; with sid2 train --fp8 large %.0f %%", 100 * w->counted_fp8);
    putchar('\n');
    printf("  %-26s %9s %8s %7s %8s %8s %8s %7s %8s %7s %8s\n", "sums", "images/s", "of ideal", "in all",
           "sent", "ms", "compute", "update", "exchange", "gather", "latency");
    for (int overlap = 0; overlap < 2; overlap++)
        for (int s = 0; s < SID2_SUM_COUNT; s++) {
            char name[48];
            if (!sid2_sum_suits((sid2_sum)s, w->ranks) || (w->ranks == 1 && (s || overlap))) continue;
            plan_figures f = figures_of(j, at, (sid2_sum)s, overlap);
            snprintf(name, sizeof name, "%s%s", names[s], overlap ? ", overlapped" : "");
            printf("  %-26s %9s %6.1f %% %9s %8s %8.1f %8.1f %7.2f %8.2f %7.2f %8.2f", name,
                   sid2_text_rate(f.rate, rate), 100 * f.efficiency, days_text(f.days, time),
                   sid2_text_bytes(f.sent, bytes), 1e3 * f.seconds, 1e3 * f.step.compute, 1e3 * f.step.update,
                   1e3 * f.step.exchange, 1e3 * f.step.gather, 1e3 * f.step.latency);
            print_measured(&f);
        }
}

/* What sid2 does unless told otherwise, overlapped. */
static void print_line(const plan_job *j, const plan_place *at)
{
    const sid2_rank_work *w = &at->work;
    sid2_sum sum = sid2_sum_suits(SID2_SUM_F32, w->ranks) ? SID2_SUM_F32 : SID2_SUM_LIBRARY;
    plan_figures f = figures_of(j, at, sum, true);
    char memory[32], sent[32], rate[32], time[32], operations[32];
    printf("%-16s %9s %6d %7d %9s %9s %9s %6.1f %% %9s  %4.0f %4.0f %4.0f %4.0f %4.0f", at->preset,
           sid2_text_count(w->operations, operations), w->ranks, w->images,
           sid2_text_bytes((double)(w->state + w->arena), memory), sid2_text_bytes(f.sent, sent),
           sid2_text_rate(f.rate, rate), 100 * f.efficiency, days_text(f.days, time),
           100 * f.step.compute / f.seconds, 100 * f.step.update / f.seconds,
           100 * f.step.exchange / f.seconds, 100 * f.step.gather / f.seconds,
           100 * f.step.latency / f.seconds);
    print_measured(&f);
}

static void print_preset(const plan_place *at)
{
    char parameters[32], operations[32], images[32];
    printf("%s: batch %lld, %s parameters, %s operations a trained image, %s images in all\n", at->preset,
           (long long)config_int(at->config, "train.batch"),
           sid2_text_count((double)at->work.elements, parameters),
           sid2_text_count(at->work.operations, operations),
           sid2_text_count((double)config_int(at->config, "train.batch") *
                               (double)config_int(at->config, "train.steps"),
                           images));
}

/* ---- Presets and ranks ---- */

static bool add_place(plan_job *j, const plan_place *at, sid2_error *err)
{
    if (!j->json) {
        if (j->all)
            print_line(j, at);
        else
            print_ways(j, at);
        return true;
    }
    for (int overlap = 0; overlap < 2; overlap++)
        for (int s = 0; s < SID2_SUM_COUNT; s++)
            if (sid2_sum_suits((sid2_sum)s, at->work.ranks) && !add_json(j, at, (sid2_sum)s, overlap, err))
                return false;
    return true;
}

/* In a table of all presets, one that does not go onto so many ranks is a line that says so. */
static bool plan_preset(plan_job *j, const char *preset, sid2_error *err)
{
    sid2_config *config = sid2_config_create();
    if (!config) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory");
    bool ok = sid2_config_preset(config, preset, err) && options_apply(config, &j->set, err);
    for (int i = 0; ok && i < j->count; i++) {
        plan_place at = {preset, config, {0}};
        sid2_error why = {0};
        ok = sid2_rank_work_of(config, &j->cluster, j->counts[i], &at.work, &why);
        if (!ok && j->all && (why.code == SID2_ERR_USAGE || why.code == SID2_ERR_MEMORY)) {
            ok = true;
            if (!j->json) printf("%-16s %9s %6d  %s\n", preset, "", j->counts[i], why.message);
        } else if (!ok) {
            sid2_fail(err, why.code, "%s: %s", preset, why.message);
        } else {
            if (!i && !j->all && !j->json) print_preset(&at);
            ok = add_place(j, &at, err);
        }
    }
    sid2_config_destroy(config);
    return ok;
}

static bool plan_all(plan_job *j, sid2_error *err)
{
    bool ok = true;
    if (!j->json)
        printf("\n%-16s %9s %6s %7s %9s %9s %9s %8s %9s  %s\n%86s %s\n", "preset", "an image", "GPUs",
               "images", "a GPU", "sent", "images/s", "of ideal", "in all", "% of a step:", "",
               "      compute, update, exchange, gather, latency");
    for (int i = 0; ok && sid2_preset_name(i); i++) ok = plan_preset(j, sid2_preset_name(i), err);
    return ok;
}

/* ---- The command ---- */

static bool read_counts(plan_job *j, sid2_error *err)
{
    size_t n = 0;
    uint64_t *numbers = parse_ranges("ranks", j->ranks, MOST_COUNTS, &n, err);
    bool ok = numbers != NULL;
    for (size_t i = 0; ok && i < n; i++) {
        if (numbers[i] < 1 || numbers[i] > MOST_RANKS)
            ok = sid2_fail(err, SID2_ERR_USAGE, "--ranks should be 1 to %d", MOST_RANKS);
        else
            j->counts[j->count++] = (int)numbers[i];
    }
    free(numbers);
    return ok;
}

static bool read_measured(plan_job *j, sid2_error *err)
{
    enum { MOST_BYTES = 1 << 24 };
    if (!j->measured) return true;
    size_t size = 0;
    uint8_t *text = sid2_file_read(j->measured, MOST_BYTES, &size, err);
    if (text) j->known = sid2_json_parse(text, size, 0, j->measured, err);
    free(text);
    if (!j->known) return false;
    return json_is_array(j->known) ||
           sid2_fail(err, SID2_ERR_FORMAT,
                     "%s: no list of measurements, as sid2 plan --json prints one of what it expects",
                     j->measured);
}

static bool prepare(plan_job *j, sid2_error *err)
{
    if (!read_counts(j, err) || !sid2_cluster_of(&j->cluster, j->gpu, err) || !read_measured(j, err))
        return false;
    if (j->network > 0) j->cluster.network = j->network * 1e9;
    if (j->share > 0) j->cluster.share = j->share;
    j->cluster.node = (int)j->node;
    j->all = strcmp(j->preset, "all") == 0;
    j->rows = json_array();
    return j->rows || sid2_fail(err, SID2_ERR_MEMORY, "out of memory");
}

int command_plan(int argc, char **argv)
{
    plan_job j = {.preset = "all", .ranks = "8,64,256", .gpu = "h100", .node = 8};
    const option_row rows[] = {
        {OPTION_TEXT, "preset", "NAME", &j.preset, "a preset, a configuration file, or all (all)", NULL},
        {OPTION_TEXT, "ranks", "LIST", &j.ranks, "GPUs that train together (8,64,256)", NULL},
        {OPTION_TEXT, "gpu", "NAME", &j.gpu, "a100, h100, h200 or b200 (h100)", NULL},
        {OPTION_INT, "node", "N", &j.node, "GPUs of a node, a power of two (8)", NULL},
        {OPTION_REAL, "network", "GB/S", &j.network, "of each GPU to other nodes (the GPU's usual card)",
         NULL},
        {OPTION_REAL, "share", "SHARE", &j.share,
         "of the data sheet's operations a second that are reached, such as one GPU's measurement (0.4)",
         NULL},
        {OPTION_TEXT, "measured", "FILE", &j.measured,
         "images/s that were measured, beside what is expected: a JSON list of objects with preset, gpu, "
         "ranks, "
         "images_per_second",
         NULL},
        {OPTION_FLAG, "json", NULL, &j.json, "print JSON", NULL},
        OPTION_SET_KEY(&j.set),
    };
    int code = options_parse(
        &(option_table){
            "plan", "What training on several GPUs would give: speed, memory, bytes, days",
            "Operations, bytes and memory are counted from the graphs that would run; speeds are assumed, "
            "and printed. More cores of a CPU: sid2 bench --scaling --predict, which measures one.",
            rows, sizeof rows / sizeof rows[0]},
        argc, argv);
    if (code != OPTIONS_RUN) return code;
    if (j.node < 1 || j.node > 1024 || (j.node & (j.node - 1)))
        return report_usage("plan", "--node should be a power of two, up to 1024");
    if (j.share > 1) return report_usage("plan", "--share should be more than 0, and 1 at most");
    sid2_error err = {0};
    bool ok = prepare(&j, &err);
    if (ok && !j.json) print_head(&j);
    ok = ok && (j.all ? plan_all(&j, &err) : plan_preset(&j, j.preset, &err));
    if (ok && j.json)
        ok = json_print(j.rows, &err);
    else if (ok)
        print_assumptions();
    json_decref(j.rows);
    json_decref(j.known);
    return ok ? 0 : report_error("plan", &err);
}
