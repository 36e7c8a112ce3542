/* Several ranks on one machine, started by the program itself: it starts itself anew, once for each, and waits. */
#ifndef SID2_CLI_LAUNCH_H
#define SID2_CLI_LAUNCH_H

#include "cli.h"

#include "place.h"

typedef struct launch_choice {
    int64_t ranks;    /* 0: not said */
    const char *gpus; /* "all" or a number; NULL: not said */
} launch_choice;

#define OPTIONS_LAUNCH(on)                                                                                   \
    {OPTION_INT,                                                                                             \
     "ranks",                                                                                                \
     "N",                                                                                                    \
     &(on).ranks,                                                                                            \
     "start so many processes on this machine's CPU, by the MPI that is installed (one)",                    \
     NULL},                                                                                                  \
    {                                                                                                        \
        OPTION_TEXT, "gpus", "N", &(on).gpus,                                                                \
            "start a process for each of so many GPUs of this machine, or all (one)", NULL                   \
    }

enum { LAUNCH_NOT = -1 };

/* Where the choice asks for several ranks and this process is not yet one of them, starts them with the same arguments,
 * hands on what stops a training, and waits: gives the exit code. Else fills *place and gives LAUNCH_NOT: the process
 * goes on, as a rank or alone. Before any thread is started. */
int launch_ranks(const launch_choice *choice, const char *device, int argc, char **argv, sid2_place *place);
int count_gpus(sid2_error *err); /* of CUDA, here; -1: it cannot be told */

#endif
