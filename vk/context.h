/* An open device: one queue, what was submitted to it, and the means that everything on it shares.
 *
 * All work goes to one queue in order, so a copy needs no semaphore to follow a program, only a barrier. Each
 * submission gets a serial number and a fence from a small ring; a later one complete means all before it
 * are. The ring also bounds how far the host can run ahead. */
#ifndef SID2_VK_CONTEXT_H
#define SID2_VK_CONTEXT_H

#include "gpu.h"
#include "tiles.h"

enum { SID2_VK_IN_FLIGHT = 16 };

typedef struct sid2_vk_device {
    const sid2_vk_gpu *gpu;
    const sid2_vk_caps *caps;
    const sid2_vk_tiles *tiles;
    char id[32]; /* "vulkan:0" */
    VkDevice handle;
    VkQueue queue;
    bool lost;                        /* nothing works any more; close it and open it again */
    VkFence fence[SID2_VK_IN_FLIGHT]; /* of serial n: n % SID2_VK_IN_FLIGHT */
    uint64_t submitted, completed;    /* serials; the first is 1 */
    struct sid2_vk_transfer *transfer;
    struct sid2_vk_pipelines *pipelines;
    struct sid2_vk_kept *kept;       /* by programs: kept.h */
    struct sid2_vk_reports *reports; /* of a device that compiles only; else NULL */
} sid2_vk_device;

/* tiles: the name of a row in tiles.c; NULL: what was kept for the device, or else its class's first. */
sid2_vk_device *sid2_vk_device_open(int index, const char *tiles, sid2_error *err);
/* One that compiles only: no queue is used, nothing is checked, no cache read or written. */
sid2_vk_device *sid2_vk_compiler_open(int index, const char *tiles, sid2_error *err);
void sid2_vk_device_close(sid2_vk_device *device);

/* True when `result` is success; else fills `err` with one line: device, what it was doing, the cause. Notes
 * that the device is lost. */
bool sid2_vk_ok(sid2_vk_device *device, VkResult result, const char *doing, sid2_error *err);

/* Submits a finished command buffer; where it fails nothing was submitted and it may be tried again. */
bool sid2_vk_submit(sid2_vk_device *device, VkCommandBuffer commands, const char *doing, uint64_t *serial,
                    sid2_error *err);
/* Waits until a submission (and so all before it) is complete. */
bool sid2_vk_wait(sid2_vk_device *device, uint64_t serial, const char *doing, sid2_error *err);
/* Waits for everything, before something in use is destroyed; failures leave nothing to be done. */
void sid2_vk_idle(sid2_vk_device *device);

/* Makes all earlier writes of `from` (compute or transfer, or both) visible to later work of `to`. */
void sid2_vk_barrier(VkCommandBuffer commands, VkPipelineStageFlags from, VkPipelineStageFlags to);
bool sid2_vk_begin(sid2_vk_device *device, VkCommandBuffer commands, bool once, sid2_error *err);

#endif
