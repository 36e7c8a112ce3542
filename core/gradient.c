/* Reverse-mode differentiation of the graph.
 *
 * Nodes are visited last to first; each operator's rule turns the gradient of its output into nodes that
 * compute the gradients of its inputs. Parameter gradients are added straight into the flat buffer.
 * Where a tensor feeds several nodes its gradients must be summed: a rule whose operator can add a
 * residual takes the sum so far and passes it in, so the addition costs no pass over memory. */
#include "graph.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct reverse {
    sid2_graph *g;
    sid2_node node; /* the forward node, copied: the array may move */
    sid2_tensor dy; /* gradient of its output 0 */
} reverse;

static bool wants(const reverse *r, sid2_tensor x)
{
    return x != SID2_NONE && r->g->tensors[x].requires_grad;
}

/* The sum so far for x, to be passed on as a residual; whoever takes it must put the new sum back. */
static sid2_tensor take(const reverse *r, sid2_tensor x)
{
    sid2_tensor sum = r->g->grad_of[x];
    r->g->grad_of[x] = SID2_NONE;
    return sum;
}

static void put(const reverse *r, sid2_tensor x, sid2_tensor dx)
{
    sid2_graph *g = r->g;
    if (g->tensors[x].base != SID2_NONE) {
        sid2_fail(&g->error, SID2_ERR_INTERNAL, "operator %s cannot add to a parameter's gradient",
                  sid2_op_name(r->node.op));
        return;
    }
    g->grad_of[x] = dx;
}

static void contribute(const reverse *r, sid2_tensor x, sid2_tensor dx)
{
    if (!wants(r, x)) return;
    sid2_tensor sum = take(r, x);
    put(r, x, sum == SID2_NONE ? dx : sid2_add(r->g, sum, dx));
}

static sid2_tensor emit(const reverse *r, sid2_op op, sid2_attr attr, const sid2_tensor *in, int count)
{
    return sid2_graph_emit(r->g, op, attr, in, count, false);
}

/* Where an accumulating output goes: a parameter's slice of `grads`, or the external "grad:<name>". */
static sid2_tensor accumulator(const reverse *r, sid2_tensor x)
{
    sid2_graph *g = r->g;
    if (x == SID2_NONE || g->error.code) return SID2_NONE;
    sid2_tensor_info info = g->tensors[x];
    if (info.base == g->weights || info.base == g->weights_low)
        return sid2_graph_view(g, g->grads, info.offset, info.shape);
    if (g->grad_of[x] != SID2_NONE) return g->grad_of[x];
    if (!info.external)
        return sid2_fail(&g->error, SID2_ERR_INTERNAL, "operator %s needs a parameter or external there",
                         sid2_op_name(r->node.op)),
               SID2_NONE;
    char name[160];
    snprintf(name, sizeof name, "grad:%s", info.name);
    return g->grad_of[x] = sid2_graph_external(g, name, g->master, info.shape);
}

/* An activation for an output that is optional. */
static sid2_tensor like(const reverse *r, sid2_tensor x)
{
    return wants(r, x) ? sid2_graph_activation(r->g, sid2_graph_type(r->g, x)) : SID2_NONE;
}

/* Emits with given outputs; SID2_NONE for output 0 makes a new one. Returns output 0. */
static sid2_tensor emit_to(const reverse *r, sid2_op op, sid2_attr attr, const sid2_tensor *in, int count,
                           sid2_tensor *out, int out_count)
{
    sid2_graph_emit_into(r->g, op, attr, in, count, out, out_count);
    if (r->g->error.code) return SID2_NONE;
    const sid2_node *node = &r->g->nodes[r->g->node_count - 1];
    memcpy(out, node->out, (size_t)out_count * sizeof *out);
    return out[0];
}

/* ---- Rules ---- */

