/* Files in tars, through libarchive, which reads from front to end. One pass notes where each file begins; to read
 * one is to begin there. A compressed tar is unpacked first, into a scratch file. */
#include "files.h"
#include "text.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BLOCK = 1 << 16, LISTING_BLOCK = 1 << 12, LONGEST_NAME = 4096 };

/* What a compressed tar may grow to: pictures hardly shrink, so more is malice or no tar of pictures. */
enum { UNPACKED_ALWAYS = 1 << 30, UNPACKED_TIMES = 100 };

typedef struct tars {
    int scratch; /* the compressed ones, unpacked one behind the other; -1: there is none */
    uint64_t scratch_size;
    int count;
    struct {
        char *path;
        bool is_unpacked;
        uint64_t base, size; /* in the scratch file */
    } item[];
} tars;

static bool fail(const char *path, const char *name, struct archive *a, sid2_error *err)
{
    int cause = archive_errno(a);
    const char *text = archive_error_string(a), *colon = *name ? ": " : "";
    if (cause == ENOMEM ||
        !cause) /* it fails without a word where it has no memory for what it begins with */
        return sid2_fail(err, SID2_ERR_MEMORY, "%s%s%s: no memory", path, colon, name);
    return sid2_fail(err, cause == EIO || cause == ESTALE ? SID2_ERR_IO : SID2_ERR_FORMAT,
                     "%s%s%s: cut short or damaged: %s", path, colon, name, text ? text : strerror(cause));
}

/* ---- A file, read from anywhere ---- */

typedef struct cursor {
    int descriptor;
    bool is_own;
    uint64_t at, end;
    size_t step; /* bytes at a time: little where most is skipped */
    struct archive_entry *head;
    uint8_t block[BLOCK];
} cursor;

static la_ssize_t on_read(struct archive *a, void *user, const void **bytes)
{
    cursor *c = user;
    uint64_t left = c->at < c->end ? c->end - c->at : 0;
    ssize_t got;
    do got = pread(c->descriptor, c->block, left < c->step ? (size_t)left : c->step, (off_t)c->at);
    while (got < 0 && errno == EINTR);
    if (got < 0) return archive_set_error(a, errno, "%s", strerror(errno)), -1;
    c->at += (uint64_t)got;
    *bytes = c->block;
    return got;
}

static la_int64_t on_skip(struct archive *a, void *user, la_int64_t bytes)
{
    (void)a;
    cursor *c = user;
    uint64_t left = c->at < c->end ? c->end - c->at : 0;
    if ((uint64_t)bytes > left) bytes = (la_int64_t)left;
    c->at += (uint64_t)bytes;
    return bytes;
}

static void cursor_close(cursor *c)
{
    if (!c) return;
    if (c->is_own) close(c->descriptor);
    archive_entry_free(c->head);
    free(c);
}

/* `place` bytes from the beginning of an archive. Many shards are more than a process may have open, so each is opened
 * when it is read. */
static cursor *cursor_open(const tars *t, int archive, uint64_t place, size_t step, sid2_error *err)
{
    const char *path = t->item[archive].path;
    cursor *c = malloc(sizeof *c);
    if (!c) return sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory", path), NULL;
    c->head = NULL;
    c->step = step;
    c->is_own = !t->item[archive].is_unpacked;
    if (!c->is_own) {
        c->descriptor = t->scratch;
        c->at = t->item[archive].base + place;
        c->end = t->item[archive].base + t->item[archive].size;
        return c;
    }
    size_t size = 0;
    c->descriptor = sid2_file_open(path, 0, &size, err);
    c->at = place;
    c->end = size;
    if (c->descriptor >= 0) return c;
    free(c);
    return NULL;
}

