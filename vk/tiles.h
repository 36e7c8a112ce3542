/* Block sizes of matrix products by class of device. Shaders hold none: they get them as specialisation
 * constants, so that a device's best is a row here, or what `sid2 tune` found. */
#ifndef SID2_VK_TILES_H
#define SID2_VK_TILES_H

#include "caps.h"

typedef struct sid2_vk_tiles {
    const char *name;
    bool shared;            /* through shared memory, or each invocation on its own */
    uint32_t lanes, lines;  /* invocations of a group along the columns, and along the rows */
    uint32_t rows, columns; /* of an invocation; shared: multiples of 4 */
    uint32_t outs, ins;     /* of a weight gradient: quads of channels of an invocation */
    uint32_t groups;        /* that keep the device busy: sums over rows are split to get as many */
} sid2_vk_tiles;

/* The table, one row a candidate. */
extern const sid2_vk_tiles sid2_vk_tile_table[];
extern const int sid2_vk_tile_count;

/* The row for a class of device; never NULL. */
const sid2_vk_tiles *sid2_vk_tiles_for(const sid2_vk_caps *caps);
/* Whether the device's limits allow it. */
bool sid2_vk_tiles_fit(const sid2_vk_tiles *tiles, const sid2_vk_caps *caps);

#endif
