#include "params.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "safetensors.h"

/* The same in the compute type, of 16 bits. */
static void narrow(sid2_dtype type, const float *from, uint16_t *to, int64_t count)
{
    for (int64_t i = 0; type == SID2_BF16 && i < count; i++) to[i] = sid2_f32_to_bf16(from[i]);
    for (int64_t i = 0; type != SID2_BF16 && i < count; i++) to[i] = sid2_f32_to_f16(from[i]);
}

static void widen(sid2_dtype type, const uint16_t *from, float *to, int64_t count)
{
    for (int64_t i = 0; type == SID2_BF16 && i < count; i++) to[i] = sid2_bf16_to_f32(from[i]);
    for (int64_t i = 0; type != SID2_BF16 && i < count; i++) to[i] = sid2_f16_to_f32(from[i]);
}

/* Bytes of a parameter that is read apart; 0: it is not. */
static size_t apart(const sid2_params *params, const sid2_param *param)
{
    bool is = params->vectors != params->read && !param->matrix;
    return is ? (size_t)sid2_shape_count(param->shape) * sizeof(float) : 0;
}

static bool is_empty(const sid2_graph *g, sid2_tensor flat)
{
    return sid2_shape_count(g->tensors[flat].shape) == 0;
}

bool sid2_params_upload(sid2_buffers *buffers, const sid2_graph *graph, const sid2_params *params,
                        const float *flat, sid2_error *err)
{
    const char *read = graph->tensors[params->read].name, *vectors = graph->tensors[params->vectors].name;
    if (params->vectors == params->read) return sid2_buffers_upload(buffers, read, flat, err);
    uint16_t *low = malloc((size_t)params->elements * sizeof *low + 1);
    float *close = calloc((size_t)params->vector_elements + 1, sizeof *close);
    bool ok = (low && close) || sid2_fail(err, SID2_ERR_MEMORY, "out of memory for the weights");
    if (ok) narrow(graph->compute, flat, low, params->elements);
    for (int32_t i = 0; ok && i < params->count; i++) {
        const sid2_param *p = &params->item[i];
        if (apart(params, p)) memcpy(close + p->place, flat + p->offset, apart(params, p));
    }
    ok = ok && sid2_buffers_upload(buffers, read, low, err) &&
         (is_empty(graph, params->vectors) || sid2_buffers_upload(buffers, vectors, close, err));
    free(low);
    free(close);
    return ok;
}

bool sid2_params_download(const sid2_buffers *buffers, const sid2_graph *graph, const sid2_params *params,
                          float *flat, sid2_error *err)
{
    const char *read = graph->tensors[params->read].name, *vectors = graph->tensors[params->vectors].name;
    if (params->vectors == params->read) return sid2_buffers_download(buffers, read, flat, err);
    uint16_t *low = malloc((size_t)params->elements * sizeof *low + 1);
    float *close = calloc((size_t)params->vector_elements + 1, sizeof *close);
    bool ok = (low && close) || sid2_fail(err, SID2_ERR_MEMORY, "out of memory for the weights");
    ok = ok && sid2_buffers_download(buffers, read, low, err) &&
         (is_empty(graph, params->vectors) || sid2_buffers_download(buffers, vectors, close, err));
    if (ok) widen(graph->compute, low, flat, params->elements);
    for (int32_t i = 0; ok && i < params->count; i++) {
        const sid2_param *p = &params->item[i];
        if (apart(params, p)) memcpy(flat + p->offset, close + p->place, apart(params, p));
    }
    free(low);
    free(close);
    return ok;
}

const sid2_param *sid2_params_broken(const sid2_params *params, const float *flat)
{
    for (int32_t p = 0; p < params->count; p++) {
        const sid2_param *param = &params->item[p];
        for (int64_t i = 0, n = sid2_shape_count(param->shape); i < n; i++)
            if (!isfinite(flat[param->offset + i])) return param;
    }
    return NULL;
}

/* ---- Files ---- */

static void full_name(char name[128], const sid2_params_part *part, const sid2_param *param)
{
    snprintf(name, 128, "%s%s", part->prefix, param->name);
}

bool sid2_params_save(sid2_group *group, int writers, const char *path, const sid2_params *params,
                      const sid2_params_part *parts, int count, const char *const *facts, sid2_error *err)
{
    size_t total = (size_t)count * (size_t)params->count;
    sid2_safetensors_item *items = calloc(total, sizeof *items);
    char(*names)[128] = calloc(total, sizeof *names);
    bool ok = (items && names) || sid2_fail(err, SID2_ERR_MEMORY, "%s: out of memory", path);
    ok = sid2_group_concur(group, ok, err) && items && names;
    for (size_t i = 0; ok && i < total; i++) {
        const sid2_params_part *part = &parts[i / (size_t)params->count];
        const sid2_param *param = &params->item[i % (size_t)params->count];
        full_name(names[i], part, param);
        items[i] = (sid2_safetensors_item){names[i], SID2_F32, param->shape, part->flat + param->offset};
    }
    ok = ok && sid2_safetensors_write_together(group, writers, path, items, (int)total, facts, err);
    free(items);
    free(names);
    return ok;
}

static bool shape_matches(const sid2_safetensors_entry *entry, sid2_shape shape)
{
    return entry->shape.rank >= 0 && sid2_shape_equal(entry->shape, shape);
}

