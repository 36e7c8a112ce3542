/* The recorder's side of lower.h: a graph's nodes become a list of dispatches. */
#ifndef SID2_VK_LOWERING_H
#define SID2_VK_LOWERING_H

#include "buffer.h"
#include "context.h"
#include "lower.h"

typedef struct sid2_vk_record {
    sid2_vk_dispatch dispatch;
    int32_t node; /* SID2_VK_FIRST: before all nodes, and only when what it reads was written to */
} sid2_vk_record;

enum { SID2_VK_FIRST = -1 };

struct sid2_vk_lowering {
    sid2_vk_device *device;
    sid2_vk_record *records;
    size_t count, capacity;
    int32_t node;
    sid2_vk_memory
        *scratch; /* shared by all calls; its size is known, and it is allocated, when all are lowered */
    size_t scratch_used, scratch_bytes;
    sid2_vk_memory *kept; /* what stays from run to run, likewise; NULL: nothing does */
    size_t kept_bytes;
    sid2_error error; /* the first one */
};

/* Whether there is a lowering for the operator. */
bool sid2_vk_lowers(sid2_op op);
/* Appends the dispatches of a call. Where a tensor is larger than a binding can span, the call is cut along
 * the batch. False, with lowering->error, where it cannot be done. */
bool sid2_vk_lower_call(sid2_vk_lowering *lowering, const sid2_vk_call *call);
size_t sid2_vk_bytes(const sid2_vk_tensor *t);
/* sid2_vk_emit as if it were of that node. */
void sid2_vk_append(sid2_vk_lowering *lowering, const sid2_vk_dispatch *dispatch, int32_t node);
static inline size_t sid2_vk_whole_lines(size_t bytes) { return (bytes + 255) & ~(size_t)255; }

#endif
