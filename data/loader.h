/* Inside data/: the order of a loader. */
#ifndef SID2_DATA_LOADER_H
#define SID2_DATA_LOADER_H

#include <sid2/data.h>

#include "base.h"

/* The permutation of 0 .. count-1 that epoch `epoch` runs through, at `index`. */
int64_t sid2_shuffle(uint64_t seed, uint64_t epoch, int64_t index, int64_t count);

#endif
