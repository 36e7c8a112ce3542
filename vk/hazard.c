#include "hazard.h"

#include <stdlib.h>
#include <string.h>

static bool conflict(const sid2_vk_range *a, const sid2_vk_range *b)
{
    return (a->written || b->written) && a->memory == b->memory && a->begin < b->end && b->begin < a->end;
}

static bool meets(const sid2_vk_hazards *h, const sid2_vk_range *access)
{
    for (size_t i = 0; i < h->count; i++)
        if (conflict(&h->ranges[i], access)) return true;
    return false;
}

bool sid2_vk_hazard(sid2_vk_hazards *h, const sid2_vk_range *accesses, int count, bool *barrier)
{
    *barrier = false;
    for (int i = 0; i < count && !*barrier; i++) *barrier = meets(h, &accesses[i]);
    if (*barrier) h->count = 0;
    if (h->count + (size_t)count > h->capacity) {
        size_t capacity = 2 * h->capacity + (size_t)count;
        sid2_vk_range *larger = realloc(h->ranges, capacity * sizeof *larger);
        if (!larger) return false;
        h->ranges = larger;
        h->capacity = capacity;
    }
    memcpy(h->ranges + h->count, accesses, (size_t)count * sizeof *accesses);
    h->count += (size_t)count;
    return true;
}

void sid2_vk_hazards_free(sid2_vk_hazards *h)
{
    free(h->ranges);
    *h = (sid2_vk_hazards){0};
}
