/* A stream of shuffled batches, decoded ahead by threads of its own so that a training step never waits.
 *
 * Sample n of the stream is picture shuffle(seed, n / count, n % count): a pure function, for any batch
 * size and number of threads. Resuming at sample n continues the very same stream. Epochs run on across
 * the borders of batches. */
#ifndef SID2_LOADER_H
#define SID2_LOADER_H

#include "dataset.h"

typedef struct sid2_loader sid2_loader;

typedef struct sid2_loader_options {
    int32_t batch;
    uint64_t seed;
    uint64_t first_sample; /* where the stream begins: 0, or the point of resume */
    int32_t threads;       /* 0: one for each processor, at most 8 */
    int32_t depth;         /* batches held ready; 0: 4 */
    bool flip;             /* mirror half of them, drawn by sample number */
} sid2_loader_options;

typedef struct sid2_batch {
    const uint8_t *pixels; /* batch x size x size x channels */
    const int32_t *labels; /* batch */
    uint64_t first_sample; /* of the batch; the others follow one by one */
} sid2_batch;

/* Borrows the data set, which must outlive the loader. */
sid2_loader *sid2_loader_open(sid2_dataset *dataset, sid2_loader_options options, sid2_error *err);
void sid2_loader_close(sid2_loader *loader);

/* The next batch; its memory is the loader's and holds until the next call. One thread at a time. */
bool sid2_loader_next(sid2_loader *loader, sid2_batch *batch, sid2_error *err);
double sid2_loader_waited(const sid2_loader *loader); /* seconds sid2_loader_next has spent waiting */

/* The permutation of 0 .. count-1 that epoch `epoch` runs through, at `index`. */
int64_t sid2_shuffle(uint64_t seed, uint64_t epoch, int64_t index, int64_t count);

#endif
