/* A training on the command line: what sid2 train and sid2 distill share. */
#ifndef SID2_CLI_TRAIN_H
#define SID2_CLI_TRAIN_H

#include "launch.h"

typedef struct training training;
struct training {
    const char *command;
    /* The configuration of a new run or of one that goes on (training_resumes), then --set. */
    sid2_config *(*choose)(const training *t, sid2_error *err);
    const char *preset; /* sid2 train's */
    sid2_run_options options;
    double minutes;
    device_choice on;
    launch_choice started;
    assignments set;
};

#define OPTIONS_TRAINING(t)                                                                                  \
    {OPTION_TEXT,                                                                                            \
     "out",                                                                                                  \
     "RUN",                                                                                                  \
     &(t).options.path,                                                                                      \
     "the run's folder; required. Where it holds a run, that is resumed",                                    \
     NULL},                                                                                                  \
        {OPTION_FLAG,                                                                                        \
         "resume-older",                                                                                     \
         NULL,                                                                                               \
         &(t).options.resume_older,                                                                          \
         "where the newest checkpoint cannot be read, go on from the one before it",                         \
         NULL},                                                                                              \
        {OPTION_FLAG,                                                                                        \
         "fast-reduce",                                                                                      \
         NULL,                                                                                               \
         &(t).options.fast_reduce,                                                                           \
         "of several processes: sum gradients in the library's order, by any number of them, to bits that "  \
         "depend on it",                                                                                     \
         NULL},                                                                                              \
        {OPTION_FLAG,                                                                                        \
         "accept-data",                                                                                      \
         NULL,                                                                                               \
         &(t).options.accept_data,                                                                           \
         "go on although classes or pictures are not those that the run was begun with",                     \
         NULL},                                                                                              \
        {OPTION_REAL,                                                                                        \
         "minutes",                                                                                          \
         "M",                                                                                                \
         &(t).minutes,                                                                                       \
         "be done and saved after this long, everything counted; the same command goes on (no limit)",       \
         NULL},                                                                                              \
        OPTIONS_DEVICE_CHOICE((t).on), OPTION_FP8(&(t).on.fp8), OPTIONS_LAUNCH((t).started),                 \
        OPTION_MEMORY(&(t).options.memory), OPTION_SET_KEY(&(t).set)

#define TRAINING_CODES                                                                                       \
    "Exit code 0: complete, or --minutes reached; "                                                          \
    "75: stopped by a signal (INT, TERM, HUP, QUIT, USR1, USR2, XCPU) and saved, or one of several ranks "   \
    "was killed or waited for in vain: come again; 1: something failed; 2: the request was wrong."

/* Whether --out holds a run that can be gone on from. */
bool training_resumes(const training *t);
/* After launch_ranks, as a rank or alone: trains, and gives the exit code. */
int training_run(training *t, const sid2_place *place);

#endif
