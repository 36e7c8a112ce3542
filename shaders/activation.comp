#version 450
// y = FiLM(act(x)); film[N,2C] holds scale and shift.
#extension GL_GOOGLE_include_directive : require
#include "tensor.glsl"
#include "quads.glsl"
#include "formulas.glsl"
layout(constant_id = 17) const uint ACT = 0;
TENSOR(0, x)
TENSOR(1, film)
TENSOR(2, y)

void main()
{
    uint count = P(0), per_sample = P(1), channels = P(2), i = gl_GlobalInvocationID.x * STEP;
    if (i >= count) return;
    vec4 h = f32_activate(ACT, LOAD(x, i));
    if (HAS(film)) {
        uint at = i / per_sample * 2 * channels + i % channels;
        h = f32_affine(h, f32_film_gain(LOAD(film, at)), LOAD(film, at + channels));
    }
    STORE(y, i, h)
}
