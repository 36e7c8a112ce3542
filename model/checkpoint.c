/* Checkpoints: a directory that is there whole or not at all. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <sid2/checkpoint.h>

#include "classes.h"
#include "config.h"
#include "digest.h"
#include "file.h"
#include "json.h"
#include "params.h"
#include "safetensors.h"
#include "trainer.h"

enum { PATH_SIZE = 4096, STATE_LIMIT = 1 << 16 };

/* A path too long for the system becomes one that it refuses as such. */
static const char *join(char path[PATH_SIZE], const char *directory, const char *name)
{
    if (snprintf(path, PATH_SIZE, "%s/%s", directory, name) >= PATH_SIZE) memset(path, 'x', PATH_SIZE - 1);
    return path;
}

/* ---- Names ---- */

static void step_name(char name[32], uint64_t step) { snprintf(name, 32, "step-%08" PRIu64, step); }

/* Whether sid2 names a checkpoint so, and which one; "step-2" and "step-00000002-best" are somebody else's. */
static bool parse_step(const char *name, uint64_t *step)
{
    char canonical[32];
    if (strncmp(name, "step-", 5) != 0) return false;
    *step = strtoull(name + 5, NULL, 10);
    step_name(canonical, *step);
    return strcmp(name, canonical) == 0;
}

/* The same of a path's last name, which slashes may follow. */
static bool parse_step_path(const char *path, uint64_t *step)
{
    char name[64];
    size_t end = strlen(path);
    while (end && path[end - 1] == '/') end--;
    size_t begin = end;
    while (begin && path[begin - 1] != '/') begin--;
    return end - begin < sizeof name &&
           snprintf(name, sizeof name, "%.*s", (int)(end - begin), path + begin) > 0 &&
           parse_step(name, step);
}

/* ---- state.json ---- */

typedef struct state {
    uint64_t steps, images;
    sid2_cut cut;
    json_t *digests; /* name of a file: 32 hexadecimal digits; NULL in older ones */
} state;

static void free_state(state *s)
{
    json_decref(s->digests);
    s->digests = NULL;
}

/* Step and images as the tensors' files tell them too, so that files of two checkpoints are never taken for
 * one. */
typedef struct fact_list {
    char steps[24], images[24];
    const char *list[5];
} fact_list;

static const char *const *make_facts(fact_list *f, uint64_t steps, uint64_t images)
{
    snprintf(f->steps, sizeof f->steps, "%" PRIu64, steps);
    snprintf(f->images, sizeof f->images, "%" PRIu64, images);
    memcpy(f->list, (const char *[]){"step", f->steps, "images", f->images, NULL}, sizeof f->list);
    return f->list;
}

static bool is_data(const char *name) { return strcmp(name, "state.json") != 0; }

/* What is there once is rank 0's to write. */
static bool leads(const sid2_trainer *t) { return sid2_group_rank(t->group) == 0; }

/* Of files that all ranks look into, one looks into each: file `i` is rank i's, modulo their number. */
static bool is_mine(const sid2_group *group, size_t i)
{
    return i % (size_t)sid2_group_ranks(group) == (size_t)sid2_group_rank(group);
}

enum { MAX_FILES = 64 };

/* By name in `list`; all ranks have all. */
static bool digest_files(sid2_group *group, const char *directory, const sid2_list *list, char (*digest)[33],
                         sid2_error *err)
{
    char path[PATH_SIZE];
    size_t ranks = (size_t)sid2_group_ranks(group);
    bool ok = list->count <= MAX_FILES || sid2_fail(err, SID2_ERR_INTERNAL, "%s: too many files", directory);
    for (size_t i = 0; ok && i < list->count; i++)
        if (is_mine(group, i)) ok = sid2_digest_file(join(path, directory, list->name[i]), digest[i], err);
    ok = sid2_group_concur(group, ok, err);
    /* Row by row: a digest of each rank. `digest` has room for whole rows. */
    for (size_t row = 0; ok && row < list->count; row += ranks)
        ok = sid2_group_gather(group, digest[row], sizeof *digest, err);
    return ok;
}

