#version 450
// dx = rstd (dn - mean of dn - n mean of dn n) + residual, the first mean only where CENTER: a group a row.
#extension GL_GOOGLE_include_directive : require
#include "tensor.glsl"
#include "norm_grad.glsl"
#include "reduce.glsl"
layout(constant_id = 19) const uint CENTER = 0;
TENSOR(6, residual)
TENSOR(7, dx)

void main()
{
    uint channels = P(0), rows = P(1), row = gl_WorkGroupID.x, n = row / rows;
    uint step_ = gl_WorkGroupSize.x * STEP, me = gl_LocalInvocationIndex * STEP, first = row * channels;
    vec4 sum = vec4(0), along = vec4(0), normal, du, dn;
    for (uint c = me; c < channels; c += step_) {
        at_element(first + c, n, c, channels, row, normal, du, dn);
        sum += dn;
        along += dn * normal;
    }
    vec2 means = QUADS != 0 ? vec2(dot(sum, vec4(1)), dot(along, vec4(1))) : vec2(sum.x, along.x);
    means = group_sum(means) / float(channels);
    if (CENTER == 0) means.x = 0;
    for (uint c = me; c < channels; c += step_) {
        at_element(first + c, n, c, channels, row, normal, du, dn);
        vec4 d = f32_normalised_slope(dn, normal, vec4(stats(2 * row + 1)), means.xxxx, means.yyyy);
        if (HAS(residual)) d += LOAD(residual, first + c);
        STORE(dx, first + c, d)
    }
}
