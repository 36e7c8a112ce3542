/* The writer of safetensors: one process's file, or one that several ranks write together, of the same bytes. */
#include "safetensors_inside.h"

#include "file.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The official order: by type, then by name. */
static int by_type(const void *a, const void *b)
{
    const sid2_safetensors_item *x = *(const sid2_safetensors_item *const *)a;
    const sid2_safetensors_item *y = *(const sid2_safetensors_item *const *)b;
    const char *name;
    int left = sid2_safetensors_type(x->dtype, &name), right = sid2_safetensors_type(y->dtype, &name);
    return left != right ? left - right : strcmp(x->name, y->name);
}

static size_t item_bytes(const sid2_safetensors_item *item)
{
    return (size_t)sid2_shape_count(item->shape) * sid2_dtype_size(item->dtype);
}

/* Everything that jansson makes is asked whether it was made: one tensor's extent that is left out for want of
 * memory makes a file that nobody can open. */
static bool set_text(json_t *map, const char *key, const char *text)
{
    return key && !json_object_set_new(map, key, json_string(text));
}

static json_t *make_metadata(const sid2_safetensors_item *const *items, int count,
                             const char *const *metadata, const XXH128_hash_t *digests)
{
    json_t *map = json_object();
    bool ok = map != NULL;
    for (; ok && metadata && *metadata; metadata += 2) ok = set_text(map, metadata[0], metadata[1]);
    for (int i = 0; ok && digests && i < count; i++) {
        char digest[33], *key = sid2_safetensors_key(items[i]->name);
        sid2_safetensors_print(digests[i], digest);
        ok = set_text(map, key, digest);
        free(key);
    }
    if (ok) return map;
    json_decref(map);
    return NULL;
}

/* {"dtype": ..., "shape": [...], "data_offsets": [begin, end]} */
static json_t *make_entry(const sid2_safetensors_item *item, uint64_t begin)
{
    json_t *shape = json_array();
    bool ok = shape != NULL;
    for (int d = 0; ok && d < item->shape.rank; d++)
        ok = !json_array_append_new(shape, json_integer(item->shape.dim[d]));
    if (!ok) {
        json_decref(shape);
        return NULL;
    }
    const char *name;
    sid2_safetensors_type(item->dtype, &name);
    return json_pack("{s:s, s:o, s:[I, I]}", "dtype", name, "shape", shape, "data_offsets", (json_int_t)begin,
                     (json_int_t)(begin + item_bytes(item)));
}

/* The header as one string, in data order; the caller frees. */
static char *header_text(const char *path, const sid2_safetensors_item *const *items, int count,
                         const char *const *metadata, const XXH128_hash_t *digests, sid2_error *err)
{
    json_t *header = json_object();
    bool ok = header &&
              ((!metadata && !digests) ||
               !json_object_set_new(header, "__metadata__", make_metadata(items, count, metadata, digests)));
    if (!ok) sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory for its metadata, or it is no UTF-8", path);
    uint64_t offset = 0;
    for (int i = 0; ok && i < count; offset += item_bytes(items[i++])) {
        const char *name = items[i]->name;
        bool reserved = !strcmp(name, "__metadata__");
        if (reserved || json_object_get(header, name))
            ok = sid2_fail(err, SID2_ERR_USAGE, "%s: tensor name '%.100s' is %s", path, name,
                           reserved ? "reserved" : "given twice");
        else if (json_object_set_new(header, name, make_entry(items[i], offset)))
            ok = sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory for tensor '%.100s', or its name is no UTF-8",
                           path, name);
    }
    char *text = ok ? json_dumps(header, JSON_COMPACT) : NULL;
    if (ok && !text) sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory for its header", path);
    json_decref(header);
    return text;
}

/* Length and header as they stand before the data, padded; the caller frees. */
static uint8_t *make_start(const char *header, size_t *size)
{
    size_t length = strlen(header), padded = (length + 7) / 8 * 8;
    uint8_t *start = malloc(8 + padded);
    if (!start) return NULL;
    for (int i = 0; i < 8; i++) start[i] = (uint8_t)((uint64_t)padded >> 8 * i);
    memcpy(start + 8, header, length);
    memset(start + 8 + length, ' ', padded - length);
    *size = 8 + padded;
    return start;
}

/* A file in the making: items in the order of their data. */
typedef struct writer {
    const char *path;
    const sid2_safetensors_item **items;
    int count;
    XXH128_hash_t *digests; /* NULL: none are wanted */
    uint8_t *start;
    size_t start_bytes;
} writer;

static bool open_writer(writer *w, const char *path, const sid2_safetensors_item *items, int count,
                        bool digests, sid2_error *err)
{
    *w = (writer){.path = path, .count = count, .items = malloc(((size_t)count + 1) * sizeof *w->items)};
    if (digests) w->digests = calloc((size_t)count + 1, sizeof *w->digests);
    if (!w->items || (digests && !w->digests))
        return sid2_fail(err, SID2_ERR_MEMORY, "%s: out of memory", path);
    for (int i = 0; i < count; i++) w->items[i] = &items[i];
    qsort(w->items, (size_t)count, sizeof *w->items, by_type);
    return true;
}

static bool begin_writer(writer *w, const char *const *metadata, sid2_error *err)
{
    char *header = header_text(w->path, w->items, w->count, metadata, w->digests, err);
    if (header && !(w->start = make_start(header, &w->start_bytes)))
        sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory for its header", w->path);
    free(header);
    return w->start;
}

