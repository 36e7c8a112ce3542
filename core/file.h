/* Whole files and whole folders, in and out. */
#ifndef SID2_FILE_H
#define SID2_FILE_H

#include "base.h"

#include <stdio.h>

/* Formats a path; false (with an error) where it does not fit. */
bool sid2_path(char path[4096], sid2_error *err, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
char *sid2_path_join(const char *folder, const char *name); /* to be freed; NULL without memory */
const char *sid2_base_name(const char *path);               /* what follows the last '/' */

/* ---- Looking ---- */

typedef enum sid2_kind {
    SID2_ABSENT,
    SID2_REGULAR,
    SID2_FOLDER,
    SID2_STREAM, /* a pipe or a character device */
    SID2_STRANGE /* a socket, a disk */
} sid2_kind;

/* What a path leads to. Absent is what the system says is not there, and nothing else: where it cannot be
 * looked at (no permission, a failing disk, no descriptor left), that is an error. */
bool sid2_look(const char *path, sid2_kind *kind, sid2_error *err);

/* The names in a folder that `wanted` (NULL: all) takes, in order of their bytes; "." and ".." are none. An
 * absent folder has none. Free with sid2_list_free. */
typedef struct sid2_list {
    char **name;
    size_t count, room;
} sid2_list;
bool sid2_list_folder(sid2_list *list, const char *path, bool (*wanted)(const char *name), sid2_error *err);
void sid2_list_free(sid2_list *list);
/* Lists of other names. */
bool sid2_list_push(sid2_list *list, const char *name, sid2_error *err); /* copies */
void sid2_list_sort(sid2_list *list);                                    /* in order of bytes, each once */
/* The place of the name of these bytes in a sorted list, by halving; -1: it is not there. */
int64_t sid2_list_find(const sid2_list *list, const char *name, size_t length);

/* ---- Reading ---- */

/* Opens a regular file to read: its descriptor and its bytes, or -1. Nothing else is taken for a file: opening
 * a pipe would wait for ever, reading some devices would. Refuses more than `limit` bytes (0: no limit). */
int sid2_file_open(const char *path, size_t limit, size_t *size, sid2_error *err);
/* Fills `bytes` from a file; a file that ends before is an error. `path` is for messages. */
bool sid2_file_fill(int descriptor, void *bytes, size_t size, uint64_t offset, const char *path,
                    sid2_error *err);
/* Writes all bytes at `offset`. */
bool sid2_file_put(int descriptor, const void *bytes, size_t size, uint64_t offset, const char *path,
                   sid2_error *err);
/* Reads a whole file. A zero byte that is not counted follows its bytes. The caller frees. */
uint8_t *sid2_file_read(const char *path, size_t limit, size_t *size, sid2_error *err);

/* What is read next of a file that was flushed comes from the disk, not from the system's memory; where the
 * system can do that. */
void sid2_file_forget(const char *path);

/* ---- Writing ---- */

/* A file that appears under its name complete or not at all: it is written beside it under a temporary
 * name, flushed to the disk, then renamed over. Its folder is made where missing; a symbolic link stays, and
 * what it leads to is replaced. A link that another user put where all may write is refused, and so is a
 * stream (a device, a pipe). */
typedef struct sid2_atomic_file {
    FILE *stream; /* write here */
    bool passing; /* of passing interest: whole or not at all as ever, but not flushed to the disk */
    char *path, *temporary; /* temporary: NULL for a stream */
} sid2_atomic_file;

bool sid2_is_stream(const char *path);
bool sid2_atomic_open(sid2_atomic_file *file, const char *path, sid2_error *err);
/* The same for what a user names: a stream is written directly. A pipe waits some seconds for its reader. */
bool sid2_output_open(sid2_atomic_file *file, const char *path, sid2_error *err);
/* The same for a stream that is open already, such as standard output; it is written directly, and closed at the end.
 * `name` is for messages. */
bool sid2_atomic_stream(sid2_atomic_file *file, FILE *stream, const char *name, sid2_error *err);
/* Why an earlier write to a stream failed, as errno; 0: it would not fail again. stdio keeps no cause, but another byte, a line
 * break, meets it again: for output that is lost anyway. */
int sid2_write_failure(FILE *stream);
/* Reports every write error since the opening (full disk). Frees in either case. */
bool sid2_atomic_commit(sid2_atomic_file *file, sid2_error *err);
void sid2_atomic_discard(sid2_atomic_file *file); /* also after a commit, where it does nothing */
/* Removes what is written so far of every open file. For the signal handler of a process that ends there. */
void sid2_atomic_abandon(void);

/* The same for bytes in memory. */
bool sid2_file_write(const char *path, const void *bytes, size_t size, sid2_error *err);

/* Opens a regular file to append lines, made where it is absent; a last line that was cut short is ended. */
FILE *sid2_file_append(const char *path, sid2_error *err);

/* ---- Scratch files ----
 * Without a name, in $TMPDIR or else /var/tmp: gone with its descriptor. -1 where there can be none. */
int sid2_scratch_open(sid2_error *err);
/* sid2_file_put, whose message says how to give it more room; `what` it holds. */
bool sid2_scratch_write(int descriptor, const void *bytes, size_t size, uint64_t offset, const char *what,
                        sid2_error *err);
/* A new folder there, for this user alone, with a name; the caller removes it. "" where there can be none. */
bool sid2_scratch_folder(char path[4096], sid2_error *err);

/* ---- Folders ---- */

bool sid2_make_directories(const char *path, sid2_error *err); /* like mkdir -p, and on the disk */
bool sid2_make_parents(const char *path, sid2_error *err);     /* the folder that `path` lies in */
bool sid2_remove_tree(const char *path, sid2_error *err);      /* absent is fine */
/* The same, and what a reader finds under the name is the whole or nothing even where this process dies. */
bool sid2_remove_whole(const char *path, sid2_error *err);

/* A folder that appears under its name complete or not at all. Write files into `temporary`, then commit:
 * it flushes them and renames the folder. What stands there by then is an error, but for an empty folder;
 * or with `replace` it gives way to the new one and is removed. */
typedef struct sid2_atomic_directory {
    char *path, *temporary;
    int lock;
} sid2_atomic_directory;

bool sid2_atomic_directory_open(sid2_atomic_directory *directory, const char *path, sid2_error *err);
bool sid2_atomic_directory_commit(sid2_atomic_directory *directory, bool replace,
                                  sid2_error *err);                   /* frees in either case */
void sid2_atomic_directory_discard(sid2_atomic_directory *directory); /* as for files */

/* ---- Leftovers ----
 * Whatever is being written, replaced or removed beside NAME is called
 *
 *     .NAME.sid2-tmp-PROCESS-NUMBER      and what it replaces    .NAME.sid2-old-PROCESS-NUMBER
 *
 * while that lasts. sid2 removes such a name, and nothing else, when it belongs to this user, no process of
 * that number runs on this machine, and no process of any machine has it locked. An "old" one with nothing
 * under NAME is the only copy: it takes its place again. */
void sid2_clear_leftovers(const char *folder);

#endif
