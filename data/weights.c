#include "weights.h"

#include "files.h"
#include "pickle.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MOST_DEPTH = 32, MOST_VISITS = 1 << 20, MOST_NAME = 256 };
static const size_t most_bytes = (size_t)4 << 30;

/* A storage of the form before zips: how many elements, and where in the file. */
typedef struct storage {
    const char *key;
    size_t length, at;
    int64_t count;
} storage;

struct sid2_weights {
    char *path;
    sid2_files *files; /* of a zip; else NULL */
    char prefix[MOST_NAME];
    uint8_t *bytes; /* of the pickle, or of all */
    size_t size;
    sid2_pickle pickle;
    sid2_weight *weight;
    int64_t count, room;
    storage *storages;
    int64_t storage_count;
};

static bool damaged(const sid2_weights *w, sid2_error *err, const char *what)
{
    return sid2_fail(err, SID2_ERR_FORMAT, "%s: %s", w->path, what);
}

static bool no_memory(const sid2_weights *w, sid2_error *err)
{
    return sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory", w->path);
}

/* ---- Tensors among the values ---- */

static bool take_shape(const sid2_pickle *p, const sid2_pickle_value *list, sid2_shape *shape)
{
    if (!list || list->kind != SID2_PICKLE_LIST || list->count > SID2_MAX_RANK) return false;
    int64_t count = 1;
    shape->rank = list->count;
    for (int i = 0; i < list->count; i++) {
        const sid2_pickle_value *extent = sid2_pickle_item(p, list, i);
        if (extent->kind != SID2_PICKLE_INT || extent->integer < 1 || extent->integer > (1 << 28))
            return false;
        shape->dim[i] = extent->integer;
        count *= extent->integer;
        if (count > (1 << 28)) return false;
    }
    return true;
}

/* Whether the steps of a tensor are those of rows that follow each other. */
static bool is_plain(const sid2_pickle *p, const sid2_pickle_value *steps, sid2_shape shape)
{
    int64_t step = 1;
    if (!steps || steps->kind != SID2_PICKLE_LIST || steps->count != shape.rank) return false;
    for (int i = shape.rank - 1; i >= 0; i--) {
        const sid2_pickle_value *s = sid2_pickle_item(p, steps, i);
        if (s->kind != SID2_PICKLE_INT || (s->integer != step && shape.dim[i] > 1)) return false;
        step *= shape.dim[i];
    }
    return true;
}

