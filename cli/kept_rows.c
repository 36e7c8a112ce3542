#include "kept_rows.h"

#include "digest.h"
#include "file.h"
#include "keep.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SEAL = 32 }; /* the digest behind a chunk */

int64_t kept_rows_open(kept_rows *k, const char *identity, float *rows, int64_t count)
{
    char digest[33], name[64], there[33];
    k->descriptor = -1;
    sid2_digest_bytes(identity, strlen(identity), digest);
    snprintf(name, sizeof name, "features-%.24s.rows", digest);
    if (!sid2_keep_path(name, true, k->path)) return 0;
    k->descriptor = open(k->path, O_RDWR | O_CREAT | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW, 0600);
    struct stat status;
    if (k->descriptor < 0) return 0;
    if (fstat(k->descriptor, &status) || !S_ISREG(status.st_mode) ||
        flock(k->descriptor, LOCK_EX | LOCK_NB)) {
        close(k->descriptor); /* another process fills it */
        k->descriptor = -1;
        return 0;
    }
    int64_t done = 0, at = 0;
    while (done < count) {
        int64_t now = count - done < k->chunk ? count - done : k->chunk;
        size_t bytes = (size_t)(now * k->width) * sizeof *rows;
        there[SEAL] = 0;
        if (at + (int64_t)bytes + SEAL > status.st_size ||
            !sid2_file_fill(k->descriptor, rows + done * k->width, bytes, (uint64_t)at, k->path, NULL) ||
            !sid2_file_fill(k->descriptor, there, SEAL, (uint64_t)at + bytes, k->path, NULL))
            break;
        sid2_digest_bytes(rows + done * k->width, bytes, digest);
        if (strcmp(digest, there) != 0) break;
        done += now;
        at += (int64_t)bytes + SEAL;
    }
    return done; /* what is put there next replaces what is damaged */
}

void kept_rows_put(kept_rows *k, const float *rows, int64_t first, int64_t count)
{
    char digest[33];
    size_t bytes = (size_t)(count * k->width) * sizeof *rows,
           chunk = (size_t)(k->chunk * k->width) * sizeof *rows + SEAL;
    uint64_t at = (uint64_t)(first / k->chunk) * chunk;
    if (k->descriptor < 0) return;
    sid2_digest_bytes(rows, bytes, digest);
    if (sid2_file_put(k->descriptor, rows, bytes, at, k->path, NULL) &&
        sid2_file_put(k->descriptor, digest, SEAL, at + bytes, k->path, NULL))
        return;
    close(k->descriptor);
    k->descriptor = -1;
    unlink(k->path);
}

void kept_rows_close(kept_rows *k)
{
    if (k->descriptor >= 0) close(k->descriptor);
    k->descriptor = -1;
}
