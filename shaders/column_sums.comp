#version 450
// parts[p,c] = sum of x[r,c] over the p-th share of the rows.
#extension GL_GOOGLE_include_directive : require
#include "tensor.glsl"
TENSOR(0, x)
TENSOR(1, parts)

void main()
{
    uint rows = P(0), columns = P(1), share = P(2), c = gl_GlobalInvocationID.x, part = gl_WorkGroupID.y;
    if (c >= columns) return;
    float sum = 0;
    for (uint r = part * share; r < min((part + 1) * share, rows); r++) sum += x(r * columns + c);
    parts_store(part * columns + c, sum);
}
