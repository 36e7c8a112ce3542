/* What is made of weights alone, their packed form, and stays from run to run: made anew in the first run and after somebody
 * wrote to them. Programs that make the same of the same weights, a sampler's with and without guidance, share it. */
#ifndef SID2_VK_KEPT_H
#define SID2_VK_KEPT_H

#include "lowering.h"

typedef struct sid2_vk_kept sid2_vk_kept;

/* What dispatches make of externals (sid2_vk_derive), in `bytes` of memory: another program's, if that has the same. */
sid2_vk_kept *sid2_vk_kept_open(sid2_vk_device *device, const sid2_vk_record *records, size_t count,
                                size_t bytes, sid2_error *err);
void sid2_vk_kept_close(sid2_vk_device *device,
                        sid2_vk_kept *kept); /* nothing submitted uses it; NULL is fine */
sid2_vk_memory sid2_vk_kept_memory(const sid2_vk_kept *kept);
bool sid2_vk_kept_is_shared(const sid2_vk_kept *kept);
/* Whether the dispatches must run; and that they were submitted. */
bool sid2_vk_kept_is_stale(const sid2_vk_kept *kept);
void sid2_vk_kept_renewed(sid2_vk_kept *kept);

#endif
