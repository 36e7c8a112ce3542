#include "file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

bool sid2_path(char path[4096], sid2_error *err, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(path, 4096, format, arguments);
    va_end(arguments);
    return (length >= 0 && length < 4096) || sid2_fail(err, SID2_ERR_USAGE, "path too long: %.80s...", path);
}

static bool no_memory(const char *path, sid2_error *err)
{
    return sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory", path);
}

static bool cannot(const char *path, const char *what, int cause, sid2_error *err)
{
    if (cause == ENOMEM) return no_memory(path, err);
    return sid2_fail(err, SID2_ERR_IO, "%s: %s%s%s", path, what, *what ? ": " : "", strerror(cause));
}

/* The folder that a path lies in, to be freed; NULL without memory. */
static char *folder_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? strndup(path, slash == path ? 1 : (size_t)(slash - path)) : strdup(".");
}

const char *sid2_base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

char *sid2_path_join(const char *folder, const char *name)
{
    char *path = malloc(strlen(folder) + strlen(name) + 2);
    if (path) sprintf(path, "%s/%s", folder, name);
    return path;
}

/* ---- Looking ---- */

/* A file where a folder of the path should be: then nothing is there either. */
static bool is_absence(int cause) { return cause == ENOENT || cause == ENOTDIR; }

static sid2_kind kind_of(mode_t mode)
{
    if (S_ISREG(mode)) return SID2_REGULAR;
    if (S_ISDIR(mode)) return SID2_FOLDER;
    return S_ISCHR(mode) || S_ISFIFO(mode) ? SID2_STREAM : SID2_STRANGE;
}

bool sid2_look(const char *path, sid2_kind *kind, sid2_error *err)
{
    struct stat status;
    *kind = SID2_ABSENT;
    if (!stat(path, &status)) {
        *kind = kind_of(status.st_mode);
        return true;
    }
    return is_absence(errno) || cannot(path, "", errno, err);
}

static bool is_folder(const char *path)
{
    sid2_kind kind;
    return sid2_look(path, &kind, NULL) && kind == SID2_FOLDER;
}

