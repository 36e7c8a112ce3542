/* Axial rotary positions: which elements of a head turn, and by how much.
 *
 * A head of even width d is cut into one part per axis in use, in the order frame, row, column. Images (one
 * frame): row and column take 2 floor(d/4) each. Video: the frame takes 2 floor(d/6), row and column
 * 2 floor((d - that)/4) each. Elements past the parts are left as they are. Within a part of width w, element
 * i < w/2 and element i + w/2 form a pair (a, b), which turns by position * theta^(-i/(w/2)):
 *
 *     a' = a cos - b sin,   b' = a sin + b cos
 *
 * (Su et al., "RoFormer", arXiv 2104.09864, one axis; axial as in Heo et al., arXiv 2403.13298.) */
#ifndef SID2_ROTARY_H
#define SID2_ROTARY_H

#include <math.h>
#include <stdint.h>

#include "portable.h"

enum { SID2_ROTARY_AXES = 3 };

/* Widths of the parts for frame, row and column. */
typedef struct sid2_rotary {
    int64_t width[SID2_ROTARY_AXES];
} sid2_rotary;

SID2_INLINE sid2_rotary sid2_rotary_split(int64_t head_width, const int32_t grid[3])
{
    int64_t frame = grid[0] > 1 ? head_width / 6 * 2 : 0;
    int64_t side = (head_width - frame) / 4 * 2;
    sid2_rotary parts = {{frame, side, side}};
    return parts;
}

/* Position of a token (frames slowest, columns fastest) on an axis. */
SID2_INLINE int64_t sid2_rotary_position(int64_t token, int axis, const int32_t grid[3])
{
    int64_t column = token % grid[2], row = token / grid[2] % grid[1], frame = token / grid[2] / grid[1];
    return axis == 0 ? frame : axis == 1 ? row : column;
}

/* Angle, radians, of pair i of a part of the given width. */
SID2_INLINE double sid2_rotary_angle(int64_t position, int64_t pair, int64_t width, float theta)
{
    return (double)position * pow((double)theta, -(double)pair / (double)(width / 2));
}

#endif
