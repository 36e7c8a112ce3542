/* Checkpoints: a directory that is there whole or not at all. */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <sid2/checkpoint.h>

#include "config.h"
#include "file.h"
#include "params.h"
#include "safetensors.h"
#include "trainer.h"

enum { PATH_SIZE = 4096 };

/* A path too long for the system becomes empty, which no file has. */
static const char *join(char path[PATH_SIZE], const char *directory, const char *name)
{
    if (snprintf(path, PATH_SIZE, "%s/%s", directory, name) >= PATH_SIZE) path[0] = 0;
    return path;
}

/* ---- state.json ---- */

static bool save_state(const sid2_trainer *t, const char *path, sid2_error *err)
{
    char text[128];
    int length = snprintf(text, sizeof text, "{\"step\": %" PRIu64 ", \"images\": %" PRIu64 "}\n", t->steps,
                          t->images);
    return sid2_file_write(path, text, (size_t)length, err);
}

static bool load_state(const char *path, uint64_t *steps, uint64_t *images, sid2_error *err)
{
    size_t size;
    uint8_t *text = sid2_file_read(path, 1 << 16, &size, err);
    if (!text) return false;
    json_error_t where;
    json_t *root = json_loadb((const char *)text, size, JSON_REJECT_DUPLICATES, &where);
    free(text);
    json_t *step = json_object_get(root, "step"), *image = json_object_get(root, "images");
    bool ok = json_is_integer(step) && json_is_integer(image) && json_integer_value(step) >= 0 &&
              json_integer_value(image) >= 0;
    if (ok) {
        *steps = (uint64_t)json_integer_value(step);
        *images = (uint64_t)json_integer_value(image);
    }
    json_decref(root);
    return ok || sid2_fail(err, SID2_ERR_FORMAT, "%s: expected whole numbers \"step\" and \"images\"", path);
}

/* ---- Trainer ---- */

static bool save_files(const sid2_trainer *t, const char *directory, sid2_error *err)
{
    char path[PATH_SIZE];
    bool ok = sid2_config_save(&t->config, join(path, directory, "config.ini"), err);
    for (int i = 0; ok && i < t->recipe.state_count; i++) ok = sid2_state_save(&t->states[i], directory, err);
    return ok && save_state(t, join(path, directory, "state.json"), err);
}

bool sid2_trainer_save(sid2_trainer *t, const char *directory, sid2_error *err)
{
    if (t->broken)
        return sid2_fail(err, SID2_ERR_USAGE, "%s: the weights after a failed step are not saved", directory);
    sid2_atomic_directory folder;
    if (!sid2_atomic_directory_open(&folder, directory, err)) return false;
    if (save_files(t, folder.temporary, err)) return sid2_atomic_directory_commit(&folder, err);
    sid2_atomic_directory_discard(&folder);
    return false;
}

