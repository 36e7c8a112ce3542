#include "nccl.h"

#include "cuda_backend.h"
#include "runtime.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { STAGE = 4 << 20 }; /* bytes of host memory that travel at a time, each way */
enum { OLDEST_NCCL = 21800 /* 2.18 */ };

typedef struct nccl {
    sid2_nccl_functions call;
    ncclComm_t comm;
    int index;                /* of the GPU that it was made with */
    sid2_cuda_device *device; /* whose buffers are attached; NULL: none yet */
    sid2_cuda_target target;  /* for own kernels on our stream */
    cudaStream_t stream;
    cudaEvent_t before, after; /* the device's work that ours follows; ours that the device's follows */
    cudaEvent_t mark[SID2_MARKS];
    char *pinned, *staged; /* host memory on its way: STAGE to be sent, STAGE received, on either side */
    struct room {
        void *memory;
        size_t bytes;
    } low, scratch; /* bf16, to round to before adding; of the own kernels */
} nccl;

static const char *version_text(const sid2_nccl_functions *call, int *version, char text[32])
{
    *version = 0;
    call->ncclGetVersion(version);
    snprintf(text, 32, "NCCL %d.%d.%d", *version / 10000, *version / 100 % 100, *version % 100);
    return text;
}

static bool load(sid2_nccl_functions *call, char *why, size_t size)
{
    int version;
    char text[32];
    if (!sid2_nccl_load(call, why, size)) return false;
    version_text(call, &version, text);
    if (version >= OLDEST_NCCL && version < 30000) return true;
    snprintf(why, size, "%s is here, 2.18 or a later 2.x is wanted", text);
    return false;
}

bool sid2_nccl_there(char *why, size_t size)
{
    sid2_nccl_functions call;
    return load(&call, why, size);
}

static const char *nccl_version(void)
{
    static char text[200];
    sid2_nccl_functions call;
    int version;
    return load(&call, text, sizeof text) ? version_text(&call, &version, text) : text;
}

static bool check(const nccl *n, ncclResult_t result, const char *what, sid2_error *err)
{
    if (result == ncclSuccess || result == ncclInProgress) return true;
    const char *detail = n->call.ncclGetLastError(n->comm); /* NULL: of the last one that was made */
    return sid2_fail(err, SID2_ERR_LOST, "NCCL: %s: %s%s%.200s", what, n->call.ncclGetErrorString(result),
                     detail && *detail ? ": " : "", detail ? detail : "");
}

/* ---- Joining ---- */

/* Otherwise nothing of CUDA's or NCCL's is waited for, nor freed: both may wait for what is lost. */
static void nccl_leave(void *self, bool in_order)
{
    nccl *n = self;
    if (!n) return;
    if (in_order) {
        if (n->stream) cudaStreamSynchronize(n->stream);
        if (n->comm) n->call.ncclCommDestroy(n->comm);
        if (n->before) cudaEventDestroy(n->before);
        if (n->after) cudaEventDestroy(n->after);
        for (int i = 0; i < SID2_MARKS; i++)
            if (n->mark[i]) cudaEventDestroy(n->mark[i]);
        if (n->stream) cudaStreamDestroy(n->stream);
        if (n->pinned) cudaFreeHost(n->pinned);
        sid2_cuda_mfree(n->staged);
        sid2_cuda_mfree(n->low.memory);
        sid2_cuda_mfree(n->scratch.memory);
    }
    free(n);
}

static bool prepare(nccl *n, sid2_error *err)
{
    bool ok = true;
    for (int i = 0; ok && i < SID2_MARKS; i++)
        ok = sid2_cuda_check(cudaEventCreateWithFlags(&n->mark[i], cudaEventDisableTiming), "an event", err);
    return ok && sid2_cuda_check(cudaGetDevice(&n->index), "the GPU", err) &&
           sid2_cuda_check(cudaStreamCreateWithFlags(&n->stream, cudaStreamNonBlocking), "a stream", err) &&
           sid2_cuda_check(cudaEventCreateWithFlags(&n->before, cudaEventDisableTiming), "an event", err) &&
           sid2_cuda_check(cudaEventCreateWithFlags(&n->after, cudaEventDisableTiming), "an event", err) &&
           sid2_cuda_check(cudaHostAlloc((void **)&n->pinned, 2 * STAGE, cudaHostAllocDefault), "host memory",
                           err) &&
           (n->staged = sid2_cuda_malloc(2 * STAGE, "joining the other ranks", err));
}

