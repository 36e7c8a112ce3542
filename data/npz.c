/* A zip whose members are stored, through libarchive, which writes a member's checksum behind it. */
#include "npz.h"
#include "arrays.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NPY_HEADER = 128 };

struct sid2_npz {
    struct archive *zip;
    sid2_atomic_file file;
    int64_t count, written;
    size_t picture;  /* bytes */
    uint8_t *labels; /* int64 little-endian; NULL: there are none */
    int cause;       /* why nothing is written any more: an errno; 0: it is */
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

static bool fail(sid2_npz *npz, sid2_error *err)
{
    int cause = npz->cause ? npz->cause : archive_errno(npz->zip);
    return sid2_fail(err, cause == ENOMEM ? SID2_ERR_MEMORY : SID2_ERR_IO, "%s: cannot be written: %s",
                     npz->file.path, npz->cause ? strerror(cause) : archive_error_string(npz->zip));
}

/* Never tells of a failure: libarchive would not free what it holds. */
static la_ssize_t write_to_file(struct archive *zip, void *user, const void *bytes, size_t size)
{
    sid2_npz *npz = user;
    (void)zip;
    if (!npz->cause && fwrite(bytes, 1, size, npz->file.stream) != size) npz->cause = errno;
    return (la_ssize_t)size;
}

static bool write_bytes(sid2_npz *npz, const void *bytes, size_t size, sid2_error *err)
{
    return (archive_write_data(npz->zip, bytes, size) == (la_ssize_t)size && !npz->cause) || fail(npz, err);
}

/* A member's head, and that of the array in it, which has `size` bytes. */
static bool begin_member(sid2_npz *npz, const char *name, const char *type, const char *shape, uint64_t size,
                         sid2_error *err)
{
    char header[NPY_HEADER];
    npy_header(header, type, shape);
    struct archive_entry *entry = archive_entry_new();
    if (!entry) return sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory", npz->file.path);
    archive_entry_set_pathname(entry, name);
    archive_entry_set_filetype(entry, AE_IFREG);
    archive_entry_set_perm(entry, 0644);
    archive_entry_set_mtime(entry, 946728000, 0); /* one date for all: the same contents make the same file */
    archive_entry_set_size(entry, (la_int64_t)(NPY_HEADER + size));
    bool ok = (archive_write_header(npz->zip, entry) == ARCHIVE_OK && !npz->cause) || fail(npz, err);
    archive_entry_free(entry);
    return ok && write_bytes(npz, header, NPY_HEADER, err);
}

static bool begin_zip(sid2_npz *npz, sid2_error *err)
{
    return (archive_write_set_format_zip(npz->zip) == ARCHIVE_OK &&
            archive_write_zip_set_compression_store(npz->zip) == ARCHIVE_OK &&
            archive_write_set_bytes_in_last_block(npz->zip, 1) == ARCHIVE_OK &&
            archive_write_open(npz->zip, npz, NULL, write_to_file, NULL) == ARCHIVE_OK) ||
           fail(npz, err);
}

static bool begin(sid2_npz *npz, int32_t height, int32_t width, int32_t channels, sid2_error *err)
{
    char shape[80];
    snprintf(shape, sizeof shape, "%lld, %d, %d, %d", (long long)npz->count, height, width, channels);
    return begin_zip(npz, err) &&
           begin_member(npz, "arr_0.npy", "|u1", shape, (uint64_t)npz->count * npz->picture, err);
}

sid2_npz *sid2_npz_open(sid2_atomic_file *file, int64_t count, int32_t height, int32_t width,
                        int32_t channels, bool labelled, sid2_error *err)
{
    sid2_npz *npz = calloc(1, sizeof *npz);
    if (npz) {
        npz->file = *file;
        *file = (sid2_atomic_file){0};
        npz->count = count;
        npz->picture = (size_t)height * (size_t)width * (size_t)channels;
        npz->zip = archive_write_new();
        if (labelled) npz->labels = malloc(8 * (size_t)count + 1);
    }
    if (npz && npz->zip && (npz->labels || !labelled)) {
        if (begin(npz, height, width, channels, err)) return npz;
    } else
        sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory", npz ? npz->file.path : file->path);
    sid2_npz_discard(npz);
    sid2_atomic_discard(file);
    return NULL;
}

bool sid2_npz_append(sid2_npz *npz, const uint8_t *pixels, const int32_t *labels, int64_t count,
                     sid2_error *err)
{
    if (count > npz->count - npz->written)
        return sid2_fail(err, SID2_ERR_USAGE, "%s: more pictures than were announced", npz->file.path);
    for (int64_t i = 0; npz->labels && i < count; i++)
        for (int byte = 0; byte < 8; byte++)
            npz->labels[8 * (npz->written + i) + byte] = (uint8_t)((int64_t)labels[i] >> 8 * byte);
    npz->written += count;
    return write_bytes(npz, pixels, (size_t)count * npz->picture, err);
}

static bool end_zip(sid2_npz *npz, sid2_error *err)
{
    return ((archive_write_close(npz->zip) == ARCHIVE_OK && !npz->cause) || fail(npz, err)) &&
           sid2_atomic_commit(&npz->file, err);
}

static bool finish(sid2_npz *npz, sid2_error *err)
{
    if (npz->written != npz->count)
        return sid2_fail(err, SID2_ERR_USAGE, "%s: fewer pictures than were announced", npz->file.path);
    char shape[32];
    snprintf(shape, sizeof shape, "%lld,", (long long)npz->count);
    size_t size = 8 * (size_t)npz->count;
    return (!npz->labels || (begin_member(npz, "arr_1.npy", "<i8", shape, size, err) &&
                             write_bytes(npz, npz->labels, size, err))) &&
           end_zip(npz, err);
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
    if (!npz->cause) npz->cause = ECANCELED; /* what it completes goes nowhere */
    archive_write_free(npz->zip);
    sid2_atomic_discard(&npz->file);
    free(npz->labels);
    free(npz);
}

bool sid2_statistics_write(const char *path, const double *mu, const double *sigma, int64_t width,
                           sid2_error *err)
{
    char row[32], square[64];
    const size_t bytes = (size_t)width * sizeof(double), all = (size_t)width * bytes;
    snprintf(row, sizeof row, "%lld,", (long long)width);
    snprintf(square, sizeof square, "%lld, %lld", (long long)width, (long long)width);
    sid2_npz *npz = calloc(1, sizeof *npz);
    if (npz) npz->zip = archive_write_new();
    bool ok = npz && npz->zip ? sid2_atomic_open(&npz->file, path, err)
                              : sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory", path);
    ok = ok && begin_zip(npz, err) && begin_member(npz, "mu.npy", "<f8", row, bytes, err) &&
         write_bytes(npz, mu, bytes, err) && begin_member(npz, "sigma.npy", "<f8", square, all, err) &&
         write_bytes(npz, sigma, all, err) && end_zip(npz, err);
    sid2_npz_discard(npz);
    return ok;
}
