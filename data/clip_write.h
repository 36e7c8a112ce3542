/* Inside sid2: clips to files. */
#ifndef SID2_CLIP_WRITE_H
#define SID2_CLIP_WRITE_H

#include "archive_write.h"

/* A folder NAME of frames 0000.png, 0001.png, ..., as data sets read them, and of clip.json where there are `facts`.
 * `shape`: frames, height, width, channels. */
bool sid2_archive_add_clip(sid2_archive *archive, const char *name, const uint8_t *pixels, sid2_shape shape,
                           const json_t *facts, sid2_error *err);

#endif
