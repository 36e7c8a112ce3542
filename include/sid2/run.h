/* A run: one training, in a folder of its own that can always be gone on from.
 *
 *     config.ini    the effective configuration        stats.jsonl     one line a log interval
 *     run.json      data, device, version              samples/        a grid at intervals
 *     lock          held while a trainer works here    checkpoints/    the newest few
 *     status.json   what it does just now              best            a link to the best by held-out loss
 *     ranks/         and each of several processes
 *
 * and with train.tensorboard event files in tensorboard/. Where the folder holds a run, opening and training it again
 * goes on from its newest checkpoint. Nothing here prints or exits; what happens is told to a callback, always in the
 * thread that called. */
#ifndef SID2_RUN_H
#define SID2_RUN_H

#include <sid2/checkpoint.h>
#include <sid2/data.h>
#include <sid2/train.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct sid2_run sid2_run;
/* Processes that train together; sid2 train makes them. */
typedef struct sid2_group sid2_group;

/* What is to be trained, known before the first step. */
typedef struct sid2_run_plan {
    const char *path;       /* the folder */
    const char *checkpoint; /* where the weights come from; NULL: train.seed */
    bool resumes;           /* the checkpoint is the run's own */
    const char *data, *data_kind;
    int64_t images; /* to train on */
    int classes;    /* of the data */
    const char *device;
    const sid2_memory_report *memory;
    int64_t batch;             /* images a step */
    const sid2_classes *names; /* of the classes; NULL: the model has none */
    const char *pictures;      /* what becomes of a picture, in words */
    const char *turning;       /* and of its EXIF's rotation; NULL: its files have none */
    int ranks;                 /* processes that train together; 1: this one alone */
    const char *transport;     /* what carries their bytes; NULL: alone */
    double sent;               /* bytes that each of them sends, a step */
    bool fast;                 /* fast_reduce */
} sid2_run_plan;

typedef struct sid2_run_progress {
    uint64_t first_step, step, steps; /* where this start began; completed; train.steps */
    double loss;                      /* smoothed, for the eye */
    double images_per_s;              /* mean of this start; samples and checkpoints not counted */
    double seconds;                   /* of training, all starts together */
    double
        seconds_left; /* to the last step or to the end of the time given; samples and checkpoints counted */
    double sampled;   /* 0 to 1: how much of a grid is drawn */
    double measured;  /* 0 to 1: how much of the held-out loss is */
    double heldout, best; /* held-out loss, NaN before the first; the lowest so far */
    uint64_t best_step;   /* where that was */
    double fraction;      /* 0 to 1: of the steps, or of the time given where that ends first */
    bool stopped;         /* because the callback, or that of another rank, said so */
    double waits;         /* of several ranks: sid2_rank_status.waits, of this one; else NaN */
} sid2_run_progress;

typedef enum sid2_run_event_kind {
    SID2_RUN_PREPARING, /* programs are made for the device, which may take long */
    SID2_RUN_PLANNED,   /* nothing was refused: the training begins, or is complete already */
    SID2_RUN_CHANGED,   /* text: "key=value, was value", of a configuration that goes on changed */
    SID2_RUN_STEP,      /* one more is done; stats */
    SID2_RUN_SAMPLING,  /* a grid is being drawn; progress.sampled */
    SID2_RUN_SAMPLED,   /* text: the grid's path */
    SID2_RUN_SAVED,     /* text: the checkpoint's path */
    SID2_RUN_WARNING,   /* text: a line about what went wrong without ending the run */
    SID2_RUN_MEASURING, /* the held-out loss; progress.measured */
    SID2_RUN_MEASURED,  /* it is known; progress.heldout */
    SID2_RUN_PAUSED,    /* saved, and nothing is held on the device; told again and again while that lasts */
    SID2_RUN_CONTINUED, /* it goes on */
} sid2_run_event_kind;

/* What it points to is valid until the callback returns. */
typedef struct sid2_run_event {
    sid2_run_event_kind kind;
    const char *text;
    const sid2_train_stats *stats;
    const sid2_run_plan *plan; /* from SID2_RUN_PLANNED on */
    const sid2_run_progress *progress;
} sid2_run_event;

/* false: stop in order, once the step is done and saved. */
typedef bool (*sid2_run_callback)(void *user, const sid2_run_event *event);

