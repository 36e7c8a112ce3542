/* Inside data/: moving shapes, generated clips whose truth is known exactly. One to three of one kind, each alone in a colour
 * channel, cross black at constant speed and bounce off its edges. A clip is a pure function of (seed, index); its label is
 * index modulo the number of kinds. Lengths are in sides of the picture, times in frames. */
#ifndef SID2_SHAPES_H
#define SID2_SHAPES_H

#include "base.h"

enum { SID2_SHAPE_KINDS = 4, SID2_SHAPES_MOST = 3, SID2_SHAPES_RATE = 10 /* frames a second */ };

typedef struct sid2_moving_shape {
    int32_t channel;
    double radius, brightness;
    double start[2], speed[2]; /* of its centre, x and y, as if nothing were in its way */
} sid2_moving_shape;

typedef struct sid2_shapes {
    int32_t kind, count;
    sid2_moving_shape shape[SID2_SHAPES_MOST];
} sid2_shapes;

const char *sid2_shape_kind(int32_t kind);
sid2_shapes sid2_shapes_of(uint64_t seed, uint64_t index);
void sid2_shapes_centre(const sid2_moving_shape *shape, int32_t frame, double centre[2]);
/* size x size x 3 */
void sid2_shapes_render(const sid2_shapes *shapes, int32_t frame, int32_t size, uint8_t *pixels);

#endif
