/* The report: runs beside each other as one HTML page. */
#include "history.h"
#include "judgements.h"
#include "page.h"

#include "file.h"
#include "text.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_GRIDS = 24, MAX_RUNS = 16 };

typedef struct report {
    FILE *page;
    sid2_history *runs;
    int count;
    const char *seconds_name; /* of the time axis: its unit */
} report;

/* ---- Heads ---- */

static void write_tile(FILE *page, const char *value, const char *label)
{
    sid2_text_print(page, "<div><b>%s</b><span>%s</span></div>", value, label);
}

static double last(const sid2_history *h, sid2_column column) { return h->column[column][h->count - 1]; }

/* Of the newer half, so that the start does not count. */
static double mean_speed(const sid2_history *h)
{
    double sum = 0;
    for (int i = h->count / 2; i < h->count; i++) sum += h->column[SID2_SPEED][i];
    return sum / (h->count - h->count / 2);
}

static void write_data(FILE *page, const sid2_history *h)
{
    if (h->facts.data[0]) {
        const char *file = strrchr(h->facts.data, '/');
        sid2_text_print(page, "%" PRId64 " images of ", h->facts.images);
        sid2_html_text(page, file && file[1] ? file + 1 : h->facts.data);
        fputs(", on ", page);
        sid2_html_text(page, h->facts.device);
    }
    if (h->unreadable) sid2_text_print(page, "; %d lines of stats.jsonl cannot be read", h->unreadable);
}

/* What is said of a run: a tile each, or a column of the table. */
enum { FACTS = 9 };
static const char *const fact_names[FACTS] = {"state", "steps",         "images seen",
                                              "loss",  "held-out loss", "images a second",
                                              "time",  "time left",     "peak memory"};

static void describe(const sid2_history *h, char facts[FACTS][64])
{
    char part[32];
    double left = h->status->seconds_left;
    snprintf(facts[0], 64, "%s", h->status->state);
    sid2_text_format(facts[1], 64, "%.0f of %" PRId64, last(h, SID2_STEP), h->config->train_steps);
    snprintf(facts[2], 64, "%s", sid2_text_count(last(h, SID2_IMAGES), part));
    sid2_text_format(facts[3], 64, "%.4f", last(h, SID2_SMOOTH));
    snprintf(facts[4], 64, "-");
    if (h->best >= 0)
        sid2_text_format(facts[4], 64, "%.4f at %.0f", h->column[SID2_HELDOUT][h->best],
                         h->column[SID2_STEP][h->best]);
    snprintf(facts[5], 64, "%s", sid2_text_rate(mean_speed(h), part));
    snprintf(facts[6], 64, "%s", sid2_text_time(last(h, SID2_SECONDS), part));
    snprintf(facts[7], 64, "%s", isfinite(left) ? sid2_text_time(left, part) : "-");
    snprintf(facts[8], 64, "%s", sid2_text_bytes(h->memory, part));
}

static void write_tiles(FILE *page, const sid2_history *h)
{
    char facts[FACTS][64];
    describe(h, facts);
    fputs("<div class=tiles>", page);
    for (int i = 0; i < FACTS; i++)
        if (strcmp(facts[i], "-") != 0)
            write_tile(page, facts[i], i == 4 ? "lowest held-out loss, at step" : fact_names[i]);
    fputs("</div>\n", page);
}

static void write_run_names(const report *r, const char *before)
{
    for (int k = 0; k < r->count; k++) {
        sid2_text_print(r->page, "%s<i class='%s'></i>", before, sid2_chart_style(k));
        sid2_html_text(r->page, r->runs[k].name);
    }
}

static void write_run_table(const report *r)
{
    fputs("<div class=wide><table class=runs><tr><th>run", r->page);
    for (int i = 0; i < FACTS; i++) sid2_text_print(r->page, "<th>%s", fact_names[i]);
    for (int k = 0; k < r->count; k++) {
        char facts[FACTS][64];
        describe(&r->runs[k], facts);
        sid2_text_print(r->page, "<tr><td><i class='%s'></i>", sid2_chart_style(k));
        sid2_html_text(r->page, r->runs[k].name);
        for (int i = 0; i < FACTS; i++) sid2_text_print(r->page, "<td>%s", facts[i]);
    }
    fputs("</table></div>\n", r->page);
}

