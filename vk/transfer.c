#include "transfer.h"

#include <stdlib.h>
#include <string.h>

enum { SLOTS = 4, SLOT_BYTES = 4 << 20 };
enum { COMPUTE = VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT, TRANSFER = VK_PIPELINE_STAGE_TRANSFER_BIT };

typedef struct slot {
    VkCommandBuffer commands;
    sid2_vk_memory memory; /* created when first used */
    size_t used;
    enum { IDLE, OPEN, ENDED } state; /* nothing in it; recording; recorded, to be submitted */
    uint64_t serial;                  /* of its last submission */
} slot;

struct sid2_vk_transfer {
    VkCommandPool pool;
    slot slots[SLOTS];
    int current;
};

sid2_vk_transfer *sid2_vk_transfer_create(sid2_vk_device *device, sid2_error *err)
{
    sid2_vk_transfer *t = calloc(1, sizeof *t);
    if (!t) return sid2_fail(err, SID2_ERR_MEMORY, "%s: out of memory", device->id), NULL;
    VkCommandBuffer commands[SLOTS];
    VkResult result = vkCreateCommandPool(
        device->handle,
        &(VkCommandPoolCreateInfo){.sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO,
                                   .flags = VK_COMMAND_POOL_CREATE_RESET_COMMAND_BUFFER_BIT |
                                            VK_COMMAND_POOL_CREATE_TRANSIENT_BIT,
                                   .queueFamilyIndex = device->gpu->family},
        NULL, &t->pool);
    if (result != VK_SUCCESS) t->pool = VK_NULL_HANDLE;
    if (result == VK_SUCCESS)
        result = vkAllocateCommandBuffers(
            device->handle,
            &(VkCommandBufferAllocateInfo){.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
                                           .commandPool = t->pool,
                                           .commandBufferCount = SLOTS},
            commands);
    if (sid2_vk_ok(device, result, "preparing transfers", err)) {
        for (int i = 0; i < SLOTS; i++) t->slots[i].commands = commands[i];
        return t;
    }
    sid2_vk_transfer_destroy(device, t);
    return NULL;
}

void sid2_vk_transfer_destroy(sid2_vk_device *device, sid2_vk_transfer *t)
{
    if (!t) return;
    vkDestroyCommandPool(device->handle, t->pool, NULL);
    for (int i = 0; i < SLOTS; i++) sid2_vk_memory_destroy(device, &t->slots[i].memory);
    free(t);
}

bool sid2_vk_flush(sid2_vk_device *device, sid2_error *err)
{
    sid2_vk_transfer *t = device->transfer;
    slot *s = &t->slots[t->current];
    if (s->state == OPEN) {
        sid2_vk_barrier(s->commands, TRANSFER, COMPUTE | TRANSFER);
        s->state = IDLE; /* what was recorded is gone where this fails */
        if (!sid2_vk_ok(device, vkEndCommandBuffer(s->commands), "recording a transfer", err)) return false;
        s->state = ENDED;
    }
    if (s->state == IDLE) return true;
    if (!sid2_vk_submit(device, s->commands, "a transfer", &s->serial, err))
        return false; /* may be tried again */
    s->state = IDLE;
    t->current = (t->current + 1) % SLOTS;
    return true;
}

/* The slot that is recording, with room for at least one byte. */
static slot *open_slot(sid2_vk_device *device, sid2_error *err)
{
    sid2_vk_transfer *t = device->transfer;
    slot *s = &t->slots[t->current];
    if (s->state == ENDED || s->used == SLOT_BYTES) {
        if (!sid2_vk_flush(device, err)) return NULL;
        s = &t->slots[t->current];
    }
    if (s->state == OPEN) return s;
    if (!sid2_vk_wait(device, s->serial, "a transfer", err)) return NULL;
    if (!s->memory.buffer &&
        !sid2_vk_memory_create(device, SID2_VK_ON_HOST, SLOT_BYTES, "memory for transfers", &s->memory, err))
        return NULL;
    if (!sid2_vk_begin(device, s->commands, true, err)) return NULL;
    s->state = OPEN;
    s->used = 0;
    sid2_vk_barrier(s->commands, COMPUTE | TRANSFER, TRANSFER);
    return s;
}

bool sid2_vk_upload(sid2_vk_device *device, const sid2_vk_memory *to, size_t offset, const void *from,
                    size_t bytes, sid2_error *err)
{
    for (size_t done = 0; done < bytes;) {
        slot *s = open_slot(device, err);
        if (!s) return false;
        size_t piece = bytes - done < SLOT_BYTES - s->used ? bytes - done : SLOT_BYTES - s->used;
        memcpy((char *)s->memory.mapped + s->used, (const char *)from + done, piece);
        if (s->used)
            sid2_vk_barrier(s->commands, TRANSFER, TRANSFER); /* it may write where the last one did */
        vkCmdCopyBuffer(s->commands, s->memory.buffer, to->buffer, 1,
                        &(VkBufferCopy){.srcOffset = s->used, .dstOffset = offset + done, .size = piece});
        s->used += (piece + 15) & ~(size_t)15; /* SLOT_BYTES is a multiple of this */
        done += piece;
    }
    return true;
}

bool sid2_vk_zero(sid2_vk_device *device, const sid2_vk_memory *memory, sid2_error *err)
{
    slot *s = open_slot(device, err);
    if (!s) return false;
    vkCmdFillBuffer(s->commands, memory->buffer, 0, memory->bytes, 0);
    sid2_vk_barrier(s->commands, TRANSFER, TRANSFER);
    return true;
}

bool sid2_vk_download(sid2_vk_device *device, const sid2_vk_memory *from, size_t offset, void *to,
                      size_t bytes, sid2_error *err)
{
    for (size_t done = 0, piece; done < bytes; done += piece) {
        if (!sid2_vk_flush(device, err)) return false;
        slot *s = open_slot(device, err);
        if (!s) return false;
        piece = bytes - done < SLOT_BYTES ? bytes - done : SLOT_BYTES;
        vkCmdCopyBuffer(s->commands, from->buffer, s->memory.buffer, 1,
                        &(VkBufferCopy){.srcOffset = offset + done, .size = piece});
        sid2_vk_barrier(s->commands, TRANSFER, VK_PIPELINE_STAGE_HOST_BIT);
        if (!sid2_vk_flush(device, err) || !sid2_vk_wait(device, s->serial, "reading results", err))
            return false;
        memcpy((char *)to + done, s->memory.mapped, piece);
    }
    return true;
}
