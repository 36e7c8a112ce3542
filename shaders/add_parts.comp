#version 450
// y[i] += sum of parts[p,i] over p, in order.
#extension GL_GOOGLE_include_directive : require
#include "tensor.glsl"
TENSOR(0, parts)
TENSOR(1, y)

void main()
{
    uint count = P(0), i = gl_GlobalInvocationID.x;
    if (i >= count) return;
    float sum = 0;
    for (uint p = 0; p < P(1); p++) sum += parts(p * count + i);
    y_store(i, y(i) + sum);
}
