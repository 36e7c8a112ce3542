#version 450
// stats[rows,2] = mean (0 unless CENTER) and 1/sqrt(mean square from it + eps): a group a row.
#extension GL_GOOGLE_include_directive : require
#include "tensor.glsl"
#include "quads.glsl"
#include "reduce.glsl"
layout(constant_id = 17) const uint CENTER = 0;
TENSOR(0, x)
TENSOR(1, stats)

void main()
{
    uint channels = P(0), row = gl_WorkGroupID.x, step_ = gl_WorkGroupSize.x * STEP;
    uint first = row * channels, me = gl_LocalInvocationIndex * STEP;
    float mean = 0, size = float(channels);
    if (CENTER != 0) {
        vec4 sum = vec4(0);
        for (uint c = me; c < channels; c += step_) sum += LOAD(x, first + c);
        mean = group_sum(vec2(QUADS != 0 ? dot(sum, vec4(1)) : sum.x, 0)).x / size;
    }
    vec4 squares = vec4(0);
    for (uint c = me; c < channels; c += step_) {
        vec4 v = LOAD(x, first + c) - mean;
        squares += v * v;
    }
    float all = group_sum(vec2(QUADS != 0 ? dot(squares, vec4(1)) : squares.x, 0)).x;
    if (gl_LocalInvocationIndex == 0) {
        stats_store(2 * row, mean);
        stats_store(2 * row + 1, 1 / sqrt(all / size + PF(1)));
    }
}
