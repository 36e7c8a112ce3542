#version 450
// dv = dloss[n] weight[n] * -2 sigma[n] (xhat - x) / elements; xhat = alpha[n] z - sigma[n] v.
#extension GL_GOOGLE_include_directive : require
#include "tensor.glsl"
#include "quads.glsl"
TENSOR(0, dloss)
TENSOR(1, v)
TENSOR(2, z)
TENSOR(3, x)
TENSOR(4, alpha)
TENSOR(5, sigma)
TENSOR(6, weight)
TENSOR(7, dv)

void main()
{
    uint count = P(0), per_sample = P(1), i = gl_GlobalInvocationID.x * STEP;
    if (i >= count) return;
    uint n = i / per_sample;
    vec4 error = alpha(n) * LOAD(z, i) - sigma(n) * LOAD(v, i) - LOAD(x, i);
    STORE(dv, i, dloss(n) * weight(n) * -2 * sigma(n) * PF(2) * error)
}
