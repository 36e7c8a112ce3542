/* What an ablation found: tables, and a page with curves and pictures. */
#include "ablate.h"

#include "file.h"
#include "page.h"
#include "paired.h"
#include "text.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static void metric_name(const sid2_metric_row *m, char text[64])
{
    snprintf(text, 64, "%s%s%s", m->name, m->unit[0] ? ", " : "", m->unit);
}

static sid2_mean mean_of(const sid2_ablation *a, int row, int metric)
{
    double values[SID2_ABLATE_SEEDS];
    sid2_ablation_values(a, row, metric, values);
    return sid2_mean_of(values, a->plan.seeds);
}

static void add_mean(sid2_table *t, sid2_mean m, int decimals)
{
    if (!m.count)
        sid2_table_cell(t, "-");
    else if (m.count == 1)
        sid2_table_cell(t, "%.*f", decimals, m.mean);
    else
        sid2_table_cell(t, "%.*f ± %.*f", decimals, m.mean, decimals, m.deviation);
}

/* ---- Results ---- */

/* Seconds of training; or passes through networks for a sample. */
static double mean_cost(const sid2_ablation *a, int row, bool passes)
{
    double values[SID2_ABLATE_SEEDS];
    for (int k = 0; k < a->plan.seeds; k++) {
        const sid2_measured *m = sid2_ablation_at(a, row, k);
        values[k] = passes ? m->evaluations : m->seconds;
    }
    return sid2_mean_of(values, a->plan.seeds).mean;
}

static void add_costs(const sid2_ablation *a, sid2_table *t, int row)
{
    const sid2_ablate_row *r = &a->plan.row[row];
    const sid2_config *c = r->config;
    char text[32];
    sid2_table_cell(t, "%s", sid2_text_count((double)r->parameters, text));
    if (!a->options.checkpoint) {
        sid2_table_cell(t, "%s", sid2_text_count((double)c->train_steps * (double)c->train_batch, text));
        sid2_table_cell(t, "%.3g T", r->operations / 1e12);
        sid2_table_cell(t, "%s", sid2_text_bytes((double)r->memory, text));
        sid2_table_cell(t, "%s", sid2_text_time(mean_cost(a, row, false), text));
    }
    if (a->plan.samples) sid2_table_cell(t, "%.4g", mean_cost(a, row, true));
}

static void results(const sid2_ablation *a, sid2_table *t)
{
    char text[320];
    snprintf(text, sizeof text, "%s: mean ± deviation of %d seed%s",
             a->plan.title[0] ? a->plan.title : a->plan.name, a->plan.seeds, a->plan.seeds == 1 ? "" : "s");
    sid2_table_begin(t, text);
    sid2_table_head(t, "row");
    for (int i = 0; i < SID2_METRICS; i++) {
        metric_name(&sid2_metrics[i], text);
        if (sid2_ablation_has(a, i)) sid2_table_head(t, "%s", text);
    }
    sid2_table_head(t, "parameters");
    if (!a->options.checkpoint) {
        sid2_table_head(t, "images");
        sid2_table_head(t, "operations");
        sid2_table_head(t, "memory");
        sid2_table_head(t, "time");
    }
    if (a->plan.samples) sid2_table_head(t, "passes a sample");
    for (int row = 0; row < a->plan.rows; row++) {
        sid2_table_cell(t, "%s", a->plan.row[row].name);
        for (int i = 0; i < SID2_METRICS; i++)
            if (sid2_ablation_has(a, i)) add_mean(t, mean_of(a, row, i), sid2_metrics[i].decimals);
        add_costs(a, t, row);
    }
}

/* ---- Differences ---- */

/* Whether rows can differ in it: those that share a training are one model, whose loss and bits are the same. */
static bool is_compared(const sid2_ablation *a, int metric)
{
    bool same = metric == SID2_METRIC_loss || metric == SID2_METRIC_bits;
    for (int row = 0; same && row < a->plan.rows; row++) same = !a->plan.row[row].trained_as;
    return !same && sid2_ablation_has(a, metric);
}

