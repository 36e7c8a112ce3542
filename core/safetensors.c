#include "safetensors_inside.h"

#include "digest.h"
#include "file.h"
#include "json.h"

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { HEADER_LIMIT = 100000000 }; /* bytes; the format's own limit */

struct sid2_safetensors {
    char *path;
    int descriptor;
    uint64_t data, data_bytes; /* where the tensors lie */
    json_t *header;            /* owns the names */
    sid2_safetensors_entry *entries;
    int count;
    bool has_digests;
};

/* Every type of the format, in the order in which the official package lays tensors out. */
static const struct {
    const char *name;
    size_t bits;
    sid2_dtype dtype;
} types[] = {
    {"U64", 64, SID2_DTYPE_COUNT},
    {"I64", 64, SID2_DTYPE_COUNT},
    {"F64", 64, SID2_F64},
    {"C64", 64, SID2_DTYPE_COUNT},
    {"F32", 32, SID2_F32},
    {"U32", 32, SID2_U32},
    {"I32", 32, SID2_I32},
    {"BF16", 16, SID2_BF16},
    {"F16", 16, SID2_F16},
    {"U16", 16, SID2_DTYPE_COUNT},
    {"I16", 16, SID2_DTYPE_COUNT},
    {"F8_E5M2FNUZ", 8, SID2_DTYPE_COUNT},
    {"F8_E4M3FNUZ", 8, SID2_DTYPE_COUNT},
    {"F8_E8M0", 8, SID2_DTYPE_COUNT},
    {"F8_E4M3", 8, SID2_DTYPE_COUNT},
    {"F8_E5M2", 8, SID2_DTYPE_COUNT},
    {"I8", 8, SID2_DTYPE_COUNT},
    {"U8", 8, SID2_U8},
    {"F6_E3M2", 6, SID2_DTYPE_COUNT},
    {"F6_E2M3", 6, SID2_DTYPE_COUNT},
    {"F4", 4, SID2_DTYPE_COUNT},
    {"BOOL", 8, SID2_DTYPE_COUNT},
};
enum { TYPE_COUNT = sizeof types / sizeof *types };

static int type_of_name(const char *name)
{
    for (int i = 0; i < TYPE_COUNT; i++)
        if (name && !strcmp(types[i].name, name)) return i;
    return -1;
}

int sid2_safetensors_type(sid2_dtype dtype, const char **name)
{
    for (int i = 0; i < TYPE_COUNT; i++) {
        if (types[i].dtype != dtype) continue;
        *name = types[i].name;
        return i;
    }
    return -1;
}

/* ---- Reading ---- */

static bool non_negative(const json_t *value, uint64_t *number)
{
    if (!json_is_integer(value) || json_integer_value(value) < 0) return false;
    *number = (uint64_t)json_integer_value(value);
    return true;
}

/* One tensor's description; `length` is the size of the data section. */
static bool parse_entry(const char *path, const char *name, json_t *value, uint64_t length,
                        sid2_safetensors_entry *entry, sid2_error *err)
{
#define REFUSE(...) return sid2_fail(err, SID2_ERR_FORMAT, "%s: tensor '%.100s' " __VA_ARGS__)
    if (!json_is_object(value)) REFUSE("has no description", path, name);
    const char *key;
    json_t *ignored;
    json_object_foreach(value, key, ignored)
    {
        if (strcmp(key, "dtype") && strcmp(key, "shape") && strcmp(key, "data_offsets"))
            REFUSE("has an unknown field '%.40s'", path, name, key);
    }
    const char *type_name = json_string_value(json_object_get(value, "dtype"));
    int type = type_of_name(type_name);
    if (type < 0) REFUSE("has an unknown type '%.40s'", path, name, type_name ? type_name : "");
    json_t *shape = json_object_get(value, "shape"), *offsets = json_object_get(value, "data_offsets");
    if (!json_is_array(shape)) REFUSE("has no shape", path, name);
    uint64_t begin, end, count = 1;
    if (!json_is_array(offsets) || json_array_size(offsets) != 2 ||
        !non_negative(json_array_get(offsets, 0), &begin) || !non_negative(json_array_get(offsets, 1), &end))
        REFUSE("has no pair of data_offsets", path, name);

    size_t rank = json_array_size(shape);
    entry->shape = (sid2_shape){.rank = rank <= SID2_MAX_RANK ? (int)rank : -1};
    for (size_t i = 0; i < rank; i++) {
        uint64_t extent;
        if (!non_negative(json_array_get(shape, i), &extent))
            REFUSE("has an extent that is no natural number", path, name);
        if (__builtin_mul_overflow(count, extent, &count)) REFUSE("has a shape that overflows", path, name);
        if (entry->shape.rank >= 0) entry->shape.dim[i] = (int64_t)extent;
    }
    uint64_t bits;
    if (__builtin_mul_overflow(count, types[type].bits, &bits))
        REFUSE("has a shape that overflows", path, name);
    if (begin > end || end > length) REFUSE("lies outside the file (truncated?)", path, name);
    if (bits % 8 || end - begin != bits / 8) REFUSE("has a shape that does not fit its bytes", path, name);
#undef REFUSE
    entry->name = name;
    entry->type_name = types[type].name;
    entry->dtype = types[type].dtype;
    entry->begin = begin;
    entry->bytes = end - begin;
    return true;
}

