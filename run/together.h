/* What ranks make together that is not a training: each a share, all have the whole. */
#ifndef SID2_TOGETHER_H
#define SID2_TOGETHER_H

#include <sid2/sample.h>

#include "group.h"

/* What is made for each seed. */
typedef struct sid2_sample_kind {
    size_t bytes;         /* of an image, or of a whole clip */
    int frames;           /* of a clip; 1: an image */
    const uint8_t *given; /* [count], what clips begin with; NULL: nothing */
    size_t given_bytes;   /* of one clip */
} sid2_sample_kind;

/* sid2_sampler_run_clips by all ranks of a group (NULL: alone), each with a sampler of the same weights. A seed is an image
 * whoever makes it. The callback is told of this rank's share. */
bool sid2_sample_together(sid2_group *group, sid2_sampler *sampler, const uint64_t *seeds, int32_t *labels,
                          int count, const sid2_sample_kind *kind, uint8_t *pixels,
                          sid2_sample_callback callback, void *user, sid2_error *err);

#endif
