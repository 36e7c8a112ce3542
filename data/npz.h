/* ADM's sample archive (guided-diffusion evaluations): an npz with `arr_0`, uint8 [N, height, width,
 * channels], and `arr_1`, int64 labels [N]. numpy.load reads it. */
#ifndef SID2_NPZ_H
#define SID2_NPZ_H

#include "base.h"

typedef struct sid2_npz sid2_npz;

/* Pictures are appended as they come and the file appears at commit, complete or not at all. */
sid2_npz *sid2_npz_open(const char *path, int32_t height, int32_t width, int32_t channels, sid2_error *err);
/* pixels: count x height x width x channels; labels: count, or NULL in every call: no `arr_1`. */
bool sid2_npz_append(sid2_npz *npz, const uint8_t *pixels, const int32_t *labels, int64_t count,
                     sid2_error *err);
bool sid2_npz_commit(sid2_npz *npz, sid2_error *err); /* frees `npz` in either case */
void sid2_npz_discard(sid2_npz *npz);                 /* frees; nothing is left behind. NULL is fine */

#endif
