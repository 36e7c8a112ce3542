/* How far apart two sets of pictures are, without any network: distances with names of their own, none of which is FID.
 *
 *   pixel-PCA   the Fréchet distance of pictures averaged to at most 16 x 16 blocks, values from -1 to 1, along the 64
 *               directions in which the real ones differ most
 *   spectrum    how much power there is at each spatial frequency, from one cycle a picture to half a cycle a pixel: the
 *               root mean square over frequencies of the ratio in dB. Of the brightness, within the middle 256 x 256
 *   nearest     which of a set of real pictures is nearest to one, by the Euclidean distance of its values */
#ifndef SID2_PICTURES_H
#define SID2_PICTURES_H

#include "base.h"

typedef struct sid2_pictures {
    const uint8_t *pixels; /* count x height x width x channels */
    int count, height, width, channels;
} sid2_pictures;

/* What other pictures are compared with: basis and statistics of real ones. */
typedef struct sid2_real_pictures sid2_real_pictures;
/* USAGE: fewer than two pictures. They are needed no longer. */
sid2_real_pictures *sid2_real_pictures_create(const sid2_pictures *real, sid2_error *err);
void sid2_real_pictures_destroy(sid2_real_pictures *real); /* NULL is fine */

typedef struct sid2_picture_distances {
    double pixels;   /* pixel-PCA; as Fréchet distances of few pictures do, it falls with their number */
    double spectrum; /* dB */
} sid2_picture_distances;
/* USAGE: pictures of another size, or fewer than two. */
bool sid2_real_pictures_compare(const sid2_real_pictures *real, const sid2_pictures *other,
                                sid2_picture_distances *distances, sid2_error *err);

/* The nearest one so far, of each picture. */
typedef struct sid2_nearest {
    int64_t index;    /* -1: none yet */
    uint64_t squares; /* sum of squared differences of values */
} sid2_nearest;
/* Looks through `real`, whose first is number `first`; of equally near ones the first stays. */
void sid2_find_nearest(const sid2_pictures *pictures, const sid2_pictures *real, int64_t first,
                       sid2_nearest *nearest);

#endif
