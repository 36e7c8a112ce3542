#include "run.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "file.h"

/* ---- The folder ---- */

/* What no run has. Of its files there may also be "config.ini.tmp-1234". */
static int is_foreign(const struct dirent *entry)
{
    static const char *const own[] = {"config.ini", "run.json",    "stats.jsonl", "report.html",
                                      "samples",    "checkpoints", "lock"};
    const char *name = entry->d_name;
    for (size_t i = 0; i < sizeof own / sizeof own[0]; i++) {
        size_t length = strlen(own[i]);
        if (strncmp(name, own[i], length) == 0 && (!name[length] || name[length] == '.')) return 0;
    }
    return name[0] != '.';
}

bool run_examine(const char *path, char checkpoint[4096], sid2_error *err)
{
    struct dirent **entries;
    sid2_error none = {0};
    bool found = sid2_checkpoint_find(path, checkpoint, 4096, &none);
    if (found && strcmp(path, checkpoint) == 0)
        return sid2_fail(err, SID2_ERR_USAGE,
                         "%s is a checkpoint, no run: give it to --from, and --out a new folder", path);
    if (found) return true;
    checkpoint[0] = 0;
    int count = scandir(path, &entries, is_foreign, NULL);
    if (count < 0 && errno == ENOENT) return true;
    if (count < 0)
        return sid2_fail(err, SID2_ERR_IO, "%s cannot be a run's folder: %s", path, strerror(errno));
    if (count > 0)
        sid2_fail(err, SID2_ERR_USAGE, "%s is no run and holds %s: give --out a new folder", path,
                  entries[0]->d_name);
    for (int i = 0; i < count; i++) free(entries[i]);
    free(entries);
    return count == 0;
}

bool run_check_data(const char *path, const char *data, sid2_error *err)
{
    char place[4096];
    if (!make_path(place, err, "%s", path)) return false;
    char *whole = NULL, *folder = realpath(data, NULL), *slash;
    while (!(whole = realpath(place, NULL)) && (slash = strrchr(place, '/'))) *slash = 0;
    if (!whole) whole = realpath(".", NULL);
    size_t length = folder ? strlen(folder) : 0;
    bool inside =
        length && whole && strncmp(whole, folder, length) == 0 && (whole[length] == '/' || !whole[length]);
    free(whole);
    free(folder);
    return !inside || sid2_fail(err, SID2_ERR_USAGE, "%s lies in the data %s: give --out a folder elsewhere",
                                path, data);
}

bool run_open(run *r, const char *path, sid2_error *err)
{
    *r = (run){.lock = -1};
    char file[4096];
    if (!make_path(r->path, err, "%s", path) || !make_path(file, err, "%s/checkpoints", path) ||
        !sid2_make_directories(file, err) || !make_path(file, err, "%s/samples", path) ||
        !sid2_make_directories(file, err) || !make_path(file, err, "%s/lock", path))
        return false;
    r->lock = open(file, O_CREAT | O_RDWR | O_CLOEXEC, 0666);
    if (r->lock < 0) return sid2_fail(err, SID2_ERR_IO, "cannot write %s: %s", file, strerror(errno));
    if (flock(r->lock, LOCK_EX | LOCK_NB) == 0) return true;
    close(r->lock);
    r->lock = -1;
    return sid2_fail(err, SID2_ERR_USAGE,
                     "%s is in use by another sid2 train: stop that one, or give --out another folder", path);
}

void run_close(run *r)
{
    if (r->stats) fclose(r->stats);
    if (r->lock >= 0) close(r->lock); /* releases the lock */
    *r = (run){.lock = -1};
}

/* ---- Configuration ---- */

/* Keys that say how long, how fast and what to show; not what a checkpoint's numbers mean. */
static bool may_change(const char *key)
{
    static const char *const free_keys[] = {"train.steps",        "train.microbatch",
                                            "train.arena",        "train.learning_rate",
                                            "train.warmup",       "train.clip",
                                            "train.ema",          "train.ema_rampup",
                                            "train.label_drop",   "train.checkpoint_every",
                                            "train.keep",         "train.sample_every",
                                            "train.sample_count", "train.sample_steps",
                                            "train.log_every"};
    if (strncmp(key, "sample.", 7) == 0 || strncmp(key, "eval.", 5) == 0) return true;
    for (size_t i = 0; i < sizeof free_keys / sizeof free_keys[0]; i++)
        if (strcmp(key, free_keys[i]) == 0) return true;
    return false;
}

