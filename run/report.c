/* The report: a run as one HTML page. */
#include "chart.h"
#include "folder.h"

#include "file.h"
#include "json.h"
#include "text.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

extern const char report_css[]; /* report.css, by the build */

enum { MAX_GRIDS = 24, LEVELS = 5 };

typedef struct history {
    int count, capacity;
    double *step, *loss, *smooth, *speed, *grad_norm, *by_level[LEVELS];
    double seconds, images, memory;
    int unreadable; /* lines */
} history;

/* ---- Reading ---- */

static bool grow(history *h)
{
    if (h->count < h->capacity) return true;
    int capacity = h->capacity ? 2 * h->capacity : 1024;
    double **const columns[] = {&h->step,        &h->loss,        &h->smooth,      &h->speed,
                                &h->grad_norm,   &h->by_level[0], &h->by_level[1], &h->by_level[2],
                                &h->by_level[3], &h->by_level[4]};
    for (size_t i = 0; i < sizeof columns / sizeof columns[0]; i++) {
        double *grown = realloc(*columns[i], (size_t)capacity * sizeof(double));
        if (!grown) return false;
        *columns[i] = grown;
    }
    h->capacity = capacity;
    return true;
}

static double number(const json_t *entry, const char *key)
{
    json_t *value = json_object_get(entry, key);
    return json_is_number(value) ? json_number_value(value) : NAN;
}

/* The ten bins of a line in pairs: lines of a chart that can still be told apart. */
static void read_levels(history *h, int row, const json_t *bins)
{
    double sum[LEVELS] = {0}, images[LEVELS] = {0};
    size_t i;
    json_t *bin;
    json_array_foreach(bins, i, bin)
    {
        double centre = json_number_value(json_array_get(bin, 0)),
               count = json_number_value(json_array_get(bin, 2));
        int level = (int)floor((centre + 10) / 4);
        if (level < 0 || level >= LEVELS) continue;
        sum[level] += count * json_number_value(json_array_get(bin, 1));
        images[level] += count;
    }
    for (int level = 0; level < LEVELS; level++) {
        double before = row ? h->by_level[level][row - 1] : NAN,
               mean = images[level] > 0 ? sum[level] / images[level] : before;
        /* A line holds few images of a level; an average over the last ten or so lines is what one can read. */
        h->by_level[level][row] = isnan(before) ? mean : before + 0.1 * (mean - before);
    }
}

static bool read_line(history *h, const json_t *entry)
{
    if (!grow(h)) return false;
    h->step[h->count] = number(entry, "step");
    h->loss[h->count] = number(entry, "loss");
    h->speed[h->count] = number(entry, "images_per_s");
    h->grad_norm[h->count] = number(entry, "grad_norm");
    read_levels(h, h->count++, json_object_get(entry, "by_logsnr"));
    h->seconds = number(entry, "seconds");
    h->images = number(entry, "images");
    h->memory = fmax(h->memory, number(entry, "memory"));
    return true;
}

static bool read_stats(const char *run_path, history *h, sid2_error *err)
{
    enum { STATS_LIMIT = 1 << 30 }; /* bytes */
    char path[4096];
    sid2_kind kind;
    size_t size;
    if (!sid2_path(path, err, "%s/stats.jsonl", run_path) || !sid2_look(path, &kind, err)) return false;
    if (kind == SID2_ABSENT)
        return sid2_fail(err, SID2_ERR_IO, "%s is no run of sid2 train: it has no stats.jsonl", run_path);
    char *text = (char *)sid2_file_read(path, STATS_LIMIT, &size, err);
    bool ok = text != NULL;
    for (const char *line = text, *end; ok && line < text + size; line = end + 1) {
        end = memchr(line, '\n', size - (size_t)(line - text));
        if (!end) end = text + size;
        json_error_t problem;
        json_t *entry = sid2_json_read(line, (size_t)(end - line), 0, &problem);
        bool starved = !entry && sid2_json_no_memory(&problem);
        bool known = json_is_object(entry) && isfinite(number(entry, "step"));
        if (starved || (known && !read_line(h, entry)))
            ok = sid2_fail(err, SID2_ERR_MEMORY, "out of memory for %s", path);
        else if (!known)
            h->unreadable++;
        json_decref(entry);
    }
    free(text);
    if (ok && !h->count) return sid2_fail(err, SID2_ERR_FORMAT, "%s has no statistics yet", path);
    return ok;
}

static void free_history(history *h)
{
    double *const columns[] = {h->step, h->loss, h->smooth, h->speed, h->grad_norm};
    for (size_t i = 0; i < sizeof columns / sizeof columns[0]; i++) free(columns[i]);
    for (int i = 0; i < LEVELS; i++) free(h->by_level[i]);
}

/* ---- Writing ---- */

