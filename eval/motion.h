/* How well made clips go on with what moves: the centroids of their shapes beside the exact ones (data synth --kind
 * moving-shapes), beside what one would do without knowing. Lengths in pixels. */
#ifndef SID2_MOTION_H
#define SID2_MOTION_H

#include "base.h"

/* Where one shape of a clip should be. */
typedef struct sid2_motion_truth {
    int64_t frames, given; /* given: 2 at least; those from there on are judged */
    const double *centre;  /* [frames, 2]: x and y */
    int channel;           /* of the pixels, the shape's own */
} sid2_motion_truth;

enum { SID2_MOTION_STRAIGHT, SID2_MOTION_BOUNCED, SID2_MOTION_KINDS };

/* Sums over frames of shapes: before anything bounced since the frames given, and after. */
typedef struct sid2_motion {
    int64_t frames[SID2_MOTION_KINDS],
        lost;                           /* lost: of the frames, in how many the shape is not to be seen */
    double made[SID2_MOTION_KINDS];     /* distances of the made centroid, */
    double last[SID2_MOTION_KINDS];     /* of the one in the last frame given, */
    double straight[SID2_MOTION_KINDS]; /* and of going on as between the last two given */
} sid2_motion;

/* The centroid of what is bright in a channel of u8 [height, width, channels], and how much there is; 0: nothing, and the
 * centroid is the middle. */
double sid2_motion_centroid(const uint8_t *frame, sid2_shape shape, int channel, double centroid[2]);

/* Adds a shape of `count` made clips of one truth: the distance of the mean of their centroids, so count = 1 is a clip's own.
 * made: u8 [count][frames, height, width, channels], `shape` of one; given: such a clip of which the first frames are looked
 * at. */
void sid2_motion_add(sid2_motion *motion, const sid2_motion_truth *truth, const uint8_t *given,
                     const uint8_t *const *made, int64_t count, sid2_shape shape);

#endif
