/* Clips prepared once: cut, cropped and resized, a folder of frames each in a tar, pieces of their videos by name. */
#include "pack_clips.h"

#include "clip_write.h"
#include "resize.h"
#include "y4m.h"

#include <stdlib.h>

typedef struct packing {
    const sid2_pack_clips_options *options;
    sid2_packed_clips *packed;
    sid2_archive *archive;
    json_t *facts;
    sid2_shape shape;
    uint8_t *pixels; /* of a clip */
} packing;

static bool begin(packing *p, sid2_shape shape, const int32_t rate[2], sid2_error *err)
{
    sid2_kind kind;
    const char *out = p->options->out;
    if (!sid2_look(out, &kind, err)) return false;
    if (kind != SID2_ABSENT && kind != SID2_STREAM)
        return sid2_fail(err, SID2_ERR_USAGE, "%s: exists; name a new one", out);
    p->shape = p->packed->shape = shape;
    p->facts = rate[0] ? json_pack("{s:[i,i]}", "rate", rate[0], rate[1]) : NULL;
    p->pixels = malloc((size_t)sid2_shape_count(shape));
    if (!p->pixels || (rate[0] && !p->facts))
        return sid2_fail(err, SID2_ERR_MEMORY, "no memory for a clip of %lld frames",
                         (long long)shape.dim[0]);
    p->archive = sid2_archive_open(out, err);
    return p->archive != NULL;
}

static bool add(packing *p, const char *name, sid2_error *err)
{
    p->packed->clips++;
    return sid2_archive_add_clip(p->archive, name, p->pixels, p->shape, p->facts, err);
}

/* Whether to go on; the caller of the packing may stop it, and that is an error. */
static bool goes_on(packing *p, double fraction, bool *ok, sid2_error *err)
{
    const sid2_pack_clips_options *o = p->options;
    if (o->most && p->packed->clips >= o->most) return false;
    if (!o->progress || o->progress(o->user, p->packed->clips, fraction)) return true;
    *ok = sid2_fail(err, SID2_ERR_CANCELLED, "stopped; nothing was written");
    return false;
}

static bool end(packing *p, bool ok, sid2_error *err)
{
    if (ok && !p->packed->clips)
        ok = sid2_fail(err, SID2_ERR_USAGE, "%s: not one clip of %d frames", p->options->path,
                       p->options->frames);
    if (ok)
        ok = sid2_archive_commit(p->archive, err);
    else
        sid2_archive_discard(p->archive);
    free(p->pixels);
    json_decref(p->facts);
    return ok;
}

/* ---- From a data set ---- */

bool sid2_pack_clips(sid2_dataset *dataset, const sid2_pack_clips_options *options, sid2_packed_clips *packed,
                     sid2_error *err)
{
    packing p = {.options = options, .packed = packed};
    int32_t rate[2];
    *packed = (sid2_packed_clips){0};
    sid2_dataset_rate(dataset, rate);
    bool ok = begin(&p, sid2_dataset_type(dataset).shape, rate, err);
    int64_t count = sid2_dataset_count(dataset);
    for (int64_t i = 0; ok && i < count && goes_on(&p, (double)i / (double)count, &ok, err); i++) {
        sid2_finding found;
        ok = sid2_dataset_inspect(dataset, i, p.pixels, &found, err);
        if (!ok || !found.is_readable) continue;
        char *name = sid2_dataset_clip_name(dataset, i);
        ok = (name || sid2_fail(err, SID2_ERR_MEMORY, "no memory for a name")) && add(&p, name, err);
        free(name);
    }
    return end(&p, ok, err);
}

/* ---- From a pipe ---- */

/* One frame into its place in the clip. */
static bool take(packing *p, const sid2_y4m *y, const uint8_t *planes, int64_t place, sid2_error *err)
{
    const int64_t *dim = p->shape.dim;
    sid2_image image = {0};
    bool ok = sid2_y4m_to_image(y, p->options->matrix, planes, &image, err) &&
              sid2_image_convert(&image, (int32_t)dim[3], err) &&
              sid2_image_center_crop(p->pixels + (size_t)(place * dim[1] * dim[2] * dim[3]), &image,
                                     (int32_t)dim[1], (int32_t)dim[2], err);
    sid2_image_free(&image);
    return ok;
}

bool sid2_pack_stream(FILE *stream, const sid2_pack_clips_options *options, sid2_packed_clips *packed,
                      sid2_error *err)
{
    packing p = {.options = options, .packed = packed};
    *packed = (sid2_packed_clips){0};
    sid2_y4m_stream *s = sid2_y4m_open(stream, options->path, err);
    if (!s) return false;
    const sid2_y4m *y = sid2_y4m_about(s);
    packed->interlaced = y->interlaced;
    bool ok = begin(&p,
                    sid2_shape_of(options->frames, options->height ? options->height : y->height,
                                  options->width ? options->width : y->width, options->channels),
                    y->rate, err);
    int64_t span = (int64_t)(options->frames - 1) * options->stride + 1;
    const uint8_t *planes;
    for (; ok && goes_on(&p, -1, &ok, err) && (planes = sid2_y4m_next(s, &packed->cause)); packed->frames++) {
        int64_t within = packed->frames % span;
        if (within % options->stride) continue;
        char name[64];
        snprintf(name, sizeof name, "video@%08lld", (long long)(packed->frames - within));
        ok = take(&p, y, planes, within / options->stride, err) && (within + 1 < span || add(&p, name, err));
    }
    sid2_y4m_close(s);
    if (ok && packed->cause.code && packed->cause.code != SID2_ERR_FORMAT)
        ok = sid2_fail(err, packed->cause.code, "%s", packed->cause.message);
    return end(&p, ok, err);
}
