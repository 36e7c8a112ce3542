#include "digest.h"

#include "file.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <xxhash.h>

enum { CHUNK = 1 << 20 };

static void print(XXH128_hash_t hash, char digest[33])
{
    snprintf(digest, 33, "%016llx%016llx", (unsigned long long)hash.high64, (unsigned long long)hash.low64);
}

void sid2_digest_bytes(const void *bytes, size_t size, char digest[33])
{
    print(XXH3_128bits(bytes, size), digest);
}

bool sid2_digest_file(const char *path, char digest[33], sid2_error *err)
{
    size_t size;
    int descriptor = sid2_file_open(path, 0, &size, err);
    if (descriptor < 0) return false;
    XXH3_state_t *state = XXH3_createState();
    void *chunk = malloc(CHUNK);
    bool ok = (state && chunk) || sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory", path);
    if (ok) XXH3_128bits_reset(state);
    for (size_t done = 0, part; ok && done < size; done += part) {
        part = size - done < CHUNK ? size - done : CHUNK;
        ok = sid2_file_fill(descriptor, chunk, part, done, path, err);
        if (ok) XXH3_128bits_update(state, chunk, part);
    }
    if (ok) print(XXH3_128bits_digest(state), digest);
    XXH3_freeState(state);
    free(chunk);
    close(descriptor);
    return ok;
}
