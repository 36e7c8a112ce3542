#include "keep.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "digest.h"
#include "file.h"

/* A file's first line is the digest of what follows. */
static const char seal[] = "xxh3_128 ";
enum { SEAL = sizeof seal - 1 + 33, MOST_BYTES = 1 << 18 };

bool sid2_keep_path(const char *name, bool make, char path[4096])
{
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    char folder[3800];
    int length = cache && cache[0] == '/' ? snprintf(folder, sizeof folder, "%s/sid2", cache)
                 : home && home[0]        ? snprintf(folder, sizeof folder, "%s/.cache/sid2", home)
                                          : -1;
    if (length < 0 || (size_t)length >= sizeof folder) return false;
    if (make && !sid2_make_directories(folder, NULL)) return false;
    snprintf(path, 4096, "%s/%.200s", folder, name);
    return true;
}

static bool path_of(const char *kind, const char *identity, bool make, char path[4096])
{
    char digest[33], name[128];
    sid2_digest_bytes(identity, strlen(identity), digest);
    snprintf(name, sizeof name, "%.64s-%.16s.txt", kind, digest);
    return sid2_keep_path(name, make, path);
}

bool sid2_keep_text(const char *kind, const char *identity, const char *text, sid2_error *err)
{
    char path[4096], digest[33];
    size_t length = SEAL + strlen(identity) + 1 + strlen(text) + 1;
    if (!path_of(kind, identity, true, path))
        return sid2_fail(err, SID2_ERR_IO, "no folder to keep measurements in ($XDG_CACHE_HOME or ~/.cache)");
    if (length >= MOST_BYTES) return sid2_fail(err, SID2_ERR_INTERNAL, "%s: too much to keep", path);
    char *bytes = malloc(length + 1);
    if (!bytes) return sid2_fail(err, SID2_ERR_MEMORY, "%s: out of memory", path);
    snprintf(bytes, length + 1, "%*s%s\n%s\n", SEAL, "", identity, text);
    sid2_digest_bytes(bytes + SEAL, length - SEAL, digest);
    memcpy(bytes, seal, sizeof seal - 1);
    memcpy(bytes + sizeof seal - 1, digest, 32);
    bytes[SEAL - 1] = '\n';
    bool written = sid2_file_write(path, bytes, length, err);
    free(bytes);
    return written;
}

/* What stands behind the line of the digest; NULL: it is not of that digest. */
static const char *behind_seal(const char *bytes, size_t length)
{
    char digest[33];
    if (strncmp(bytes, seal, sizeof seal - 1) != 0) return bytes; /* edited by hand */
    if (length < SEAL) return NULL;
    sid2_digest_bytes(bytes + SEAL, length - SEAL, digest);
    return memcmp(bytes + sizeof seal - 1, digest, 32) == 0 && bytes[SEAL - 1] == '\n' ? bytes + SEAL : NULL;
}

int sid2_kept_text(const char *kind, const char *identity, char *text, size_t size, char path[4096])
{
    size_t length, own = strlen(identity);
    sid2_kind there = SID2_ABSENT;
    if (!path_of(kind, identity, false, path) || !sid2_look(path, &there, NULL)) return 0;
    if (there == SID2_ABSENT) return 0;
    char *bytes = (char *)sid2_file_read(path, MOST_BYTES, &length, NULL);
    const char *said = bytes ? behind_seal(bytes, length) : NULL;
    if (said) length -= (size_t)(said - bytes);
    bool whole = said && length > own + 1 && memcmp(said, identity, own) == 0 && said[own] == '\n' &&
                 said[length - 1] == '\n' && length - own - 2 < size && strlen(said) == length;
    if (whole) snprintf(text, size, "%.*s", (int)(length - own - 2), said + own + 1);
    free(bytes);
    return whole ? 1 : -1;
}