/* Data order; empty tensors before the one that starts at the same place. */
static int by_data(const void *a, const void *b)
{
    const sid2_safetensors_entry *x = a, *y = b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    if (x->bytes != y->bytes) return x->bytes < y->bytes ? -1 : 1;
    return strcmp(x->name, y->name);
}

/* The high bytes of a true length are zero. */
static bool is_text(const uint8_t bytes[8])
{
    for (int i = 0; i < 8; i++)
        if (bytes[i] < '\t' || bytes[i] > '~') return false;
    return true;
}

static bool parse_metadata(sid2_safetensors *file, const json_t *metadata, sid2_error *err)
{
    const char *key, *path = file->path;
    json_t *text;
    if (!json_is_object(metadata))
        return sid2_fail(err, SID2_ERR_FORMAT, "%s: __metadata__ is no object", path);
    json_object_foreach((json_t *)metadata, key, text)
    {
        if (!json_is_string(text))
            return sid2_fail(err, SID2_ERR_FORMAT, "%s: metadata '%.100s' is no string", path, key);
        file->has_digests = file->has_digests || !strncmp(key, SID2_DIGEST_KEY, strlen(SID2_DIGEST_KEY));
    }
    return true;
}

/* The tensors cover the data without a hole or an overlap, to the end of the file. */
static bool check_cover(sid2_safetensors *file, sid2_error *err)
{
    uint64_t covered = 0;
    qsort(file->entries, (size_t)file->count, sizeof *file->entries, by_data);
    for (int i = 0; i < file->count; i++) {
        if (file->entries[i].begin != covered)
            return sid2_fail(err, SID2_ERR_FORMAT, "%s: a hole or an overlap before tensor '%.100s'",
                             file->path, file->entries[i].name);
        covered += file->entries[i].bytes;
    }
    return covered == file->data_bytes ||
           sid2_fail(err, SID2_ERR_FORMAT, "%s: %llu bytes at the end belong to no tensor", file->path,
                     (unsigned long long)(file->data_bytes - covered));
}

static bool parse_header(sid2_safetensors *file, const char *text, size_t length, sid2_error *err)
{
    json_error_t problem;
    file->header = sid2_json_read(text, length, JSON_REJECT_DUPLICATES, &problem);
    if (!file->header && sid2_json_no_memory())
        return sid2_fail(err, SID2_ERR_MEMORY, "%s: out of memory", file->path);
    if (!file->header) return sid2_fail(err, SID2_ERR_FORMAT, "%s: bad header: %s", file->path, problem.text);
    file->entries = calloc(json_object_size(file->header) + 1, sizeof *file->entries);
    if (!file->entries) return sid2_fail(err, SID2_ERR_MEMORY, "%s: out of memory", file->path);
    const char *name;
    json_t *value;
    json_object_foreach(file->header, name, value)
    {
        bool tensor = strcmp(name, "__metadata__") != 0;
        if (tensor ? !parse_entry(file->path, name, value, file->data_bytes, &file->entries[file->count], err)
                   : !parse_metadata(file, value, err))
            return false;
        file->count += tensor;
    }
    return check_cover(file, err);
}

