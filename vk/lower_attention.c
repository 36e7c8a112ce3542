/* Attention, and the norm and rotation of its queries and keys. */
#include "lower_each.h"
#include "rotary.h"

#include <math.h>
#include <string.h>

typedef struct heads {
    int64_t samples, tokens, rows, count, width; /* rows: of all samples; width: elements of a head */
} heads;

/* Of qkv[N,..,3C]. */
static heads heads_of(const sid2_vk_tensor *qkv, int32_t count)
{
    int64_t samples = qkv->shape.dim[0], rows = sid2_vk_rows(qkv);
    return (heads){samples, rows / samples, rows, count, sid2_vk_last(qkv) / 3 / count};
}

/* ---- Norm and rotation ---- */

/* table[tokens, width / 2, 2]: the angles depend on the token alone, so they are computed once a call. */
static sid2_vk_tensor rope_table(sid2_vk_lowering *lowering, const sid2_attr *attr, heads h,
                                 sid2_rotary parts)
{
    sid2_vk_tensor table = sid2_vk_scratch(lowering, SID2_F32, sid2_shape_of(h.tokens, h.width / 2, 2));
    sid2_vk_dispatch d = {.shader = SID2_VK_rope_table,
                          .tensor = {table},
                          .push = {[1] = (uint32_t)(h.width / 2),
                                   [2] = (uint32_t)attr->grid[1],
                                   [3] = (uint32_t)attr->grid[2],
                                   [4] = (uint32_t)(parts.width[0] / 2),
                                   [5] = (uint32_t)(parts.width[1] / 2),
                                   [6] = sid2_vk_bits((float)log2((double)attr->theta))}};
    sid2_vk_emit_each(lowering, &d, h.tokens * h.width / 2, false);
    return table;
}

/* A group a head of a token: as many invocations as share the sums cheaply. */
static void emit_heads(sid2_vk_lowering *lowering, sid2_vk_dispatch *d, const sid2_attr *attr, heads h,
                       sid2_rotary parts, int64_t vectors)
{
    const sid2_vk_caps *caps = sid2_vk_lowering_caps(lowering);
    const uint32_t numbers[] = {(uint32_t)h.count,
                                (uint32_t)h.width,
                                (uint32_t)h.tokens,
                                (uint32_t)(parts.width[0] / 2),
                                (uint32_t)(parts.width[1] / 2),
                                sid2_vk_bits(attr->eps)};
    for (int i = 0; i < 6; i++) d->push[i] = numbers[i];
    d->constant[0] = (uint32_t)attr->center;
    d->local[0] = caps->software ? caps->subgroup_size : 32;
    d->groups[0] = (uint32_t)vectors;
    d->work = (double)(vectors * h.width);
    sid2_vk_emit(lowering, d);
}

void sid2_vk_lower_qk_norm_rope(sid2_vk_lowering *lowering, const sid2_vk_call *call)
{
    heads h = heads_of(&call->in[0], call->attr->heads);
    sid2_rotary parts = sid2_rotary_split(h.width, call->attr->grid);
    sid2_vk_tensor table = rope_table(lowering, call->attr, h, parts);
    sid2_vk_dispatch d = {.shader = SID2_VK_qk_norm_rope,
                          .tensor = {call->in[0], call->in[1], call->in[2], table, call->out[0]}};
    emit_heads(lowering, &d, call->attr, h, parts, h.rows * 2 * h.count);
}

/* y += x. */
static void accumulate(sid2_vk_lowering *lowering, const sid2_vk_tensor *x, const sid2_vk_tensor *y)
{
    sid2_vk_dispatch d = {
        .shader = SID2_VK_combine,
        .tensor = {[0] = *y, [1] = *x, [4] = *y},
        .push = {[1] = (uint32_t)sid2_vk_count(y), [2] = sid2_vk_bits(1), [3] = sid2_vk_bits(1)}};
    sid2_vk_emit_each(lowering, &d, sid2_vk_count(y), false);
}