static struct archive *begin(cursor *c, bool is_tar, const char *path, sid2_error *err)
{
    struct archive *a = archive_read_new();
    /* An entry of ours: its own it uses without a look whether there was memory for it. */
    c->head = a ? archive_entry_new2(a) : NULL;
    if (!c->head) {
        archive_read_free(a);
        return sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory", path), NULL;
    }
    bool ok;
    if (is_tar)
        ok = archive_read_support_format_tar(a) == ARCHIVE_OK;
    else /* in this process: libarchive would start programs for what it cannot read itself */
        ok = archive_read_support_format_raw(a) == ARCHIVE_OK && !archive_read_support_filter_gzip(a) &&
             !archive_read_support_filter_bzip2(a) && !archive_read_support_filter_xz(a) &&
             !archive_read_support_filter_zstd(a);
    if (ok && archive_read_set_read_callback(a, on_read) == ARCHIVE_OK &&
        archive_read_set_skip_callback(a, on_skip) == ARCHIVE_OK &&
        archive_read_set_callback_data(a, c) == ARCHIVE_OK && archive_read_open1(a) == ARCHIVE_OK)
        return a;
    fail(path, "", a, err);
    archive_read_free(a);
    return NULL;
}

/* ---- Reading one file ---- */

static uint8_t *read_current(struct archive *a, struct archive_entry *header, const char *path,
                             const sid2_entry *entry, size_t limit, size_t *size, sid2_error *err)
{
    if (archive_read_next_header2(a, header) < ARCHIVE_WARN) return fail(path, entry->name, a, err), NULL;
    int64_t announced = archive_entry_size(header);
    if (announced < 0 || (uint64_t)announced > limit)
        return sid2_fail(err, SID2_ERR_FORMAT, "%s: too large (%lld bytes)", entry->name,
                         (long long)announced),
               NULL;
    *size = (size_t)announced;
    uint8_t *bytes = malloc(*size + 1);
    if (!bytes)
        return sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory for %zu bytes", entry->name, *size), NULL;
    size_t done = 0;
    la_ssize_t got = 1;
    while (done < *size && (got = archive_read_data(a, bytes + done, *size - done)) > 0) done += (size_t)got;
    bytes[*size] = 0;
    if (done == *size) return bytes;
    free(bytes);
    if (got < 0) return fail(path, entry->name, a, err), NULL;
    return sid2_fail(err, SID2_ERR_FORMAT, "%s: %s: cut short or damaged: not of the size announced", path,
                     entry->name),
           NULL;
}

static uint8_t *read_member(sid2_files *files, const sid2_entry *entry, size_t limit, size_t *size,
                            sid2_error *err)
{
    const tars *t = files->state;
    const char *path = t->item[entry->archive].path;
    cursor *c = cursor_open(t, entry->archive, entry->place, BLOCK, err);
    struct archive *a = c ? begin(c, true, path, err) : NULL;
    uint8_t *bytes = a ? read_current(a, c->head, path, entry, limit, size, err) : NULL;
    archive_read_free(a);
    cursor_close(c);
    return bytes;
}

/* ---- Reading from within one file ---- */

/* A number in a tar's head: octal, or of 256's digits behind a set bit. */
static uint64_t number_in(const uint8_t *field, int length)
{
    uint64_t value = 0;
    if (field[0] & 0x80) {
        for (int i = length - 8; i < length; i++) value = value << 8 | field[i];
        return value;
    }
    for (int i = 0; i < length && (field[i] == ' ' || (field[i] >= '0' && field[i] <= '7')); i++)
        if (field[i] != ' ') value = value << 3 | (uint64_t)(field[i] - '0');
    return value;
}

