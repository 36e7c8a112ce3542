/* Inside data/: the PNG half of sid2_image_decode. */
#ifndef SID2_IMAGE_PNG_H
#define SID2_IMAGE_PNG_H

#include "image.h"

/* Decodes and, if `text` is not NULL, collects the text chunks. */
bool sid2_png_decode(sid2_image *image, sid2_png_text **text, size_t *text_count, const void *bytes,
                     size_t size, const char *name, sid2_error *err);

#endif