static int by_bytes(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

bool sid2_list_folder(sid2_list *list, const char *path, bool (*wanted)(const char *name), sid2_error *err)
{
    *list = (sid2_list){0};
    DIR *folder = opendir(path);
    if (!folder) return errno == ENOENT || cannot(path, "", errno, err);
    bool ok = true;
    for (struct dirent *entry; ok;) {
        errno = 0;
        if (!(entry = readdir(folder))) {
            ok = !errno || cannot(path, "", errno, err);
            break;
        }
        const char *name = entry->d_name;
        if (!strcmp(name, ".") || !strcmp(name, "..") || (wanted && !wanted(name))) continue;
        ok = sid2_list_push(list, name, NULL) || no_memory(path, err);
    }
    closedir(folder);
    sid2_list_sort(list);
    if (!ok) sid2_list_free(list);
    return ok;
}

void sid2_list_free(sid2_list *list)
{
    for (size_t i = 0; i < list->count; i++) free(list->name[i]);
    free(list->name);
    *list = (sid2_list){0};
}

bool sid2_list_push(sid2_list *list, const char *name, sid2_error *err)
{
    if (list->count == list->room) {
        size_t room = 2 * list->room + 64;
        char **grown = realloc(list->name, room * sizeof *grown);
        if (!grown) return sid2_fail(err, SID2_ERR_MEMORY, "no memory for %zu names", room);
        list->name = grown;
        list->room = room;
    }
    char *copy = strdup(name);
    if (!copy) return sid2_fail(err, SID2_ERR_MEMORY, "no memory for a name");
    list->name[list->count++] = copy;
    return true;
}

void sid2_list_sort(sid2_list *list)
{
    size_t kept = 0;
    if (list->count) qsort(list->name, list->count, sizeof *list->name, by_bytes);
    for (size_t i = 0; i < list->count; i++)
        if (kept && !strcmp(list->name[kept - 1], list->name[i]))
            free(list->name[i]);
        else
            list->name[kept++] = list->name[i];
    list->count = kept;
}

int64_t sid2_list_find(const sid2_list *list, const char *name, size_t length)
{
    size_t low = 0, high = list->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strncmp(list->name[middle], name, length);
        if (!order && list->name[middle][length]) order = 1;
        if (!order) return (int64_t)middle;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return -1;
}

/* ---- Reading ---- */

int sid2_file_open(const char *path, size_t limit, size_t *size, sid2_error *err)
{
    struct stat status;
    int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (descriptor < 0) return cannot(path, "", errno, err), -1;
    if (fstat(descriptor, &status))
        cannot(path, "", errno, err);
    else if (S_ISDIR(status.st_mode))
        cannot(path, "", EISDIR, err);
    else if (!S_ISREG(status.st_mode))
        sid2_fail(err, SID2_ERR_FORMAT, "%s: a pipe or a device; a file is expected here", path);
    else if (limit && (uint64_t)status.st_size > limit)
        sid2_fail(err, SID2_ERR_FORMAT, "%s: larger than the %zu bytes such a file may have", path, limit);
    else {
        *size = (size_t)status.st_size;
        return descriptor;
    }
    close(descriptor);
    return -1;
}

bool sid2_file_fill(int descriptor, void *bytes, size_t size, uint64_t offset, const char *path,
                    sid2_error *err)
{
    for (size_t used = 0; used < size;) {
        ssize_t got = pread(descriptor, (char *)bytes + used, size - used, (off_t)(offset + used));
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return cannot(path, "", errno, err);
        if (got == 0) return sid2_fail(err, SID2_ERR_FORMAT, "%s: cut short while it was read", path);
        used += (size_t)got;
    }
    return true;
}

/* False: see errno. */
static bool put_all(int descriptor, const void *bytes, size_t size, uint64_t offset)
{
    for (size_t done = 0; done < size;) {
        ssize_t put = pwrite(descriptor, (const char *)bytes + done, size - done, (off_t)(offset + done));
        if (put < 0 && errno == EINTR) continue;
        if (!put) errno = ENOSPC;
        if (put <= 0) return false;
        done += (size_t)put;
    }
    return true;
}

bool sid2_file_put(int descriptor, const void *bytes, size_t size, uint64_t offset, const char *path,
                   sid2_error *err)
{
    return put_all(descriptor, bytes, size, offset) || cannot(path, "cannot be written", errno, err);
}

uint8_t *sid2_file_read(const char *path, size_t limit, size_t *size, sid2_error *err)
{
    int descriptor = sid2_file_open(path, limit, size, err);
    if (descriptor < 0) return NULL;
    uint8_t *bytes = malloc(*size + 1);
    if (!bytes) sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory for %zu bytes", path, *size);
    if (bytes && sid2_file_fill(descriptor, bytes, *size, 0, path, err)) {
        bytes[*size] = 0;
    } else {
        free(bytes);
        bytes = NULL;
    }
    close(descriptor);
    return bytes;
}

void sid2_file_forget(const char *path)
{
    size_t size;
    int descriptor = sid2_file_open(path, 0, &size, NULL);
    if (descriptor < 0) return;
    posix_fadvise(descriptor, 0, 0, POSIX_FADV_DONTNEED);
    close(descriptor);
}

/* ---- Names of what is in the making ---- */

enum { MOST_NAME = 200 }; /* bytes of a long name that are kept in its temporary's */

/* ".NAME.sid2-KIND-PROCESS-NUMBER" beside `path`, to be freed. */
static char *temporary_name(const char *path, const char *kind, int number)
{
    char *folder = folder_of(path), *temporary = NULL;
    char name[NAME_MAX + 1];
    snprintf(name, sizeof name, ".%.*s.sid2-%s-%ld-%d", MOST_NAME, sid2_base_name(path), kind, (long)getpid(),
             number);
    if (folder) temporary = sid2_path_join(folder, name);
    free(folder);
    return temporary;
}

/* Tells others that this one is in use, for as long as this process lives. Where locks do not exist there is
 * the process's number still. */
static void hold(int descriptor)
{
    if (flock(descriptor, LOCK_EX | LOCK_NB)) errno = 0;
}

static bool runs(pid_t process) { return kill(process, 0) == 0 || errno != ESRCH; }

/* Reads "-PROCESS-NUMBER", perhaps with the ".xxxxxx" that libzip adds. */
static bool parse_owner(const char *text, pid_t *process)
{
    size_t digits = strspn(++text, "0123456789");
    if (!digits || digits > 9 || text[digits] != '-') return false;
    *process = (pid_t)strtol(text, NULL, 10);
    text += digits + 1;
    digits = strspn(text, "0123456789");
    text += digits;
    return digits && *process > 0 && (!*text || (*text == '.' && strlen(text) == 7));
}

/* The tail of a leftover's name, from ".sid2-" on; NULL for any other name. */
static const char *leftover_tail(const char *name, pid_t *process)
{
    const char *tail = NULL;
    for (const char *at = name; (at = strstr(at, ".sid2-")); at++) tail = at;
    bool is = name[0] == '.' && tail && tail > name + 1 &&
              (!strncmp(tail + 6, "tmp-", 4) || !strncmp(tail + 6, "old-", 4)) &&
              parse_owner(tail + 9, process);
    return is ? tail : NULL;
}

static bool is_leftover(const char *name)
{
    pid_t process;
    return leftover_tail(name, &process) && (process == getpid() || !runs(process));
}

/* Of this user, and in use by nobody. */
static bool is_abandoned(const char *path, pid_t process)
{
    struct stat status;
    if (lstat(path, &status) || status.st_uid != geteuid()) return false;
    if (!S_ISDIR(status.st_mode) && !S_ISREG(status.st_mode)) return false;
    int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW);
    if (descriptor < 0) return false;
    bool locked = !flock(descriptor, LOCK_EX | LOCK_NB), held = !locked && errno == EWOULDBLOCK;
    close(descriptor);
    return locked || (!held && process != getpid()); /* where there are no locks, ours may be in use */
}

