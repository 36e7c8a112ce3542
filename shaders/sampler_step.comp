#version 450
// One step of any sampler; coef as in core/op.def. z_next may lie over z.
#extension GL_GOOGLE_include_directive : require
#include "tensor.glsl"
#include "quads.glsl"
TENSOR(0, z)
TENSOR(1, v)
TENSOR(2, v_null)
TENSOR(3, noise)
TENSOR(4, x_prev)
TENSOR(5, coef)
TENSOR(6, z_next)
TENSOR(7, x_hat)

void main()
{
    uint count = P(0), i = gl_GlobalInvocationID.x * STEP;
    if (i >= count) return;
    vec4 guided = LOAD(v, i), at = LOAD(z, i);
    if (HAS(v_null)) {
        vec4 base = LOAD(v_null, i);
        guided = base + coef(2) * (guided - base);
    }
    vec4 x = clamp(coef(0) * at - coef(1) * guided, -1, 1);
    vec4 next = coef(3) * at + coef(4) * x;
    if (HAS(noise)) next += coef(5) * LOAD(noise, i);
    if (HAS(x_prev)) next += coef(6) * LOAD(x_prev, i);
    STORE(z_next, i, next)
    STORE(x_hat, i, x)
}
