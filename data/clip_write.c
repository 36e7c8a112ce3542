#include "clip_write.h"

#include "image.h"

#include <stdlib.h>
#include <string.h>

static bool add_facts(sid2_archive *archive, const char *name, const json_t *facts, sid2_error *err)
{
    char path[4096];
    char *text = json_dumps(facts, JSON_REAL_PRECISION(9));
    bool ok = (text || sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory", name)) &&
              sid2_path(path, err, "%s/clip.json", name) &&
              sid2_archive_add(archive, path, text, strlen(text), err);
    free(text);
    return ok;
}

bool sid2_archive_add_clip(sid2_archive *archive, const char *name, const uint8_t *pixels, sid2_shape shape,
                           const json_t *facts, sid2_error *err)
{
    const size_t bytes = (size_t)(shape.dim[1] * shape.dim[2] * shape.dim[3]);
    for (int64_t f = 0; f < shape.dim[0]; f++) {
        const sid2_image image = {.height = (int32_t)shape.dim[1],
                                  .width = (int32_t)shape.dim[2],
                                  .channels = (int32_t)shape.dim[3],
                                  .pixels = (uint8_t *)(uintptr_t)pixels + (size_t)f * bytes};
        char path[4096];
        uint8_t *png = NULL;
        size_t size;
        bool ok = sid2_path(path, err, "%s/%04lld.png", name, (long long)f) &&
                  sid2_png_encode(&image, NULL, 0, &png, &size, err) &&
                  sid2_archive_add(archive, path, png, size, err);
        free(png);
        if (!ok) return false;
    }
    return !facts || add_facts(archive, name, facts, err);
}
