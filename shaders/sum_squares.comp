#version 450
// partial[j] = sum of squares of elements j, j + P(1), j + 2 P(1), ..
#extension GL_GOOGLE_include_directive : require
#include "tensor.glsl"
#include "quads.glsl"
TENSOR(0, x)
TENSOR(1, partial)

void main()
{
    uint count = P(0), parts = P(1), j = gl_GlobalInvocationID.x;
    if (j >= parts) return;
    vec4 sum = vec4(0);
    for (uint i = j * STEP; i < count; i += parts * STEP) {
        vec4 v = LOAD(x, i);
        sum += v * v;
    }
    partial_store(j, QUADS != 0 ? dot(sum, vec4(1)) : sum.x);
}
