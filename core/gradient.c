/* Reverse-mode differentiation of the graph.
 *
 * Nodes are visited last to first; each operator's rule turns the gradient of its output into nodes that
 * compute the gradients of its inputs. Parameter gradients are added straight into the flat buffer of their set;
 * what is frozen gets none. Where a tensor feeds several nodes its gradients must be summed: a rule whose operator
 * can add a residual takes the sum so far and passes it in, so the addition costs no pass over memory. A tensor and
 * its reshapes have one gradient, kept in the tensor's own shape. */
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

/* What x is a whole view of: the tensor whose gradient is x's too. */
static sid2_tensor owner(const sid2_graph *g, sid2_tensor x)
{
    sid2_tensor base = sid2_graph_base(g, x);
    bool whole = sid2_shape_count(g->tensors[base].shape) == sid2_shape_count(g->tensors[x].shape);
    return whole ? base : x;
}

/* The sum so far for x, to be passed on as a residual; whoever takes it must put the new sum back. */
static sid2_tensor take(const reverse *r, sid2_tensor x)
{
    sid2_tensor *slot = &r->g->grad_of[owner(r->g, x)], sum = *slot;
    *slot = SID2_NONE;
    return sid2_reshape(r->g, sum, r->g->tensors[x].shape);
}

static void put(const reverse *r, sid2_tensor x, sid2_tensor dx)
{
    sid2_graph *g = r->g;
    sid2_tensor of = owner(g, x);
    if (g->tensors[of].base != SID2_NONE) {
        sid2_fail(&g->error, SID2_ERR_INTERNAL, "operator %s cannot add to a parameter's gradient",
                  sid2_op_name(r->node.op));
        return;
    }
    g->grad_of[of] = sid2_reshape(g, dx, g->tensors[of].shape);
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

/* Where an accumulating output goes: a parameter's slice of its set's `grads`, or the external "grad:<name>".
 * SID2_NONE where no gradient is wanted. */
static sid2_tensor accumulator(const reverse *r, sid2_tensor x)
{
    sid2_graph *g = r->g;
    if (g->error.code || !wants(r, x)) return SID2_NONE;
    sid2_tensor_info info = g->tensors[x];
    for (int32_t s = 0; s < g->params_count; s++) {
        int64_t offset = sid2_params_offset(g, &g->params[s], x);
        if (offset >= 0) return sid2_graph_view(g, g->params[s].grads, offset, info.shape);
    }
    sid2_tensor of = owner(g, x);
    if (g->grad_of[of] == SID2_NONE) {
        if (!g->tensors[of].external)
            return sid2_fail(&g->error, SID2_ERR_INTERNAL, "operator %s needs a parameter or external there",
                             sid2_op_name(r->node.op)),
                   SID2_NONE;
        char name[160];
        snprintf(name, sizeof name, "grad:%s", g->tensors[of].name);
        g->grad_of[of] = sid2_graph_external(g, name, g->master, g->tensors[of].shape);
    }
    return sid2_reshape(g, g->grad_of[of], info.shape);
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
    sid2_attr attr = {.shape = sid2_graph_type(r->g, w).shape};
    sid2_tensor out[] = {accumulator(r, w), accumulator(r, bias)};
    if (out[0] == SID2_NONE) wgrad = SID2_OP_linear_wgrad; /* a bias' gradient knows no kernel */
    if (wants(r, w) || wants(r, bias)) emit_to(r, wgrad, attr, (sid2_tensor[]){x, dy}, 2, out, 2);
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
    if (!wants(r, r->node.in[0])) return;
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
    if (!wants(r, r->node.in[0])) return;
    sid2_attr attr = {.shape = sid2_graph_type(r->g, r->node.in[0]).shape};
    sid2_tensor out[] = {accumulator(r, r->node.in[0])};
    emit_to(r, SID2_OP_embedding_grad, attr, (sid2_tensor[]){r->dy, r->node.in[1]}, 2, out, 1);
}

static void grad_diffusion_loss(const reverse *r)
{
    sid2_tensor in[8] = {[0] = r->dy, [7] = r->node.out[0]};
    memcpy(in + 1, r->node.in, 6 * sizeof *in);
    contribute(r, r->node.in[0], emit(r, SID2_OP_diffusion_loss_grad, (sid2_attr){0}, in, 8));
}

static void grad_none(const reverse *r)
{
    sid2_fail(&r->g->error, SID2_ERR_INTERNAL, "operator %s has no gradient", sid2_op_name(r->node.op));
}

/* ---- The pass ---- */

/* The gradients that are supplied, each in its place. */
static bool seed(sid2_graph *g, const sid2_tensor *outputs, const sid2_tensor *gradients, int count)
{
    reverse r = {.g = g};
    for (int i = 0; i < count && !g->error.code; i++) {
        sid2_type y = sid2_graph_type(g, outputs[i]), dy = sid2_graph_type(g, gradients[i]);
        if (y.dtype != dy.dtype || !sid2_shape_equal(y.shape, dy.shape))
            return sid2_fail(&g->error, SID2_ERR_INTERNAL,
                             "the gradient supplied for tensor %d has another shape or type", i);
        const sid2_tensor_info *of = &g->tensors[owner(g, outputs[i])];
        if (of->producer < 0 && !of->external)
            return sid2_fail(&g->error, SID2_ERR_INTERNAL,
                             "tensor %d, for which a gradient is supplied, was fused away: export it before",
                             i);
        if (!wants(&r, outputs[i]))
            return sid2_fail(&g->error, SID2_ERR_INTERNAL,
                             "a gradient is supplied for tensor %d, which depends on nothing that is trained",
                             i);
        contribute(&r, outputs[i], gradients[i]);
    }
    return !g->error.code;
}

void sid2_graph_backward(sid2_graph *g, const sid2_tensor *outputs, const sid2_tensor *gradients, int count)
{
    static void (*const rules[SID2_OP_COUNT])(const reverse *) = {
#define OP(name, inputs, outputs, attributes, gradient, formula) grad_##gradient,
#include "op.def"
    };
    if (g->error.code) return;
    free(g->grad_of);
    g->grad_count = g->tensor_count;
    g->grad_of = malloc((size_t)g->tensor_count * sizeof *g->grad_of);
    if (!g->grad_of) {
        sid2_fail(&g->error, SID2_ERR_MEMORY, "out of memory building the graph");
        return;
    }
    for (int32_t t = 0; t < g->tensor_count; t++) g->grad_of[t] = SID2_NONE;
    g->segment = -1;
    int32_t last = g->node_count;
    if (!seed(g, outputs, gradients, count)) return;
    for (int32_t i = last - 1; i >= 0 && !g->error.code; i--) {
        reverse r = {.g = g, .node = g->nodes[i]};
        if (r.node.phase != SID2_FORWARD) continue;
        sid2_tensor y = r.node.out[0];
        if (sid2_graph_base(g, y) != y) continue; /* written into a part of an external */
        r.dy = g->grad_of[y];
        if (r.dy != SID2_NONE && g->tensors[y].requires_grad) rules[r.node.op](&r);
    }
    for (int32_t i = last; i < g->node_count; i++) g->nodes[i].phase = SID2_BACKWARD;
}

sid2_tensor sid2_graph_grad(sid2_graph *g, sid2_tensor tensor)
{
    if (tensor < 0 || tensor >= g->grad_count) return SID2_NONE;
    return sid2_reshape(g, g->grad_of[owner(g, tensor)], g->tensors[tensor].shape);
}