static sid2_dtype type_of_storage(const sid2_pickle_value *name)
{
    static const struct {
        const char *name;
        sid2_dtype dtype;
    } all[] = {{"torch FloatStorage", SID2_F32},
               {"torch HalfStorage", SID2_F16},
               {"torch BFloat16Storage", SID2_BF16},
               {"torch DoubleStorage", SID2_F64}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (sid2_pickle_is(name, all[i].name)) return all[i].dtype;
    return SID2_DTYPE_COUNT;
}

/* _rebuild_tensor_v2(("storage", type, key, place, count), offset, shape, steps, ...). False: something else, or of a type
 * that is left out. */
static bool take_torch(const sid2_pickle *p, const sid2_pickle_value *arguments, sid2_weight *w)
{
    const sid2_pickle_value *stored = sid2_pickle_item(p, arguments, 0);
    if (!stored || stored->kind != SID2_PICKLE_STORED) return false;
    const sid2_pickle_value *id = sid2_pickle_item(p, stored, 0);
    if (!id || id->kind != SID2_PICKLE_LIST || !sid2_pickle_is(sid2_pickle_item(p, id, 0), "storage"))
        return false;
    const sid2_pickle_value *key = sid2_pickle_item(p, id, 2), *offset = sid2_pickle_item(p, arguments, 1);
    w->dtype = type_of_storage(sid2_pickle_item(p, id, 1));
    if (w->dtype == SID2_DTYPE_COUNT || !key || key->kind != SID2_PICKLE_TEXT || !offset ||
        offset->kind != SID2_PICKLE_INT || offset->integer < 0 || offset->integer > INT32_MAX)
        return false;
    w->storage = key->text;
    w->storage_length = key->length;
    w->offset = offset->integer;
    return take_shape(p, sid2_pickle_item(p, arguments, 2), &w->shape) &&
           is_plain(p, sid2_pickle_item(p, arguments, 3), w->shape);
}

/* What numpy's _reconstruct is given then: (version, shape, dtype("f4"), is_fortran, bytes). */
static bool take_numpy(const sid2_pickle *p, const sid2_pickle_value *call, sid2_weight *w)
{
    const sid2_pickle_value *state = call->state < 0 ? NULL : &p->value[call->state];
    if (!state || state->kind != SID2_PICKLE_LIST || !take_shape(p, sid2_pickle_item(p, state, 1), &w->shape))
        return false;
    const sid2_pickle_value *type = sid2_pickle_item(p, state, 2), *order = sid2_pickle_item(p, state, 3),
                            *bytes = sid2_pickle_item(p, state, 4);
    if (!type || type->kind != SID2_PICKLE_CALL ||
        !sid2_pickle_is(sid2_pickle_item(p, type, 0), "numpy dtype") ||
        !sid2_pickle_is(sid2_pickle_item(p, sid2_pickle_item(p, type, 1), 0), "f4"))
        return false;
    const sid2_pickle_value *end = type->state < 0 ? NULL : sid2_pickle_item(p, &p->value[type->state], 1);
    if (!sid2_pickle_is(end, "<") || !order || order->kind != SID2_PICKLE_BOOL || order->integer || !bytes ||
        bytes->kind != SID2_PICKLE_BYTES || bytes->length != (size_t)sid2_shape_count(w->shape) * 4)
        return false;
    w->dtype = SID2_F32;
    w->bytes = bytes->text;
    return true;
}

static bool add(sid2_weights *w, sid2_weight weight, const char *name, sid2_error *err)
{
    if (w->count == w->room) {
        int64_t room = w->room ? 2 * w->room : 64;
        sid2_weight *larger = realloc(w->weight, (size_t)room * sizeof *larger);
        if (!larger) return no_memory(w, err);
        w->weight = larger;
        w->room = room;
    }
    weight.name = strdup(name);
    if (!weight.name) return no_memory(w, err);
    w->weight[w->count++] = weight;
    return true;
}

/* Everything below a value; `name` has what leads to it. Values may be met several times, so there is a limit. */
typedef struct walk {
    sid2_weights *w;
    char name[MOST_NAME];
    int depth, visits;
    sid2_error *err;
} walk;

static bool visit(walk *k, const sid2_pickle_value *value);

static bool visit_pairs(walk *k, const sid2_pickle_value *pairs, int32_t first)
{
    const sid2_pickle *p = &k->w->pickle;
    size_t length = strlen(k->name);
    for (int32_t i = first; i + 1 < pairs->count; i += 2) {
        const sid2_pickle_value *key = sid2_pickle_item(p, pairs, i);
        if (key->kind != SID2_PICKLE_TEXT || length + key->length + 2 > MOST_NAME) continue;
        snprintf(k->name + length, MOST_NAME - length, "%s%.*s", length ? "." : "", (int)key->length,
                 key->text);
        if (!visit(k, sid2_pickle_item(p, pairs, i + 1))) return false;
        k->name[length] = 0;
    }
    return true;
}

static bool visit_call(walk *k, const sid2_pickle_value *call)
{
    const sid2_pickle *p = &k->w->pickle;
    const sid2_pickle_value *what = sid2_pickle_item(p, call, 0), *arguments = sid2_pickle_item(p, call, 1);
    sid2_weight w = {0};
    if (sid2_pickle_is(what, "torch._utils _rebuild_tensor_v2"))
        return !take_torch(p, arguments, &w) || add(k->w, w, k->name, k->err);
    if (sid2_pickle_is(what, "torch._utils _rebuild_parameter")) {
        const sid2_pickle_value *tensor = sid2_pickle_item(p, arguments, 0);
        return !tensor || visit(k, tensor);
    }
    if (what->length > 13 && memcmp(what->text + what->length - 13, " _reconstruct", 13) == 0)
        return !take_numpy(p, call, &w) || add(k->w, w, k->name, k->err);
    if (call->state >= 0 && strncmp(what->text, "__torch__", 9) == 0) return visit(k, &p->value[call->state]);
    return visit_pairs(k, call, 2);
}

static bool visit(walk *k, const sid2_pickle_value *value)
{
    if (k->depth == MOST_DEPTH || k->visits == MOST_VISITS)
        return damaged(k->w, k->err, "names within names without end");
    k->depth++;
    k->visits++;
    bool ok = true;
    if (value->kind == SID2_PICKLE_DICT) ok = visit_pairs(k, value, 0);
    if (value->kind == SID2_PICKLE_CALL) ok = visit_call(k, value);
    k->depth--;
    return ok;
}

/* ---- Files ---- */

static bool open_zip(sid2_weights *w, sid2_error *err)
{
    static const char last[] = "data.pkl";
    w->files = sid2_files_open(w->path, NULL, err);
    if (!w->files) return false;
    for (int64_t i = 0; i < w->files->count; i++) {
        const sid2_entry *e = &w->files->entry[i];
        size_t length = strlen(e->name), before = length - (sizeof last - 1);
        if (length < sizeof last - 1 || before >= MOST_NAME || strcmp(e->name + before, last) != 0) continue;
        memcpy(w->prefix, e->name, before);
        w->bytes = w->files->read(w->files, e, most_bytes, &w->size, err);
        return w->bytes && sid2_pickle_read(&w->pickle, w->bytes, w->size, w->path, err);
    }
    return damaged(w, err, "a zip without data.pkl: no weights of PyTorch's");
}

/* The form before zips: a mark, a version and the writer's machine, each a pickle; the pickle itself; a pickle of the
 * storages' keys; then of each the number of its elements, and these. */
static bool is_old_form(const sid2_pickle *p)
{
    static const char mark[] = "\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19";
    const sid2_pickle_value *root = &p->value[p->root];
    return root->kind == SID2_PICKLE_BYTES && root->length == 10 && memcmp(root->text, mark, 10) == 0;
}

static size_t size_of_storage(const sid2_weights *w, const sid2_pickle_value *key)
{
    for (int32_t i = 0; i < w->pickle.count; i++) {
        const sid2_pickle_value *v = &w->pickle.value[i];
        const sid2_pickle_value *id =
            v->kind == SID2_PICKLE_STORED ? sid2_pickle_item(&w->pickle, v, 0) : NULL;
        const sid2_pickle_value *its = sid2_pickle_item(&w->pickle, id, 2),
                                *type = sid2_pickle_item(&w->pickle, id, 1);
        if (!its || its->kind != SID2_PICKLE_TEXT || its->length != key->length ||
            memcmp(its->text, key->text, key->length) != 0)
            continue;
        sid2_dtype dtype = type_of_storage(type);
        if (dtype != SID2_DTYPE_COUNT) return sid2_dtype_size(dtype);
        return sid2_pickle_is(type, "torch LongStorage")  ? 8
               : sid2_pickle_is(type, "torch IntStorage") ? 4
                                                          : 1;
    }
    return 0;
}

static bool find_storages(sid2_weights *w, size_t at, sid2_error *err)
{
    sid2_pickle keys;
    if (!sid2_pickle_read(&keys, w->bytes + at, w->size - at, w->path, err)) return false;
    const sid2_pickle_value *root = &keys.value[keys.root];
    bool ok = root->kind == SID2_PICKLE_LIST || damaged(w, err, "without a list of what follows");
    w->storages = ok ? calloc((size_t)root->count + 1, sizeof *w->storages) : NULL;
    if (ok && !w->storages) ok = no_memory(w, err);
    at += keys.used;
    for (int32_t i = 0; ok && i < root->count; i++) {
        const sid2_pickle_value *key = sid2_pickle_item(&keys, root, i);
        size_t each = key->kind == SID2_PICKLE_TEXT ? size_of_storage(w, key) : 0;
        uint64_t count = 0;
        if (!each || w->size - at < 8) {
            ok = damaged(w, err, "cut short or damaged");
            break;
        }
        for (int k = 7; k >= 0; k--) count = count << 8 | w->bytes[at + (size_t)k];
        at += 8;
        if (count > (w->size - at) / each) {
            ok = damaged(w, err, "cut short or damaged");
            break;
        }
        w->storages[w->storage_count++] = (storage){key->text, key->length, at, (int64_t)count};
        at += (size_t)count * each;
    }
    sid2_pickle_free(&keys);
    return ok;
}

static bool open_pickle(sid2_weights *w, sid2_error *err)
{
    size_t at = 0;
    w->bytes = sid2_file_read(w->path, most_bytes, &w->size, err);
    if (!w->bytes) return false;
    if (!w->size || w->bytes[0] != 0x80)
        return damaged(w, err, "neither PyTorch's weights nor a pickle of arrays");
    if (!sid2_pickle_read(&w->pickle, w->bytes, w->size, w->path, err)) return false;
    if (!is_old_form(&w->pickle)) return true;
    for (int i = 0; i < 3; i++) {
        at += w->pickle.used;
        sid2_pickle_free(&w->pickle);
        if (!sid2_pickle_read(&w->pickle, w->bytes + at, w->size - at, w->path, err)) return false;
    }
    return find_storages(w, at + w->pickle.used, err);
}

sid2_weights *sid2_weights_open(const char *path, sid2_error *err)
{
    sid2_weights *w = calloc(1, sizeof *w);
    if (w) w->path = strdup(path);
    if (!w || !w->path) {
        free(w);
        return sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory", path), NULL;
    }
    size_t size;
    uint8_t start[4] = {0};
    int descriptor = sid2_file_open(path, 0, &size, err);
    bool ok = descriptor >= 0;
    if (ok && size >= sizeof start) ok = sid2_file_fill(descriptor, start, sizeof start, 0, path, err);
    if (descriptor >= 0) close(descriptor);
    ok = ok && (memcmp(start, "PK\3\4", 4) == 0 ? open_zip(w, err) : open_pickle(w, err));
    walk k = {.w = w, .err = err};
    ok = ok && visit(&k, &w->pickle.value[w->pickle.root]);
    if (ok && !w->count) ok = damaged(w, err, "holds no tensors of f32, f16, bf16 or f64");
    if (ok) return w;
    sid2_weights_close(w);
    return NULL;
}

void sid2_weights_close(sid2_weights *w)
{
    if (!w) return;
    for (int64_t i = 0; i < w->count; i++) free(w->weight[i].name);
    free(w->weight);
    free(w->storages);
    sid2_pickle_free(&w->pickle);
    free(w->bytes);
    sid2_files_close(w->files);
    free(w->path);
    free(w);
}

int64_t sid2_weights_count(const sid2_weights *w) { return w->count; }
const sid2_weight *sid2_weights_at(const sid2_weights *w, int64_t i) { return &w->weight[i]; }

const sid2_weight *sid2_weights_find(const sid2_weights *w, const char *name)
{
    for (int64_t i = 0; i < w->count; i++)
        if (strcmp(w->weight[i].name, name) == 0) return &w->weight[i];
    return NULL;
}

/* ---- Elements ---- */

static void widen(const sid2_weight *weight, const uint8_t *from, float *to, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        uint16_t half;
        double wide;
        switch (weight->dtype) {
        case SID2_F32: memcpy(&to[i], from + 4 * i, 4); break;
        case SID2_F64:
            memcpy(&wide, from + 8 * i, 8);
            to[i] = (float)wide;
            break;
        default:
            memcpy(&half, from + 2 * i, 2);
            to[i] = weight->dtype == SID2_F16 ? sid2_f16_to_f32(half) : sid2_bf16_to_f32(half);
        }
    }
}