static sid2_config *load_config(const char *path, sid2_error *err)
{
    sid2_config *saved = sid2_config_create();
    if (!saved) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory"), NULL;
    if (sid2_checkpoint_config(path, saved, err)) return saved;
    sid2_config_destroy(saved);
    return NULL;
}

/* The next key from *index on whose values differ, with both. */
static bool next_change(const sid2_config *a, const sid2_config *b, int *index, sid2_config_key *key,
                        char before[256], char now[256])
{
    while (sid2_config_key_at((*index)++, key))
        if (strcmp(config_text(a, key->name, before), config_text(b, key->name, now)) != 0) return true;
    return false;
}

bool run_check_config(const char *path, const sid2_config *config, sid2_error *err)
{
    char before[256], now[256];
    sid2_config_key key;
    sid2_config *saved = load_config(path, err);
    bool ok = saved != NULL;
    for (int i = 0; ok && next_change(saved, config, &i, &key, before, now);)
        if (!may_change(key.name))
            ok = sid2_fail(err, SID2_ERR_USAGE,
                           "%s was begun with %s=%s, not %s: leave it so, or give --out another folder", path,
                           key.name, before, now);
    sid2_config_destroy(saved);
    return ok;
}

void run_print_changes(const char *path, const sid2_config *config)
{
    char before[256], now[256];
    sid2_config_key key;
    sid2_config *saved = load_config(path, NULL);
    for (int i = 0; saved && next_change(saved, config, &i, &key, before, now);)
        fprintf(stderr, "changed  %s=%s, was %s\n", key.name, now, before);
    sid2_config_destroy(saved);
}

bool run_save_config(const run *r, const sid2_config *config, sid2_error *err)
{
    char file[4096];
    return make_path(file, err, "%s/config.ini", r->path) && sid2_config_save(config, file, err);
}

/* ---- Facts ---- */

bool run_save_facts(const run *r, const char *data, int64_t images, const char *device, sid2_error *err)
{
    char file[4096], *whole = realpath(data, NULL);
    json_t *facts = json_pack("{s:s, s:I, s:s, s:s}", "data", whole ? whole : data, "images",
                              (json_int_t)images, "device", device, "version", "sid2 " SID2_VERSION);
    char *text = facts ? json_dumps(facts, JSON_INDENT(2)) : NULL;
    bool ok =
        text ? make_path(file, err, "%s/run.json", r->path) && sid2_file_write(file, text, strlen(text), err)
             : sid2_fail(err, SID2_ERR_IO, "cannot describe the run: the path %s is not UTF-8", data);
    free(text);
    free(whole);
    json_decref(facts);
    return ok;
}

bool run_load_facts(const char *path, char data[4096], int64_t *images, char device[160])
{
    char file[4096];
    if (!make_path(file, NULL, "%s/run.json", path)) return false;
    json_t *facts = json_load_file(file, JSON_REJECT_DUPLICATES, NULL);
    const char *text = json_string_value(json_object_get(facts, "data"));
    const char *where = json_string_value(json_object_get(facts, "device"));
    snprintf(data, 4096, "%s", text ? text : "");
    snprintf(device, 160, "%s", where ? where : "");
    *images = json_integer_value(json_object_get(facts, "images"));
    json_decref(facts);
    return facts != NULL;
}

/* ---- Statistics ---- */

/* Bytes of the whole lines of `file` up to and with `step`; *seconds of the last of them. */
static long lines_up_to(FILE *file, uint64_t step, double *seconds)
{
    char *line = NULL;
    size_t size = 0;
    long end = 0;
    ssize_t length;
    while ((length = getline(&line, &size, file)) > 0 && line[length - 1] == '\n') {
        json_t *entry = json_loads(line, 0, NULL);
        json_t *number = json_object_get(entry, "step");
        bool keep = json_is_integer(number) && (uint64_t)json_integer_value(number) <= step;
        if (keep) {
            *seconds = json_number_value(json_object_get(entry, "seconds"));
            end = ftell(file);
        }
        json_decref(entry);
        if (!keep) break;
    }
    free(line);
    return end;
}

