#include "folder.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "config.h"
#include "digest.h"
#include "file.h"
#include "json.h"
#include "text.h"

/* ---- The folder ---- */

/* What no run has. Hidden names are nobody's business. */
static bool is_foreign(const char *name)
{
    static const char *const own[] = {"config.ini",  "run.json", "stats.jsonl", "judgements.jsonl",
                                      "report.html", "samples",  "checkpoints", "lock",
                                      "status.json", "best",     "tensorboard", "comparison.html",
                                      "pause",       "ranks",    "averages"};
    for (size_t i = 0; i < sizeof own / sizeof own[0]; i++)
        if (strcmp(name, own[i]) == 0) return false;
    return name[0] != '.';
}

/* Whether the folder itself is one to sample from. */
static bool is_checkpoint(const char *path, bool *is, sid2_error *err)
{
    char file[4096];
    sid2_kind config, ema;
    if (!sid2_path(file, err, "%s/config.ini", path) || !sid2_look(file, &config, err) ||
        !sid2_path(file, err, "%s/ema.safetensors", path) || !sid2_look(file, &ema, err))
        return false;
    *is = config != SID2_ABSENT && ema != SID2_ABSENT;
    return true;
}

bool sid2_run_examine(const char *path, char checkpoint[4096], sid2_error *err)
{
    sid2_kind kind;
    bool is;
    checkpoint[0] = 0;
    if (!sid2_look(path, &kind, err)) return false;
    if (kind == SID2_ABSENT) return true;
    if (kind != SID2_FOLDER)
        return sid2_fail(err, SID2_ERR_IO, "%s cannot be a run's folder: %s", path, strerror(ENOTDIR));
    if (!is_checkpoint(path, &is, err)) return false;
    if (is)
        return sid2_fail(err, SID2_ERR_USAGE,
                         "%s is a checkpoint, no run: a run in a new folder can start from it", path);
    if (!sid2_checkpoint_newest(path, UINT64_MAX, checkpoint, 4096, err)) return false;
    if (checkpoint[0]) return true;
    sid2_list foreign;
    if (!sid2_list_folder(&foreign, path, is_foreign, err)) return false;
    bool ok = !foreign.count || sid2_fail(err, SID2_ERR_USAGE, "%s is no run and holds %s: take a new folder",
                                          path, foreign.name[0]);
    sid2_list_free(&foreign);
    return ok;
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

/* Takes the lock; where one who only looks has it (sid2_folder_in_use), a moment later. 0 or errno. */
static int take_lock(int descriptor)
{
    enum { ATTEMPTS = 20 };
    const struct timespec pause = {.tv_nsec = 20000000};
    for (int i = 0; flock(descriptor, LOCK_EX | LOCK_NB);) {
        if (errno != EINTR && (errno != EWOULDBLOCK || ++i == ATTEMPTS)) return errno;
        if (errno == EWOULDBLOCK) nanosleep(&pause, NULL);
    }
    return 0;
}

static bool has_no_locks(int cause) { return cause == ENOSYS || cause == ENOLCK || cause == EOPNOTSUPP; }

/* Keeps others out. Where there are no locks (some network file systems) nobody is in the way, for all that can
 * be known. */
static bool lock_folder(sid2_folder *f, sid2_error *err)
{
    char file[4096];
    if (!sid2_path(file, err, "%s/lock", f->path)) return false;
    f->lock = open(file, O_CREAT | O_RDWR | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0666);
    if (f->lock < 0) return sid2_fail(err, SID2_ERR_IO, "cannot write %s: %s", file, strerror(errno));
    int cause = take_lock(f->lock);
    if (cause == EWOULDBLOCK)
        return sid2_fail(err, SID2_ERR_USAGE,
                         "%s is in use by another training: stop that one, or take another folder", f->path);
    if (cause && !has_no_locks(cause))
        return sid2_fail(err, SID2_ERR_IO, "%s cannot be locked: %s", file, strerror(cause));
    if (cause)
        snprintf(f->note, sizeof f->note,
                 "%.200s cannot be locked here (%s): see to it that no other training works in it", f->path,
                 strerror(cause));
    return true;
}

bool sid2_folder_in_use(const char *path, sid2_run_life *life, sid2_error *err)
{
    char file[4096];
    sid2_kind kind;
    *life = SID2_DEAD;
    if (!sid2_path(file, err, "%s/lock", path) || !sid2_look(file, &kind, err)) return false;
    if (kind == SID2_ABSENT) return true;
    int descriptor = open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY), cause = 0;
    if (descriptor < 0) return sid2_fail(err, SID2_ERR_IO, "cannot read %s: %s", file, strerror(errno));
    /* A trainer that comes just now waits that long. */
    if (flock(descriptor, LOCK_SH | LOCK_NB)) cause = errno;
    close(descriptor);
    *life = !cause ? SID2_DEAD : cause == EWOULDBLOCK ? SID2_ALIVE : SID2_LIFE_UNKNOWN;
    return true;
}