/* The bytes of a tensor's storage: within `bytes`, or (*own) the caller's to free. */
static const uint8_t *storage_of(const sid2_weights *w, const sid2_weight *weight, size_t *size,
                                 uint8_t **own, sid2_error *err)
{
    char name[2 * MOST_NAME];
    *own = NULL;
    for (int64_t i = 0; i < w->storage_count; i++) {
        const storage *s = &w->storages[i];
        if (s->length != weight->storage_length || memcmp(s->key, weight->storage, s->length) != 0) continue;
        *size = (size_t)s->count * sid2_dtype_size(weight->dtype);
        return *size <= w->size - s->at ? w->bytes + s->at : NULL;
    }
    if (!w->files || weight->storage_length > MOST_NAME - 8) return NULL;
    snprintf(name, sizeof name, "%sdata/%.*s", w->prefix, (int)weight->storage_length, weight->storage);
    const sid2_entry *entry = sid2_files_find(w->files, name, 0);
    return entry ? *own = w->files->read(w->files, entry, most_bytes, size, err) : NULL;
}

float *sid2_weights_read(const sid2_weights *w, const sid2_weight *weight, sid2_error *err)
{
    int64_t count = sid2_shape_count(weight->shape);
    size_t each = sid2_dtype_size(weight->dtype), size = (size_t)count * each;
    uint8_t *own = NULL;
    const uint8_t *from = weight->bytes;
    sid2_error cause = {0};
    if (!from) from = storage_of(w, weight, &size, &own, &cause);
    if (!from || (size_t)weight->offset > size / each ||
        size / each - (size_t)weight->offset < (size_t)count) {
        if (cause.code)
            sid2_fail(err, cause.code, "%s: %s", w->path, cause.message);
        else
            sid2_fail(err, SID2_ERR_FORMAT, "%s: %s: its elements are not there", w->path, weight->name);
        free(own);
        return NULL;
    }
    float *to = malloc((size_t)count * sizeof *to);
    if (to)
        widen(weight, from + (size_t)weight->offset * each, to, count);
    else
        no_memory(w, err);
    free(own);
    return to;
}