bool run_open_stats(run *r, uint64_t step, sid2_error *err)
{
    char file[4096];
    if (!make_path(file, err, "%s/stats.jsonl", r->path)) return false;
    r->stats = fopen(file, "a+");
    if (!r->stats) return sid2_fail(err, SID2_ERR_IO, "cannot write %s: %s", file, strerror(errno));
    rewind(r->stats);
    long end = lines_up_to(r->stats, step, &r->seconds);
    if (ftruncate(fileno(r->stats), end) || fseek(r->stats, 0, SEEK_END))
        return sid2_fail(err, SID2_ERR_IO, "cannot write %s: %s", file, strerror(errno));
    return true;
}

bool run_write_stats(run *r, const run_line *line, sid2_error *err)
{
    fprintf(r->stats,
            "{\"step\": %" PRIu64 ", \"images\": %" PRIu64
            ", \"loss\": %.6g, \"grad_norm\": %.6g, \"learning_rate\": %.6g, "
            "\"images_per_s\": %.5g, \"seconds\": %.2f, \"memory\": %zu, \"by_logsnr\": [",
            line->step, line->images, line->loss, line->grad_norm, line->learning_rate, line->images_per_s,
            line->seconds, line->memory);
    const char *comma = "";
    for (int i = 0; i < LOGSNR_BINS; i++) {
        if (!line->bin_count[i]) continue;
        fprintf(r->stats, "%s[%d, %.6g, %d]", comma, 2 * i - 9, line->bin_loss[i], line->bin_count[i]);
        comma = ", ";
    }
    fputs("]}\n", r->stats);
    if (fflush(r->stats) == 0) return true;
    return sid2_fail(err, SID2_ERR_IO, "cannot write %s/stats.jsonl: %s", r->path, strerror(errno));
}

/* ---- Checkpoints ---- */

bool run_checkpoint_path(const run *r, uint64_t step, char path[4096], sid2_error *err)
{
    return make_path(path, err, "%s/checkpoints/step-%08" PRIu64, r->path, step);
}

static int is_checkpoint(const struct dirent *entry) { return strncmp(entry->d_name, "step-", 5) == 0; }

bool run_older_checkpoint(const run *r, const char *checkpoint, char older[4096])
{
    char folder[4096], path[4096];
    struct dirent **entries;
    if (!make_path(folder, NULL, "%s/checkpoints", r->path)) return false;
    int count = scandir(folder, &entries, is_checkpoint, alphasort);
    bool found = false, passed = false;
    for (int i = count - 1; i >= 0; i--) {
        found = found || (passed && make_path(path, NULL, "%s/%s", folder, entries[i]->d_name) &&
                          sid2_checkpoint_find(path, older, 4096, NULL));
        passed = passed || ends_with(checkpoint, entries[i]->d_name);
        free(entries[i]);
    }
    if (count >= 0) free(entries);
    return found;
}

bool run_prune(const run *r, int64_t keep, sid2_error *err)
{
    char folder[4096], path[4096];
    struct dirent **entries;
    if (!make_path(folder, err, "%s/checkpoints", r->path)) return false;
    int count = scandir(folder, &entries, is_checkpoint, alphasort);
    if (count < 0) return sid2_fail(err, SID2_ERR_IO, "cannot read %s: %s", folder, strerror(errno));
    bool ok = true;
    int64_t kept = 0;
    for (int i = count - 1; i >= 0; i--) {
        const char *number = entries[i]->d_name + 5;
        bool whole = !number[strspn(number, "0123456789")]; /* else what a killed trainer was writing */
        if (whole && (!keep || kept < keep))
            kept++;
        else
            ok = ok && make_path(path, err, "%s/%s", folder, entries[i]->d_name) &&
                 sid2_remove_tree(path, err);
        free(entries[i]);
    }
    free(entries);
    return ok;
}
