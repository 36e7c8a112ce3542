/* Inside sid2: clips to files. */
#ifndef SID2_CLIP_WRITE_H
#define SID2_CLIP_WRITE_H

#include "archive_write.h"
#include "image.h"

/* A folder NAME of frames 0000.png, 0001.png, ..., as data sets read them, and of clip.json where there are `facts`.
 * `shape`: frames, height, width, channels. */
bool sid2_archive_add_clip(sid2_archive *archive, const char *name, const uint8_t *pixels, sid2_shape shape,
                           const json_t *facts, sid2_error *err);
/* The same as a folder of files on the disk, which may be there; frames in it are replaced. */
bool sid2_write_clip_folder(const char *path, const uint8_t *pixels, sid2_shape shape, sid2_error *err);

/* Clips side by side as one picture, u8 [count, frames, height, width, channels]: one row each. */
bool sid2_clips_strip(sid2_image *strip, const uint8_t *pixels, int32_t count, sid2_shape shape,
                      sid2_error *err);
/* Colours what lies between and around the pictures of a sid2_image_grid of 3 channels, of frames that were given. */
void sid2_clips_mark(sid2_image *grid, int32_t height, int32_t width, int32_t padding);

#endif
