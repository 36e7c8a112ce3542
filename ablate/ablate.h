/* An ablation: the rows of a plan trained for each seed, one run after another, and measured beside each other.
 *
 *     FOLDER/runs/ROW/seed-N         a run as of sid2_run_train
 *     FOLDER/measured/ROW.seed-N.*   what was found: .json; with samples their .npz and, of the first few, .png
 *     FOLDER/ablation.html, .md      the tables; the page has curves and pictures too
 *
 * What is there is not done again: a training that is complete, a measurement of the same weights in the same way. So the
 * same call goes on where another was stopped or killed. Where a tool of the user's has left
 * measured/ROW.seed-N.features.npz beside the samples, that is read too (foreign.h). */
#ifndef SID2_ABLATE_H
#define SID2_ABLATE_H

#include "ablate_plan.h"
#include "bits.h"
#include "table.h"

#include <sid2/run.h>

enum {
#define METRIC(word, name, unit, decimals, help) SID2_METRIC_##word,
#include "metrics.def"
    SID2_METRICS
};
typedef struct sid2_metric_row {
    const char *word, *name, *unit, *help;
    int decimals;
} sid2_metric_row;
extern const sid2_metric_row sid2_metrics[SID2_METRICS];

/* Of a row and a seed; NaN for what was not measured. */
typedef struct sid2_measured {
    bool known; /* everything that was to be measured is */
    double metric[SID2_METRICS];
    double bits[SID2_BANDS], loss[SID2_BANDS];
    double seconds;               /* of training */
    double evaluations, sampling; /* of the network for a sample; seconds for all */
} sid2_measured;

/* Where it is; `run`: what a training tells, else NULL. */
typedef struct sid2_ablate_progress {
    const char *row, *doing;
    uint64_t seed;
    int number, total; /* of rows x seeds: being done now, from 0; all */
    double fraction;   /* of what it does */
    const sid2_run_event *run;
} sid2_ablate_progress;
/* false: stop in order. */
typedef bool (*sid2_ablate_callback)(void *user, const sid2_ablate_progress *progress);

typedef struct sid2_ablate_options {
    const char *plan, *data, *folder;
    const char *checkpoint;       /* to measure, in place of training; or NULL */
    const char *inception;        /* the weights of FID's network, as sid2 eval has them; NULL: no FID */
    const char *features;         /* an npz of real pictures' features, for those of samples; or NULL */
    sid2_ablate_plan_options how; /* checkpoint and device are filled in */
    size_t memory;                /* as of sid2_run_options */
    sid2_ablate_callback callback;
    void *user;
} sid2_ablate_options;

typedef struct sid2_ablation {
    sid2_ablate_options options;
    sid2_ablate_plan plan;
    sid2_measured *measured; /* [rows, seeds] */
    int images;              /* held out, that were measured on; 0: not known yet */
    int waiting; /* for features that the user's tool has not left yet, of options.features: rows x seeds */
} sid2_ablation;

/* Everything that can be refused without a device; no folder is touched. Close it in any case. */
bool sid2_ablate_open(sid2_ablation *ablation, const sid2_ablate_options *options, sid2_device *device,
                      sid2_error *err);
/* Trains and measures what is not there yet, and writes tables and page; also of what there is where it is stopped
 * (CANCELLED) or fails. */
bool sid2_ablate_run(sid2_ablation *ablation, sid2_device *device, sid2_error *err);
void sid2_ablate_close(sid2_ablation *ablation);

const sid2_measured *sid2_ablation_at(const sid2_ablation *ablation, int row, int seed);
/* A metric of a row, seed by seed. */
void sid2_ablation_values(const sid2_ablation *ablation, int row, int metric,
                          double values[SID2_ABLATE_SEEDS]);
bool sid2_ablation_has(const sid2_ablation *ablation, int metric); /* of any row */

/* FOLDER/measured/ROW.seed-N.KIND */
bool sid2_ablation_path(const sid2_ablation *ablation, int row, int seed, const char *kind, char path[4096],
                        sid2_error *err);

/* ---- ablate_show.c ---- */

enum { SID2_ABLATION_TABLES = 3 };
/* Results, differences from the first row with their probabilities, bits by noise level. Free each. */
bool sid2_ablation_tables(const sid2_ablation *ablation, sid2_table tables[SID2_ABLATION_TABLES],
                          sid2_error *err);
/* How differences are judged, in words. */
const char *sid2_ablation_test(const sid2_ablation *ablation, char text[320]);
bool sid2_ablation_write(const sid2_ablation *ablation, sid2_error *err);

#endif