static bool parse(sid2_safetensors *file, size_t size, sid2_error *err)
{
    const char *path = file->path;
    uint8_t start[9] = {0};
    if (size < 8) return sid2_fail(err, SID2_ERR_FORMAT, "%s: too short to be a safetensors file", path);
    if (!sid2_file_fill(file->descriptor, start, size < 9 ? size : 9, 0, path, err)) return false;
    if (is_text(start)) {
        bool pointer = !memcmp(start, "version ", 8);
        return sid2_fail(err, SID2_ERR_FORMAT, "%s: %s", path,
                         pointer ? "a git-lfs pointer in place of the weights: git lfs pull fetches them"
                                 : "text, no safetensors file");
    }
    uint64_t length = 0;
    for (int i = 7; i >= 0; i--) length = length << 8 | start[i];
    if (length > HEADER_LIMIT || length > size - 8)
        return sid2_fail(err, SID2_ERR_FORMAT,
                         "%s: announces a header of %llu bytes (truncated, or no safetensors file)", path,
                         (unsigned long long)length);
    if (!length || start[8] != '{')
        return sid2_fail(err, SID2_ERR_FORMAT, "%s: the header does not begin with '{' (no safetensors file)",
                         path);
    file->data = 8 + length;
    file->data_bytes = size - file->data;
    char *text = malloc(length);
    if (!text) return sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory for its header", path);
    bool ok =
        sid2_file_fill(file->descriptor, text, length, 8, path, err) && parse_header(file, text, length, err);
    free(text);
    return ok;
}

sid2_safetensors *sid2_safetensors_open(const char *path, sid2_error *err)
{
    size_t size;
    sid2_safetensors *file = calloc(1, sizeof *file);
    if (file) file->descriptor = -1;
    if (!file || !(file->path = strdup(path)))
        sid2_fail(err, SID2_ERR_MEMORY, "%s: out of memory", path);
    else if ((file->descriptor = sid2_file_open(path, 0, &size, err)) >= 0 && parse(file, size, err))
        return file;
    sid2_safetensors_close(file);
    return NULL;
}

void sid2_safetensors_close(sid2_safetensors *file)
{
    if (!file) return;
    if (file->descriptor >= 0) close(file->descriptor);
    json_decref(file->header);
    free(file->entries);
    free(file->path);
    free(file);
}

const char *sid2_safetensors_path(const sid2_safetensors *file) { return file->path; }

int sid2_safetensors_count(const sid2_safetensors *file) { return file->count; }

const sid2_safetensors_entry *sid2_safetensors_at(const sid2_safetensors *file, int index)
{
    return &file->entries[index];
}

const sid2_safetensors_entry *sid2_safetensors_find(const sid2_safetensors *file, const char *name)
{
    for (int i = 0; i < file->count; i++)
        if (!strcmp(file->entries[i].name, name)) return &file->entries[i];
    return NULL;
}

const char *sid2_safetensors_metadata(const sid2_safetensors *file, const char *key)
{
    return json_string_value(json_object_get(json_object_get(file->header, "__metadata__"), key));
}

/* ---- Digests ---- */

void sid2_safetensors_print(XXH128_hash_t hash, char digest[33])
{
    snprintf(digest, 33, "%016llx%016llx", (unsigned long long)hash.high64, (unsigned long long)hash.low64);
}

char *sid2_safetensors_key(const char *name)
{
    char *key = malloc(sizeof SID2_DIGEST_KEY + strlen(name));
    if (key) sprintf(key, SID2_DIGEST_KEY "%s", name);
    return key;
}

