#version 450
// stats[N,groups,2] = mean and 1/sqrt(variance + eps), from group_norm_sums: a group of invocations a group of channels.
#extension GL_GOOGLE_include_directive : require
#include "tensor.glsl"
#include "formulas.glsl"
#include "reduce.glsl"
TENSOR(0, x)
TENSOR(1, partial)
TENSOR(2, stats)

void main()
{
    uint channels = P(1), rows = P(2), parts = P(3), width = P(4);
    uint i = gl_WorkGroupID.x, groups = channels / width, n = i / groups, first = i % groups * width;
    vec2 sum = vec2(0); // and of squares
    for (uint e = gl_LocalInvocationIndex; e < parts * width; e += gl_WorkGroupSize.x) {
        uint at = (n * parts + e / width) * 2 * channels + first + e % width;
        sum += vec2(partial(at), partial(at + channels));
    }
    sum = group_sum(sum);
    if (gl_LocalInvocationIndex != 0) return;
    float size = float(rows) * float(width), away = sum.x / size;
    float raw = sum.y / size - away * away, variance = is_finite(raw) ? max(raw, 0) : raw;
    stats_store(2 * i, x(n * rows * channels + first) + away);
    stats_store(2 * i + 1, 1 / sqrt(variance + PF(5)));
}
