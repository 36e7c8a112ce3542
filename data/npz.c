/* Pictures go to a temporary .npy beside the archive as they come, since a zip member's checksum stands
 * before its contents; at commit libzip copies it in. */
#include "npz.h"

#include "archive.h"
#include "file.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NPY_HEADER = 128 };

struct sid2_npz {
    sid2_archive *archive;
    sid2_atomic_file pictures; /* never committed under its own name */
    int32_t height, width, channels;
    int64_t count;
    uint8_t *labels; /* a whole .npy: header, then int64 little-endian */
    size_t labels_room;
    bool has_labels;
};

/* Version 1.0 (numpy.lib.format): magic, header length, a Python literal padded so that data starts aligned. */
static void npy_header(char header[NPY_HEADER], const char *type, const char *shape)
{
    memcpy(header, "\x93NUMPY\x01\x00", 8);
    header[8] = NPY_HEADER - 10;
    header[9] = 0;
    char text[NPY_HEADER - 10];
    int length =
        snprintf(text, sizeof text, "{'descr': '%s', 'fortran_order': False, 'shape': (%s), }", type, shape);
    memset(header + 10, ' ', NPY_HEADER - 10);
    memcpy(header + 10, text, (size_t)length);
    header[NPY_HEADER - 1] = '\n';
}

sid2_npz *sid2_npz_open(const char *path, int32_t height, int32_t width, int32_t channels, sid2_error *err)
{
    sid2_npz *npz = calloc(1, sizeof *npz);
    if (!npz) return sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory", path), NULL;
    npz->height = height;
    npz->width = width;
    npz->channels = channels;
    char header[NPY_HEADER] = {0};
    npz->archive = sid2_archive_open(path, err);
    if (npz->archive && sid2_atomic_open(&npz->pictures, path, err)) {
        if (fwrite(header, NPY_HEADER, 1, npz->pictures.stream)) return npz;
        sid2_fail(err, SID2_ERR_IO, "%s: cannot be written: %s", path, strerror(errno));
    }
    sid2_npz_discard(npz);
    return NULL;
}

static bool append_labels(sid2_npz *npz, const int32_t *labels, int64_t count)
{
    size_t size = NPY_HEADER + 8 * (size_t)(npz->count + count);
    if (size > npz->labels_room) {
        uint8_t *grown = realloc(npz->labels, 2 * size);
        if (!grown) return false;
        npz->labels = grown;
        npz->labels_room = 2 * size;
    }
    for (int64_t i = 0; i < count; i++)
        for (int byte = 0; byte < 8; byte++)
            npz->labels[NPY_HEADER + 8 * (npz->count + i) + byte] = (uint8_t)((int64_t)labels[i] >> 8 * byte);
    return true;
}

bool sid2_npz_append(sid2_npz *npz, const uint8_t *pixels, const int32_t *labels, int64_t count,
                     sid2_error *err)
{
    const char *path = npz->pictures.path;
    size_t picture = (size_t)npz->height * (size_t)npz->width * (size_t)npz->channels;
    if (npz->count && npz->has_labels != !!labels)
        return sid2_fail(err, SID2_ERR_USAGE, "%s: labels for some pictures only", path);
    npz->has_labels = labels != NULL;
    if (labels && !append_labels(npz, labels, count))
        return sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory for labels", path);
    if (fwrite(pixels, picture, (size_t)count, npz->pictures.stream) != (size_t)count)
        return sid2_fail(err, SID2_ERR_IO, "%s: cannot be written: %s", path, strerror(errno));
    npz->count += count;
    return true;
}

static bool finish(sid2_npz *npz, sid2_error *err)
{
    const char *path = npz->pictures.path;
    FILE *stream = npz->pictures.stream;
    char header[NPY_HEADER], shape[80];
    snprintf(shape, sizeof shape, "%lld, %d, %d, %d", (long long)npz->count, npz->height, npz->width,
             npz->channels);
    npy_header(header, "|u1", shape);
    if (fseek(stream, 0, SEEK_SET) || !fwrite(header, NPY_HEADER, 1, stream) || fflush(stream) ||
        ferror(stream))
        return sid2_fail(err, SID2_ERR_IO, "%s: cannot be written: %s", path, strerror(errno));
    if (!sid2_archive_add_file(npz->archive, "arr_0.npy", npz->pictures.temporary, err)) return false;
    if (!npz->has_labels) return true;
    snprintf(shape, sizeof shape, "%lld,", (long long)npz->count);
    npy_header(header, "<i8", shape);
    memcpy(npz->labels, header, NPY_HEADER);
    uint8_t *labels = npz->labels;
    npz->labels = NULL; /* the archive's now */
    return sid2_archive_add_bytes(npz->archive, "arr_1.npy", labels, NPY_HEADER + 8 * (size_t)npz->count,
                                  err);
}

bool sid2_npz_commit(sid2_npz *npz, sid2_error *err)
{
    bool ok = finish(npz, err);
    if (ok) {
        ok = sid2_archive_commit(npz->archive, err);
        npz->archive = NULL;
    }
    sid2_npz_discard(npz);
    return ok;
}

void sid2_npz_discard(sid2_npz *npz)
{
    if (!npz) return;
    sid2_archive_discard(npz->archive);
    sid2_atomic_discard(&npz->pictures);
    free(npz->labels);
    free(npz);
}
