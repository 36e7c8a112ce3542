#version 450
// Gradient of FiLM behind an activation, in part: partial[N,parts,2C] = sums over a part of the rows of dy act(x) and dy.
#extension GL_GOOGLE_include_directive : require
#include "tensor.glsl"
#include "formulas.glsl"
layout(constant_id = 17) const uint ACT = 0;
TENSOR(0, dy)
TENSOR(1, x)
TENSOR(2, partial)

void main()
{
    uint channels = P(0), rows = P(1), parts = P(2);
    uint c = gl_GlobalInvocationID.x, part = gl_WorkGroupID.y, n = gl_WorkGroupID.z;
    if (c >= channels) return;
    float scale = 0, shift = 0;
    for (uint row = part; row < rows; row += parts) {
        uint i = (n * rows + row) * channels + c;
        float d = dy(i);
        scale += d * f32_activate(ACT, vec4(x(i))).x;
        shift += d;
    }
    uint at = (n * parts + part) * 2 * channels + c;
    partial_store(at, scale);
    partial_store(at + channels, shift);
}
