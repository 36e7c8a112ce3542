#version 450
// partial[parts,2,2,d] = sums of g n and of g over a part of the rows and all heads, g being dqk turned back; first index of gamma and beta.
#extension GL_GOOGLE_include_directive : require
#include "tensor.glsl"
#include "rope.glsl"
TENSOR(0, dqk)
TENSOR(1, qkv)
TENSOR(2, stats)
TENSOR(3, table)
TENSOR(4, partial)

void main()
{
    uint heads = P(0), d = P(1), tokens = P(2), frame_pairs = P(3), side_pairs = P(4), rows = P(5), parts = P(6);
    uint pair = gl_GlobalInvocationID.x, part = gl_WorkGroupID.y, chunk = gl_WorkGroupID.z;
    if (pair >= d / 2) return;
    uvec2 e = pair_elements(pair, frame_pairs, side_pairs);
    vec2 along = vec2(0), sum = vec2(0);
    for (uint row = chunk; row < rows; row += parts) {
        uint turn = 2 * (row % tokens * (d / 2) + pair);
        vec2 back = vec2(table(turn), -table(turn + 1));
        for (uint head = 0; head < heads; head++) {
            uint from = (row * 2 + part) * heads * d + head * d, at = (row * 3 + part) * heads * d + head * d;
            uint set = 2 * ((row * 2 + part) * heads + head);
            vec2 g = rotate(vec2(dqk(from + e.x), dqk(from + e.y)), back);
            along += g * (vec2(qkv(at + e.x), qkv(at + e.y)) - stats(set)) * stats(set + 1);
            sum += g;
        }
    }
    uint to = (chunk * 4 + part) * d;
    partial_store(to + e.x, along.x);
    partial_store(to + e.y, along.y);
    partial_store(to + 2 * d + e.x, sum.x);
    partial_store(to + 2 * d + e.y, sum.y);
}
