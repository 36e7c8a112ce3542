/* Inside data/: the files under one path, wherever they lie: in a folder and those below it, in a zip, in tars. The
 * formats of data sets (source.h) look at names here, and read what they want. */
#ifndef SID2_FILES_H
#define SID2_FILES_H

#include "file.h"
#include "group.h"
#include "losses.h"

typedef struct sid2_entry {
    char *name;        /* below the path, '/' between folders; Unicode's NFC */
    char *stored;      /* as it is called there; NULL: the same */
    uint64_t size;     /* bytes */
    uint64_t place;    /* zip: its number; tar: where it begins */
    uint32_t checksum; /* of its bytes; 0: not known */
    int32_t archive;   /* which of several tars */
} sid2_entry;

typedef struct sid2_files sid2_files;
struct sid2_files {
    const char *kind; /* "folder", "zip", "tar" */
    char *path;
    sid2_entry *entry; /* files that can be read, sorted as if folder by folder; none is hidden */
    int64_t count, room;
    sid2_list folders; /* all there are, empty ones too, sorted */
    char *
        choice; /* the one that the path names, where that is no archive: the others lie beside it. Else NULL */
    sid2_losses losses; /* what was there and is no such file */
    void *state;

    /* Reads a whole file of at most `limit` bytes. Thread-safe. The caller frees. */
    uint8_t *(*read)(sid2_files *files, const sid2_entry *entry, size_t limit, size_t *size, sid2_error *err);
    /* Reads `size` bytes from `offset` on, which are there. Thread-safe. NULL: these files are read whole. */
    bool (*read_at)(sid2_files *files, const sid2_entry *entry, void *bytes, size_t size, uint64_t offset,
                    sid2_error *err);
    void (*close)(sid2_files *files); /* frees `state`, complete or not, even NULL */
};

/* NULL: nothing to read there; an archive that is damaged as a whole; no memory. All ranks of a group (NULL: alone) call it
 * together: what rank 0 sees as a folder it lists for all, and its losses are known to it alone; archives hold lists of
 * their own, which each reads. */
sid2_files *sid2_files_open(const char *path, sid2_group *group, sid2_error *err);
void sid2_files_close(sid2_files *files); /* NULL is fine */

/* Whether a folder holds tars; then goes on with what is in them. */
bool sid2_files_hold_tars(const sid2_files *files);
bool sid2_files_open_tars(sid2_files *files, sid2_error *err);

/* The file of this name in this one of several tars, by halving; NULL: none. */
const sid2_entry *sid2_files_find(const sid2_files *files, const char *name, int32_t archive);
/* The same of the name that begins with the first `length` bytes of an entry's, and goes on with `rest`. */
const sid2_entry *sid2_files_beside(const sid2_files *files, const sid2_entry *entry, size_t length,
                                    const char *rest);
/* .png, .jpg, .webp, ... */
bool sid2_is_picture_name(const char *name);

/* A file of a zip, read from anywhere in it. One that is compressed is unpacked into a scratch file first, any other read
 * once: either way its checksum is compared. */
typedef struct sid2_member sid2_member;
sid2_member *sid2_member_open(sid2_files *files, const sid2_entry *entry, sid2_error *err);
bool sid2_member_read(sid2_member *member, void *bytes, size_t size, uint64_t offset,
                      sid2_error *err);      /* thread-safe */
void sid2_member_close(sid2_member *member); /* before its files; NULL is fine */

/* ---- For those who fill it (files_*.c) ---- */

bool sid2_files_list_folder(sid2_files *files, sid2_group *group, sid2_error *err);
bool sid2_files_list_beside(sid2_files *files, sid2_error *err);
bool sid2_files_list_zip(sid2_files *files, sid2_error *err);
/* `paths`: of the archives. */
bool sid2_files_list_tars(sid2_files *files, const sid2_list *paths, sid2_error *err);

/* Whether a file of this name, beginning so, is a tar, compressed or not. */
bool sid2_is_tar(const char *path, const uint8_t start[512]);
bool sid2_is_tar_name(const char *name);

/* Adds a file, or counts it where it is hidden; `entry` says all but the names. */
bool sid2_files_add(sid2_files *files, const char *stored, sid2_entry entry, sid2_error *err);
/* A folder, unless it is hidden. */
bool sid2_files_add_folder(sid2_files *files, const char *stored, sid2_error *err);
/* A name as archives have it, with '/' between folders and nothing before the first. Copies; NULL without memory. */
char *sid2_archive_name(const char *stored);

#endif
