/* What carries bytes between the processes of a group. An engine (MPI, NCCL) fills a sid2_transport; all that is
 * done with them, sums in a fixed order above all, is core/group.c's. */
#ifndef SID2_TRANSPORT_H
#define SID2_TRANSPORT_H

#include "device.h"
#include "place.h"

/* Bytes to a peer and bytes from it; either may be none. What one side sends, the other expects. */
typedef struct sid2_transfer {
    int peer;
    const void *send;
    size_t send_bytes;
    void *receive;
    size_t receive_bytes;
} sid2_transfer;

/* The same between buffers of a device, from and to offsets in bytes. */
typedef struct sid2_buffer_transfer {
    int peer;
    const sid2_buffer *send;
    size_t send_at, send_bytes;
    sid2_buffer *receive;
    size_t receive_at, receive_bytes;
} sid2_buffer_transfer;

enum { SID2_MARKS = 4 };

/* Calls for a device's buffers, which queue work beside the device's own and return before it is done; what is queued
 * happens in order. A transport without them (MPI) is given host memory instead. */
typedef struct sid2_transport_queue {
    /* Whether it can take that device's buffers, from now on; before all others. */
    bool (*attach)(void *self, sid2_device *device, sid2_error *err);
    /* What is queued from now on waits for what the device was given until now. */
    bool (*begin)(void *self, sid2_error *err);
    bool (*exchange)(void *self, const sid2_buffer_transfer *transfers, int count, sid2_error *err);
    /* f32, `count` elements, ranges that begin on 16 bytes here and below: into += from. With `low`, `from` holds bf16,
     * and `into` is rounded to that first. */
    bool (*add)(void *self, sid2_buffer *into, int64_t into_first, const sid2_buffer *from, int64_t count,
                bool low, sid2_error *err);
    /* f32 to bf16, at the start of `into`. */
    bool (*narrow)(void *self, sid2_buffer *into, const sid2_buffer *from, int64_t from_first, int64_t count,
                   sid2_error *err);
    /* What the device is given from now on waits for what is queued. */
    bool (*finish)(void *self, sid2_error *err);
    /* Notes the end of what is queued under a number below SID2_MARKS; and as finish, for what was queued until then. */
    bool (*mark)(void *self, int mark, sid2_error *err);
    bool (*wait)(void *self, int mark, sid2_error *err);
} sid2_transport_queue;

/* Functions that fail fill `err`; afterwards the connection is good for nothing but leaving. */
typedef struct sid2_transport {
    const char *name;
    const char *(*version)(void); /* of the library: "MPICH 4.0.2"; all ranks must have the same */
    void *(*join)(const sid2_place *place, sid2_error *err);
    /* All at once; returns when every byte is there. LOST: not within `seconds`, or a peer is gone; the message
     * names the peers that are waited for. */
    bool (*exchange)(void *self, const sid2_transfer *transfers, int count, double seconds, sid2_error *err);
    /* in_order: all ranks do so now. Otherwise nothing is waited for, and the process should end. */
    void (*leave)(void *self, bool in_order);
    const sid2_transport_queue *queue; /* NULL: none */
    /* The library's own sum over ranks, in an order of its own: f32 `values`, counts[rank] elements of each rank's part one
     * after another; `own` gets this rank's. Waits as the library does. NULL: it has none. */
    bool (*sum)(void *self, const float *values, float *own, const int *counts, sid2_error *err);
} sid2_transport;

#endif
