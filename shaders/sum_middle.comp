#version 450
// y[A,B] = sum over k of x[A,K,B], in order of k.
#extension GL_GOOGLE_include_directive : require
#include "tensor.glsl"
TENSOR(0, x)
TENSOR(1, y)

void main()
{
    uint count = P(0), middle = P(1), inner = P(2), i = gl_GlobalInvocationID.x;
    if (i >= count) return;
    uint at = i / inner * middle * inner + i % inner;
    float sum = 0;
    for (uint k = 0; k < middle; k++) sum += x(at + k * inner);
    y_store(i, sum);
}
