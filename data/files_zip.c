/* Files in a zip, through libzip, which reads any one of them. */
#include "file.h"
#include "files.h"
#include "text.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zip.h>
#include <zlib.h>

typedef struct archive {
    zip_t *zip;
    pthread_mutex_t lock; /* libzip reads one member at a time; decoding is done outside */
} archive;

/* What libzip has to say of `name`: damage is a matter of format, and apart from that are memory and reading that may go well
 * another time. */
static bool zip_fail(const char *name, const zip_error_t *cause, sid2_error *err)
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

static bool look(archive *a, const sid2_entry *entry, const char *name, size_t limit, sid2_error *err)
{
    zip_stat_t status;
    if (zip_stat_index(a->zip, entry->place, 0, &status)) return zip_fail(name, zip_get_error(a->zip), err);
    if (!(status.valid & ZIP_STAT_SIZE)) return sid2_fail(err, SID2_ERR_FORMAT, "%s: of unknown size", name);
    if (status.valid & ZIP_STAT_ENCRYPTION_METHOD && status.encryption_method != ZIP_EM_NONE)
        return sid2_fail(err, SID2_ERR_FORMAT, "%s: encrypted: pack the archive without a password", name);
    return status.size <= limit || sid2_fail(err, SID2_ERR_FORMAT, "%s: too large (%llu bytes)", name,
                                             (unsigned long long)status.size);
}

static uint8_t *read_locked(archive *a, const sid2_entry *entry, size_t limit, size_t *size, sid2_error *err)
{
    const char *name = entry->name;
    if (!look(a, entry, name, limit, err)) return NULL;
    *size = (size_t)entry->size;
    uint8_t *bytes = malloc(*size + 1);
    if (!bytes) return sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory for %zu bytes", name, *size), NULL;
    zip_file_t *file = zip_fopen_index(a->zip, entry->place, 0);
    if (!file) {
        zip_fail(name, zip_get_error(a->zip), err);
        free(bytes);
        return NULL;
    }
    /* The checksum is compared when the end is read, so one byte more is asked for than there should be. */
    zip_int64_t got = 0, more;
    while ((size_t)got <= *size && (more = zip_fread(file, bytes + got, *size + 1 - (size_t)got)) != 0) {
        if (more < 0) break;
        got += more;
    }
    bool ok = more == 0 && (size_t)got == *size;
    if (!ok) {
        if (more < 0)
            zip_fail(name, zip_file_get_error(file), err);
        else
            sid2_fail(err, SID2_ERR_FORMAT, "%s: not of the size announced", name);
        free(bytes);
        bytes = NULL;
    } else {
        bytes[*size] = 0;
    }
    zip_fclose(file);
    return bytes;
}

static uint8_t *read_member(sid2_files *files, const sid2_entry *entry, size_t limit, size_t *size,
                            sid2_error *err)
{
    archive *a = files->state;
    pthread_mutex_lock(&a->lock);
    uint8_t *bytes = read_locked(a, entry, limit, size, err);
    pthread_mutex_unlock(&a->lock);
    return bytes;
}

static void close_zip(sid2_files *files)
{
    archive *a = files->state;
    if (!a) return;
    if (a->zip) zip_discard(a->zip);
    pthread_mutex_destroy(&a->lock);
    free(a);
}

static bool is_link(archive *a, zip_uint64_t number)
{
    zip_uint8_t system;
    zip_uint32_t attributes;
    return !zip_file_get_external_attributes(a->zip, number, 0, &system, &attributes) &&
           system == ZIP_OPSYS_UNIX && S_ISLNK((mode_t)(attributes >> 16));
}

static bool add_member(sid2_files *files, zip_uint64_t number, sid2_error *err)
{
    archive *a = files->state;
    const char *stored = zip_get_name(a->zip, number, ZIP_FL_ENC_GUESS);
    if (!stored) return zip_fail(files->path, zip_get_error(a->zip), err);
    char *name = sid2_archive_name(stored);
    if (!name) return sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory for its list of files", files->path);
    size_t length = strlen(name);
    sid2_entry entry = {.place = number};
    zip_stat_t status;
    if (!zip_stat_index(a->zip, number, 0, &status)) {
        if (status.valid & ZIP_STAT_SIZE) entry.size = status.size;
        if (status.valid & ZIP_STAT_CRC) entry.checksum = status.crc;
    }
    bool ok = true;
    if (length && name[length - 1] == '/') {
        name[length - 1] = 0;
        ok = sid2_files_add_folder(files, name, err);
    } else if (length && is_link(a, number)) {
        ok = sid2_losses_add(&files->losses, SID2_LOST_LINK, name, err);
    } else if (length) {
        ok = sid2_files_add(files, name, entry, err);
    }
    free(name);
    return ok;
}

bool sid2_files_list_zip(sid2_files *files, sid2_error *err)
{
    const char *path = files->path;
    archive *a = calloc(1, sizeof *a);
    if (!a) return sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory", path);
    pthread_mutex_init(&a->lock, NULL);
    files->kind = "zip";
    files->read = read_member;
    files->close = close_zip;
    files->state = a;
    size_t size;
    int code = 0, descriptor = sid2_file_open(path, 0, &size, err);
    if (descriptor < 0) return false;
    a->zip = zip_fdopen(descriptor, 0, &code);
    if (!a->zip) {
        zip_error_t cause;
        zip_error_init_with_code(&cause, code);
        close(descriptor);
        zip_fail(path, &cause, err);
        if (err && err->code == SID2_ERR_FORMAT)
            sid2_fail(err, SID2_ERR_FORMAT, "%s: cut short, damaged or no zip archive: %s", path,
                      zip_error_strerror(&cause));
        zip_error_fini(&cause);
        return false;
    }
    bool ok = true;
    zip_int64_t total = zip_get_num_entries(a->zip, 0);
    for (zip_int64_t i = 0; ok && i < total; i++) ok = add_member(files, (zip_uint64_t)i, err);
    return ok;
}

