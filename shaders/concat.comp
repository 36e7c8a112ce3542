#version 450
// The channels of x to their place among those of y.
#extension GL_GOOGLE_include_directive : require
#include "tensor.glsl"
#include "quads.glsl"
TENSOR(0, x)
TENSOR(1, y)

void main()
{
    uint count = P(0), channels = P(1), all = P(2), place = P(3), i = gl_GlobalInvocationID.x * STEP;
    if (i >= count) return;
    STORE(y, i / channels * all + place + i % channels, LOAD(x, i))
}
