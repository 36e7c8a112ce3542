/* Files in a folder and those below it. */
#include "files.h"
#include "text.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The folders above the one being read, so that a symbolic link cannot lead round in a circle. */
typedef struct ancestor {
    const struct ancestor *parent;
    dev_t device;
    ino_t inode;
} ancestor;

typedef struct walk {
    sid2_files *files;
    bool whole; /* folders below, too */
} walk;

static bool is_ancestor(const ancestor *folder, const struct stat *status)
{
    for (; folder; folder = folder->parent)
        if (folder->device == status->st_dev && folder->inode == status->st_ino) return true;
    return false;
}

static bool cannot(const char *path, const char *name, sid2_error *err)
{
    return sid2_fail(err, errno == ENOMEM ? SID2_ERR_MEMORY : SID2_ERR_IO, "%s%s%s: %s", path,
                     name ? "/" : "", name ? name : "", strerror(errno));
}

static bool collect(const walk *w, const char *relative, const ancestor *parent, sid2_error *err);

/* What the name in an open folder leads to: a file, a folder, or a reason to leave it out. */
static bool add(const walk *w, int folder, const char *path, const char *name, const char *child,
                const ancestor *self, sid2_error *err)
{
    struct stat status;
    sid2_losses *losses = &w->files->losses;
    if (fstatat(folder, name, &status, 0)) {
        if (errno == ELOOP) return sid2_losses_add(losses, SID2_LOST_CIRCLE, child, err);
        if (errno == ENOENT) return sid2_losses_add(losses, SID2_LOST_DANGLING, child, err);
        if (errno == EACCES) return sid2_losses_add(losses, SID2_LOST_DENIED, child, err);
        return cannot(path, name, err);
    }
    bool is_folder = S_ISDIR(status.st_mode);
    if (is_folder && is_ancestor(self, &status)) return sid2_losses_add(losses, SID2_LOST_CIRCLE, child, err);
    if (!is_folder && !S_ISREG(status.st_mode)) return sid2_losses_add(losses, SID2_LOST_SPECIAL, child, err);
    if (faccessat(folder, name, is_folder ? R_OK | X_OK : R_OK, 0) && errno == EACCES)
        return sid2_losses_add(losses, SID2_LOST_DENIED, child, err);
    if (!is_folder)
        return sid2_files_add(w->files, child, (sid2_entry){.size = (uint64_t)status.st_size}, err);
    return !w->whole || (sid2_files_add_folder(w->files, child, err) && collect(w, child, self, err));
}

/* Adds what is in root/relative (relative may be "") and below. */
static bool collect(const walk *w, const char *relative, const ancestor *parent, sid2_error *err)
{
    const char *root = w->files->path;
    char *path = relative[0] ? sid2_path_join(root, relative) : strdup(root);
    if (!path) return sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory", root);
    struct stat status;
    DIR *folder = opendir(path);
    if (!folder || fstat(dirfd(folder), &status)) {
        cannot(path, NULL, err);
        if (folder) closedir(folder);
        free(path);
        return false;
    }
    ancestor self = {parent, status.st_dev, status.st_ino};
    bool ok = true;
    while (ok) {
        errno = 0;
        struct dirent *entry = readdir(folder);
        if (!entry) {
            if (errno) ok = cannot(path, NULL, err);
            break;
        }
        const char *name = entry->d_name;
        if (!strcmp(name, ".") || !strcmp(name, "..")) continue;
        char *child = relative[0] ? sid2_path_join(relative, name) : strdup(name);
        ok = child ? add(w, dirfd(folder), path, name, child, &self, err)
                   : sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory", path);
        free(child);
    }
    closedir(folder);
    free(path);
    return ok;
}

static uint8_t *read_file(sid2_files *files, const sid2_entry *entry, size_t limit, size_t *size,
                          sid2_error *err)
{
    char *path = sid2_path_join(files->state, entry->stored ? entry->stored : entry->name);
    if (!path) return sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory", entry->name), NULL;
    uint8_t *bytes = sid2_file_read(path, limit, size, err);
    free(path);
    return bytes;
}