static void write_head(const report *r)
{
    FILE *page = r->page;
    const char *names[MAX_RUNS];
    for (int k = 0; k < r->count; k++) names[k] = r->runs[k].name;
    sid2_page_begin(page, names, r->count);
    for (int k = 0; k < r->count; k++) {
        fputs("<p class=sub>", page);
        if (r->count > 1) {
            sid2_html_text(page, r->runs[k].name);
            fputs(": ", page);
        }
        write_data(page, &r->runs[k]);
        fputs("</p>", page);
    }
    if (r->count > 1)
        write_run_table(r);
    else
        write_tiles(page, r->runs);
}

/* ---- Samples ---- */

/* Of clips the page's script plays the rows. */
static bool write_picture(FILE *page, const sid2_config *c, const char *path, const char *what,
                          sid2_error *err)
{
    size_t size;
    uint8_t *bytes = sid2_file_read(path, (size_t)64 << 20, &size, err);
    if (!bytes) return false;
    char clips[96] = "";
    if (c->model_frames > 1)
        sid2_text_format(clips, sizeof clips, " data-frames=%d data-given=%d data-height=%d",
                         (int)c->model_frames, (int)c->model_given, (int)c->model_image_size.height);
    sid2_text_print(page, "<figcaption>%s</figcaption><img alt='samples, %s'%s src='data:image/png;base64,",
                    what, what, clips);
    sid2_html_base64(page, bytes, size);
    fputs("'>", page);
    free(bytes);
    return true;
}

static bool write_grid(FILE *page, const sid2_history *h, const char *name, sid2_error *err)
{
    char path[4096], what[40];
    uint64_t step = sid2_folder_step(name);
    if (!sid2_path(path, err, "%s/samples/%s", h->path, name)) return false;
    snprintf(what, sizeof what, "step %" PRIu64, step);
    sid2_text_print(page, "<div data-images=%.0f>", (double)step * (double)h->config->train_batch);
    if (!write_picture(page, h->config, path, what, err)) return false;
    fputs("</div>\n", page);
    return true;
}

/* What stands beside the samples of one run: what a distillation's teacher makes of the same seeds, or how clips really go
 * on. */
static const struct {
    const char *file, *what;
} others[] = {{"teacher", "the teacher"}, {"real", "how they really go on"}};
enum { OTHERS = sizeof others / sizeof *others };

/* *there: whether it is there, which is all that is asked where `page` is NULL. */
static bool write_other(FILE *page, const sid2_history *h, int which, bool *there, sid2_error *err)
{
    char path[4096];
    sid2_kind kind;
    if (!sid2_path(path, err, "%s/samples/%s.png", h->path, others[which].file) ||
        !sid2_look(path, &kind, err))
        return false;
    *there |= kind == SID2_REGULAR;
    if (!page || kind != SID2_REGULAR) return true;
    fputs("<figure>", page);
    if (!write_picture(page, h->config, path, others[which].what, err)) return false;
    fputs("</figure>", page);
    return true;
}

/* What the grids show: the classes in turn. */
static void write_classes(FILE *page, const sid2_history *h)
{
    for (int i = 0; i < sid2_classes_count(h->classes); i++) {
        fputs(i ? ", " : "<p class=sub>classes in turn: ", page);
        sid2_html_text(page, sid2_classes_name(h->classes, i));
    }
    if (sid2_classes_count(h->classes)) fputs("</p>", page);
}

/* Grids on top of each other, with a slider to run through the training of all runs; without scripts, one below
 * the other. All are of the same seeds. */
