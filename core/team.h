/* A team: threads that do one thing together, over and over, and sleep in between.
 *
 * Made for work of milliseconds and more, such as the lanes of a training step: a call costs a wake-up or two. Nobody
 * spins, so a machine that has other things to do stays usable. The threads take no signals. */
#ifndef SID2_CORE_TEAM_H
#define SID2_CORE_TEAM_H

#include "base.h"

#include <pthread.h>

/* A thread that takes no signals: they are for the application's own. False: the system has no more. */
bool sid2_thread_start(pthread_t *thread, void *(*run)(void *), void *data);

typedef struct sid2_team sid2_team;

/* The part of one member, 0 .. size - 1. */
typedef bool (*sid2_team_work)(void *data, int member, sid2_error *err);

/* The caller of sid2_team_run is member 0; size - 1 threads are started. */
sid2_team *sid2_team_create(int size, sid2_error *err);
void sid2_team_destroy(sid2_team *team); /* NULL is fine */

/* Every member does its part, all at the same time; returns when the last one has. Of several that fail, the error is
 * that of the first. What a member wrote is seen by whoever comes after the call. */
bool sid2_team_run(sid2_team *team, sid2_team_work work, void *data, sid2_error *err);

/* ---- For the members, during a run ---- */
/* The next number nobody has taken: 0, 1, 2, ... in each run. So whoever is free takes the next piece of work. */
int64_t sid2_team_next(sid2_team *team);
/* Whether some member has failed, so that the others may as well stop. */
bool sid2_team_failed(const sid2_team *team);

#endif
