/* MNIST's idx files, plain or gzip: magic 0x00000803, count, rows, columns, then pixels; labels beside them
 * in a file with magic 0x00000801. */
#include "file.h"
#include "source.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

enum { IMAGES_MAGIC = 0x803, LABELS_MAGIC = 0x801, MAX_SIDE = 4096 };

/* A byte tensor: up to 3 extents. */
typedef struct tensor {
    int64_t dim[3];
    uint8_t *bytes;
} tensor;

static uint32_t big_endian(const uint8_t *b)
{
    return (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
}

/* What is no fault of the file's content. */
static bool unreadable(gzFile file, const char *path, sid2_error *err)
{
    int code, cause = errno;
    const char *text = gzerror(file, &code);
    if (code == Z_MEM_ERROR) return sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory", path);
    return sid2_fail(err, SID2_ERR_IO, "%s: %s", path, code == Z_ERRNO ? strerror(cause) : text);
}

/* Exactly `size` bytes: grown as they arrive, so that a lying header cannot claim memory. */
static uint8_t *read_bytes(gzFile file, const char *path, uint64_t size, sid2_error *err)
{
    uint8_t *bytes = NULL;
    uint64_t used = 0, room = 0;
    while (used < size) {
        if (used == room) {
            room = room ? 2 * room : 1 << 20;
            if (room > size) room = size;
            uint8_t *grown = realloc(bytes, room);
            if (!grown) {
                free(bytes);
                return sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory for %llu bytes", path,
                                 (unsigned long long)room),
                       NULL;
            }
            bytes = grown;
        }
        uint64_t part = room - used < 1 << 24 ? room - used : 1 << 24;
        int got = gzread(file, bytes + used, (unsigned)part);
        if (got <= 0) break;
        used += (uint64_t)got;
    }
    /* The end must be there and the checksum right, which zlib tells when asked for one byte more. */
    uint8_t extra;
    int more = used == size ? gzread(file, &extra, 1) : -1, code;
    const char *cause = gzerror(file, &code);
    if (more == 0 && code == Z_OK) return bytes;
    free(bytes);
    if (code == Z_ERRNO || code == Z_MEM_ERROR) return unreadable(file, path, err), NULL;
    if (more == 1) return sid2_fail(err, SID2_ERR_FORMAT, "%s: longer than its header says", path), NULL;
    return sid2_fail(err, SID2_ERR_FORMAT, "%s: cut short or damaged after %llu of %llu bytes%s%s", path,
                     (unsigned long long)used, (unsigned long long)size, code ? ": " : "", code ? cause : ""),
           NULL;
}

static bool read_tensor(tensor *t, const char *path, uint32_t magic, sid2_error *err)
{
    int rank = magic & 255;
    uint8_t header[16] = {0};
    int header_size = 4 + 4 * rank;
    size_t size;
    int descriptor = sid2_file_open(path, 0, &size, err);
    if (descriptor < 0) return false;
    gzFile file = gzdopen(descriptor, "rb");
    if (!file) {
        close(descriptor);
        return sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory", path);
    }
    bool ok = true;
    int got = gzread(file, header, (unsigned)header_size), code = 0;
    gzerror(file, &code);
    if (got < 0 && code != Z_DATA_ERROR && code != Z_BUF_ERROR)
        ok = unreadable(file, path, err);
    else if (got >= 4 && big_endian(header) != magic)
        ok = sid2_fail(err, SID2_ERR_FORMAT, "%s: magic number 0x%08x, idx %s begin with 0x%08x", path,
                       big_endian(header), rank == 3 ? "images" : "labels", magic);
    else if (got != header_size)
        ok = sid2_fail(err, SID2_ERR_FORMAT, "%s: cut short or damaged within its header", path);
    for (int i = 0; i < 3; i++) t->dim[i] = i < rank ? big_endian(header + 4 + 4 * i) : 1;
    if (ok &&
        (t->dim[0] < 1 || t->dim[1] < 1 || t->dim[2] < 1 || t->dim[1] > MAX_SIDE || t->dim[2] > MAX_SIDE))
        ok = sid2_fail(err, SID2_ERR_FORMAT, "%s: impossible extents %lld x %lld x %lld", path,
                       (long long)t->dim[0], (long long)t->dim[1], (long long)t->dim[2]);
    if (ok) {
        t->bytes = read_bytes(file, path, (uint64_t)(t->dim[0] * t->dim[1] * t->dim[2]), err);
        ok = t->bytes != NULL;
    }
    gzclose(file);
    return ok;
}

