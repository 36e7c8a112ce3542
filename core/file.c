#include "file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

bool sid2_path(char path[4096], sid2_error *err, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(path, 4096, format, arguments);
    va_end(arguments);
    return (length >= 0 && length < 4096) || sid2_fail(err, SID2_ERR_USAGE, "path too long: %.80s...", path);
}

uint8_t *sid2_file_read(const char *path, size_t limit, size_t *size, sid2_error *err)
{
    FILE *stream = fopen(path, "rb");
    if (!stream) return sid2_fail(err, SID2_ERR_IO, "%s: %s", path, strerror(errno)), NULL;
    uint8_t *bytes = NULL;
    size_t used = 0, room = 0;
    struct stat status;
    if (!fstat(fileno(stream), &status) && S_ISREG(status.st_mode)) room = (size_t)status.st_size;
    if (room > limit) goto too_large;
    room++; /* so that a file of the size announced ends within the first read */
    for (;;) {
        uint8_t *grown = realloc(bytes, room);
        if (!grown) {
            sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory for %zu bytes", path, room);
            goto fail;
        }
        bytes = grown;
        used += fread(bytes + used, 1, room - used, stream);
        if (used < room) break;
        if (used > limit) goto too_large;
        room *= 2;
    }
    if (ferror(stream)) {
        sid2_fail(err, SID2_ERR_IO, "%s: %s", path, strerror(errno));
        goto fail;
    }
    fclose(stream);
    *size = used;
    return bytes;

too_large:
    sid2_fail(err, SID2_ERR_FORMAT, "%s: larger than the %zu bytes such a file may have", path, limit);
fail:
    free(bytes);
    fclose(stream);
    return NULL;
}

/* The temporaries there are now; more than fit are not remembered. Without locks, as a signal handler reads
 * it. */
enum { MOST_TEMPORARIES = 16 };
static _Atomic(char *) temporaries[MOST_TEMPORARIES];

/* Puts `now` where `before` stood. */
static void exchange_temporary(char *before, char *now)
{
    for (int i = 0; i < MOST_TEMPORARIES; i++) {
        char *expected = before;
        if (atomic_compare_exchange_strong(&temporaries[i], &expected, now)) return;
    }
}

void sid2_atomic_abandon(void)
{
    for (int i = 0; i < MOST_TEMPORARIES; i++) {
        const char *temporary = atomic_exchange(&temporaries[i], NULL);
        if (temporary) unlink(temporary);
    }
}

bool sid2_is_stream(const char *path)
{
    struct stat status;
    return !stat(path, &status) && (S_ISCHR(status.st_mode) || S_ISFIFO(status.st_mode));
}

static bool ends_in_slash(const char *path) { return *path && path[strlen(path) - 1] == '/'; }

/* Where the renaming goes: a symbolic link stays, and the file at its end is replaced. */
static char *find_target(const char *path, sid2_error *err)
{
    struct stat status;
    bool exists = !stat(path, &status), is_folder = exists && S_ISDIR(status.st_mode);
    if (is_folder || ends_in_slash(path) || (exists && !S_ISREG(status.st_mode)))
        return sid2_fail(err, SID2_ERR_IO, "%s: cannot be written: %s", path,
                         exists && !is_folder ? "it is neither a file nor a stream" : strerror(EISDIR)),
               NULL;
    bool is_link = !lstat(path, &status) && S_ISLNK(status.st_mode);
    char *target = is_link ? realpath(path, NULL) : strdup(path);
    if (!target)
        sid2_fail(err, SID2_ERR_IO, "%s: cannot be written%s: %s", path,
                  is_link ? " through the symbolic link" : "", strerror(errno));
    return target;
}