static void write_text(FILE *page, const char *text)
{
    for (; *text; text++) {
        if (*text == '<')
            fputs("&lt;", page);
        else if (*text == '&')
            fputs("&amp;", page);
        else if (*text == '\'')
            fputs("&#39;", page);
        else
            fputc(*text, page);
    }
}

static void write_base64(FILE *page, const uint8_t *bytes, size_t size)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < size; i += 3) {
        uint32_t word = (uint32_t)bytes[i] << 16;
        if (i + 1 < size) word |= (uint32_t)bytes[i + 1] << 8;
        if (i + 2 < size) word |= bytes[i + 2];
        fputc(digits[word >> 18], page);
        fputc(digits[word >> 12 & 63], page);
        fputc(i + 1 < size ? digits[word >> 6 & 63] : '=', page);
        fputc(i + 2 < size ? digits[word & 63] : '=', page);
    }
}

static void write_tile(FILE *page, const char *value, const char *label)
{
    sid2_text_print(page, "<div><b>%s</b><span>%s</span></div>", value, label);
}

static bool write_head(FILE *page, const char *run_path, const sid2_run_facts *facts, const history *h,
                       sid2_error *err)
{
    char text[64], part[32];
    char *whole = realpath(run_path, NULL);
    if (!whole)
        return sid2_fail(err, errno == ENOMEM ? SID2_ERR_MEMORY : SID2_ERR_IO, "%s: %s", run_path,
                         strerror(errno));
    const char *name = strrchr(whole, '/') ? strrchr(whole, '/') + 1 : run_path;
    fputs(
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport "
        "content='width=device-width'><title>",
        page);
    write_text(page, name);
    sid2_text_print(page, "</title><style>%s</style><main><h1>", report_css);
    write_text(page, name);
    fputs("</h1><p class=sub>", page);
    if (facts->data[0]) {
        const char *file = strrchr(facts->data, '/');
        sid2_text_print(page, "%" PRId64 " images of ", facts->images);
        write_text(page, file && file[1] ? file + 1 : facts->data);
        fputs(", on ", page);
        write_text(page, facts->device);
    }
    if (h->unreadable) sid2_text_print(page, "; %d lines of stats.jsonl cannot be read", h->unreadable);
    fputs("</p><div class=tiles>", page);
    free(whole);
    int last = h->count - 1;
    sid2_text_format(text, sizeof text, "%.0f", h->step[last]);
    write_tile(page, text, "steps");
    write_tile(page, sid2_text_count(h->images, part), "images seen");
    sid2_text_format(text, sizeof text, "%.4f", h->smooth[last]);
    write_tile(page, text, "loss");
    double speed = 0;
    for (int i = h->count / 2; i < h->count; i++) speed += h->speed[i] / (h->count - h->count / 2);
    write_tile(page, sid2_text_rate(speed, part), "images a second");
    write_tile(page, sid2_text_time(h->seconds, part), "time");
    write_tile(page, sid2_text_bytes(h->memory, part), "peak memory");
    fputs("</div>\n", page);
    return true;
}

static bool is_grid(const char *name)
{
    return strncmp(name, "step-", 5) == 0 && sid2_text_ends(name, ".png");
}

static unsigned long step_of(const char *name) { return strtoul(name + 5, NULL, 10); }

static int by_step(const void *a, const void *b)
{
    unsigned long x = step_of(*(char *const *)a), y = step_of(*(char *const *)b);
    return (x > y) - (x < y);
}

/* What the grids show: the classes in turn. */
static bool write_classes(FILE *page, const char *run_path, sid2_error *err)
{
    char checkpoint[4096];
    sid2_classes *classes = NULL;
    if (!sid2_checkpoint_newest(run_path, UINT64_MAX, checkpoint, sizeof checkpoint, err) ||
        (checkpoint[0] && !sid2_checkpoint_classes(checkpoint, &classes, err)))
        return false;
    for (int i = 0; i < sid2_classes_count(classes); i++) {
        fputs(i ? ", " : "<p class=sub>classes in turn: ", page);
        write_text(page, sid2_classes_name(classes, i));
    }
    if (sid2_classes_count(classes)) fputs("</p>", page);
    sid2_classes_destroy(classes);
    return true;
}

/* All grids on top of each other, with a slider to run through the training; without scripts, one below the
 * other. */
