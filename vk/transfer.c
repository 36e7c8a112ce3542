#include "transfer.h"

#include <stdlib.h>
#include <string.h>

enum { SLOTS = 4, SLOT_BYTES = 4 << 20, MOST_RESULTS = 64 };
enum { COMPUTE = VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT, TRANSFER = VK_PIPELINE_STAGE_TRANSFER_BIT };

/* A piece of a slot that goes to the host once the slot's commands are done. */
typedef struct handout {
    void *to;
    size_t at, bytes;
} handout;

typedef struct slot {
    VkCommandBuffer commands;
    sid2_vk_memory memory; /* created when first used */
    size_t used;
    enum { IDLE, OPEN, ENDED } state; /* nothing in it; recording; recorded, to be submitted */
    uint64_t serial;                  /* of its last submission */
    handout results[MOST_RESULTS];
    int result_count;
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
        if (s->result_count) sid2_vk_barrier(s->commands, TRANSFER, VK_PIPELINE_STAGE_HOST_BIT);
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

/* Waits for a slot and hands its results out. */
static bool finish(sid2_vk_device *device, slot *s, sid2_error *err)
{
    if (!sid2_vk_wait(device, s->serial, "a transfer", err)) return false;
    for (int i = 0; i < s->result_count; i++)
        memcpy(s->results[i].to, (char *)s->memory.mapped + s->results[i].at, s->results[i].bytes);
    s->result_count = 0;
    return true;
}

/* The slot that is recording, with room for at least one byte. */
static slot *open_slot(sid2_vk_device *device, sid2_error *err)
{
    sid2_vk_transfer *t = device->transfer;
    slot *s = &t->slots[t->current];
    if (s->state == ENDED || s->used == SLOT_BYTES || s->result_count == MOST_RESULTS) {
        if (!sid2_vk_flush(device, err)) return NULL;
        s = &t->slots[t->current];
    }
    if (s->state == OPEN) return s;
    if (!finish(device, s, err)) return NULL;
    if (!s->memory.buffer &&
        !sid2_vk_memory_create(device, SID2_VK_ON_HOST, SLOT_BYTES, "memory for transfers", &s->memory, err))
        return NULL;
    if (!sid2_vk_begin(device, s->commands, true, err)) return NULL;
    s->state = OPEN;
    s->used = 0;
    sid2_vk_barrier(s->commands, COMPUTE | TRANSFER, TRANSFER);
    return s;
}

/* Room in a slot for a piece of a transfer. */
typedef struct piece {
    slot *slot;
    size_t at, bytes;
} piece;

static bool take(sid2_vk_device *device, size_t wanted, piece *p, sid2_error *err)
{
    slot *s = open_slot(device, err);
    if (!s) return false;
    if (s->used) sid2_vk_barrier(s->commands, TRANSFER, TRANSFER); /* it may touch what the last one wrote */
    *p = (piece){s, s->used, wanted < SLOT_BYTES - s->used ? wanted : SLOT_BYTES - s->used};
    s->used += (p->bytes + 15) & ~(size_t)15; /* SLOT_BYTES is a multiple of this */
    return true;
}

bool sid2_vk_upload(sid2_vk_device *device, const sid2_vk_memory *to, size_t offset, const void *from,
                    size_t bytes, sid2_error *err)
{
    piece p;
    for (size_t done = 0; done < bytes; done += p.bytes) {
        if (!take(device, bytes - done, &p, err)) return false;
        memcpy((char *)p.slot->memory.mapped + p.at, (const char *)from + done, p.bytes);
        vkCmdCopyBuffer(p.slot->commands, p.slot->memory.buffer, to->buffer, 1,
                        &(VkBufferCopy){.srcOffset = p.at, .dstOffset = offset + done, .size = p.bytes});
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

/* After a failure: who asked may not be there any more. */
static bool forget_results(sid2_vk_transfer *t)
{
    for (int i = 0; i < SLOTS; i++) t->slots[i].result_count = 0;
    return false;
}

bool sid2_vk_download_later(sid2_vk_device *device, const sid2_vk_memory *from, size_t offset, void *to,
                            size_t bytes, sid2_error *err)
{
    piece p;
    for (size_t done = 0; done < bytes; done += p.bytes) {
        if (!take(device, bytes - done, &p, err)) return forget_results(device->transfer);
        vkCmdCopyBuffer(p.slot->commands, from->buffer, p.slot->memory.buffer, 1,
                        &(VkBufferCopy){.srcOffset = offset + done, .dstOffset = p.at, .size = p.bytes});
        p.slot->results[p.slot->result_count++] = (handout){(char *)to + done, p.at, p.bytes};
    }
    return sid2_vk_flush(device, err) || forget_results(device->transfer);
}

bool sid2_vk_download(sid2_vk_device *device, const sid2_vk_memory *from, size_t offset, void *to,
                      size_t bytes, sid2_error *err)
{
    if (!sid2_vk_download_later(device, from, offset, to, bytes, err)) return false;
    sid2_vk_transfer *t = device->transfer;
    for (int i = 0; i < SLOTS; i++) /* the oldest first */
        if (!finish(device, &t->slots[(t->current + i) % SLOTS], err)) return forget_results(t);
    return true;
}
