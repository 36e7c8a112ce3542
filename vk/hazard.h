/* Which dispatches must wait: ranges of bytes that were read or written since the last barrier. */
#ifndef SID2_VK_HAZARD_H
#define SID2_VK_HAZARD_H

#include "buffer.h"

typedef struct sid2_vk_range {
    const sid2_vk_memory *memory;
    size_t begin, end; /* bytes */
    bool written;
} sid2_vk_range;

typedef struct sid2_vk_hazards {
    sid2_vk_range *ranges;
    size_t count, capacity;
} sid2_vk_hazards;

/* Whether a barrier is needed before a dispatch with these accesses, because one of them meets an earlier one
 * and either writes. The accesses are noted; with a barrier, earlier ones are forgotten. False when memory
 * runs out. */
bool sid2_vk_hazard(sid2_vk_hazards *hazards, const sid2_vk_range *accesses, int count, bool *barrier);
void sid2_vk_hazards_free(sid2_vk_hazards *hazards);

#endif
