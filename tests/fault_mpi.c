/* A module that carries bytes as that in SID2_FAULT_MPI does, but at one exchange of one rank, SID2_FAULT="rank exchange what":
 * killed; hangs; is slow (1.5 s); fails; counted: nothing, but that rank says at its end how many there were. Makes the file
 * SID2_FAULT_SIGN, where that is set, just before. */
#include "../mpi/mpi_transport.h"

#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const sid2_transport *inner;
static int rank, at, now;
static char what[16];

static const char *version(void) { return inner->version(); }

static void *join_ranks(const sid2_place *place, sid2_error *err)
{
    const char *module = getenv("SID2_FAULT_MPI"), *fault = getenv("SID2_FAULT");
    void *opened = module ? dlopen(module, RTLD_NOW | RTLD_GLOBAL) : NULL;
    inner = opened ? dlsym(opened, "sid2_mpi") : NULL;
    if (!inner) return sid2_fail(err, SID2_ERR_UNSUPPORTED, "SID2_FAULT_MPI is no module"), NULL;
    if (!fault || sscanf(fault, "%d %d %15s", &rank, &at, what) != 3 || rank != place->rank) at = -1;
    return inner->join(place, err);
}

static bool exchange(void *self, const sid2_transfer *transfers, int count, double seconds, sid2_error *err)
{
    if (++now == at) {
        const char *sign = getenv("SID2_FAULT_SIGN");
        FILE *file = sign ? fopen(sign, "w") : NULL;
        if (file) fclose(file);
        if (!strcmp(what, "killed")) raise(SIGKILL);
        while (!strcmp(what, "hangs")) pause();
        if (!strcmp(what, "slow")) usleep(1500000);
        if (!strcmp(what, "fails")) return sid2_fail(err, SID2_ERR_LOST, "the network is down");
    }
    return inner->exchange(self, transfers, count, seconds, err);
}

static void leave(void *self, bool in_order)
{
    if (!strcmp(what, "counted") && at >= 0) fprintf(stderr, "exchanges: %d\n", now);
    inner->leave(self, in_order);
}

const sid2_transport sid2_mpi = {
    .name = "MPI with faults", .version = version, .join = join_ranks, .exchange = exchange, .leave = leave};
