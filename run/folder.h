/* A run's folder and what lies in it. */
#ifndef SID2_FOLDER_H
#define SID2_FOLDER_H

#include <sid2/run.h>

#include "config.h"
#include "heldout.h"

#include <stdio.h>

typedef struct sid2_folder {
    char path[4096];
    int lock;    /* file descriptor, or -1 */
    bool paused; /* as it was seen last */
    FILE *stats;
    double seconds; /* spent in training before this start */
    double best;    /* lowest held-out loss so far, or infinity */
    uint64_t best_step;
    char note[480]; /* what the last opening (of the folder, of stats.jsonl) has to tell; or "" */
} sid2_folder;

/* Refuses a place in the data, where the run's pictures would become data. */
bool sid2_folder_check_data(const char *path, const char *data, sid2_error *err);
/* Creates the folder where needed and keeps every other trainer out of it. */
bool sid2_folder_open(sid2_folder *f, const char *path, sid2_error *err);
void sid2_folder_close(sid2_folder *f);
/* Whether a trainer holds a run's folder. Looking keeps nobody out. */
bool sid2_folder_in_use(const char *path, sid2_run_life *life, sid2_error *err);

/* The next key from *index on whose values differ, with both as text; NULL past the last. */
const sid2_config_key *sid2_next_change(const sid2_config *before, const sid2_config *now, int *index,
                                        char was[256], char is[256]);
/* Refuses a configuration that would not continue the saved one, naming the first key that may not differ. */
bool sid2_folder_check_config(const char *path, const sid2_config *saved, const sid2_config *config,
                              sid2_error *err);
bool sid2_folder_save_config(const sid2_folder *f, const sid2_config *config, sid2_error *err);

/* What run.json keeps. */
typedef struct sid2_run_facts {
    char data[4096], device[160];
    char pictures[33]; /* their digest; "" in older ones */
    char teacher[33];  /* of a student: the digest of whom it learns from, else "" */
    int64_t images;
} sid2_run_facts;

bool sid2_folder_save_facts(const sid2_folder *f, const sid2_run_facts *facts, sid2_error *err);
/* Facts of zero where there is no run.json. */
bool sid2_folder_load_facts(const char *path, sid2_run_facts *facts, sid2_error *err);

/* A line of stats.jsonl. */
enum { SID2_LOGSNR_BINS = 10 }; /* of width 2 from -10 to 10; what lies outside counts to the first or last */

typedef struct sid2_stats_line {
    uint64_t step, images, skipped; /* skipped: bad steps that were stepped over, which no mean counts */
    double loss, grad_norm, learning_rate, images_per_s, seconds;
    double bin_loss[SID2_LOGSNR_BINS]; /* means; empty bins are left out */
    int bin_count[SID2_LOGSNR_BINS];
    size_t memory;               /* peak resident bytes of the process */
    const sid2_heldout *heldout; /* measured at this step; or NULL */
} sid2_stats_line;

/* Opens stats.jsonl to append, dropping the lines of later steps than `step` from its end: a killed run goes on
 * from its last checkpoint. Lines that cannot be read stay, and are noted. */
bool sid2_folder_open_stats(sid2_folder *f, uint64_t step, sid2_error *err);
bool sid2_folder_flush_stats(sid2_folder *f, sid2_error *err); /* to the disk */
bool sid2_folder_write_stats(sid2_folder *f, const sid2_stats_line *line, sid2_error *err);

bool sid2_folder_checkpoint(const sid2_folder *f, uint64_t step, char path[4096], sid2_error *err);
/* The step that a checkpoint or a grid of samples is named by; the path may be the name alone. */
uint64_t sid2_folder_step(const char *path);
/* Makes RUN/best, a symbolic link, lead to that step's checkpoint. What is there otherwise is left, and an error. */
bool sid2_folder_point_best(const sid2_folder *f, uint64_t step, sid2_error *err);
/* Whether somebody asked the trainer to pause (sid2_run_pause). */
bool sid2_folder_is_paused(sid2_folder *f);
/* Renames a checkpoint that cannot be read to "….damaged", so that nothing goes on from it. */
bool sid2_folder_set_aside(const char *checkpoint, char aside[4096], sid2_error *err);

#endif