static json_t *make_digests(sid2_group *group, const char *directory, sid2_error *err)
{
    sid2_list list;
    bool ok = sid2_group_concur(group, sid2_list_folder(&list, directory, is_data, err), err);
    char(*digest)[33] = calloc((size_t)(MAX_FILES + sid2_group_ranks(group)), sizeof *digest);
    json_t *digests = json_object();
    if (ok)
        ok = sid2_group_concur(
            group, (digest && digests) || sid2_fail(err, SID2_ERR_MEMORY, "%s: out of memory", directory),
            err);
    ok = ok && digest_files(group, directory, &list, digest, err);
    for (size_t i = 0; ok && i < list.count; i++)
        ok = !json_object_set_new(digests, list.name[i], json_string(digest[i])) ||
             sid2_fail(err, SID2_ERR_MEMORY, "%s: out of memory", directory);
    sid2_list_free(&list);
    free(digest);
    if (ok) return digests;
    json_decref(digests);
    return NULL;
}

/* After all others, of whose bytes it keeps digests. */
static bool save_state(const sid2_trainer *t, const char *directory, sid2_error *err)
{
    char path[PATH_SIZE];
    json_t *digests = make_digests(t->group, directory, err);
    if (!sid2_group_concur(t->group, digests, err)) return json_decref(digests), false;
    /* A number of lanes that is no power of two promises no bits (sid2_group_hasten), so it binds nobody. */
    bool cut = !(t->training.lanes & (t->training.lanes - 1));
    json_t *lanes = cut ? json_integer(t->training.lanes) : NULL,
           *microbatch = cut ? json_integer(t->training.microbatch) : NULL,
           *root = cut && (!lanes || !microbatch)
                       ? NULL
                       : json_pack("{s:I, s:I, s:o*, s:o*, s:o}", "step", (json_int_t)t->steps, "images",
                                   (json_int_t)t->images, "lanes", lanes, "microbatch", microbatch,
                                   "xxh3_128", digests);
    char *text = root ? json_dumps(root, 0) : NULL;
    bool ok = text || sid2_fail(err, SID2_ERR_MEMORY, "%s: out of memory", directory);
    if (ok && leads(t)) ok = sid2_file_write(join(path, directory, "state.json"), text, strlen(text), err);
    free(text);
    json_decref(root);
    return sid2_group_concur(t->group, ok, err);
}

static bool whole_number(const json_t *value, uint64_t *number)
{
    *number = (uint64_t)json_integer_value(value);
    return json_is_integer(value) && json_integer_value(value) >= 0;
}

static bool parse_state(const char *path, const json_t *root, state *s, sid2_error *err)
{
    json_t *digests = json_object_get(root, "xxh3_128"), *lanes = json_object_get(root, "lanes"), *digest;
    const char *name;
    uint64_t cut[2] = {0};
    if (!whole_number(json_object_get(root, "step"), &s->steps) ||
        !whole_number(json_object_get(root, "images"), &s->images))
        return sid2_fail(err, SID2_ERR_FORMAT, "%s: expected whole numbers \"step\" and \"images\"", path);
    if (lanes &&
        (!whole_number(lanes, &cut[0]) || !whole_number(json_object_get(root, "microbatch"), &cut[1]) ||
         !cut[0] || !cut[1] || cut[0] > INT32_MAX || cut[1] > INT32_MAX || cut[0] & (cut[0] - 1)))
        return sid2_fail(err, SID2_ERR_FORMAT, "%s: no cut of a batch: \"lanes\" and \"microbatch\"", path);
    if (json_object_size(root) != 2 + (lanes ? 2u : 0) + (digests ? 1u : 0) ||
        (digests && !json_is_object(digests)))
        return sid2_fail(err, SID2_ERR_FORMAT, "%s: more than step, images, lanes, microbatch and digests",
                         path);
    s->cut = (sid2_cut){(int64_t)cut[0], (int64_t)cut[1]};
    json_object_foreach(digests, name, digest)
    {
        if (json_string_length(digest) != 32 || strchr(name, '/'))
            return sid2_fail(err, SID2_ERR_FORMAT, "%s: no digest of '%.100s'", path, name);
    }
    s->digests = json_incref(digests);
    return true;
}

