#include "folder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config.h"
#include "file.h"
#include "text.h"

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

bool sid2_run_examine(const char *path, char checkpoint[4096], sid2_error *err)
{
    struct dirent **entries;
    sid2_error none = {0};
    bool found = sid2_checkpoint_find(path, checkpoint, 4096, &none);
    if (found && strcmp(path, checkpoint) == 0)
        return sid2_fail(err, SID2_ERR_USAGE,
                         "%s is a checkpoint, no run: a run in a new folder can start from it", path);
    if (found) return true;
    checkpoint[0] = 0;
    int count = scandir(path, &entries, is_foreign, NULL);
    if (count < 0 && errno == ENOENT) return true;
    if (count < 0)
        return sid2_fail(err, SID2_ERR_IO, "%s cannot be a run's folder: %s", path, strerror(errno));
    if (count > 0)
        sid2_fail(err, SID2_ERR_USAGE, "%s is no run and holds %s: take a new folder", path,
                  entries[0]->d_name);
    for (int i = 0; i < count; i++) free(entries[i]);
    free(entries);
    return count == 0;
}

bool sid2_folder_check_data(const char *path, const char *data, sid2_error *err)
{
    char place[4096];
    if (!sid2_path(place, err, "%s", path)) return false;
    char *whole = NULL, *folder = realpath(data, NULL), *slash;
    while (!(whole = realpath(place, NULL)) && (slash = strrchr(place, '/'))) *slash = 0;
    if (!whole) whole = realpath(".", NULL);
    size_t length = folder ? strlen(folder) : 0;
    bool inside =
        length && whole && strncmp(whole, folder, length) == 0 && (whole[length] == '/' || !whole[length]);
    free(whole);
    free(folder);
    return !inside ||
           sid2_fail(err, SID2_ERR_USAGE, "%s lies in the data %s: take a folder elsewhere", path, data);
}

bool sid2_folder_open(sid2_folder *f, const char *path, sid2_error *err)
{
    *f = (sid2_folder){.lock = -1};
    char file[4096];
    if (!sid2_path(f->path, err, "%s", path) || !sid2_path(file, err, "%s/checkpoints", path) ||
        !sid2_make_directories(file, err) || !sid2_path(file, err, "%s/samples", path) ||
        !sid2_make_directories(file, err) || !sid2_path(file, err, "%s/lock", path))
        return false;
    f->lock = open(file, O_CREAT | O_RDWR | O_CLOEXEC, 0666);
    if (f->lock < 0) return sid2_fail(err, SID2_ERR_IO, "cannot write %s: %s", file, strerror(errno));
    if (flock(f->lock, LOCK_EX | LOCK_NB) == 0) return true;
    close(f->lock);
    f->lock = -1;
    return sid2_fail(err, SID2_ERR_USAGE,
                     "%s is in use by another training: stop that one, or take another folder", path);
}