/* ---- Pausing: a file says so ---- */

/* Whether RUN/pause is what sid2_run_pause makes: an empty file. */
static bool find_pause(const char *run, char file[4096], bool *is, sid2_error *err)
{
    struct stat status;
    *is = false;
    if (!sid2_path(file, err, "%s/pause", run)) return false;
    if (lstat(file, &status))
        return errno == ENOENT || sid2_fail(err, SID2_ERR_IO, "%s: %s", file, strerror(errno));
    *is = S_ISREG(status.st_mode) && !status.st_size;
    return true;
}

/* Who starts a training wants it to run, whatever the one before was told. */
static void clear_pause(const char *run)
{
    char file[4096];
    bool is;
    if (find_pause(run, file, &is, NULL) && is) unlink(file);
}

bool sid2_folder_is_paused(sid2_folder *f)
{
    char file[4096];
    bool is;
    if (find_pause(f->path, file, &is, NULL)) f->paused = is; /* else it is as it was */
    return f->paused;
}

bool sid2_run_pause(const char *path, bool pause, sid2_error *err)
{
    char file[4096];
    bool is;
    sid2_run_life life;
    sid2_kind kind;
    if (!sid2_look(path, &kind, err)) return false;
    if (kind == SID2_ABSENT) return sid2_fail(err, SID2_ERR_IO, "%s: there is no such run", path);
    if (!sid2_folder_in_use(path, &life, err)) return false;
    if (life == SID2_DEAD) return sid2_fail(err, SID2_ERR_USAGE, "no training is at work in %s", path);
    if (!find_pause(path, file, &is, err)) return false;
    if (!pause && !is) return sid2_fail(err, SID2_ERR_USAGE, "%s is not paused", path);
    if (pause == is) return true;
    int descriptor = pause ? open(file, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0666) : -1;
    bool ok = pause ? descriptor >= 0 : !unlink(file);
    if (descriptor >= 0) close(descriptor);
    return ok || sid2_fail(err, SID2_ERR_IO, "%s: %s", file, strerror(errno));
}

/* ---- Opening ---- */

bool sid2_folder_open(sid2_folder *f, const char *path, sid2_error *err)
{
    *f = (sid2_folder){.lock = -1, .best = INFINITY};
    char checkpoints[4096], samples[4096];
    if (!sid2_path(f->path, err, "%s", path) || !sid2_path(checkpoints, err, "%s/checkpoints", path) ||
        !sid2_make_directories(checkpoints, err) || !sid2_path(samples, err, "%s/samples", path) ||
        !sid2_make_directories(samples, err))
        return false;
    if (!lock_folder(f, err)) {
        sid2_folder_close(f);
        return false;
    }
    clear_pause(path);
    sid2_clear_leftovers(path);
    sid2_clear_leftovers(checkpoints);
    sid2_clear_leftovers(samples);
    return true;
}

void sid2_folder_close(sid2_folder *f)
{
    if (f->stats) fclose(f->stats);
    if (f->lock >= 0) close(f->lock); /* releases the lock */
    *f = (sid2_folder){.lock = -1};
}

/* ---- Configuration ---- */

const sid2_config_key *sid2_next_change(const sid2_config *before, const sid2_config *now, int *index,
                                        char was[256], char is[256])
{
    const sid2_config_key *key;
    while ((key = sid2_config_key_at((*index)++)))
        if (strcmp(sid2_config_text(before, key->name, was), sid2_config_text(now, key->name, is)) != 0)
            break;
    return key;
}

