/* Norms and their gradients. Statistics first, then one pass that applies them with FiLM and activation.
 *
 * Sums over a sample's rows are taken channel by channel, in parts that many invocations share, then over the
 * parts: neighbouring invocations read neighbouring channels, and the order is always the same. */
#include "lower_each.h"

/* A tensor as samples of rows of channels; a single row is one sample of one row, and where nothing tells
 * samples apart, all are one. */
typedef struct extent {
    int64_t samples, rows, channels, parts;
} extent;

static extent extent_of(const sid2_vk_lowering *lowering, const sid2_vk_tensor *x, bool by_sample)
{
    extent e = {1, sid2_vk_rows(x), sid2_vk_last(x), 1};
    if (x->shape.rank > 1 && by_sample) {
        e.samples = x->shape.dim[0];
        e.rows = sid2_vk_rows_per_sample(x);
    }
    e.parts = sid2_vk_parts(lowering, e.rows, e.samples * e.channels, 4,
                            32); /* sums: an eighth of the bytes in f32 */
    return e;
}

/* Sums by channel: P = channels, rows, parts, width of a group. */
static void emit_sums(sid2_vk_lowering *lowering, sid2_vk_dispatch *d, extent e, int64_t width, bool quads)
{
    quads = quads && e.channels % 4 == 0 && width % 4 == 0;
    const uint32_t numbers[] = {(uint32_t)e.channels, (uint32_t)e.rows, (uint32_t)e.parts, (uint32_t)width};
    for (int i = 0; i < 4; i++) d->push[i] = numbers[i];
    d->constant[0] = quads;
    /* Where few channels would leave a GPU's invocations idle, these take other parts. */
    int64_t across = quads ? e.channels / 4 : e.channels;
    uint32_t local = SID2_VK_EACH_LOCAL;
    while (!sid2_vk_lowering_caps(lowering)->software && local > 1 && local / 2 >= across) local /= 2;
    d->local[0] = local;
    d->local[1] = SID2_VK_EACH_LOCAL / local;
    d->groups[0] = sid2_vk_ceil_div(across, local);
    d->groups[1] = sid2_vk_ceil_div(e.parts, d->local[1]);
    d->groups[2] = (uint32_t)e.samples;
    d->work = (double)(e.samples * e.rows * e.channels);
    sid2_vk_emit(lowering, d);
}

static bool all_quads(const sid2_vk_tensor *tensors, int count)
{
    for (int i = 0; i < count; i++)
        if (tensors[i].memory && sid2_vk_has(&tensors[i]) && !sid2_vk_quads(&tensors[i])) return false;
    return true;
}

/* An invocation, or with subgroups a subgroup's worth of them, for every few elements of a row. */
static uint32_t row_local(const sid2_vk_lowering *lowering, int64_t channels)
{
    const sid2_vk_caps *caps = sid2_vk_lowering_caps(lowering);
    uint32_t local = caps->software ? caps->subgroup_size : 32;
    while (!caps->software && local < 256 && local < caps->max_invocations && local * 8 < channels)
        local *= 2;
    return local;
}

/* ---- Forward ---- */

static void apply(sid2_vk_lowering *lowering, const sid2_vk_call *call, int64_t width, bool by_row)
{
    const sid2_vk_tensor *x = &call->in[0];
    sid2_vk_dispatch d = {
        .shader = SID2_VK_norm_apply,
        .tensor = {*x, call->out[1], call->in[1], call->in[2], call->in[3], call->out[0]},
        .constant = {[1] = call->attr->act, [2] = by_row},
        .push = {
            [1] = (uint32_t)sid2_vk_per_sample(x), [2] = (uint32_t)sid2_vk_last(x), [3] = (uint32_t)width}};
    bool quads = sid2_vk_last(x) % 4 == 0 && width % 4 == 0;
    sid2_vk_emit_each(lowering, &d, sid2_vk_count(x), quads);
}

void sid2_vk_lower_group_norm(sid2_vk_lowering *lowering, const sid2_vk_call *call)
{
    const sid2_vk_tensor *x = &call->in[0];
    extent e = extent_of(lowering, x, true);
    int64_t width = e.channels / call->attr->groups;
    sid2_vk_tensor partial =
        sid2_vk_scratch(lowering, SID2_F32, sid2_shape_of(e.samples, e.parts, 2, e.channels));
    sid2_vk_dispatch sums = {.shader = SID2_VK_group_norm_sums, .tensor = {*x, partial}};
    emit_sums(lowering, &sums, e, width, sid2_vk_quads(x));
    sid2_vk_dispatch stats = {.shader = SID2_VK_group_norm_stats,
                              .tensor = {*x, partial, call->out[1]},
                              .push = {[1] = (uint32_t)e.channels,
                                       [2] = (uint32_t)e.rows,
                                       [3] = (uint32_t)e.parts,
                                       [4] = (uint32_t)width,
                                       [5] = sid2_vk_bits(call->attr->eps)}};
    stats.local[0] = row_local(lowering, e.parts * width);
    stats.groups[0] = (uint32_t)(e.samples * call->attr->groups);
    stats.work = (double)(e.samples * e.parts * e.channels);
    sid2_vk_emit(lowering, &stats);
    apply(lowering, call, width, false);
}

