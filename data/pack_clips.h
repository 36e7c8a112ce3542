/* Inside sid2: clips prepared once for training, as a tar that data sets read: a folder of frames for each, called
 * CLASS/VIDEO@NUMBER by its first frame's, with the frame rate in clip.json. */
#ifndef SID2_PACK_CLIPS_H
#define SID2_PACK_CLIPS_H

#include "dataset.h"
#include "y4m.h"

typedef struct sid2_pack_clips_options {
    const char *path, *out;          /* path: where clips come from, for messages */
    int32_t frames, stride;          /* of a stream; of a data set its own */
    int32_t height, width, channels; /* the same; 0: as the frames are */
    sid2_matrix matrix;
    int64_t most; /* clips, then it ends; 0: all */
    /* Told now and then; fraction: below 0 where nobody knows. False ends the packing with SID2_ERR_CANCELLED. May be NULL. */
    bool (*progress)(void *user, int64_t clips, double fraction);
    void *user;
} sid2_pack_clips_options;

typedef struct sid2_packed_clips {
    int64_t clips, frames; /* frames: of a stream, those read whole */
    sid2_shape shape;      /* of a clip */
    bool interlaced;
    sid2_error cause; /* why a stream ended before its end; code 0: it did not. What came before is packed */
} sid2_packed_clips;

/* All clips of a data set that can be read. The tar appears complete or not at all, and replaces nothing. */
bool sid2_pack_clips(sid2_dataset *dataset, const sid2_pack_clips_options *options, sid2_packed_clips *packed,
                     sid2_error *err);
/* A y4m from front to end, one video; holds one clip at a time. */
bool sid2_pack_stream(FILE *stream, const sid2_pack_clips_options *options, sid2_packed_clips *packed,
                      sid2_error *err);

#endif
