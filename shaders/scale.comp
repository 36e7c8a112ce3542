#version 450
// y = scale x, four elements an invocation.
#extension GL_GOOGLE_include_directive : require
#include "tensor.glsl"
TENSOR(0, x)
TENSOR(1, y)

void main()
{
    uint i = gl_GlobalInvocationID.x * 4;
    if (i + 4 <= P(0)) {
        y_store4(i, PF(1) * x4(i));
        return;
    }
    for (; i < P(0); i++) y_store(i, PF(1) * x(i));
}
