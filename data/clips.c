#include "clips.h"

#include "arrays.h"
#include "image.h"
#include "resize.h"
#include "source.h"
#include "text.h"

#include <stdlib.h>
#include <string.h>

enum { MOST_SIDE = 8192, CHANNELS = 3 };

struct sid2_clips {
    sid2_files *files;
    int32_t frames, height, width;
    int64_t count, videos;

    const sid2_entry **frame; /* of folders: all that are frames, video by video */
    int64_t *start;           /* count: number of each clip's first frame */

    sid2_member *member; /* of an npz */
    sid2_array array;    /* [videos, frames, height, width, channels] */
};

static bool no_memory(const sid2_clips *c, sid2_error *err)
{
    return sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory for its clips", c->files->path);
}

/* ---- An npz ---- */

static const sid2_entry *find_array(const sid2_files *files)
{
    static const char *const names[] = {"arr_0.npy", "videos.npy", "clips.npy"};
    const sid2_entry *entry = NULL;
    for (size_t i = 0; i < sizeof names / sizeof *names && !entry; i++)
        entry = sid2_files_find(files, names[i], 0);
    for (int64_t i = 0; i < files->count && !entry; i++)
        if (sid2_text_ends(files->entry[i].name, ".npy")) entry = &files->entry[i];
    return entry;
}

static bool open_npz(sid2_clips *c, sid2_error *err)
{
    const sid2_entry *entry = find_array(c->files);
    if (!entry) return sid2_fail(err, SID2_ERR_FORMAT, "%s: holds no array", c->files->path);
    c->member = sid2_member_open(c->files, entry, err);
    sid2_array *a = &c->array;
    if (!c->member || !sid2_array_head(a, c->member, entry->name, entry->size, err)) return false;
    if (strcmp(a->type, "|u1") != 0 || a->rank != 5 || (a->dim[4] != 1 && a->dim[4] != CHANNELS))
        return sid2_fail(
            err, SID2_ERR_UNSUPPORTED,
            "%s: %s: an array of %s with %d extents; clips are u8 [N, frames, height, width, 1 or 3]",
            c->files->path, entry->name, a->type, a->rank);
    if (a->dim[0] < 1 || a->dim[1] < 1 || a->dim[2] < 1 || a->dim[3] < 1 || a->dim[2] > MOST_SIDE ||
        a->dim[3] > MOST_SIDE)
        return sid2_fail(err, SID2_ERR_FORMAT, "%s: %s: impossible extents", c->files->path, entry->name);
    uint64_t frame = (uint64_t)(a->dim[2] * a->dim[3] * a->dim[4]);
    if ((entry->size - a->offset) / frame / (uint64_t)a->dim[1] < (uint64_t)a->dim[0])
        return sid2_fail(err, SID2_ERR_FORMAT, "%s: %s: cut short", c->files->path, entry->name);
    if (!c->frames)
        c->frames = a->dim[1] < SID2_CLIP_MOST_FRAMES ? (int32_t)a->dim[1] : SID2_CLIP_MOST_FRAMES;
    c->videos = a->dim[0];
    c->count = a->dim[0] * (a->dim[1] / c->frames);
    return true;
}

static bool read_array_frame(const sid2_clips *c, int64_t clip, int32_t number, sid2_image *image,
                             sid2_error *err)
{
    const int64_t *dim = c->array.dim, each = dim[1] / c->frames;
    const uint64_t bytes = (uint64_t)(dim[2] * dim[3] * dim[4]),
                   place = (uint64_t)(clip / each * dim[1] + clip % each * c->frames + number);
    return sid2_image_alloc(image, (int32_t)dim[3], (int32_t)dim[2], (int32_t)dim[4], err) &&
           sid2_member_read(c->member, image->pixels, (size_t)bytes, c->array.offset + place * bytes, err);
}

/* ---- Folders of frames ---- */

static size_t folder_length(const sid2_entry *e)
{
    const char *slash = strrchr(e->name, '/');
    return slash ? (size_t)(slash - e->name) : 0;
}

static bool are_of_one(const sid2_entry *a, const sid2_entry *b)
{
    size_t length = folder_length(a);
    return a->archive == b->archive && folder_length(b) == length && !strncmp(a->name, b->name, length);
}

/* By archive and folder; frame10 after frame9. */
static int by_number(const void *a, const void *b)
{
    const sid2_entry *x = *(const sid2_entry *const *)a, *y = *(const sid2_entry *const *)b;
    if (x->archive != y->archive) return x->archive < y->archive ? -1 : 1;
    size_t m = folder_length(x), n = folder_length(y);
    int order = memcmp(x->name, y->name, m < n ? m : n);
    if (order || m != n) return order ? order : (m > n) - (m < n);
    order = strverscmp(x->name + m, y->name + n);
    return order ? order : strcmp(x->name, y->name);
}

