#version 450
// table[tokens,d/2,2] = cos and sin of the angle by which each pair of a head's elements turns; core/rotary.h.
#extension GL_GOOGLE_include_directive : require
#include "tensor.glsl"
#include "philox.glsl"
TENSOR(0, table)

void main()
{
    uint count = P(0), pairs = P(1), rows = P(2), columns = P(3), i = gl_GlobalInvocationID.x;
    if (i >= count) return;
    uint token = i / pairs, pair = i % pairs;
    uint frame_pairs = P(4), side_pairs = P(5); // of the parts for frame, row and column
    uint position, width;
    if (pair < frame_pairs) {
        position = token / columns / rows;
        width = frame_pairs;
    } else if (pair < frame_pairs + side_pairs) {
        position = token / columns % rows;
        width = side_pairs;
        pair -= frame_pairs;
    } else {
        position = token % columns;
        width = pair < frame_pairs + 2 * side_pairs ? side_pairs : 0; // past the parts nothing turns
        pair -= frame_pairs + side_pairs;
    }
    precise float turns = width == 0 ? 0 : float(position) * exp2(-float(pair) / float(width) * PF(6)) * 0.159154943;
    vec2 turn = cos_sin_turn(turns - floor(turns));
    table_store(2 * i, turn.x);
    table_store(2 * i + 1, turn.y);
}
