/* Passes that rewrite the graph: fusion before the backward pass, recomputation after it. */
#include "plan.h"

#include <stdlib.h>
#include <string.h>

static bool out_of_memory(sid2_graph *g)
{
    return sid2_fail(&g->error, SID2_ERR_MEMORY, "out of memory rewriting the graph");
}

/* Puts `nodes` (allocated) in the graph's place and tells every tensor its producer again. */
static void replace_nodes(sid2_graph *g, sid2_node *nodes, int32_t count, int32_t capacity)
{
    if (nodes != g->nodes) free(g->nodes);
    g->nodes = nodes;
    g->node_count = count;
    g->node_capacity = capacity;
    for (sid2_tensor t = 0; t < g->tensor_count; t++) g->tensors[t].producer = -1;
    for (int32_t i = 0; i < count; i++)
        for (int k = 0; k < SID2_MAX_OUTPUTS; k++) {
            sid2_tensor t = nodes[i].out[k];
            if (t != SID2_NONE && g->tensors[t].producer < 0) g->tensors[t].producer = i;
        }
}

/* ---- Fusion ---- */

/* norm -> FiLM -> activation, and activation -> FiLM. `p` made the only input of activation `n`. */
static bool merge_activation(const sid2_node *p, const sid2_node *n, sid2_node *merged)
{
    const sid2_tensor film = n->in[1];
    *merged = *p;
    switch (p->op) {
    case SID2_OP_group_norm:
    case SID2_OP_row_norm:
        if (p->attr.act != SID2_ACT_NONE) return false;
        if (film == SID2_NONE) {
            merged->attr.act = n->attr.act;
            return true;
        }
        if (n->attr.act != SID2_ACT_NONE || p->in[3] != SID2_NONE) return false;
        merged->in[3] = film;
        return true;
    case SID2_OP_activation:
        if (p->in[1] != SID2_NONE || n->attr.act != SID2_ACT_NONE) return false;
        merged->in[1] = film;
        return true;
    default: return false;
    }
}

/* A sum with the output of an operator that can add a residual. */
static bool merge_add(const sid2_graph *g, const sid2_node *p, sid2_tensor other, sid2_node *merged)
{
    const sid2_op_info info = sid2_op_describe(p->op);
    int slot = 0;
    while (slot < info.input_count && !info.input[slot].added) slot++;
    if (slot == info.input_count || p->in[slot] != SID2_NONE) return false;
    if (g->tensors[other].dtype != g->tensors[p->out[0]].dtype) return false;
    *merged = *p;
    merged->in[slot] = other;
    return true;
}

void sid2_graph_fuse(sid2_graph *g)
{
    if (g->error.code) return;
    int32_t *uses = calloc((size_t)g->tensor_count, sizeof *uses);
    bool *dead = calloc((size_t)g->node_count + 1, sizeof *dead);
    if (!uses || !dead) {
        out_of_memory(g);
        goto done;
    }
    for (int32_t i = 0; i < g->node_count; i++)
        for (int k = 0; k < SID2_MAX_INPUTS; k++)
            if (g->nodes[i].in[k] != SID2_NONE) uses[sid2_graph_base(g, g->nodes[i].in[k])]++;

    for (int32_t i = 0; i < g->node_count; i++) {
        sid2_node *n = &g->nodes[i];
        if (n->op != SID2_OP_activation && (n->op != SID2_OP_add || n->attr.scale != 1)) continue;
        for (int k = n->op == SID2_OP_add ? 1 : 0; k >= 0; k--) {
            sid2_tensor x = n->in[k];
            int32_t producer = g->tensors[x].producer;
            if (producer < 0 || g->tensors[x].external || uses[x] != 1) continue;
            const sid2_node *p = &g->nodes[producer];
            sid2_node merged;
            if (p->segment != n->segment || p->out[0] != x) continue;
            if (!(n->op == SID2_OP_add ? merge_add(g, p, n->in[1 - k], &merged)
                                       : merge_activation(p, n, &merged)))
                continue;
            /* At n's place, where the inputs of both are known. */
            merged.out[0] = n->out[0];
            for (int o = 0; o < SID2_MAX_OUTPUTS; o++)
                if (merged.out[o] != SID2_NONE) g->tensors[merged.out[o]].producer = i;
            *n = merged;
            dead[producer] = true;
            break;
        }
    }
    int32_t kept = 0;
    for (int32_t i = 0; i < g->node_count; i++)
        if (!dead[i]) g->nodes[kept++] = g->nodes[i];
    replace_nodes(g, g->nodes, kept, g->node_capacity);
done:
    free(uses);
    free(dead);
}

