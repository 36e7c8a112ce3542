/* Laying out the arena.
 *
 * A tensor is alive from the node that makes it to the last that reads it. Where an operator may overwrite
 * an input that dies there, both share one block. Blocks are placed largest first, each at the lowest
 * offset where it meets no block that is alive at the same time: greedy, and within a few per cent of the
 * largest sum of live bytes for graphs like ours. */
#include "plan.h"

#include <stdlib.h>
#include <string.h>

typedef struct block {
    int32_t first, last; /* nodes */
    size_t bytes, offset;
} block;

static size_t align_up(size_t bytes, size_t alignment) { return (bytes + alignment - 1) & ~(alignment - 1); }

static size_t tensor_bytes(const sid2_graph *g, sid2_tensor t)
{
    return (size_t)sid2_shape_count(g->tensors[t].shape) * sid2_dtype_size(g->tensors[t].dtype);
}

/* The input that output 0 of node i may overwrite, or SID2_NONE. */
static sid2_tensor reusable_input(const sid2_graph *g, int32_t i, const int32_t *last_use)
{
    const sid2_node *n = &g->nodes[i];
    sid2_op_info info = sid2_op_describe(n->op);
    sid2_tensor y = n->out[0];
    if (y == SID2_NONE || g->tensors[y].external) return SID2_NONE;
    for (int k = 0; k < info.input_count; k++) {
        if (!info.input[k].inplace || n->in[k] == SID2_NONE) continue;
        sid2_tensor x = sid2_graph_base(g, n->in[k]);
        if (g->tensors[x].external || last_use[x] != i) continue;
        if (g->tensors[x].dtype != g->tensors[y].dtype || tensor_bytes(g, x) != tensor_bytes(g, y)) continue;
        int times = 0;
        for (int j = 0; j < info.input_count; j++)
            times += n->in[j] != SID2_NONE && sid2_graph_base(g, n->in[j]) == x;
        if (times == 1) return x;
    }
    return SID2_NONE;
}

static int by_size(const void *a, const void *b)
{
    const block *x = *(block *const *)a, *y = *(block *const *)b;
    if (x->bytes != y->bytes) return x->bytes > y->bytes ? -1 : 1;
    return x->first != y->first ? x->first - y->first : (x > y) - (x < y);
}

/* The first place from `offset` on where a block lies within a piece of the arena. */
static size_t within_piece(size_t offset, size_t bytes)
{
    size_t left = SID2_ARENA_PIECE - offset % SID2_ARENA_PIECE;
    return bytes <= left || left == SID2_ARENA_PIECE ? offset : offset + left;
}

/* Placed blocks are kept sorted by offset, so one sweep finds the lowest gap. */
static size_t place(block *const *placed, int32_t count, const block *b)
{
    size_t offset = 0;
    for (int32_t i = 0; i < count; i++) {
        const block *p = placed[i];
        if (p->last < b->first || b->last < p->first) continue;
        if (p->offset >= offset + b->bytes) break;
        if (p->offset + p->bytes > offset) offset = within_piece(p->offset + p->bytes, b->bytes);
    }
    return offset;
}

sid2_plan *sid2_plan_create(const sid2_graph *g, size_t alignment, sid2_error *err)
{
    size_t n = (size_t)g->tensor_count + 1, nodes = (size_t)g->node_count + 1;
    sid2_plan *plan = calloc(1, sizeof *plan);
    size_t *offset = malloc(n * sizeof *offset), *live = calloc(nodes + 1, sizeof *live);
    int32_t *last_use = malloc(n * sizeof *last_use), *block_of = malloc(n * sizeof *block_of);
    block *blocks = calloc(n, sizeof *blocks), **order = malloc(n * sizeof *order),
          **placed = malloc(n * sizeof *placed);
    if (!plan || !offset || !live || !last_use || !block_of || !blocks || !order || !placed) {
        sid2_fail(err, SID2_ERR_MEMORY, "out of memory planning the graph");
        free(offset);
        free(plan);
        plan = NULL;
        goto done;
    }
    for (sid2_tensor t = 0; t < g->tensor_count; t++) last_use[t] = -1, block_of[t] = -1;
    for (int32_t i = 0; i < g->node_count; i++)
        for (int k = 0; k < SID2_MAX_INPUTS; k++)
            if (g->nodes[i].in[k] != SID2_NONE) last_use[sid2_graph_base(g, g->nodes[i].in[k])] = i;

    int32_t count = 0;
    for (int32_t i = 0; i < g->node_count; i++) {
        sid2_tensor shared = reusable_input(g, i, last_use);
        for (int k = 0; k < SID2_MAX_OUTPUTS; k++) {
            sid2_tensor t = g->nodes[i].out[k];
            if (t == SID2_NONE || g->tensors[t].external || block_of[t] >= 0) continue;
            int32_t last = last_use[t] > i ? last_use[t] : i;
            if (k == 0 && shared != SID2_NONE) {
                block_of[t] = block_of[shared];
                blocks[block_of[t]].last = last;
            } else {
                block_of[t] = count;
                blocks[count++] = (block){i, last, align_up(tensor_bytes(g, t), alignment), 0};
            }
        }
    }
    for (int32_t b = 0; b < count; b++) order[b] = &blocks[b];
    qsort(order, (size_t)count, sizeof *order, by_size);
    for (int32_t b = 0; b < count; b++) {
        order[b]->offset = place(placed, b, order[b]);
        if (order[b]->offset + order[b]->bytes > plan->arena_bytes)
            plan->arena_bytes = order[b]->offset + order[b]->bytes;
        int32_t at = b;
        for (; at > 0 && placed[at - 1]->offset > order[b]->offset; at--) placed[at] = placed[at - 1];
        placed[at] = order[b];
        live[order[b]->first] += order[b]->bytes;
        live[order[b]->last + 1] -= order[b]->bytes;
    }
    size_t sum = 0, most = 0;
    for (int32_t i = 0; i < g->node_count; i++) {
        sum += live[i];
        if (sum > most) most = sum, plan->peak_node = i;
    }
    for (sid2_tensor t = 0; t < g->tensor_count; t++)
        offset[t] = block_of[t] >= 0 ? blocks[block_of[t]].offset : SID2_NOT_IN_ARENA;
    plan->offset = offset;
    plan->tensor_count = g->tensor_count;
done:
    free(live);
    free(last_use);
    free(block_of);
    free(blocks);
    free(order);
    free(placed);
    return plan;
}

void sid2_plan_destroy(sid2_plan *plan)
{
    if (!plan) return;
    free(plan->offset);
    free(plan);
}

sid2_plan_spot sid2_plan_place(const sid2_plan *plan, const sid2_graph *graph, sid2_tensor tensor)
{
    const sid2_tensor_info *info = &graph->tensors[tensor];
    sid2_tensor base = sid2_graph_base(graph, tensor);
    size_t offset = (size_t)info->offset * sid2_dtype_size(info->dtype);
    if (info->external) return (sid2_plan_spot){base, offset};
    return (sid2_plan_spot){SID2_NONE, plan->offset[base] + offset};
}