void sid2_vk_lower_qk_norm_rope_grad(sid2_vk_lowering *lowering, const sid2_vk_call *call)
{
    const sid2_vk_tensor *in = call->in, *out = call->out;
    heads h = heads_of(&in[2], call->attr->heads);
    sid2_rotary parts = sid2_rotary_split(h.width, call->attr->grid);
    sid2_vk_tensor table = rope_table(lowering, call->attr, h, parts);
    sid2_vk_tensor stats = sid2_vk_scratch(lowering, SID2_F32, sid2_shape_of(h.rows, 2, h.count, 2));
    sid2_vk_dispatch d = {.shader = SID2_VK_qk_norm_rope_grad,
                          .tensor = {in[0], in[1], in[2], in[3], table, out[0], stats}};
    emit_heads(lowering, &d, call->attr, h, parts, h.rows * 3 * h.count);
    if (!sid2_vk_has(&out[1]) && !sid2_vk_has(&out[2])) return;

    /* A pair of elements for all heads is an invocation's. */
    int64_t pieces = sid2_vk_parts(lowering, h.rows, 2 * h.width, 2, 4);
    sid2_vk_tensor partial = sid2_vk_scratch(lowering, SID2_F32, sid2_shape_of(pieces, 2, 2, h.width));
    sid2_vk_tensor sums = sid2_vk_scratch(lowering, SID2_F32, sid2_shape_of(2, 2, h.width));
    sid2_vk_emit(lowering,
                 &(sid2_vk_dispatch){.shader = SID2_VK_qk_norm_grad_sums,
                                     .tensor = {in[0], in[2], stats, table, partial},
                                     .local = {32},
                                     .groups = {sid2_vk_ceil_div(h.width / 2, 32), 2, (uint32_t)pieces},
                                     .push = {(uint32_t)h.count, (uint32_t)h.width, (uint32_t)h.tokens,
                                              (uint32_t)(parts.width[0] / 2), (uint32_t)(parts.width[1] / 2),
                                              (uint32_t)h.rows, (uint32_t)pieces},
                                     .work = (double)(h.rows * h.count * h.width)});
    int64_t left = sid2_vk_join_parts(lowering, &partial, 1, pieces, 4 * h.width);
    sid2_vk_dispatch middle = {.shader = SID2_VK_sum_middle,
                               .tensor = {partial, sums},
                               .push = {[1] = (uint32_t)left, [2] = (uint32_t)(4 * h.width)}};
    sid2_vk_emit_each(lowering, &middle, 4 * h.width, false);
    sums.shape = sid2_shape_of(2, h.width);
    if (sid2_vk_has(&out[1])) accumulate(lowering, &sums, &out[1]);
    sums.offset += (size_t)(2 * h.width) * sizeof(float);
    if (sid2_vk_has(&out[2])) accumulate(lowering, &sums, &out[2]);
}

/* ---- Attention ---- */

/* Sizes of shaders/attention.glsl, attention_tiles.glsl and attention_matrices.glsl. */
enum { TILE_ROWS = 32, TILE_LOCAL = 64, MOST_UNROLLED = 32, SIDE = 32, MOST_LINES = 4 };

/* The three methods: by rows, in tiles, with cooperative matrices. */
typedef enum method { BY_ROWS, IN_TILES, WITH_MATRICES, METHODS } method;

/* Whether a CPU driver can read all of the shader's tensors as texels. */
static bool few_texels(const sid2_vk_caps *caps, const sid2_vk_dispatch *d)
{
    bool few = caps->texels;
    for (int i = 0; i < 3; i++)
        few = few && (double)sid2_vk_count(&d->tensor[i]) / 4 + 256 < (double)caps->max_texels;
    return few;
}

/* Subgroups of a group, each with the rows of a matrix. */
static uint32_t lines_of(const sid2_vk_caps *caps, heads h)
{
    uint32_t lines = sid2_vk_ceil_div(h.tokens, caps->cooperative.m);
    return lines < MOST_LINES ? lines : MOST_LINES;
}

/* Longest heads whose rows a subgroup holds in registers, forward and for gradients. */
enum { FORWARD_WIDTH = 128, GRADIENT_WIDTH = 64 };

static method method_of(const sid2_vk_lowering *lowering, heads h, const sid2_vk_tensor *a,
                        const sid2_vk_tensor *b, int64_t widest)
{
    const sid2_vk_caps *caps = sid2_vk_lowering_caps(lowering);
    if (caps->software) return BY_ROWS;
    if (!sid2_vk_matrices(caps, a, b) || h.width > widest) return IN_TILES;
    uint32_t rows = lines_of(caps, h) * caps->cooperative.m, staged = rows > 2 * SIDE ? rows : 2 * SIDE;
    uint32_t quads = (uint32_t)(h.width + SIDE - 1) / SIDE * (SIDE / 4) + 2;
    uint32_t bytes = staged * quads * 8 + rows * (SIDE * 4 + (SIDE / 4 + 2) * 8 + 4);
    return bytes <= caps->shared_bytes ? WITH_MATRICES : IN_TILES;
}