static bool open_folders(sid2_clips *c, sid2_error *err)
{
    sid2_files *files = c->files;
    int64_t total = 0;
    if (sid2_files_hold_tars(files) && !sid2_files_open_tars(files, err)) return false;
    if (!c->frames) c->frames = SID2_CLIP_FRAMES;
    c->frame = malloc(((size_t)files->count + 1) * sizeof *c->frame);
    c->start = malloc(((size_t)files->count + 1) * sizeof *c->start);
    if (!c->frame || !c->start) return no_memory(c, err);
    for (int64_t i = 0; i < files->count; i++)
        if (sid2_is_picture_name(files->entry[i].name)) c->frame[total++] = &files->entry[i];
    qsort(c->frame, (size_t)total, sizeof *c->frame, by_number);
    for (int64_t first = 0, end; first < total; first = end) {
        for (end = first + 1; end < total && are_of_one(c->frame[first], c->frame[end]);) end++;
        for (int64_t at = first; at + c->frames <= end; at += c->frames) c->start[c->count++] = at;
        c->videos++;
    }
    return c->videos ||
           sid2_fail(err, SID2_ERR_FORMAT,
                     "%s: neither an npz of clips nor folders of frames (.png, .jpg, .webp)", files->path);
}

static bool read_file_frame(const sid2_clips *c, int64_t clip, int32_t number, sid2_image *image,
                            sid2_error *err)
{
    const sid2_entry *entry = c->frame[c->start[clip] + number];
    size_t size;
    uint8_t *bytes = c->files->read(c->files, entry, SID2_IMAGE_MAX_FILE, &size, err);
    bool ok = bytes && sid2_image_decode(image, bytes, size, entry->name, err);
    free(bytes);
    return ok;
}

/* ---- All of them ---- */

static bool read_frame(const sid2_clips *c, int64_t clip, int32_t number, sid2_image *image, sid2_error *err)
{
    *image = (sid2_image){0};
    bool ok = c->member ? read_array_frame(c, clip, number, image, err)
                        : read_file_frame(c, clip, number, image, err);
    ok = ok && sid2_image_convert(image, CHANNELS, err);
    if (!ok) sid2_image_free(image);
    return ok;
}

static bool find_size(sid2_clips *c, sid2_error *err)
{
    sid2_image first;
    if (!c->count)
        return sid2_fail(err, SID2_ERR_USAGE, "%s: of %lld videos none has %d frames", c->files->path,
                         (long long)c->videos, c->frames);
    if (c->height && c->width) return true;
    if (!read_frame(c, 0, 0, &first, err)) return false;
    c->height = first.height;
    c->width = first.width;
    sid2_image_free(&first);
    return true;
}

sid2_clips *sid2_clips_open(sid2_group *group, const char *path, int32_t frames, int32_t height,
                            int32_t width, sid2_error *err)
{
    sid2_clips *c = calloc(1, sizeof *c);
    if (!c) return sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory", path), NULL;
    c->frames = frames;
    c->height = height;
    c->width = width;
    c->files = sid2_files_open(path, group, err);
    if (c->files) {
        bool is_npz = strcmp(c->files->kind, "zip") == 0 && sid2_text_ends(path, ".npz");
        if ((is_npz ? open_npz(c, err) : open_folders(c, err)) && find_size(c, err)) return c;
    }
    sid2_clips_close(c);
    return NULL;
}

void sid2_clips_close(sid2_clips *c)
{
    if (!c) return;
    sid2_member_close(c->member);
    sid2_files_close(c->files);
    free(c->frame);
    free(c->start);
    free(c);
}

int64_t sid2_clips_count(const sid2_clips *c) { return c->count; }
int64_t sid2_clips_videos(const sid2_clips *c) { return c->videos; }
sid2_shape sid2_clips_shape(const sid2_clips *c)
{
    return sid2_shape_of(c->frames, c->height, c->width, CHANNELS);
}

bool sid2_clips_get(const sid2_clips *c, int64_t index, uint8_t *pixels, sid2_error *err)
{
    const size_t bytes = (size_t)c->height * (size_t)c->width * CHANNELS;
    for (int32_t i = 0; i < c->frames; i++) {
        sid2_image image;
        if (!read_frame(c, index, i, &image, err)) return false;
        bool ok = sid2_image_center_crop(pixels + (size_t)i * bytes, &image, c->height, c->width, err);
        sid2_image_free(&image);
        if (!ok) return false;
    }
    return true;
}

bool sid2_clips_digest(const sid2_clips *c, char digest[33], sid2_error *err)
{
    const sid2_source source = {.files = c->files};
    sid2_digest *stream = sid2_digest_begin(err);
    bool ok = stream && sid2_source_tell(&source, stream, err);
    sid2_digest_end(stream, digest);
    return ok;
}