static bool write_samples(const report *r, sid2_error *err)
{
    size_t most = 0;
    for (int k = 0; k < r->count; k++) most = r->runs[k].grids.count > most ? r->runs[k].grids.count : most;
    if (!most) return true;
    bool beside = r->count > 1;
    for (int i = 0; i < OTHERS && r->count == 1; i++)
        if (!write_other(NULL, r->runs, i, &beside, err)) return false;
    fputs("<h2>Samples over time</h2>", r->page);
    sid2_text_print(r->page, "<div class='samples%s'>", beside ? " beside" : "");
    for (int k = 0; k < r->count; k++) {
        const sid2_history *h = &r->runs[k];
        int count = (int)h->grids.count, kept = count < MAX_GRIDS ? count : MAX_GRIDS;
        if (!count) continue;
        fputs("<figure>", r->page);
        if (r->count > 1) {
            sid2_text_print(r->page, "<figcaption><i class='%s'></i><b>", sid2_chart_style(k));
            sid2_html_text(r->page, h->name);
            fputs("</b></figcaption>", r->page);
        }
        for (int i = 0; i < kept; i++) {
            int place = kept < 2 ? 0 : (int)((int64_t)i * (count - 1) / (kept - 1));
            if (!write_grid(r->page, h, h->grids.name[place], err)) return false;
        }
        write_classes(r->page, h);
        fputs("</figure>", r->page);
    }
    for (int i = 0; i < OTHERS && r->count == 1; i++)
        if (!write_other(r->page, r->runs, i, &beside, err)) return false;
    fputs("</div>", r->page);
    return true;
}

/* ---- Charts ---- */

/* Times as one reads them: in seconds, minutes or hours. */
static void scale_times(report *r)
{
    double longest = 0;
    for (int k = 0; k < r->count; k++) longest = fmax(longest, last(&r->runs[k], SID2_SECONDS));
    double unit = longest < 180 ? 1 : longest < 3 * 3600 ? 60 : 3600;
    r->seconds_name = longest < 180 ? "seconds" : longest < 3 * 3600 ? "minutes" : "hours";
    for (int k = 0; k < r->count; k++)
        for (int i = 0; i < r->runs[k].count; i++) r->runs[k].column[SID2_SECONDS][i] /= unit;
}

/* One chart of a column, a line for each run. */
static void write_chart(const report *r, const char *title, sid2_column x, sid2_column y, bool log_y)
{
    chart_series series[MAX_RUNS];
    const char *unit = x == SID2_SECONDS ? r->seconds_name : "images";
    for (int k = 0; k < r->count; k++) {
        const sid2_history *h = &r->runs[k];
        series[k] = (chart_series){r->count > 1 ? h->name : NULL, sid2_chart_style(k), h->column[x],
                                   h->column[y], h->count};
    }
    sid2_chart_write(
        r->page,
        &(chart){
            .title = title, .x_label = unit, .log_y = log_y, .series = series, .series_count = r->count});
}

/* Of one run: the loss itself, its running mean, and the held-out loss. */
static void write_loss(const report *r, const char *title, sid2_column x)
{
    const sid2_history *h = r->runs;
    const double *at = h->column[x];
    const chart_series series[] = {{NULL, "raw", at, h->column[SID2_LOSS], h->count},
                                   {"training", "s0", at, h->column[SID2_SMOOTH], h->count},
                                   {"held out", "s1", at, h->column[SID2_HELDOUT], h->count}};
    const char *unit = x == SID2_SECONDS ? r->seconds_name : "images";
    sid2_chart_write(r->page, &(chart){.title = title,
                                       .x_label = unit,
                                       .log_y = true,
                                       .series = series,
                                       .series_count = h->best >= 0 ? 3 : 2});
}

static void write_levels(const report *r)
{
    static const char *const names[SID2_LEVELS] = {"-10 to -6", "-6 to -2", "-2 to 2", "2 to 6", "6 to 10"};
    const sid2_history *h = r->runs;
    if (r->count == 1) {
        chart_series levels[SID2_LEVELS];
        for (int i = 0; i < SID2_LEVELS; i++)
            levels[i] = (chart_series){names[i], sid2_chart_style(i), h->column[SID2_IMAGES],
                                       h->column[SID2_BY_LEVEL + i], h->count};
        sid2_chart_write(r->page, &(chart){.title = "training loss by noise level: logSNR",
                                           .x_label = "images",
                                           .log_y = true,
                                           .series = levels,
                                           .series_count = SID2_LEVELS});
        return;
    }
    fputs("<h2>Training loss by noise level</h2><div class=beside>", r->page);
    for (int i = 0; i < SID2_LEVELS; i++) {
        char title[64];
        snprintf(title, sizeof title, "logSNR %s", names[i]);
        write_chart(r, title, SID2_IMAGES, (sid2_column)(SID2_BY_LEVEL + i), true);
    }
    fputs("</div>", r->page);
}

