#version 450
// dx = dy (1 + scale) act'(x).
#extension GL_GOOGLE_include_directive : require
#include "tensor.glsl"
#include "quads.glsl"
#include "formulas.glsl"
layout(constant_id = 17) const uint ACT = 0;
TENSOR(0, dy)
TENSOR(1, x)
TENSOR(2, film)
TENSOR(3, dx)

void main()
{
    uint count = P(0), per_sample = P(1), channels = P(2), i = gl_GlobalInvocationID.x * STEP;
    if (i >= count) return;
    vec4 d = LOAD(dy, i) * f32_activation_slope(ACT, LOAD(x, i));
    if (HAS(film)) d *= f32_film_gain(LOAD(film, i / per_sample * 2 * channels + i % channels));
    STORE(dx, i, d)
}
