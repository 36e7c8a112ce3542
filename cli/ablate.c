/* sid2 ablate: rows of settings, trained and compared. */
#include "cli.h"

#include "ablate.h"
#include "json.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- What it shows ---- */

static bool on_progress(void *user, const sid2_ablate_progress *p)
{
    progress *bar = user;
    char left[32];
    if (p->run && (p->run->kind == SID2_RUN_WARNING || p->run->kind == SID2_RUN_CHANGED)) {
        progress_clear(bar);
        fprintf(stderr, "%s, seed %" PRIu64 ": %s\n", p->row, p->seed, p->run->text);
    }
    if (p->run && p->run->kind == SID2_RUN_STEP)
        progress_show(bar, (p->number + p->fraction) / p->total,
                      "%d of %d: %s, seed %" PRIu64 ", step %" PRIu64 "/%" PRIu64 ", loss %.4f, %s left",
                      p->number + 1, p->total, p->row, p->seed, p->run->progress->step,
                      p->run->progress->steps, p->run->progress->loss,
                      sid2_text_time(p->run->progress->seconds_left, left));
    else
        progress_show(bar, (p->number + (p->run ? p->fraction : 1)) / p->total,
                      "%d of %d: %s, seed %" PRIu64 ", %s: %.0f %%", p->number + 1, p->total, p->row, p->seed,
                      p->doing, 100 * p->fraction);
    return !interrupted();
}

static void print_table(const sid2_table *t)
{
    printf("\n%s\n", t->title);
    for (int row = 0; row < sid2_table_rows(t); row++) {
        for (int column = 0; column < t->columns; column++) {
            int width = 0;
            for (int k = 0; k < sid2_table_rows(t); k++) {
                const char *cell = sid2_table_at(t, k, column);
                int own = sid2_text_columns(cell, strlen(cell));
                if (own > width) width = own;
            }
            const char *cell = sid2_table_at(t, row, column);
            int pad = width - sid2_text_columns(cell, strlen(cell));
            if (column)
                printf("  %*s%s", pad, "", cell); /* numbers to the right */
            else
                printf("%s%*s", cell, pad, "");
        }
        putchar('\n');
    }
}

static bool print_tables(const sid2_ablation *a, sid2_error *err)
{
    sid2_table tables[SID2_ABLATION_TABLES];
    char test[320];
    bool ok = sid2_ablation_tables(a, tables, err);
    for (int i = 0; ok && i < SID2_ABLATION_TABLES; i++)
        if (sid2_table_rows(&tables[i]) > 1) print_table(&tables[i]);
    for (int i = 0; i < SID2_ABLATION_TABLES; i++) sid2_table_free(&tables[i]);
    if (ok) printf("\n%s\n", sid2_ablation_test(a, test));
    if (ok && a->waiting)
        printf("%d of %s/measured/ROW.seed-N.npz wait for your tool's ROW.seed-N.features.npz\n", a->waiting,
               a->options.folder);
    if (ok) printf("%s/ablation.html\n", a->options.folder);
    return ok;
}

/* ---- As JSON ---- */

static json_t *levels_json(const double band[SID2_BANDS])
{
    json_t *list = json_array();
    bool ok = list != NULL;
    for (int i = 0; ok && i < SID2_BANDS; i++)
        ok = !json_array_append_new(list, json_pack("[f, o]", sid2_band_logsnr(i), sid2_json_real(band[i])));
    return ok ? list : (json_decref(list), NULL);
}

static json_t *seed_json(const sid2_ablation *a, int row, int seed)
{
    const sid2_measured *m = sid2_ablation_at(a, row, seed);
    json_t *all =
        json_pack("{s:I, s:b, s:o, s:o, s:o, s:o}", "seed", (json_int_t)a->plan.seed[seed], "done", m->known,
                  "seconds", sid2_json_real(m->seconds), "passes_a_sample", sid2_json_real(m->evaluations),
                  "bits_by_logsnr", levels_json(m->bits), "loss_by_logsnr", levels_json(m->loss));
    bool ok = all != NULL;
    for (int i = 0; ok && i < SID2_METRICS; i++)
        ok = !json_object_set_new(all, sid2_metrics[i].word, sid2_json_real(m->metric[i]));
    return ok ? all : (json_decref(all), NULL);
}

static json_t *row_json(const sid2_ablation *a, int row)
{
    const sid2_ablate_row *r = &a->plan.row[row];
    json_t *seeds = json_array();
    bool ok = seeds != NULL;
    for (int k = 0; ok && k < a->plan.seeds; k++) ok = !json_array_append_new(seeds, seed_json(a, row, k));
    if (!ok) json_decref(seeds);
    return json_pack(
        "{s:s, s:I, s:I, s:f, s:I, s:o}", "row", r->name, "parameters", (json_int_t)r->parameters, "images",
        (json_int_t)(config_int(r->config, "train.steps") * config_int(r->config, "train.batch")),
        "operations", r->operations, "memory", (json_int_t)r->memory, "seeds", ok ? seeds : NULL);
}