typedef struct tests {
    sid2_paired pair[SID2_ABLATE_ROWS];
    double probability[SID2_ABLATE_ROWS]; /* after Holm; NaN: no test */
} tests;

static void test_rows(const sid2_ablation *a, int metric, tests *t)
{
    double first[SID2_ABLATE_SEEDS], other[SID2_ABLATE_SEEDS];
    sid2_ablation_values(a, 0, metric, first);
    for (int row = 0; row < a->plan.rows; row++) {
        sid2_ablation_values(a, row, metric, other);
        t->pair[row] = sid2_paired_test(first, other, a->plan.seeds);
        t->probability[row] = row ? t->pair[row].probability : NAN;
    }
    sid2_holm(t->probability, a->plan.rows);
}

static void differences(const sid2_ablation *a, sid2_table *t)
{
    char text[200];
    tests *all = calloc(SID2_METRICS, sizeof *all);
    snprintf(text, sizeof text, "difference from %s, p after Holm's correction", a->plan.row[0].name);
    sid2_table_begin(t, text);
    t->failed = !all;
    sid2_table_head(t, "row");
    for (int i = 0; all && i < SID2_METRICS; i++) {
        if (!is_compared(a, i)) continue;
        test_rows(a, i, &all[i]);
        metric_name(&sid2_metrics[i], text);
        sid2_table_head(t, "%s", text);
        sid2_table_head(t, "p");
    }
    for (int row = 1; all && row < a->plan.rows; row++) {
        sid2_table_cell(t, "%s", a->plan.row[row].name);
        for (int i = 0; i < SID2_METRICS; i++) {
            if (!is_compared(a, i)) continue;
            sid2_mean d = all[i].pair[row].difference;
            double p = all[i].probability[row];
            if (d.count)
                sid2_table_cell(t, "%+.*f", sid2_metrics[i].decimals + 1, d.mean);
            else
                sid2_table_cell(t, "-");
            if (isfinite(p))
                sid2_table_cell(t, "%s%.3f%s", p < 0.001 ? "< " : "", fmax(p, 0.001), p < 0.05 ? " *" : "");
            else
                sid2_table_cell(t, "-");
        }
    }
    free(all);
}

const char *sid2_ablation_test(const sid2_ablation *a, char text[320])
{
    int seeds = a->plan.seeds;
    if (seeds < 2)
        snprintf(text, 320, "One seed: nothing can be said of significance.");
    else
        snprintf(text, 320,
                 "Student's paired test of %d seeds against row %s (%d degree%s of freedom), with Holm's "
                 "correction for "
                 "%d comparison%s a column; * where p < 0.05.%s",
                 seeds, a->plan.row[0].name, seeds - 1, seeds == 2 ? "" : "s", a->plan.rows - 1,
                 a->plan.rows == 2 ? "" : "s",
                 seeds < 5 ? " With so few seeds only large and steady differences show." : "");
    return text;
}

/* ---- By noise level ---- */

static void band_values(const sid2_ablation *a, int row, bool bits, double mean[SID2_BANDS])
{
    for (int i = 0; i < SID2_BANDS; i++) {
        double values[SID2_ABLATE_SEEDS];
        for (int k = 0; k < a->plan.seeds; k++) {
            const sid2_measured *m = sid2_ablation_at(a, row, k);
            values[k] = bits ? m->bits[i] : m->loss[i];
        }
        mean[i] = sid2_mean_of(values, a->plan.seeds).mean;
    }
}

static void by_level(const sid2_ablation *a, sid2_table *t)
{
    sid2_table_begin(t, "held-out bits by noise level (logSNR; noise is left, the clean end right)");
    sid2_table_head(t, "row");
    for (int i = 0; i < SID2_BANDS; i++)
        sid2_table_head(t, "%g to %g", sid2_band_logsnr(i) - 1, sid2_band_logsnr(i) + 1);
    for (int row = 0; row < a->plan.rows; row++) {
        double mean[SID2_BANDS];
        band_values(a, row, true, mean);
        sid2_table_cell(t, "%s", a->plan.row[row].name);
        for (int i = 0; i < SID2_BANDS; i++)
            if (isfinite(mean[i]))
                sid2_table_cell(t, "%.4f", mean[i]);
            else
                sid2_table_cell(t, "-");
    }
}

