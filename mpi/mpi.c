/* A module of its own, opened when a training has several ranks, for each MPI has another binary interface. */
#include "mpi_transport.h"

#include <mpi.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MOST = 1 << 30 }; /* bytes of one message: MPI counts in int */

typedef struct mpi {
    MPI_Comm world; /* our own: no message of another library's is taken for one of ours */
    MPI_Request *request;
    MPI_Status *status;
    int *peer; /* of each request */
    int room;
} mpi;

static bool check(int result, const char *what, sid2_error *err)
{
    if (result == MPI_SUCCESS) return true;
    char text[MPI_MAX_ERROR_STRING] = "";
    int length;
    MPI_Error_string(result, text, &length);
    return sid2_fail(err, SID2_ERR_LOST, "MPI: %s: %s", what, text);
}

static const char *mpi_version(void)
{
    static char text[MPI_MAX_LIBRARY_VERSION_STRING];
    int length;
    MPI_Get_library_version(text, &length);
    text[strcspn(text, "\n")] = 0;
    for (char *c = text; *c; c++)
        if (*c == '\t') *c = ' ';
    return text;
}

static bool agrees(MPI_Comm world, const sid2_place *place, sid2_error *err)
{
    int rank, ranks;
    if (!check(MPI_Comm_rank(world, &rank), "rank", err) || !check(MPI_Comm_size(world, &ranks), "size", err))
        return false;
    if (rank == place->rank && ranks == place->ranks) return true;
    return sid2_fail(err, SID2_ERR_USAGE,
                     "%s says that this is rank %d of %d, %s says %d of %d: were they started by another "
                     "MPI's mpirun than the one that sid2 was built with?",
                     place->launcher, place->rank, place->ranks, mpi_version(), rank, ranks);
}

static void mpi_leave(void *self, bool in_order)
{
    mpi *m = self;
    if (!m) return;
    if (in_order) {
        MPI_Comm_free(&m->world);
        MPI_Finalize();
    }
    free(m->request);
    free(m->status);
    free(m->peer);
    free(m);
}

static void *mpi_join(const sid2_place *place, sid2_error *err)
{
    mpi *m = calloc(1, sizeof *m);
    if (!m) return sid2_fail(err, SID2_ERR_MEMORY, "MPI: out of memory"), NULL;
    int level;
    bool ok = check(MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &level), "start", err) &&
              check(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN), "start", err) &&
              agrees(MPI_COMM_WORLD, place, err) &&
              check(MPI_Comm_dup(MPI_COMM_WORLD, &m->world), "start", err) &&
              check(MPI_Comm_set_errhandler(m->world, MPI_ERRORS_RETURN), "start", err);
    if (ok) return m;
    mpi_leave(m, false);
    return NULL;
}

static int pieces(size_t bytes) { return (int)((bytes + MOST - 1) / MOST); }

static bool reserve(mpi *m, const sid2_transfer *transfers, int count, sid2_error *err)
{
    int wanted = 0;
    for (int i = 0; i < count; i++)
        wanted += pieces(transfers[i].send_bytes) + pieces(transfers[i].receive_bytes);
    if (wanted <= m->room) return true;
    MPI_Request *request = realloc(m->request, (size_t)wanted * sizeof *request);
    if (request) m->request = request;
    MPI_Status *status = realloc(m->status, (size_t)wanted * sizeof *status);
    if (status) m->status = status;
    int *peer = realloc(m->peer, (size_t)wanted * sizeof *peer);
    if (peer) m->peer = peer;
    if (!request || !status || !peer) return sid2_fail(err, SID2_ERR_MEMORY, "MPI: out of memory");
    m->room = wanted;
    return true;
}

static int piece_at(size_t bytes, size_t at) { return (int)(bytes - at < MOST ? bytes - at : MOST); }

/* Starts all; *started of them. Receives first, so that nothing has to be kept for them. */
static bool start(mpi *m, const sid2_transfer *transfers, int count, int *started, sid2_error *err)
{
    bool ok = true;
    for (int i = 0; ok && i < count; i++)
        for (size_t at = 0; ok && at < transfers[i].receive_bytes; at += MOST) {
            m->peer[*started] = transfers[i].peer;
            ok = check(MPI_Irecv((char *)transfers[i].receive + at, piece_at(transfers[i].receive_bytes, at),
                                 MPI_BYTE, transfers[i].peer, 0, m->world, &m->request[(*started)++]),
                       "receive", err);
        }
    for (int i = 0; ok && i < count; i++)
        for (size_t at = 0; ok && at < transfers[i].send_bytes; at += MOST) {
            m->peer[*started] = transfers[i].peer;
            ok = check(MPI_Isend((const char *)transfers[i].send + at, piece_at(transfers[i].send_bytes, at),
                                 MPI_BYTE, transfers[i].peer, 0, m->world, &m->request[(*started)++]),
                       "send", err);
        }
    return ok;
}

static bool late(const mpi *m, int count, double seconds, sid2_error *err)
{
    char ranks[120] = "";
    for (int i = 0, last = -1; i < count; i++) {
        size_t used = strlen(ranks);
        if (m->request[i] == MPI_REQUEST_NULL || m->peer[i] == last || used > sizeof ranks - 16) continue;
        last = m->peer[i];
        snprintf(ranks + used, sizeof ranks - used, "%s%d", used ? ", " : "", last);
    }
    return sid2_fail(err, SID2_ERR_LOST, "rank %s has not answered for %.0f s", ranks, seconds);
}

/* MPI's own waiting spins, which takes the core from a rank that computes where there are more of them than cores. So
 * it is asked, and after a while ever less often. */
static bool wait_for(mpi *m, int count, double seconds, sid2_error *err)
{
    double began = sid2_clock();
    for (int64_t turn = 0, pause = 1000;; turn++) {
        int done = 0;
        if (!check(MPI_Testall(count, m->request, &done, m->status), "exchange", err)) return false;
        if (done) return true;
        if (turn < 1000) continue;
        double waited = sid2_clock() - began;
        if (waited > seconds) return late(m, count, seconds, err);
        nanosleep(&(struct timespec){.tv_nsec = pause}, NULL);
        if (pause < 200000) pause += pause / 8;
    }
}

static bool mpi_exchange(void *self, const sid2_transfer *transfers, int count, double seconds,
                         sid2_error *err)
{
    mpi *m = self;
    int started = 0;
    return reserve(m, transfers, count, err) && start(m, transfers, count, &started, err) &&
           wait_for(m, started, seconds, err);
}

static bool mpi_sum(void *self, const float *values, float *own, const int *counts, sid2_error *err)
{
    mpi *m = self;
    return check(MPI_Reduce_scatter(values, own, counts, MPI_FLOAT, MPI_SUM, m->world), "sum", err);
}

const sid2_transport sid2_mpi = {
    .name = "MPI",
    .version = mpi_version,
    .join = mpi_join,
    .exchange = mpi_exchange,
    .sum = mpi_sum,
    .leave = mpi_leave,
};
