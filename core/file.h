/* Whole files and whole folders, in and out. */
#ifndef SID2_FILE_H
#define SID2_FILE_H

#include "base.h"

#include <stdio.h>

/* Formats a path; false (with an error) where it does not fit. */
bool sid2_path(char path[4096], sid2_error *err, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Reads a whole file; refuses more than `limit` bytes. The caller frees. */
uint8_t *sid2_file_read(const char *path, size_t limit, size_t *size, sid2_error *err);

/* A file that appears under its name complete or not at all: it is written beside it under a temporary
 * name, flushed to the disk, then renamed over. Its folder is made where missing; a symbolic link stays, and
 * what it leads to is replaced. A stream (a device, a pipe) is written directly. */
typedef struct sid2_atomic_file {
    FILE *stream;           /* write here */
    char *path, *temporary; /* temporary: NULL for a stream */
} sid2_atomic_file;

bool sid2_is_stream(const char *path);
bool sid2_atomic_open(sid2_atomic_file *file, const char *path, sid2_error *err);
/* Reports every write error since the opening (full disk). Frees in either case. */
bool sid2_atomic_commit(sid2_atomic_file *file, sid2_error *err);
void sid2_atomic_discard(sid2_atomic_file *file); /* also after a commit, where it does nothing */
/* Removes what is written so far of every open file. For the signal handler of a process that ends there. */
void sid2_atomic_abandon(void);

/* The same for bytes in memory. */
bool sid2_file_write(const char *path, const void *bytes, size_t size, sid2_error *err);

bool sid2_is_directory(const char *path);
bool sid2_make_directories(const char *path, sid2_error *err); /* like mkdir -p */
bool sid2_make_parents(const char *path, sid2_error *err);     /* the folder that `path` lies in */
bool sid2_remove_tree(const char *path, sid2_error *err);      /* absent is fine */

/* A folder that appears under its name complete or not at all. Write files into `temporary`, then commit:
 * it flushes them, renames the folder and replaces one that was there. What a killed process left
 * ("<path>.tmp-<process>", "<path>.old-<process>") is cleared away at the next open of the same path; if it
 * was killed in the middle of replacing, the folder it had moved aside takes its place again. */
typedef struct sid2_atomic_directory {
    char *path, *temporary;
} sid2_atomic_directory;

bool sid2_atomic_directory_open(sid2_atomic_directory *directory, const char *path, sid2_error *err);
bool sid2_atomic_directory_commit(sid2_atomic_directory *directory,
                                  sid2_error *err);                   /* frees in either case */
void sid2_atomic_directory_discard(sid2_atomic_directory *directory); /* as for files */

#endif