bool sid2_trainer_resume(sid2_trainer *t, const char *directory, sid2_error *err)
{
    char path[PATH_SIZE];
    uint64_t steps = 0, images = 0;
    if (!load_state(join(path, directory, "state.json"), &steps, &images, err)) return false;
    for (int i = 0; i < t->recipe.state_count; i++) {
        if (sid2_state_load(&t->states[i], directory, err)) continue;
        t->broken |= i > 0 || t->states[i].torn; /* states of two moments */
        return false;
    }
    sid2_trainer_set_steps(t, steps, images);
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

static bool is_complete(const char *directory)
{
    char path[PATH_SIZE];
    struct stat info;
    return stat(join(path, directory, "config.ini"), &info) == 0 &&
           stat(join(path, directory, "ema.safetensors"), &info) == 0;
}

/* The number in "step-00001234"; -1 for any other name. */
static long long step_number(const char *name)
{
    if (strncmp(name, "step-", 5) != 0 || !name[5] || name[5 + strspn(name + 5, "0123456789")]) return -1;
    return strtoll(name + 5, NULL, 10);
}

bool sid2_checkpoint_find(const char *path, char *found, size_t size, sid2_error *err)
{
    char folder[PATH_SIZE], candidate[PATH_SIZE], best[PATH_SIZE] = "";
    struct stat info;
    if (stat(path, &info) != 0) return sid2_fail(err, SID2_ERR_IO, "%s: %s", path, strerror(errno));
    if (is_complete(path)) snprintf(best, sizeof best, "%s", path);
    DIR *entries = best[0] ? NULL : opendir(join(folder, path, "checkpoints"));
    long long newest = -1;
    for (struct dirent *entry; entries && (entry = readdir(entries));) {
        long long number = step_number(entry->d_name);
        if (number <= newest || !is_complete(join(candidate, folder, entry->d_name))) continue;
        newest = number;
        memcpy(best, candidate, sizeof best);
    }
    if (entries) closedir(entries);
    if (!best[0])
        return sid2_fail(
            err, SID2_ERR_IO,
            "%s: no complete checkpoint here (config.ini and ema.safetensors), nor in checkpoints/", path);
    if (strlen(best) >= size) return sid2_fail(err, SID2_ERR_USAGE, "%s: path is too long", path);
    strcpy(found, best);
    return true;
}

bool sid2_checkpoint_config(const char *directory, sid2_config *config, sid2_error *err)
{
    char path[PATH_SIZE];
    return sid2_config_load_whole(config, join(path, directory, "config.ini"), err) &&
           sid2_config_check(config, err);
}

bool sid2_checkpoint_digest(const char *directory, char digest[33], sid2_error *err)
{
    char path[PATH_SIZE];
    sid2_safetensors *file = sid2_safetensors_open(join(path, directory, "ema.safetensors"), err);
    if (!file) return false;
    sid2_safetensors_digest(file, digest);
    sid2_safetensors_close(file);
    return true;
}

/* ---- Export ---- */

/* `count` f32 values at `from` (no alignment promised) in 16 bits. */
static void narrow(const void *from, int64_t count, sid2_dtype dtype, uint16_t *to)
{
    for (int64_t i = 0; i < count; i++) {
        float value;
        memcpy(&value, (const char *)from + 4 * i, sizeof value);
        to[i] = dtype == SID2_BF16 ? sid2_f32_to_bf16(value) : sid2_f32_to_f16(value);
    }
}

static bool export_weights(const sid2_safetensors *file, const char *path, sid2_dtype dtype, sid2_error *err)
{
    int count = sid2_safetensors_count(file);
    sid2_safetensors_item *items = calloc((size_t)count + 1, sizeof *items);
    uint16_t **low = calloc((size_t)count + 1, sizeof *low);
    bool ok = (items && low) || sid2_fail(err, SID2_ERR_MEMORY, "%s: out of memory", path);
    for (int i = 0; ok && i < count; i++) {
        const sid2_safetensors_entry *e = sid2_safetensors_at(file, i);
        if (e->dtype == SID2_DTYPE_COUNT || e->shape.rank < 0)
            ok = sid2_fail(err, SID2_ERR_FORMAT, "tensor '%s' is of no kind that a model has", e->name);
        if (!ok) break;
        items[i] = (sid2_safetensors_item){e->name, e->dtype, e->shape, e->data};
        if (e->dtype != SID2_F32 || dtype == SID2_F32) continue;
        low[i] = malloc(e->bytes / 2 + 1);
        if (!low[i]) ok = sid2_fail(err, SID2_ERR_MEMORY, "%s: out of memory", path);
        if (low[i]) narrow(e->data, sid2_shape_count(e->shape), dtype, low[i]);
        items[i].dtype = dtype;
        items[i].data = low[i];
    }
    ok = ok && sid2_safetensors_write(path, items, count, NULL, err);
    for (int i = 0; low && i < count; i++) free(low[i]);
    free(low);
    free(items);
    return ok;
}

bool sid2_checkpoint_export(const char *directory, const char *to, sid2_dtype dtype, sid2_error *err)
{
    char path[PATH_SIZE];
    sid2_atomic_directory folder;
    struct stat info;
    if (stat(to, &info) == 0) return sid2_fail(err, SID2_ERR_USAGE, "%s exists; name a new folder", to);
    sid2_config *config = sid2_config_create();
    bool ok = config || sid2_fail(err, SID2_ERR_MEMORY, "%s: out of memory", to);
    ok = ok && sid2_checkpoint_config(directory, config, err);
    sid2_safetensors *file = ok ? sid2_safetensors_open(join(path, directory, "ema.safetensors"), err) : NULL;
    ok = file && sid2_atomic_directory_open(&folder, to, err);
    if (ok) {
        ok = export_weights(file, join(path, folder.temporary, "ema.safetensors"), dtype, err) &&
             sid2_config_save(config, join(path, folder.temporary, "config.ini"), err);
        if (ok)
            ok = sid2_atomic_directory_commit(&folder, err);
        else
            sid2_atomic_directory_discard(&folder);
    }
    sid2_safetensors_close(file);
    sid2_config_destroy(config);
    return ok;
}
