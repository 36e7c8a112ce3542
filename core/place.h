/* Which process this is, among those that were started together: by sid2 itself, torchrun, Slurm, or an MPI. */
#ifndef SID2_PLACE_H
#define SID2_PLACE_H

#include "base.h"

typedef struct sid2_place {
    int rank, ranks;             /* 0 of 1: alone */
    int local_rank, local_ranks; /* among those on this host; local_ranks 0: unknown */
    char host[64];
    const char *launcher; /* whose variables said so: "Slurm"; "" when alone */
} sid2_place;

/* From the environment: the first launcher that started more than one process. USAGE: a launcher's variables contradict
 * each other, or one is missing. */
bool sid2_place_find(sid2_place *place, sid2_error *err);

#endif
