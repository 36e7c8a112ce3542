#include "averages.h"

#include "config.h"
#include "file.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Of which any other between 0.02 and 0.25 can be mixed. */
static const struct {
    const char *name;
    double length;
} tracked[] = {{"power_0.05", 0.05}, {"power_0.10", 0.10}};
enum { TRACKED = sizeof tracked / sizeof tracked[0] };

/* The largest root of p^3 + 7 p^2 + (16 - q) p + 12 - q, q = length^-2, by Newton's method from above it, where the cubic is
 * convex. */
double sid2_length_power(double length)
{
    double q = 1 / (length * length), p = sqrt(q);
    for (int i = 0; i < 100; i++) {
        double value = ((p + 7) * p + 16 - q) * p + 12 - q, next = p - value / ((3 * p + 14) * p + 16 - q);
        if (!(next < p)) break;
        p = next;
    }
    return p;
}

double sid2_power_decay(const sid2_average *average, uint64_t update)
{
    return pow(1 - 1 / (double)update, average->rate + 1);
}

void sid2_track_averages(sid2_state_rule *rule, const sid2_config *config)
{
    for (int i = 0; config->train_averages && i < TRACKED; i++)
        rule->averages[rule->average_count++] = (sid2_average){
            .name = tracked[i].name, .decay = sid2_power_decay, .rate = sid2_length_power(tracked[i].length)};
}

/* ---- Records ---- */

uint64_t sid2_record_stride(uint64_t step, int64_t most)
{
    uint64_t stride = 1;
    while (step / stride > (uint64_t)most) stride *= 2;
    return stride;
}

const char *sid2_record_name(uint64_t step, char name[64])
{
    snprintf(name, 64, "step-%08" PRIu64 ".safetensors", step);
    return name;
}

bool sid2_record_step(const char *name, uint64_t *step)
{
    char canonical[64];
    *step = strncmp(name, "step-", 5) == 0 ? strtoull(name + 5, NULL, 10) : 0;
    return *step && strcmp(name, sid2_record_name(*step, canonical)) == 0;
}

bool sid2_is_record(const char *name)
{
    uint64_t step;
    return sid2_record_step(name, &step);
}

bool sid2_record_holds(const char *path, uint64_t step)
{
    sid2_safetensors *file = sid2_safetensors_open(path, NULL);
    const char *own = file ? sid2_safetensors_metadata(file, "step") : NULL;
    bool ok = own && strtoull(own, NULL, 10) == step && sid2_safetensors_count(file) &&
              strncmp(sid2_safetensors_at(file, 0)->name, "power_", 6) == 0;
    sid2_safetensors_close(file);
    return ok;
}

/* To f16 where it lies, but for a tensor that has values too large for that: it stays f32. */
static sid2_dtype narrow(float *values, int64_t count)
{
    bool fits = true;
    for (int64_t i = 0; i < count; i++) fits = fits && isfinite(sid2_f16_to_f32(sid2_f32_to_f16(values[i])));
    for (int64_t i = 0; fits && i < count; i++) {
        uint16_t half = sid2_f32_to_f16(values[i]);
        memcpy((char *)values + 2 * i, &half, sizeof half);
    }
    return fits ? SID2_F16 : SID2_F32;
}

/* The tensors of one average; `flat` is used up. */
static bool add_items(const sid2_params *params, const char *prefix, float *flat,
                      sid2_safetensors_item *items, sid2_error *err)
{
    const sid2_param *broken = sid2_params_broken(params, flat);
    if (broken)
        return sid2_fail(err, SID2_ERR_DEVICE, "'%s' of the average %s is no longer finite", broken->name,
                         prefix);
    for (int32_t i = 0; i < params->count; i++) {
        const sid2_param *p = &params->item[i];
        size_t size = strlen(prefix) + strlen(p->name) + 2;
        char *name = malloc(size);
        if (!name) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory for a record of averages");
        snprintf(name, size, "%s.%s", prefix, p->name);
        float *values = flat + p->offset;
        items[i] =
            (sid2_safetensors_item){name, narrow(values, sid2_shape_count(p->shape)), p->shape, values};
    }
    return true;
}

static bool write_record(const sid2_trainer *t, const char *path, float *flat, sid2_error *err)
{
    const sid2_params *params = t->states[0].params;
    char steps[24], images[24];
    sid2_kind there;
    if (!sid2_look(path, &there, err)) return false;
    if (there != SID2_ABSENT && !sid2_record_holds(path, t->steps)) return true; /* somebody else's */
    snprintf(steps, sizeof steps, "%" PRIu64, t->steps);
    snprintf(images, sizeof images, "%" PRIu64, t->images);
    const char *const facts[] = {"step", steps, "images", images, NULL};
    int count = TRACKED * params->count;
    sid2_safetensors_item *items = calloc((size_t)count, sizeof *items);
    bool ok = items || sid2_fail(err, SID2_ERR_MEMORY, "%s: out of memory", path);
    for (int i = 0; ok && i < TRACKED; i++)
        ok = add_items(params, tracked[i].name, flat + i * params->elements, items + i * params->count, err);
    ok = ok && sid2_safetensors_write(path, items, count, facts, true, err);
    for (int i = 0; items && i < count; i++) free((char *)items[i].name);
    free(items);
    return ok;
}