static void write_charts(const report *r)
{
    bool held_out = false;
    for (int k = 0; k < r->count; k++) held_out |= r->runs[k].best >= 0;
    fputs("<h2>Loss</h2>", r->page);
    if (r->count == 1) {
        write_loss(r, "loss by images", SID2_IMAGES);
        write_loss(r, "loss by time", SID2_SECONDS);
    } else {
        write_chart(r, "training loss by images, running mean", SID2_IMAGES, SID2_SMOOTH, true);
        write_chart(r, "training loss by time, running mean", SID2_SECONDS, SID2_SMOOTH, true);
    }
    if (r->count > 1 && held_out) {
        write_chart(r, "held-out loss by images", SID2_IMAGES, SID2_HELDOUT, true);
        write_chart(r, "held-out loss by time", SID2_SECONDS, SID2_HELDOUT, true);
    }
    write_levels(r);
    fputs("<h2>Speed, gradient, learning rate</h2>", r->page);
    write_chart(r, "images a second", SID2_IMAGES, SID2_SPEED, false);
    write_chart(r, "gradient norm, before clipping", SID2_IMAGES, SID2_NORM, true);
    write_chart(r, "learning rate", SID2_IMAGES, SID2_RATE, false);
}

/* ---- What judges found: sid2 eval fid ---- */

static bool is_alike(const sid2_judgement *a, const sid2_judgement *b)
{
    return a->guidance == b->guidance && a->pictures == b->pictures && strcmp(a->against, b->against) == 0 &&
           strcmp(a->interval, b->interval) == 0;
}

/* FID by step, a line for each kind of measurement that was made of several steps. */
static void write_fid_chart(const report *r, const sid2_judgement *all, int count)
{
    enum { MOST = 256 };
    double x[MOST], y[MOST];
    char names[SID2_CHART_STYLES][96];
    chart_series series[SID2_CHART_STYLES];
    int shown = 0, used = 0;
    for (int i = 0; i < count && shown < SID2_CHART_STYLES; i++) {
        int first = 0, begin = used;
        while (first < i && !is_alike(&all[first], &all[i])) first++; /* one of NaN is not like itself */
        if (first < i) continue;                                      /* it was there before */
        for (int k = i; k < count && used < MOST; k++)
            if (is_alike(&all[k], &all[i]) && isfinite(all[k].fid))
                x[used] = (double)all[k].step, y[used++] = all[k].fid;
        if (used - begin < 2) {
            used = begin;
            continue;
        }
        sid2_text_format(names[shown], sizeof names[shown], "guidance %g, %s", all[i].guidance,
                         all[i].interval);
        series[shown] =
            (chart_series){names[shown], sid2_chart_style(shown), x + begin, y + begin, used - begin};
        shown++;
    }
    if (shown)
        sid2_chart_write(
            r->page,
            &(chart){.title = "FID by step", .x_label = "step", .series = series, .series_count = shown});
}

static void write_cell(FILE *page, double value, int decimals)
{
    if (isfinite(value))
        sid2_text_print(page, "<td>%.*f", decimals, value);
    else
        fputs("<td>-", page);
}

static bool write_judgements(const report *r, const sid2_history *h, sid2_error *err)
{
    sid2_judgement *all;
    int count, damaged;
    if (!sid2_judgements_read(h->path, &all, &count, &damaged, err)) return false;
    if (count || damaged) {
        fputs("<h2>Samples, judged", r->page);
        if (r->count > 1) {
            fputs(": ", r->page);
            sid2_html_text(r->page, h->name);
        }
        fputs("</h2>", r->page);
    }
    if (damaged)
        sid2_text_print(r->page, "<p class=sub>%d lines of judgements.jsonl cannot be read.</p>", damaged);
    write_fid_chart(r, all, count);
    if (count)
        fputs(
            "<div "
            "class=wide><table><tr><th>step<th>against<th>pictures<th>guidance<th>interval<th>FID<th>"
            "deviation<th>sFID<th>KID"
            "<th>precision<th>recall<th>IS",
            r->page);
    for (int i = 0; i < count; i++) {
        const sid2_judgement *j = &all[i];
        sid2_text_print(r->page, "<tr><td>%" PRIu64 "<td>", j->step);
        sid2_html_text(r->page, j->against);
        sid2_text_print(r->page, "<td>%" PRId64, j->pictures);
        write_cell(r->page, j->guidance, 2);
        fputs("<td>", r->page);
        sid2_html_text(r->page, j->interval);
        write_cell(r->page, j->fid, 2);
        write_cell(r->page, j->deviation, 2);
        write_cell(r->page, j->sfid, 2);
        write_cell(r->page, j->kid, 4);
        write_cell(r->page, j->precision, 4);
        write_cell(r->page, j->recall, 4);
        write_cell(r->page, j->inception, 2);
    }
    if (count) fputs("</table></div>", r->page);
    free(all);
    return true;
}

