#version 450
// y[n] = cos(t f_k), then sin(t f_k); f_k = 2^-(k e), e = log2(period) / half in two parts, the first short enough for k times it to be exact.
#extension GL_GOOGLE_include_directive : require
#include "tensor.glsl"
#include "philox.glsl"
TENSOR(0, t)
TENSOR(1, y)

void main()
{
    uint count = P(0), half_ = P(1), i = gl_GlobalInvocationID.x;
    if (i >= count) return;
    uint n = i / half_, k = i % half_;
    precise float exponent = float(k) * PF(2);
    float whole = floor(exponent);
    precise float rest = (exponent - whole) + float(k) * PF(3);
    precise float turns = t(n) * ldexp(exp2(-rest), -int(whole)) * 0.159154943;
    vec2 v = cos_sin_turn(turns - floor(turns));
    y_store(n * 2 * half_ + k, v.x);
    y_store(n * 2 * half_ + half_ + k, v.y);
}