static bool print_result_json(const sid2_ablation *a, sid2_error *err)
{
    json_t *rows = json_array();
    bool ok = rows != NULL;
    for (int row = 0; ok && row < a->plan.rows; row++) ok = !json_array_append_new(rows, row_json(a, row));
    if (!ok) json_decref(rows);
    json_t *all = json_pack("{s:s, s:s, s:s, s:i, s:o}", "plan", a->plan.name, "title", a->plan.title, "data",
                            a->options.data, "held_out_images", a->images, "rows", ok ? rows : NULL);
    ok = json_print(all, err);
    json_decref(all);
    return ok;
}

/* Help: those that come with sid2. */
static const char *plans_text(char text[320])
{
    int used = snprintf(text, 320, "a plan that comes with sid2 (");
    for (int i = 0; sid2_ablate_plan_name(i) && used < 320; i++)
        used += snprintf(text + used, (size_t)(320 - used), "%s%s", i ? ", " : "", sid2_ablate_plan_name(i));
    if (used < 320) snprintf(text + used, (size_t)(320 - used), "), or a file");
    return text;
}

int command_ablate(int argc, char **argv)
{
    sid2_ablate_options o = {.callback = on_progress, .how.samples = -1};
    device_choice on = {0};
    assignments set = {.count = 0};
    const char *items[sizeof set.item / sizeof set.item[0]];
    int64_t samples = -1;
    bool json = false;
    progress bar;
    char formats[256], plans[320];
    const option_row rows[] = {
        {OPTION_POSITIONAL, "PLAN", NULL, &o.plan, plans_text(plans), NULL},
        {OPTION_TEXT, "data", "PATH", &o.data, sid2_dataset_formats(formats), NULL},
        {OPTION_TEXT, "out", "FOLDER", &o.folder,
         "where runs, measurements and tables go; required. What is done there is not done again", NULL},
        {OPTION_TEXT, "preset", "NAME", &o.how.preset, "what rows begin with (the plan's)", NULL},
        {OPTION_TEXT, "seeds", "LIST", &o.how.seeds,
         "each row is trained once for each, such as 0,1,2 (the plan's)", NULL},
        {OPTION_INT, "samples", "N", &samples, "samples of each training to judge (the plan's)", NULL},
        {OPTION_TEXT, "checkpoint", "PATH", &o.checkpoint,
         "train nothing: rows are ways to sample from this checkpoint or run", NULL},
        {OPTION_TEXT, "inception", "x.safetensors", &o.inception,
         "the weights of FID's network (sid2 eval says how to get them), for FID of the samples", NULL},
        {OPTION_TEXT, "features", "x.npz", &o.features,
         "an npz with `features` [N, width] of real pictures, for those that your own tool left in "
         "FOLDER/measured/*.features.npz",
         NULL},
        {OPTION_FLAG, "json", NULL, &json, "print JSON", NULL},
        OPTIONS_DEVICE_CHOICE(on),
        OPTION_MEMORY(&o.memory),
        {OPTION_SET, "set", "KEY=VALUE", &set,
         "a configuration key of all rows, after the plan's [all]; may be repeated", NULL},
    };
    const option_table table = {
        "ablate", "Train rows of settings beside each other, and compare them",
        "The same command again goes on where it was stopped. Exit code 0: done; 75: stopped by a "
        "signal, come again; 1: something failed; 2: the request was wrong.",
        rows, sizeof rows / sizeof rows[0]};
    int code = options_parse(&table, argc, argv);
    if (code != OPTIONS_RUN) return code;
    if (!o.data) return report_usage("ablate", "--data is missing");
    if (!o.folder) return report_usage("ablate", "--out is missing: a folder for runs and tables");
    for (int i = 0; i < set.count; i++) items[i] = set.item[i];
    o.how.set = items;
    o.how.set_count = set.count;
    o.how.samples = samples;
    o.user = &bar;

    sid2_error err = {0};
    sid2_ablation a = {0};
    interrupt_install();
    progress_begin(&bar);
    sid2_device *device = open_device(&on, &err);
    bool ok = device && sid2_ablate_open(&a, &o, device, &err) && sid2_ablate_run(&a, device, &err);
    progress_clear(&bar);
    if (device) print_notice(device);
    if (ok) ok = json ? print_result_json(&a, &err) : print_tables(&a, &err);
    if (!ok && err.code == SID2_ERR_CANCELLED) {
        fprintf(stderr, "sid2 ablate: stopped; the same command goes on from here\n");
        code = EXIT_AGAIN;
    } else
        code = ok ? 0 : report_error("ablate", &err);
    sid2_ablate_close(&a);
    sid2_device_close(device);
    return code;
}
