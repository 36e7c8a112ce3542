#version 450
// loss[n] = weight[n] * sum of partial[n,parts] / elements.
#extension GL_GOOGLE_include_directive : require
#include "tensor.glsl"
#include "formulas.glsl"
TENSOR(0, partial)
TENSOR(1, weight)
TENSOR(2, loss)

void main()
{
    uint samples = P(0), parts = P(1), n = gl_GlobalInvocationID.x;
    if (n >= samples) return;
    float sum = 0;
    for (uint k = 0; k < parts; k++) sum += partial(n * parts + k);
    loss_store(n, f32_loss(sum, weight(n), PF(2)));
}
