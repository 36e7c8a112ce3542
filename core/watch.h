/* Nobody waits for ever: a thread that watches over a process among several. Each phase has a deadline, longer than
 * anything that goes well; where it passes, whatever the process is stuck in (a peer, a disk, a driver) is not waited
 * for any more. */
#ifndef SID2_WATCH_H
#define SID2_WATCH_H

#include "place.h"

typedef enum sid2_phase {
    SID2_PHASE_IDLE, /* no deadline */
    SID2_PHASE_JOIN,
    SID2_PHASE_PREPARE,
    SID2_PHASE_STEP,
    SID2_PHASE_SAMPLE,
    SID2_PHASE_MEASURE,
    SID2_PHASE_SAVE,
    SID2_PHASE_PAUSE,
    SID2_PHASE_LEAVE,
    SID2_PHASE_COUNT
} sid2_phase;

/* Called once, by the watching thread, which then ends: "rank 3 of 8 on node7: step 120 has taken more than 60 s, ...".
 * The thread that is stuck may hold any lock, so no more than a write to standard error and _exit are safe. */
typedef void (*sid2_watch_breach)(void *user, const char *line);

typedef struct sid2_watch sid2_watch;

/* Deadlines are those of the table in watch.c, or the variable SID2_DEADLINES: "join=600,step=300", in seconds. USAGE: it
 * is something else. The phase is SID2_PHASE_IDLE. */
sid2_watch *sid2_watch_begin(const sid2_place *place, sid2_watch_breach breach, void *user, sid2_error *err);
void sid2_watch_end(sid2_watch *watch); /* NULL is fine, here and below */

/* What the process does from now on. A step after a step ends that one; the deadline is ten times their median where that
 * is more than the table says; that of the first, for which there is no median, is the preparation's, too. */
void sid2_watch_enter(sid2_watch *watch, sid2_phase phase, uint64_t step);
/* What it waits for: "the sum of the gradients", with `peer`. NULL: nothing. `what` must stay. */
void sid2_watch_expect(sid2_watch *watch, const char *what, int peer);

/* What a process does at a moment, for anybody who asks. */
typedef struct sid2_watch_sight {
    char doing[64];     /* "step 120", "saving at step 120"; "": nothing with a deadline */
    char waits_for[96]; /* "rank 2 in the sum of the gradients"; "": nobody */
    double seconds;     /* for so long already */
    double waited;      /* seconds that it has waited for others, all together */
} sid2_watch_sight;

/* From any thread. */
sid2_watch_sight sid2_watch_look(sid2_watch *watch);

#endif