static void close_writer(writer *w)
{
    free(w->items);
    free(w->digests);
    free(w->start);
}

static void digest_item(writer *w, int i)
{
    w->digests[i] = XXH3_128bits(w->items[i]->data, item_bytes(w->items[i]));
}

static bool write_stream(const writer *w, FILE *stream)
{
    bool ok = fwrite(w->start, w->start_bytes, 1, stream);
    for (int i = 0; ok && i < w->count; i++)
        ok = fwrite(w->items[i]->data, 1, item_bytes(w->items[i]), stream) == item_bytes(w->items[i]);
    return ok;
}

bool sid2_safetensors_write(const char *path, const sid2_safetensors_item *items, int count,
                            const char *const *metadata, bool digests, sid2_error *err)
{
    writer w;
    sid2_atomic_file file;
    bool ok = open_writer(&w, path, items, count, digests, err);
    for (int i = 0; ok && digests && i < count; i++) digest_item(&w, i);
    ok = ok && begin_writer(&w, metadata, err) && sid2_output_open(&file, path, err);
    if (ok) {
        ok = write_stream(&w, file.stream) ||
             sid2_fail(err, SID2_ERR_IO, "%s: cannot be written: %s", path, strerror(errno));
        if (ok)
            ok = sid2_atomic_commit(&file, err);
        else
            sid2_atomic_discard(&file);
    }
    close_writer(&w);
    return ok;
}

/* ---- By several ranks ---- */

/* Who writes item i: the first `writers` ranks, about as many bytes each. */
static int writer_of(uint64_t begin, size_t bytes, uint64_t all, int writers)
{
    return all ? (int)((double)(begin + bytes / 2) / (double)all * writers) % writers : 0;
}

/* This rank's share, at its place in the file. */
static bool write_share(const writer *w, int descriptor, int rank, const int *by, sid2_error *err)
{
    uint64_t at = w->start_bytes;
    for (int i = 0; i < w->count; at += item_bytes(w->items[i++]))
        if (by[i] == rank &&
            !sid2_file_put(descriptor, w->items[i]->data, item_bytes(w->items[i]), at, w->path, err))
            return false;
    return true;
}

static bool write_open(const writer *w, int flags, int rank, const int *by, sid2_error *err)
{
    int descriptor = open(w->path, flags | O_WRONLY | O_CLOEXEC, 0666);
    if (descriptor < 0)
        return sid2_fail(err, SID2_ERR_IO, "%s: cannot be written: %s", w->path, strerror(errno));
    bool ok = rank || sid2_file_put(descriptor, w->start, w->start_bytes, 0, w->path, err);
    ok = ok && write_share(w, descriptor, rank, by, err);
    if (ok && fsync(descriptor))
        ok = sid2_fail(err, SID2_ERR_IO, "%s: cannot be written: %s", w->path, strerror(errno));
    if (close(descriptor) && ok)
        ok = sid2_fail(err, SID2_ERR_IO, "%s: cannot be written: %s", w->path, strerror(errno));
    return ok;
}

/* Everybody's digests to all. */
static bool share_digests(writer *w, sid2_group *group, const int *by, sid2_error *err)
{
    int rank = sid2_group_rank(group);
    size_t each = (size_t)w->count * sizeof *w->digests;
    XXH128_hash_t *all = calloc((size_t)sid2_group_ranks(group), each + 1);
    bool ok =
        sid2_group_concur(group, all || sid2_fail(err, SID2_ERR_MEMORY, "%s: out of memory", w->path), err);
    if (ok) {
        for (int i = 0; i < w->count; i++)
            if (by[i] == rank) digest_item(w, i);
        memcpy(all + rank * w->count, w->digests, each);
        ok = sid2_group_gather(group, all, each, err);
    }
    for (int i = 0; ok && i < w->count; i++) w->digests[i] = all[by[i] * w->count + i];
    free(all);
    return ok;
}

bool sid2_safetensors_write_together(sid2_group *group, int writers, const char *path,
                                     const sid2_safetensors_item *items, int count,
                                     const char *const *metadata, sid2_error *err)
{
    writer w;
    int rank = sid2_group_rank(group), *by = calloc((size_t)count + 1, sizeof *by);
    bool ok = by || sid2_fail(err, SID2_ERR_MEMORY, "%s: out of memory", path);
    ok = open_writer(&w, path, items, count, true, ok ? err : NULL) && ok;
    if (sid2_group_concur(group, ok, err) && by) {
        uint64_t all = 0, at = 0;
        for (int i = 0; i < count; i++) all += item_bytes(w.items[i]);
        for (int i = 0; i < count; at += item_bytes(w.items[i++]))
            by[i] = writer_of(at, item_bytes(w.items[i]), all, writers);
        ok = share_digests(&w, group, by, err);
        ok = ok && sid2_group_concur(group, begin_writer(&w, metadata, err), err);
        /* The file is there, and its beginning, before others open it. */
        ok = ok && sid2_group_concur(group, rank || write_open(&w, O_CREAT | O_EXCL, rank, by, err), err);
        ok =
            ok && sid2_group_concur(group, !rank || rank >= writers || write_open(&w, 0, rank, by, err), err);
    } else {
        ok = false;
    }
    close_writer(&w);
    free(by);
    return ok;
}