bool sid2_ablation_tables(const sid2_ablation *a, sid2_table tables[SID2_ABLATION_TABLES], sid2_error *err)
{
    results(a, &tables[0]);
    differences(a, &tables[1]);
    by_level(a, &tables[2]);
    bool failed = false;
    for (int i = 0; i < SID2_ABLATION_TABLES; i++) failed |= tables[i].failed;
    return !failed || sid2_fail(err, SID2_ERR_MEMORY, "out of memory");
}

/* ---- The page ---- */

static void write_levels(FILE *page, const sid2_ablation *a, bool bits)
{
    double x[SID2_BANDS], (*y)[SID2_BANDS] = calloc(SID2_ABLATE_ROWS, sizeof *y);
    chart_series series[SID2_ABLATE_ROWS];
    for (int i = 0; i < SID2_BANDS; i++) x[i] = sid2_band_logsnr(i);
    for (int row = 0; y && row < a->plan.rows; row++) {
        band_values(a, row, bits, y[row]);
        series[row] = (chart_series){a->plan.row[row].name, sid2_chart_style(row), x, y[row], SID2_BANDS};
    }
    if (y)
        sid2_chart_write(
            page, &(chart){.title = bits ? "held-out bits by noise level" : "held-out loss by noise level",
                           .x_label = "logSNR",
                           .log_y = bits,
                           .series = series,
                           .series_count = a->plan.rows});
    free(y);
}

static bool differs(const sid2_ablation *a, const char *key)
{
    char first[256], other[256];
    sid2_config_text(a->plan.row[0].config, key, first);
    for (int row = 1; row < a->plan.rows; row++)
        if (strcmp(first, sid2_config_text(a->plan.row[row].config, key, other)) != 0) return true;
    return false;
}

/* A row's place on the plan's axis, NaN where it has none. */
static double axis_value(const sid2_ablation *a, int row)
{
    char value[256], *end;
    if (sid2_ablate_plan_by_evaluations(&a->plan)) return mean_cost(a, row, true);
    double x = sid2_text_real(sid2_config_text(a->plan.row[row].config, a->plan.axis, value), &end);
    return end == value ? NAN : x;
}

/* What a row has beside its value on the axis: rows that share it are one curve. Where the plan multiplies rows by the axis
 * that is what they are multiplied from. */
static void group_of(const sid2_ablation *a, int row, char text[256])
{
    const sid2_config_key *key;
    const char *axis = sid2_ablate_plan_axis_key(&a->plan);
    char own[256];
    if (a->plan.each_of_axis) {
        snprintf(text, 256, "%s", a->plan.row[row].curve);
        return;
    }
    text[0] = 0;
    for (int i = 0; (key = sid2_config_key_at(i)); i++) {
        if (!differs(a, key->name) || strcmp(key->name, axis) == 0) continue;
        size_t used = strlen(text);
        snprintf(text + used, 256 - used, "%s%s %s", used ? ", " : "", strchr(key->name, '.') + 1,
                 sid2_config_text(a->plan.row[row].config, key->name, own));
    }
}

typedef struct curve {
    char name[256];
    double x[SID2_ABLATE_ROWS], y[SID2_ABLATE_ROWS];
    int count;
} curve;

static void add_point(curve *c, double x, double y)
{
    int place = c->count++;
    for (; place && c->x[place - 1] > x; place--)
        c->x[place] = c->x[place - 1], c->y[place] = c->y[place - 1];
    c->x[place] = x;
    c->y[place] = y;
}

/* Of which the smaller ones are told apart by their ratio. */
static bool is_distance(int metric)
{
    return metric == SID2_METRIC_pixels || metric == SID2_METRIC_spectrum || metric == SID2_METRIC_fid ||
           metric == SID2_METRIC_features;
}

