/* Inside data/: zips and tars that appear complete or not at all. Bytes are written once and in order, so that the file may
 * be a pipe. Members are stored, not deflated: their contents are compressed already, or read in place later. */
#ifndef SID2_ARCHIVE_WRITE_H
#define SID2_ARCHIVE_WRITE_H

#include "file.h"

#include <jansson.h>

typedef struct sid2_archive sid2_archive;

/* A tar where its name ends so, else a zip. */
sid2_archive *sid2_archive_open(const char *path, sid2_error *err);
/* On a file that is open; it is the archive's from here on, also on failure. */
sid2_archive *sid2_archive_on(sid2_atomic_file *file, bool is_tar, sid2_error *err);
/* A member of `size` bytes, which the writes after it add up to. `name`: ASCII, or in a tar UTF-8. */
bool sid2_archive_begin(sid2_archive *archive, const char *name, uint64_t size, sid2_error *err);
bool sid2_archive_write(sid2_archive *archive, const void *bytes, size_t size, sid2_error *err);
/* Both. */
bool sid2_archive_add(sid2_archive *archive, const char *name, const void *bytes, size_t size,
                      sid2_error *err);
bool sid2_archive_commit(sid2_archive *archive, sid2_error *err); /* frees in either case */
void sid2_archive_discard(sid2_archive *archive);                 /* NULL is fine */

/* An archive in the layout that EDM reads: pictures by number, and dataset.json that labels them and names the classes. */
typedef struct sid2_edm {
    sid2_archive *archive;
    json_t *labels, *names; /* so far */
} sid2_edm;

bool sid2_edm_open(sid2_edm *edm, const char *path, sid2_error *err);
/* Labels the next picture, which the caller adds to the archive under the name that it gets here. */
enum { SID2_EDM_NAME = 64 };
bool sid2_edm_next(sid2_edm *edm, int32_t label, char name[SID2_EDM_NAME], sid2_error *err);
bool sid2_edm_name_class(sid2_edm *edm, const char *name, sid2_error *err); /* the next one */
bool sid2_edm_commit(sid2_edm *edm, sid2_error *err);                       /* frees in either case */
void sid2_edm_discard(sid2_edm *edm);                                       /* also after a failed opening */

#endif
