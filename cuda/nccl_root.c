/* Where ranks meet: all of them must come to the same answer, and those of another job to another. */
#include "nccl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Ports below those that Linux hands out by itself. */
enum { FIRST_PORT = 20000, PORTS = 10000 };

/* What launchers give all ranks of a job, and no others. */
static const char *const names[] = {
    "SLURM_JOB_ID",   "SLURM_STEP_ID", "TORCHELASTIC_RUN_ID",     "MASTER_PORT",
    "PMIX_NAMESPACE", "PMI_JOBID",     "OMPI_MCA_ess_base_jobid", "TORCHELASTIC_RESTART_COUNT"};

static int port_of(bool one_host)
{
    uint32_t hash = 2166136261u; /* FNV-1a */
    bool named = false;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        for (const char *c = getenv(names[i]); c && *c; c++, named = true)
            hash = (hash ^ (uint8_t)*c) * 16777619u;
    if (!named && one_host) hash = (uint32_t)getppid(); /* whoever started them all */
    return FIRST_PORT + (int)(hash % PORTS);
}

/* The first of "node[01-04,7],other3": "node01". */
static bool first_host(const char *list, char host[256])
{
    size_t plain = strcspn(list, "[,"), digits = 0;
    const char *inside = list[plain] == '[' ? list + plain + 1 : "";
    digits = strcspn(inside, "-,]");
    const char *after = strchr(inside, ']');
    size_t rest = after ? strcspn(after + 1, "[,") : 0;
    return plain + digits + rest > 0 && snprintf(host, 256, "%.*s%.*s%.*s", (int)plain, list, (int)digits,
                                                 inside, (int)rest, after ? after + 1 : "") < 256;
}

bool sid2_nccl_root(const sid2_place *place, char root[300], sid2_error *err)
{
    const char *given = getenv("NCCL_COMM_ID"), *master = getenv("MASTER_ADDR");
    const char *nodes = getenv("SLURM_STEP_NODELIST");
    char host[256] = "";
    bool one_host = place->local_ranks == place->ranks;
    if (given && *given) {
        if (snprintf(root, 300, "%s", given) < 300) return true;
        return sid2_fail(err, SID2_ERR_USAGE, "NCCL_COMM_ID is longer than an address and a port");
    }
    bool known = master && *master ? snprintf(host, sizeof host, "%s", master) < (int)sizeof host
                 : one_host        ? snprintf(host, sizeof host, "127.0.0.1") > 0
                                   : nodes && first_host(nodes, host);
    if (!known)
        return sid2_fail(err, SID2_ERR_USAGE,
                         "%d ranks, started by %s: set MASTER_ADDR to the name or address of rank 0's host",
                         place->ranks, place->launcher);
    bool six = strchr(host, ':') && host[0] != '[';
    snprintf(root, 300, six ? "[%s]:%d" : "%s:%d", host, port_of(one_host));
    return true;
}
