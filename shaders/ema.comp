#version 450
// average += share (weights - average), in place, where the norm is finite.
#extension GL_GOOGLE_include_directive : require
#include "tensor.glsl"
#include "quads.glsl"
#include "formulas.glsl"
TENSOR(0, average)
TENSOR(1, weights)
TENSOR(2, norm)
TENSOR(3, share)

void main()
{
    uint count = P(0), i = gl_GlobalInvocationID.x * STEP;
    if (i >= count || !is_finite(norm(0))) return;
    STORE(average, i, f32_toward(LOAD(average, i), LOAD(weights, i), share(0)))
}
