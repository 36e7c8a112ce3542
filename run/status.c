#include "status.h"

#include "folder.h"
#include "pulse.h"

#include "file.h"
#include "json.h"

#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

bool sid2_status_save(const char *run, const char *state, const char *message, const sid2_run_progress *p,
                      sid2_error *err)
{
    char path[4096];
    json_t *root = json_pack(
        "{s:s, s:s, s:I, s:I, s:o, s:o, s:o, s:o, s:o, s:o, s:I, s:I}", "state", state, "message", message,
        "step", (json_int_t)p->step, "steps", (json_int_t)p->steps, "loss", sid2_json_real(p->loss),
        "images_per_s", sid2_json_real(p->images_per_s), "seconds", sid2_json_real(p->seconds),
        "seconds_left", sid2_json_real(p->seconds_left), "heldout", sid2_json_real(p->heldout), "best",
        sid2_json_real(p->best), "best_step", (json_int_t)p->best_step, "time", (json_int_t)time(NULL));
    char *text = root ? json_dumps(root, JSON_INDENT(2) | JSON_REAL_PRECISION(8)) : NULL;
    json_decref(root);
    if (!text) return sid2_fail(err, SID2_ERR_MEMORY, "%s: out of memory for its status", run);
    sid2_atomic_file file;
    bool ok = sid2_path(path, err, "%s/status.json", run) && sid2_atomic_open(&file, path, err);
    if (ok) {
        file.passing = true;
        fprintf(file.stream, "%s\n", text);
        ok = sid2_atomic_commit(&file, err);
    }
    free(text);
    return ok;
}

/* ---- Looking in ---- */

static uint64_t whole(const json_t *root, const char *key)
{
    json_int_t value = json_integer_value(json_object_get(root, key));
    return value > 0 ? (uint64_t)value : 0;
}

static void copy_text(char *text, size_t size, const json_t *root, const char *key)
{
    const char *value = json_string_value(json_object_get(root, key));
    snprintf(text, size, "%s", value ? value : "");
}

/* What the trainer said last. A file that is not there or says nothing leaves the numbers unknown. */
static bool read_said(const char *run, sid2_run_status *s, sid2_error *err)
{
    char path[4096];
    sid2_kind kind;
    size_t size;
    json_error_t problem;
    s->loss = s->images_per_s = s->seconds = s->seconds_left = s->heldout = s->best = s->age = NAN;
    if (!sid2_path(path, err, "%s/status.json", run) || !sid2_look(path, &kind, err)) return false;
    if (kind == SID2_ABSENT) return true;
    uint8_t *text = sid2_file_read(path, 1 << 16, &size, err);
    if (!text) return false;
    json_t *root = sid2_json_read(text, size, 0, &problem);
    bool starved = !root && sid2_json_no_memory();
    free(text);
    if (starved) return sid2_fail(err, SID2_ERR_MEMORY, "%s: out of memory", path);
    copy_text(s->state, sizeof s->state, root, "state");
    copy_text(s->message, sizeof s->message, root, "message");
    s->step = whole(root, "step");
    s->steps = whole(root, "steps");
    s->loss = sid2_json_number(root, "loss");
    s->images_per_s = sid2_json_number(root, "images_per_s");
    s->seconds = sid2_json_number(root, "seconds");
    s->seconds_left = sid2_json_number(root, "seconds_left");
    s->heldout = sid2_json_number(root, "heldout");
    s->best = sid2_json_number(root, "best");
    s->best_step = whole(root, "best_step");
    double said = sid2_json_number(root, "time");
    if (isfinite(said)) s->age = fmax(0, (double)time(NULL) - said);
    json_decref(root);
    return true;
}

static bool read_checkpoint(const char *run, sid2_run_status *s, sid2_error *err)
{
    struct stat status;
    s->checkpoint_age = NAN;
    if (!sid2_checkpoint_newest(run, UINT64_MAX, s->checkpoint, sizeof s->checkpoint, err)) return false;
    if (s->checkpoint[0] && !stat(s->checkpoint, &status))
        s->checkpoint_age = fmax(0, difftime(time(NULL), status.st_mtime));
    return true;
}

/* What a run that was never asked before says: those of older versions have no status.json. */
static bool read_config(const char *run, sid2_run_status *s, sid2_error *err)
{
    char path[4096];
    sid2_kind kind;
    if (s->steps || !sid2_path(path, err, "%s/config.ini", run)) return s->steps;
    if (!sid2_look(path, &kind, err)) return false;
    if (kind == SID2_ABSENT && !s->checkpoint[0] && s->alive != SID2_ALIVE)
        return sid2_fail(err, SID2_ERR_IO, "%s is no run of sid2 train", run);
    sid2_config *config = sid2_config_create();
    bool ok = config || sid2_fail(err, SID2_ERR_MEMORY, "%s: out of memory", run);
    ok = ok && (kind == SID2_ABSENT || sid2_config_load(config, path, err));
    if (ok && kind != SID2_ABSENT) s->steps = (uint64_t)config->train_steps;
    if (s->checkpoint[0]) s->step = sid2_folder_step(s->checkpoint);
    sid2_config_destroy(config);
    return ok;
}

/* A trainer that ended without a word was killed, or its machine went down. */
static void settle_state(sid2_run_status *s)
{
    static const char *const ends[] = {"complete", "stopped", "failed"};
    bool ended = false;
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) ended |= strcmp(s->state, ends[i]) == 0;
    if (s->alive == SID2_ALIVE && (ended || !s->state[0])) strcpy(s->state, "preparing");
    if (s->alive != SID2_ALIVE) s->seconds_left = NAN;
    if (s->alive != SID2_DEAD || ended) return;
    strcpy(s->state, !s->state[0] && s->steps && s->step >= s->steps ? "complete"
                     : s->state[0]                                   ? "killed"
                                                                     : "stopped");
}

sid2_run_status *sid2_run_look(const char *path, sid2_error *err)
{
    sid2_kind kind;
    if (!sid2_look(path, &kind, err)) return NULL;
    if (kind != SID2_FOLDER)
        return sid2_fail(err, SID2_ERR_IO, "%s: %s", path,
                         kind == SID2_ABSENT ? "there is no such run" : "is no run, but a file"),
               NULL;
    sid2_run_status *s = calloc(1, sizeof *s);
    if (!s) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory"), NULL;
    bool ok = sid2_folder_in_use(path, &s->alive, err) && read_said(path, s, err) &&
              read_checkpoint(path, s, err) && read_config(path, s, err) &&
              sid2_pulse_read(path, &s->rank, &s->ranks, err);
    if (ok) return settle_state(s), s;
    sid2_run_status_destroy(s);
    return NULL;
}

void sid2_run_status_destroy(sid2_run_status *status)
{
    if (status) free(status->rank);
    free(status);
}
