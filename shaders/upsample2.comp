#version 450
// y[..,2H,2W,C] = residual + scale * nearest neighbour.
#extension GL_GOOGLE_include_directive : require
#include "tensor.glsl"
#include "quads.glsl"
TENSOR(0, x)
TENSOR(1, residual)
TENSOR(2, y)

void main()
{
    uint count = P(0), line = P(1), channels = P(2), i = gl_GlobalInvocationID.x * STEP; // line: of y
    if (i >= count) return;
    uint row = i / line, column = i % line / channels;
    vec4 v = PF(3) * LOAD(x, row / 2 * (line / 2) + column / 2 * channels + i % channels);
    if (HAS(residual)) v += LOAD(residual, i);
    STORE(y, i, v)
}
