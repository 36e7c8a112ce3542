/* Inside data/: the formats of sid2_image_encode that have a file of their own. Frames are of one size and of 1 or 3
 * channels, at least one; the bytes come from malloc. */
#ifndef SID2_IMAGE_WRITE_H
#define SID2_IMAGE_WRITE_H

#include "image.h"

/* APNG: PNGs whose compressed rows are laid one behind the other. What does not know it shows the last frame. */
bool sid2_apng_encode(const sid2_image *frames, int count, const sid2_encode_options *options,
                      uint8_t **bytes, size_t *size, sid2_error *err);
bool sid2_webp_encode(const sid2_image *frames, int count, const sid2_encode_options *options,
                      uint8_t **bytes, size_t *size, sid2_error *err);

/* Texts in what JPEG and WebP have for them, an EXIF block, which begins with "Exif\0\0": the text `parameters` as the
 * comment where others look for it, the rest as lines "key: value" of the description. */
bool sid2_exif_of_text(const sid2_png_text *text, size_t count, uint8_t **bytes, size_t *size,
                       sid2_error *err);
/* The lines of the description again; `bytes` is such a block or a JPEG. One without has no texts. */
bool sid2_exif_to_text(const uint8_t *bytes, size_t size, const char *name, sid2_png_text **text,
                       size_t *count, sid2_error *err);
bool sid2_webp_read_text(const uint8_t *bytes, size_t size, const char *name, sid2_png_text **text,
                         size_t *count, sid2_error *err);

#endif
