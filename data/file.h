/* Whole files in and out. */
#ifndef SID2_FILE_H
#define SID2_FILE_H

#include "base.h"

#include <stdio.h>

/* Reads a whole file; refuses more than `limit` bytes. The caller frees. */
uint8_t *sid2_file_read(const char *path, size_t limit, size_t *size, sid2_error *err);

/* A file that appears under its name complete or not at all: it is written beside it under a temporary
 * name, flushed to the disk, then renamed over. */
typedef struct sid2_atomic_file {
    FILE *stream; /* write here */
    char *path, *temporary;
} sid2_atomic_file;

bool sid2_atomic_open(sid2_atomic_file *file, const char *path, sid2_error *err);
/* Reports every write error since the opening (full disk). Frees in either case. */
bool sid2_atomic_commit(sid2_atomic_file *file, sid2_error *err);
void sid2_atomic_discard(sid2_atomic_file *file); /* also after a commit, where it does nothing */

/* The same for bytes in memory. */
bool sid2_file_write(const char *path, const void *bytes, size_t size, sid2_error *err);

#endif
