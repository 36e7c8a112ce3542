#version 450
// Adam, in place, and clearing of the gradients where CLEAR; low, if any: the weights in its type; hyper as in core/op.def.
#extension GL_GOOGLE_include_directive : require
#include "tensor.glsl"
#include "quads.glsl"
#include "formulas.glsl"
layout(constant_id = 17) const uint CLEAR = 0;
TENSOR(0, weights)
TENSOR(1, grads)
TENSOR(2, m)
TENSOR(3, v)
TENSOR(4, norm)
TENSOR(5, hyper)
TENSOR(6, low)

void main()
{
    uint count = P(0), i = gl_GlobalInvocationID.x * STEP;
    if (i >= count || !is_finite(norm(0))) return;
    float rate = hyper(0) / hyper(4), spread = 1 / hyper(5);
    vec4 g = LOAD(grads, i) * f32_clip_factor(hyper(6), norm(0));
    vec4 m1 = f32_toward(LOAD(m, i), g, 1 - hyper(1)), v1 = f32_toward(LOAD(v, i), g * g, 1 - hyper(2));
    STORE(m, i, m1)
    STORE(v, i, v1)
    vec4 w = f32_adam(LOAD(weights, i), m1, v1, rate, spread, hyper(3));
    STORE(weights, i, w)
    if (HAS(low)) STORE(low, i, w)
    if (CLEAR != 0) STORE(grads, i, vec4(0))
}