static void *nccl_join(const sid2_place *place, sid2_error *err)
{
    char why[200], root[300];
    ncclUniqueId id;
    nccl *n = calloc(1, sizeof *n);
    if (!n) return sid2_fail(err, SID2_ERR_MEMORY, "NCCL: out of memory"), NULL;
    bool ok = load(&n->call, why, sizeof why) || sid2_fail(err, SID2_ERR_UNSUPPORTED, "%s", why);
    ok = ok && sid2_nccl_root(place, root, err) &&
         (!setenv("NCCL_COMM_ID", root, 1) || sid2_fail(err, SID2_ERR_MEMORY, "NCCL: out of memory")) &&
         prepare(n, err) && check(n, n->call.ncclGetUniqueId(&id), root, err) &&
         check(n, n->call.ncclCommInitRank(&n->comm, place->ranks, id, place->rank), root, err);
    if (ok) return n;
    nccl_leave(n, true);
    return NULL;
}

/* ---- Host memory ---- */

static size_t part_of(size_t bytes, size_t at, size_t most)
{
    return bytes <= at ? 0 : bytes - at < most ? bytes - at : most;
}

/* What NCCL has found out beside our calls. */
static bool look(nccl *n, sid2_error *err)
{
    ncclResult_t lost = ncclSuccess;
    return check(n, n->call.ncclCommGetAsyncError(n->comm, &lost), "a look", err) &&
           check(n, lost, "a peer", err);
}

/* Waits, without holding a core for long. What NCCL finds out meanwhile ends it. */
static bool wait_for(nccl *n, const sid2_transfer *transfers, double seconds, sid2_error *err)
{
    double began = sid2_clock();
    cudaError_t status;
    for (int64_t turn = 0; (status = cudaEventQuery(n->after)) == cudaErrorNotReady; turn++) {
        if (turn < 100) continue;
        if (!look(n, err)) return false;
        if (sid2_clock() - began > seconds)
            return sid2_fail(err, SID2_ERR_LOST, "rank %d has not answered for %.0f s", transfers->peer,
                             seconds);
        nanosleep(&(struct timespec){.tv_nsec = 20000}, NULL);
    }
    return sid2_cuda_check(status, "an exchange", err);
}

/* The bytes from `at` on, as many as have room: all up, across, all down. */
static bool exchange_part(nccl *n, const sid2_transfer *t, int count, size_t at, size_t room, double seconds,
                          sid2_error *err)
{
    char *out = n->staged, *in = n->staged + STAGE;
    for (int i = 0; i < count; i++) {
        size_t bytes = part_of(t[i].send_bytes, at, room), to = (size_t)i * room;
        if (!bytes) continue;
        memcpy(n->pinned + to, (const char *)t[i].send + at, bytes);
        if (!sid2_cuda_check(
                cudaMemcpyAsync(out + to, n->pinned + to, bytes, cudaMemcpyHostToDevice, n->stream),
                "an exchange", err))
            return false;
    }
    bool ok = check(n, n->call.ncclGroupStart(), "an exchange", err);
    for (int i = 0; ok && i < count; i++) {
        size_t send = part_of(t[i].send_bytes, at, room), receive = part_of(t[i].receive_bytes, at, room);
        size_t to = (size_t)i * room;
        ok = (!send || check(n, n->call.ncclSend(out + to, send, ncclUint8, t[i].peer, n->comm, n->stream),
                             "a send", err)) &&
             (!receive ||
              check(n, n->call.ncclRecv(in + to, receive, ncclUint8, t[i].peer, n->comm, n->stream),
                    "a receive", err));
    }
    ok = ok && check(n, n->call.ncclGroupEnd(), "an exchange", err) &&
         sid2_cuda_check(
             cudaMemcpyAsync(n->pinned + STAGE, in, (size_t)count * room, cudaMemcpyDeviceToHost, n->stream),
             "an exchange", err) &&
         sid2_cuda_check(cudaEventRecord(n->after, n->stream), "an exchange", err) &&
         wait_for(n, t, seconds, err);
    for (int i = 0; ok && i < count; i++)
        memcpy((char *)t[i].receive + at, n->pinned + STAGE + (size_t)i * room,
               part_of(t[i].receive_bytes, at, room));
    return ok;
}

