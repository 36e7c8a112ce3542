/* Specialisation constants folded into a module's code, for drivers that would only look them up: there a
 * loop over a constant is not unrolled, and an array of that many elements not kept in registers. */
#ifndef SID2_VK_FOLD_H
#define SID2_VK_FOLD_H

#include "base.h"

#include <volk.h>

/* A copy of the SPIR-V module in which every specialisation constant is a plain one, with the values that the
 * driver would have been given, and every operation on constants only its result. *bytes: of the module, then
 * of the copy. Free it with free(). NULL: no memory, or an operation that is not known here; then leave it to
 * the driver. */
uint32_t *sid2_vk_fold(const uint32_t *words, size_t *bytes, const VkSpecializationInfo *constants);

#endif
