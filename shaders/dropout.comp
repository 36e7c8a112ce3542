#version 450
// y = x / (1 - rate) where the element's uniform number is at least rate, else 0.
#extension GL_GOOGLE_include_directive : require
#include "tensor.glsl"
#include "quads.glsl"
#include "philox.glsl"
TENSOR(0, x)
INTEGERS(1, samples)
INTEGERS(2, seed)
TENSOR(3, y)

void main()
{
    uint per_sample = P(0), blocks = P(1), purpose = P(2), n = gl_WorkGroupID.y, block = gl_GlobalInvocationID.x;
    if (block >= blocks) return;
    uvec4 w = philox(uvec2(seed(0), seed(1)), uvec2(samples(2 * n), samples(2 * n + 1)), purpose, block);
    vec4 factor;
    for (int k = 0; k < 4; k++) factor[k] = uniform_of(w[k]) >= PF(3) ? PF(4) : 0;
    uint i = n * per_sample + 4 * block;
    if (QUADS != 0) y_store4(i, factor * x4(i));
    else
        for (uint k = 0; k < 4 && 4 * block + k < per_sample; k++) y_store(i + k, factor[k] * x(i + k));
}
