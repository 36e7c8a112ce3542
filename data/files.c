#include "files.h"

#include "text.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* As if folder by folder: '/' before all others. */
static int compare_paths(const char *a, const char *b)
{
    for (; *a && *a == *b; a++) b++;
    int left = *a == '/' ? 1 : (unsigned char)*a, right = *b == '/' ? 1 : (unsigned char)*b;
    return left - right;
}

/* ---- Hidden and helper folders ---- */

/* What systems and programs put beside people's files. */
static bool is_helper(const char *part, size_t length)
{
    static const char *const helpers[] = {"__MACOSX",   "@eaDir",       "#recycle",
                                          "lost+found", "$RECYCLE.BIN", "System Volume Information",
                                          "__pycache__"};
    if (part[0] == '.') return true;
    for (size_t i = 0; i < sizeof helpers / sizeof *helpers; i++)
        if (length == strlen(helpers[i]) && !memcmp(part, helpers[i], length)) return true;
    return false;
}

static bool is_hidden(const char *name)
{
    for (const char *end; *name; name = *end ? end + 1 : end) {
        end = strchrnul(name, '/');
        if (is_helper(name, (size_t)(end - name))) return true;
    }
    return false;
}

/* ---- Filling ---- */

static bool no_memory(const sid2_files *files, sid2_error *err)
{
    return sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory for its list of files", files->path);
}

bool sid2_files_add(sid2_files *files, const char *stored, sid2_entry entry, sid2_error *err)
{
    if (is_hidden(stored)) return sid2_losses_add(&files->losses, SID2_LOST_HIDDEN, stored, err);
    if (files->count == files->room) {
        int64_t room = 2 * files->room + 64;
        sid2_entry *grown = realloc(files->entry, (size_t)room * sizeof *grown);
        if (!grown) return no_memory(files, err);
        files->entry = grown;
        files->room = room;
    }
    entry.name = sid2_text_nfc(stored);
    if (!entry.name) return no_memory(files, err);
    bool same = strcmp(entry.name, stored) == 0;
    entry.stored = same ? NULL : strdup(stored);
    if (!same && !entry.stored) {
        free(entry.name);
        return no_memory(files, err);
    }
    files->entry[files->count++] = entry;
    return true;
}

bool sid2_files_add_folder(sid2_files *files, const char *stored, sid2_error *err)
{
    if (!*stored || is_hidden(stored)) return true;
    char *name = sid2_text_nfc(stored);
    bool ok = name ? sid2_list_push(&files->folders, name, err) : no_memory(files, err);
    free(name);
    return ok;
}

char *sid2_archive_name(const char *stored)
{
    char *name = strdup(stored), *to = name;
    for (const char *from = name; from && *from;) {
        bool dot = from[0] == '.' && (from[1] == '/' || from[1] == '\\' || !from[1]);
        if (dot) from++;
        while (!dot && *from && *from != '/' && *from != '\\') *to++ = *from++;
        bool is_folder = *from;
        while (*from == '/' || *from == '\\') from++;
        if (is_folder && to > name && to[-1] != '/') *to++ = '/';
    }
    if (name) *to = 0;
    return name;
}

/* ---- Finding ---- */

static int by_name(const void *a, const void *b)
{
    const sid2_entry *x = a, *y = b;
    int order = compare_paths(x->name, y->name);
    if (!order) order = (x->archive > y->archive) - (x->archive < y->archive);
    return order ? order : (x->place > y->place) - (x->place < y->place);
}

static int by_path(const void *a, const void *b)
{
    return compare_paths(*(char *const *)a, *(char *const *)b);
}

/* What an entry's name and archive are to those of start[0, length) with rest. */
static int compare(const sid2_entry *e, const char *start, size_t length, const char *rest, int32_t archive)
{
    size_t same = 0;
    while (same < length && e->name[same] == start[same]) same++;
    int order = compare_paths(e->name + same, same < length ? start + same : rest);
    return order ? order : (e->archive > archive) - (e->archive < archive);
}

static const sid2_entry *find(const sid2_files *files, const char *start, size_t length, const char *rest,
                              int32_t archive)
{
    int64_t low = 0, high = files->count;
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        if (compare(&files->entry[middle], start, length, rest, archive) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    const sid2_entry *e = low < files->count ? &files->entry[low] : NULL;
    return e && !compare(e, start, length, rest, archive) ? e : NULL;
}

const sid2_entry *sid2_files_find(const sid2_files *files, const char *name, int32_t archive)
{
    return find(files, "", 0, name, archive);
}

const sid2_entry *sid2_files_beside(const sid2_files *files, const sid2_entry *entry, size_t length,
                                    const char *rest)
{
    return find(files, entry->name, length, rest, entry->archive);
}

bool sid2_is_picture_name(const char *name)
{
    static const char *const endings[] = {".png", ".jpg", ".jpeg", ".webp", ".jpe", ".jfif"};
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++)
        if (sid2_text_ends(name, endings[i])) return true;
    return false;
}

static void sort(sid2_files *files)
{
    if (files->count) qsort(files->entry, (size_t)files->count, sizeof *files->entry, by_name);
    if (files->folders.count)
        qsort(files->folders.name, files->folders.count, sizeof *files->folders.name, by_path);
}

