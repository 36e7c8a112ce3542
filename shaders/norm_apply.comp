#version 450
// y = act(FiLM((x - mean) rstd gamma + beta)), mean and rstd of the row or of the sample's group.
#extension GL_GOOGLE_include_directive : require
#include "tensor.glsl"
#include "quads.glsl"
#include "formulas.glsl"
layout(constant_id = 17) const uint ACT = 0;
layout(constant_id = 18) const uint BY_ROW = 0;
TEXELS(0, x)
TEXELS(1, stats)
TEXELS(2, gamma)
TEXELS(3, beta)
TEXELS(4, film)
TENSOR(5, y)

void main()
{
    uint count = P(0), per_sample = P(1), channels = P(2), width = P(3), i = gl_GlobalInvocationID.x * STEP;
    if (i >= count) return;
    uint n = i / per_sample, c = i % channels;
    uint set = BY_ROW != 0 ? i / channels : n * (channels / width) + c / width;
    vec4 h = f32_normalised(LOAD(x, i), vec4(stats(2 * set)), vec4(stats(2 * set + 1)));
    h = f32_affine(h, LOAD(gamma, c), HAS(beta) ? LOAD(beta, c) : vec4(0));
    if (HAS(film)) {
        uint at = n * 2 * channels + c;
        h = f32_affine(h, f32_film_gain(LOAD(film, at)), LOAD(film, at + channels));
    }
    STORE(y, i, f32_activate(ACT, h))
}