bool sid2_record_save(const sid2_trainer *t, const char *path, sid2_error *err)
{
    const sid2_state *s = &t->states[0];
    size_t elements = (size_t)s->params->elements;
    float *flat = malloc(TRACKED * elements * sizeof *flat);
    bool ok = flat || sid2_fail(err, SID2_ERR_MEMORY, "%s: out of memory", path);
    ok = sid2_group_concur(t->group, ok, err) && flat;
    for (int i = 0; ok && i < TRACKED; i++)
        ok = sid2_state_gather(s, tracked[i].name, flat + (size_t)i * elements, err);
    ok = ok &&
         sid2_group_concur(t->group, sid2_group_rank(t->group) != 0 || write_record(t, path, flat, err), err);
    free(flat);
    return ok;
}

/* ---- Mixtures ---- */

void sid2_mixture_close(sid2_mixture *m)
{
    for (int i = 0; i < m->file_count; i++) sid2_safetensors_close(m->files[i]);
    free(m->files);
    free(m->item);
    *m = (sid2_mixture){0};
}

static bool reserve(sid2_mixture *m, size_t files, sid2_error *err)
{
    m->files = calloc(files, sizeof(sid2_safetensors *));
    m->item = calloc(files * TRACKED, sizeof *m->item);
    return (m->files && m->item) || sid2_fail(err, SID2_ERR_MEMORY, "out of memory for averages");
}

/* What an average in that file covers. */
static bool read_time(const sid2_safetensors *file, const char *path, double *time, sid2_error *err)
{
    const char *text = sid2_safetensors_metadata(file, "step");
    *time = text ? (double)strtoull(text, NULL, 10) : 0;
    return *time > 0 || sid2_fail(err, SID2_ERR_FORMAT, "%s: it does not say of which step it is", path);
}

/* Takes averages first .. first + count - 1 from a file. */
static bool add_file(sid2_mixture *m, const char *path, const char *separator, int first, int count,
                     sid2_error *err)
{
    sid2_safetensors *file = sid2_safetensors_open(path, err);
    double time;
    if (!file) return false;
    m->files[m->file_count++] = file;
    if (!read_time(file, path, &time, err)) return false;
    for (int i = first; i < first + count; i++) {
        sid2_ingredient *item = &m->item[m->count++];
        *item = (sid2_ingredient){.file = file, .time = time, .power = sid2_length_power(tracked[i].length)};
        if (separator) snprintf(item->prefix, sizeof item->prefix, "%s%s", tracked[i].name, separator);
    }
    return true;
}

/* RUN/averages of RUN/checkpoints/step-N, by whatever name that is reached; "" where it lies in no run. */
static bool find_records(const char *checkpoint, char folder[4096], sid2_error *err)
{
    char *whole = realpath(checkpoint, NULL);
    folder[0] = 0;
    if (!whole) return sid2_fail(err, SID2_ERR_IO, "%s: it cannot be found", checkpoint);
    char *slash = strrchr(whole, '/');
    *slash = 0;
    char *parent = strrchr(whole, '/');
    bool within = parent && strcmp(parent, "/checkpoints") == 0, ok = true;
    if (within) {
        *parent = 0;
        ok = sid2_path(folder, err, "%s/averages", whole);
    }
    free(whole);
    return ok;
}

static bool is_gone(const char *path)
{
    sid2_kind kind;
    return sid2_look(path, &kind, NULL) && kind == SID2_ABSENT;
}

/* One that is gone by now was of those that a longer training does without. */
static bool add_records(sid2_mixture *m, const char *folder, const sid2_list *names, sid2_error *err)
{
    char path[4096];
    uint64_t step;
    bool ok = true;
    for (size_t i = 0; ok && i < names->count; i++)
        if (sid2_record_step(names->name[i], &step) && (double)step < m->time)
            ok = sid2_path(path, err, "%s/%s", folder, names->name[i]) &&
                 (add_file(m, path, ".", 0, TRACKED, err) || is_gone(path));
    return ok;
}

bool sid2_mixture_open(sid2_mixture *m, const char *checkpoint, sid2_error *err)
{
    char path[4096], folder[4096];
    sid2_kind kind;
    sid2_list names = {0};
    *m = (sid2_mixture){0};
    if (!sid2_path(path, err, "%s/%s.safetensors", checkpoint, tracked[0].name) ||
        !sid2_look(path, &kind, err) || !find_records(checkpoint, folder, err))
        return false;
    if (kind == SID2_ABSENT)
        return sid2_fail(
            err, SID2_ERR_USAGE,
            "%s: trained without train.averages, so it has one average, and no other can be made",
            checkpoint);
    bool ok = !folder[0] || sid2_list_folder(&names, folder, sid2_is_record, err);
    ok = ok && reserve(m, names.count + TRACKED, err);
    for (int i = 0; ok && i < TRACKED; i++)
        ok = sid2_path(path, err, "%s/%s.safetensors", checkpoint, tracked[i].name) &&
             add_file(m, path, NULL, i, 1, err);
    if (ok) m->time = m->item[0].time;
    ok = ok && add_records(m, folder, &names, err);
    sid2_list_free(&names);
    if (!ok) sid2_mixture_close(m);
    return ok;
}

bool sid2_mixture_of(sid2_mixture *m, const char *path, sid2_error *err)
{
    *m = (sid2_mixture){0};
    bool ok = reserve(m, 1, err) && (m->files[0] = sid2_safetensors_open(path, err));
    if (ok) {
        m->file_count = m->count = 1;
        m->item[0] = (sid2_ingredient){.file = m->files[0], .share = 1};
    }
    if (!ok) sid2_mixture_close(m);
    return ok;
}