bool sid2_folder_check_config(const char *path, const sid2_config *saved, const sid2_config *config,
                              sid2_error *err)
{
    char was[256], is[256];
    const sid2_config_key *key;
    for (int i = 0; (key = sid2_next_change(saved, config, &i, was, is));)
        if (!sid2_config_is_free(key->name))
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

bool sid2_folder_save_facts(const sid2_folder *f, const sid2_run_facts *facts, sid2_error *err)
{
    char file[4096], *whole = realpath(facts->data, NULL);
    json_t *root = json_pack("{s:s, s:I, s:s, s:s?, s:s, s:s}", "data", whole ? whole : facts->data, "images",
                             (json_int_t)facts->images, "pictures", facts->pictures, "teacher",
                             facts->teacher[0] ? facts->teacher : NULL, "device", facts->device, "version",
                             "sid2 " SID2_VERSION);
    bool ok = sid2_path(file, err, "%s/run.json", f->path);
    if (!root)
        ok = sid2_fail(err, SID2_ERR_IO, "cannot describe the run: no memory, or the path %s is not UTF-8",
                       facts->data);
    ok = ok && sid2_json_save(file, root, JSON_INDENT(2), err);
    free(whole);
    json_decref(root);
    return ok;
}

bool sid2_folder_load_facts(const char *path, sid2_run_facts *facts, sid2_error *err)
{
    char file[4096];
    sid2_kind kind;
    size_t size;
    *facts = (sid2_run_facts){0};
    if (!sid2_path(file, err, "%s/run.json", path) || !sid2_look(file, &kind, err)) return false;
    if (kind == SID2_ABSENT) return true;
    uint8_t *text = sid2_file_read(file, 1 << 20, &size, err);
    if (!text) return false;
    json_error_t where;
    json_t *read = sid2_json_read(text, size, JSON_REJECT_DUPLICATES, &where);
    bool whole = sid2_digest_holds((char *)text, size);
    free(text);
    const char *data = json_string_value(json_object_get(read, "data"));
    const char *device = json_string_value(json_object_get(read, "device"));
    const char *pictures = json_string_value(json_object_get(read, "pictures"));
    const char *teacher = json_string_value(json_object_get(read, "teacher"));
    const json_t *images = json_object_get(read, "images");
    bool ok = whole && data && json_is_integer(images) && strlen(data) < sizeof facts->data;
    if (ok) {
        strcpy(facts->data, data);
        snprintf(facts->device, sizeof facts->device, "%s", device ? device : "");
        snprintf(facts->pictures, sizeof facts->pictures, "%s", pictures ? pictures : "");
        snprintf(facts->teacher, sizeof facts->teacher, "%s", teacher ? teacher : "");
        facts->images = json_integer_value(images);
    } else if (!read && sid2_json_no_memory()) {
        sid2_fail(err, SID2_ERR_MEMORY, "%s: out of memory", file);
    } else {
        sid2_fail(err, SID2_ERR_FORMAT,
                  "%s: damaged: %s; without that file the run goes on with the data it is given", file,
                  !read    ? where.text
                  : !whole ? "its digest xxh3_128 is another"
                           : "\"data\" and \"images\" are expected");
    }
    json_decref(read);
    return ok;
}

/* ---- Statistics ---- */

enum { STATS_LIMIT = 1 << 30 }; /* bytes */

/* A line of the file: its step, or -1 where it cannot be read or is not what was written. */
typedef struct stats_entry {
    size_t begin, end; /* with the line break */
    int64_t step;
    double seconds, heldout; /* infinity: not measured */
} stats_entry;

typedef struct history {
    stats_entry *entry;
    size_t count;
} history;

static bool parse_line(stats_entry *e, const char *path, const char *text, size_t begin, size_t end,
                       sid2_error *err)
{
    json_error_t problem;
    *e = (stats_entry){.begin = begin, .end = end, .step = -1};
    json_t *line = sid2_json_read(text + begin, end - begin, 0, &problem),
           *step = json_object_get(line, "step");
    if (!line && sid2_json_no_memory()) return sid2_fail(err, SID2_ERR_MEMORY, "%s: out of memory", path);
    bool whole = sid2_digest_holds(text + begin, end - begin);
    if (whole && json_is_integer(step) && json_integer_value(step) >= 0) e->step = json_integer_value(step);
    e->seconds = json_number_value(json_object_get(line, "seconds"));
    const json_t *heldout = json_object_get(line, "heldout");
    e->heldout = json_is_number(heldout) ? json_number_value(heldout) : INFINITY;
    json_decref(line);
    return true;
}

static bool parse_history(history *h, const char *path, const char *text, size_t size, sid2_error *err)
{
    size_t lines = size && text[size - 1] != '\n';
    for (size_t i = 0; i < size; i++) lines += text[i] == '\n';
    h->entry = malloc((lines + 1) * sizeof *h->entry);
    if (!h->entry) return sid2_fail(err, SID2_ERR_MEMORY, "%s: out of memory", path);
    for (size_t begin = 0, end; begin < size; begin = end) {
        const char *stop = memchr(text + begin, '\n', size - begin);
        end = stop ? (size_t)(stop - text) + 1 : size;
        if (!parse_line(&h->entry[h->count++], path, text, begin, end, err)) return false;
    }
    return true;
}

static bool write_kept(const char *path, const char *text, const history *h, size_t first, int64_t step,
                       sid2_error *err)
{
    sid2_atomic_file file;
    if (!sid2_atomic_open(&file, path, err)) return false;
    for (size_t i = 0; i < h->count; i++)
        if (i < first || h->entry[i].step <= step)
            fwrite(text + h->entry[i].begin, 1, h->entry[i].end - h->entry[i].begin, file.stream);
    return sid2_atomic_commit(&file, err);
}

/* Goes on from `step`: what was written of later ones at the end of the file is dropped. Nothing else is, least
 * of all what cannot be read, nor what stands before a line that is to stay. */
static bool drop_later(sid2_folder *f, const char *path, int64_t step, sid2_error *err)
{
    sid2_kind kind;
    size_t size, first = 0, later = 0;
    if (!sid2_look(path, &kind, err)) return false;
    if (kind == SID2_ABSENT) return true;
    char *text = (char *)sid2_file_read(path, STATS_LIMIT, &size, err);
    history h = {0};
    bool ok = text && parse_history(&h, path, text, size, err);
    for (size_t i = 0; ok && i < h.count; i++) {
        if (h.entry[i].step < 0 && !f->note[0])
            snprintf(f->note, sizeof f->note, "%.300s:%zu: cannot be read, and is left as it is", path,
                     i + 1);
        if (h.entry[i].step < 0 || h.entry[i].step > step) continue;
        first = i + 1;
        f->seconds = h.entry[i].seconds;
        if (h.entry[i].heldout >= f->best) continue;
        f->best = h.entry[i].heldout;
        f->best_step = (uint64_t)h.entry[i].step;
    }
    for (size_t i = first; ok && i < h.count; i++) later += h.entry[i].step > step;
    ok = ok && (!later || write_kept(path, text, &h, first, step, err));
    free(h.entry);
    free(text);
    return ok;
}

bool sid2_folder_open_stats(sid2_folder *f, uint64_t step, sid2_error *err)
{
    char path[4096];
    f->note[0] = 0;
    f->best = INFINITY;
    if (f->stats) fclose(f->stats);
    f->stats = NULL;
    if (!sid2_path(path, err, "%s/stats.jsonl", f->path) || !drop_later(f, path, (int64_t)step, err))
        return false;
    f->stats = sid2_file_append(path, err);
    return f->stats != NULL;
}

bool sid2_folder_flush_stats(sid2_folder *f, sid2_error *err)
{
    return fsync(fileno(f->stats)) == 0 || errno == EINVAL ||
           sid2_fail(err, SID2_ERR_IO, "cannot write %s/stats.jsonl: %s", f->path, strerror(errno));
}

/* JSON has no number for what is not finite. */
static void write_number(FILE *stream, const char *name, double value)
{
    if (isfinite(value))
        sid2_text_print(stream, ", \"%s\": %.6g", name, value);
    else
        sid2_text_print(stream, ", \"%s\": null", name);
}

static void write_heldout(FILE *stream, const sid2_heldout *h)
{
    write_number(stream, "heldout", sid2_heldout_loss(h));
    fputs(", \"heldout_by_logsnr\": [", stream);
    for (int i = 0; i < h->levels; i++)
        sid2_text_print(stream, "%s[%.4g, %.6g]", i ? ", " : "", h->points[i].logsnr, h->points[i].weighted);
    fputc(']', stream);
}

static void write_fields(FILE *stream, const sid2_stats_line *line)
{
    sid2_text_print(stream, "{\"step\": %" PRIu64 ", \"images\": %" PRIu64, line->step, line->images);
    write_number(stream, "loss", line->loss);
    write_number(stream, "grad_norm", line->grad_norm);
    write_number(stream, "learning_rate", line->learning_rate);
    if (line->skipped) sid2_text_print(stream, ", \"skipped\": %" PRIu64, line->skipped);
    sid2_text_print(stream, ", \"images_per_s\": %.5g, \"seconds\": %.2f, \"memory\": %zu, \"by_logsnr\": [",
                    line->images_per_s, line->seconds, line->memory);
    const char *comma = "";
    for (int i = 0; i < SID2_LOGSNR_BINS; i++) {
        if (!line->bin_count[i]) continue;
        sid2_text_print(stream, "%s[%d, %.6g, %d]", comma, 2 * i - 9, line->bin_loss[i], line->bin_count[i]);
        comma = ", ";
    }
    fputc(']', stream);
    if (line->heldout) write_heldout(stream, line->heldout);
}

bool sid2_folder_write_stats(sid2_folder *f, const sid2_stats_line *line, sid2_error *err)
{
    char *fields = NULL, digest[33];
    size_t size = 0;
    FILE *stream = open_memstream(&fields, &size);
    if (stream) write_fields(stream, line);
    bool whole = stream && !ferror(stream);
    if (stream && fclose(stream)) whole = false;
    if (whole) {
        sid2_digest_bytes(fields, size, digest);
        fprintf(f->stats, "%s, \"xxh3_128\": \"%s\"}\n", fields, digest);
    }
    free(fields);
    if (!whole) return sid2_fail(err, SID2_ERR_MEMORY, "%s/stats.jsonl: out of memory for a line", f->path);
    if (fflush(f->stats) == 0 && !ferror(f->stats)) return true;
    return sid2_fail(err, SID2_ERR_IO, "cannot write %s/stats.jsonl: %s", f->path, strerror(errno));
}

/* ---- Checkpoints ---- */

bool sid2_folder_checkpoint(const sid2_folder *f, uint64_t step, char path[4096], sid2_error *err)
{
    return sid2_path(path, err, "%s/checkpoints/step-%08" PRIu64, f->path, step);
}

uint64_t sid2_folder_step(const char *path)
{
    const char *slash = strrchr(path, '/');
    return strtoull((slash ? slash + 1 : path) + strlen("step-"), NULL, 10);
}

/* Whether RUN/best is as sid2 leaves it: not there, or a link to a checkpoint. */
static bool is_best(const char *link)
{
    static const char start[] = "checkpoints/step-";
    char target[64];
    ssize_t length = readlink(link, target, sizeof target);
    return length < 0 ? errno == ENOENT
                      : length > (ssize_t)sizeof start && strncmp(target, start, sizeof start - 1) == 0;
}

bool sid2_folder_point_best(const sid2_folder *f, uint64_t step, sid2_error *err)
{
    char link[4096], fresh[4096], target[64];
    if (!sid2_path(link, err, "%s/best", f->path) ||
        !sid2_path(fresh, err, "%s/.best.%ld", f->path, (long)getpid()))
        return false;
    if (!is_best(link))
        return sid2_fail(err, SID2_ERR_IO,
                         "%s is not sid2's and is left as it is: the best checkpoint is step %" PRIu64, link,
                         step);
    snprintf(target, sizeof target, "checkpoints/step-%08" PRIu64, step);
    if (is_best(fresh)) unlink(fresh); /* of a process of this number that died here */
    if (!symlink(target, fresh) && !rename(fresh, link)) return true;
    sid2_fail(err, SID2_ERR_IO, "%s cannot be made: %s; the best checkpoint is step %" PRIu64, link,
              strerror(errno), step);
    unlink(fresh);
    return false;
}

bool sid2_folder_set_aside(const char *checkpoint, char aside[4096], sid2_error *err)
{
    enum { ATTEMPTS = 100 };
    for (int i = 1; i <= ATTEMPTS; i++) {
        if (!sid2_path(aside, err, i > 1 ? "%s.damaged-%d" : "%s.damaged", checkpoint, i)) return false;
        if (!rename(checkpoint, aside)) return true;
        if (errno != EEXIST && errno != ENOTEMPTY) break;
    }
    return sid2_fail(err, SID2_ERR_IO, "%s: cannot be renamed: %s", checkpoint, strerror(errno));
}