/* Whether a leftover is to stay: as the only copy, which goes back, or as what may be one. */
static bool restore(const char *folder, const char *name, const char *tail, const char *path)
{
    if (strncmp(tail, ".sid2-old-", 10)) return false;
    char *original = strndup(name + 1, (size_t)(tail - name) - 1);
    char *place = original ? sid2_path_join(folder, original) : NULL;
    struct stat status;
    bool keep = !place || lstat(place, &status);
    if (keep && place && errno == ENOENT && rename(path, place)) errno = 0; /* then the next start tries */
    free(place);
    free(original);
    return keep;
}

void sid2_clear_leftovers(const char *folder)
{
    sid2_list list;
    if (!sid2_list_folder(&list, folder, is_leftover, NULL)) return;
    for (size_t i = 0; i < list.count; i++) {
        pid_t process;
        const char *name = list.name[i], *tail = leftover_tail(name, &process);
        char *path = sid2_path_join(folder, name);
        if (path && is_abandoned(path, process) && !restore(folder, name, tail, path))
            sid2_remove_tree(path, NULL);
        free(path);
    }
    sid2_list_free(&list);
}

/* ---- Files ---- */

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
    sid2_kind kind;
    return sid2_look(path, &kind, NULL) && kind == SID2_STREAM;
}

/* Whether `path` itself, a link or a pipe, was put by another user into a folder where all may write, such as
 * /tmp: that user must not say what sid2 writes to. Kernels refuse the same under fs.protected_symlinks, but
 * not all have that on, nor does it reach what follows links by itself, as realpath does. */
static bool is_planted(const char *path, const struct stat *status)
{
    struct stat parent;
    char *folder = folder_of(path);
    bool open_to_all =
        folder && !stat(folder, &parent) && (parent.st_mode & S_ISVTX) && (parent.st_mode & S_IWOTH);
    free(folder);
    return open_to_all && status->st_uid != geteuid() && status->st_uid != parent.st_uid;
}

/* Goes the way of a path link by link, as far as it exists. */
static bool check_way(const char *path, int links, sid2_error *err)
{
    char *partial = strdup(path), target[PATH_MAX];
    if (!partial) return no_memory(path, err);
    bool ok = true;
    for (char *p = partial + 1; ok && p[-1]; p++) {
        if (*p && (*p != '/' || p[-1] == '/')) continue;
        char end = *p;
        struct stat status;
        *p = 0;
        if (lstat(partial, &status)) break; /* the writing itself will tell */
        bool link = S_ISLNK(status.st_mode);
        if ((link || S_ISFIFO(status.st_mode)) && is_planted(partial, &status))
            ok = sid2_fail(err, SID2_ERR_IO, "%s: a %s of another user in a folder open to all: not followed",
                           partial, link ? "symbolic link" : "pipe");
        ssize_t length = ok && link ? readlink(partial, target, sizeof target - 1) : -1;
        if (length > 0 && links < 40) { /* the kernel's own limit */
            target[length] = 0;
            char *folder = folder_of(partial), *next = target[0] == '/' ? strdup(target)
                                                       : folder         ? sid2_path_join(folder, target)
                                                                        : NULL;
            ok = next ? check_way(next, links + 1, err) : no_memory(path, err);
            free(next);
            free(folder);
        }
        *p = end;
        if (!end) break;
    }
    free(partial);
    return ok;
}

