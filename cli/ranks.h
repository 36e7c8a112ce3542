/* This process among those that were started together. */
#ifndef SID2_CLI_RANKS_H
#define SID2_CLI_RANKS_H

#include "cli.h"

#include "group.h"

typedef struct ranks {
    sid2_place place;
    sid2_group *group; /* NULL: alone */
} ranks;

/* Finds the others, where there are any: nothing else of the program has begun. */
bool ranks_join(ranks *r, sid2_error *err);
/* The exit code that this process ends with: `code`, or where others are gone or are waited for in vain, EXIT_AGAIN.
 * in_order: all ranks leave now, having had the same result. */
int ranks_leave(ranks *r, int code, const sid2_error *err);
/* Whether this one prints what all know. */
bool ranks_speak(const ranks *r);
/* report_error for all of them: one prints what all know, and each that it has lost the others. */
int ranks_report(const ranks *r, const char *command, const sid2_error *err);
/* "rank 3 on node7: " before what only this one knows; "" of the one that speaks. Returns `text`. */
const char *ranks_name(const ranks *r, char text[96]);

#endif
