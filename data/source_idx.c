/* MNIST's idx files, plain or gzip: magic 0x00000803, count, rows, columns, then pixels; labels beside them
 * in a file with magic 0x00000801. */
#include "source.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

enum { IMAGES_MAGIC = 0x803, LABELS_MAGIC = 0x801, MAX_SIDE = 4096 };
#define MOST_BYTES ((size_t)1 << 33)

/* A byte tensor: up to 3 extents. */
typedef struct tensor {
    int64_t dim[3];
    uint8_t *file; /* header and all */
    const uint8_t *bytes;
} tensor;

/* ---- One file ---- */

static uint32_t big_endian(const uint8_t *b)
{
    return (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
}

/* Bytes of the file by its header, of which `have` bytes are known; 0: it is wrong. */
static uint64_t read_header(tensor *t, const uint8_t *header, size_t have, uint32_t magic, const char *path,
                            sid2_error *err)
{
    int rank = magic & 255;
    size_t size = 4 + 4 * (size_t)rank;
    if (have >= 4 && big_endian(header) != magic)
        return sid2_fail(err, SID2_ERR_FORMAT, "%s: magic number 0x%08x, idx %s begin with 0x%08x", path,
                         big_endian(header), rank == 3 ? "images" : "labels", magic);
    if (have < size)
        return sid2_fail(err, SID2_ERR_FORMAT, "%s: cut short or damaged within its header", path);
    for (int i = 0; i < 3; i++) t->dim[i] = i < rank ? big_endian(header + 4 + 4 * i) : 1;
    if (t->dim[0] < 1 || t->dim[1] < 1 || t->dim[2] < 1 || t->dim[1] > MAX_SIDE || t->dim[2] > MAX_SIDE)
        return sid2_fail(err, SID2_ERR_FORMAT, "%s: impossible extents %lld x %lld x %lld", path,
                         (long long)t->dim[0], (long long)t->dim[1], (long long)t->dim[2]);
    return size + (uint64_t)(t->dim[0] * t->dim[1] * t->dim[2]);
}

/* What inflating came to. The room grows with what arrives and ends with what the header says, so that a lying one
 * claims no memory, and neither does what unpacks without end. */
typedef struct unpacked {
    uint8_t *bytes;
    size_t size, room;
    uint64_t wanted; /* 0: the header is not there yet */
    bool is_whole;   /* the end was there and the checksum right */
    bool no_memory;
} unpacked;

static void inflate_all(unpacked *u, const uint8_t *packed, size_t left, uint32_t magic)
{
    z_stream z = {0};
    int code = inflateInit2(&z, 15 + 16);
    u->no_memory = code == Z_MEM_ERROR;
    tensor t;
    while (code == Z_OK) {
        if (u->size == u->room) {
            size_t room = u->room ? 2 * u->room : 1 << 16;
            if (u->wanted && room > u->wanted + 1) room = (size_t)u->wanted + 1;
            uint8_t *grown = room > u->room ? realloc(u->bytes, room) : NULL;
            u->no_memory = room > u->room && !grown;
            if (!grown) break;
            u->bytes = grown;
            u->room = room;
        }
        size_t part = u->room - u->size < 1 << 24 ? u->room - u->size : 1 << 24;
        uInt given = left < 1 << 24 ? (uInt)left : 1 << 24;
        z.next_out = u->bytes + u->size;
        z.avail_out = (uInt)part;
        z.next_in = (Bytef *)packed;
        z.avail_in = given;
        code = inflate(&z, Z_NO_FLUSH);
        u->no_memory = code == Z_MEM_ERROR;
        u->size += part - z.avail_out;
        packed += given - z.avail_in;
        left -= given - z.avail_in;
        if (!u->wanted && u->size >= 16) {
            u->wanted = read_header(&t, u->bytes, u->size, magic, "", NULL);
            if (!u->wanted) break;
        }
    }
    u->is_whole = code == Z_STREAM_END;
    inflateEnd(&z);
}

static bool read_tensor(tensor *t, sid2_files *files, const sid2_entry *entry, uint32_t magic,
                        sid2_error *err)
{
    const char *path = entry->name;
    size_t size;
    uint8_t *bytes = files->read(files, entry, MOST_BYTES, &size, err);
    if (!bytes) return false;
    unpacked u = {.bytes = bytes, .size = size, .is_whole = true};
    if (size >= 2 && !memcmp(bytes, "\x1f\x8b", 2)) {
        u = (unpacked){0};
        inflate_all(&u, bytes, size, magic);
        free(bytes);
    }
    t->file = u.bytes;
    if (u.no_memory) return sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory for its bytes", path);
    uint64_t wanted = read_header(t, u.bytes, u.size, magic, path, err), header = 4 + 4 * (magic & 255);
    if (!wanted) return false;
    if (u.size > wanted) return sid2_fail(err, SID2_ERR_FORMAT, "%s: longer than its header says", path);
    if (u.size < wanted || !u.is_whole)
        return sid2_fail(err, SID2_ERR_FORMAT, "%s: cut short or damaged after %llu of %llu bytes", path,
                         (unsigned long long)(u.size - header), (unsigned long long)(wanted - header));
    t->bytes = t->file + header;
    return true;
}

/* ---- Which files ---- */

static bool is_images(const char *base) { return strstr(base, "images-idx3") || strstr(base, "images.idx3"); }

/* The same name but for ".gz". */
static bool is_twin(const char *a, const char *b)
{
    size_t length = strlen(a);
    return strncmp(a, b, length) == 0 && strcmp(b + length, ".gz") == 0;
}

/* "x-images-idx3-ubyte.gz" -> "x-labels-idx1-ubyte.gz", or its twin with or without .gz. */
static const sid2_entry *labels_of(const sid2_files *files, const sid2_entry *images, sid2_error *err)
{
    size_t length = strlen(images->name), first = (size_t)(sid2_base_name(images->name) - images->name);
    char *labels = malloc(length + 4);
    if (!labels) return sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory", files->path), NULL;
    strcpy(labels, images->name);
    char *found = strstr(labels + first, "images"), *rank = strstr(labels + first, "idx3");
    if (found) memcpy(found, "labels", 6);
    if (rank) rank[3] = '1';
    const sid2_entry *entry = found ? sid2_files_find(files, labels, images->archive) : NULL;
    if (found && !entry) {
        if (length > 3 && !strcmp(labels + length - 3, ".gz"))
            labels[length - 3] = 0;
        else
            strcat(labels, ".gz");
        entry = sid2_files_find(files, labels, images->archive);
    }
    free(labels);
    if (!entry)
        sid2_fail(err, SID2_ERR_IO, "%s: its labels (*-labels-idx1-ubyte[.gz]) are not beside it",
                  images->name);
    return entry;
}

/* The file chosen, or the one to train on: test sets ("t10k-...") are opened by naming the file, and of a file and its
 * compressed twin the plain one is read. */
static bool find_images(sid2_source *source, const sid2_entry **images, sid2_error *err)
{
    const sid2_files *files = source->files;
    *images = NULL;
    if (files->choice) {
        const sid2_entry *e = sid2_files_find(files, files->choice, 0);
        *images = e && strstr(files->choice, "idx") ? e : NULL;
        return true;
    }
    bool ok = true;
    for (int64_t i = 0; ok && i < files->count; i++) {
        const sid2_entry *e = &files->entry[i];
        const char *base = sid2_base_name(e->name);
        if (!is_images(base) || (*images && is_twin((*images)->name, e->name))) continue;
        if (!strncmp(base, "t10k", 4))
            ok = sid2_source_lose(source, SID2_LOST_TEST, e, err);
        else if (*images)
            ok = sid2_fail(err, SID2_ERR_USAGE,
                           "%s: holds several idx data sets (%s, %s): name one of the files", files->path,
                           (*images)->name, e->name);
        else
            *images = e;
    }
    return ok;
}

/* ---- The data set ---- */

static bool load(sid2_source *source, int64_t index, sid2_sample *sample, sid2_error *err)
{
    const tensor *t = source->state;
    sid2_image image;
    if (!sid2_image_alloc(&image, (int32_t)t->dim[2], (int32_t)t->dim[1], 1, err)) return false;
    size_t size = (size_t)(t->dim[1] * t->dim[2]);
    memcpy(image.pixels, t->bytes + (size_t)index * size, size);
    *sample = sid2_sample_of_picture(&image);
    return true;
}

static void close_idx(sid2_source *source)
{
    tensor *t = source->state;
    if (t) free(t->file);
    free(t);
}

static bool take_labels(sid2_source *source, const tensor *labels, const char *images, const char *beside,
                        sid2_error *err)
{
    /* Fashion-MNIST's files carry no names, but its ten classes have them. */
    static const char *const fashion[] = {"T-shirt", "Trouser", "Pullover", "Dress", "Coat",
                                          "Sandal",  "Shirt",   "Sneaker",  "Bag",   "Ankle boot"};
    if (labels->dim[0] != source->count)
        return sid2_fail(err, SID2_ERR_FORMAT, "%s: %lld labels for the %lld pictures of %s", beside,
                         (long long)labels->dim[0], (long long)source->count, images);
    source->labels = malloc((size_t)source->count * sizeof *source->labels);
    if (!source->labels) return sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory for labels", beside);
    int32_t classes = 0;
    for (int64_t i = 0; i < source->count; i++) {
        source->labels[i] = labels->bytes[i];
        if (labels->bytes[i] >= classes) classes = labels->bytes[i] + 1;
    }
    bool is_fashion =
        classes == 10 && (!strncmp(sid2_base_name(images), "fashion", 7) || strstr(images, "FashionMNIST/"));
    return sid2_source_name_classes(source, classes, fashion, is_fashion ? 10 : 0, err);
}

static bool open_idx(sid2_source *source, sid2_error *err)
{
    sid2_files *files = source->files;
    const sid2_entry *images, *labels;
    if (!find_images(source, &images, err)) return false;
    if (!images) return true;
    tensor *t = calloc(1, sizeof *t);
    source->kind = "idx";
    source->is_cheap = true;
    source->load = load;
    source->close = close_idx;
    source->state = t;
    if (!t) return sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory", files->path);
    if (!read_tensor(t, files, images, IMAGES_MAGIC, err) || !(labels = labels_of(files, images, err)))
        return false;
    source->type = (sid2_sample_type){SID2_U8, {.rank = 3, .dim = {t->dim[1], t->dim[2], 1}}};
    source->is_digits = t->dim[1] == 28 && t->dim[2] == 28;
    source->count = t->dim[0];
    tensor of_labels = {0};
    bool ok = read_tensor(&of_labels, files, labels, LABELS_MAGIC, err) &&
              take_labels(source, &of_labels, images->name, labels->name, err);
    free(of_labels.file);
    return ok;
}

const sid2_format sid2_format_idx = {.what = "MNIST idx files (*-images-idx3-ubyte[.gz])", .open = open_idx};