void sid2_vk_lower_row_norm(sid2_vk_lowering *lowering, const sid2_vk_call *call)
{
    const sid2_vk_tensor *x = &call->in[0];
    int64_t channels = sid2_vk_last(x), rows = sid2_vk_rows(x);
    sid2_vk_emit(lowering, &(sid2_vk_dispatch){.shader = SID2_VK_row_norm_stats,
                                               .tensor = {*x, call->out[1]},
                                               .local = {row_local(lowering, channels)},
                                               .groups = {(uint32_t)rows},
                                               .constant = {channels % 4 == 0 && sid2_vk_quads(x),
                                                            (uint32_t)call->attr->center},
                                               .push = {(uint32_t)channels, sid2_vk_bits(call->attr->eps)},
                                               .work = (double)(rows * channels)});
    apply(lowering, call, channels, true);
}

/* ---- Gradients ---- */

/* sums[N,2,C] of du and du n over each sample's rows, and from them dgamma, dbeta and dfilm. These come
 * before dx, which may overwrite dy. */
static sid2_vk_tensor parameter_gradients(sid2_vk_lowering *lowering, const sid2_vk_call *call, int64_t width,
                                          bool by_row)
{
    const sid2_vk_tensor *in = call->in, *out = call->out;
    extent e = extent_of(lowering, &in[1], !by_row || sid2_vk_has(&in[5]));
    sid2_vk_tensor partial =
        sid2_vk_scratch(lowering, SID2_F32, sid2_shape_of(e.samples, e.parts, 2, e.channels));
    sid2_vk_tensor sums = sid2_vk_scratch(lowering, SID2_F32, sid2_shape_of(e.samples, 2, e.channels));
    sid2_vk_dispatch d = {.shader = SID2_VK_norm_grad_sums,
                          .tensor = {in[0], in[1], in[2], in[3], in[4], in[5], partial},
                          .constant = {[1] = call->attr->act, [2] = by_row}};
    emit_sums(lowering, &d, e, width, all_quads(in, 2) && all_quads(in + 3, 3));
    int64_t left = sid2_vk_join_parts(lowering, &partial, e.samples, e.parts, 2 * e.channels);
    sid2_vk_dispatch parts = {.shader = SID2_VK_sum_middle,
                              .tensor = {partial, sums},
                              .push = {[1] = (uint32_t)left, [2] = (uint32_t)(2 * e.channels)}};
    sid2_vk_emit_each(lowering, &parts, e.samples * 2 * e.channels, false);
    sid2_vk_dispatch params = {.shader = SID2_VK_norm_grad_params,
                               .tensor = {sums, in[3], in[4], in[5], out[1], out[2], out[3]},
                               .push = {[1] = (uint32_t)e.samples}};
    if (sid2_vk_has(&out[1]) || sid2_vk_has(&out[2]) || sid2_vk_has(&out[3]))
        sid2_vk_emit_each(lowering, &params, e.channels, false);
    return sums;
}

void sid2_vk_lower_group_norm_grad(sid2_vk_lowering *lowering, const sid2_vk_call *call)
{
    const sid2_vk_tensor *in = call->in;
    extent e = extent_of(lowering, &in[1], true);
    int64_t groups = call->attr->groups, width = e.channels / groups;
    sid2_vk_tensor sums = parameter_gradients(lowering, call, width, false);
    sid2_vk_tensor means = sid2_vk_scratch(lowering, SID2_F32, sid2_shape_of(e.samples, groups, 2));
    sid2_vk_dispatch mean = {
        .shader = SID2_VK_group_norm_grad_means,
        .tensor = {sums, in[3], in[5], means},
        .push = {[1] = (uint32_t)e.channels, [2] = (uint32_t)e.rows, [3] = (uint32_t)width}};
    sid2_vk_emit_each(lowering, &mean, e.samples * groups, false);
    sid2_vk_dispatch d = {
        .shader = SID2_VK_group_norm_grad,
        .tensor = {in[0], in[1], in[2], in[3], in[4], in[5], means, in[6], call->out[0]},
        .constant = {[1] = call->attr->act},
        .push = {[1] = (uint32_t)(e.rows * e.channels), [2] = (uint32_t)e.channels, [3] = (uint32_t)width}};
    bool quads = all_quads(in, 2) && all_quads(in + 3, 4) && e.channels % 4 == 0 && width % 4 == 0;
    sid2_vk_emit_each(lowering, &d, sid2_vk_count(&in[1]), quads);
}

void sid2_vk_lower_row_norm_grad(sid2_vk_lowering *lowering, const sid2_vk_call *call)
{
    const sid2_vk_tensor *in = call->in;
    extent e = extent_of(lowering, &in[1], true);
    parameter_gradients(lowering, call, e.channels, true);
    bool quads = all_quads(in, 2) && all_quads(in + 3, 4) && all_quads(call->out, 1) && e.channels % 4 == 0;
    sid2_vk_emit(lowering, &(sid2_vk_dispatch){
                               .shader = SID2_VK_row_norm_grad,
                               .tensor = {in[0], in[1], in[2], in[3], in[4], in[5], in[6], call->out[0]},
                               .local = {row_local(lowering, e.channels)},
                               .groups = {(uint32_t)(e.samples * e.rows)},
                               .constant = {quads, call->attr->act, true, (uint32_t)call->attr->center},
                               .push = {(uint32_t)e.channels, (uint32_t)e.rows},
                               .work = (double)sid2_vk_count(&in[1])});
}
