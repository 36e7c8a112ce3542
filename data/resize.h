/* Resampling that equals Pillow's, bit for bit: published FIDs hang on it. Pillow up to 12, that is: from 13
 * on it takes tall pictures vertically first, which moves the lowest bit. */
#ifndef SID2_RESIZE_H
#define SID2_RESIZE_H

#include "image.h"

typedef enum sid2_filter {
    SID2_FILTER_BOX,
    SID2_FILTER_BICUBIC, /* Keys' cubic, a = -0.5 */
    SID2_FILTER_BILINEAR,
} sid2_filter;

/* Antialiased: when shrinking, the filter widens with the scale. `out` is a new image. */
bool sid2_image_resize(sid2_image *out, const sid2_image *image, int32_t width, int32_t height,
                       sid2_filter filter, sid2_error *err);

/* The centre crop of ADM (guided-diffusion, `center_crop_arr`), which is of squares, for any shape: halve with BOX
 * while both sides are at least twice what is wanted, bring it with BICUBIC to where one side fits and the other
 * does not fall short, cut out the middle. Smaller images are enlarged the same way. Writes
 * height x width x image->channels to `pixels`. */
bool sid2_image_center_crop(uint8_t *pixels, const sid2_image *image, int32_t height, int32_t width,
                            sid2_error *err);

/* As FVD's protocol has it: the largest part of that shape, number `place` of `of` along the side on which there is a choice
 * (0 of 1: the middle; of more, from the first to the last that fits), resized by BILINEAR. Writes as sid2_image_center_crop. */
bool sid2_image_crop(uint8_t *pixels, const sid2_image *image, int32_t height, int32_t width, int32_t place,
                     int32_t of, sid2_error *err);

#endif
