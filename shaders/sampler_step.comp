#version 450
// One step of any sampler; coef as in core/op.def. z_next may lie over z.
#extension GL_GOOGLE_include_directive : require
#include "tensor.glsl"
#include "quads.glsl"
#include "formulas.glsl"
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
        guided = f32_toward(base, guided, coef(2));
    }
    vec4 x = f32_x_hat_clamped(at, guided, coef(0), coef(1));
    vec4 next = f32_z_next(at, x, coef(3), coef(4));
    if (HAS(noise)) next = f32_z_more(next, LOAD(noise, i), coef(5));
    if (HAS(x_prev)) next = f32_z_more(next, LOAD(x_prev, i), coef(6));
    STORE(z_next, i, next)
    STORE(x_hat, i, x)
}