static bool load_state(const char *directory, state *s, sid2_error *err)
{
    char path[PATH_SIZE];
    size_t size;
    *s = (state){0};
    uint8_t *text = sid2_file_read(join(path, directory, "state.json"), STATE_LIMIT, &size, err);
    if (!text) return false;
    json_t *root = sid2_json_parse(text, size, JSON_REJECT_DUPLICATES, path, err);
    free(text);
    if (!root) return false;
    uint64_t named;
    bool ok = parse_state(path, root, s, err);
    json_decref(root);
    if (ok && parse_step_path(directory, &named) && named != s->steps)
        ok = sid2_fail(err, SID2_ERR_FORMAT, "%s: it says step %" PRIu64 ", its folder step %" PRIu64, path,
                       s->steps, named);
    if (!ok) free_state(s);
    return ok;
}

/* One file, or all (NULL), against the digests of state.json; of all, each rank looks into its share. */
static bool check_digests(const sid2_group *group, const char *directory, const state *s, const char *only,
                          sid2_error *err)
{
    char path[PATH_SIZE], digest[33];
    const char *name;
    json_t *expected;
    size_t file = 0;
    json_object_foreach(s->digests, name, expected)
    {
        if (only ? strcmp(name, only) != 0 : !is_mine(group, file++)) continue;
        if (!sid2_digest_file(join(path, directory, name), digest, err)) return false;
        if (strcmp(digest, json_string_value(expected)) != 0)
            return sid2_fail(err, SID2_ERR_FORMAT,
                             "%s: damaged, or of another checkpoint: state.json has another digest", path);
    }
    return true;
}

/* ---- Trainer ---- */

static bool check_config(const char *directory, sid2_error *err)
{
    sid2_classes *classes = NULL;
    sid2_config *config = sid2_config_create();
    bool ok = config || sid2_fail(err, SID2_ERR_MEMORY, "%s: out of memory", directory);
    ok = ok && sid2_checkpoint_config(directory, config, err) &&
         sid2_checkpoint_classes(directory, &classes, err);
    if (ok && sid2_classes_count(classes) > config->model_classes)
        ok = sid2_fail(err, SID2_ERR_FORMAT, "%s/classes.json: %d names of %d classes", directory,
                       sid2_classes_count(classes), (int)config->model_classes);
    sid2_classes_destroy(classes);
    sid2_config_destroy(config);
    return ok;
}

static bool save_files(const sid2_trainer *t, const char *directory, sid2_error *err)
{
    char path[PATH_SIZE];
    fact_list f;
    const char *const *facts = make_facts(&f, t->steps, t->images);
    int ranks = sid2_group_ranks(t->group), writers = (int)t->config.train_writers;
    bool ok = !leads(t) ||
              (sid2_config_save(&t->config, join(path, directory, "config.ini"), err) &&
               (!t->classes || sid2_classes_save(t->classes, join(path, directory, "classes.json"), err)));
    ok = sid2_group_concur(t->group, ok, err);
    for (int i = 0; ok && i < t->recipe.state_count; i++)
        ok = sid2_state_save(&t->states[i], directory, facts, writers && writers < ranks ? writers : ranks,
                             err);
    return ok && save_state(t, directory, err);
}

