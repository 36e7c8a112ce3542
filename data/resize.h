/* Resampling that equals Pillow's, bit for bit: published FIDs hang on it. Pillow up to 12, that is: from 13
 * on it takes tall pictures vertically first, which moves the lowest bit. */
#ifndef SID2_RESIZE_H
#define SID2_RESIZE_H

#include "image.h"

typedef enum sid2_filter {
    SID2_FILTER_BOX,
    SID2_FILTER_BICUBIC, /* Keys' cubic, a = -0.5 */
} sid2_filter;

/* Antialiased: when shrinking, the filter widens with the scale. `out` is a new image. */
bool sid2_image_resize(sid2_image *out, const sid2_image *image, int32_t width, int32_t height,
                       sid2_filter filter, sid2_error *err);

/* The centre crop of ADM (guided-diffusion, `center_crop_arr`): halve with BOX while the shorter side is
 * at least 2 * size, bring it to `size` with BICUBIC, cut out the middle. Smaller images are enlarged the
 * same way. Writes size x size x image->channels to `pixels`. */
bool sid2_image_center_crop(uint8_t *pixels, const sid2_image *image, int32_t size, sid2_error *err);

#endif
