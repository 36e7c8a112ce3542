/* A run: the folder that one training fills.
 *
 *     config.ini    the effective configuration        stats.jsonl     one line a log interval
 *     run.json      data, device, version              samples/        a grid at intervals
 *     lock          held while a trainer works here    checkpoints/    the newest few */
#ifndef SID2_CLI_RUN_H
#define SID2_CLI_RUN_H

#include "cli.h"

#include <stdio.h>

typedef struct run {
    char path[4096];
    int lock; /* file descriptor, or -1 */
    FILE *stats;
    double seconds; /* spent in training before this start */
} run;

enum { LOGSNR_BINS = 10 }; /* of width 2 from -10 to 10; what lies outside counts to the first or last */

typedef struct run_line {
    uint64_t step, images;
    double loss, grad_norm, learning_rate, images_per_s, seconds;
    double bin_loss[LOGSNR_BINS]; /* means; empty bins are left out */
    int bin_count[LOGSNR_BINS];
    size_t memory; /* peak resident bytes of the process */
} run_line;

/* What --out names: a run to go on with, or a place for a new one. A start that left no checkpoint binds
 * nobody. Refuses a folder of anything else. `checkpoint`: the newest one, or "" where a training begins. */
bool run_examine(const char *path, char checkpoint[4096], sid2_error *err);
/* Refuses a place in the data, where the run's pictures would become data. */
bool run_check_data(const char *path, const char *data, sid2_error *err);
/* Creates the folder where needed and keeps every other trainer out of it. */
bool run_open(run *r, const char *path, sid2_error *err);
void run_close(run *r);
/* Refuses a configuration that would not continue the saved one, naming the first key that may not differ. */
bool run_check_config(const char *path, const sid2_config *config, sid2_error *err);
void run_print_changes(const char *path, const sid2_config *config); /* the others, one a line */
bool run_save_config(const run *r, const sid2_config *config, sid2_error *err);

/* What run.json keeps. */
bool run_save_facts(const run *r, const char *data, int64_t images, const char *device, sid2_error *err);
bool run_load_facts(const char *path, char data[4096], int64_t *images, char device[160]);

/* Opens stats.jsonl to append, dropping lines after `step`: a killed run goes on from its last checkpoint. */
bool run_open_stats(run *r, uint64_t step, sid2_error *err);
bool run_write_stats(run *r, const run_line *line, sid2_error *err);

bool run_checkpoint_path(const run *r, uint64_t step, char path[4096], sid2_error *err);
/* The newest whole checkpoint before this one; false where there is none. */
bool run_older_checkpoint(const run *r, const char *checkpoint, char older[4096]);
/* Removes all but the newest `keep` checkpoints (0: none is removed). */
bool run_prune(const run *r, int64_t keep, sid2_error *err);

#endif