/* From the disk, as a start would read it. */
static bool check_files(const sid2_trainer *t, const char *directory, sid2_error *err)
{
    char path[PATH_SIZE];
    state s;
    fact_list f;
    if (!sid2_group_concur(t->group, load_state(directory, &s, err), err)) return free_state(&s), false;
    const char *name;
    json_t *digest;
    json_object_foreach(s.digests, name, digest) sid2_file_forget(join(path, directory, name));
    const char *const *facts = make_facts(&f, t->steps, t->images);
    bool ok = (s.steps == t->steps && s.images == t->images) ||
              sid2_fail(err, SID2_ERR_IO, "%s/state.json: another step", directory);
    ok = sid2_group_concur(t->group, ok && check_config(directory, err), err);
    for (int i = 0; ok && i < t->recipe.state_count; i++)
        ok = sid2_state_check(&t->states[i], directory, facts, err);
    ok = ok && sid2_group_concur(t->group, check_digests(t->group, directory, &s, NULL, err), err);
    free_state(&s);
    return ok;
}

static bool read_back(const sid2_trainer *t, const char *directory, sid2_error *err)
{
    sid2_error cause = {0};
    return check_files(t, directory, &cause) ||
           sid2_fail(err, cause.code, "what was written cannot be read: %s", cause.message);
}

/* What stands in the place may give way only where it is a checkpoint too. */
static bool may_replace(const char *directory, bool *replace, sid2_error *err)
{
    sid2_kind kind;
    if (!sid2_look(directory, &kind, err)) return false;
    *replace = kind == SID2_FOLDER && sid2_checkpoint_is_own(directory);
    return true;
}

/* The folder is rank 0's; all know where it is. */
bool sid2_trainer_save(sid2_trainer *t, const char *directory, sid2_error *err)
{
    char place[PATH_SIZE] = "";
    sid2_atomic_directory folder = {.lock = -1};
    bool replace = false,
         ok = !t->broken ||
              sid2_fail(err, SID2_ERR_USAGE, "%s: the weights after a failed step are not saved", directory);
    if (ok && leads(t))
        ok = may_replace(directory, &replace, err) && sid2_atomic_directory_open(&folder, directory, err) &&
             sid2_path(place, err, "%s", folder.temporary);
    ok = sid2_group_concur(t->group, ok, err) && sid2_group_share(t->group, place, sizeof place, err) &&
         sid2_trainer_compare(t, err) && save_files(t, place, err) && read_back(t, place, err);
    if (ok)
        return sid2_group_concur(t->group, !leads(t) || sid2_atomic_directory_commit(&folder, replace, err),
                                 err);
    sid2_atomic_directory_discard(&folder);
    return false;
}

bool sid2_trainer_resume(sid2_trainer *t, const char *directory, sid2_error *err)
{
    state s;
    fact_list f;
    sid2_classes *classes = NULL;
    bool ok = load_state(directory, &s, err) && check_digests(t->group, directory, &s, NULL, err) &&
              sid2_checkpoint_classes(directory, &classes, err);
    free_state(&s);
    ok = sid2_group_concur(t->group, ok, err);
    if (!ok || !sid2_group_concur(t->group, sid2_trainer_keep_cut(t, s.cut, err), err)) {
        sid2_classes_destroy(classes);
        return false;
    }
    sid2_classes_destroy(t->classes);
    t->classes = classes;
    const char *const *facts = make_facts(&f, s.steps, s.images);
    for (int i = 0; i < t->recipe.state_count; i++) {
        if (sid2_state_load(&t->states[i], directory, facts, err)) continue;
        t->broken |= i > 0 || t->states[i].torn; /* states of two moments */
        return false;
    }
    sid2_trainer_set_steps(t, s.steps, s.images);
    return true;
}