static bool nccl_exchange(void *self, const sid2_transfer *transfers, int count, double seconds,
                          sid2_error *err)
{
    nccl *n = self;
    size_t most = 0, room = count ? STAGE / (size_t)count / 16 * 16 : 0;
    if (!sid2_cuda_check(cudaSetDevice(n->index), "the GPU", err)) return false;
    for (int i = 0; i < count; i++) {
        if (transfers[i].send_bytes > most) most = transfers[i].send_bytes;
        if (transfers[i].receive_bytes > most) most = transfers[i].receive_bytes;
    }
    for (size_t at = 0; at < most; at += room)
        if (!exchange_part(n, transfers, count, at, room, seconds, err)) return false;
    return true;
}

/* ---- A device's buffers ---- */

static bool nccl_attach(void *self, sid2_device *device, sid2_error *err)
{
    nccl *n = self;
    sid2_cuda_device *d = sid2_device_self(device, &sid2_backend_cuda);
    if (!d || d->index != n->index)
        return sid2_fail(err, SID2_ERR_USAGE, "%s cannot join ranks that NCCL has joined by cuda:%d",
                         sid2_device_describe(device)->id, n->index);
    n->device = d;
    n->target = d->target;
    n->target.stream = n->stream;
    return true;
}

/* `then` waits for what `first` was given so far. */
static bool order(nccl *n, cudaEvent_t event, cudaStream_t first, cudaStream_t then, sid2_error *err)
{
    return sid2_cuda_check(cudaSetDevice(n->index), "the GPU", err) &&
           sid2_cuda_check(cudaEventRecord(event, first), "ranks", err) &&
           sid2_cuda_check(cudaStreamWaitEvent(then, event, 0), "ranks", err);
}

static bool nccl_begin(void *self, sid2_error *err)
{
    nccl *n = self;
    return order(n, n->before, n->device->compute, n->stream, err);
}

static bool nccl_finish(void *self, sid2_error *err)
{
    nccl *n = self;
    return look(n, err) && order(n, n->after, n->stream, n->device->compute, err);
}

static bool nccl_mark(void *self, int mark, sid2_error *err)
{
    nccl *n = self;
    return sid2_cuda_check(cudaSetDevice(n->index), "the GPU", err) &&
           sid2_cuda_check(cudaEventRecord(n->mark[mark], n->stream), "ranks", err);
}

static bool nccl_wait(void *self, int mark, sid2_error *err)
{
    nccl *n = self;
    return look(n, err) && sid2_cuda_check(cudaSetDevice(n->index), "the GPU", err) &&
           sid2_cuda_check(cudaStreamWaitEvent(n->device->compute, n->mark[mark], 0), "ranks", err);
}

static bool exchange_buffers(void *self, const sid2_buffer_transfer *t, int count, sid2_error *err)
{
    nccl *n = self;
    bool ok = check(n, n->call.ncclGroupStart(), "an exchange", err);
    for (int i = 0; ok && i < count; i++) {
        const char *out = t[i].send_bytes ? (const char *)t[i].send->handle + t[i].send_at : NULL;
        char *in = t[i].receive_bytes ? (char *)t[i].receive->handle + t[i].receive_at : NULL;
        ok = (!out ||
              check(n, n->call.ncclSend(out, t[i].send_bytes, ncclUint8, t[i].peer, n->comm, n->stream),
                    "a send", err)) &&
             (!in ||
              check(n, n->call.ncclRecv(in, t[i].receive_bytes, ncclUint8, t[i].peer, n->comm, n->stream),
                    "a receive", err));
    }
    return ok && check(n, n->call.ncclGroupEnd(), "an exchange", err);
}

