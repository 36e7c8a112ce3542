/* Through libarchive, which writes from front to end, a member's checksum behind it. */
#include "archive_write.h"

#include "text.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct sid2_archive {
    sid2_atomic_file file;
    struct archive *archive;
    int cause; /* why nothing is written any more: an errno; 0: it is */
};

static bool fail(sid2_archive *a, sid2_error *err)
{
    int cause = a->cause ? a->cause : archive_errno(a->archive);
    return sid2_fail(err, cause == ENOMEM ? SID2_ERR_MEMORY : SID2_ERR_IO, "%s: cannot be written: %s",
                     a->file.path, a->cause ? strerror(cause) : archive_error_string(a->archive));
}

/* Never tells of a failure: libarchive would not free what it holds. */
static la_ssize_t write_to_file(struct archive *zip, void *user, const void *bytes, size_t size)
{
    sid2_archive *a = user;
    (void)zip;
    if (!a->cause && fwrite(bytes, 1, size, a->file.stream) != size) a->cause = errno;
    return (la_ssize_t)size;
}

static bool begin(sid2_archive *a, bool is_tar, sid2_error *err)
{
    return ((is_tar ? archive_write_set_format_pax_restricted(a->archive)
                    : archive_write_set_format_zip(a->archive) |
                          archive_write_zip_set_compression_store(a->archive)) == ARCHIVE_OK &&
            archive_write_set_bytes_in_last_block(a->archive, 1) == ARCHIVE_OK &&
            archive_write_open(a->archive, a, NULL, write_to_file, NULL) == ARCHIVE_OK) ||
           fail(a, err);
}

sid2_archive *sid2_archive_on(sid2_atomic_file *file, bool is_tar, sid2_error *err)
{
    sid2_archive *a = calloc(1, sizeof *a);
    if (a) a->archive = archive_write_new();
    if (!a || !a->archive) {
        sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory", file->path);
        sid2_atomic_discard(file);
        free(a);
        return NULL;
    }
    a->file = *file;
    *file = (sid2_atomic_file){0};
    if (begin(a, is_tar, err)) return a;
    sid2_archive_discard(a);
    return NULL;
}

sid2_archive *sid2_archive_open(const char *path, sid2_error *err)
{
    sid2_atomic_file file;
    return sid2_output_open(&file, path, err) ? sid2_archive_on(&file, sid2_text_ends(path, ".tar"), err)
                                              : NULL;
}

bool sid2_archive_begin(sid2_archive *a, const char *name, uint64_t size, sid2_error *err)
{
    struct archive_entry *entry = archive_entry_new();
    if (!entry) return sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory", a->file.path);
    archive_entry_set_pathname(entry, name);
    archive_entry_set_filetype(entry, AE_IFREG);
    archive_entry_set_perm(entry, 0644);
    archive_entry_set_mtime(entry, 946728000, 0); /* one date for all: the same contents make the same file */
    archive_entry_set_size(entry, (la_int64_t)size);
    bool ok = (archive_write_header(a->archive, entry) == ARCHIVE_OK && !a->cause) || fail(a, err);
    archive_entry_free(entry);
    return ok;
}

bool sid2_archive_write(sid2_archive *a, const void *bytes, size_t size, sid2_error *err)
{
    return (archive_write_data(a->archive, bytes, size) == (la_ssize_t)size && !a->cause) || fail(a, err);
}

bool sid2_archive_add(sid2_archive *a, const char *name, const void *bytes, size_t size, sid2_error *err)
{
    return sid2_archive_begin(a, name, size, err) && sid2_archive_write(a, bytes, size, err);
}

bool sid2_archive_commit(sid2_archive *a, sid2_error *err)
{
    bool ok = ((archive_write_close(a->archive) == ARCHIVE_OK && !a->cause) || fail(a, err)) &&
              sid2_atomic_commit(&a->file, err);
    sid2_archive_discard(a);
    return ok;
}

void sid2_archive_discard(sid2_archive *a)
{
    if (!a) return;
    if (!a->cause) a->cause = ECANCELED; /* what it completes goes nowhere */
    archive_write_free(a->archive);
    sid2_atomic_discard(&a->file);
    free(a);
}

/* ---- EDM's layout ---- */

static bool no_memory(sid2_error *err) { return sid2_fail(err, SID2_ERR_MEMORY, "dataset.json: no memory"); }

bool sid2_edm_open(sid2_edm *edm, const char *path, sid2_error *err)
{
    *edm = (sid2_edm){.archive = sid2_archive_open(path, err)};
    if (!edm->archive) return false;
    edm->labels = json_array();
    edm->names = json_array();
    return (edm->labels && edm->names) || no_memory(err);
}

bool sid2_edm_next(sid2_edm *edm, int32_t label, char name[SID2_EDM_NAME], sid2_error *err)
{
    size_t index = json_array_size(edm->labels);
    snprintf(name, SID2_EDM_NAME, "%05zu/img%08zu.png", index / 1000, index);
    return !json_array_append_new(edm->labels, json_pack("[si]", name, label)) || no_memory(err);
}

bool sid2_edm_name_class(sid2_edm *edm, const char *name, sid2_error *err)
{
    json_t *text = json_string(name);
    if (!text) text = json_sprintf("%zu", json_array_size(edm->names)); /* no UTF-8 */
    return !json_array_append_new(edm->names, text) || no_memory(err);
}

bool sid2_edm_commit(sid2_edm *edm, sid2_error *err)
{
    json_t *root = json_pack("{sOsO}", "labels", edm->labels, "names", edm->names);
    char *text = root ? json_dumps(root, 0) : NULL;
    json_decref(root);
    sid2_archive *archive = edm->archive;
    edm->archive = NULL;
    sid2_edm_discard(edm);
    bool ok = text ? sid2_archive_add(archive, "dataset.json", text, strlen(text), err) : no_memory(err);
    free(text);
    if (ok) return sid2_archive_commit(archive, err);
    sid2_archive_discard(archive);
    return false;
}

void sid2_edm_discard(sid2_edm *edm)
{
    sid2_archive_discard(edm->archive);
    json_decref(edm->labels);
    json_decref(edm->names);
    *edm = (sid2_edm){0};
}
