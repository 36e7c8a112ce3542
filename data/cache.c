#include "cache.h"

#include "file.h"

#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

struct sid2_cache {
    size_t sample_bytes;
    uint8_t *memory; /* NULL: in the file */
    int scratch;
};

/* Whether the disk has the room and as much again as others may need. */
static bool has_room(int descriptor, uint64_t bytes)
{
    struct statvfs disk;
    if (fstatvfs(descriptor, &disk)) return false;
    uint64_t block = disk.f_frsize, left = block * disk.f_bavail, spared = block * disk.f_blocks / 20;
    return left >= spared && bytes <= left - spared;
}

sid2_cache *sid2_cache_open(int64_t count, size_t sample_bytes, size_t memory)
{
    sid2_cache *cache = calloc(1, sizeof *cache);
    if (!cache) return NULL;
    cache->sample_bytes = sample_bytes;
    cache->scratch = -1;
    if (memory / sample_bytes >= (size_t)count) cache->memory = malloc((size_t)count * sample_bytes);
    if (!cache->memory) cache->scratch = sid2_scratch_open(NULL);
    if (cache->memory || (cache->scratch >= 0 && has_room(cache->scratch, (uint64_t)count * sample_bytes)))
        return cache;
    sid2_cache_close(cache);
    return NULL;
}

void sid2_cache_close(sid2_cache *cache)
{
    if (!cache) return;
    free(cache->memory);
    if (cache->scratch >= 0) close(cache->scratch);
    free(cache);
}

bool sid2_cache_put(sid2_cache *cache, int64_t number, const void *sample)
{
    uint64_t offset = (uint64_t)number * cache->sample_bytes;
    if (!cache->memory)
        return sid2_scratch_write(cache->scratch, sample, cache->sample_bytes, offset, "", NULL);
    memcpy(cache->memory + offset, sample, cache->sample_bytes);
    return true;
}

bool sid2_cache_get(const sid2_cache *cache, int64_t number, void *sample)
{
    uint64_t offset = (uint64_t)number * cache->sample_bytes;
    if (!cache->memory) return sid2_file_fill(cache->scratch, sample, cache->sample_bytes, offset, "", NULL);
    memcpy(sample, cache->memory + offset, cache->sample_bytes);
    return true;
}
