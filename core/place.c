#include "place.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Variables of a launcher. The first says how many processes there are: where it is not set, or 1, this was not it. */
typedef struct launcher {
    const char *name, *ranks, *rank, *local_rank, *local_ranks;
} launcher;

/* MPI's come before Slurm's and after torchrun's, for each can be started within those that follow. Slurm's count is
 * the step's and not the job's: a batch script is no rank of its own. */
static const launcher launchers[] = {
    {"sid2", "SID2_RANKS", "SID2_RANK", "SID2_LOCAL_RANK", "SID2_LOCAL_RANKS"},
    {"torchrun", "WORLD_SIZE", "RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE"},
    {"Open MPI", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_LOCAL_RANK",
     "OMPI_COMM_WORLD_LOCAL_SIZE"},
    {"MPICH", "PMI_SIZE", "PMI_RANK", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"},
    {"Slurm", "SLURM_STEP_NUM_TASKS", "SLURM_PROCID", "SLURM_LOCALID", NULL},
};

enum { MOST_RANKS = 1 << 20 };

/* A variable's number from `least` to `most`; `otherwise` where it is not set. */
static bool number(const launcher *l, const char *name, int least, int most, int otherwise, int *value,
                   sid2_error *err)
{
    const char *text = name ? getenv(name) : NULL;
    *value = otherwise;
    if (!text) return true;
    char *end;
    errno = 0;
    long n = strtol(text, &end, 10);
    if (end != text && !*end && !errno && n >= least && n <= most) {
        *value = (int)n;
        return true;
    }
    return sid2_fail(err, SID2_ERR_USAGE, "%s=%s: not what %s sets there, a number from %d to %d", name, text,
                     l->name, least, most);
}

bool sid2_place_find(sid2_place *p, sid2_error *err)
{
    *p = (sid2_place){.ranks = 1, .local_ranks = 1, .launcher = ""};
    if (gethostname(p->host, sizeof p->host - 1)) strcpy(p->host, "?");
    for (size_t i = 0; i < sizeof launchers / sizeof *launchers; i++) {
        const launcher *l = &launchers[i];
        int ranks;
        if (!number(l, l->ranks, 1, MOST_RANKS, 1, &ranks, err)) return false;
        if (ranks == 1) continue;
        if (!getenv(l->rank))
            return sid2_fail(err, SID2_ERR_USAGE,
                             "%s=%d, but %s is not set: which of them is this? (unset both to train alone)",
                             l->ranks, ranks, l->rank);
        p->launcher = l->name;
        p->ranks = ranks;
        return number(l, l->rank, 0, ranks - 1, 0, &p->rank, err) &&
               number(l, l->local_ranks, 1, ranks, 0, &p->local_ranks, err) &&
               number(l, l->local_rank, 0, ranks - 1, 0, &p->local_rank, err);
    }
    return true;
}