bool sid2_trainer_name_classes(sid2_trainer *t, const sid2_classes *classes, sid2_error *err)
{
    if (sid2_classes_count(classes) > t->config.model_classes)
        return sid2_fail(err, SID2_ERR_USAGE, "%d names, but model.classes is %d",
                         sid2_classes_count(classes), (int)t->config.model_classes);
    sid2_classes *copy = NULL;
    if (classes && !(copy = sid2_classes_clone(classes, err))) return false;
    sid2_classes_destroy(t->classes);
    t->classes = copy;
    return true;
}

/* What depends on the patch size or on the set of classes, and so starts fresh where it does not fit. */
static bool starts_fresh(const char *name)
{
    return strncmp(name, "embed.", 6) == 0 || strncmp(name, "head.out.", 9) == 0 ||
           strcmp(name, "cond.class.weight") == 0;
}

bool sid2_trainer_warm_start(sid2_trainer *t, const char *directory, sid2_error *err)
{
    char path[PATH_SIZE];
    join(path, directory, "ema.safetensors");
    for (int i = 0; i < t->recipe.state_count; i++) {
        if (sid2_state_warm_start(&t->states[i], path, (uint64_t)t->config.train_seed, starts_fresh, err))
            continue;
        t->broken |= i > 0 || t->states[i].torn;
        return false;
    }
    sid2_trainer_set_steps(t, 0, 0);
    return true;
}

/* ---- Directories ---- */

/* Enough to sample from. */
static bool is_complete(const char *directory, bool *complete, sid2_error *err)
{
    char path[PATH_SIZE];
    sid2_kind config, ema;
    if (!sid2_look(join(path, directory, "config.ini"), &config, err) ||
        !sid2_look(join(path, directory, "ema.safetensors"), &ema, err))
        return false;
    *complete = config != SID2_ABSENT && ema != SID2_ABSENT;
    return true;
}

static bool is_step_name(const char *name)
{
    uint64_t step;
    return parse_step(name, &step);
}

static int by_step(const void *a, const void *b)
{
    uint64_t x = 0, y = 0;
    parse_step(*(char *const *)a, &x);
    parse_step(*(char *const *)b, &y);
    return (x > y) - (x < y);
}

/* The names in checkpoints/ in order of their steps, which is not the order of their letters. */
static bool list_steps(sid2_list *list, const char *folder, sid2_error *err)
{
    if (!sid2_list_folder(list, folder, is_step_name, err)) return false;
    if (list->count) qsort(list->name, list->count, sizeof *list->name, by_step);
    return true;
}

/* Looks once. *listed: there are names, though none may be complete (any more). */
static bool look_for_newest(const char *folder, uint64_t before, char candidate[PATH_SIZE], bool *listed,
                            bool *complete, sid2_error *err)
{
    sid2_list list;
    if (!list_steps(&list, folder, err)) return false;
    bool ok = true;
    *listed = *complete = false;
    for (size_t i = list.count; ok && !*complete && i-- > 0;) {
        uint64_t step = 0;
        if (!parse_step(list.name[i], &step) || step >= before) continue;
        *listed = true;
        ok = is_complete(join(candidate, folder, list.name[i]), complete, err);
    }
    sid2_list_free(&list);
    return ok;
}

bool sid2_checkpoint_newest(const char *run, uint64_t before, char *found, size_t size, sid2_error *err)
{
    enum { ATTEMPTS = 40 }; /* a trainer may remove all that was listed before they are looked at */
    const struct timespec pause = {.tv_nsec = 5000000};
    char folder[PATH_SIZE], candidate[PATH_SIZE];
    bool listed = true, complete = false;
    found[0] = 0;
    join(folder, run, "checkpoints");
    for (int i = 0; i < ATTEMPTS && listed && !complete; i++) {
        if (i > 0) nanosleep(&pause, NULL);
        if (!look_for_newest(folder, before, candidate, &listed, &complete, err)) return false;
    }
    if (complete && strlen(candidate) >= size)
        return sid2_fail(err, SID2_ERR_USAGE, "%s: path is too long", run);
    if (complete) strcpy(found, candidate);
    return true;
}

