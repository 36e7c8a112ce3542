/* Which of the ways that a library proposes for a call is taken: its first, or the one that `sid2 tune` measured to be faster
 * on this GPU with this driver and these libraries, for which that is kept (core/keep.h). Nothing is measured unasked, for
 * another way may add in another order. */
#ifndef SID2_CUDA_WAYS_H
#define SID2_CUDA_WAYS_H

#include "device.h"
#include "kernel.h"

enum { SID2_CUDA_WAYS = 4 }; /* of a call, that are measured */

/* Of one call. */
typedef struct sid2_cuda_ways {
    int count;                  /* prepared; 0: the library has none */
    int number[SID2_CUDA_WAYS]; /* of each, in the library's order */
    int taken;                  /* of those prepared */
    bool measured;              /* or there was nothing to measure */
} sid2_cuda_ways;

/* What is known of a device's calls. */
typedef struct sid2_cuda_kept {
    char identity[400]; /* sid2, GPU, driver and libraries */
    bool measures;      /* sid2_backend.measure was called */
    char digest[33];    /* of what was kept; "": nothing */
    struct sid2_cuda_known *item;
    int count, capacity;
} sid2_cuda_kept;

/* What is kept for `identity`, read into an empty one. As sid2_kept_text: 1, 0 where nothing is kept, -1 where what is there is
 * not ours, and not used. */
int sid2_cuda_kept_load(sid2_cuda_kept *kept, const char *identity, char path[4096]);
bool sid2_cuda_kept_write(const sid2_cuda_kept *kept, sid2_error *err);
void sid2_cuda_kept_clear(sid2_cuda_kept *kept);
/* sid2_backend.measured. */
const sid2_way_report *sid2_cuda_kept_measured(const sid2_cuda_kept *kept, int i);

/* The number of the way to try first of `count`, of the call for which a library is asked these bytes; then come the
 * others in the library's order: sid2_cuda_way_at. */
int sid2_cuda_way_first(const sid2_cuda_target *target, const void *asked, size_t bytes, int count);
static inline int sid2_cuda_way_at(int first, int i) { return i == 0 ? first : i <= first ? i - 1 : i; }
/* How many to prepare. */
int sid2_cuda_ways_wanted(const sid2_cuda_target *target);

/* What is to be measured. */
typedef struct sid2_cuda_trial {
    const void *asked; /* of the library: its bytes */
    size_t bytes;
    void *result; /* written, or added to, by each run; as before in the end */
    size_t result_bytes;
    bool (*run)(void *context, int way); /* enqueues, of those prepared; false where that way cannot */
    void *context;
} sid2_cuda_trial;

/* Measures where there are several ways that were not yet; then `taken` is the fastest. Not while the stream is captured. */
void sid2_cuda_ways_measure(sid2_cuda_ways *ways, const sid2_call *call, const sid2_cuda_trial *trial);
/* The least of so many times (INFINITY: it cannot); but the first where none is faster by 3 %. */
int sid2_cuda_fastest(const float *times, int count);

#endif
