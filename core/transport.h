/* What carries bytes between the processes of a group. An engine (MPI, NCCL) fills a sid2_transport; all that is
 * done with them, sums in a fixed order above all, is core/group.c's. */
#ifndef SID2_TRANSPORT_H
#define SID2_TRANSPORT_H

#include "place.h"

/* Bytes to a peer and bytes from it; either may be none. What one side sends, the other expects. */
typedef struct sid2_transfer {
    int peer;
    const void *send;
    size_t send_bytes;
    void *receive;
    size_t receive_bytes;
} sid2_transfer;

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
} sid2_transport;

#endif