bool sid2_checkpoint_find(const char *path, char *found, size_t size, sid2_error *err)
{
    sid2_kind kind;
    bool complete;
    if (!sid2_look(path, &kind, err)) return false;
    if (kind == SID2_ABSENT) return sid2_fail(err, SID2_ERR_IO, "%s: %s", path, strerror(ENOENT));
    if (!is_complete(path, &complete, err)) return false;
    if (!complete && kind == SID2_FOLDER && !sid2_checkpoint_newest(path, UINT64_MAX, found, size, err))
        return false;
    if (!complete && (kind != SID2_FOLDER || !found[0]))
        return sid2_fail(
            err, SID2_ERR_IO,
            "%s: no complete checkpoint here (config.ini and ema.safetensors), nor in checkpoints/", path);
    if (!complete) return true;
    if (strlen(path) >= size) return sid2_fail(err, SID2_ERR_USAGE, "%s: path is too long", path);
    strcpy(found, path);
    return true;
}

/* ---- Readers and the trainer that removes ---- */

/* Opens and locks a checkpoint's folder, or -1: see errno, ENOENT where it is gone and EWOULDBLOCK where it is in
 * use. Some file systems have no locks; there it is only opened. */
static int lock_folder(const char *directory, int how)
{
    struct stat opened, named;
    int descriptor = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (descriptor < 0) return -1;
    int cause = flock(descriptor, how | LOCK_NB) && errno == EWOULDBLOCK ? EWOULDBLOCK : 0;
    if (!cause && (fstat(descriptor, &opened) || stat(directory, &named))) cause = errno;
    if (!cause && (opened.st_dev != named.st_dev || opened.st_ino != named.st_ino)) cause = ENOENT;
    if (!cause) return descriptor;
    close(descriptor);
    errno = cause;
    return -1;
}

bool sid2_checkpoint_hold(const char *path, char *found, size_t size, int *hold, sid2_error *err)
{
    enum { ATTEMPTS = 200 };
    const struct timespec pause = {.tv_nsec = 5000000};
    *hold = -1;
    for (int i = 0; i < ATTEMPTS; i++) {
        if (!sid2_checkpoint_find(path, found, size, err)) return false;
        *hold = lock_folder(found, LOCK_SH);
        if (*hold >= 0 || errno == EACCES) return true; /* a folder that may be passed but not listed */
        if (errno != ENOENT && errno != EWOULDBLOCK)
            return sid2_fail(err, SID2_ERR_IO, "%s: %s", found, strerror(errno));
        nanosleep(&pause, NULL);
    }
    return sid2_fail(err, SID2_ERR_IO, "%s: its checkpoints are replaced faster than they can be read", path);
}

void sid2_checkpoint_release(int hold)
{
    if (hold >= 0) close(hold);
}

/* Whether a file is one of a checkpoint's; older states do not list them. */
static bool is_listed(const state *s, const char *name)
{
    static const char *const older[] = {"config.ini", "ema.safetensors", "weights.safetensors",
                                        "optimizer.safetensors"};
    if (!is_data(name) || s->digests) return !is_data(name) || json_object_get(s->digests, name);
    for (int i = 0; i < 4; i++)
        if (strcmp(name, older[i]) == 0) return true;
    return false;
}

bool sid2_checkpoint_is_own(const char *directory)
{
    struct stat status;
    state s;
    sid2_list list;
    if (lstat(directory, &status) || !S_ISDIR(status.st_mode) || !load_state(directory, &s, NULL))
        return false;
    bool own = sid2_list_folder(&list, directory, NULL, NULL);
    for (size_t i = 0; own && i < list.count; i++) own = is_listed(&s, list.name[i]);
    sid2_list_free(&list);
    free_state(&s);
    return own;
}

