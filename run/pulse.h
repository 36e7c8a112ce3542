/* What each of several ranks does, seen by anybody who looks into the run's folder: RUN/ranks/3.json, written every few seconds
 * by a thread that waits for nobody, so that a rank which is stuck says so and one that is gone falls silent. */
#ifndef SID2_PULSE_H
#define SID2_PULSE_H

#include <sid2/run.h>

#include "group.h"

typedef struct sid2_pulse sid2_pulse;

enum { SID2_PULSE_SECONDS = 5 }; /* between two beats */

/* Removes what an earlier start, by more ranks perhaps, has left; before any of this one begins. */
void sid2_pulse_clear(const char *run);
/* NULL, without an error, where the process is alone (group NULL) or the system has no thread for it: no training ends for
 * that. `device` must stay. */
sid2_pulse *sid2_pulse_begin(const char *run, sid2_group *group, const char *device);
/* Share of the last minute, 0 to 1, in which this rank waited for others; NaN: not known. NULL is fine, here and below. */
double sid2_pulse_waits(sid2_pulse *pulse);
/* in_order: the rank is done, and what it said is removed; else that stays, as the last that was heard of it. */
void sid2_pulse_end(sid2_pulse *pulse, bool in_order);

/* What all ranks of a run said last, to be freed; none: NULL, and *count is 0. */
bool sid2_pulse_read(const char *run, sid2_rank_status **ranks, int *count, sid2_error *err);

#endif
