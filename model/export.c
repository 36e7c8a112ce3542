/* What sampling needs of a checkpoint, with its own averaged weights or a mixture of others. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <sid2/checkpoint.h>

#include "averages.h"
#include "classes.h"
#include "config.h"
#include "file.h"

static float widened(sid2_dtype dtype, const void *data, int64_t i)
{
    if (dtype == SID2_F32) return ((const float *)data)[i];
    uint16_t bits = ((const uint16_t *)data)[i];
    return dtype == SID2_BF16 ? sid2_bf16_to_f32(bits) : sid2_f16_to_f32(bits);
}

/* The tensor `name` of one ingredient, of the shape that all have. */
static bool add_share(const sid2_ingredient *i, const char *name, sid2_shape shape, double *sum,
                      sid2_error *err)
{
    char whole[512];
    const char *path = sid2_safetensors_path(i->file);
    const sid2_safetensors_entry *e = NULL;
    if (snprintf(whole, sizeof whole, "%s%s", i->prefix, name) < (int)sizeof whole)
        e = sid2_safetensors_find(i->file, whole);
    if (!e || !sid2_shape_equal(e->shape, shape))
        return sid2_fail(err, SID2_ERR_FORMAT, "%s: it has no tensor '%s' of the checkpoint's shape", path,
                         whole);
    if (e->shape.rank < 0 || (e->dtype != SID2_F32 && e->dtype != SID2_BF16 && e->dtype != SID2_F16))
        return sid2_fail(err, SID2_ERR_FORMAT, "%s: tensor '%s' is of no kind that a model has", path,
                         e->name);
    void *raw = malloc(e->bytes + 1);
    if (!raw) return sid2_fail(err, SID2_ERR_MEMORY, "%s: out of memory", path);
    bool ok = sid2_safetensors_read(i->file, e, raw, err);
    int64_t count = sid2_shape_count(shape);
    for (int64_t k = 0; ok && k < count; k++) {
        float value = widened(e->dtype, raw, k);
        sum[k] += i->share * (double)value;
        if (!isfinite(value))
            ok = sid2_fail(err, SID2_ERR_FORMAT, "%s: tensor '%s' holds a value that is not finite", path,
                           e->name);
    }
    free(raw);
    return ok;
}

/* Sums to values of a type, where they lie. What is too large for it is refused. */
static bool narrow(double *sum, int64_t count, sid2_dtype dtype, const char *path, const char *name,
                   sid2_error *err)
{
    size_t size = sid2_dtype_size(dtype);
    for (int64_t k = 0; k < count; k++) {
        float value = (float)sum[k];
        uint16_t half = dtype == SID2_BF16 ? sid2_f32_to_bf16(value) : sid2_f32_to_f16(value);
        const void *bytes = dtype == SID2_F32 ? (const void *)&value : &half;
        if (!isfinite(widened(dtype, bytes, 0)))
            return sid2_fail(err, SID2_ERR_FORMAT, "%s: tensor '%s' holds %g, which is too large for %s",
                             path, name, (double)value, sid2_dtype_name(dtype));
        memcpy((char *)sum + (size_t)k * size, bytes, size);
    }
    return true;
}

/* To be freed. */
static void *mix_tensor(const sid2_mixture *m, const sid2_safetensors_entry *e, sid2_dtype dtype,
                        sid2_error *err)
{
    const char *path = sid2_safetensors_path(m->files[0]);
    int64_t count = sid2_shape_count(e->shape);
    double *sum = malloc(((size_t)count + 1) * sizeof *sum);
    bool ok = sum || sid2_fail(err, SID2_ERR_MEMORY, "%s: out of memory", path);
    for (int64_t k = 0; ok && k < count; k++) sum[k] = -0.0; /* which added to anything leaves it as it is */
    for (int i = 0; ok && i < m->count; i++) ok = add_share(&m->item[i], e->name, e->shape, sum, err);
    ok = ok && narrow(sum, count, dtype, path, e->name, err);
    void *kept = ok ? realloc(sum, (size_t)count * sid2_dtype_size(dtype) + 1) : NULL;
    if (kept) return kept;
    if (ok) sid2_fail(err, SID2_ERR_MEMORY, "%s: out of memory", path);
    free(sum);
    return NULL;
}

/* The tensors of the first file, whose names have no prefix. */
static bool export_weights(const sid2_mixture *m, const char *to, sid2_dtype dtype, sid2_error *err)
{
    const sid2_safetensors *file = m->files[0];
    int count = sid2_safetensors_count(file);
    sid2_safetensors_item *items = calloc((size_t)count + 1, sizeof *items);
    bool ok = items || sid2_fail(err, SID2_ERR_MEMORY, "%s: out of memory", to);
    for (int i = 0; ok && i < count; i++) {
        const sid2_safetensors_entry *e = sid2_safetensors_at(file, i);
        items[i] = (sid2_safetensors_item){e->name, dtype, e->shape, mix_tensor(m, e, dtype, err)};
        ok = items[i].data != NULL;
    }
    const char *steps = sid2_safetensors_metadata(file, "step"),
               *images = sid2_safetensors_metadata(file, "images");
    const char *facts[] = {"step", steps, "images", images, m->length[0] ? "ema" : NULL, m->length, NULL};
    ok = ok && sid2_safetensors_write(to, items, count, steps && images ? facts : NULL, true, err);
    for (int i = 0; items && i < count; i++) free((void *)items[i].data);
    free(items);
    return ok;
}

static bool is_new(const char *path, sid2_error *err)
{
    sid2_kind kind;
    return sid2_look(path, &kind, err) &&
           (kind == SID2_ABSENT || sid2_fail(err, SID2_ERR_USAGE, "%s exists; name a new folder", path));
}

bool sid2_mixture_export(const sid2_mixture *m, const char *directory, const char *to, sid2_dtype dtype,
                         sid2_error *err)
{
    char ema[4096], ini[4096], names[4096];
    sid2_atomic_directory folder;
    if (!is_new(to, err)) return false;
    sid2_classes *classes = NULL;
    sid2_config *config = sid2_config_create();
    bool ok = config || sid2_fail(err, SID2_ERR_MEMORY, "%s: out of memory", to);
    ok = ok && sid2_checkpoint_config(directory, config, err) &&
         sid2_checkpoint_classes(directory, &classes, err) && sid2_atomic_directory_open(&folder, to, err);
    if (ok) {
        ok = sid2_path(ema, err, "%s/ema.safetensors", folder.temporary) &&
             sid2_path(ini, err, "%s/config.ini", folder.temporary) &&
             sid2_path(names, err, "%s/classes.json", folder.temporary) &&
             export_weights(m, ema, dtype, err) && sid2_config_save(config, ini, err) &&
             (!classes || sid2_classes_save(classes, names, err));
        if (ok)
            ok = sid2_atomic_directory_commit(&folder, false, err);
        else
            sid2_atomic_directory_discard(&folder);
    }
    sid2_classes_destroy(classes);
    sid2_config_destroy(config);
    return ok;
}

bool sid2_checkpoint_export(const char *directory, const char *to, sid2_dtype dtype, sid2_error *err)
{
    char path[4096];
    sid2_mixture m;
    if (!is_new(to, err) || !sid2_path(path, err, "%s/ema.safetensors", directory) ||
        !sid2_mixture_of(&m, path, err))
        return false;
    bool ok = sid2_mixture_export(&m, directory, to, dtype, err);
    sid2_mixture_close(&m);
    return ok;
}
