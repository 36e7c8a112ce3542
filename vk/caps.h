/* What a Vulkan device can do, probed when it is opened. Nothing is assumed beyond Vulkan 1.1 with compute. */
#ifndef SID2_VK_CAPS_H
#define SID2_VK_CAPS_H

#include "base.h"

typedef struct sid2_vk_caps {
    /* Limits. */
    uint32_t max_invocations, max_local[3], max_groups[3];
    uint32_t shared_bytes;
    size_t max_range;        /* bytes that one binding can span */
    size_t offset_alignment; /* of bindings, bytes */
    uint32_t max_bindings;   /* of one shader */
    uint32_t subgroup_size;  /* smallest that may occur */
    uint32_t max_texels;     /* of one texel buffer */
    /* Features. */
    bool storage16;           /* 16-bit elements in buffers: bf16 and f16 tensors */
    bool storage8;            /* 8-bit elements in buffers */
    bool float16;             /* f16 arithmetic */
    bool subgroup_arithmetic; /* subgroupAdd and the like, in compute, full subgroups */
    struct {
        uint32_t m, n, k;  /* 0: none usable. f16 x f16 -> f32 */
        bool bf16;         /* bf16 x bf16 -> f32, too, in the same shape */
        uint32_t subgroup; /* invocations that hold a matrix together */
    } cooperative;
    /* Character. */
    bool software; /* a CPU driver: shared memory only costs there */
    bool texels;   /* reads through texel buffers cost less than through storage buffers */
} sid2_vk_caps;

#endif