/* linear and conv2d differ only in their gradient operators. */
static void grad_product(const reverse *r, sid2_op dgrad, sid2_op wgrad)
{
    const sid2_tensor x = r->node.in[0], w = r->node.in[1], bias = r->node.in[2], residual = r->node.in[3];
    contribute(r, residual, r->dy);
    sid2_tensor dy = sid2_cast(r->g, r->dy, sid2_graph_type(r->g, x).dtype);
    if (wants(r, x)) {
        sid2_tensor sum = take(r, x);
        put(r, x, emit(r, dgrad, (sid2_attr){0}, (sid2_tensor[]){dy, w, sum}, 3));
    }
    if (wants(r, w)) {
        sid2_attr attr = {.shape = sid2_graph_type(r->g, w).shape};
        sid2_tensor out[] = {accumulator(r, w), accumulator(r, bias)};
        emit_to(r, wgrad, attr, (sid2_tensor[]){x, dy}, 2, out, 2);
    }
}

static void grad_linear(const reverse *r) { grad_product(r, SID2_OP_linear_dgrad, SID2_OP_linear_wgrad); }
static void grad_conv2d(const reverse *r) { grad_product(r, SID2_OP_conv2d_dgrad, SID2_OP_conv2d_wgrad); }

static void grad_norm(const reverse *r, sid2_op op)
{
    const sid2_tensor x = r->node.in[0], gamma = r->node.in[1], beta = r->node.in[2], film = r->node.in[3];
    sid2_tensor sum = wants(r, x) ? take(r, x) : SID2_NONE;
    sid2_tensor in[] = {r->dy, x, r->node.out[1], gamma, beta, film, sum};
    sid2_tensor out[] = {SID2_NONE, accumulator(r, gamma), accumulator(r, beta), like(r, film)};
    emit_to(r, op, r->node.attr, in, 7, out, 4);
    if (wants(r, x)) put(r, x, out[0]);
    contribute(r, film, out[3]);
}

static void grad_group_norm(const reverse *r) { grad_norm(r, SID2_OP_group_norm_grad); }
static void grad_row_norm(const reverse *r) { grad_norm(r, SID2_OP_row_norm_grad); }

static void grad_activation(const reverse *r)
{
    const sid2_tensor x = r->node.in[0], film = r->node.in[1];
    sid2_tensor out[] = {SID2_NONE, like(r, film)};
    emit_to(r, SID2_OP_activation_grad, r->node.attr, (sid2_tensor[]){r->dy, x, film}, 3, out, 2);
    contribute(r, x, out[0]);
    contribute(r, film, out[1]);
}

static sid2_tensor scaled(const reverse *r, sid2_tensor x, float scale)
{
    return scale == 1 ? x : emit(r, SID2_OP_scale, (sid2_attr){.scale = scale}, &x, 1);
}

static void grad_add(const reverse *r)
{
    contribute(r, r->node.in[0], r->dy);
    if (wants(r, r->node.in[1])) contribute(r, r->node.in[1], scaled(r, r->dy, r->node.attr.scale));
}

static void grad_scale(const reverse *r)
{
    contribute(r, r->node.in[0], scaled(r, r->dy, r->node.attr.scale));
}

static void grad_cast(const reverse *r)
{
    contribute(r, r->node.in[0], sid2_cast(r->g, r->dy, sid2_graph_type(r->g, r->node.in[0]).dtype));
}

static void grad_dropout(const reverse *r)
{
    sid2_tensor in[] = {r->dy, r->node.in[1], r->node.in[2]};
    contribute(r, r->node.in[0], emit(r, SID2_OP_dropout, r->node.attr, in, 3));
}

static void grad_pool2(const reverse *r)
{
    sid2_tensor sum = take(r, r->node.in[0]);
    put(r, r->node.in[0], emit(r, SID2_OP_upsample2, r->node.attr, (sid2_tensor[]){r->dy, sum}, 2));
}

static void grad_upsample2(const reverse *r)
{
    contribute(r, r->node.in[1], r->dy);
    if (wants(r, r->node.in[0]))
        contribute(r, r->node.in[0], emit(r, SID2_OP_pool2, r->node.attr, &r->dy, 1));
}

static void grad_patchify(const reverse *r)
{
    contribute(r, r->node.in[0], emit(r, SID2_OP_unpatchify, r->node.attr, &r->dy, 1));
}

