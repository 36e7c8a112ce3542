/* Clips: numbered runs of frames of one size, whatever they come from.
 *
 *   npz       u8 [N, frames, height, width, 1 or 3], in arr_0, videos or clips, else the first array there is
 *   folders   whose pictures are frames, in a folder, zip or tars; in the order of their names, numbers by value
 *
 * A video gives as many clips as follow one another in it; what is left over at its end is dropped, so is a video that is
 * shorter. Frames are centre-cropped and resized as pictures of data sets are. */
#ifndef SID2_CLIPS_H
#define SID2_CLIPS_H

#include "group.h"

typedef struct sid2_clips sid2_clips;

/* Clips of `frames` frames (0: an npz's own number; else SID2_CLIP_FRAMES), height x width (0: as the first frame is), 3
 * channels. FORMAT, UNSUPPORTED, USAGE: not a clip is so long. By all ranks of a group together (NULL: alone), as
 * sid2_files_open. */
enum { SID2_CLIP_FRAMES = 16, SID2_CLIP_MOST_FRAMES = 4096 };
sid2_clips *sid2_clips_open(sid2_group *group, const char *path, int32_t frames, int32_t height,
                            int32_t width, sid2_error *err);
void sid2_clips_close(sid2_clips *clips); /* NULL is fine */

int64_t sid2_clips_count(const sid2_clips *clips);
int64_t sid2_clips_videos(const sid2_clips *clips); /* all there are, those that are too short too */
/* Of what sid2_clips_get writes: frames, height, width, channels. */
sid2_shape sid2_clips_shape(const sid2_clips *clips);
/* One clip to pixels u8 [frames, height, width, 3]. A frame that cannot be read is an error that names it. */
bool sid2_clips_get(const sid2_clips *clips, int64_t index, uint8_t *pixels, sid2_error *err);
/* What the clips are, as sid2_dataset_digest has it. */
bool sid2_clips_digest(const sid2_clips *clips, char digest[33], sid2_error *err);

#endif
