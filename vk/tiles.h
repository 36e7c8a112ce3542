/* Block sizes of matrix products by class of device. Shaders hold none: they get them as specialisation
 * constants, so that a device's best is a row here, and which row that is `sid2 tune` can find out. */
#ifndef SID2_VK_TILES_H
#define SID2_VK_TILES_H

#include "caps.h"

enum { SID2_VK_TILE_NAME = 32 };

typedef struct sid2_vk_tiles {
    const char *name;
    bool shared;            /* through shared memory; else each invocation on its own, in registers */
    uint32_t lanes, lines;  /* invocations of a group along the columns, and along the rows */
    uint32_t rows, columns; /* of an invocation */
    uint32_t outs, ins;     /* of an invocation in a weight gradient: quads of channels */
    uint32_t depth;         /* shared: quads of channels, or twice as many rows, staged at once */
    uint32_t groups;        /* that keep the device busy: sums over rows are split to get as many */
} sid2_vk_tiles;

/* Candidates for the device, best guess first; NULL past the last. */
const sid2_vk_tiles *sid2_vk_tiles_candidate(const sid2_vk_caps *caps, int i);
/* The best guess; never NULL. */
const sid2_vk_tiles *sid2_vk_tiles_for(const sid2_vk_caps *caps);
/* By name; NULL where there is none such for the device, or no name. */
const sid2_vk_tiles *sid2_vk_tiles_find(const sid2_vk_caps *caps, const char *name);

#endif
