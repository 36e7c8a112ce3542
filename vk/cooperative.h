/* VK_KHR_cooperative_matrix, whose declarations are younger than the oldest headers sid2 builds with. The
 * values are those of the Vulkan registry; layouts as in the specification. */
#ifndef SID2_VK_COOPERATIVE_H
#define SID2_VK_COOPERATIVE_H

#include "gpu.h"

#define SID2_VK_COOPERATIVE_EXTENSION  "VK_KHR_cooperative_matrix"
#define SID2_VK_COOPERATIVE_FEATURES   ((VkStructureType)1000506000)
#define SID2_VK_COOPERATIVE_PROPERTIES ((VkStructureType)1000506001)

typedef struct sid2_vk_cooperative_features {
    VkStructureType sType;
    void *pNext;
    VkBool32 cooperativeMatrix, cooperativeMatrixRobustBufferAccess;
} sid2_vk_cooperative_features;

#endif
