/* Memory on a device: a buffer and what backs it. Buffers are few and large (an arena, flat parameters), so
 * each has an allocation of its own. */
#ifndef SID2_VK_BUFFER_H
#define SID2_VK_BUFFER_H

#include "context.h"

typedef enum sid2_vk_place {
    SID2_VK_ON_DEVICE,
    SID2_VK_ON_HOST, /* mapped, coherent, cached where possible: the way in and out */
} sid2_vk_place;

typedef struct sid2_vk_memory {
    VkBuffer buffer;
    VkDeviceMemory memory;
    size_t bytes;
    void *mapped; /* on the host */
} sid2_vk_memory;

/* `what` names the use in messages: "the arena of activations". Not initialised. */
bool sid2_vk_memory_create(sid2_vk_device *device, sid2_vk_place place, size_t bytes, const char *what,
                           sid2_vk_memory *memory, sid2_error *err);
/* Nothing submitted may use it any more. Does nothing with one that is all zero. */
void sid2_vk_memory_destroy(sid2_vk_device *device, sid2_vk_memory *memory);

#endif
