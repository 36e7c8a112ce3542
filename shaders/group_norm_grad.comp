#version 450
// dx = rstd (dn - mean of dn - n mean of dn n) + residual.
#extension GL_GOOGLE_include_directive : require
#include "tensor.glsl"
#include "norm_grad.glsl"
TENSOR(6, means)
TEXELS(7, residual)
TENSOR(8, dx)

void main()
{
    uint count = P(0), per_sample = P(1), channels = P(2), width = P(3), i = gl_GlobalInvocationID.x * STEP;
    if (i >= count) return;
    uint n = i / per_sample, c = i % channels, set = set_of(i, n, c, channels, width);
    vec4 normal, du, dn;
    at_element(i, n, c, channels, set, normal, du, dn);
    vec4 d = f32_normalised_slope(dn, normal, vec4(stats(2 * set + 1)), vec4(means(2 * set)), vec4(means(2 * set + 1)));
    if (HAS(residual)) d += LOAD(residual, i);
    STORE(dx, i, d)
}
