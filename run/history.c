#include "history.h"

#include "chart.h"

#include "digest.h"
#include "json.h"
#include "text.h"

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- stats.jsonl ---- */

static bool grow(sid2_history *h)
{
    if (h->count < h->capacity) return true;
    int capacity = h->capacity ? 2 * h->capacity : 1024;
    for (int i = 0; i < SID2_COLUMNS; i++) {
        double *grown = realloc(h->column[i], (size_t)capacity * sizeof(double));
        if (!grown) return false;
        h->column[i] = grown;
    }
    h->capacity = capacity;
    return true;
}

/* The ten bins of a line in pairs: lines of a chart that can still be told apart. */
static void read_levels(sid2_history *h, int row, const json_t *bins)
{
    double sum[SID2_LEVELS] = {0}, images[SID2_LEVELS] = {0};
    size_t i;
    json_t *bin;
    json_array_foreach(bins, i, bin)
    {
        double centre = json_number_value(json_array_get(bin, 0)),
               count = json_number_value(json_array_get(bin, 2));
        if (!(centre >= -10 && centre < -10 + 4 * SID2_LEVELS)) continue; /* an int may not hold it */
        int level = (int)((centre + 10) / 4);
        sum[level] += count * json_number_value(json_array_get(bin, 1));
        images[level] += count;
    }
    for (int level = 0; level < SID2_LEVELS; level++) {
        double *column = h->column[SID2_BY_LEVEL + level], before = row ? column[row - 1] : NAN,
               mean = images[level] > 0 ? sum[level] / images[level] : before;
        /* A line holds few images of a level; an average over the last ten or so lines is what one can read. */
        column[row] = isnan(before) ? mean : before + 0.1 * (mean - before);
    }
}

static bool read_line(sid2_history *h, const json_t *entry)
{
    static const char *const names[] = {
        [SID2_STEP] = "step",          [SID2_IMAGES] = "images",      [SID2_SECONDS] = "seconds",
        [SID2_LOSS] = "loss",          [SID2_SPEED] = "images_per_s", [SID2_NORM] = "grad_norm",
        [SID2_RATE] = "learning_rate", [SID2_HELDOUT] = "heldout"};
    if (!grow(h)) return false;
    int row = h->count++;
    for (int i = 0; i < SID2_BY_LEVEL; i++)
        h->column[i][row] = names[i] ? sid2_json_number(entry, names[i]) : NAN;
    read_levels(h, row, json_object_get(entry, "by_logsnr"));
    h->memory = fmax(h->memory, sid2_json_number(entry, "memory"));
    double heldout = h->column[SID2_HELDOUT][row];
    if (isfinite(heldout) && (h->best < 0 || heldout < h->column[SID2_HELDOUT][h->best])) h->best = row;
    return true;
}

static bool read_stats(sid2_history *h, sid2_error *err)
{
    enum { STATS_LIMIT = 1 << 30 }; /* bytes */
    char path[4096];
    sid2_kind kind;
    size_t size;
    if (!sid2_path(path, err, "%s/stats.jsonl", h->path) || !sid2_look(path, &kind, err)) return false;
    if (kind == SID2_ABSENT)
        return sid2_fail(err, SID2_ERR_IO, "%s is no run of sid2 train: it has no stats.jsonl", h->path);
    char *text = (char *)sid2_file_read(path, STATS_LIMIT, &size, err);
    bool ok = text != NULL;
    for (const char *line = text, *end; ok && line < text + size; line = end + 1) {
        end = memchr(line, '\n', size - (size_t)(line - text));
        if (!end) end = text + size;
        json_error_t problem;
        json_t *entry = sid2_json_read(line, (size_t)(end - line), 0, &problem);
        bool starved = !entry && sid2_json_no_memory();
        bool known = json_is_object(entry) && isfinite(sid2_json_number(entry, "step")) &&
                     sid2_digest_holds(line, (size_t)(end - line));
        if (starved || (known && !read_line(h, entry)))
            ok = sid2_fail(err, SID2_ERR_MEMORY, "out of memory for %s", path);
        else if (!known)
            h->unreadable++;
        json_decref(entry);
    }
    free(text);
    if (ok && !h->count)
        ok =
            sid2_fail(err, SID2_ERR_FORMAT, "%s has no statistics yet: they begin with the first step", path);
    if (ok) sid2_chart_smooth(h->column[SID2_LOSS], h->count, h->column[SID2_SMOOTH]);
    return ok;
}

/* ---- What else there is ---- */

static bool read_name(sid2_history *h, sid2_error *err)
{
    char *whole = realpath(h->path, NULL);
    if (!whole)
        return sid2_fail(err, errno == ENOMEM ? SID2_ERR_MEMORY : SID2_ERR_IO, "%s: %s", h->path,
                         strerror(errno));
    const char *slash = strrchr(whole, '/');
    snprintf(h->name, sizeof h->name, "%s", slash && slash[1] ? slash + 1 : whole);
    free(whole);
    return true;
}

static bool read_config(sid2_history *h, sid2_error *err)
{
    char path[4096];
    h->config = sid2_config_create();
    if (!h->config) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory");
    return sid2_path(path, err, "%s/config.ini", h->path) && sid2_config_load(h->config, path, err);
}

static bool read_classes(sid2_history *h, sid2_error *err)
{
    const char *checkpoint = h->status->checkpoint;
    return !checkpoint[0] || sid2_checkpoint_classes(checkpoint, &h->classes, err);
}

static bool is_grid(const char *name)
{
    return strncmp(name, "step-", 5) == 0 && sid2_text_ends(name, ".png");
}

static int by_step(const void *a, const void *b)
{
    uint64_t x = sid2_folder_step(*(char *const *)a), y = sid2_folder_step(*(char *const *)b);
    return (x > y) - (x < y);
}

static bool list_grids(sid2_history *h, sid2_error *err)
{
    char folder[4096];
    if (!sid2_path(folder, err, "%s/samples", h->path) || !sid2_list_folder(&h->grids, folder, is_grid, err))
        return false;
    if (h->grids.count) qsort(h->grids.name, h->grids.count, sizeof *h->grids.name, by_step);
    return true;
}

bool sid2_history_read(sid2_history *h, const char *path, sid2_error *err)
{
    *h = (sid2_history){.path = path, .best = -1};
    bool ok = read_stats(h, err) && read_name(h, err) && read_config(h, err) &&
              sid2_folder_load_facts(path, &h->facts, err) && (h->status = sid2_run_look(path, err)) &&
              read_classes(h, err) && list_grids(h, err);
    if (!ok) sid2_history_free(h);
    return ok;
}

void sid2_history_free(sid2_history *h)
{
    for (int i = 0; i < SID2_COLUMNS; i++) free(h->column[i]);
    sid2_config_destroy(h->config);
    sid2_run_status_destroy(h->status);
    sid2_classes_destroy(h->classes);
    sid2_list_free(&h->grids);
    *h = (sid2_history){0};
}
