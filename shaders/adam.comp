#version 450
// Adam, EMA and clearing of the gradients, in place; hyper as in core/op.def.
#extension GL_GOOGLE_include_directive : require
#include "tensor.glsl"
#include "quads.glsl"
#include "formulas.glsl"
TENSOR(0, weights)
TENSOR(1, grads)
TENSOR(2, m)
TENSOR(3, v)
TENSOR(4, ema)
TENSOR(5, norm)
TENSOR(6, hyper)

void main()
{
    uint count = P(0), i = gl_GlobalInvocationID.x * STEP;
    if (i >= count) return;
    float rate = hyper(0), beta1 = hyper(1), beta2 = hyper(2), eps = hyper(3), c1 = hyper(4), c2 = hyper(5);
    vec4 g = LOAD(grads, i) * f32_clip_factor(hyper(6), norm(0));
    vec4 m1 = LOAD(m, i), v1 = LOAD(v, i), w = LOAD(weights, i), average = LOAD(ema, i);
    m1 = f32_toward(m1, g, 1 - beta1);
    v1 = f32_toward(v1, g * g, 1 - beta2);
    w = f32_adam(w, m1, v1, rate / c1, 1 / c2, eps);
    STORE(m, i, m1)
    STORE(v, i, v1)
    STORE(weights, i, w)
    STORE(ema, i, f32_toward(average, w, hyper(7)))
    STORE(grads, i, vec4(0))
}
