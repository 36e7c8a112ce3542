#version 450
// From sums[N,2,C] of du and du n: dgamma and dbeta, added, and dfilm. An invocation owns a channel.
#extension GL_GOOGLE_include_directive : require
#include "tensor.glsl"
#include "formulas.glsl"
TENSOR(0, sums)
TENSOR(1, gamma)
TENSOR(2, beta)
TENSOR(3, film)
TENSOR(4, dgamma)
TENSOR(5, dbeta)
TENSOR(6, dfilm)

void main()
{
    uint channels = P(0), samples = P(1), c = gl_GlobalInvocationID.x;
    if (c >= channels) return;
    float g = 0, b = 0;
    for (uint n = 0; n < samples; n++) {
        uint at = n * 2 * channels + c;
        float sum = sums(at), along = sums(at + channels), scale = 1;
        if (HAS(film)) scale = f32_film_gain(vec4(film(at))).x;
        g += scale * along;
        b += scale * sum;
        if (HAS(dfilm)) {
            dfilm_store(at, gamma(c) * along + (HAS(beta) ? beta(c) * sum : 0));
            dfilm_store(at + channels, sum);
        }
    }
    if (HAS(dgamma)) dgamma_store(c, dgamma(c) + g);
    if (HAS(dbeta)) dbeta_store(c, dbeta(c) + b);
}