/* ---- One file, from anywhere ---- */

struct sid2_member {
    archive *archive;
    char *name;       /* the archive's, and its own in there */
    zip_file_t *file; /* stored as it is: can be wound to any place (is_stored) */
    int scratch;      /* else; or -1 */
};

static bool unpack(sid2_member *m, const sid2_entry *entry, sid2_error *err)
{
    enum { CHUNK = 1 << 16 };
    m->scratch = sid2_scratch_open(err);
    uint8_t *chunk = m->scratch < 0 ? NULL : malloc(CHUNK);
    if (!chunk) return m->scratch >= 0 && sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory", m->name);
    uint64_t done = 0;
    zip_int64_t got;
    bool ok = true;
    while (ok && (got = zip_fread(m->file, chunk, CHUNK)) != 0) {
        ok = got > 0 ? sid2_scratch_write(m->scratch, chunk, (size_t)got, done, m->name, err)
                     : zip_fail(m->name, zip_file_get_error(m->file), err);
        if (ok) done += (uint64_t)got;
    }
    free(chunk);
    return ok &&
           (done == entry->size || sid2_fail(err, SID2_ERR_FORMAT, "%s: not of the size announced", m->name));
}

/* Whether its bytes lie in the archive as they are. One of no bytes, or that says so, libzip must not be asked to wind. */
static bool is_stored(archive *a, const sid2_entry *entry)
{
    zip_stat_t s;
    const zip_uint64_t wanted = ZIP_STAT_SIZE | ZIP_STAT_COMP_SIZE | ZIP_STAT_COMP_METHOD;
    return !zip_stat_index(a->zip, entry->place, 0, &s) && (s.valid & wanted) == wanted &&
           s.comp_method == ZIP_CM_STORE && s.size > 0 && s.comp_size == s.size;
}

/* Reads to the end, where libzip compares the checksum: what is read from anywhere later is compared with nothing. */
static bool verify(sid2_member *m, sid2_error *err)
{
    enum { CHUNK = 1 << 16 };
    uint8_t *chunk = malloc(CHUNK);
    if (!chunk) return sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory", m->name);
    zip_int64_t got;
    do got = zip_fread(m->file, chunk, CHUNK);
    while (got > 0);
    free(chunk);
    return !got || zip_fail(m->name, zip_file_get_error(m->file), err);
}

static bool reopen(sid2_member *m, const sid2_entry *entry, sid2_error *err)
{
    if (m->file) zip_fclose(m->file);
    m->file = zip_fopen_index(m->archive->zip, entry->place, 0);
    return m->file || zip_fail(m->name, zip_get_error(m->archive->zip), err);
}

static bool open_member(sid2_member *m, const sid2_entry *entry, sid2_error *err)
{
    if (!look(m->archive, entry, m->name, SIZE_MAX, err) || !reopen(m, entry, err)) return false;
    if (is_stored(m->archive, entry)) {
        if (!verify(m, err) || !reopen(m, entry, err)) return false;
        if (!zip_fseek(m->file, 0, SEEK_SET)) return true;
        if (!reopen(m, entry, err)) return false; /* it remembers the failure */
    }
    bool ok = unpack(m, entry, err);
    zip_fclose(m->file);
    m->file = NULL;
    return ok;
}

sid2_member *sid2_member_open(sid2_files *files, const sid2_entry *entry, sid2_error *err)
{
    archive *a = files->state;
    sid2_member *m = calloc(1, sizeof *m);
    if (!m) return sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory", entry->name), NULL;
    m->archive = a;
    m->name = sid2_path_join(files->path, entry->name);
    m->scratch = -1;
    if (!m->name) {
        sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory", entry->name);
        sid2_member_close(m);
        return NULL;
    }
    pthread_mutex_lock(&a->lock);
    bool ok = open_member(m, entry, err);
    pthread_mutex_unlock(&a->lock);
    if (ok) return m;
    sid2_member_close(m);
    return NULL;
}

bool sid2_member_read(sid2_member *m, void *bytes, size_t size, uint64_t offset, sid2_error *err)
{
    if (!m->file) return sid2_file_fill(m->scratch, bytes, size, offset, m->name, err);
    pthread_mutex_lock(&m->archive->lock);
    bool ok = !zip_fseek(m->file, (zip_int64_t)offset, SEEK_SET);
    zip_int64_t got = 1;
    for (size_t done = 0; ok && done < size && got; done += (size_t)got) {
        got = zip_fread(m->file, (char *)bytes + done, size - done);
        ok = got > 0;
    }
    if (!ok && got < 0)
        zip_fail(m->name, zip_file_get_error(m->file), err);
    else if (!ok)
        sid2_fail(err, SID2_ERR_FORMAT, "%s: cut short", m->name);
    pthread_mutex_unlock(&m->archive->lock);
    return ok;
}

void sid2_member_close(sid2_member *m)
{
    if (!m) return;
    if (m->file) zip_fclose(m->file);
    if (m->scratch >= 0) close(m->scratch);
    free(m->name);
    free(m);
}
