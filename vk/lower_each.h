/* Lowerings that go through a tensor element by element: quads.glsl is the other side. */
#ifndef SID2_VK_LOWER_EACH_H
#define SID2_VK_LOWER_EACH_H

#include "lower.h"

enum { SID2_VK_EACH_LOCAL = 64 };

/* Emits `d` over `count` elements, which becomes P(0): an invocation for each, or for each four where `quads`
 * says that no four of them are torn apart and all tensors of more than one element lie well. Other pushes
 * and constants from 17 on are the caller's. */
void sid2_vk_emit_each(sid2_vk_lowering *lowering, sid2_vk_dispatch *d, int64_t count, bool quads);

/* Sums in parts: how many parts of `rows` rows keep the device busy, where an invocation sums `each` of `columns` numbers of a
 * row. 64 Ki invocations on a GPU; parts long enough, of `shortest` rows there, for their sums to weigh little. More than 32
 * are a multiple of 32, for sid2_vk_join_parts. */
int64_t sid2_vk_parts(const sid2_vk_lowering *lowering, int64_t rows, int64_t columns, int64_t each,
                      int64_t shortest);
/* Of x[outer,parts,inner] the sums over neighbouring parts, 32 of them, where few invocations would walk over many parts; `x`
 * is what is left then. Returns how many parts are left to be summed. */
int64_t sid2_vk_join_parts(sid2_vk_lowering *lowering, sid2_vk_tensor *x, int64_t outer, int64_t parts,
                           int64_t inner);

/* Elements of one sample; of a single row, all. */
int64_t sid2_vk_per_sample(const sid2_vk_tensor *t);

#endif