static bool reserve(nccl *n, struct room *room, size_t bytes, sid2_error *err)
{
    if (bytes <= room->bytes) return true;
    if (!sid2_cuda_check(cudaStreamSynchronize(n->stream), "ranks", err)) return false;
    sid2_cuda_mfree(room->memory);
    room->bytes = 0;
    if (!(room->memory = sid2_cuda_malloc(bytes, "adding what ranks sent", err))) return false;
    room->bytes = bytes;
    return true;
}

/* One of the own kernels, on our stream. They read and write 16 bytes at once. */
static bool run_own(nccl *n, sid2_op op, const sid2_attr *attr, const sid2_operand *in, int inputs,
                    sid2_operand out, sid2_error *err)
{
    sid2_error cause = {0};
    const sid2_kernel *kernel = &sid2_cuda_own[op];
    sid2_call call = {.op = op, .attr = attr, .out = {out}, .target = &n->target, .error = &cause};
    for (int i = 0; i < inputs; i++) call.in[i] = in[i];
    bool ok = (uintptr_t)in[0].data % 16 == 0 ||
              sid2_fail(&cause, SID2_ERR_INTERNAL, "a range that is not on 16 bytes");
    ok = ok && kernel->prepare(&call, &cause);
    ok = ok && reserve(n, &n->scratch, call.scratch_bytes, &cause);
    call.scratch = n->scratch.memory;
    if (ok) kernel->run(&call);
    if (ok && kernel->release) kernel->release(&call);
    return !cause.code || sid2_fail(err, cause.code, "adding what ranks sent: %s", cause.message);
}

static sid2_operand span_of(void *memory, sid2_dtype dtype, int64_t first, int64_t count)
{
    return (sid2_operand){.data = (char *)memory + (size_t)first * sid2_dtype_size(dtype),
                          .dtype = dtype,
                          .shape = sid2_shape_of(count)};
}

static bool cast(nccl *n, sid2_operand from, sid2_operand to, sid2_error *err)
{
    static const sid2_attr low = {.dtype = SID2_BF16};
    return run_own(n, SID2_OP_cast, &low, &from, 1, to, err);
}

static bool nccl_add(void *self, sid2_buffer *into, int64_t into_first, const sid2_buffer *from,
                     int64_t count, bool low, sid2_error *err)
{
    static const sid2_attr plainly = {.scale = 1};
    nccl *n = self;
    sid2_operand sum = span_of(into->handle, SID2_F32, into_first, count);
    sid2_operand in[2] = {sum, span_of(from->handle, low ? SID2_BF16 : SID2_F32, 0, count)};
    if (low) {
        if (!reserve(n, &n->low, (size_t)count * sizeof(uint16_t), err)) return false;
        in[0] = span_of(n->low.memory, SID2_BF16, 0, count);
        if (!cast(n, sum, in[0], err)) return false;
    }
    return run_own(n, SID2_OP_add, &plainly, in, 2, sum, err);
}

static bool nccl_narrow(void *self, sid2_buffer *into, const sid2_buffer *from, int64_t from_first,
                        int64_t count, sid2_error *err)
{
    return cast(self, span_of(from->handle, SID2_F32, from_first, count),
                span_of(into->handle, SID2_BF16, 0, count), err);
}

static const sid2_transport_queue queue = {
    .attach = nccl_attach,
    .begin = nccl_begin,
    .exchange = exchange_buffers,
    .add = nccl_add,
    .narrow = nccl_narrow,
    .finish = nccl_finish,
    .mark = nccl_mark,
    .wait = nccl_wait,
};

const sid2_transport sid2_nccl_transport = {
    .name = "NCCL",
    .version = nccl_version,
    .join = nccl_join,
    .exchange = nccl_exchange,
    .leave = nccl_leave,
    .queue = &queue,
};