/* ---- Opening ---- */

/* "x-{000..099}.tar": the numbers as they are padded. False without braces that hold two numbers. */
typedef struct range {
    const char *open, *close;
    long first, last;
    int digits;
} range;

static bool find_range(const char *path, range *r)
{
    char *end, *last;
    r->open = strchr(path, '{');
    if (!r->open || r->open[1] < '0' || r->open[1] > '9') return false;
    r->first = strtol(r->open + 1, &end, 10);
    r->digits = (int)(end - r->open - 1);
    if (strncmp(end, "..", 2) != 0 || end[2] < '0' || end[2] > '9' || r->digits > 9) return false;
    r->last = strtol(end + 2, &last, 10);
    r->close = last;
    return *last == '}' && last - end < 12;
}

static bool list_range(sid2_files *files, const range *r, sid2_error *err)
{
    enum { MOST = 1000000 };
    if (r->last < r->first || r->last - r->first >= MOST)
        return sid2_fail(err, SID2_ERR_USAGE, "%s: from %ld to %ld are no shards", files->path, r->first,
                         r->last);
    sid2_list paths = {0};
    bool ok = true;
    for (long i = r->first; ok && i <= r->last; i++) {
        char path[4096];
        ok = sid2_path(path, err, "%.*s%0*ld%s", (int)(r->open - files->path), files->path, r->digits, i,
                       r->close + 1) &&
             sid2_list_push(&paths, path, err);
    }
    ok = ok && sid2_files_list_tars(files, &paths, err);
    sid2_list_free(&paths);
    return ok;
}

static bool list_file(sid2_files *files, sid2_error *err)
{
    uint8_t start[512] = {0};
    size_t size;
    const char *path = files->path;
    int descriptor = sid2_file_open(path, 0, &size, err);
    if (descriptor < 0) return false;
    bool read = sid2_file_fill(descriptor, start, size < sizeof start ? size : sizeof start, 0, path, err);
    close(descriptor);
    if (!read) return false;
    if (size == 0) return sid2_fail(err, SID2_ERR_FORMAT, "%s: the file is empty", path);
    if (sid2_text_ends(path, ".zip") || !memcmp(start, "PK", 2)) return sid2_files_list_zip(files, err);
    if (!sid2_is_tar(path, start)) return sid2_files_list_beside(files, err);
    sid2_list paths = {0};
    bool ok = sid2_list_push(&paths, path, err) && sid2_files_list_tars(files, &paths, err);
    sid2_list_free(&paths);
    return ok;
}

static bool list(sid2_files *files, sid2_group *group, sid2_error *err)
{
    sid2_kind kind;
    range r;
    bool seen = sid2_look(files->path, &kind, err);
    uint8_t folder = seen && kind == SID2_FOLDER; /* to rank 0 */
    if (!sid2_group_share(group, &folder, 1, err)) return false;
    if (folder) return sid2_files_list_folder(files, group, err);
    if (!seen) return false;
    if (kind == SID2_ABSENT && find_range(files->path, &r)) return list_range(files, &r, err);
    if (kind == SID2_ABSENT) return sid2_fail(err, SID2_ERR_IO, "%s: %s", files->path, strerror(ENOENT));
    if (kind != SID2_FOLDER) return list_file(files, err);
    return sid2_files_list_folder(files, NULL, err);
}

sid2_files *sid2_files_open(const char *path, sid2_group *group, sid2_error *err)
{
    sid2_files *files = calloc(1, sizeof *files);
    bool ok =
        (files && (files->path = strdup(path))) || sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory", path);
    ok = sid2_group_concur(group, ok, err) && files && list(files, group, err);
    if (files) sort(files);
    if (ok) return files;
    sid2_files_close(files);
    return NULL;
}

static void drop_entries(sid2_files *files)
{
    for (int64_t i = 0; i < files->count; i++) {
        free(files->entry[i].name);
        free(files->entry[i].stored);
    }
    files->count = 0;
    sid2_list_free(&files->folders);
}

bool sid2_files_hold_tars(const sid2_files *files)
{
    int64_t i = 0;
    while (i < files->count && !sid2_is_tar_name(files->entry[i].name)) i++;
    return i < files->count && !strcmp(files->kind, "folder") && !files->choice;
}

bool sid2_files_open_tars(sid2_files *files, sid2_error *err)
{
    sid2_list paths = {0};
    bool ok = true;
    for (int64_t i = 0; ok && i < files->count; i++) {
        const sid2_entry *e = &files->entry[i];
        if (!sid2_is_tar_name(e->name)) {
            ok = sid2_losses_add(&files->losses, SID2_LOST_KIND, e->name, err);
            continue;
        }
        char *path = sid2_path_join(files->path, e->stored ? e->stored : e->name);
        ok = path ? sid2_list_push(&paths, path, err) : no_memory(files, err);
        free(path);
    }
    drop_entries(files);
    ok = ok && sid2_files_list_tars(files, &paths, err);
    sid2_list_free(&paths);
    sort(files);
    return ok;
}

void sid2_files_close(sid2_files *files)
{
    if (!files) return;
    if (files->close) files->close(files);
    drop_entries(files);
    free(files->entry);
    sid2_losses_free(&files->losses);
    free(files->choice);
    free(files->path);
    free(files);
}
