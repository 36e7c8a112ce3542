/* Inside sid2: what pictures have beside their public face. */
#ifndef SID2_DATA_IMAGE_H
#define SID2_DATA_IMAGE_H

#include <sid2/image.h>

#include "base.h"
#include "file.h"

/* Turns a picture as its EXIF asks, which is forgotten then. */
bool sid2_image_upright(sid2_image *image, sid2_error *err);

/* sid2_png_write to a file that is open already, which is committed, or discarded on failure. */
bool sid2_png_finish(sid2_atomic_file *file, const sid2_image *image, const sid2_png_text *text,
                     size_t text_count, sid2_error *err);

/* USAGE where a format has no room for so many pixels. */
bool sid2_image_format_holds(sid2_image_format format, int32_t width, int32_t height, sid2_error *err);

enum { SID2_GRID_PADDING = 2 }; /* as in all grids that sid2 makes */
/* How many columns and pixels the grid of sid2_image_grid has; an error where no picture may be so large. */
typedef struct sid2_grid_size {
    int32_t columns, width, height;
} sid2_grid_size;

bool sid2_image_grid_size(sid2_grid_size *size, int32_t count, int32_t height, int32_t width, int32_t columns,
                          int32_t padding, sid2_error *err);

#endif
