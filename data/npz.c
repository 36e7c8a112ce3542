/* An npz is a zip of arrays, each behind a head that says its type and shape. */
#include "npz.h"
#include "archive_write.h"
#include "arrays.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NPY_HEADER = 128 };

struct sid2_npz {
    sid2_archive *zip;
    char *path; /* for messages */
    int64_t count, written;
    size_t picture;  /* bytes */
    uint8_t *labels; /* int64 little-endian; NULL: there are none */
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

/* A member's head, and that of the array in it, which has `size` bytes. */
static bool begin_array(sid2_archive *zip, const char *name, const char *type, const char *shape,
                        uint64_t size, sid2_error *err)
{
    char header[NPY_HEADER];
    npy_header(header, type, shape);
    return sid2_archive_begin(zip, name, NPY_HEADER + size, err) &&
           sid2_archive_write(zip, header, NPY_HEADER, err);
}

static bool add_array(sid2_archive *zip, const char *name, const char *type, const char *shape,
                      const void *values, size_t size, sid2_error *err)
{
    return begin_array(zip, name, type, shape, size, err) && sid2_archive_write(zip, values, size, err);
}

sid2_npz *sid2_npz_open(sid2_atomic_file *file, int64_t count, sid2_shape of_one, bool labelled,
                        sid2_error *err)
{
    char shape[200];
    int length = snprintf(shape, sizeof shape, "%lld", (long long)count);
    for (int i = 0; i < of_one.rank; i++)
        length += snprintf(shape + length, sizeof shape - (size_t)length, ", %lld", (long long)of_one.dim[i]);
    sid2_npz *npz = calloc(1, sizeof *npz);
    if (npz) {
        npz->count = count;
        npz->picture = (size_t)sid2_shape_count(of_one);
        npz->path = strdup(file->path);
        if (labelled) npz->labels = malloc(8 * (size_t)count + 1);
    }
    if (!npz || !npz->path || (labelled && !npz->labels)) {
        sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory", file->path);
        sid2_atomic_discard(file);
    } else if ((npz->zip = sid2_archive_on(file, false, err)) &&
               begin_array(npz->zip, "arr_0.npy", "|u1", shape, (uint64_t)count * npz->picture, err))
        return npz;
    sid2_npz_discard(npz);
    return NULL;
}

bool sid2_npz_append(sid2_npz *npz, const uint8_t *pixels, const int32_t *labels, int64_t count,
                     sid2_error *err)
{
    if (count > npz->count - npz->written)
        return sid2_fail(err, SID2_ERR_USAGE, "%s: more pictures than were announced", npz->path);
    for (int64_t i = 0; npz->labels && i < count; i++)
        for (int byte = 0; byte < 8; byte++)
            npz->labels[8 * (npz->written + i) + byte] = (uint8_t)((int64_t)labels[i] >> 8 * byte);
    npz->written += count;
    return sid2_archive_write(npz->zip, pixels, (size_t)count * npz->picture, err);
}

static bool finish(sid2_npz *npz, sid2_error *err)
{
    if (npz->written != npz->count)
        return sid2_fail(err, SID2_ERR_USAGE, "%s: fewer pictures than were announced", npz->path);
    char shape[32];
    snprintf(shape, sizeof shape, "%lld,", (long long)npz->count);
    if (npz->labels &&
        !add_array(npz->zip, "arr_1.npy", "<i8", shape, npz->labels, 8 * (size_t)npz->count, err))
        return false;
    sid2_archive *zip = npz->zip;
    npz->zip = NULL;
    return sid2_archive_commit(zip, err);
}

bool sid2_npz_commit(sid2_npz *npz, sid2_error *err)
{
    bool ok = finish(npz, err);
    sid2_npz_discard(npz);
    return ok;
}

void sid2_npz_discard(sid2_npz *npz)
{
    if (!npz) return;
    sid2_archive_discard(npz->zip);
    free(npz->labels);
    free(npz->path);
    free(npz);
}

bool sid2_statistics_write(const char *path, const double *mu, const double *sigma, int64_t width,
                           sid2_error *err)
{
    char row[32], square[64];
    const size_t bytes = (size_t)width * sizeof(double), all = (size_t)width * bytes;
    snprintf(row, sizeof row, "%lld,", (long long)width);
    snprintf(square, sizeof square, "%lld, %lld", (long long)width, (long long)width);
    sid2_archive *zip = sid2_archive_open(path, err);
    if (!zip) return false;
    if (add_array(zip, "mu.npy", "<f8", row, mu, bytes, err) &&
        add_array(zip, "sigma.npy", "<f8", square, sigma, all, err))
        return sid2_archive_commit(zip, err);
    sid2_archive_discard(zip);
    return false;
}