/* One metric by the plan's axis, or by another metric: what is gained against what is lost. */
static void write_curves(FILE *page, const sid2_ablation *a, int metric, int against)
{
    char name[256], title[128], x_label[64];
    curve *curves = calloc(SID2_ABLATE_ROWS, sizeof *curves);
    chart_series series[SID2_ABLATE_ROWS];
    int count = 0;
    for (int row = 0; curves && row < a->plan.rows; row++) {
        double x = against < 0 ? axis_value(a, row) : mean_of(a, row, against).mean,
               y = mean_of(a, row, metric).mean;
        if (!isfinite(x) || !isfinite(y)) continue;
        int k = 0;
        group_of(a, row, name);
        while (k < count && strcmp(curves[k].name, name) != 0) k++;
        if (k == count) snprintf(curves[count++].name, sizeof curves->name, "%s", name);
        add_point(&curves[k], x, y);
    }
    for (int k = 0; k < count; k++)
        series[k] = (chart_series){curves[k].name[0] ? curves[k].name : NULL, sid2_chart_style(k),
                                   curves[k].x, curves[k].y, curves[k].count};
    bool passes = against < 0 && sid2_ablate_plan_by_evaluations(&a->plan);
    snprintf(x_label, sizeof x_label, "%s",
             passes        ? "passes a sample"
             : against < 0 ? a->plan.axis
                           : sid2_metrics[against].name);
    snprintf(title, sizeof title, "%s by %s", sid2_metrics[metric].name, x_label);
    if (count)
        sid2_chart_write(page, &(chart){.title = title,
                                        .x_label = x_label,
                                        .log_x = passes,
                                        .log_y = is_distance(metric),
                                        .any_y = true,
                                        .real_x = true,
                                        .series = series,
                                        .series_count = count});
    free(curves);
}

static void write_axis(FILE *page, const sid2_ablation *a)
{
    if (!a->plan.axis[0]) return;
    fputs("<h2>By ", page);
    sid2_html_text(page, a->plan.axis);
    fputs("</h2>", page);
    for (int i = 0; i < SID2_METRICS; i++)
        if (is_compared(a, i)) write_curves(page, a, i, -1);
    if (sid2_ablation_has(a, SID2_METRIC_features) && sid2_ablation_has(a, SID2_METRIC_agreement))
        write_curves(page, a, SID2_METRIC_features, SID2_METRIC_agreement);
}

static bool write_samples(FILE *page, const sid2_ablation *a, sid2_error *err)
{
    bool ok = true;
    if (!a->plan.samples) return true;
    sid2_text_print(page, "<h2>Samples of the same seeds</h2><div class=samples>");
    for (int row = 0; ok && row < a->plan.rows; row++) {
        char path[4096];
        size_t size;
        sid2_kind kind;
        if (!sid2_ablation_at(a, row, 0)->known) continue;
        ok = sid2_ablation_path(a, row, 0, "png", path, err) && sid2_look(path, &kind, err);
        uint8_t *bytes =
            ok && kind != SID2_ABSENT ? sid2_file_read(path, (size_t)64 << 20, &size, err) : NULL;
        if (ok && kind != SID2_ABSENT && !bytes) ok = false;
        if (!bytes) continue;
        sid2_text_print(
            page, "<figure><figcaption>%s</figcaption><img alt='samples of %s' src='data:image/png;base64,",
            a->plan.row[row].name, a->plan.row[row].name);
        sid2_html_base64(page, bytes, size);
        fputs("'></figure>\n", page);
        free(bytes);
    }
    fputs("</div>", page);
    return ok;
}

static void write_paths(FILE *page, const sid2_ablation *a, const char *name, size_t offset)
{
    bool any = false;
    for (int row = 0; row < a->plan.rows; row++) any |= *((const char *)&a->plan.row[row] + offset);
    if (!any) return;
    sid2_text_print(page, "<tr><td>%s", name);
    for (int row = 0; row < a->plan.rows; row++) {
        fputs("<td>", page);
        sid2_html_text(page, (const char *)&a->plan.row[row] + offset);
    }
}