static bool ends_in_slash(const char *path) { return *path && path[strlen(path) - 1] == '/'; }

/* Where the renaming goes: a symbolic link stays, and the file at its end is replaced. */
static char *find_target(const char *path, sid2_kind kind, sid2_error *err)
{
    static const char what[] = "cannot be written";
    struct stat status;
    if (kind == SID2_FOLDER || ends_in_slash(path)) return cannot(path, what, EISDIR, err), NULL;
    if (kind == SID2_STRANGE)
        return sid2_fail(err, SID2_ERR_IO, "%s: %s: it is neither a file nor a stream", path, what), NULL;
    bool is_link = !lstat(path, &status) && S_ISLNK(status.st_mode);
    char *target = is_link ? realpath(path, NULL) : strdup(path);
    if (!target) cannot(path, is_link ? "cannot be written through the symbolic link" : what, errno, err);
    return target;
}

static bool open_temporary(sid2_atomic_file *file, sid2_error *err)
{
    int descriptor = -1;
    for (int number = 0; number < 100; number++) {
        free(file->temporary);
        file->temporary = temporary_name(file->path, "tmp", number);
        if (!file->temporary) return no_memory(file->path, err);
        descriptor = open(file->temporary, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (descriptor >= 0 || errno != EEXIST) break;
    }
    int cause = errno;
    if (descriptor >= 0) {
        hold(descriptor);
        file->stream = fdopen(descriptor, "wb+");
        cause = errno;
    }
    if (file->stream) {
        exchange_temporary(NULL, file->temporary);
        return true;
    }
    if (descriptor >= 0) {
        close(descriptor);
        unlink(file->temporary);
    }
    free(file->temporary);
    file->temporary = NULL;
    return cannot(file->path, "cannot be written", cause, err);
}

/* Opening a pipe for writing blocks until somebody reads it, which may be never. */
static bool open_stream(sid2_atomic_file *file, const char *path, sid2_error *err)
{
    const struct timespec pause = {.tv_nsec = 50 * 1000 * 1000};
    int descriptor = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
    for (int i = 0; i < 100 && descriptor < 0 && errno == ENXIO; i++) {
        nanosleep(&pause, NULL);
        descriptor = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
    }
    if (descriptor < 0 && errno == ENXIO)
        return sid2_fail(err, SID2_ERR_IO, "%s: nobody reads this pipe", path);
    file->path = strdup(path);
    bool ok = descriptor >= 0 && file->path && !fcntl(descriptor, F_SETFL, 0) &&
              (file->stream = fdopen(descriptor, "wb"));
    int cause = errno;
    if (!ok && descriptor >= 0) close(descriptor);
    return ok || cannot(path, "cannot be written", cause, err);
}

static bool open_either(sid2_atomic_file *file, const char *path, bool streams, sid2_error *err)
{
    sid2_kind kind;
    *file = (sid2_atomic_file){0};
    if (!check_way(path, 0, err) || !sid2_look(path, &kind, err)) return false;
    if (kind == SID2_STREAM) {
        if (streams && open_stream(file, path, err)) return true;
        if (!streams) sid2_fail(err, SID2_ERR_IO, "%s: a pipe or a device, and no file", path);
    } else {
        file->path = find_target(path, kind, err);
        if (file->path && sid2_make_parents(file->path, err) && open_temporary(file, err)) return true;
    }
    sid2_atomic_discard(file);
    return false;
}

bool sid2_atomic_open(sid2_atomic_file *file, const char *path, sid2_error *err)
{
    return open_either(file, path, false, err);
}

bool sid2_output_open(sid2_atomic_file *file, const char *path, sid2_error *err)
{
    return open_either(file, path, true, err);
}

bool sid2_atomic_stream(sid2_atomic_file *file, FILE *stream, const char *name, sid2_error *err)
{
    *file = (sid2_atomic_file){.stream = stream, .path = strdup(name)};
    if (file->path) return true;
    sid2_atomic_discard(file);
    return no_memory(name, err);
}

/* Names last through a power cut only once their folder is on the disk. Not every file system flushes folders,
 * nor every user may read one that he may write to; then there is nothing more to do. False: see errno. */
static bool flush_folder(const char *folder)
{
    int descriptor = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (descriptor < 0) return errno == EACCES;
    bool ok = !fsync(descriptor) || errno == EINVAL || errno == EROFS || errno == EOPNOTSUPP;
    int cause = errno;
    close(descriptor);
    errno = cause;
    return ok;
}

static bool flush_folder_of(const char *path)
{
    char *folder = folder_of(path);
    bool ok = folder && flush_folder(folder);
    int cause = folder ? errno : ENOMEM;
    free(folder);
    errno = cause;
    return ok;
}

int sid2_write_failure(FILE *stream)
{
    clearerr(stream);
    errno = 0;
    putc('\n', stream);
    fflush(stream);
    return ferror(stream) ? errno : 0;
}

bool sid2_atomic_commit(sid2_atomic_file *file, sid2_error *err)
{
    bool ok = !ferror(file->stream);
    errno = ok ? 0 : sid2_write_failure(file->stream);
    ok = ok && !fflush(file->stream);
    ok = ok && (!file->temporary || file->passing || !fsync(fileno(file->stream)));
    int cause = errno;
    if (fclose(file->stream) && ok) cause = errno, ok = false;
    file->stream = NULL;
    bool renamed = ok && file->temporary && !rename(file->temporary, file->path);
    bool lasting = renamed && (file->passing || flush_folder_of(file->path));
    if (ok && file->temporary && !lasting) cause = errno, ok = false;
    if (!ok) {
        if (file->temporary && !renamed) unlink(file->temporary);
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
        cannot(path, "cannot be written", errno, err);
        sid2_atomic_discard(&file);
        return false;
    }
    return sid2_atomic_commit(&file, err);
}

FILE *sid2_file_append(const char *path, sid2_error *err)
{
    struct stat status;
    char last = '\n';
    int descriptor = open(path, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0666);
    bool ok = descriptor >= 0 && !fstat(descriptor, &status);
    if (ok && !S_ISREG(status.st_mode)) ok = (errno = EINVAL, false);
    if (ok && status.st_size) ok = pread(descriptor, &last, 1, status.st_size - 1) == 1;
    FILE *stream = ok ? fdopen(descriptor, "a") : NULL;
    if (stream && last != '\n') fputc('\n', stream);
    if (stream) return stream;
    cannot(path, "cannot be written", errno, err);
    if (descriptor >= 0) close(descriptor);
    return NULL;
}

/* ---- Scratch files ---- */

static const char *scratch_place(void)
{
    const char *folder = getenv("TMPDIR");
    return folder && *folder ? folder : "/var/tmp";
}

bool sid2_scratch_folder(char path[4096], sid2_error *err)
{
    if (sid2_path(path, err, "%s/sid2-XXXXXX", scratch_place())) {
        if (mkdtemp(path)) return true;
        cannot(scratch_place(), "no place for a scratch folder; TMPDIR names another", errno, err);
    }
    path[0] = 0;
    return false;
}

int sid2_scratch_open(sid2_error *err)
{
    const char *folder = scratch_place();
    int descriptor = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (descriptor >= 0) return descriptor;
    char path[4096]; /* a file system or kernel that cannot: made and unlinked at once */
    if (!sid2_path(path, err, "%s/sid2-XXXXXX", folder)) return -1;
    descriptor = mkostemp(path, O_CLOEXEC);
    if (descriptor >= 0)
        unlink(path);
    else
        cannot(folder, "no place for a scratch file", errno, err);
    return descriptor;
}

bool sid2_scratch_write(int descriptor, const void *bytes, size_t size, uint64_t offset, const char *what,
                        sid2_error *err)
{
    return put_all(descriptor, bytes, size, offset) ||
           cannot(what, "no room for a scratch file; TMPDIR names another place", errno, err);
}

/* ---- Folders ---- */

static bool make_directory(const char *path, sid2_error *err)
{
    if (!mkdir(path, 0777)) return flush_folder_of(path) || cannot(path, "cannot be made", errno, err);
    int cause = errno;
    if (cause == EEXIST && is_folder(path)) return true;
    if (cause != EEXIST) return cannot(path, "cannot be made", cause, err);
    return sid2_fail(err, SID2_ERR_IO, "%s: cannot be made: a file of that name is in the way", path);
}

bool sid2_make_directories(const char *path, sid2_error *err)
{
    if (!check_way(path, 0, err)) return false;
    char *partial = strdup(path);
    if (!partial) return no_memory(path, err);
    bool made = true;
    for (char *p = partial + 1; made; p++) {
        if (*p != '/' && *p) continue;
        char end = *p;
        *p = 0;
        made = make_directory(partial, err);
        *p = end;
        if (!end) break;
    }
    free(partial);
    return made;
}

bool sid2_make_parents(const char *path, sid2_error *err)
{
    char *folder = folder_of(path);
    bool ok = folder ? is_folder(folder) || sid2_make_directories(folder, err) : no_memory(path, err);
    free(folder);
    return ok;
}

static int remove_entry(const char *path, const struct stat *status, int kind, struct FTW *place)
{
    (void)status, (void)kind, (void)place;
    return remove(path);
}

bool sid2_remove_tree(const char *path, sid2_error *err)
{
    if (!nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS) || errno == ENOENT) return true;
    return cannot(path, "cannot be removed", errno, err);
}