static bool check_digest(const sid2_safetensors *file, const char *name, XXH128_hash_t hash, sid2_error *err)
{
    if (!file->has_digests) return true;
    char found[33], *key = sid2_safetensors_key(name);
    if (!key) return sid2_fail(err, SID2_ERR_MEMORY, "%s: out of memory", file->path);
    const char *expected = sid2_safetensors_metadata(file, key);
    free(key);
    sid2_safetensors_print(hash, found);
    return (expected && !strcmp(expected, found)) ||
           sid2_fail(err, SID2_ERR_FORMAT,
                     "%s: tensor '%.100s' %s: damaged, or changed by what kept the old digests", file->path,
                     name, expected ? "is not of its digest" : "has no digest, others have");
}

bool sid2_safetensors_read(const sid2_safetensors *file, const sid2_safetensors_entry *entry, void *bytes,
                           sid2_error *err)
{
    return sid2_file_fill(file->descriptor, bytes, entry->bytes, file->data + entry->begin, file->path,
                          err) &&
           check_digest(file, entry->name, XXH3_128bits(bytes, entry->bytes), err);
}

static bool is_finite(sid2_dtype dtype, const uint8_t *bytes, size_t size)
{
    for (size_t i = 0; dtype == SID2_F32 && i < size; i += 4) {
        float value;
        memcpy(&value, bytes + i, 4);
        if (!isfinite(value)) return false;
    }
    uint16_t infinity = dtype == SID2_BF16 ? 0x7f80 : 0x7c00; /* all ones: infinite or no number */
    for (size_t i = 0; (dtype == SID2_BF16 || dtype == SID2_F16) && i < size; i += 2) {
        uint16_t bits;
        memcpy(&bits, bytes + i, 2);
        if ((bits & infinity) == infinity) return false;
    }
    return true;
}

enum { CHUNK = 1 << 20 }; /* a multiple of every element */

typedef struct checker {
    XXH3_state_t *tensor, *all;
    const sid2_safetensors_entry **order;
    uint8_t *chunk;
} checker;

static bool check_tensor(const sid2_safetensors *file, const checker *c, const sid2_safetensors_entry *e,
                         sid2_error *err)
{
    char text[96], shape[64];
    snprintf(text, sizeof text, " %s %s ", e->type_name, sid2_shape_text(e->shape, shape));
    XXH3_128bits_reset(c->tensor);
    XXH3_128bits_update(c->all, e->name, strlen(e->name));
    XXH3_128bits_update(c->all, text, strlen(text));
    for (size_t done = 0, size; done < e->bytes; done += size) {
        size = e->bytes - done < CHUNK ? e->bytes - done : CHUNK;
        if (!sid2_file_fill(file->descriptor, c->chunk, size, file->data + e->begin + done, file->path, err))
            return false;
        XXH3_128bits_update(c->tensor, c->chunk, size);
        XXH3_128bits_update(c->all, c->chunk, size);
        if (!is_finite(e->dtype, c->chunk, size))
            return sid2_fail(err, SID2_ERR_FORMAT, "%s: tensor '%.100s' holds a value that is not finite",
                             file->path, e->name);
    }
    return check_digest(file, e->name, XXH3_128bits_digest(c->tensor), err);
}

static int by_name(const void *a, const void *b)
{
    return strcmp((*(const sid2_safetensors_entry *const *)a)->name,
                  (*(const sid2_safetensors_entry *const *)b)->name);
}

bool sid2_safetensors_check(const sid2_safetensors *file, char digest[33], sid2_error *err)
{
    checker c = {XXH3_createState(), XXH3_createState(), malloc(((size_t)file->count + 1) * sizeof *c.order),
                 malloc(CHUNK)};
    bool ok = (c.tensor && c.all && c.order && c.chunk) ||
              sid2_fail(err, SID2_ERR_MEMORY, "%s: out of memory", file->path);
    if (ok) {
        XXH3_128bits_reset(c.all);
        for (int i = 0; i < file->count; i++) c.order[i] = &file->entries[i];
        qsort(c.order, (size_t)file->count, sizeof *c.order, by_name);
    }
    for (int i = 0; ok && i < file->count; i++) ok = check_tensor(file, &c, c.order[i], err);
    if (ok && digest) sid2_safetensors_print(XXH3_128bits_digest(c.all), digest);
    XXH3_freeState(c.tensor);
    XXH3_freeState(c.all);
    free(c.order);
    free(c.chunk);
    return ok;
}
