/* XXH3-128, as 32 hexadecimal digits: what xxh128sum prints. Finds damage, not malice. */
#ifndef SID2_DIGEST_H
#define SID2_DIGEST_H

#include "base.h"

void sid2_digest_bytes(const void *bytes, size_t size, char digest[33]);
bool sid2_digest_file(const char *path, char digest[33], sid2_error *err);

/* A JSON text that tells damage by itself has `"xxh3_128": "DIGEST"` as its last field, of all bytes before the comma
 * in front of it. False where the digest is another; a text without that field holds. */
bool sid2_digest_holds(const char *json, size_t size);

/* Of bytes that come one part after the other: the digest is that of all together. */
typedef struct sid2_digest sid2_digest;
sid2_digest *sid2_digest_begin(sid2_error *err);
void sid2_digest_add(sid2_digest *stream, const void *bytes, size_t size);
void sid2_digest_end(sid2_digest *stream, char digest[33]); /* frees; NULL is fine: `digest` is empty then */

#endif
