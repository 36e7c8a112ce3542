/* A run as its files tell it: what a report shows. */
#ifndef SID2_HISTORY_H
#define SID2_HISTORY_H

#include "file.h"
#include "folder.h"

enum { SID2_LEVELS = 5 }; /* noise levels that a chart can show: pairs of the bins of a line */

/* Columns of numbers, one row a line of stats.jsonl; NaN where a line lacks one. */
typedef enum sid2_column {
    SID2_STEP,
    SID2_IMAGES,
    SID2_SECONDS,
    SID2_LOSS,
    SID2_SMOOTH,
    SID2_SPEED,
    SID2_NORM,
    SID2_RATE,
    SID2_HELDOUT,
    SID2_BY_LEVEL,
    SID2_COLUMNS = SID2_BY_LEVEL + SID2_LEVELS
} sid2_column;

typedef struct sid2_history {
    const char *path;
    char name[256]; /* the folder's */
    sid2_run_facts facts;
    sid2_config *config;
    sid2_run_status *status;
    sid2_classes *classes;
    int count, capacity;
    double *column[SID2_COLUMNS];
    double memory;   /* most bytes */
    int best;        /* row of the lowest held-out loss, or -1 */
    int unreadable;  /* lines */
    sid2_list grids; /* names in samples/, in order of their steps */
} sid2_history;

/* IO: no run; FORMAT: nothing is known of it yet. */
bool sid2_history_read(sid2_history *h, const char *path, sid2_error *err);
void sid2_history_free(sid2_history *h);

#endif
