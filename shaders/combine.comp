#version 450
// y = p x + q b. p and q are numbers, or alpha and sigma of each sample (diffuse).
#extension GL_GOOGLE_include_directive : require
#include "tensor.glsl"
#include "quads.glsl"
#include "formulas.glsl"
TENSOR(0, x)
TENSOR(1, b)
TENSOR(2, alpha)
TENSOR(3, sigma)
TENSOR(4, y)

void main()
{
    uint count = P(0), per_sample = P(1), i = gl_GlobalInvocationID.x * STEP;
    if (i >= count) return;
    float p = PF(2), q = PF(3);
    if (HAS(alpha)) {
        p = alpha(i / per_sample);
        q = sigma(i / per_sample);
    }
    vec4 v = LOAD(x, i);
    if (HAS(b)) v = f32_diffuse(v, LOAD(b, i), p, q);
    else v *= p;
    STORE(y, i, v)
}
