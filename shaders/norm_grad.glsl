// What the gradients of both norms share. With n = (x - mean) rstd, h = n gamma + beta, u = FiLM(h), y = act(u):
// du = dy act'(u), and dn = du (1 + scale) gamma.
#include "quads.glsl"
#include "formulas.glsl"
layout(constant_id = 17) const uint ACT = 0;
layout(constant_id = 18) const uint BY_ROW = 0;
TEXELS(0, dy)
TEXELS(1, x)
TEXELS(2, stats)
TEXELS(3, gamma)
TEXELS(4, beta)
TEXELS(5, film)

// The mean and rstd that element i has, by its place in stats.
uint set_of(uint i, uint n, uint c, uint channels, uint width)
{
    return BY_ROW != 0 ? i / channels : n * (channels / width) + c / width;
}

void at_element(uint i, uint n, uint c, uint channels, uint set, out vec4 normal, out vec4 du, out vec4 dn)
{
    normal = f32_normalised(LOAD(x, i), vec4(stats(2 * set)), vec4(stats(2 * set + 1)));
    vec4 gain = LOAD(gamma, c), u = f32_affine(normal, gain, HAS(beta) ? LOAD(beta, c) : vec4(0));
    if (HAS(film)) {
        uint at = n * 2 * channels + c;
        vec4 more = f32_film_gain(LOAD(film, at));
        u = f32_affine(u, more, LOAD(film, at + channels));
        gain *= more;
    }
    du = LOAD(dy, i) * f32_activation_slope(ACT, u);
    dn = du * gain;
}