/* The step that RUN/best leads to; false where it leads nowhere. */
static bool find_best(const char *run, uint64_t *step)
{
    char path[PATH_SIZE], target[64];
    ssize_t length = readlink(join(path, run, "best"), target, sizeof target - 1);
    if (length < 0) return false;
    target[length] = 0;
    return parse_step_path(target, step);
}

bool sid2_checkpoint_prune(const char *run, uint64_t newest, int64_t keep, sid2_error *err)
{
    char folder[PATH_SIZE], path[PATH_SIZE];
    sid2_list list;
    if (!keep) return true;
    if (!list_steps(&list, join(folder, run, "checkpoints"), err)) return false;
    uint64_t best;
    bool ok = true, has_best = find_best(run, &best);
    int64_t kept = 1;
    for (size_t i = list.count; i-- > 0;) {
        uint64_t step = 0;
        if (!parse_step(list.name[i], &step) || step >= newest || (has_best && step == best) ||
            !sid2_checkpoint_is_own(join(path, folder, list.name[i])) || kept++ < keep)
            continue;
        int lock = lock_folder(path, LOCK_EX);
        if (lock < 0) continue; /* somebody reads it; it goes with the next */
        ok = sid2_remove_whole(path, ok ? err : NULL) && ok;
        close(lock);
    }
    sid2_list_free(&list);
    return ok;
}

/* ---- What is in one ---- */

bool sid2_checkpoint_config(const char *directory, sid2_config *config, sid2_error *err)
{
    char path[PATH_SIZE];
    return sid2_config_load_whole(config, join(path, directory, "config.ini"), err) &&
           sid2_config_check(config, err);
}

bool sid2_checkpoint_classes(const char *directory, sid2_classes **classes, sid2_error *err)
{
    char path[PATH_SIZE];
    state s;
    sid2_error why = {0};
    *classes = NULL;
    /* Who only samples can do without a state, and without a good one. */
    if (!load_state(directory, &s, &why) && why.code == SID2_ERR_MEMORY)
        return sid2_fail(err, why.code, "%s", why.message);
    bool whole = check_digests(NULL, directory, &s, "classes.json", err);
    free_state(&s);
    return whole && sid2_classes_load(classes, join(path, directory, "classes.json"), err);
}

/* One file of tensors, whole; `f` (or NULL): what it must tell. */
static bool check_file(const char *directory, const char *name, const char *const *f, char digest[33],
                       sid2_error *err)
{
    char path[PATH_SIZE];
    sid2_safetensors *file = sid2_safetensors_open(join(path, directory, name), err);
    if (!file) return false;
    bool ok = sid2_params_check_facts(file, path, f, err) && sid2_safetensors_check(file, digest, err);
    sid2_safetensors_close(file);
    return ok;
}

bool sid2_checkpoint_digest(const char *directory, char digest[33], sid2_error *err)
{
    return check_file(directory, "ema.safetensors", NULL, digest, err);
}

static bool is_tensors(const char *name)
{
    const char *dot = strrchr(name, '.');
    return dot && strcmp(dot, ".safetensors") == 0;
}

bool sid2_checkpoint_verify(const char *directory, sid2_error *err)
{
    char path[PATH_SIZE];
    sid2_kind kind;
    state s = {0};
    fact_list f;
    sid2_list list;
    if (!check_config(directory, err) || !sid2_look(join(path, directory, "state.json"), &kind, err) ||
        (kind != SID2_ABSENT && !load_state(directory, &s, err)))
        return false;
    const char *const *facts = kind != SID2_ABSENT ? make_facts(&f, s.steps, s.images) : NULL;
    bool ok = sid2_list_folder(&list, directory, is_tensors, err);
    for (size_t i = 0; ok && i < list.count; i++) ok = check_file(directory, list.name[i], facts, NULL, err);
    ok = ok && check_digests(NULL, directory, &s, NULL, err);
    sid2_list_free(&list);
    free_state(&s);
    return ok;
}
