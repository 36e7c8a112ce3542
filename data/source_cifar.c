/* CIFAR-10's binary batches: records of one label byte and 3 x 32 x 32 pixels, channel after channel. */
#include "file.h"
#include "source.h"
#include "text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SIDE = 32, PLANE = SIDE * SIDE, RECORD = 1 + 3 * PLANE, CLASSES = 10, MAX_FILES = 64 };

typedef struct batches {
    int file_count;
    struct {
        int descriptor;
        int64_t first; /* number of its first picture */
    } file[MAX_FILES];
} batches;

static bool load(sid2_source *source, int64_t index, sid2_sample *sample, sid2_error *err)
{
    const batches *b = source->state;
    int f = b->file_count - 1;
    while (b->file[f].first > index) f--;
    uint8_t record[RECORD];
    uint64_t offset = (uint64_t)(index - b->file[f].first) * RECORD;
    sid2_image image;
    char name[32];
    snprintf(name, sizeof name, "record %lld", (long long)index);
    if (!sid2_file_fill(b->file[f].descriptor, record, RECORD, offset, name, err)) return false;
    if (!sid2_image_alloc(&image, SIDE, SIDE, 3, err)) return false;
    for (int i = 0; i < PLANE; i++)
        for (int c = 0; c < 3; c++) image.pixels[3 * i + c] = record[1 + c * PLANE + i];
    *sample = sid2_sample_of_picture(&image);
    return true;
}

static void close_batches(sid2_source *source)
{
    batches *b = source->state;
    for (int f = 0; b && f < b->file_count; f++) close(b->file[f].descriptor);
    free(b);
}

static bool read_labels(sid2_source *source, const char *path, int descriptor, int64_t records,
                        sid2_error *err)
{
    int32_t *labels = realloc(source->labels, (size_t)(source->count + records) * sizeof *labels);
    if (!labels) return sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory for labels", path);
    source->labels = labels;
    for (int64_t i = 0; i < records; i++) {
        uint8_t label;
        if (!sid2_file_fill(descriptor, &label, 1, (uint64_t)i * RECORD, path, err)) return false;
        if (label >= CLASSES)
            return sid2_fail(err, SID2_ERR_FORMAT, "%s: record %lld has label %d: not a CIFAR-10 batch", path,
                             (long long)i, label);
        labels[source->count + i] = label;
    }
    source->count += records;
    return true;
}

static bool add_file(sid2_source *source, const char *path, sid2_error *err)
{
    batches *b = source->state;
    size_t size;
    int descriptor = sid2_file_open(path, 0, &size, err);
    if (descriptor < 0) return false;
    b->file[b->file_count].descriptor = descriptor;
    b->file[b->file_count++].first = source->count;
    if (size == 0 || size % RECORD)
        return sid2_fail(err, SID2_ERR_FORMAT,
                         "%s: %lld bytes are not whole records of %d: cut short, or not CIFAR-10", path,
                         (long long)size, RECORD);
    return read_labels(source, path, descriptor, (int64_t)(size / RECORD), err);
}

static bool is_batch(const char *path, const uint8_t start[4])
{
    return (void)start, sid2_text_ends(path, ".bin");
}

static bool is_member(const char *name)
{
    return !strncmp(name, "data_batch_", 11) && sid2_text_ends(name, ".bin");
}

static bool open_batches(sid2_source *source, const sid2_location *at, const sid2_dataset_options *options,
                         sid2_error *err)
{
    (void)options;
    static const char *const names[CLASSES] = {"airplane", "automobile", "bird",  "cat",  "deer",
                                               "dog",      "frog",       "horse", "ship", "truck"};
    source->kind = "CIFAR-10 batches";
    source->type = (sid2_sample_type){SID2_U8, {.rank = 3, .dim = {SIDE, SIDE, 3}}};
    source->is_cheap = true;
    source->load = load;
    source->close = close_batches;
    source->state = calloc(1, sizeof(batches));
    if (!source->state) return sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory", at->path);
    if (at->members.count > MAX_FILES)
        return sid2_fail(err, SID2_ERR_UNSUPPORTED, "%s: more than %d batch files", at->path, MAX_FILES);
    sid2_names classes = {0};
    bool ok = true;
    for (int i = 0; ok && i < CLASSES; i++) ok = sid2_names_push(&classes, names[i], err);
    source->class_names = classes.item;
    source->classes = (int32_t)classes.count;
    if (ok && !at->members.count) return add_file(source, at->path, err);
    for (int64_t i = 0; ok && i < at->members.count; i++) {
        char *path = sid2_path_join(at->path, at->members.item[i]);
        ok = path ? add_file(source, path, err) : sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory", at->path);
        free(path);
    }
    return ok;
}

const sid2_format sid2_format_cifar = {.what = "CIFAR-10 batches (data_batch_*.bin)",
                                       .is_file = is_batch,
                                       .is_member = is_member,
                                       .open = open_batches};
