/* Moving bytes between the host and the device.
 *
 * An upload goes through a ring that exists twice, in pinned host memory and on the device, at the same
 * offsets:
 *
 *     caller ─memcpy─► pinned ring ─copy stream─► device ring ─compute stream─► where it belongs
 *
 * The slow way, over the bus, is on a stream of its own and touches nothing that a program uses; so the next
 * step's input travels while this step computes. The last leg is on the compute stream, in order with the
 * programs around it, and takes microseconds. A place in the ring is used again when its bytes have left the
 * pinned part (the host waits for that) and the device part (the copy stream waits for that).
 *
 * A download copies into pinned memory behind everything computed before, waits, and hands the bytes on. One
 * that may come later leaves out the waiting. */
#include "runtime.h"

#include <stdlib.h>
#include <string.h>

enum {
    RING_BYTES = 32 << 20,
    PART_BYTES = 8 << 20, /* larger uploads go in parts, so that memcpy and bus overlap */
    RING_PARTS = 64,
    DOWN_BYTES = 4 << 20, /* each of two halves, one being filled while the other is handed on */
    LATE_BYTES = 1 << 20,
    LATE_PARTS = 256,
    LINE = 256,
};

typedef struct part {
    size_t begin, end;
    cudaEvent_t copied, consumed;
} part;

typedef struct late_part {
    void *to;
    size_t at, bytes;
} late_part;

struct sid2_cuda_transfers {
    cudaStream_t compute, copy;
    char *pinned, *staged; /* the ring, on either side */
    size_t head;
    part parts[RING_PARTS]; /* in use: `count` from `first` on, oldest first */
    int first, count;
    char *down; /* two halves */
    cudaEvent_t arrived[2];
    char *late;
    size_t late_used;
    late_part late_parts[LATE_PARTS];
    int late_count;
};

static size_t aligned(size_t bytes) { return (bytes + LINE - 1) / LINE * LINE; }
static size_t least(size_t a, size_t b) { return a < b ? a : b; }

static bool make_event(cudaEvent_t *event, sid2_error *err)
{
    return sid2_cuda_check(cudaEventCreateWithFlags(event, cudaEventDisableTiming), "an event", err);
}

static bool pin(char **memory, size_t bytes, sid2_error *err)
{
    return sid2_cuda_check(cudaHostAlloc((void **)memory, bytes, cudaHostAllocDefault),
                           "pinned memory for transfers", err);
}

sid2_cuda_transfers *sid2_cuda_transfers_create(cudaStream_t compute, sid2_error *err)
{
    sid2_cuda_transfers *t = calloc(1, sizeof *t);
    if (!t) return sid2_fail(err, SID2_ERR_MEMORY, "no memory for transfers"), NULL;
    t->compute = compute;
    bool ok = sid2_cuda_check(cudaStreamCreateWithFlags(&t->copy, cudaStreamNonBlocking), "a stream", err) &&
              pin(&t->pinned, RING_BYTES, err) && pin(&t->down, 2 * DOWN_BYTES, err) &&
              pin(&t->late, LATE_BYTES, err) && (t->staged = sid2_cuda_malloc(RING_BYTES, "staging", err)) &&
              make_event(&t->arrived[0], err) && make_event(&t->arrived[1], err);
    for (int i = 0; ok && i < RING_PARTS; i++)
        ok = make_event(&t->parts[i].copied, err) && make_event(&t->parts[i].consumed, err);
    if (ok) return t;
    sid2_cuda_transfers_destroy(t);
    return NULL;
}

void sid2_cuda_transfers_destroy(sid2_cuda_transfers *t)
{
    if (!t) return;
    if (t->copy) cudaStreamSynchronize(t->copy);
    for (int i = 0; i < RING_PARTS; i++) {
        if (t->parts[i].copied) cudaEventDestroy(t->parts[i].copied);
        if (t->parts[i].consumed) cudaEventDestroy(t->parts[i].consumed);
    }
    for (int i = 0; i < 2; i++)
        if (t->arrived[i]) cudaEventDestroy(t->arrived[i]);
    cudaFreeHost(t->pinned);
    cudaFreeHost(t->down);
    cudaFreeHost(t->late);
    sid2_cuda_mfree(t->staged);
    if (t->copy) cudaStreamDestroy(t->copy);
    free(t);
}

/* ---- Up ---- */

static bool in_use(const sid2_cuda_transfers *t, size_t begin, size_t end)
{
    for (int i = 0; i < t->count; i++) {
        const part *p = &t->parts[(t->first + i) % RING_PARTS];
        if (p->begin < end && begin < p->end) return true;
    }
    return false;
}

