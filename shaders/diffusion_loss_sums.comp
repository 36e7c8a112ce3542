#version 450
// partial[N,parts] = sums of (xhat - x)^2 over a part of each sample; xhat = alpha z - sigma v.
#extension GL_GOOGLE_include_directive : require
#include "tensor.glsl"
#include "formulas.glsl"
TENSOR(0, v)
TENSOR(1, z)
TENSOR(2, x)
TENSOR(3, alpha)
TENSOR(4, sigma)
TENSOR(5, partial)

void main()
{
    uint per_sample = P(0), parts = P(1), part = gl_GlobalInvocationID.x, n = gl_WorkGroupID.y;
    if (part >= parts) return;
    float a = alpha(n), s = sigma(n), sum = 0;
    for (uint k = part; k < per_sample; k += parts) {
        uint i = n * per_sample + k;
        float error = f32_x_error(vec4(v(i)), vec4(z(i)), vec4(x(i)), a, s).x;
        sum += error * error;
    }
    partial_store(n * parts + part, sum);
}
