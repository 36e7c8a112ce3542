#include "kept.h"

#include <stdlib.h>
#include <string.h>

static bool makes_same(const sid2_vk_dispatch *a, const sid2_vk_dispatch *b)
{
    const sid2_vk_tensor *s = a->tensor, *t = b->tensor;
    return a->shader == b->shader && s->memory == t->memory && s->offset == t->offset &&
           s->dtype == t->dtype && s->version == t->version && !memcmp(a->push, b->push, sizeof a->push);
}

sid2_vk_tensor sid2_vk_derive(sid2_vk_lowering *lowering, sid2_vk_dispatch *dispatch, sid2_dtype dtype,
                              sid2_shape shape)
{
    sid2_vk_tensor t = {dtype, shape, lowering->kept, lowering->kept_bytes, NULL};
    size_t end = t.offset + sid2_vk_whole_lines(sid2_vk_bytes(&t));
    bool stays =
        lowering->kept && dispatch->tensor[0].version && end <= lowering->device->gpu->max_allocation;
    for (size_t i = 0; stays && i < lowering->count; i++)
        if (lowering->records[i].node == SID2_VK_FIRST &&
            makes_same(&lowering->records[i].dispatch, dispatch))
            return lowering->records[i].dispatch.tensor[1];
    if (stays)
        lowering->kept_bytes = end;
    else
        t = sid2_vk_scratch(lowering, dtype, shape);
    dispatch->tensor[1] = t;
    sid2_vk_append(lowering, dispatch, stays ? SID2_VK_FIRST : lowering->node);
    return t;
}

/* A dispatch, and how often what it reads had been written to when it last ran. */
typedef struct part {
    sid2_vk_dispatch dispatch;
    uint64_t seen;
} part;

struct sid2_vk_kept {
    sid2_vk_memory memory;
    part *parts;
    size_t count;
    bool is_made; /* once at least */
    int users;
    sid2_vk_kept *next; /* of the device's */
};

static bool is_same(const sid2_vk_kept *k, const sid2_vk_record *records, size_t count, size_t bytes)
{
    if (k->count != count || k->memory.bytes < bytes) return false;
    for (size_t i = 0; i < count; i++)
        if (!makes_same(&k->parts[i].dispatch, &records[i].dispatch) ||
            k->parts[i].dispatch.tensor[1].offset != records[i].dispatch.tensor[1].offset)
            return false;
    return true;
}

sid2_vk_kept *sid2_vk_kept_open(sid2_vk_device *device, const sid2_vk_record *records, size_t count,
                                size_t bytes, sid2_error *err)
{
    for (sid2_vk_kept *k = device->kept; k; k = k->next)
        if (is_same(k, records, count, bytes)) return k->users++, k;
    sid2_vk_kept *k = calloc(1, sizeof *k);
    if (!k || !(k->parts = calloc(count, sizeof *k->parts)))
        return free(k), sid2_fail(err, SID2_ERR_MEMORY, "%s: out of memory for a program", device->id), NULL;
    if (!sid2_vk_memory_create(device, SID2_VK_ON_DEVICE, bytes, "packed weights", &k->memory, err))
        return free(k->parts), free(k), NULL;
    for (; k->count < count; k->count++) k->parts[k->count].dispatch = records[k->count].dispatch;
    k->users = 1;
    k->next = device->kept;
    return device->kept = k;
}

void sid2_vk_kept_close(sid2_vk_device *device, sid2_vk_kept *kept)
{
    if (!kept || --kept->users) return;
    sid2_vk_kept **link = &device->kept;
    while (*link != kept) link = &(*link)->next;
    *link = kept->next;
    sid2_vk_memory_destroy(device, &kept->memory);
    free(kept->parts);
    free(kept);
}

sid2_vk_memory sid2_vk_kept_memory(const sid2_vk_kept *kept) { return kept->memory; }
bool sid2_vk_kept_is_shared(const sid2_vk_kept *kept) { return kept->users > 1; }

bool sid2_vk_kept_is_stale(const sid2_vk_kept *kept)
{
    for (size_t i = 0; i < kept->count; i++)
        if (kept->parts[i].seen != *kept->parts[i].dispatch.tensor[0].version) return true;
    return !kept->is_made;
}

void sid2_vk_kept_renewed(sid2_vk_kept *kept)
{
    for (size_t i = 0; i < kept->count; i++) kept->parts[i].seen = *kept->parts[i].dispatch.tensor[0].version;
    kept->is_made = true;
}