/* ---- Recomputation ---- */

/* What the rewriting needs to know of the graph as it stands. */
typedef struct rewriting {
    sid2_graph *g;
    int32_t old_tensors;
    bool *boundary;    /* by tensor that is no view: used in the forward pass outside its own segment */
    sid2_tensor *twin; /* by tensor: the recomputed one, or SID2_NONE; of a view, a view of the base's */
    sid2_node *nodes;  /* the new list */
    int32_t count, capacity;
} rewriting;

static bool push(rewriting *w, const sid2_node *node)
{
    if (w->count == w->capacity) {
        w->capacity = 2 * w->capacity + 64;
        sid2_node *larger = realloc(w->nodes, (size_t)w->capacity * sizeof *larger);
        if (!larger) return out_of_memory(w->g);
        w->nodes = larger;
    }
    w->nodes[w->count++] = *node;
    return true;
}

/* Whether tensor t is dropped after the forward pass: made inside a chosen segment and used only there. */
static bool dropped(const rewriting *w, const bool *segments, sid2_tensor t)
{
    if (t == SID2_NONE || t >= w->old_tensors) return false;
    sid2_tensor base = sid2_graph_base(w->g, t);
    const sid2_tensor_info *info = &w->g->tensors[base];
    if (w->boundary[base] || info->external || info->producer < 0) return false;
    const sid2_node *p = &w->g->nodes[info->producer];
    return p->phase == SID2_FORWARD && p->segment >= 0 && segments[p->segment];
}

/* Makes the twin of t, after those of what it is computed from. */
static bool recompute(rewriting *w, const bool *segments, sid2_tensor t)
{
    if (!dropped(w, segments, t) || w->twin[t] != SID2_NONE) return true;
    sid2_tensor base = sid2_graph_base(w->g, t);
    if (base != t) {
        if (!recompute(w, segments, base)) return false;
        w->twin[t] = sid2_reshape(w->g, w->twin[base], w->g->tensors[t].shape);
        return w->twin[t] != SID2_NONE;
    }
    sid2_node node = w->g->nodes[w->g->tensors[t].producer];
    for (int k = 0; k < SID2_MAX_INPUTS; k++) {
        if (!recompute(w, segments, node.in[k])) return false;
        if (dropped(w, segments, node.in[k])) node.in[k] = w->twin[node.in[k]];
    }
    for (int k = 0; k < SID2_MAX_OUTPUTS; k++) {
        if (node.out[k] == SID2_NONE) continue;
        sid2_tensor twin = sid2_graph_activation(w->g, sid2_graph_type(w->g, node.out[k]));
        if (twin == SID2_NONE) return false;
        w->twin[node.out[k]] = twin;
        node.out[k] = twin;
    }
    node.phase = SID2_RECOMPUTED;
    return push(w, &node);
}

void sid2_graph_recompute(sid2_graph *g, const bool *segments)
{
    if (g->error.code) return;
    rewriting w = {.g = g, .old_tensors = g->tensor_count};
    w.boundary = calloc((size_t)g->tensor_count, sizeof *w.boundary);
    w.twin = malloc((size_t)g->tensor_count * sizeof *w.twin);
    bool ok = w.boundary && w.twin;
    if (!ok) out_of_memory(g);
    for (sid2_tensor t = 0; ok && t < w.old_tensors; t++) w.twin[t] = SID2_NONE;
    for (int32_t i = 0; ok && i < g->node_count; i++) {
        const sid2_node *n = &g->nodes[i];
        if (n->phase != SID2_FORWARD) continue;
        for (int k = 0; k < SID2_MAX_INPUTS; k++) {
            sid2_tensor t = n->in[k] == SID2_NONE ? SID2_NONE : sid2_graph_base(g, n->in[k]);
            if (t == SID2_NONE || g->tensors[t].producer < 0) continue;
            if (g->nodes[g->tensors[t].producer].segment != n->segment) w.boundary[t] = true;
        }
    }
    for (int32_t i = 0; ok && i < g->node_count; i++) {
        sid2_node node = g->nodes[i];
        for (int k = 0; ok && node.phase != SID2_FORWARD && k < SID2_MAX_INPUTS; k++) {
            ok = recompute(&w, segments, node.in[k]);
            if (ok && dropped(&w, segments, node.in[k])) node.in[k] = w.twin[node.in[k]];
        }
        ok = ok && push(&w, &node);
    }
    if (ok)
        replace_nodes(g, w.nodes, w.count, w.capacity);
    else
        free(w.nodes);
    free(w.boundary);
    free(w.twin);
}

