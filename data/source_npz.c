/* numpy's archive of pictures, u8 [N, height, width, channels], and of their labels, whole numbers [N]: as ADM's
 * evaluations have it, and others under other names. */
#include "arrays.h"
#include "source.h"
#include "text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_SIDE = 8192, MOST_LABELS = 1 << 30 };

/* What is called what. */
static const struct {
    const char *pictures, *labels;
} pairs[] = {{"arr_0.npy", "arr_1.npy"},
             {"images.npy", "labels.npy"},
             {"x_train.npy", "y_train.npy"},
             {"train_images.npy", "train_labels.npy"}};
enum { PAIRS = sizeof pairs / sizeof *pairs };

typedef struct state {
    sid2_member *pictures;
    uint64_t offset;
    bool is_planar; /* [N, channels, height, width] */
} state;

/* ---- Labels ---- */

/* Bytes of one whole number, and whether it has a sign; 0: it is something else. */
static int width_of(const char *type, bool *has_sign)
{
    *has_sign = type[1] == 'i';
    if ((type[0] != '<' && type[0] != '|') || (type[1] != 'i' && type[1] != 'u')) return 0;
    int width = type[2] - '0';
    return (width == 1 || width == 2 || width == 4 || width == 8) && !type[3] ? width : 0;
}

static bool take_labels(sid2_source *source, const sid2_array *a, const uint8_t *values, int64_t count,
                        const char *name, sid2_error *err)
{
    bool has_sign;
    int width = width_of(a->type, &has_sign);
    int64_t classes = 0;
    for (int64_t i = 0; i < count; i++) {
        uint64_t value = 0;
        for (int k = width - 1; k >= 0; k--) value = value << 8 | values[i * width + k];
        bool is_negative = has_sign && values[i * width + width - 1] >> 7;
        if (is_negative || value >= SID2_MAX_CLASSES)
            return sid2_fail(err, SID2_ERR_FORMAT, "%s: label %lld is not a class from 0 to %d", name,
                             (long long)i, SID2_MAX_CLASSES - 1);
        source->labels[i] = (int32_t)value;
        if ((int64_t)value >= classes) classes = (int64_t)value + 1;
    }
    return sid2_source_name_classes(source, classes, NULL, 0, err);
}

bool sid2_source_read_labels(sid2_source *source, const sid2_entry *entry, int64_t count, const char *all,
                             sid2_error *err)
{
    source->labels = calloc((size_t)count, sizeof *source->labels);
    if (!source->labels)
        return sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory for labels", source->files->path);
    if (!entry) return sid2_source_name_classes(source, 1, &all, 1, err);
    sid2_member *member = sid2_member_open(source->files, entry, err);
    sid2_array a = {0};
    bool has_sign, ok = member && sid2_array_head(&a, member, entry->name, entry->size, err);
    int width = width_of(a.type, &has_sign);
    if (ok && (!width || a.rank < 1 || a.dim[0] != count || (a.rank == 2 && a.dim[1] != 1) || a.rank > 2))
        ok = sid2_fail(err, SID2_ERR_FORMAT, "%s: %s: not one whole number for each of %lld %s",
                       source->files->path, entry->name, (long long)count, all);
    uint64_t size = (uint64_t)count * (uint64_t)width;
    if (ok && (entry->size - a.offset < size || size > MOST_LABELS))
        ok = sid2_fail(err, SID2_ERR_FORMAT, "%s: %s: cut short", source->files->path, entry->name);
    uint8_t *values = ok ? malloc((size_t)size) : NULL;
    if (ok && !values) ok = sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory for labels", source->files->path);
    ok = ok && sid2_member_read(member, values, (size_t)size, a.offset, err) &&
         take_labels(source, &a, values, count, entry->name, err);
    free(values);
    sid2_member_close(member);
    return ok;
}

/* ---- Pictures ---- */

