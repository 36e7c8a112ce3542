/* VK_KHR_cooperative_matrix and VK_KHR_shader_bfloat16, whose declarations are younger than the oldest headers sid2
 * builds with. The values are those of the Vulkan registry; layouts as in the specification. */
#ifndef SID2_VK_COOPERATIVE_H
#define SID2_VK_COOPERATIVE_H

#include "context.h"

#define SID2_VK_COOPERATIVE_EXTENSION "VK_KHR_cooperative_matrix"
#define SID2_VK_COOPERATIVE_FEATURES  ((VkStructureType)1000506000)
#define SID2_VK_COOPERATIVE_SHAPE     ((VkStructureType)1000506001)
#define SID2_VK_COOPERATIVE_STAGES    ((VkStructureType)1000506002)
#define SID2_VK_BFLOAT16_EXTENSION    "VK_KHR_shader_bfloat16"
#define SID2_VK_BFLOAT16_FEATURES     ((VkStructureType)1000141000)

typedef struct sid2_vk_cooperative_features {
    VkStructureType sType;
    void *pNext;
    VkBool32 cooperativeMatrix, cooperativeMatrixRobustBufferAccess;
} sid2_vk_cooperative_features;

typedef struct sid2_vk_cooperative_stages {
    VkStructureType sType;
    void *pNext;
    VkShaderStageFlags stages;
} sid2_vk_cooperative_stages;

enum {
    SID2_VK_COOPERATIVE_F16 = 0,
    SID2_VK_COOPERATIVE_F32 = 1,
    SID2_VK_COOPERATIVE_BF16 = 1000141000,
    SID2_VK_COOPERATIVE_SUBGROUP = 3
};

typedef struct sid2_vk_bfloat16_features {
    VkStructureType sType;
    void *pNext;
    VkBool32 type, dot_product, cooperative_matrix;
} sid2_vk_bfloat16_features;

/* a[m, k] * b[k, n] + c[m, n] */
typedef struct sid2_vk_cooperative_shape {
    VkStructureType sType;
    void *pNext;
    uint32_t m, n, k;
    int32_t a, b, c, result; /* types of elements */
    VkBool32 saturates;
    int32_t scope;
} sid2_vk_cooperative_shape;

typedef VkResult(VKAPI_PTR *sid2_vk_ask_shapes)(VkPhysicalDevice, uint32_t *count,
                                                sid2_vk_cooperative_shape *shapes);

/* Fills the capability, and what it needs besides, with the best shape that sid2 can use. */
void sid2_vk_ask_cooperative(sid2_vk_gpu *gpu);

/* Multiplies small numbers with it and compares the bits; where they differ the capability goes, of both types or of
 * bf16. Once for each GPU. False when nothing could be found out: the device is out of memory, or lost. */
bool sid2_vk_check_cooperative(sid2_vk_device *device, sid2_error *err);

#endif
