/* Lowerings that go through a tensor element by element: quads.glsl is the other side. */
#ifndef SID2_VK_LOWER_EACH_H
#define SID2_VK_LOWER_EACH_H

#include "lower.h"

enum { SID2_VK_EACH_LOCAL = 64 };

/* Emits `d` over `count` elements, which becomes P(0): an invocation for each, or for each four where `quads`
 * says that no four of them are torn apart and all tensors of more than one element lie well. Other pushes
 * and constants from 17 on are the caller's. */
void sid2_vk_emit_each(sid2_vk_lowering *lowering, sid2_vk_dispatch *d, int64_t count, bool quads);

/* Elements of one sample; of a single row, all. */
int64_t sid2_vk_per_sample(const sid2_vk_tensor *t);

#endif
