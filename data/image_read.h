/* Inside data/: the formats of sid2_image_decode. `bytes` begin as such a file does. */
#ifndef SID2_IMAGE_READ_H
#define SID2_IMAGE_READ_H

#include "image.h"

/* Decodes and, if `text` is not NULL, collects the text chunks. */
bool sid2_png_decode(sid2_image *image, sid2_png_text **text, size_t *text_count, const void *bytes,
                     size_t size, const char *name, sid2_error *err);
bool sid2_jpeg_decode(sid2_image *image, const uint8_t *bytes, size_t size, const char *name,
                      sid2_error *err);
/* Of an animation the first frame. */
bool sid2_webp_decode(sid2_image *image, const uint8_t *bytes, size_t size, const char *name,
                      sid2_error *err);

/* Lays a picture with alpha (2 or 4 channels) on white. */
void sid2_lay_on_white(sid2_image *image);

/* 1 to 8 as sid2_image has it; 0: none is given. `bytes`: a block of EXIF, with or without the "Exif\0\0" before it. */
int32_t sid2_exif_orientation(const uint8_t *bytes, size_t size);

#endif