static bool read_part(sid2_files *files, const sid2_entry *entry, void *bytes, size_t size, uint64_t offset,
                      sid2_error *err)
{
    size_t whole;
    char *path = sid2_path_join(files->state, entry->stored ? entry->stored : entry->name);
    if (!path) return sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory", entry->name);
    int descriptor = sid2_file_open(path, 0, &whole, err);
    bool ok = descriptor >= 0 && sid2_file_fill(descriptor, bytes, size, offset, path, err);
    if (descriptor >= 0) close(descriptor);
    free(path);
    return ok;
}

static void close_folder(sid2_files *files) { free(files->state); }

static bool begin(sid2_files *files, char *folder, sid2_error *err)
{
    files->kind = "folder";
    files->read = read_file;
    files->read_at = read_part;
    files->close = close_folder;
    files->state = folder;
    return folder || sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory", files->path);
}

/* ---- Shared ----
 * A list is each file's size and name, then each folder's name behind the largest size there is. */

static bool pack(const sid2_files *files, char **list, uint64_t *size, sid2_error *err)
{
    size_t written = 0;
    FILE *stream = open_memstream(list, &written);
    for (int64_t i = 0; stream && i < files->count; i++) {
        const sid2_entry *e = &files->entry[i];
        const char *name = e->stored ? e->stored : e->name;
        fwrite(&e->size, sizeof e->size, 1, stream);
        fwrite(name, 1, strlen(name) + 1, stream);
    }
    for (size_t i = 0; stream && i < files->folders.count; i++) {
        fwrite(&(uint64_t){UINT64_MAX}, sizeof(uint64_t), 1, stream);
        fwrite(files->folders.name[i], 1, strlen(files->folders.name[i]) + 1, stream);
    }
    bool ok = stream && !ferror(stream);
    if (stream && fclose(stream)) ok = false;
    *size = written;
    return ok || sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory to share its list of files", files->path);
}

static bool unpack(sid2_files *files, const char *list, uint64_t size, sid2_error *err)
{
    uint64_t bytes;
    for (const char *at = list; at < list + size; at += sizeof bytes + strlen(at + sizeof bytes) + 1) {
        const char *name = at + sizeof bytes;
        memcpy(&bytes, at, sizeof bytes);
        if (!(bytes == UINT64_MAX ? sid2_files_add_folder(files, name, err)
                                  : sid2_files_add(files, name, (sid2_entry){.size = bytes}, err)))
            return false;
    }
    return true;
}

/* What rank 0 has found to all. */
static bool share(sid2_files *files, sid2_group *group, sid2_error *err)
{
    char *list = NULL;
    uint64_t size = 0;
    bool first = sid2_group_rank(group) == 0;
    bool ok = sid2_group_concur(group, !first || pack(files, &list, &size, err), err) &&
              sid2_group_share(group, &size, sizeof size, err);
    if (ok && !first && !(list = malloc(size + 1)))
        ok = sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory for its list of files", files->path);
    ok = sid2_group_concur(group, ok, err) && sid2_group_share(group, list, size, err);
    ok = ok && (first || unpack(files, list, size, err));
    free(list);
    return ok;
}

bool sid2_files_list_folder(sid2_files *files, sid2_group *group, sid2_error *err)
{
    const walk w = {files, true};
    bool first = sid2_group_rank(group) == 0;
    bool ok = begin(files, strdup(files->path), err) && (!first || collect(&w, "", NULL, err));
    if (!group) return ok;
    return sid2_group_concur(group, ok, err) && share(files, group, err);
}

bool sid2_files_list_beside(sid2_files *files, sid2_error *err)
{
    const char *base = sid2_base_name(files->path);
    char *folder = base == files->path ? strdup(".") : strndup(files->path, (size_t)(base - files->path));
    if (!begin(files, folder, err)) return false;
    files->choice = sid2_text_nfc(base);
    if (!files->choice) return sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory", files->path);
    char *path = files->path;
    files->path = folder;
    const walk w = {files, false};
    bool ok = collect(&w, "", NULL, err);
    files->path = path;
    sid2_losses_free(&files->losses); /* what else lies there is none of this data set */
    return ok;
}
