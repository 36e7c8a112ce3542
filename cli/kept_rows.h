/* Rows of features in a file of the user's cache folder, by the identity of what they are of. The file is chunks of rows (the
 * last may be shorter), each followed by a digest, so that what is damaged or cut short is made again. */
#ifndef SID2_CLI_KEPT_ROWS_H
#define SID2_CLI_KEPT_ROWS_H

#include "base.h"

typedef struct kept_rows {
    int64_t chunk, width; /* rows that are kept together, and numbers of one */
    int descriptor;       /* -1: nothing is kept */
    char path[4096];
} kept_rows;

/* How many of `rows`, `count` of them, there are; they are filled in. What follows is replaced by what is put next. */
int64_t kept_rows_open(kept_rows *k, const char *identity, float *rows, int64_t count);
/* Rows first .. first + count - 1, a whole chunk. A full disk costs the file, no result. */
void kept_rows_put(kept_rows *k, const float *rows, int64_t first, int64_t count);
void kept_rows_close(kept_rows *k);

#endif
