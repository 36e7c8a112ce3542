#include "digest.h"

#include "file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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

/* As JSON has it: a flipped '\n' is none. */
static bool is_space(char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }

bool sid2_digest_holds(const char *json, size_t size)
{
    static const char key[] = "\"xxh3_128\"";
    enum { KEY = sizeof key - 1, FIELD = KEY + sizeof ": \"\"" - 1 + 32 };
    char digest[33], field[FIELD + 1];
    size_t at = size;
    while (at > 0 && (size - at < KEY || memcmp(json + at, key, KEY) != 0)) at--;
    if (size - at < KEY || memcmp(json + at, key, KEY) != 0) return true;
    size_t before = at, after = at + FIELD;
    while (before > 0 && is_space(json[before - 1])) before--;
    if (!before || json[--before] != ',') return false;
    while (size > after && is_space(json[size - 1])) size--;
    if (size <= after || json[--size] != '}') return false;
    while (size > after && is_space(json[size - 1])) size--;
    sid2_digest_bytes(json, before, digest);
    snprintf(field, sizeof field, "%s: \"%s\"", key, digest);
    return size == after && memcmp(json + at, field, FIELD) == 0;
}

sid2_digest *sid2_digest_begin(sid2_error *err)
{
    XXH3_state_t *state = XXH3_createState();
    if (!state) return sid2_fail(err, SID2_ERR_MEMORY, "no memory for a digest"), NULL;
    XXH3_128bits_reset(state);
    return (sid2_digest *)state;
}

void sid2_digest_add(sid2_digest *stream, const void *bytes, size_t size)
{
    XXH3_128bits_update((XXH3_state_t *)stream, bytes, size);
}

void sid2_digest_end(sid2_digest *stream, char digest[33])
{
    digest[0] = 0;
    if (!stream) return;
    print(XXH3_128bits_digest((XXH3_state_t *)stream), digest);
    XXH3_freeState((XXH3_state_t *)stream);
}

bool sid2_digest_file(const char *path, char digest[33], sid2_error *err)
{
    size_t size;
    int descriptor = sid2_file_open(path, 0, &size, err);
    if (descriptor < 0) return false;
    sid2_digest *stream = sid2_digest_begin(err);
    void *chunk = stream ? malloc(CHUNK) : NULL;
    bool ok = chunk || sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory", path);
    for (size_t done = 0, part; ok && done < size; done += part) {
        part = size - done < CHUNK ? size - done : CHUNK;
        ok = sid2_file_fill(descriptor, chunk, part, done, path, err);
        if (ok) sid2_digest_add(stream, chunk, part);
    }
    sid2_digest_end(stream, digest);
    free(chunk);
    close(descriptor);
    return ok;
}