/* ---- Configurations ---- */

static bool differs(const report *r, const char *key)
{
    char first[256], other[256];
    sid2_config_text(r->runs[0].config, key, first);
    for (int k = 1; k < r->count; k++)
        if (strcmp(first, sid2_config_text(r->runs[k].config, key, other)) != 0) return true;
    return false;
}

static void write_differences(const report *r)
{
    const sid2_config_key *key;
    char value[256];
    int rows = 0;
    fputs("<h2>What differs</h2><div class=wide><table><tr><th>", r->page);
    write_run_names(r, "<th>");
    for (int i = 0; (key = sid2_config_key_at(i)); i++) {
        if (!differs(r, key->name)) continue;
        sid2_text_print(r->page, "<tr><td>%s", key->name);
        for (int k = 0; k < r->count; k++) {
            fputs("<td>", r->page);
            sid2_html_text(r->page, sid2_config_text(r->runs[k].config, key->name, value));
        }
        rows++;
    }
    sid2_text_print(r->page, "</table></div><p class=sub>%s</p>",
                    rows ? "All other keys of their configurations are the same."
                         : "Nothing: their configurations are the same.");
}

static void write_config(const report *r)
{
    const sid2_history *h = r->runs;
    const sid2_config_key *key;
    char section[32] = "", value[256];
    fputs("<h2>Configuration", r->page);
    if (r->count > 1) {
        fputs(" of ", r->page);
        sid2_html_text(r->page, h->name);
    }
    fputs("</h2>", r->page);
    for (int i = 0; (key = sid2_config_key_at(i)); i++) {
        size_t length = strcspn(key->name, ".");
        if (strncmp(section, key->name, length) != 0 || section[length]) {
            snprintf(section, sizeof section, "%.*s", (int)length, key->name);
            sid2_text_print(r->page, "%s<details%s><summary>%s</summary><table>",
                            i ? "</table></details>" : "", i || r->count > 1 ? "" : " open", section);
        }
        sid2_text_print(r->page, "<tr><td>%s<td>", key->name + length + 1);
        sid2_html_text(r->page, sid2_config_text(h->config, key->name, value));
    }
    fputs("</table></details>", r->page);
}

/* ---- The page ---- */

static bool write_page(report *r, const char *out, sid2_error *err)
{
    sid2_atomic_file file;
    if (!sid2_output_open(&file, out, err)) return false;
    r->page = file.stream;
    write_head(r);
    bool ok = write_samples(r, err);
    if (ok) {
        scale_times(r);
        write_charts(r);
    }
    for (int k = 0; ok && k < r->count; k++) ok = write_judgements(r, &r->runs[k], err);
    if (ok) {
        if (r->count > 1) write_differences(r);
        write_config(r);
        sid2_page_end(r->page);
        ok = sid2_atomic_commit(&file, err);
    }
    sid2_atomic_discard(&file);
    return ok;
}

bool sid2_run_compare(const char *const *paths, int count, const char *page, sid2_error *err)
{
    if (count < 1 || count > MAX_RUNS)
        return sid2_fail(err, SID2_ERR_USAGE, "a report shows 1 to %d runs, not %d", MAX_RUNS, count);
    report r = {.runs = calloc((size_t)count, sizeof *r.runs)};
    bool ok = r.runs || sid2_fail(err, SID2_ERR_MEMORY, "out of memory");
    while (ok && r.count < count) {
        ok = sid2_history_read(&r.runs[r.count], paths[r.count], err);
        r.count += ok;
    }
    ok = ok && write_page(&r, page, err);
    for (int k = 0; k < r.count; k++) sid2_history_free(&r.runs[k]);
    free(r.runs);
    return ok;
}

bool sid2_run_report(const char *path, const char *page, sid2_error *err)
{
    return sid2_run_compare(&path, 1, page, err);
}
