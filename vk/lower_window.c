/* Windows over frames, rows and columns, and tensors put side by side. */
#include "lower_each.h"

/* Extents of x, of y and of the window, steps and margin: fifteen numbers from P(first) on. */
static void tell_windows(const sid2_vk_call *call, const int64_t window[3], uint32_t *push)
{
    for (int i = 0; i < 3; i++) {
        push[i] = (uint32_t)call->in[0].shape.dim[i + 1];
        push[3 + i] = (uint32_t)call->out[0].shape.dim[i + 1];
        push[6 + i] = (uint32_t)window[i];
        push[9 + i] = (uint32_t)call->attr->stride[i];
        push[12 + i] = (uint32_t)call->attr->before[i];
    }
}

void sid2_vk_lower_conv3d(sid2_vk_lowering *lowering, const sid2_vk_call *call)
{
    enum { LOCAL = 64, ROWS = 4 }; /* the shader's */
    const sid2_vk_tensor *x = &call->in[0], *w = &call->in[1], *y = &call->out[0];
    const int64_t outs = w->shape.dim[0], ins = sid2_vk_last(w), each = sid2_vk_count(w) / outs,
                  taps = each / ins;
    const int64_t quads = taps * ((ins + 3) / 4) * outs;
    sid2_vk_tensor packed = sid2_vk_scratch(lowering, w->dtype, sid2_shape_of(quads, 4));
    sid2_vk_emit(lowering,
                 &(sid2_vk_dispatch){.shader = SID2_VK_product_weights,
                                     .tensor = {*w, packed},
                                     .local = {LOCAL},
                                     .groups = {sid2_vk_ceil_div(quads, LOCAL)},
                                     .push = {(uint32_t)quads, (uint32_t)outs, (uint32_t)ins, (uint32_t)taps,
                                              (uint32_t)each, (uint32_t)ins, 1, false},
                                     .work = 4.0 * (double)quads});
    sid2_vk_dispatch d = {.shader = SID2_VK_conv3d,
                          .tensor = {*x, packed, call->in[2], *y},
                          .local = {LOCAL},
                          .groups = {sid2_vk_ceil_div(outs, LOCAL), sid2_vk_ceil_div(sid2_vk_rows(y), ROWS)},
                          .constant = {ins % 4 == 0 && sid2_vk_quads(x)},
                          .push = {(uint32_t)sid2_vk_rows(y), (uint32_t)outs,
                                   (uint32_t)ins, [18] = (uint32_t)call->attr->rectify},
                          .work = (double)sid2_vk_count(y) * (double)each};
    tell_windows(call, w->shape.dim + 1, d.push + 3);
    sid2_vk_emit(lowering, &d);
}

void sid2_vk_lower_pool3d(sid2_vk_lowering *lowering, const sid2_vk_call *call)
{
    const sid2_vk_tensor *y = &call->out[0];
    const int64_t window[] = {call->attr->window[0], call->attr->window[1], call->attr->window[2]};
    sid2_vk_dispatch d = {.shader = SID2_VK_pool3d,
                          .tensor = {call->in[0], *y},
                          .push = {[1] = (uint32_t)sid2_vk_last(y), [17] = (uint32_t)call->attr->mean}};
    tell_windows(call, window, d.push + 2);
    sid2_vk_emit_each(lowering, &d, sid2_vk_count(y), sid2_vk_last(y) % 4 == 0);
}

void sid2_vk_lower_concat(sid2_vk_lowering *lowering, const sid2_vk_call *call)
{
    const sid2_vk_tensor *y = &call->out[0];
    int64_t place = 0;
    for (int i = 0; i < 6; i++) {
        const sid2_vk_tensor *x = &call->in[i];
        if (!sid2_vk_has(x)) continue;
        sid2_vk_dispatch d = {
            .shader = SID2_VK_concat,
            .tensor = {*x, *y},
            .push = {
                [1] = (uint32_t)sid2_vk_last(x), [2] = (uint32_t)sid2_vk_last(y), [3] = (uint32_t)place}};
        sid2_vk_emit_each(lowering, &d, sid2_vk_count(x),
                          sid2_vk_last(x) % 4 == 0 && sid2_vk_last(y) % 4 == 0 && place % 4 == 0);
        place += sid2_vk_last(x);
    }
}
