/* What was measured or compiled once for this user and is worth keeping: files under $XDG_CACHE_HOME/sid2 or
 * ~/.cache/sid2. A convenience only: whatever is wrong with them, sid2 goes on without. */
#ifndef SID2_CORE_KEEP_H
#define SID2_CORE_KEEP_H

#include "base.h"

/* The path of file `name` there; with `make`, its folder is made. False where there is no such folder to be had. */
bool sid2_keep_path(const char *name, bool make, char path[4096]);

/* A text, under 256 KiB, about whatever `identity` names in full (device, driver, version), in a file whose name begins with
 * `kind`. Its first line is its digest; who edits it removes that line. Writing is atomic; IO says why it cannot be. */
bool sid2_keep_text(const char *kind, const char *identity, const char *text, sid2_error *err);
/* 1: there it is; 0: none is kept; -1: what is there is damaged or another's. `path` is that of the file. */
int sid2_kept_text(const char *kind, const char *identity, char *text, size_t size, char path[4096]);

#endif