static bool open_temporary(sid2_atomic_file *file, sid2_error *err)
{
    file->temporary = malloc(strlen(file->path) + 40);
    if (!file->temporary) return sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory", file->path);
    int descriptor = -1;
    for (int attempt = 0; descriptor < 0 && attempt < 100; attempt++) {
        sprintf(file->temporary, "%s.tmp-%ld-%d", file->path, (long)getpid(), attempt);
        descriptor = open(file->temporary, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (descriptor < 0 && errno != EEXIST) break;
    }
    if (descriptor >= 0) file->stream = fdopen(descriptor, "wb+");
    if (file->stream) {
        exchange_temporary(NULL, file->temporary);
        return true;
    }
    sid2_fail(err, SID2_ERR_IO, "%s: cannot be written: %s", file->path, strerror(errno));
    if (descriptor >= 0) {
        close(descriptor);
        unlink(file->temporary);
    }
    return false;
}

bool sid2_atomic_open(sid2_atomic_file *file, const char *path, sid2_error *err)
{
    *file = (sid2_atomic_file){0};
    if (sid2_is_stream(path)) {
        file->path = strdup(path);
        file->stream = file->path ? fopen(path, "wbe") : NULL;
        if (file->stream) return true;
        sid2_fail(err, SID2_ERR_IO, "%s: cannot be written: %s", path, strerror(errno));
    } else {
        file->path = find_target(path, err);
        if (file->path && sid2_make_parents(file->path, err) && open_temporary(file, err)) return true;
    }
    sid2_atomic_discard(file);
    return false;
}

/* The renaming itself lasts through a power cut only once the folder is on the disk. Not every file system
 * lets a folder be flushed; then there is nothing more to do. */
static void flush_folder(const char *path)
{
    char *folder = strdup(path);
    if (!folder) return;
    char *slash = strrchr(folder, '/');
    if (slash) slash[slash == folder] = 0;
    int descriptor = open(slash ? folder : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (descriptor >= 0) {
        fsync(descriptor);
        close(descriptor);
    }
    free(folder);
}

bool sid2_atomic_commit(sid2_atomic_file *file, sid2_error *err)
{
    errno = 0;
    bool ok = !ferror(file->stream);
    ok = !fflush(file->stream) && ok;
    ok = ok && (!file->temporary || !fsync(fileno(file->stream)));
    int cause = errno;
    ok = !fclose(file->stream) && ok;
    file->stream = NULL;
    if (ok && file->temporary && rename(file->temporary, file->path)) {
        cause = errno;
        ok = false;
    }
    if (ok && file->temporary) flush_folder(file->path);
    if (!ok) {
        if (file->temporary) unlink(file->temporary);
        sid2_fail(err, SID2_ERR_IO, "%s: cannot be written: %s", file->path,
                  cause ? strerror(cause) : "an earlier write failed (disk full?)");
    }
    sid2_atomic_discard(file);
    return ok;
}

void sid2_atomic_discard(sid2_atomic_file *file)
{
    if (file->stream) {
        fclose(file->stream);
        if (file->temporary) unlink(file->temporary);
    }
    if (file->temporary) exchange_temporary(file->temporary, NULL);
    free(file->path);
    free(file->temporary);
    *file = (sid2_atomic_file){0};
}

bool sid2_file_write(const char *path, const void *bytes, size_t size, sid2_error *err)
{
    sid2_atomic_file file;
    if (!sid2_atomic_open(&file, path, err)) return false;
    if (fwrite(bytes, 1, size, file.stream) != size) {
        sid2_fail(err, SID2_ERR_IO, "%s: cannot be written: %s", path, strerror(errno));
        sid2_atomic_discard(&file);
        return false;
    }
    return sid2_atomic_commit(&file, err);
}

/* ---- Folders ---- */

bool sid2_is_directory(const char *path)
{
    struct stat status;
    return !stat(path, &status) && S_ISDIR(status.st_mode);
}

bool sid2_make_directories(const char *path, sid2_error *err)
{
    char *partial = strdup(path);
    if (!partial) return sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory", path);
    bool made = true;
    for (char *p = partial + 1; made; p++) {
        if (*p != '/' && *p) continue;
        char end = *p;
        *p = 0;
        if (mkdir(partial, 0777) && !(errno == EEXIST && sid2_is_directory(partial)))
            made = sid2_fail(err, SID2_ERR_IO, "%s: cannot be made: %s", partial,
                             errno == EEXIST ? "a file of that name is in the way" : strerror(errno));
        *p = end;
        if (!end) break;
    }
    free(partial);
    return made;
}

/* The folder and name of a path, for looking through its siblings. */
static void split(const char *path, char *folder, size_t size, const char **name)
{
    const char *slash = strrchr(path, '/');
    *name = slash ? slash + 1 : path;
    snprintf(folder, size, "%.*s", slash ? (int)(slash - path) + (slash == path) : 1, slash ? path : ".");
}

bool sid2_make_parents(const char *path, sid2_error *err)
{
    char folder[4096];
    const char *name;
    split(path, folder, sizeof folder, &name);
    return sid2_is_directory(folder) || sid2_make_directories(folder, err);
}

static int remove_entry(const char *path, const struct stat *status, int kind, struct FTW *place)
{
    (void)status, (void)kind, (void)place;
    return remove(path);
}

bool sid2_remove_tree(const char *path, sid2_error *err)
{
    if (!nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS) || errno == ENOENT) return true;
    return sid2_fail(err, SID2_ERR_IO, "%s: cannot be removed: %s", path, strerror(errno));
}

/* Is `suffix` "<process>", of a process that no longer runs? One of our own number is an earlier one's. */
static bool is_of_dead_process(const char *suffix)
{
    size_t digits = strspn(suffix, "0123456789");
    if (!digits || digits > 9 || suffix[digits]) return false;
    pid_t process = (pid_t)strtol(suffix, NULL, 10);
    return process > 0 && (process == getpid() || (kill(process, 0) && errno == ESRCH));
}

/* A folder moved aside with nothing in its place is the only copy, so it goes back rather than away. */
static void clear_leftovers(const char *path)
{
    char folder[4096], found[8192];
    const char *name;
    split(path, folder, sizeof folder, &name);
    DIR *listing = opendir(folder);
    if (!listing) return;
    size_t length = strlen(name);
    for (struct dirent *entry; (entry = readdir(listing));) {
        if (strncmp(entry->d_name, name, length)) continue;
        const char *rest = entry->d_name + length;
        bool old = !strncmp(rest, ".old-", 5);
        if ((!old && strncmp(rest, ".tmp-", 5)) || !is_of_dead_process(rest + 5)) continue;
        snprintf(found, sizeof found, "%s/%s", folder, entry->d_name);
        if (old && access(path, F_OK) && errno == ENOENT && !rename(found, path)) continue;
        sid2_remove_tree(found, NULL);
    }
    closedir(listing);
}

bool sid2_atomic_directory_open(sid2_atomic_directory *directory, const char *path, sid2_error *err)
{
    *directory = (sid2_atomic_directory){.path = strdup(path), .temporary = malloc(strlen(path) + 40)};
    if (!directory->path || !directory->temporary) {
        sid2_atomic_directory_discard(directory);
        return sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory", path);
    }
    for (size_t n = strlen(directory->path); n > 1 && directory->path[n - 1] == '/';)
        directory->path[--n] = 0;
    clear_leftovers(directory->path);
    sprintf(directory->temporary, "%s.tmp-%ld", directory->path, (long)getpid());
    if (sid2_make_parents(directory->path, err)) {
        if (!mkdir(directory->temporary, 0777)) return true;
        sid2_fail(err, SID2_ERR_IO, "%s: cannot be made: %s", directory->path, strerror(errno));
    }
    free(directory->path);
    free(directory->temporary);
    *directory = (sid2_atomic_directory){0};
    return false;
}

static int flush_entry(const char *path, const struct stat *status, int kind, struct FTW *place)
{
    (void)status, (void)place;
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0) return -1;
    int result = fsync(descriptor);
    close(descriptor);
    return kind == FTW_F ? result : 0; /* not every file system flushes folders */
}

bool sid2_atomic_directory_commit(sid2_atomic_directory *directory, sid2_error *err)
{
    char *old = malloc(strlen(directory->path) + 40);
    bool ok = old && !nftw(directory->temporary, flush_entry, 16, FTW_DEPTH | FTW_PHYS);
    bool replaced = false;
    if (ok) {
        sprintf(old, "%s.old-%ld", directory->path, (long)getpid());
        replaced = !rename(directory->path, old);
        ok = (replaced || errno == ENOENT) && !rename(directory->temporary, directory->path);
    }
    if (!ok) {
        sid2_fail(err, SID2_ERR_IO, "%s: cannot be written: %s", directory->path, strerror(errno));
        if (replaced) rename(old, directory->path);
    } else {
        flush_folder(directory->path);
        if (replaced) sid2_remove_tree(old, NULL);
        free(directory->temporary);
        directory->temporary = NULL;
    }
    free(old);
    sid2_atomic_directory_discard(directory);
    return ok;
}

void sid2_atomic_directory_discard(sid2_atomic_directory *directory)
{
    if (directory->temporary) sid2_remove_tree(directory->temporary, NULL);
    free(directory->path);
    free(directory->temporary);
    *directory = (sid2_atomic_directory){0};
}
