/* Processes that compute as one.
 *
 * Every call is made by all ranks, in the same order, with the same sizes. Sums over ranks are taken in a fixed binary
 * tree, ranks 0 + 1, 2 + 3, then pairs of pairs: the upper levels of the tree of a training's lanes, so that results
 * do not depend on how lanes are dealt to ranks. Recursive halving, nearest rank first, is that tree: at each stage
 * two partners exchange halves of what they hold, and each adds its own (R. Thakur, R. Rabenseifner, W. Gropp,
 * 2005, "Optimization of collective communication operations in MPICH", section 4). It moves the bytes of a ring, and takes
 * the logarithm of its latencies.
 *
 * NULL is a group too: of one process, which has every part and gets along without any bytes. */
#ifndef SID2_GROUP_H
#define SID2_GROUP_H

#include "transport.h"
#include "watch.h"

typedef struct sid2_group sid2_group;

/* Sums in a fixed order need a power of two of ranks; with another number the group is fast (below). `seconds`: what is
 * waited for longer has failed; LOST, and the message names who. */
sid2_group *sid2_group_join(const sid2_transport *transport, const sid2_place *place, double seconds,
                            sid2_error *err);
void sid2_group_leave(sid2_group *group, bool in_order); /* NULL is fine */

/* From now on sums are the transport's library's: faster perhaps, in an order of its own, so that bits depend on the number
 * of ranks; any number will do. All ranks do so, before the first sum. NULL is fine. */
void sid2_group_hasten(sid2_group *group);
bool sid2_group_is_fast(const sid2_group *group);
bool sid2_group_may_be_exact(const sid2_group *group); /* a power of two */

/* Tells the watch (NULL: nobody) which peer is waited for, and in what. It must stay until another is given. */
void sid2_group_watch(sid2_group *group, sid2_watch *watch);
/* sid2_watch_enter and sid2_watch_look, of the watch. */
void sid2_group_enter(sid2_group *group, sid2_phase phase, uint64_t step);
sid2_watch_sight sid2_group_sight(const sid2_group *group);

const sid2_place *sid2_group_place(const sid2_group *group);
int sid2_group_rank(const sid2_group *group);
int sid2_group_ranks(const sid2_group *group);
const char *sid2_group_carrier(const sid2_group *group); /* the transport's name; NULL: alone */
const char *sid2_group_library(const sid2_group *group); /* and its version: "MPICH 4.0.2" */
uint64_t sid2_group_sent(const sid2_group *group);       /* bytes, by this rank, so far */

typedef struct sid2_span {
    int64_t first, count;
} sid2_span;

/* A rank's part of a range of elements; whole blocks of `block`, counted from its beginning, but for the end. No part is
 * larger than rank 0's. Of a power of two of ranks, and for the exact sums. */
sid2_span sid2_part_of(int rank, int ranks, sid2_span range, int64_t block);
sid2_span sid2_group_part(const sid2_group *group, int rank, sid2_span range, int64_t block);

/* ---- Host memory ---- */

/* Every rank's part of `values` [count], elements of `size` bytes, to all. */
bool sid2_group_spread(sid2_group *group, void *values, size_t size, int64_t count, int64_t block,
                       sid2_error *err);
/* `size` bytes of each rank, at rank * size of `all`, to all. */
bool sid2_group_gather(sid2_group *group, void *all, size_t size, sid2_error *err);
/* Rank 0's bytes to all. */
bool sid2_group_share(sid2_group *group, void *bytes, size_t size, sid2_error *err);
/* What exact sums are measured against: `own` gets this rank's part of f32 `values` [count], of which each rank has about as
 * many, as the transport's library sums them: other bits, and unseen by the watch. UNSUPPORTED: it does not. */
bool sid2_group_sum_inexact(sid2_group *group, const float *values, float *own, int64_t count,
                            sid2_error *err);
/* Ors the flags of all ranks. */
bool sid2_group_agree(sid2_group *group, uint32_t *flags, sid2_error *err);
/* The largest of all ranks' numbers. */
bool sid2_group_largest(sid2_group *group, int64_t *number, sid2_error *err);
/* Whether all ranks are well. Where one is not, `err` has become the same for all: that of the first such rank, which its
 * message names. Whose own call was fine passes true, and anything in `err`. */
bool sid2_group_concur(sid2_group *group, bool well, sid2_error *err);

/* ---- Buffers of a device ----
 * Where the transport has a queue for the device, work is queued there; what the device is given after
 * sid2_group_finish waits for it. Else it is done on return: in place where the device's memory is the host's, by copies of
 * pieces elsewhere. */

/* Before the first of these; once. */
bool sid2_group_attach(sid2_group *group, sid2_device *device, sid2_error *err);
/* Whether work is queued, so that it is worth beginning while the device computes. */
bool sid2_group_queues(const sid2_group *group);
/* Afterwards this rank's part of a range of f32 values is the sum over the ranks. The rest of the range is lost. With
 * `low`, what is added is rounded to bf16 first, this rank's own too, so that half the bytes travel. */
bool sid2_group_sum(sid2_group *group, sid2_buffer *values, sid2_span range, int64_t block, bool low,
                    sid2_error *err);
/* An array by the elements of the range that ranks have parts of. */
enum { SID2_MOST_ARRAYS = 4 }; /* at a time */
typedef struct sid2_parted {
    sid2_buffer *buffer;
    size_t size; /* bytes of an element of its own */
    /* Where in it what belongs to an element of the range begins; NULL: it has one for each. */
    int64_t (*place)(const void *self, int64_t element);
    const void *self;
} sid2_parted;

/* Every rank's part of some arrays to all: what belongs to its part of the range. */
bool sid2_group_spread_buffers(sid2_group *group, const sid2_parted *arrays, int count, sid2_span range,
                               int64_t block, sid2_error *err);
bool sid2_group_finish(sid2_group *group, sid2_error *err);
/* The same for what was begun until it was marked, with a number below SID2_MARKS. */
bool sid2_group_mark(sid2_group *group, int mark, sid2_error *err);
bool sid2_group_wait(sid2_group *group, int mark, sid2_error *err);

#endif
