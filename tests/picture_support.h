/* Grey squares of three classes, 8 x 8: what runs are tried on. */
#ifndef SID2_TEST_PICTURE_SUPPORT_H
#define SID2_TEST_PICTURE_SUPPORT_H

#include <stdio.h>

#include "image.h"
#include "model_support.h"

/* FOLDER/pictures/CLASS/NN.png */
static inline bool write_squares(const char *folder, int count, sid2_error *error)
{
    bool ok = true;
    for (int i = 0; ok && i < count; i++) {
        char path[256];
        uint8_t pixels[64];
        int32_t label;
        make_images(pixels, &label, 1, 64, 3, (uint64_t)i);
        snprintf(path, sizeof path, "%s/pictures/%d/%02d.png", folder, label, i);
        const sid2_image image = {.width = 8, .height = 8, .channels = 1, .pixels = pixels};
        ok = sid2_png_write(path, &image, NULL, 0, error);
    }
    return ok;
}

#endif
