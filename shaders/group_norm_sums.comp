#version 450
// Of each channel, over a part of a sample's rows: partial[N,parts,2,C] = sums of x - s and (x - s)^2, with s the group's first element, so that no digits cancel.
#extension GL_GOOGLE_include_directive : require
#include "tensor.glsl"
#include "quads.glsl"
TEXELS(0, x)
TENSOR(1, partial)

void main()
{
    uint channels = P(0), rows = P(1), parts = P(2), width = P(3); // width: channels of a group
    uint c = gl_GlobalInvocationID.x * STEP, part = gl_GlobalInvocationID.y, n = gl_WorkGroupID.z;
    if (c >= channels || part >= parts) return;
    uint base = n * rows * channels;
    float shift = x(base + c / width * width);
    vec4 sum = vec4(0), squares = vec4(0);
    for (uint row = part; row < rows; row += parts) {
        vec4 v = LOAD(x, base + row * channels + c) - shift;
        sum += v;
        squares += v * v;
    }
    uint at = (n * parts + part) * 2 * channels + c;
    STORE(partial, at, sum)
    STORE(partial, at + channels, squares)
}