/* Into `out`, or only to see whether it can be read. Entries of 16 bits are widened. */
static bool read_entry(const sid2_safetensors *file, const sid2_safetensors_entry *entry, float *out,
                       const char *path, sid2_error *err)
{
    int64_t count = sid2_shape_count(entry->shape);
    bool wide = entry->dtype == SID2_F32;
    float *aside = out ? NULL : malloc((size_t)count * sizeof *aside + 1);
    uint16_t *low = wide ? NULL : malloc(entry->bytes + 1);
    float *values = out ? out : aside;
    bool ok = (values && (wide || low)) || sid2_fail(err, SID2_ERR_MEMORY, "%s: out of memory", path);
    ok = ok && sid2_safetensors_read(file, entry, wide ? (void *)values : low, err);
    if (ok && !wide) widen(entry->dtype, low, values, count);
    for (int64_t i = 0; ok && i < count; i++)
        if (!isfinite(values[i]))
            ok = sid2_fail(err, SID2_ERR_FORMAT, "%s: tensor '%s' holds a value that is not finite", path,
                           entry->name);
    free(low);
    free(aside);
    return ok;
}

static bool is_wanted(const sid2_params_part *part, const sid2_param *param)
{
    int64_t end = param->offset + sid2_shape_count(param->shape);
    bool wanted = !part->wanted;
    for (int i = 0; i < part->wanted_count && !wanted; i++) {
        const sid2_span *span = &part->wanted[i];
        wanted = param->offset < span->first + span->count && span->first < end;
    }
    return wanted;
}

/* One parameter. *found counts the file's tensors that have a place. */
static bool load_param(const sid2_safetensors *file, const char *path, const sid2_params_part *part,
                       const sid2_param *param, bool may_differ, int *found, sid2_error *err)
{
    char name[128], has[64], wants[64];
    full_name(name, part, param);
    const sid2_safetensors_entry *entry = sid2_safetensors_find(file, name);
    *found += entry != NULL;
    if (!entry || !shape_matches(entry, param->shape)) {
        if (may_differ) return true;
        if (!entry)
            return sid2_fail(err, SID2_ERR_FORMAT, "%s: no tensor '%s', which the model has", path, name);
        return sid2_fail(err, SID2_ERR_FORMAT, "%s: tensor '%s' is %s, but the model's is %s", path, name,
                         entry->shape.rank < 0 ? "of too many dimensions"
                                               : sid2_shape_text(entry->shape, has),
                         sid2_shape_text(param->shape, wants));
    }
    if (entry->dtype != SID2_F32 && entry->dtype != SID2_BF16 && entry->dtype != SID2_F16)
        return sid2_fail(err, SID2_ERR_FORMAT, "%s: tensor '%s' is %s; expected F32, BF16 or F16", path, name,
                         entry->type_name);
    if (!is_wanted(part, param)) return true;
    return read_entry(file, entry, part->flat ? part->flat + param->offset : NULL, path, err);
}

/* A fact that the file does not know is none that differs: it may be older, or somebody else's. */
bool sid2_params_check_facts(const sid2_safetensors *file, const char *path, const char *const *facts,
                             sid2_error *err)
{
    for (; facts && *facts; facts += 2) {
        const char *value = sid2_safetensors_metadata(file, facts[0]);
        if (value && strcmp(value, facts[1]))
            return sid2_fail(err, SID2_ERR_FORMAT, "%s: it says %s %.40s, but state.json %s", path, facts[0],
                             value, facts[1]);
    }
    return true;
}

static bool has_place(const sid2_params *params, const sid2_params_part *parts, int count, const char *name)
{
    char known[128];
    for (int part = 0; part < count; part++) {
        for (int32_t p = 0; p < params->count; p++) {
            full_name(known, &parts[part], &params->item[p]);
            if (strcmp(known, name) == 0) return true;
        }
    }
    return false;
}

bool sid2_params_load(const char *path, const sid2_params *params, const sid2_params_part *parts, int count,
                      const char *const *facts, bool (*may_differ)(const char *name), sid2_error *err)
{
    sid2_safetensors *file = sid2_safetensors_open(path, err);
    if (!file) return false;
    bool ok = sid2_params_check_facts(file, path, facts, err);
    int found = 0;
    for (int part = 0; ok && part < count; part++) {
        for (int32_t p = 0; ok && p < params->count; p++) {
            const sid2_param *param = &params->item[p];
            ok = load_param(file, path, &parts[part], param, may_differ && may_differ(param->name), &found,
                            err);
        }
    }
    for (int i = 0; ok && found < sid2_safetensors_count(file) && i < sid2_safetensors_count(file); i++) {
        const char *name = sid2_safetensors_at(file, i)->name;
        if (!has_place(params, parts, count, name))
            ok = sid2_fail(err, SID2_ERR_FORMAT, "%s: tensor '%.80s' has no place in the model", path, name);
    }
    sid2_safetensors_close(file);
    return ok;
}

bool sid2_params_read(const char *path, sid2_buffers *buffers, const sid2_graph *graph,
                      const sid2_params *params, sid2_error *err)
{
    float *flat = calloc((size_t)params->elements, sizeof *flat);
    if (!flat) return sid2_fail(err, SID2_ERR_MEMORY, "%s: out of memory for the weights", path);
    bool ok =
        sid2_params_load(path, params, &(sid2_params_part){.prefix = "", .flat = flat}, 1, NULL, NULL, err) &&
        sid2_params_upload(buffers, graph, params, flat, err);
    free(flat);
    return ok;
}
