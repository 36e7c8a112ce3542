/* What the two files of a group share: group.c has its ranks and host memory, group_buffers.c the buffers of a device. */
#ifndef SID2_GROUP_INSIDE_H
#define SID2_GROUP_INSIDE_H

#include "group.h"

enum { SID2_GROUP_PIECE = 1 << 20 }; /* elements that travel at a time */

struct sid2_group {
    const sid2_transport *transport;
    void *self;
    sid2_place place;
    double seconds;
    uint64_t sent;
    sid2_watch *watch;
    bool fast;               /* the library sums; parts lie in the order of ranks */
    float *piece[3];         /* [SID2_GROUP_PIECE]: received, to be sent, of one's own */
    sid2_device *device;     /* whose buffers are attached; NULL: none yet */
    bool queues;             /* the transport takes them; */
    sid2_buffer *landing[2]; /* [SID2_GROUP_PIECE] f32, there: received, to be sent */
};

/* What a rank holds once the bits of its number below `bit` have halved the range, and what it gives away at `bit`. */
typedef struct sid2_halves {
    sid2_span keep, give;
} sid2_halves;

sid2_halves sid2_group_halves(int rank, int bit, sid2_span range, int64_t block);
/* `what` it is part of, for the watch. */
bool sid2_group_exchange(sid2_group *group, const char *what, const sid2_transfer *transfer, sid2_error *err);
/* Of an array: what belongs to a span of the range. */
sid2_span sid2_parted_span(const sid2_parted *array, sid2_span span);
/* Every rank's part of an array, of which `bytes` is that of the range, to all, each to each. */
bool sid2_group_trade(sid2_group *group, void *bytes, const sid2_parted *array, sid2_span range,
                      int64_t block, sid2_error *err);
void sid2_group_detach(sid2_group *group);

#endif
