#version 450
// Queries and keys normalised and turned: a group a head of a token. Group number: (row * 2 + part) * heads + head.
#extension GL_GOOGLE_include_directive : require
#include "tensor.glsl"
#include "reduce.glsl"
#include "rope.glsl"
layout(constant_id = 16) const uint CENTER = 0;
TENSOR(0, qkv)
TENSOR(1, gamma)
TENSOR(2, beta)
TENSOR(3, table)
TENSOR(4, qk)

void main()
{
    uint heads = P(0), d = P(1), tokens = P(2), frame_pairs = P(3), side_pairs = P(4);
    uint vector = gl_WorkGroupID.x, head = vector % heads, part = vector / heads % 2, row = vector / heads / 2;
    uint from = (row * 3 + part) * heads * d + head * d, to = (row * 2 + part) * heads * d + head * d;
    uint me = gl_LocalInvocationIndex, lanes = gl_WorkGroupSize.x;
    float mean = 0, rstd = 1;
    if (HAS(gamma)) {
        float sum = 0, squares = 0;
        if (CENTER != 0) {
            for (uint i = me; i < d; i += lanes) sum += qkv(from + i);
            mean = group_sum(vec2(sum, 0)).x / float(d);
        }
        for (uint i = me; i < d; i += lanes) {
            float away = qkv(from + i) - mean;
            squares += away * away;
        }
        rstd = 1 / sqrt(group_sum(vec2(squares, 0)).x / float(d) + PF(5));
    }
    for (uint pair = me; pair < d / 2; pair += lanes) {
        uvec2 e = pair_elements(pair, frame_pairs, side_pairs);
        vec2 v = (vec2(qkv(from + e.x), qkv(from + e.y)) - mean) * rstd;
        if (HAS(gamma)) v *= vec2(gamma(part * d + e.x), gamma(part * d + e.y));
        if (HAS(beta)) v += vec2(beta(part * d + e.x), beta(part * d + e.y));
        uint turn = 2 * (row % tokens * (d / 2) + pair);
        v = rotate(v, vec2(table(turn), table(turn + 1)));
        qk_store(to + e.x, v.x);
        qk_store(to + e.y, v.y);
    }
}
