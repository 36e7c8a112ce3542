#version 450
// Random numbers, a Philox block of four elements an invocation: uniform or normal.
#extension GL_GOOGLE_include_directive : require
#include "tensor.glsl"
#include "quads.glsl"
#include "philox.glsl"
layout(constant_id = 17) const uint NORMAL = 0;
INTEGERS(0, samples)
INTEGERS(1, seed)
TENSOR(2, y)

void main()
{
    uint per_sample = P(0), blocks = P(1), purpose = P(2), n = gl_WorkGroupID.y, block = gl_GlobalInvocationID.x;
    if (block >= blocks) return;
    uvec4 w = philox(uvec2(seed(0), seed(1)), uvec2(samples(2 * n), samples(2 * n + 1)), purpose, block);
    vec4 v = NORMAL != 0 ? vec4(normal_pair(w.x, w.y), normal_pair(w.z, w.w))
                         : vec4(uniform_of(w.x), uniform_of(w.y), uniform_of(w.z), uniform_of(w.w));
    uint i = n * per_sample + 4 * block;
    if (QUADS != 0) y_store4(i, v);
    else
        for (uint k = 0; k < 4 && 4 * block + k < per_sample; k++) y_store(i + k, v[k]);
}