/* "x-images-idx3-ubyte.gz" -> "x-labels-idx1-ubyte.gz", or its twin with or without .gz, to be freed. */
static char *labels_path(const char *path, sid2_error *err)
{
    sid2_kind kind = SID2_ABSENT;
    const char *slash = strrchr(path, '/');
    const char *found = strstr(slash ? slash : path, "images");
    char *labels = malloc(strlen(path) + 4);
    if (!labels) return sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory", path), NULL;
    if (!found) goto none;
    strcpy(labels, path);
    memcpy(labels + (found - path), "labels", 6);
    char *rank = strstr(labels + (found - path), "idx3");
    if (rank) rank[3] = '1';
    if (!sid2_look(labels, &kind, err)) goto fail;
    if (kind != SID2_ABSENT) return labels;
    size_t length = strlen(labels);
    if (length > 3 && !strcmp(labels + length - 3, ".gz"))
        labels[length - 3] = 0;
    else
        strcat(labels, ".gz");
    if (!sid2_look(labels, &kind, err)) goto fail;
    if (kind != SID2_ABSENT) return labels;
none:
    sid2_fail(err, SID2_ERR_IO, "%s: its labels (*-labels-idx1-ubyte[.gz]) are not beside it", path);
fail:
    free(labels);
    return NULL;
}

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
    if (t) free(t->bytes);
    free(t);
}

static bool take_labels(sid2_source *source, const char *path, const char *beside, sid2_error *err)
{
    tensor labels = {0};
    if (!read_tensor(&labels, beside, LABELS_MAGIC, err)) return false;
    int32_t classes = 0;
    bool ok = labels.dim[0] == source->count;
    if (!ok)
        sid2_fail(err, SID2_ERR_FORMAT, "%s: %lld labels for the %lld pictures of %s", beside,
                  (long long)labels.dim[0], (long long)source->count, path);
    if (ok) {
        source->labels = malloc((size_t)source->count * sizeof *source->labels);
        ok = source->labels || sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory for labels", beside);
    }
    for (int64_t i = 0; ok && i < source->count; i++) {
        source->labels[i] = labels.bytes[i];
        if (labels.bytes[i] >= classes) classes = labels.bytes[i] + 1;
    }
    free(labels.bytes);
    return ok && sid2_source_number_classes(source, classes, err);
}

/* Fashion-MNIST's files carry no names, but its ten classes have them. */
static bool name_fashion(sid2_source *source, sid2_error *err)
{
    static const char *const names[] = {"T-shirt", "Trouser", "Pullover", "Dress", "Coat",
                                        "Sandal",  "Shirt",   "Sneaker",  "Bag",   "Ankle boot"};
    for (int32_t i = 0; i < source->classes && i < 10; i++) {
        char *copy = strdup(names[i]);
        if (!copy) return sid2_fail(err, SID2_ERR_MEMORY, "no memory for class names");
        free(source->class_names[i]);
        source->class_names[i] = copy;
    }
    return true;
}

static bool open_images(sid2_source *source, const char *path, sid2_error *err)
{
    tensor *images = calloc(1, sizeof *images);
    if (!images) return sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory", path);
    source->kind = "idx";
    source->is_cheap = true;
    source->load = load;
    source->close = close_idx;
    source->state = images;
    if (!read_tensor(images, path, IMAGES_MAGIC, err)) return false;
    source->type = (sid2_sample_type){SID2_U8, {.rank = 3, .dim = {images->dim[1], images->dim[2], 1}}};
    source->is_digits = images->dim[1] == 28 && images->dim[2] == 28;
    source->count = images->dim[0];
    char *beside = labels_path(path, err);
    if (!beside) return false;
    bool ok = take_labels(source, path, beside, err);
    free(beside);
    const char *slash = strrchr(path, '/');
    if (ok && !strncmp(slash ? slash + 1 : path, "fashion", 7) && source->classes == 10)
        ok = name_fashion(source, err);
    return ok;
}

static bool is_idx(const char *path, const uint8_t start[4])
{
    return !memcmp(start, "\x1f\x8b", 2) || !memcmp(start, "\0\0", 2) || strstr(path, "idx");
}

/* Test sets ("t10k-...") are not what one trains on; they are opened by naming the file. */
static bool is_member(const char *name)
{
    return (strstr(name, "images-idx3") || strstr(name, "images.idx3")) && strncmp(name, "t10k", 4);
}

static bool open_idx(sid2_source *source, const sid2_location *at, const sid2_dataset_options *options,
                     sid2_error *err)
{
    (void)options;
    const sid2_names *members = &at->members;
    if (!members->count) return open_images(source, at->path, err);
    if (members->count > 1)
        return sid2_fail(err, SID2_ERR_USAGE,
                         "%s: holds %lld idx data sets (%s, %s, ...): name one of the files", at->path,
                         (long long)members->count, members->item[0], members->item[1]);
    char *file = sid2_path_join(at->path, members->item[0]);
    bool ok =
        file ? open_images(source, file, err) : sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory", at->path);
    free(file);
    return ok;
}

const sid2_format sid2_format_idx = {.what = "MNIST idx files (*-images-idx3-ubyte[.gz])",
                                     .is_file = is_idx,
                                     .is_member = is_member,
                                     .open = open_idx};
