/* XXH3-128, as 32 hexadecimal digits: what xxh128sum prints. Finds damage, not malice. */
#ifndef SID2_DIGEST_H
#define SID2_DIGEST_H

#include "base.h"

void sid2_digest_bytes(const void *bytes, size_t size, char digest[33]);
bool sid2_digest_file(const char *path, char digest[33], sid2_error *err);

#endif
