/* Averages of other lengths than a checkpoint's own, made of what a run with train.averages keeps. */
#ifndef SID2_CLI_LENGTH_H
#define SID2_CLI_LENGTH_H

#include "cli.h"

enum { MAX_LENGTHS = 64 };

/* "0.02,0.05,0.1". */
bool lengths_parse(const char *text, double lengths[MAX_LENGTHS], int *count, sid2_error *err);
/* sid2_checkpoint_export of the weights averaged over that length. `how`: ", averaged over ...", for people. */
bool length_export(const char *checkpoint, double length, const char *to, sid2_dtype dtype, char how[160],
                   sid2_error *err);

/* The same in a folder of passing interest, in $TMPDIR or else /var/tmp: to be loaded, and left. */
typedef struct length_scratch {
    char root[4096], checkpoint[4096];
} length_scratch;
bool length_enter(length_scratch *scratch, const char *checkpoint, double length, char how[160],
                  sid2_error *err);
void length_leave(length_scratch *scratch); /* removes it; zeros are fine */

#endif
