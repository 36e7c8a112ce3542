#include "file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

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

bool sid2_atomic_open(sid2_atomic_file *file, const char *path, sid2_error *err)
{
    *file = (sid2_atomic_file){.path = strdup(path), .temporary = malloc(strlen(path) + 40)};
    if (!file->path || !file->temporary) {
        sid2_atomic_discard(file);
        return sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory", path);
    }
    int descriptor = -1;
    for (int attempt = 0; descriptor < 0 && attempt < 100; attempt++) {
        sprintf(file->temporary, "%s.tmp-%ld-%d", path, (long)getpid(), attempt);
        descriptor = open(file->temporary, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (descriptor < 0 && errno != EEXIST) break;
    }
    if (descriptor >= 0) file->stream = fdopen(descriptor, "wb+");
    if (file->stream) return true;
    sid2_fail(err, SID2_ERR_IO, "%s: cannot be written: %s", path, strerror(errno));
    if (descriptor >= 0) {
        close(descriptor);
        unlink(file->temporary);
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
    bool good = !ferror(file->stream);
    good = !fflush(file->stream) && good;
    good = good && !fsync(fileno(file->stream));
    int cause = errno;
    good = !fclose(file->stream) && good;
    file->stream = NULL;
    if (good && rename(file->temporary, file->path)) {
        cause = errno;
        good = false;
    }
    if (good)
        flush_folder(file->path);
    else {
        unlink(file->temporary);
        sid2_fail(err, SID2_ERR_IO, "%s: cannot be written: %s", file->path,
                  cause ? strerror(cause) : "an earlier write failed (disk full?)");
    }
    sid2_atomic_discard(file);
    return good;
}

void sid2_atomic_discard(sid2_atomic_file *file)
{
    if (file->stream) {
        fclose(file->stream);
        unlink(file->temporary);
    }
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
