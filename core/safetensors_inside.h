/* What the reader and the writer of safetensors share. */
#ifndef SID2_SAFETENSORS_INSIDE_H
#define SID2_SAFETENSORS_INSIDE_H

#include "safetensors.h"

#include <xxhash.h>

#define SID2_DIGEST_KEY "xxh3_128:"

/* Where the official package lays tensors of a type out among the others, and the type's name there. */
int sid2_safetensors_type(sid2_dtype dtype, const char **name);
/* As xxh128sum prints it. */
void sid2_safetensors_print(XXH128_hash_t hash, char digest[33]);
/* "xxh3_128:NAME", to be freed; NULL without memory. */
char *sid2_safetensors_key(const char *name);

#endif