/* The numbers that all attention shaders take; groups by rows of each head. */
static void emit_rows(sid2_vk_lowering *lowering, sid2_vk_dispatch *d, heads h, method how, int products)
{
    const sid2_vk_caps *caps = sid2_vk_lowering_caps(lowering);
    bool quads = h.width % 4 == 0;
    for (int i = 0; i < SID2_VK_BINDINGS; i++)
        if (d->tensor[i].memory && sid2_vk_has(&d->tensor[i])) quads = quads && sid2_vk_quads(&d->tensor[i]);
    uint32_t pieces = sid2_vk_ceil_div(h.width, 4), room = 8;
    bool unroll = how != BY_ROWS || (quads && pieces <= MOST_UNROLLED && few_texels(caps, d));
    while (room < pieces) room *= 2; /* few different pipelines, where the pieces are counted at run time */
    uint32_t lines = how == WITH_MATRICES ? lines_of(caps, h) : 0, all = lines * caps->cooperative.subgroup;
    const uint32_t constants[] = {quads,
                                  unroll ? pieces : room,
                                  unroll,
                                  lines,
                                  lines ? caps->cooperative.m : 0,
                                  lines ? caps->cooperative.n : 0,
                                  lines ? caps->cooperative.k : 0,
                                  all};
    const uint32_t rows[METHODS] = {caps->subgroup_size, TILE_ROWS, lines * caps->cooperative.m};
    const uint32_t local[METHODS] = {caps->subgroup_size, TILE_LOCAL, all};
    const uint32_t numbers[] = {(uint32_t)h.tokens, (uint32_t)h.count, (uint32_t)h.width,
                                sid2_vk_bits(1 / sqrtf((float)h.width)), pieces};
    memcpy(d->constant, constants, sizeof constants);
    memcpy(d->push, numbers, sizeof numbers);
    d->local[0] = local[how];
    d->groups[0] = sid2_vk_ceil_div(h.tokens, rows[how]);
    d->groups[1] = (uint32_t)h.count;
    d->groups[2] = (uint32_t)h.samples;
    d->work = (double)products * (double)(h.rows * h.tokens * h.count * h.width);
    sid2_vk_emit(lowering, d);
}

void sid2_vk_lower_attention(sid2_vk_lowering *lowering, const sid2_vk_call *call)
{
    static const sid2_vk_shader shaders[METHODS] = {SID2_VK_attention, SID2_VK_attention_tiled,
                                                    SID2_VK_attention_coop};
    heads h = heads_of(&call->in[1], call->attr->heads);
    method how = method_of(lowering, h, &call->in[0], &call->in[1], FORWARD_WIDTH);
    sid2_vk_dispatch d = {.shader = shaders[how],
                          .tensor = {call->in[0], call->in[1], call->out[0], call->out[1]}};
    emit_rows(lowering, &d, h, how, how == WITH_MATRICES ? 3 : 2);
}

void sid2_vk_lower_attention_grad(sid2_vk_lowering *lowering, const sid2_vk_call *call)
{
    static const sid2_vk_shader for_q[METHODS] = {SID2_VK_attention_grad_q, SID2_VK_attention_tiled_grad_q,
                                                  SID2_VK_attention_coop_grad_q};
    static const sid2_vk_shader for_kv[METHODS] = {SID2_VK_attention_grad_kv, SID2_VK_attention_tiled_grad_kv,
                                                   SID2_VK_attention_coop_grad_kv};
    const sid2_vk_tensor *in = call->in, *out = call->out;
    heads h = heads_of(&in[2], call->attr->heads);
    method how = method_of(lowering, h, &in[1], &in[2], in[0].dtype == in[1].dtype ? GRADIENT_WIDTH : 0);
    sid2_vk_tensor along = sid2_vk_scratch(lowering, SID2_F32, sid2_shape_of(h.samples, h.count, h.tokens));
    sid2_vk_dispatch q = {.shader = for_q[how], .tensor = {in[0], in[1], in[2], in[3], in[4], out[0], along}};
    emit_rows(lowering, &q, h, how, 3);
    sid2_vk_dispatch kv = {.shader = for_kv[how],
                           .tensor = {in[0], in[1], in[2], in[4], along, out[0], out[1]}};
    emit_rows(lowering, &kv, h, how, 4);
}
