#include "tiles.h"

/* The first row of each kind that fits is taken where nothing was measured. */
const sid2_vk_tiles sid2_vk_tile_table[] = {
    {"registers 8x4", false, 8, 1, 8, 4, 2, 1, 32},
    {"registers 8x8", false, 8, 1, 8, 8, 2, 2, 32},
    {"registers 4x4", false, 8, 1, 4, 4, 1, 1, 32},
};
const int sid2_vk_tile_count = sizeof sid2_vk_tile_table / sizeof *sid2_vk_tile_table;

bool sid2_vk_tiles_fit(const sid2_vk_tiles *tiles, const sid2_vk_caps *caps)
{
    return tiles->lanes * tiles->lines <= caps->max_invocations;
}

const sid2_vk_tiles *sid2_vk_tiles_for(const sid2_vk_caps *caps)
{
    (void)caps;
    return sid2_vk_tile_table;
}