static bool load(sid2_source *source, int64_t index, sid2_sample *sample, sid2_error *err)
{
    const state *s = source->state;
    const int64_t *dim = source->type.shape.dim;
    sid2_image image;
    if (!sid2_image_alloc(&image, (int32_t)dim[1], (int32_t)dim[0], (int32_t)dim[2], err)) return false;
    size_t plane = (size_t)(dim[0] * dim[1]), channels = (size_t)dim[2], size = plane * channels;
    uint8_t *planes = s->is_planar ? malloc(size) : NULL;
    bool ok = !s->is_planar || planes || sid2_fail(err, SID2_ERR_MEMORY, "no memory for a picture");
    ok = ok && sid2_member_read(s->pictures, planes ? planes : image.pixels, size,
                                s->offset + (uint64_t)index * size, err);
    for (size_t i = 0; ok && planes && i < size; i++)
        image.pixels[i] = planes[i % channels * plane + i / channels];
    free(planes);
    if (ok)
        *sample = sid2_sample_of_picture(&image);
    else
        sid2_image_free(&image);
    return ok;
}

static void close_npz(sid2_source *source)
{
    state *s = source->state;
    if (s) sid2_member_close(s->pictures);
    free(s);
}

static bool is_channels(int64_t extent) { return extent == 1 || extent == 3; }

static bool take_pictures(sid2_source *source, const sid2_array *a, const sid2_entry *entry, sid2_error *err)
{
    state *s = source->state;
    bool is_grey = a->rank == 3;
    s->is_planar = a->rank == 4 && !is_channels(a->dim[3]) && is_channels(a->dim[1]);
    const int64_t *dim = a->dim + 1;
    sid2_shape shape = {.rank = 3, .dim = {dim[0], dim[1], is_grey ? 1 : dim[2]}};
    if (s->is_planar) shape = (sid2_shape){.rank = 3, .dim = {dim[1], dim[2], dim[0]}};
    if (strcmp(a->type, "|u1") != 0 || a->rank < 3 || !is_channels(shape.dim[2]))
        return sid2_fail(err, SID2_ERR_UNSUPPORTED,
                         "%s: %s: an array of %s with %d extents; pictures are u8 [N, height, width, 1 or 3]",
                         source->files->path, entry->name, a->type, a->rank);
    if (a->dim[0] < 1 || shape.dim[0] < 1 || shape.dim[1] < 1 || shape.dim[0] > MAX_SIDE ||
        shape.dim[1] > MAX_SIDE)
        return sid2_fail(err, SID2_ERR_FORMAT, "%s: %s: impossible extents", source->files->path,
                         entry->name);
    uint64_t size = (uint64_t)(shape.dim[0] * shape.dim[1] * shape.dim[2]);
    if ((entry->size - a->offset) / size < (uint64_t)a->dim[0])
        return sid2_fail(err, SID2_ERR_FORMAT, "%s: %s: cut short", source->files->path, entry->name);
    s->offset = a->offset;
    source->count = a->dim[0];
    source->type = (sid2_sample_type){SID2_U8, shape};
    source->is_digits = shape.dim[0] == 28 && shape.dim[1] == 28;
    return true;
}

static bool open_npz(sid2_source *source, sid2_error *err)
{
    sid2_files *files = source->files;
    const sid2_entry *pictures = NULL, *labels = NULL;
    if (strcmp(files->kind, "zip") != 0) return true;
    for (int i = 0; i < PAIRS && !pictures; i++) {
        pictures = sid2_files_find(files, pairs[i].pictures, 0);
        labels = sid2_files_find(files, pairs[i].labels, 0);
    }
    if (!pictures && !sid2_text_ends(files->path, ".npz")) return true;
    if (!pictures)
        return sid2_fail(err, SID2_ERR_FORMAT, "%s: holds no arr_0, images, x_train or train_images",
                         files->path);
    state *s = calloc(1, sizeof *s);
    source->kind = "npz";
    source->is_cheap = true;
    source->load = load;
    source->tell = sid2_source_tell;
    source->close = close_npz;
    source->state = s;
    if (!s) return sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory", files->path);
    s->pictures = sid2_member_open(files, pictures, err);
    sid2_array a = {0};
    bool ok = s->pictures && sid2_array_head(&a, s->pictures, pictures->name, pictures->size, err) &&
              take_pictures(source, &a, pictures, err) &&
              sid2_source_read_labels(source, labels, source->count, "images", err);
    for (int64_t i = 0; ok && i < files->count; i++)
        if (&files->entry[i] != pictures && &files->entry[i] != labels)
            ok = sid2_source_lose(source, SID2_LOST_KIND, &files->entry[i], err);
    return ok;
}

const sid2_format sid2_format_npz = {.what = "an npz of pictures and labels", .open = open_npz};
