/* Moving shapes as a data set on the disk. */
#include <sid2/data.h>

#include "clip_write.h"
#include "dataset.h"
#include "shapes.h"
#include "text.h"

#include <stdlib.h>

enum { MAX_COUNT = 10000000 };

/* Centres in pixels, from the picture's corner. */
static json_t *facts_of(const sid2_shapes *s, int32_t frames, int32_t size)
{
    json_t *channels = json_array(), *centres = json_array();
    bool ok = channels && centres;
    for (int i = 0; ok && i < s->count; i++)
        ok = !json_array_append_new(channels, json_integer(s->shape[i].channel));
    for (int32_t f = 0; ok && f < frames; f++) {
        json_t *row = json_array();
        for (int i = 0; ok && i < s->count; i++) {
            double centre[2];
            sid2_shapes_centre(&s->shape[i], f, centre);
            ok = row && !json_array_append_new(row, json_pack("[f,f]", centre[0] * size, centre[1] * size));
        }
        ok = !json_array_append_new(centres, row) && ok;
    }
    json_t *facts = ok ? json_pack("{s:[i,i], s:O, s:O}", "rate", SID2_SHAPES_RATE, 1, "channels", channels,
                                   "centres", centres)
                       : NULL;
    json_decref(channels);
    json_decref(centres);
    return facts;
}

static bool add_clip(sid2_archive *tar, int64_t index, int32_t frames, int32_t size, uint64_t seed,
                     uint8_t *pixels, sid2_error *err)
{
    char name[64];
    const sid2_shapes s = sid2_shapes_of(seed, (uint64_t)index);
    for (int32_t f = 0; f < frames; f++)
        sid2_shapes_render(&s, f, size, pixels + (size_t)f * (size_t)size * (size_t)size * 3);
    sid2_text_format(name, sizeof name, "%s/%07lld", sid2_shape_kind(s.kind), (long long)index);
    json_t *facts = facts_of(&s, frames, size);
    bool ok = (facts || sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory", name)) &&
              sid2_archive_add_clip(tar, name, pixels, sid2_shape_of(frames, size, size, 3), facts, err);
    json_decref(facts);
    return ok;
}

bool sid2_synth_write_clips(const char *path, int64_t count, int32_t frames, int32_t size, uint64_t seed,
                            bool (*stop)(void), sid2_error *err)
{
    sid2_kind kind;
    if (count < 1 || count > MAX_COUNT)
        return sid2_fail(err, SID2_ERR_USAGE, "%lld clips: ask for 1 to %d", (long long)count, MAX_COUNT);
    if (size < 8 || size > SID2_SYNTH_MAX_SIZE || frames < 1 || frames > SID2_CLIP_MOST_FRAMES)
        return sid2_fail(err, SID2_ERR_USAGE, "clips of %d frames of size %d", frames, size);
    if (!sid2_look(path, &kind, err)) return false;
    if (kind != SID2_ABSENT && kind != SID2_STREAM)
        return sid2_fail(err, SID2_ERR_USAGE, "%s: exists; name a new one", path);
    uint8_t *pixels = malloc((size_t)frames * (size_t)size * (size_t)size * 3);
    if (!pixels) return sid2_fail(err, SID2_ERR_MEMORY, "no memory for a clip of %d frames", frames);
    sid2_archive *tar = sid2_archive_open(path, err);
    bool ok = tar;
    for (int64_t i = 0; ok && i < count; i++)
        ok = stop && stop() ? sid2_fail(err, SID2_ERR_CANCELLED, "stopped; nothing was written")
                            : add_clip(tar, i, frames, size, seed, pixels, err);
    free(pixels);
    if (ok) return sid2_archive_commit(tar, err);
    sid2_archive_discard(tar);
    return false;
}
