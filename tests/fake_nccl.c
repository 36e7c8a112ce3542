#include "fake_nccl.h"

#include "fake_cuda.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "../cuda/libraries.h"

fake_nccl nccl_here = {.version = 22809};

enum { MOST_RANKS = 16, RING = 1 << 18, MOST_CALLS = 8 };

/* Bytes from one rank to another, each message behind its length. */
typedef struct channel {
    atomic_size_t written, read; /* ever */
    char ring[RING];
} channel;

typedef struct wire {
    atomic_int joined, broken;
    char id[sizeof(ncclUniqueId)], why[200];
    channel to[MOST_RANKS][MOST_RANKS]; /* [from][to] */
} wire;

struct ncclComm {
    int rank, ranks;
    ncclResult_t error; /* asynchronous */
};

static wire *the_wire;
static char last_error[200];

void fake_nccl_begin(void)
{
    the_wire = mmap(NULL, sizeof *the_wire, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (the_wire == MAP_FAILED) abort();
}

void fake_nccl_end(void) { munmap(the_wire, sizeof *the_wire); }

static ncclResult_t refuse(const char *why)
{
    snprintf(last_error, sizeof last_error, "%s", why);
    return ncclInternalError;
}

/* Every rank hears of it. */
static void break_wire(const char *why)
{
    if (atomic_exchange(&the_wire->broken, 1)) return;
    snprintf(the_wire->why, sizeof the_wire->why, "%s", why);
}

/* ---- The wire ---- */

static size_t put(channel *c, const char *from, size_t bytes)
{
    size_t written = atomic_load(&c->written), room = RING - (written - atomic_load(&c->read));
    size_t count = bytes < room ? bytes : room;
    for (size_t i = 0; i < count; i++) c->ring[(written + i) % RING] = from[i];
    atomic_store(&c->written, written + count);
    return count;
}

static size_t take(channel *c, char *to, size_t bytes)
{
    size_t read = atomic_load(&c->read), there = atomic_load(&c->written) - read;
    size_t count = bytes < there ? bytes : there;
    for (size_t i = 0; i < count; i++) to[i] = c->ring[(read + i) % RING];
    atomic_store(&c->read, read + count);
    return count;
}

/* ---- Calls, and groups of them ---- */

typedef struct one_call {
    int from, to;
    bool sends;
    char *memory;
    size_t bytes, done;
    size_t length, length_done; /* the message's, and how much of that number has been across */
} one_call;

typedef struct group {
    one_call call[MOST_CALLS];
    int count;
    int fault;
    ncclComm_t comm;
    cudaStream_t stream;
} group;

static group open_group;
static int depth;

static void go_on(one_call *c)
{
    channel *way = &the_wire->to[c->from][c->to];
    char *number = (char *)&c->length;
    size_t (*move)(channel *, char *, size_t) = take;
    if (c->sends) move = (size_t(*)(channel *, char *, size_t))(void *)put;
    c->length_done += move(way, number + c->length_done, sizeof c->length - c->length_done);
    if (c->length_done < sizeof c->length) return;
    if (c->length == c->bytes) {
        c->done += move(way, c->memory + c->done, c->bytes - c->done);
        return;
    }
    char why[120];
    snprintf(why, sizeof why, "rank %d sent %zu bytes, rank %d expects %zu", c->from, c->length, c->to,
             c->bytes);
    break_wire(why);
}

/* Messages one way keep their order, also those of a group. */
static bool must_wait(const group *g, int call)
{
    for (int i = 0; i < call; i++)
        if (g->call[i].from == g->call[call].from && g->call[i].to == g->call[call].to &&
            g->call[i].done < g->call[i].bytes)
            return true;
    return false;
}

static bool try_group(void *argument)
{
    group *g = argument;
    bool done = !g->fault && !atomic_load(&the_wire->broken);
    for (int i = 0; !g->fault && i < g->count && !atomic_load(&the_wire->broken); i++) {
        if (g->call[i].done < g->call[i].bytes && !must_wait(g, i)) go_on(&g->call[i]);
        done &= g->call[i].done == g->call[i].bytes;
    }
    return done;
}

static ncclResult_t start_group(void)
{
    depth++;
    if (depth == 1) open_group = (group){.count = 0};
    return ncclSuccess;
}

static ncclResult_t end_group(void)
{
    group *g = &open_group;
    if (--depth || !g->count) return depth < 0 ? refuse("a group ends that none began") : ncclSuccess;
    if (++nccl_here.groups == nccl_here.at) {
        g->fault = nccl_here.fault;
        if (g->fault == FAKE_NCCL_ERROR) g->comm->error = ncclRemoteError;
        if (g->fault == FAKE_NCCL_GONE) raise(SIGKILL);
    }
    fake_try(g->stream, try_group, g, sizeof *g);
    return ncclSuccess;
}

static ncclResult_t add_call(one_call c, int peer, ncclDataType_t type, ncclComm_t comm, cudaStream_t stream)
{
    group *g = &open_group;
    if (!depth) return refuse("a call outside of a group");
    if (g->count == MOST_CALLS) return refuse("too many calls in a group");
    if (type != ncclUint8 || peer < 0 || peer >= comm->ranks || peer == comm->rank)
        return refuse("a wrong argument");
    if (!c.bytes || !fake_is_device(c.memory, c.bytes)) return refuse("memory that is not the device's");
    if (fake_is_captured(stream)) return refuse("the stream is being captured");
    if (g->count && (g->stream != stream || g->comm != comm)) return refuse("a group on several streams");
    g->stream = stream;
    g->comm = comm;
    g->call[g->count++] = c;
    return ncclSuccess;
}

static ncclResult_t send(const void *from, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                         cudaStream_t stream)
{
    union {
        const void *from;
        char *memory;
    } plain = {from};
    one_call c = {comm->rank, peer, true, plain.memory, .bytes = count, .length = count};
    return add_call(c, peer, type, comm, stream);
}

static ncclResult_t receive(void *to, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                            cudaStream_t stream)
{
    one_call c = {peer, comm->rank, false, to, .bytes = count};
    return add_call(c, peer, type, comm, stream);
}

/* ---- Joining ---- */

static ncclResult_t get_version(int *version) { return *version = nccl_here.version, ncclSuccess; }

static ncclResult_t get_id(ncclUniqueId *id)
{
    const char *root = getenv("NCCL_COMM_ID");
    *id = (ncclUniqueId){{0}};
    if (!root || !strchr(root, ':')) return refuse("NCCL_COMM_ID is no address and port");
    snprintf(id->internal, sizeof id->internal, "%s", root);
    return ncclSuccess;
}

static ncclResult_t init_rank(ncclComm_t *comm, int ranks, ncclUniqueId id, int rank)
{
    const struct timespec moment = {.tv_nsec = 1000000};
    if (rank == 0) memcpy(the_wire->id, id.internal, sizeof the_wire->id);
    atomic_fetch_add(&the_wire->joined, 1);
    for (int i = 0; atomic_load(&the_wire->joined) < ranks; i++) {
        if (i == 10000) return refuse("not all ranks came");
        nanosleep(&moment, NULL);
    }
    if (memcmp(the_wire->id, id.internal, sizeof the_wire->id) != 0)
        return refuse("ranks with several roots");
    *comm = malloc(sizeof **comm);
    **comm = (struct ncclComm){rank, ranks, ncclSuccess};
    return ncclSuccess;
}

static ncclResult_t destroy(ncclComm_t comm)
{
    free(comm);
    return ncclSuccess;
}

static ncclResult_t async_error(ncclComm_t comm, ncclResult_t *error)
{
    *error = atomic_load(&the_wire->broken) ? ncclInternalError : comm->error;
    return ncclSuccess;
}

static const char *error_string(ncclResult_t result)
{
    return result == ncclRemoteError ? "remote process exited or there was a network error" : "an error";
}

static const char *error_text(ncclComm_t comm)
{
    (void)comm;
    return atomic_load(&the_wire->broken) ? the_wire->why : last_error;
}

bool sid2_nccl_load(sid2_nccl_functions *table, char *why, size_t size)
{
    *table = (sid2_nccl_functions){.ncclGetVersion = get_version,
                                   .ncclGetUniqueId = get_id,
                                   .ncclCommInitRank = init_rank,
                                   .ncclCommDestroy = destroy,
                                   .ncclCommGetAsyncError = async_error,
                                   .ncclGetErrorString = error_string,
                                   .ncclGetLastError = error_text,
                                   .ncclGroupStart = start_group,
                                   .ncclGroupEnd = end_group,
                                   .ncclSend = send,
                                   .ncclRecv = receive};
    if (!nccl_here.version) snprintf(why, size, "libnccl.so.2 not found");
    return nccl_here.version;
}