/* Where a file's bytes lie, one behind the other: behind its head and what stands before that, long names and the like. */
static bool find_bytes(const cursor *c, const char *path, const sid2_entry *entry, uint64_t *place,
                       sid2_error *err)
{
    enum { HEAD = 512, SIZE = 124, TYPE = 156, SPARSE = 'S' };
    uint8_t head[HEAD];
    for (*place = c->at; *place < c->end && c->end - *place >= HEAD;) {
        if (!sid2_file_fill(c->descriptor, head, HEAD, *place, path, err)) return false;
        uint64_t size = number_in(head + SIZE, 12);
        *place += HEAD;
        if (!strchr("xgLKXN", head[TYPE] ? head[TYPE] : '0')) {
            if (head[TYPE] == SPARSE || c->end - *place < entry->size) break;
            return true;
        }
        if (size > c->end - *place) break;
        *place += (size + HEAD - 1) / HEAD * HEAD;
    }
    return sid2_fail(err, SID2_ERR_FORMAT, "%s: %s: cut short, or sparse", path, entry->name);
}

static bool read_part(sid2_files *files, const sid2_entry *entry, void *bytes, size_t size, uint64_t offset,
                      sid2_error *err)
{
    const tars *t = files->state;
    const char *path = t->item[entry->archive].path;
    cursor *c = cursor_open(t, entry->archive, entry->place, BLOCK, err);
    uint64_t place;
    bool ok = c && find_bytes(c, path, entry, &place, err) &&
              sid2_file_fill(c->descriptor, bytes, size, place + offset, path, err);
    cursor_close(c);
    return ok;
}

/* ---- Unpacking ---- */

bool sid2_is_tar_name(const char *path)
{
    static const char *const endings[] = {".tar",    ".tgz",     ".tar.gz",  ".tbz2",
                                          ".tar.xz", ".tar.bz2", ".tar.zst", ".txz"};
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++)
        if (sid2_text_ends(path, endings[i])) return true;
    return false;
}

bool sid2_is_tar(const char *path, const uint8_t start[512])
{
    return sid2_is_tar_name(path) || !memcmp(start + 257, "ustar", 5);
}

static bool is_compressed(const uint8_t start[6])
{
    return !memcmp(start, "\x1f\x8b", 2) || !memcmp(start, "BZh", 3) ||
           !memcmp(start,
                   "\xfd"
                   "7zXZ",
                   6) ||
           !memcmp(start, "\x28\xb5\x2f\xfd", 4);
}

static bool unpack_from(struct archive *a, struct archive_entry *header, tars *t, uint64_t limit,
                        const char *path, sid2_error *err)
{
    if (archive_read_next_header2(a, header) < ARCHIVE_WARN) return fail(path, "", a, err);
    uint8_t *chunk = malloc(BLOCK);
    if (!chunk) return sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory", path);
    uint64_t base = t->scratch_size;
    la_ssize_t got = 0;
    bool ok = true;
    while (ok && (got = archive_read_data(a, chunk, BLOCK)) > 0) {
        ok = sid2_scratch_write(t->scratch, chunk, (size_t)got, t->scratch_size, path, err);
        t->scratch_size += (uint64_t)got;
        if (ok && t->scratch_size - base > limit)
            ok = sid2_fail(err, SID2_ERR_FORMAT, "%s: unpacks to more than %llu bytes, which no pictures do",
                           path, (unsigned long long)limit);
    }
    if (ok && got < 0) ok = fail(path, "", a, err);
    free(chunk);
    return ok;
}

static bool unpack(tars *t, int archive, sid2_error *err)
{
    const char *path = t->item[archive].path;
    if (t->scratch < 0 && (t->scratch = sid2_scratch_open(err)) < 0) return false;
    cursor *c = cursor_open(t, archive, 0, BLOCK, err);
    if (!c) return false;
    uint64_t base = t->scratch_size, limit = UNPACKED_ALWAYS + UNPACKED_TIMES * c->end;
    struct archive *a = begin(c, false, path, err);
    bool ok = a && unpack_from(a, c->head, t, limit, path, err);
    archive_read_free(a);
    cursor_close(c);
    t->item[archive].is_unpacked = true;
    t->item[archive].base = base;
    t->item[archive].size = t->scratch_size - base;
    return ok;
}

/* ---- Opening ---- */