/* Renames `path` to a temporary's name, which is returned, to be freed; NULL: see errno. */
static char *move_aside(const char *path, const char *kind)
{
    for (int number = 0; number < 100; number++) {
        char *aside = temporary_name(path, kind, number);
        if (!aside) return errno = ENOMEM, NULL;
        if (!rename(path, aside)) return aside;
        int cause = errno;
        free(aside);
        errno = cause;
        if (cause != EEXIST && cause != ENOTEMPTY) break;
    }
    return NULL;
}

bool sid2_remove_whole(const char *path, sid2_error *err)
{
    char *aside = move_aside(path, "tmp");
    if (!aside) return errno == ENOENT || cannot(path, "cannot be removed", errno, err);
    bool ok = sid2_remove_tree(aside, err);
    free(aside);
    return ok;
}

bool sid2_atomic_directory_open(sid2_atomic_directory *directory, const char *path, sid2_error *err)
{
    *directory = (sid2_atomic_directory){.path = strdup(path), .lock = -1};
    char *folder = NULL;
    if (!directory->path) return no_memory(path, err);
    for (size_t n = strlen(directory->path); n > 1 && directory->path[n - 1] == '/';)
        directory->path[--n] = 0;
    if (!check_way(directory->path, 0, err) || !sid2_make_parents(directory->path, err)) goto fail;
    folder = folder_of(directory->path);
    if (folder) sid2_clear_leftovers(folder);
    free(folder);
    for (int number = 0; number < 100; number++) {
        char *temporary = temporary_name(directory->path, "tmp", number);
        if (!temporary) {
            no_memory(path, err);
            goto fail;
        }
        if (!mkdir(temporary, 0777)) {
            directory->temporary = temporary;
            directory->lock = open(temporary, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
            if (directory->lock >= 0) hold(directory->lock);
            return true;
        }
        int cause = errno;
        free(temporary);
        errno = cause;
        if (cause != EEXIST) break;
    }
    cannot(directory->path, "cannot be made", errno, err);
fail:
    sid2_atomic_directory_discard(directory);
    return false;
}

static int flush_entry(const char *path, const struct stat *status, int kind, struct FTW *place)
{
    (void)status, (void)place;
    if (kind == FTW_DP || kind == FTW_D) return flush_folder(path) ? 0 : -1;
    if (kind != FTW_F) return 0;
    int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (descriptor < 0) return -1;
    int result = fsync(descriptor), cause = errno;
    close(descriptor);
    errno = cause;
    return result;
}

/* Puts the new folder in its place, or leaves everything as it was. *old: the one that stood there, moved
 * aside. False: see errno. */
static bool put_in_place(const sid2_atomic_directory *directory, bool replace, char **old)
{
    *old = replace ? move_aside(directory->path, "old") : NULL;
    if (replace && !*old && errno != ENOENT) return false;
    if (!rename(directory->temporary, directory->path)) return true;
    int cause = errno;
    if (*old && rename(*old, directory->path)) cause = errno;
    errno = cause;
    return false;
}

bool sid2_atomic_directory_commit(sid2_atomic_directory *directory, bool replace, sid2_error *err)
{
    char *old = NULL;
    bool in_place = !nftw(directory->temporary, flush_entry, 16, FTW_DEPTH | FTW_PHYS) &&
                    put_in_place(directory, replace, &old);
    bool ok = in_place && flush_folder_of(directory->path);
    if (!ok) {
        bool taken = !in_place && (errno == ENOTEMPTY || errno == EEXIST || errno == ENOTDIR);
        if (taken)
            sid2_fail(err, SID2_ERR_USAGE, "%s: cannot be written: it exists by now", directory->path);
        else
            cannot(directory->path, "cannot be written", errno, err);
    }
    if (in_place) {
        if (ok && old) sid2_remove_tree(old, NULL);
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
    if (directory->path && directory->lock >= 0) close(directory->lock);
    free(directory->path);
    free(directory->temporary);
    *directory = (sid2_atomic_directory){.lock = -1};
}
