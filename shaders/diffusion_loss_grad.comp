#version 450
// dv = dloss[n] weight[n] * -2 sigma[n] (xhat - x) / elements; xhat = alpha[n] z - sigma[n] v. NaN where loss[n] is not finite.
#extension GL_GOOGLE_include_directive : require
#include "tensor.glsl"
#include "quads.glsl"
#include "formulas.glsl"
TENSOR(0, dloss)
TENSOR(1, v)
TENSOR(2, z)
TENSOR(3, x)
TENSOR(4, alpha)
TENSOR(5, sigma)
TENSOR(6, weight)
TENSOR(7, loss)
TENSOR(8, dv)

void main()
{
    uint count = P(0), per_sample = P(1), i = gl_GlobalInvocationID.x * STEP;
    if (i >= count) return;
    uint n = i / per_sample;
    vec4 error = f32_x_error(LOAD(v, i), LOAD(z, i), LOAD(x, i), alpha(n), sigma(n));
    STORE(dv, i, f32_loss_slope(loss(n), dloss(n), weight(n), sigma(n), PF(2)) * error)
}