static bool add_member(sid2_files *files, int archive, struct archive *a, struct archive_entry *header,
                       sid2_error *err)
{
    const char *path = ((tars *)files->state)->item[archive].path;
    const char *stored = archive_entry_pathname_utf8(header);
    if (!stored) stored = archive_entry_pathname(header);
    if (!stored || strlen(stored) > LONGEST_NAME)
        return sid2_fail(err, SID2_ERR_FORMAT, "%s: holds a file whose name cannot be read", path);
    char *name = sid2_archive_name(stored);
    if (!name) return sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory for its list of files", path);
    size_t length = strlen(name);
    mode_t type = archive_entry_filetype(header);
    bool is_link = type == AE_IFLNK || archive_entry_hardlink(header), ok = true;
    const sid2_entry entry = {.size = (uint64_t)archive_entry_size(header),
                              .place = (uint64_t)archive_read_header_position(a),
                              .archive = archive};
    if (length && name[length - 1] == '/') name[length - 1] = 0;
    if (name[0] && is_link)
        ok = sid2_losses_add(&files->losses, SID2_LOST_LINK, name, err);
    else if (name[0] && type == AE_IFDIR)
        ok = sid2_files_add_folder(files, name, err);
    else if (name[0] && type != AE_IFREG)
        ok = sid2_losses_add(&files->losses, SID2_LOST_SPECIAL, name, err);
    else if (name[0])
        ok = sid2_files_add(files, name, entry, err);
    free(name);
    return ok;
}

static bool list_members(sid2_files *files, int archive, sid2_error *err)
{
    const tars *t = files->state;
    const char *path = t->item[archive].path;
    cursor *c = cursor_open(t, archive, 0, LISTING_BLOCK, err);
    struct archive *a = c ? begin(c, true, path, err) : NULL;
    bool ok = a;
    int code = ARCHIVE_OK;
    while (ok && (code = archive_read_next_header2(a, c->head)) >= ARCHIVE_WARN && code != ARCHIVE_EOF)
        ok = add_member(files, archive, a, c->head, err);
    if (ok && code != ARCHIVE_EOF) ok = fail(path, "", a, err);
    archive_read_free(a);
    cursor_close(c);
    return ok;
}

static void close_tars(sid2_files *files)
{
    tars *t = files->state;
    if (!t) return;
    for (int i = 0; i < t->count; i++) free(t->item[i].path);
    if (t->scratch >= 0) close(t->scratch);
    free(t);
}

static bool add_tar(sid2_files *files, const char *path, sid2_error *err)
{
    tars *t = files->state;
    uint8_t start[6] = {0};
    size_t size;
    int descriptor = sid2_file_open(path, 0, &size, err);
    if (descriptor < 0) return false;
    bool ok = sid2_file_fill(descriptor, start, size < sizeof start ? size : sizeof start, 0, path, err);
    close(descriptor);
    if (!ok) return false;
    int archive = t->count;
    t->item[archive].path = strdup(path);
    if (!t->item[archive].path) return sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory", path);
    t->count++;
    return (!is_compressed(start) || unpack(t, archive, err)) && list_members(files, archive, err);
}

bool sid2_files_list_tars(sid2_files *files, const sid2_list *paths, sid2_error *err)
{
    tars *t = calloc(1, sizeof *t + paths->count * sizeof *t->item);
    if (files->close) files->close(files);
    files->kind = "tar";
    files->read = read_member;
    files->read_at = read_part;
    files->close = close_tars;
    files->state = t;
    if (!t) return sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory", files->path);
    t->scratch = -1;
    /* Names are UTF-8 for all that is known; libarchive asks the thread's locale, which is the application's. */
    locale_t utf8 = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);
    locale_t before = utf8 ? uselocale(utf8) : (locale_t)0;
    bool ok = true;
    for (size_t i = 0; ok && i < paths->count; i++) ok = add_tar(files, paths->name[i], err);
    if (utf8) {
        uselocale(before);
        freelocale(utf8);
    }
    return ok;
}
