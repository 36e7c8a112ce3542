/* The plan: where every activation lives. Known before anything runs, and printable. */
#ifndef SID2_PLAN_H
#define SID2_PLAN_H

#include "graph.h"

#define SID2_NOT_IN_ARENA SIZE_MAX
/* No tensor lies across a multiple of this, except that a larger one begins at one: a device that allocates
 * in limited pieces can cut the arena there. */
#define SID2_ARENA_PIECE ((size_t)1 << 30)

typedef struct sid2_plan {
    size_t arena_bytes;
    size_t *offset; /* by tensor: byte offset in the arena, or SID2_NOT_IN_ARENA */
    int32_t tensor_count;
    int32_t peak_node; /* the node at which most is alive */
} sid2_plan;

/* Offsets are multiples of `alignment` (a power of two). NULL only when memory runs out. */
sid2_plan *sid2_plan_create(const sid2_graph *graph, size_t alignment, sid2_error *err);
void sid2_plan_destroy(sid2_plan *plan);

/* Where a tensor lies: `offset` bytes into the arena, or into the buffer of an external, of which it may be a
 * view. */
typedef struct sid2_plan_spot {
    sid2_tensor external; /* SID2_NONE: the arena */
    size_t offset;
} sid2_plan_spot;

sid2_plan_spot sid2_plan_place(const sid2_plan *plan, const sid2_graph *graph, sid2_tensor tensor);

#endif
