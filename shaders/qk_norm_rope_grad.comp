#version 450
// Gradient of qk_norm_rope: a group a head of a token, as there; a third part copies dv. stats[rows,2,heads,2] = mean, rstd.
#extension GL_GOOGLE_include_directive : require
#include "tensor.glsl"
#include "reduce.glsl"
#include "rope.glsl"
layout(constant_id = 16) const uint CENTER = 0;
TENSOR(0, dqk)
TENSOR(1, dv)
TENSOR(2, qkv)
TENSOR(3, gamma)
TENSOR(4, table)
TENSOR(5, dqkv)
TENSOR(6, stats)

void main()
{
    uint heads = P(0), d = P(1), tokens = P(2), frame_pairs = P(3), side_pairs = P(4);
    uint vector = gl_WorkGroupID.x, head = vector % heads, part = vector / heads % 3, row = vector / heads / 3;
    uint to = (row * 3 + part) * heads * d + head * d, from = (row * 2 + part) * heads * d + head * d;
    uint me = gl_LocalInvocationIndex, lanes = gl_WorkGroupSize.x;
    if (part == 2) {
        for (uint i = me; i < d; i += lanes) dqkv_store(to + i, dv((row * heads + head) * d + i));
        return;
    }
    float mean = 0, rstd = 1;
    vec2 means = vec2(0);
    if (HAS(gamma)) {
        float sum = 0, squares = 0;
        if (CENTER != 0) {
            for (uint i = me; i < d; i += lanes) sum += qkv(to + i);
            mean = group_sum(vec2(sum, 0)).x / float(d);
        }
        for (uint i = me; i < d; i += lanes) {
            float away = qkv(to + i) - mean;
            squares += away * away;
        }
        rstd = 1 / sqrt(group_sum(vec2(squares, 0)).x / float(d) + PF(5));
        uint set = 2 * ((row * 2 + part) * heads + head);
        if (me == 0) {
            stats_store(set, mean);
            stats_store(set + 1, rstd);
        }
        for (uint pair = me; pair < d / 2; pair += lanes) {
            uvec2 e = pair_elements(pair, frame_pairs, side_pairs);
            uint turn = 2 * (row % tokens * (d / 2) + pair);
            vec2 g = rotate(vec2(dqk(from + e.x), dqk(from + e.y)), vec2(table(turn), -table(turn + 1)));
            g *= vec2(gamma(part * d + e.x), gamma(part * d + e.y));
            vec2 n = (vec2(qkv(to + e.x), qkv(to + e.y)) - mean) * rstd;
            means += vec2(g.x + g.y, dot(g, n));
        }
        means = group_sum(means) / float(d);
        if (CENTER == 0) means.x = 0;
    }
    for (uint pair = me; pair < d / 2; pair += lanes) {
        uvec2 e = pair_elements(pair, frame_pairs, side_pairs);
        uint turn = 2 * (row % tokens * (d / 2) + pair);
        vec2 g = rotate(vec2(dqk(from + e.x), dqk(from + e.y)), vec2(table(turn), -table(turn + 1)));
        if (HAS(gamma)) {
            vec2 n = (vec2(qkv(to + e.x), qkv(to + e.y)) - mean) * rstd;
            g *= vec2(gamma(part * d + e.x), gamma(part * d + e.y));
            g = rstd * (g - means.x - n * means.y);
        }
        dqkv_store(to + e.x, g.x);
        dqkv_store(to + e.y, g.y);
    }
}