void sid2_folder_close(sid2_folder *f)
{
    if (f->stats) fclose(f->stats);
    if (f->lock >= 0) close(f->lock); /* releases the lock */
    *f = (sid2_folder){.lock = -1};
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

static const char *value_text(const sid2_config *config, const char *key, char text[256])
{
    if (!sid2_config_get(config, key, text, 256, NULL)) text[0] = 0;
    return text;
}

const sid2_config_key *sid2_next_change(const sid2_config *before, const sid2_config *now, int *index,
                                        char was[256], char is[256])
{
    const sid2_config_key *key;
    while ((key = sid2_config_key_at((*index)++)))
        if (strcmp(value_text(before, key->name, was), value_text(now, key->name, is)) != 0) break;
    return key;
}

bool sid2_folder_check_config(const char *path, const sid2_config *saved, const sid2_config *config,
                              sid2_error *err)
{
    char was[256], is[256];
    const sid2_config_key *key;
    for (int i = 0; (key = sid2_next_change(saved, config, &i, was, is));)
        if (!may_change(key->name))
            return sid2_fail(err, SID2_ERR_USAGE,
                             "%s was begun with %s=%s, not %s: leave it so, or take another folder", path,
                             key->name, was, is);
    return true;
}

bool sid2_folder_save_config(const sid2_folder *f, const sid2_config *config, sid2_error *err)
{
    char file[4096];
    return sid2_path(file, err, "%s/config.ini", f->path) && sid2_config_save(config, file, err);
}

/* ---- Facts ---- */

bool sid2_folder_save_facts(const sid2_folder *f, const char *data, int64_t images, const char *device,
                            sid2_error *err)
{
    char file[4096], *whole = realpath(data, NULL);
    json_t *facts = json_pack("{s:s, s:I, s:s, s:s}", "data", whole ? whole : data, "images",
                              (json_int_t)images, "device", device, "version", "sid2 " SID2_VERSION);
    char *text = facts ? json_dumps(facts, JSON_INDENT(2)) : NULL;
    bool ok =
        text ? sid2_path(file, err, "%s/run.json", f->path) && sid2_file_write(file, text, strlen(text), err)
             : sid2_fail(err, SID2_ERR_IO, "cannot describe the run: the path %s is not UTF-8", data);
    free(text);
    free(whole);
    json_decref(facts);
    return ok;
}

bool sid2_folder_load_facts(const char *path, sid2_run_facts *facts)
{
    char file[4096];
    *facts = (sid2_run_facts){0};
    if (!sid2_path(file, NULL, "%s/run.json", path)) return false;
    json_t *read = json_load_file(file, JSON_REJECT_DUPLICATES, NULL);
    const char *data = json_string_value(json_object_get(read, "data"));
    const char *device = json_string_value(json_object_get(read, "device"));
    snprintf(facts->data, sizeof facts->data, "%s", data ? data : "");
    snprintf(facts->device, sizeof facts->device, "%s", device ? device : "");
    facts->images = json_integer_value(json_object_get(read, "images"));
    json_decref(read);
    return read != NULL;
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

bool sid2_folder_open_stats(sid2_folder *f, uint64_t step, sid2_error *err)
{
    char file[4096];
    if (!sid2_path(file, err, "%s/stats.jsonl", f->path)) return false;
    f->stats = fopen(file, "a+");
    if (!f->stats) return sid2_fail(err, SID2_ERR_IO, "cannot write %s: %s", file, strerror(errno));
    rewind(f->stats);
    long end = lines_up_to(f->stats, step, &f->seconds);
    if (ftruncate(fileno(f->stats), end) || fseek(f->stats, 0, SEEK_END))
        return sid2_fail(err, SID2_ERR_IO, "cannot write %s: %s", file, strerror(errno));
    return true;
}

bool sid2_folder_write_stats(sid2_folder *f, const sid2_stats_line *line, sid2_error *err)
{
    sid2_text_print(f->stats,
                    "{\"step\": %" PRIu64 ", \"images\": %" PRIu64
                    ", \"loss\": %.6g, \"grad_norm\": %.6g, \"learning_rate\": %.6g, "
                    "\"images_per_s\": %.5g, \"seconds\": %.2f, \"memory\": %zu, \"by_logsnr\": [",
                    line->step, line->images, line->loss, line->grad_norm, line->learning_rate,
                    line->images_per_s, line->seconds, line->memory);
    const char *comma = "";
    for (int i = 0; i < SID2_LOGSNR_BINS; i++) {
        if (!line->bin_count[i]) continue;
        sid2_text_print(f->stats, "%s[%d, %.6g, %d]", comma, 2 * i - 9, line->bin_loss[i],
                        line->bin_count[i]);
        comma = ", ";
    }
    fputs("]}\n", f->stats);
    if (fflush(f->stats) == 0) return true;
    return sid2_fail(err, SID2_ERR_IO, "cannot write %s/stats.jsonl: %s", f->path, strerror(errno));
}

/* ---- Checkpoints ---- */

bool sid2_folder_checkpoint(const sid2_folder *f, uint64_t step, char path[4096], sid2_error *err)
{
    return sid2_path(path, err, "%s/checkpoints/step-%08" PRIu64, f->path, step);
}

static int is_checkpoint(const struct dirent *entry) { return strncmp(entry->d_name, "step-", 5) == 0; }

bool sid2_folder_older_checkpoint(const sid2_folder *f, const char *checkpoint, char older[4096])
{
    char folder[4096], path[4096];
    struct dirent **entries;
    if (!sid2_path(folder, NULL, "%s/checkpoints", f->path)) return false;
    int count = scandir(folder, &entries, is_checkpoint, alphasort);
    bool found = false, passed = false;
    for (int i = count - 1; i >= 0; i--) {
        found = found || (passed && sid2_path(path, NULL, "%s/%s", folder, entries[i]->d_name) &&
                          sid2_checkpoint_find(path, older, 4096, NULL));
        passed = passed || sid2_text_ends(checkpoint, entries[i]->d_name);
        free(entries[i]);
    }
    if (count >= 0) free(entries);
    return found;
}

bool sid2_folder_prune(const sid2_folder *f, int64_t keep, sid2_error *err)
{
    char folder[4096], path[4096];
    struct dirent **entries;
    if (!sid2_path(folder, err, "%s/checkpoints", f->path)) return false;
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
            ok = ok && sid2_path(path, err, "%s/%s", folder, entries[i]->d_name) &&
                 sid2_remove_tree(path, err);
        free(entries[i]);
    }
    free(entries);
    return ok;
}
