/* Inside data/: decoded samples of one size, by number. In memory where all fit, else in a scratch file, which is still
 * far faster than to decode large photos anew in every epoch. */
#ifndef SID2_CACHE_H
#define SID2_CACHE_H

#include "base.h"

typedef struct sid2_cache sid2_cache;

/* NULL: neither memory nor disk has room, and samples must be decoded every time: slower, not wrong. */
sid2_cache *sid2_cache_open(int64_t count, size_t sample_bytes, size_t memory);
void sid2_cache_close(sid2_cache *cache); /* NULL is fine */
/* From any thread; of one number not at the same time. False: it has no place any more (a full disk), or cannot be
 * read. */
bool sid2_cache_put(sid2_cache *cache, int64_t number, const void *sample);
bool sid2_cache_get(const sid2_cache *cache, int64_t number, void *sample);

#endif
