/* The generated pictures as a data set on the disk. */
#include <sid2/data.h>

#include "archive_write.h"
#include "file.h"
#include "image.h"
#include "text.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { MAX_COUNT = 10000000 };

typedef struct job {
    const char *path;
    int64_t count;
    int32_t size;
    uint64_t seed;
    bool (*stop)(void);
    uint8_t *pixels; /* of one picture */
} job;

static bool encode(const job *j, int64_t index, uint8_t **bytes, size_t *length, sid2_error *err)
{
    if (j->stop && j->stop()) return sid2_fail(err, SID2_ERR_CANCELLED, "stopped; nothing was written");
    sid2_image image = {.width = j->size, .height = j->size, .channels = 3, .pixels = j->pixels};
    return sid2_synth_render(j->seed, (uint64_t)index, j->size, j->pixels, err) &&
           sid2_png_encode(&image, NULL, 0, bytes, length, err);
}

/* ---- A zip in EDM layout ---- */

static bool write_zip(const job *j, sid2_error *err)
{
    sid2_edm edm;
    bool ok = sid2_edm_open(&edm, j->path, err);
    for (int64_t i = 0; ok && i < j->count; i++) {
        char name[SID2_EDM_NAME];
        uint8_t *bytes = NULL;
        size_t length;
        ok = sid2_edm_next(&edm, sid2_synth_label((uint64_t)i), name, err) &&
             encode(j, i, &bytes, &length, err) && sid2_archive_add(edm.archive, name, bytes, length, err);
        free(bytes);
    }
    for (int32_t k = 0; ok && k < sid2_synth_classes(j->count); k++)
        ok = sid2_edm_name_class(&edm, sid2_synth_class_name(k), err);
    if (ok) return sid2_edm_commit(&edm, err);
    sid2_edm_discard(&edm);
    return false;
}

/* ---- A folder for each class ---- */

static bool write_file(const char *path, const uint8_t *bytes, size_t length, sid2_error *err)
{
    FILE *stream = fopen(path, "wbx");
    bool ok = stream && fwrite(bytes, 1, length, stream) == length;
    int cause = errno;
    if (stream && fclose(stream) && ok) {
        cause = errno;
        ok = false;
    }
    return ok || sid2_fail(err, SID2_ERR_IO, "%s: cannot be written: %s", path, strerror(cause));
}

static bool fill_folder(const job *j, const char *folder, sid2_error *err)
{
    char *path = malloc(strlen(folder) + 64);
    bool ok = path || sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory", folder);
    for (int32_t k = 0; ok && k < sid2_synth_classes(j->count); k++) {
        sprintf(path, "%s/%s", folder, sid2_synth_class_name(k));
        if (mkdir(path, 0777)) ok = sid2_fail(err, SID2_ERR_IO, "%s: %s", path, strerror(errno));
    }
    for (int64_t i = 0; ok && i < j->count; i++) {
        uint8_t *bytes = NULL;
        size_t length;
        const char *name = sid2_synth_class_name(sid2_synth_label((uint64_t)i));
        sprintf(path, "%s/%s/%08lld.png", folder, name, (long long)i);
        ok = encode(j, i, &bytes, &length, err) && write_file(path, bytes, length, err);
        free(bytes);
    }
    free(path);
    return ok;
}

static bool write_folder(const job *j, sid2_error *err)
{
    sid2_atomic_directory folder;
    if (!sid2_atomic_directory_open(&folder, j->path, err)) return false;
    if (fill_folder(j, folder.temporary, err)) return sid2_atomic_directory_commit(&folder, false, err);
    sid2_atomic_directory_discard(&folder);
    return false;
}

bool sid2_synth_write(const char *path, int64_t count, int32_t size, uint64_t seed, bool (*stop)(void),
                      sid2_error *err)
{
    if (count < 1 || count > MAX_COUNT)
        return sid2_fail(err, SID2_ERR_USAGE, "%lld pictures: ask for 1 to %d", (long long)count, MAX_COUNT);
    if (size < 1 || size > SID2_SYNTH_MAX_SIZE)
        return sid2_fail(err, SID2_ERR_USAGE, "picture size %d is outside 1..%d", size, SID2_SYNTH_MAX_SIZE);
    bool is_zip = sid2_text_ends(path, ".zip");
    /* What exists is said before the work, not after; the renaming of a folder would refuse it too. */
    sid2_kind kind;
    sid2_list list = {0};
    if (!sid2_look(path, &kind, err) || (kind == SID2_FOLDER && !sid2_list_folder(&list, path, NULL, err)))
        return false;
    bool taken = kind != SID2_ABSENT && (is_zip || kind != SID2_FOLDER || list.count);
    sid2_list_free(&list);
    if (taken)
        return sid2_fail(err, SID2_ERR_USAGE, "%s: exists%s; name a new one", path,
                         is_zip ? "" : " and is not an empty folder");
    const job j = {path, count, size, seed, stop, malloc((size_t)size * (size_t)size * 3)};
    if (!j.pixels) return sid2_fail(err, SID2_ERR_MEMORY, "no memory for a picture of %dx%d", size, size);
    bool ok = is_zip ? write_zip(&j, err) : write_folder(&j, err);
    free(j.pixels);
    return ok;
}
