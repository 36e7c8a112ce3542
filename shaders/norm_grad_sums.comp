#version 450
// Of each channel, over a part of a sample's rows: partial[N,parts,2,C] = sums of du and du n.
#extension GL_GOOGLE_include_directive : require
#include "tensor.glsl"
#include "norm_grad.glsl"
TENSOR(6, partial)

void main()
{
    uint channels = P(0), rows = P(1), parts = P(2), width = P(3);
    uint c = gl_GlobalInvocationID.x * STEP, part = gl_GlobalInvocationID.y, n = gl_WorkGroupID.z;
    if (c >= channels || part >= parts) return;
    vec4 sum = vec4(0), along = vec4(0), normal, du, dn;
    for (uint row = part; row < rows; row += parts) {
        uint i = (n * rows + row) * channels + c;
        at_element(i, n, c, channels, set_of(i, n, c, channels, width), normal, du, dn);
        sum += du;
        along += du * normal;
    }
    uint at = (n * parts + part) * 2 * channels + c;
    STORE(partial, at, sum)
    STORE(partial, at + channels, along)
}