typedef struct sid2_run_options {
    size_t struct_size;
    const char *path;          /* the run's folder */
    const sid2_config *config; /* copied */
    const char *data;          /* as sid2_dataset_open takes it; NULL: what the run was begun on */
    const char *from;          /* a checkpoint or run whose weights a new run starts from, or NULL */
    size_t memory;             /* limit on device memory in bytes; 0: none */
    double
        seconds; /* be done by so long after sid2_run_open, samples and checkpoints included; 0: no limit */
    bool resume_older;          /* where the newest checkpoint cannot be read, go on from one before it */
    sid2_run_callback callback; /* may be NULL */
    void *user;
    bool accept_data; /* go on although classes or pictures are not those that the run was begun with */
    bool
        fast_reduce; /* ranks sum gradients in the order of the library that carries them: other bits, by any number of ranks */
    sid2_group *
        group; /* NULL: alone. Else all its ranks make every call together, and have the same errors; rank 0 has the folder */
} sid2_run_options;

/* What a path names: a run to go on with, or a place for a new one. A start that left no checkpoint binds
 * nobody. Refuses a folder of anything else. `checkpoint`: the newest one, or "" where a training begins. */
SID2_API bool sid2_run_examine(const char *path, char checkpoint[4096], sid2_error *err);

/* Everything that can be refused without a device; the folder is not touched. Unless sid2_config_set gave
 * model.classes, it is the run's own, or of a new one the data's; without classes nothing is guided. What the
 * options point to must stay until the run is closed. */
SID2_API sid2_run *sid2_run_open(const sid2_run_options *options, sid2_error *err);
/* Trains until train.steps, the time given, or until the callback says stop: then true too, and a checkpoint
 * is there to go on from. The device stays the caller's. Once a handle; but where the device was lost (SID2_ERR_LOST),
 * it may be closed, opened again, and given to another call, which goes on from the last checkpoint. */
SID2_API bool sid2_run_train(sid2_run *run, sid2_device *device, sid2_error *err);
SID2_API const sid2_run_progress *sid2_run_where(const sid2_run *run); /* how far it came */
SID2_API void sid2_run_close(sid2_run *run);

typedef enum sid2_run_life { SID2_DEAD, SID2_ALIVE, SID2_LIFE_UNKNOWN } sid2_run_life;

/* One of several ranks, as it said last; texts that are not known are "". */
typedef struct sid2_rank_status {
    int rank;
    char host[64], device[160];
    char doing[64];     /* "step 120", "saving at step 120" */
    char waits_for[96]; /* "rank 2 in spreading" */
    double seconds;     /* for so long already */
    double waits;    /* share of the last minute, 0 to 1, in which it waited for others; not known of GPUs */
    uint64_t memory; /* of the host: bytes that were resident at once, at most */
    double age;      /* seconds since it was heard of */
    bool silent;     /* for too long: it is stopped or gone, or its host is */
} sid2_rank_status;

/* A run as it stands, also while another process trains it. Numbers that are not known are NaN. */
typedef struct sid2_run_status {
    sid2_run_life alive; /* whether a trainer holds it; unknown where a file system has no locks */
    char state
        [24]; /* preparing, training, sampling, measuring or paused; once dead complete, stopped, failed or
                                                       * killed (without a word) */
    char message[480];                                /* of one that failed: why */
    uint64_t step, steps;                             /* completed, train.steps */
    double loss, images_per_s, seconds, seconds_left; /* as of sid2_run_progress */
    double heldout, best;                             /* held-out loss: the last one, the lowest one, */
    uint64_t best_step;    /* and where that was; RUN/best leads to its checkpoint */
    double age;            /* seconds since the trainer said so */
    char checkpoint[4096]; /* the newest one, or "" */
    double checkpoint_age; /* seconds */
    int ranks; /* of the processes that train it, or trained it until they were killed; 0: one alone */
    sid2_rank_status *rank;
} sid2_run_status;

/* Disturbs nobody. IO: no run is there. */
SID2_API sid2_run_status *sid2_run_look(const char *path, sid2_error *err);
/* Has the process that trains a run save, let go of its device's memory and wait; or go on, to the same bits. It does
 * once the step at hand is done: sid2_run_look tells. A stop ends it as ever. USAGE: nobody trains there, or it was not
 * paused. */
SID2_API bool sid2_run_pause(const char *path, bool pause, sid2_error *err);
SID2_API void sid2_run_status_destroy(sid2_run_status *status); /* NULL is fine */

/* Writes runs (at most 16) beside each other, or one, as one HTML page that needs nothing else, not even the runs. IO: no
 * run; FORMAT: one that has not done its first step. */
SID2_API bool sid2_run_compare(const char *const *paths, int count, const char *page, sid2_error *err);
SID2_API bool sid2_run_report(const char *path, const char *page, sid2_error *err);

#ifdef __cplusplus
}
#endif

#endif
