#include "safetensors.h"

#include "file.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

enum { HEADER_LIMIT = 100000000 }; /* bytes; the format's own limit */

struct sid2_safetensors {
    void *map;
    size_t size;
    json_t *header; /* owns the names */
    sid2_safetensors_entry *entries;
    int count;
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

static int type_of_dtype(sid2_dtype dtype)
{
    for (int i = 0; i < TYPE_COUNT; i++)
        if (types[i].dtype == dtype) return i;
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
static bool parse_entry(const char *path, const char *name, json_t *value, const uint8_t *data,
                        uint64_t length, sid2_safetensors_entry *entry, sid2_error *err)
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
    entry->data = data + begin;
    entry->bytes = end - begin;
    return true;
}

/* Data order; empty tensors before the one that starts at the same place. */
static int by_data(const void *a, const void *b)
{
    const sid2_safetensors_entry *x = a, *y = b;
    if (x->data != y->data) return x->data < y->data ? -1 : 1;
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

static bool parse(sid2_safetensors *file, const char *path, sid2_error *err)
{
    const uint8_t *bytes = file->map;
    uint64_t length = 0;
    if (file->size < 8)
        return sid2_fail(err, SID2_ERR_FORMAT, "%s: too short to be a safetensors file", path);
    if (is_text(bytes)) {
        bool pointer = !memcmp(bytes, "version ", 8);
        return sid2_fail(err, SID2_ERR_FORMAT, "%s: %s", path,
                         pointer ? "a git-lfs pointer in place of the weights: git lfs pull fetches them"
                                 : "text, no safetensors file");
    }
    for (int i = 7; i >= 0; i--) length = length << 8 | bytes[i];
    if (length > HEADER_LIMIT || length > file->size - 8)
        return sid2_fail(err, SID2_ERR_FORMAT,
                         "%s: announces a header of %llu bytes (truncated, or no safetensors file)", path,
                         (unsigned long long)length);
    if (!length || bytes[8] != '{')
        return sid2_fail(err, SID2_ERR_FORMAT, "%s: the header does not begin with '{' (no safetensors file)",
                         path);
    json_error_t problem;
    file->header = json_loadb((const char *)bytes + 8, length, JSON_REJECT_DUPLICATES, &problem);
    if (!file->header) return sid2_fail(err, SID2_ERR_FORMAT, "%s: bad header: %s", path, problem.text);
    file->entries = calloc(json_object_size(file->header) + 1, sizeof *file->entries);
    if (!file->entries) return sid2_fail(err, SID2_ERR_MEMORY, "%s: out of memory", path);

    const uint8_t *data = bytes + 8 + length;
    uint64_t data_length = file->size - 8 - length;
    const char *name;
    json_t *value;
    json_object_foreach(file->header, name, value)
    {
        if (strcmp(name, "__metadata__")) {
            if (!parse_entry(path, name, value, data, data_length, &file->entries[file->count], err))
                return false;
            file->count++;
            continue;
        }
        const char *key;
        json_t *text;
        if (!json_is_object(value))
            return sid2_fail(err, SID2_ERR_FORMAT, "%s: __metadata__ is no object", path);
        json_object_foreach(value, key, text)
        {
            if (!json_is_string(text))
                return sid2_fail(err, SID2_ERR_FORMAT, "%s: metadata '%.100s' is no string", path, key);
        }
    }
    qsort(file->entries, (size_t)file->count, sizeof *file->entries, by_data);
    for (int i = 0; i < file->count; i++) {
        if (file->entries[i].data != data)
            return sid2_fail(err, SID2_ERR_FORMAT, "%s: a hole or an overlap before tensor '%.100s'", path,
                             file->entries[i].name);
        data += file->entries[i].bytes;
    }
    if (data != bytes + file->size)
        return sid2_fail(err, SID2_ERR_FORMAT, "%s: %zu bytes at the end belong to no tensor", path,
                         (size_t)(bytes + file->size - data));
    return true;
}

sid2_safetensors *sid2_safetensors_open(const char *path, sid2_error *err)
{
    sid2_safetensors *file = calloc(1, sizeof *file);
    if (!file) return sid2_fail(err, SID2_ERR_MEMORY, "%s: out of memory", path), NULL;
    struct stat status;
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    bool ok = descriptor >= 0 && !fstat(descriptor, &status);
    if (ok && !S_ISREG(status.st_mode)) ok = (errno = S_ISDIR(status.st_mode) ? EISDIR : EINVAL, false);
    if (ok && status.st_size) {
        file->size = (size_t)status.st_size;
        file->map = mmap(NULL, file->size, PROT_READ, MAP_PRIVATE, descriptor, 0);
        if (file->map == MAP_FAILED) file->map = NULL, ok = false;
    }
    if (!ok) sid2_fail(err, SID2_ERR_IO, "%s: %s", path, strerror(errno));
    if (descriptor >= 0) close(descriptor);
    if (ok && parse(file, path, err)) return file;
    sid2_safetensors_close(file);
    return NULL;
}

void sid2_safetensors_close(sid2_safetensors *file)
{
    if (!file) return;
    if (file->map) munmap(file->map, file->size);
    json_decref(file->header);
    free(file->entries);
    free(file);
}

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

/* ---- Writing ---- */

/* The official order: by type, then by name. */
static int by_type(const void *a, const void *b)
{
    const sid2_safetensors_item *x = *(const sid2_safetensors_item *const *)a;
    const sid2_safetensors_item *y = *(const sid2_safetensors_item *const *)b;
    int left = type_of_dtype(x->dtype), right = type_of_dtype(y->dtype);
    return left != right ? left - right : strcmp(x->name, y->name);
}

/* The header as one string, in data order; the caller frees. */
static char *header_text(const char *path, const sid2_safetensors_item *const *items, int count,
                         const char *const *metadata, sid2_error *err)
{
    json_t *header = json_object(), *map = metadata ? json_object() : NULL;
    bool ok = header && (!metadata || map);
    for (; ok && metadata && *metadata; metadata += 2)
        ok = !json_object_set_new(map, metadata[0], json_string(metadata[1]));
    if (ok && map) ok = !json_object_set(header, "__metadata__", map);
    json_decref(map);
    if (!ok) sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory for its metadata, or it is no UTF-8", path);
    uint64_t offset = 0;
    for (int i = 0; ok && i < count; i++) {
        const char *name = items[i]->name;
        bool reserved = !strcmp(name, "__metadata__");
        if (reserved || json_object_get(header, name)) {
            ok = sid2_fail(err, SID2_ERR_USAGE, "%s: tensor name '%.100s' is %s", path, name,
                           reserved ? "reserved" : "given twice");
            break;
        }
        uint64_t bytes = (uint64_t)sid2_shape_count(items[i]->shape) * sid2_dtype_size(items[i]->dtype);
        json_t *shape = json_array();
        for (int d = 0; d < items[i]->shape.rank; d++)
            json_array_append_new(shape, json_integer(items[i]->shape.dim[d]));
        json_t *entry =
            json_pack("{s:s, s:o, s:[I, I]}", "dtype", types[type_of_dtype(items[i]->dtype)].name, "shape",
                      shape, "data_offsets", (json_int_t)offset, (json_int_t)(offset + bytes));
        if (!entry || json_object_set_new(header, name, entry))
            ok = sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory for tensor '%.100s', or its name is no UTF-8",
                           path, name);
        offset += bytes;
    }
    char *text = ok ? json_dumps(header, JSON_COMPACT) : NULL;
    if (ok && !text) sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory for its header", path);
    json_decref(header);
    return text;
}

bool sid2_safetensors_write(const char *path, const sid2_safetensors_item *items, int count,
                            const char *const *metadata, sid2_error *err)
{
    const sid2_safetensors_item **order = malloc(((size_t)count + 1) * sizeof *order);
    if (!order) return sid2_fail(err, SID2_ERR_MEMORY, "%s: out of memory", path);
    for (int i = 0; i < count; i++) order[i] = &items[i];
    qsort(order, (size_t)count, sizeof *order, by_type);
    char *header = header_text(path, order, count, metadata, err);
    sid2_atomic_file file;
    bool ok = header && sid2_atomic_open(&file, path, err);
    if (ok) {
        size_t length = strlen(header), padding = -length % 8;
        for (int i = 0; i < 8; i++) fputc((int)((uint64_t)(length + padding) >> 8 * i & 255), file.stream);
        fprintf(file.stream, "%s%*s", header, (int)padding, "");
        for (int i = 0; i < count; i++) {
            size_t bytes = (size_t)sid2_shape_count(order[i]->shape) * sid2_dtype_size(order[i]->dtype);
            if (bytes) fwrite(order[i]->data, 1, bytes, file.stream);
        }
        ok = sid2_atomic_commit(&file, err);
    }
    free(header);
    free(order);
    return ok;
}

/* ---- Digest ---- */

static int by_name(const void *a, const void *b)
{
    return strcmp((*(const sid2_safetensors_entry *const *)a)->name,
                  (*(const sid2_safetensors_entry *const *)b)->name);
}

void sid2_safetensors_digest(const sid2_safetensors *file, char digest[33])
{
    XXH3_state_t *state = XXH3_createState();
    const sid2_safetensors_entry **order = malloc(((size_t)file->count + 1) * sizeof *order);
    memset(digest, 0, 33);
    if (state && order) {
        XXH3_128bits_reset(state);
        for (int i = 0; i < file->count; i++) order[i] = &file->entries[i];
        qsort(order, (size_t)file->count, sizeof *order, by_name);
        for (int i = 0; i < file->count; i++) {
            char text[96], shape[64];
            snprintf(text, sizeof text, " %s %s ", order[i]->type_name,
                     sid2_shape_text(order[i]->shape, shape));
            XXH3_128bits_update(state, order[i]->name, strlen(order[i]->name));
            XXH3_128bits_update(state, text, strlen(text));
            XXH3_128bits_update(state, order[i]->data, order[i]->bytes);
        }
        XXH128_hash_t hash = XXH3_128bits_digest(state);
        snprintf(digest, 33, "%016llx%016llx", (unsigned long long)hash.high64,
                 (unsigned long long)hash.low64);
    }
    XXH3_freeState(state);
    free(order);
}
