/* Operators that touch each element once. */
#include "lower.h"

void sid2_vk_lower_scale(sid2_vk_lowering *lowering, const sid2_vk_call *call)
{
    int64_t count = sid2_vk_count(&call->out[0]);
    sid2_vk_emit(lowering, &(sid2_vk_dispatch){.shader = SID2_VK_scale,
                                               .tensor = {call->in[0], call->out[0]},
                                               .local = {64},
                                               .groups = {sid2_vk_ceil_div(count, 4 * 64)},
                                               .push = {(uint32_t)count, sid2_vk_bits(call->attr->scale)},
                                               .work = (double)count});
}
