/* What sid2 eval fid found of a run's checkpoints: RUN/judgements.jsonl, a line each, so that a report shows it over time. */
#ifndef SID2_JUDGEMENTS_H
#define SID2_JUDGEMENTS_H

#include "base.h"

/* What was not measured is NaN. */
typedef struct sid2_judgement {
    uint64_t step;
    char against[256], interval[64], sampler[32];
    int64_t pictures, steps; /* steps: of the sampler */
    double guidance, fid, deviation, sfid, kid, precision, recall,
        inception; /* deviation: of fid, over seeds */
} sid2_judgement;

/* Adds a line, which ends with its digest. */
bool sid2_judgement_add(const char *run, const sid2_judgement *j, sid2_error *err);
/* All lines of a run that are whole, in their order, the caller's to free; none where there is no such file. *damaged: how many
 * were left out. */
bool sid2_judgements_read(const char *run, sid2_judgement **all, int *count, int *damaged, sid2_error *err);

#endif
