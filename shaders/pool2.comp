#version 450
// y[..,H/2,W/2,C] = scale * sum of each 2 x 2 block.
#extension GL_GOOGLE_include_directive : require
#include "tensor.glsl"
#include "quads.glsl"
TENSOR(0, x)
TENSOR(1, y)

void main()
{
    uint count = P(0), line = P(1), channels = P(2), i = gl_GlobalInvocationID.x * STEP; // line: of y
    if (i >= count) return;
    uint row = i / line, column = i % line / channels;
    uint at = row * 4 * line + column * 2 * channels + i % channels;
    vec4 sum = LOAD(x, at) + LOAD(x, at + channels) + LOAD(x, at + 2 * line) + LOAD(x, at + 2 * line + channels);
    STORE(y, i, PF(3) * sum)
}