static bool write_samples(FILE *page, const char *run_path, sid2_error *err)
{
    char folder[4096], path[4096];
    sid2_list grids;
    if (!sid2_path(folder, err, "%s/samples", run_path) || !sid2_list_folder(&grids, folder, is_grid, err))
        return false;
    if (!grids.count) return true;
    qsort(grids.name, grids.count, sizeof *grids.name, by_step);
    int count = (int)grids.count, shown = 0;
    fputs("<h2>Samples over time</h2>", page);
    bool ok = write_classes(page, run_path, err);
    fputs("<figure class=samples id=samples>", page);
    int kept = count < MAX_GRIDS ? count : MAX_GRIDS;
    for (int i = 0; i < kept && ok; i++) {
        const char *name = grids.name[kept < 2 ? 0 : (int)((int64_t)i * (count - 1) / (kept - 1))];
        size_t size;
        uint8_t *bytes = sid2_path(path, err, "%s/%s", folder, name)
                             ? sid2_file_read(path, (size_t)64 << 20, &size, err)
                             : NULL;
        ok = bytes != NULL;
        if (!ok) break;
        sid2_text_print(page,
                        "<div><figcaption>step %lu</figcaption><img alt='samples at step %lu' "
                        "src='data:image/png;base64,",
                        step_of(name), step_of(name));
        write_base64(page, bytes, size);
        fputs("'></div>\n", page);
        free(bytes);
        shown++;
    }
    fputs("</figure>", page);
    if (shown > 1)
        fputs(
            "<script>{const "
            "f=document.getElementById('samples'),d=[...f.children],r=document.createElement('input');"
            "r.type='range';r.max=d.length-1;r.value=r.max;r.setAttribute('aria-label','step');"
            "r.oninput=()=>d.forEach((e,i)=>e.hidden=i!=r.value);f.append(r);r.oninput()}</script>\n",
            page);
    sid2_list_free(&grids);
    return ok;
}

static void write_charts(FILE *page, const history *h)
{
    static const char *const names[] = {"-10 to -6", "-6 to -2", "-2 to 2", "2 to 6", "6 to 10"};
    static const char *const styles[] = {"s0", "s1", "s2", "s3", "s4"};
    const chart_series loss[] = {{NULL, "raw", h->step, h->loss, h->count},
                                 {NULL, "s0", h->step, h->smooth, h->count}};
    const chart_series speed = {NULL, "s2", h->step, h->speed, h->count};
    const chart_series norm = {NULL, "s3", h->step, h->grad_norm, h->count};
    chart_series levels[LEVELS];
    for (int i = 0; i < LEVELS; i++)
        levels[i] = (chart_series){names[i], styles[i], h->step, h->by_level[i], h->count};
    fputs("<h2>Loss</h2>", page);
    sid2_chart_write(page, &(chart){"training loss, and its running mean", "step", true, loss, 2});
    sid2_chart_write(page, &(chart){"by noise level: logSNR", "step", true, levels, LEVELS});
    fputs("<h2>Speed and gradient</h2>", page);
    sid2_chart_write(page, &(chart){"images a second", "step", false, &speed, 1});
    sid2_chart_write(page, &(chart){"gradient norm, before clipping", "step", true, &norm, 1});
}

static bool write_config(FILE *page, const char *run_path, sid2_error *err)
{
    char path[4096], value[256];
    sid2_config *config = sid2_config_create();
    bool ok =
        config && sid2_path(path, err, "%s/config.ini", run_path) && sid2_config_load(config, path, err);
    if (ok) {
        fputs("<h2>Configuration</h2>", page);
        const sid2_config_key *key;
        char section[32] = "";
        for (int i = 0; (key = sid2_config_key_at(i)); i++) {
            size_t length = strcspn(key->name, ".");
            if (strncmp(section, key->name, length) != 0 || section[length]) {
                snprintf(section, sizeof section, "%.*s", (int)length, key->name);
                sid2_text_print(page, "%s<details%s><summary>%s</summary><table>",
                                i ? "</table></details>" : "", i ? "" : " open", section);
            }
            sid2_text_print(page, "<tr><td>%s<td>", key->name + length + 1);
            sid2_config_get(config, key->name, value, sizeof value, NULL);
            write_text(page, value);
        }
        fputs("</table></details>", page);
    }
    sid2_config_destroy(config);
    return ok;
}

static bool write_page(const char *run_path, const char *out, const history *h, sid2_error *err)
{
    sid2_atomic_file file;
    sid2_run_facts facts;
    if (!sid2_folder_load_facts(run_path, &facts, err) || !sid2_atomic_open(&file, out, err)) return false;
    bool ok = write_head(file.stream, run_path, &facts, h, err) && write_samples(file.stream, run_path, err);
    if (ok) write_charts(file.stream, h);
    ok = ok && write_config(file.stream, run_path, err);
    if (ok) {
        fputs("<p class=sub>made by sid2 " SID2_VERSION "</p></main></html>\n", file.stream);
        ok = sid2_atomic_commit(&file, err);
    }
    sid2_atomic_discard(&file);
    return ok;
}

bool sid2_run_report(const char *path, const char *page, sid2_error *err)
{
    history h = {0};
    bool ok = read_stats(path, &h, err);
    if (ok) {
        sid2_chart_smooth(h.loss, h.count, h.smooth);
        ok = write_page(path, page, &h, err);
    }
    free_history(&h);
    return ok;
}
