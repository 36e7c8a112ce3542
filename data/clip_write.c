#include "clip_write.h"

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

static sid2_image frame_at(const uint8_t *pixels, sid2_shape shape, int64_t frame)
{
    const size_t bytes = (size_t)(shape.dim[1] * shape.dim[2] * shape.dim[3]);
    return (sid2_image){.height = (int32_t)shape.dim[1],
                        .width = (int32_t)shape.dim[2],
                        .channels = (int32_t)shape.dim[3],
                        .pixels = (uint8_t *)(uintptr_t)pixels + (size_t)frame * bytes}; /* only read */
}

bool sid2_archive_add_clip(sid2_archive *archive, const char *name, const uint8_t *pixels, sid2_shape shape,
                           const json_t *facts, sid2_error *err)
{
    for (int64_t f = 0; f < shape.dim[0]; f++) {
        const sid2_image image = frame_at(pixels, shape, f);
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

bool sid2_write_clip_folder(const char *folder, const uint8_t *pixels, sid2_shape shape, sid2_error *err)
{
    bool ok = sid2_make_directories(folder, err);
    for (int64_t f = 0; ok && f < shape.dim[0]; f++) {
        const sid2_image image = frame_at(pixels, shape, f);
        char path[4096];
        ok = sid2_path(path, err, "%s/%04lld.png", folder, (long long)f) &&
             sid2_png_write(path, &image, NULL, 0, err);
    }
    return ok;
}

bool sid2_clips_strip(sid2_image *strip, const uint8_t *pixels, int32_t count, sid2_shape shape,
                      sid2_error *err)
{
    return sid2_image_grid(strip, pixels, count * (int32_t)shape.dim[0], (int32_t)shape.dim[1],
                           (int32_t)shape.dim[2], (int32_t)shape.dim[3], (int32_t)shape.dim[0], 0, 255, err);
}

void sid2_clips_mark(sid2_image *grid, int32_t height, int32_t width, int32_t padding)
{
    static const uint8_t amber[3] = {255, 170, 0};
    for (int32_t y = 0; y < grid->height; y++)
        for (int32_t x = 0; x < grid->width; x++)
            if (y % (height + padding) < padding || x % (width + padding) < padding)
                memcpy(grid->pixels + ((size_t)y * (size_t)grid->width + (size_t)x) * 3, amber, 3);
}