/* ---- Fitting a memory limit ---- */

typedef struct candidate {
    int32_t segment;
    double saved, cost; /* bytes no longer kept; work to do again */
} candidate;

static int by_merit(const void *a, const void *b)
{
    const candidate *x = a, *y = b;
    double left = x->saved * y->cost, right = y->saved * x->cost;
    if (left != right) return left > right ? -1 : 1;
    return x->segment - y->segment;
}

/* One multiply-add costs about as much as moving 1/16 byte on today's processors; only the ranking depends on
 * it. */
static const double bytes_per_multiply_add = 1.0 / 16;

static void rank_segments(const sid2_graph *g, candidate *candidates)
{
    for (int32_t s = 0; s < g->segment_count; s++) candidates[s] = (candidate){.segment = s};
    for (int32_t i = 0; i < g->node_count; i++) {
        const sid2_node *n = &g->nodes[i];
        if (n->phase != SID2_FORWARD || n->segment < 0) continue;
        sid2_cost cost = sid2_graph_node_cost(g, n);
        candidates[n->segment].cost += cost.bytes + bytes_per_multiply_add * cost.multiply_adds;
        for (int k = 0; k < SID2_MAX_OUTPUTS; k++)
            if (n->out[k] != SID2_NONE) {
                sid2_type type = sid2_graph_type(g, n->out[k]);
                candidates[n->segment].saved +=
                    (double)sid2_shape_count(type.shape) * (double)sid2_dtype_size(type.dtype);
            }
    }
    qsort(candidates, (size_t)g->segment_count, sizeof *candidates, by_merit);
}

static size_t arena_bytes_of(sid2_graph *g)
{
    sid2_plan *plan = sid2_plan_create(g, 256, &g->error);
    size_t bytes = plan ? plan->arena_bytes : SIZE_MAX;
    sid2_plan_destroy(plan);
    return bytes;
}

int sid2_graph_fit(sid2_graph *g, size_t arena_bytes, size_t *least_bytes)
{
    *least_bytes = SIZE_MAX;
    if (g->error.code) return -1;
    size_t bytes = arena_bytes_of(g);
    *least_bytes = bytes;
    if (bytes <= arena_bytes) return 0;

    int chosen = -1;
    size_t count = (size_t)g->segment_count + 1;
    candidate *candidates = calloc(count, sizeof *candidates);
    bool *segments = calloc(count, sizeof *segments);
    sid2_node *original = malloc((size_t)g->node_count * sizeof *original);
    int32_t nodes = g->node_count, tensors = g->tensor_count;
    if (!candidates || !segments || !original) {
        out_of_memory(g);
        goto done;
    }
    memcpy(original, g->nodes, (size_t)nodes * sizeof *original);
    rank_segments(g, candidates);
    for (int k = 0; k < g->segment_count && chosen < 0; k++) {
        segments[candidates[k].segment] = true;
        /* Each try starts from the graph as it was. */
        g->tensor_count = tensors;
        memcpy(g->nodes, original, (size_t)nodes * sizeof *original);
        replace_nodes(g, g->nodes, nodes, g->node_capacity);
        sid2_graph_recompute(g, segments);
        bytes = arena_bytes_of(g);
        if (g->error.code) break;
        if (bytes < *least_bytes) *least_bytes = bytes;
        if (bytes <= arena_bytes) chosen = k + 1;
    }
done:
    free(candidates);
    free(segments);
    free(original);
    return chosen;
}