/* What makes the rows. */
static void write_settings(FILE *page, const sid2_ablation *a)
{
    const sid2_config_key *key;
    char own[256];
    bool trained = false; /* how a row's own checkpoint was trained is no setting of the plan's */
    for (int row = 0; row < a->plan.rows; row++) trained |= a->plan.row[row].checkpoint[0];
    fputs("<h2>What differs</h2><div class=wide><table><tr><th>", page);
    for (int row = 0; row < a->plan.rows; row++) sid2_text_print(page, "<th>%s", a->plan.row[row].name);
    write_paths(page, a, "checkpoint", offsetof(sid2_ablate_row, checkpoint));
    write_paths(page, a, "guide", offsetof(sid2_ablate_row, guide));
    for (int i = 0; (key = sid2_config_key_at(i)); i++) {
        if (!differs(a, key->name) || (trained && !sid2_ablate_plan_samples_only(key->name))) continue;
        sid2_text_print(page, "<tr><td>%s", key->name);
        for (int row = 0; row < a->plan.rows; row++)
            sid2_text_print(page, "<td>%s", sid2_config_text(a->plan.row[row].config, key->name, own));
    }
    fputs("</table></div><p class=sub>All other keys are the same.</p>", page);
}

static void write_head(FILE *page, const sid2_ablation *a)
{
    const char *title = a->plan.title[0] ? a->plan.title : a->plan.name;
    const char *data = sid2_base_name(a->options.data);
    sid2_page_begin(page, &title, 1);
    fputs("<p class=sub>on ", page);
    sid2_html_text(page, data);
    sid2_text_print(page, ", %d held-out images; rows have as many %s as the first</p>\n", a->images,
                    a->plan.equal_operations ? "operations" : "images");
}

static bool write_page(FILE *page, const sid2_ablation *a, const sid2_table tables[SID2_ABLATION_TABLES],
                       sid2_error *err)
{
    char text[320];
    write_head(page, a);
    for (int i = 0; i < SID2_ABLATION_TABLES; i++) {
        sid2_table_html(page, &tables[i]);
        if (i == 1) sid2_text_print(page, "<p class=sub>%s</p>\n", sid2_ablation_test(a, text));
    }
    write_levels(page, a, false);
    write_levels(page, a, true);
    write_axis(page, a);
    if (!write_samples(page, a, err)) return false;
    write_settings(page, a);
    fputs("<h2>What was measured</h2><div class=wide><table>", page);
    for (int i = 0; i < SID2_METRICS; i++)
        if (sid2_ablation_has(a, i))
            sid2_text_print(page, "<tr><td>%s<td>%s", sid2_metrics[i].name, sid2_metrics[i].help);
    fputs("</table></div>", page);
    sid2_page_end(page);
    return true;
}

static bool write_file(const sid2_ablation *a, const char *name,
                       const sid2_table tables[SID2_ABLATION_TABLES], sid2_error *err)
{
    char path[4096], text[320];
    sid2_atomic_file file;
    if (!sid2_path(path, err, "%s/%s", a->options.folder, name) || !sid2_atomic_open(&file, path, err))
        return false;
    bool ok = true;
    if (sid2_text_ends(name, ".md")) {
        for (int i = 0; i < SID2_ABLATION_TABLES; i++) sid2_table_markdown(file.stream, &tables[i]);
        fprintf(file.stream, "%s\n", sid2_ablation_test(a, text));
    } else
        ok = write_page(file.stream, a, tables, err);
    ok = ok && sid2_atomic_commit(&file, err);
    sid2_atomic_discard(&file);
    return ok;
}

bool sid2_ablation_write(const sid2_ablation *a, sid2_error *err)
{
    sid2_table tables[SID2_ABLATION_TABLES];
    bool ok = sid2_ablation_tables(a, tables, err) && write_file(a, "ablation.md", tables, err) &&
              write_file(a, "ablation.html", tables, err);
    for (int i = 0; i < SID2_ABLATION_TABLES; i++) sid2_table_free(&tables[i]);
    return ok;
}