static void grad_unpatchify(const reverse *r)
{
    contribute(r, r->node.in[0], emit(r, SID2_OP_patchify, r->node.attr, &r->dy, 1));
}

/* Covers attention and the qk_norm_rope before it: v reaches attention beside q and k, and dqkv is one
 * tensor. */
static void grad_attention(const reverse *r)
{
    sid2_graph *g = r->g;
    const sid2_tensor qk = r->node.in[0], qkv = r->node.in[1];
    int32_t producer = g->tensors[qk].producer;
    if (producer < 0 || g->nodes[producer].op != SID2_OP_qk_norm_rope || g->nodes[producer].in[0] != qkv) {
        sid2_fail(&g->error, SID2_ERR_INTERNAL,
                  "attention has a gradient only after qk_norm_rope of the same qkv");
        return;
    }
    const sid2_node rope = g->nodes[producer];
    sid2_tensor in[] = {r->dy, qk, qkv, r->node.out[0], r->node.out[1]}, d[2] = {SID2_NONE, SID2_NONE};
    emit_to(r, SID2_OP_attention_grad, r->node.attr, in, 5, d, 2);
    sid2_tensor back[] = {d[0], d[1], qkv, rope.in[1], rope.in[2]};
    sid2_tensor out[] = {SID2_NONE, accumulator(r, rope.in[1]), accumulator(r, rope.in[2])};
    emit_to(r, SID2_OP_qk_norm_rope_grad, rope.attr, back, 5, out, 3);
    contribute(r, qkv, out[0]);
}

static void grad_embedding(const reverse *r)
{
    sid2_attr attr = {.shape = sid2_graph_type(r->g, r->node.in[0]).shape};
    sid2_tensor out[] = {accumulator(r, r->node.in[0])};
    emit_to(r, SID2_OP_embedding_grad, attr, (sid2_tensor[]){r->dy, r->node.in[1]}, 2, out, 1);
}

static void grad_diffusion_loss(const reverse *r)
{
    sid2_tensor in[7] = {r->dy};
    memcpy(in + 1, r->node.in, 6 * sizeof *in);
    contribute(r, r->node.in[0], emit(r, SID2_OP_diffusion_loss_grad, (sid2_attr){0}, in, 7));
}

static void grad_none(const reverse *r)
{
    sid2_fail(&r->g->error, SID2_ERR_INTERNAL, "operator %s has no gradient", sid2_op_name(r->node.op));
}

/* ---- The pass ---- */

void sid2_graph_backward(sid2_graph *g, sid2_tensor loss, sid2_tensor dloss)
{
    static void (*const rules[SID2_OP_COUNT])(const reverse *) = {
#define OP(name, inputs, outputs, attributes, gradient, formula) grad_##gradient,
#include "op.def"
    };
    if (g->error.code) return;
    g->grad_count = g->tensor_count;
    g->grad_of = malloc((size_t)g->tensor_count * sizeof *g->grad_of);
    if (!g->grad_of) {
        sid2_fail(&g->error, SID2_ERR_MEMORY, "out of memory building the graph");
        return;
    }
    for (int32_t t = 0; t < g->tensor_count; t++) g->grad_of[t] = SID2_NONE;
    g->grad_of[loss] = dloss;
    g->segment = -1;
    int32_t forward = g->node_count;
    for (int32_t i = forward - 1; i >= 0 && !g->error.code; i--) {
        reverse r = {.g = g, .node = g->nodes[i]};
        r.dy = g->grad_of[r.node.out[0]];
        if (r.dy != SID2_NONE && g->tensors[r.node.out[0]].requires_grad) rules[r.node.op](&r);
    }
    for (int32_t i = forward; i < g->node_count; i++) g->nodes[i].phase = SID2_BACKWARD;
}

sid2_tensor sid2_graph_grad(const sid2_graph *g, sid2_tensor tensor)
{
    return tensor >= 0 && tensor < g->grad_count ? g->grad_of[tensor] : SID2_NONE;
}
