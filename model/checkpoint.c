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

/* The four arrays of a trainer's state, on the host. */
typedef struct arrays {
    float *weights, *ema, *m, *v;
} arrays;

static const sid2_params *params_of(const sid2_trainer *t) { return t->states[0].params; }

static const char *const array_names[] = {"weights", "ema", "m", "v"};

static bool arrays_create(arrays *a, const sid2_params *params, sid2_error *err)
{
    float **const slot[] = {&a->weights, &a->ema, &a->m, &a->v};
    float *block = calloc((size_t)params->elements * 4, sizeof *block);
    for (int i = 0; i < 4; i++) *slot[i] = block ? block + i * params->elements : NULL;
    return block || sid2_fail(err, SID2_ERR_MEMORY, "out of memory for the weights");
}

static void arrays_destroy(arrays *a) { free(a->weights); }

static bool upload_arrays(sid2_trainer *t, const arrays *a, sid2_error *err)
{
    const sid2_params *params = params_of(t);
    float *zero = calloc((size_t)params->elements, sizeof *zero);
    bool ok = (zero || sid2_fail(err, SID2_ERR_MEMORY, "out of memory")) &&
              sid2_state_upload(&t->states[0], "weights", a->weights, err) &&
              sid2_buffers_upload(&t->buffers, "ema", a->ema, err) &&
              sid2_buffers_upload(&t->buffers, "m", a->m, err) &&
              sid2_buffers_upload(&t->buffers, "v", a->v, err) &&
              sid2_buffers_upload(&t->buffers, "grads", zero, err); /* a failed step may have left some */
    free(zero);
    t->broken = !ok;
    return ok;
}

static bool save_files(const sid2_trainer *t, const arrays *a, const char *directory, sid2_error *err)
{
    const sid2_params *params = params_of(t);
    const sid2_params_part weights = {"", a->weights}, ema = {"", a->ema},
                           optimizer[] = {{"m.", a->m}, {"v.", a->v}};
    char path[PATH_SIZE];
    return sid2_config_save(&t->config, join(path, directory, "config.ini"), err) &&
           sid2_params_save(join(path, directory, "ema.safetensors"), params, &ema, 1, err) &&
           sid2_params_save(join(path, directory, "weights.safetensors"), params, &weights, 1, err) &&
           sid2_params_save(join(path, directory, "optimizer.safetensors"), params, optimizer, 2, err) &&
           save_state(t, join(path, directory, "state.json"), err);
}

bool sid2_trainer_save(sid2_trainer *t, const char *directory, sid2_error *err)
{
    if (t->broken)
        return sid2_fail(err, SID2_ERR_USAGE, "%s: the weights after a failed step are not saved", directory);
    arrays a;
    sid2_atomic_directory folder;
    if (!arrays_create(&a, params_of(t), err)) return false;
    float *const host[] = {a.weights, a.ema, a.m, a.v};
    bool ok = true;
    for (int i = 0; ok && i < 4; i++) ok = sid2_buffers_download(&t->buffers, array_names[i], host[i], err);
    ok = ok && sid2_atomic_directory_open(&folder, directory, err);
    if (ok) {
        ok = save_files(t, &a, folder.temporary, err);
        if (ok)
            ok = sid2_atomic_directory_commit(&folder, err);
        else
            sid2_atomic_directory_discard(&folder);
    }
    arrays_destroy(&a);
    return ok;
}

bool sid2_trainer_resume(sid2_trainer *t, const char *directory, sid2_error *err)
{
    const sid2_params *params = params_of(t);
    char path[PATH_SIZE];
    uint64_t steps = 0, images = 0;
    arrays a;
    if (!load_state(join(path, directory, "state.json"), &steps, &images, err) ||
        !arrays_create(&a, params, err))
        return false;
    const sid2_params_part weights = {"", a.weights}, ema = {"", a.ema},
                           optimizer[] = {{"m.", a.m}, {"v.", a.v}};
    bool ok =
        sid2_params_load(join(path, directory, "weights.safetensors"), params, &weights, 1, NULL, err) &&
        sid2_params_load(join(path, directory, "ema.safetensors"), params, &ema, 1, NULL, err) &&
        sid2_params_load(join(path, directory, "optimizer.safetensors"), params, optimizer, 2, NULL, err) &&
        upload_arrays(t, &a, err);
    arrays_destroy(&a);
    if (!ok) return false;
    t->steps = steps;
    t->images = images;
    t->states[0].updates = steps;
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
    const sid2_params *params = params_of(t);
    char path[PATH_SIZE];
    arrays a;
    if (!arrays_create(&a, params, err)) return false;
    float *initial = sid2_params_initial(params, (uint64_t)t->config.train_seed, err);
    size_t bytes = (size_t)params->elements * sizeof(float);
    if (initial) memcpy(a.weights, initial, bytes);
    bool ok = initial && sid2_params_load(join(path, directory, "ema.safetensors"), params,
                                          &(sid2_params_part){"", a.weights}, 1, starts_fresh, err);
    if (ok) memcpy(a.ema, a.weights, bytes);
    ok = ok && upload_arrays(t, &a, err);
    free(initial);
    arrays_destroy(&a);
    if (ok) t->steps = t->images = t->states[0].updates = 0;
    return ok;
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
