/* Between host and device memory.
 *
 * A ring of slots, each a piece of mapped memory and a command buffer. Uploads are copied into the open slot
 * at once, so the caller's memory is free again, and their copies on the device are recorded; the slot is
 * submitted when it is full or when a program or download must see it. So uploads for the next step travel
 * while this one computes, and a step's many small ones cost one submission. Downloads go
 * through the same slots; only the plain one waits. */
#ifndef SID2_VK_TRANSFER_H
#define SID2_VK_TRANSFER_H

#include "buffer.h"

typedef struct sid2_vk_transfer sid2_vk_transfer;

sid2_vk_transfer *sid2_vk_transfer_create(sid2_vk_device *device, sid2_error *err);
void sid2_vk_transfer_destroy(sid2_vk_device *device, sid2_vk_transfer *transfer); /* the device is idle */

bool sid2_vk_upload(sid2_vk_device *device, const sid2_vk_memory *to, size_t offset, const void *from,
                    size_t bytes, sid2_error *err);
bool sid2_vk_download(sid2_vk_device *device, const sid2_vk_memory *from, size_t offset, void *to,
                      size_t bytes, sid2_error *err);
/* The bytes as of now, but `to` is filled by the next download. */
bool sid2_vk_download_later(sid2_vk_device *device, const sid2_vk_memory *from, size_t offset, void *to,
                            size_t bytes, sid2_error *err);
bool sid2_vk_zero(sid2_vk_device *device, const sid2_vk_memory *memory, sid2_error *err);
/* Submits what uploads have recorded, if anything. */
bool sid2_vk_flush(sid2_vk_device *device, sid2_error *err);

#endif
