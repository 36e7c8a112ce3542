/* ADM's sample archive (guided-diffusion evaluations): an npz with `arr_0`, uint8 [N, height, width,
 * channels], of clips [N, frames, height, width, channels], and `arr_1`, int64 labels [N]. numpy.load reads it. */
#ifndef SID2_NPZ_H
#define SID2_NPZ_H

#include "base.h"
#include "file.h"

typedef struct sid2_npz sid2_npz;

/* Of `count` pictures or clips of this shape, which go to the file as they come: its bytes are written once and in order, so that it may be a
 * pipe. The file is the archive's from here on, also on failure. labelled: there is `arr_1`. */
sid2_npz *sid2_npz_open(sid2_atomic_file *file, int64_t count, sid2_shape shape, bool labelled,
                        sid2_error *err);
/* pixels: count of that shape; labels: count, read where they are wanted. */
bool sid2_npz_append(sid2_npz *npz, const uint8_t *pixels, const int32_t *labels, int64_t count,
                     sid2_error *err);
/* USAGE: not as many pictures as were announced. Frees `npz` in either case. */
bool sid2_npz_commit(sid2_npz *npz, sid2_error *err);
void sid2_npz_discard(sid2_npz *npz); /* frees; nothing is left behind. NULL is fine */

#endif
