/* A training at work, as its files share it: run.c prepares it and takes the steps. */
#ifndef SID2_AT_WORK_H
#define SID2_AT_WORK_H

#include "events.h"
#include "folder.h"
#include "heldout.h"
#include "pulse.h"
#include "snapshot.h"

#include "loader.h"

#include <pthread.h>
#include <stdatomic.h>

/* What a loader's thread has to say, until the caller's thread tells it. */
typedef struct sid2_note {
    struct sid2_note *next;
    char text[480];
} sid2_note;

/* A checkpoint that is written while the training goes on. */
typedef struct sid2_writing {
    bool beside;             /* the way of this run; else at once */
    bool begun;              /* and the next has to wait */
    bool threaded, ok, best; /* threaded: by `thread`; ok: once it is done; best: so far */
    pthread_t thread;
    atomic_bool done;
    sid2_snapshot *snapshot;
    char path[4096];
    uint64_t step;
    sid2_error cause;
} sid2_writing;

struct sid2_run {
    sid2_run_options options;
    sid2_run_plan plan;
    sid2_run_progress progress;
    bool losses_told;
    int64_t broken_told;
    bool planned;
    bool wish, stop;    /* wish: the callback said that it should stop; stop: all ranks know that one's did */
    bool lost;          /* the device: another one may go on */
    char pictures[224]; /* the plan's */
    sid2_group *group;  /* NULL: alone */

    bool resuming;
    char checkpoint[4096];        /* to go on from */
    sid2_run_facts before, facts; /* of the run that goes on; now */
    sid2_config *saved, *config;
    sid2_dataset *data;
    sid2_classes *names; /* of its classes */
    sid2_folder folder;
    sid2_events events;   /* closed where they are not wanted */
    pthread_mutex_t lock; /* over the notes */
    sid2_note *first_note, **last_note;

    sid2_device *device;
    sid2_trainer *trainer;
    sid2_loader *loader;
    sid2_writing writing;
    sid2_heldout heldout; /* what the held-out loss is measured on; no pictures: it is not */
    double opened;        /* when */
    double began, aside;  /* of this start; seconds in samples and checkpoints rather than steps */
    double save_costs, grid_costs, eval_costs; /* seconds, of the last one */
    char state[24];                            /* as it was last made public */
    double said_at;
    bool pausing;         /* saved, and asked to wait */
    bool silent;          /* it cannot be made public, which was said */
    sid2_pulse *pulse;    /* of several ranks; or NULL */
    sid2_stats_line line; /* what the next line of stats.jsonl gathers */
    uint64_t line_steps, line_images;
    double line_began, line_aside;
};

/* Of several ranks, the one that has the folder and speaks. */
static inline bool sid2_leads(const sid2_run *r) { return sid2_group_rank(r->group) == 0; }

/* ---- telling.c ---- */

/* Texts are told by the rank that leads, for all ranks have the same, but what came in threads of their own. */
void sid2_tell(sid2_run *r, sid2_run_event event);
void sid2_tell_text(sid2_run *r, sid2_run_event_kind kind, const char *text);
/* From any thread that gets pictures: what is left out, told by the next call of another. `user`: the run. */
void sid2_tell_skip(void *user, const char *name, const char *reason);
void sid2_tell_notes(sid2_run *r);
/* What is left out is counted when the data is opened, and once more at the end if some turned out broken. */
void sid2_tell_losses(sid2_run *r);
/* What the folder has to tell, if anything. */
void sid2_tell_note(sid2_run *r);
/* To status.json, for others: at once where the state changes, else once a second. */
void sid2_tell_state(sid2_run *r, const char *state, const char *message);
/* What TensorBoard is not told is worth a line, not the end of the training. */
void sid2_tell_events(sid2_run *r, bool written, const sid2_error *cause);

/* ---- beside.c: what it costs counts to no step ---- */

void sid2_beside_sample(sid2_run *r);
/* Of a distillation, once, the teacher's of the same seeds: samples/teacher.png. */
void sid2_beside_teacher(sid2_run *r);
/* The held-out loss, for the line at hand. Whether it is the lowest so far. */
bool sid2_beside_measure(sid2_run *r);
/* Whatever one rank's callback wished all know: r->stop. */
bool sid2_beside_agree(sid2_run *r, sid2_error *err);
bool sid2_beside_save(sid2_run *r, sid2_error *err);

/* ---- averages.c ---- */

/* Records of steps that are still to come were another training's, or this one's from before it was stopped. */
void sid2_averages_begin(sid2_run *r);
/* A record, where the step is one of those; comes before the step's checkpoint, so that who goes on from there has it. */
bool sid2_averages_keep(sid2_run *r, sid2_error *err);

/* ---- writing.c ---- */

/* Whether checkpoints are written beside the training: as rank 0's memory allows. */
bool sid2_writing_choose(sid2_run *r, sid2_error *err);
/* A checkpoint of now, which may be done later; the one before is waited for. */
bool sid2_writing_save(sid2_run *r, sid2_error *err);
/* Whether one that was begun is done: on rank 0, who writes; on others as soon as it is begun. */
bool sid2_writing_is_done(const sid2_run *r);
/* Waits for it, all ranks together, who have its error. */
bool sid2_writing_finish(sid2_run *r, sid2_error *err);
/* The same at the end of a training that failed, when others may be gone: what is whole counts. */
void sid2_writing_abandon(sid2_run *r);

#endif
