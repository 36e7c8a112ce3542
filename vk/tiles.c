#include "tiles.h"

#include <stddef.h>
#include <string.h>

/* Best guesses first, by kind. The last row fits every device. */
static const sid2_vk_tiles table[] = {
    /* name, shared, lanes x lines, rows x columns, outs x ins, depth, groups */
    {"registers-8x4", false, 8, 1, 8, 4, 4, 1, 0, 32},    {"registers-8x8", false, 8, 1, 8, 8, 4, 2, 0, 32},
    {"registers-16x8", false, 8, 1, 16, 8, 4, 4, 0, 32},  {"registers-4x4", false, 8, 1, 4, 4, 1, 1, 0, 32},
    {"shared-64x64", true, 16, 16, 4, 4, 1, 1, 4, 512},   {"shared-128x64", true, 16, 16, 8, 4, 2, 1, 4, 512},
    {"shared-128x128", true, 16, 16, 8, 8, 2, 2, 2, 256}, {"shared-32x32", true, 8, 8, 4, 4, 1, 1, 4, 256},
};
enum { ROWS = sizeof table / sizeof *table };

static uint32_t shared_bytes(const sid2_vk_tiles *t)
{
    uint32_t quads = t->lanes * t->columns + t->lines * t->rows + 1;
    return t->shared ? t->depth * quads * 16 : 0;
}

static bool fits(const sid2_vk_tiles *t, const sid2_vk_caps *caps)
{
    return t->lanes * t->lines <= caps->max_invocations && t->lanes <= caps->max_local[0] &&
           t->lines <= caps->max_local[1] && shared_bytes(t) <= caps->shared_bytes;
}

const sid2_vk_tiles *sid2_vk_tiles_candidate(const sid2_vk_caps *caps, int i)
{
    for (int kind = 0; kind < 2; kind++) /* the kind that suits the device first */
        for (int row = 0; row < ROWS; row++)
            if ((table[row].shared == caps->software) == (kind == 1) && fits(&table[row], caps) && i-- == 0)
                return &table[row];
    return NULL;
}

const sid2_vk_tiles *sid2_vk_tiles_for(const sid2_vk_caps *caps) { return sid2_vk_tiles_candidate(caps, 0); }

const sid2_vk_tiles *sid2_vk_tiles_find(const sid2_vk_caps *caps, const char *name)
{
    for (int row = 0; name && row < ROWS; row++)
        if (!strcmp(table[row].name, name) && fits(&table[row], caps)) return &table[row];
    return NULL;
}
