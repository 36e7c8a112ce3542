#include "zip_write.h"

#include "file.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

bool sid2_zip_fail(const char *name, const zip_error_t *cause, sid2_error *err)
{
    int code = zip_error_code_zip(cause), system = zip_error_code_system(cause);
    bool io = code == ZIP_ER_OPEN || code == ZIP_ER_READ || code == ZIP_ER_SEEK || code == ZIP_ER_CLOSE ||
              code == ZIP_ER_TMPOPEN || code == ZIP_ER_TELL;
    bool memory =
        code == ZIP_ER_MEMORY || (io && system == ENOMEM) || (code == ZIP_ER_ZLIB && system == Z_MEM_ERROR);
    zip_error_t copy;
    zip_error_init(&copy);
    zip_error_set(&copy, code, system);
    sid2_fail(err,
              memory ? SID2_ERR_MEMORY
              : io   ? SID2_ERR_IO
                     : SID2_ERR_FORMAT,
              "%s: %s", name, memory ? "no memory" : zip_error_strerror(&copy));
    zip_error_fini(&copy);
    return false;
}

struct sid2_archive {
    sid2_atomic_file file;
    zip_t *zip; /* writes to file.temporary at commit */
};

sid2_archive *sid2_archive_open(const char *path, sid2_error *err)
{
    if (sid2_is_stream(path)) /* libzip goes back and forth in it */
        return sid2_fail(err, SID2_ERR_USAGE, "%s: a zip cannot be written to a device or pipe", path), NULL;
    sid2_archive *a = calloc(1, sizeof *a);
    if (!a) return sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory", path), NULL;
    if (!sid2_atomic_open(&a->file, path, err)) {
        free(a);
        return NULL;
    }
    int code;
    a->zip = zip_open(a->file.temporary, ZIP_CREATE | ZIP_TRUNCATE, &code);
    if (a->zip) return a;
    zip_error_t cause;
    zip_error_init_with_code(&cause, code);
    sid2_zip_fail(path, &cause, err);
    zip_error_fini(&cause);
    sid2_archive_discard(a);
    return NULL;
}

static bool add(sid2_archive *a, const char *name, zip_source_t *source, sid2_error *err)
{
    sid2_error cause = {0};
    zip_int64_t entry = zip_file_add(a->zip, name, source, ZIP_FL_ENC_UTF_8);
    if (entry < 0) zip_source_free(source);
    /* One date for all, so that the same contents make the same file. */
    if (entry >= 0 && !zip_set_file_compression(a->zip, (zip_uint64_t)entry, ZIP_CM_STORE, 0) &&
        !zip_file_set_mtime(a->zip, (zip_uint64_t)entry, 946728000, 0))
        return true;
    sid2_zip_fail(name, zip_get_error(a->zip), &cause);
    return sid2_fail(err, cause.code, "%s: %s", a->file.path, cause.message);
}

bool sid2_archive_add_bytes(sid2_archive *a, const char *name, void *bytes, size_t size, sid2_error *err)
{
    if (!size) free(bytes), bytes = NULL; /* which libzip would forget */
    zip_source_t *source = zip_source_buffer(a->zip, bytes, size, 1);
    if (source) return add(a, name, source, err);
    free(bytes);
    return sid2_fail(err, SID2_ERR_MEMORY, "%s: %s: no memory", a->file.path, name);
}

bool sid2_archive_add_part(sid2_archive *a, const char *name, const char *file, uint64_t offset,
                           uint64_t size, sid2_error *err)
{
    zip_source_t *source = zip_source_file(a->zip, file, offset, (zip_int64_t)size);
    if (source) return add(a, name, source, err);
    return sid2_zip_fail(a->file.path, zip_get_error(a->zip), err);
}

/* libzip renames a file of its own over file.temporary, so the stream opened on that is no longer the
 * archive. */
bool sid2_archive_commit(sid2_archive *a, sid2_error *err)
{
    bool ok = !zip_close(a->zip);
    if (!ok) {
        sid2_error cause = {0};
        sid2_zip_fail("cannot be written", zip_get_error(a->zip), &cause);
        sid2_fail(err, cause.code == SID2_ERR_FORMAT ? SID2_ERR_IO : cause.code, "%s: %s", a->file.path,
                  cause.message);
    } else {
        a->zip = NULL;
        FILE *stream = fopen(a->file.temporary, "rb+");
        if (!stream)
            ok = sid2_fail(err, SID2_ERR_IO, "%s: cannot be written: %s", a->file.path, strerror(errno));
        if (stream) {
            fclose(a->file.stream);
            a->file.stream = stream;
        }
    }
    ok = ok && sid2_atomic_commit(&a->file, err);
    sid2_archive_discard(a);
    return ok;
}

void sid2_archive_discard(sid2_archive *a)
{
    if (!a) return;
    if (a->zip) zip_discard(a->zip);
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
    if (text ? sid2_archive_add_bytes(archive, "dataset.json", text, strlen(text), err) : no_memory(err))
        return sid2_archive_commit(archive, err);
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