/* A free part of the ring. */
static part *reserve(sid2_cuda_transfers *t, size_t bytes, sid2_error *err)
{
    if (t->head + bytes > RING_BYTES) t->head = 0;
    size_t end = t->head + aligned(bytes);
    while (t->count == RING_PARTS || in_use(t, t->head, end)) {
        const part *oldest = &t->parts[t->first];
        if (!sid2_cuda_check(cudaEventSynchronize(oldest->copied), "an upload", err) ||
            !sid2_cuda_check(cudaStreamWaitEvent(t->copy, oldest->consumed, 0), "an upload", err))
            return NULL;
        t->first = (t->first + 1) % RING_PARTS;
        t->count--;
    }
    part *p = &t->parts[(t->first + t->count++) % RING_PARTS];
    p->begin = t->head;
    p->end = t->head = end;
    return p;
}

static bool upload_part(sid2_cuda_transfers *t, void *to, const void *from, size_t bytes, sid2_error *err)
{
    static const char *const what = "an upload";
    const part *p = reserve(t, bytes, err);
    if (!p) return false;
    char *pinned = t->pinned + p->begin, *staged = t->staged + p->begin;
    memcpy(pinned, from, bytes);
    return sid2_cuda_check(cudaMemcpyAsync(staged, pinned, bytes, cudaMemcpyHostToDevice, t->copy), what,
                           err) &&
           sid2_cuda_check(cudaEventRecord(p->copied, t->copy), what, err) &&
           sid2_cuda_check(cudaStreamWaitEvent(t->compute, p->copied, 0), what, err) &&
           sid2_cuda_check(cudaMemcpyAsync(to, staged, bytes, cudaMemcpyDeviceToDevice, t->compute), what,
                           err) &&
           sid2_cuda_check(cudaEventRecord(p->consumed, t->compute), what, err);
}

bool sid2_cuda_upload(sid2_cuda_transfers *t, void *to, const void *from, size_t bytes, sid2_error *err)
{
    for (size_t at = 0; at < bytes; at += PART_BYTES)
        if (!upload_part(t, (char *)to + at, (const char *)from + at, least(bytes - at, PART_BYTES), err))
            return false;
    return true;
}

/* ---- Down ---- */

/* Hands on what was to come later. Everything on the compute stream has been waited for. */
static void deliver(sid2_cuda_transfers *t)
{
    for (int i = 0; i < t->late_count; i++)
        memcpy(t->late_parts[i].to, t->late + t->late_parts[i].at, t->late_parts[i].bytes);
    t->late_count = 0;
    t->late_used = 0;
}

void sid2_cuda_settle(sid2_cuda_transfers *t)
{
    bool ok = cudaStreamSynchronize(t->compute) == cudaSuccess;
    if (!ok) t->late_count = 0; /* lost with the device */
    deliver(t);
}

static bool fetch(sid2_cuda_transfers *t, int half, const char *from, size_t bytes, sid2_error *err)
{
    return sid2_cuda_check(cudaMemcpyAsync(t->down + (size_t)half * DOWN_BYTES, from, bytes,
                                           cudaMemcpyDeviceToHost, t->compute),
                           "a download", err) &&
           sid2_cuda_check(cudaEventRecord(t->arrived[half], t->compute), "a download", err);
}

bool sid2_cuda_download(sid2_cuda_transfers *t, const void *from, void *to, size_t bytes, sid2_error *err)
{
    size_t at = 0;
    int half = 0;
    if (!fetch(t, 0, from, least(bytes, DOWN_BYTES), err)) return false;
    do {
        size_t next = at + DOWN_BYTES;
        if (next < bytes && !fetch(t, !half, (const char *)from + next, least(bytes - next, DOWN_BYTES), err))
            return false;
        if (!sid2_cuda_check(cudaEventSynchronize(t->arrived[half]), "the GPU's work", err)) return false;
        memcpy((char *)to + at, t->down + (size_t)half * DOWN_BYTES, least(bytes - at, DOWN_BYTES));
        half = !half;
    } while ((at += DOWN_BYTES) < bytes);
    deliver(t);
    return true;
}

bool sid2_cuda_download_later(sid2_cuda_transfers *t, const void *from, void *to, size_t bytes,
                              sid2_error *err)
{
    if (t->late_count == LATE_PARTS || t->late_used + bytes > LATE_BYTES)
        return sid2_cuda_download(t, from, to, bytes, err);
    if (!sid2_cuda_check(
            cudaMemcpyAsync(t->late + t->late_used, from, bytes, cudaMemcpyDeviceToHost, t->compute),
            "a download", err))
        return false;
    t->late_parts[t->late_count++] = (late_part){to, t->late_used, bytes};
    t->late_used += aligned(bytes);
    return true;
}
