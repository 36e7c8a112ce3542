// Activation functions and their slopes; `act` as sid2_act.
#define ACT_NONE 0
#define ACT_SILU 1
#define ACT_GELU 2

// Phi(x) = (1 + erf(x / sqrt 2)) / 2, by Abramowitz and Stegun 7.1.26: within 1e-7. `bell` is exp(-x^2 / 2).
vec4 normal_share(vec4 x, vec4 bell)
{
    vec4 t = 1 / (1 + 0.3275911 * 0.70710678 * abs(x));
    vec4 tail = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
    tail *= 0.5 * bell;
    return mix(tail, 1 - tail, greaterThan(x, vec4(0)));
}

vec4 activate(uint act, vec4 x)
{
    if (act == ACT_SILU) return x / (1 + exp(-x));
    if (act == ACT_GELU) return x * normal_share(x, exp(-0.5 * x * x));
    return x;
}

vec4 activation_slope(uint act, vec4 x)
{
    if (act == ACT_SILU) {
        vec4 s = 1 / (1 + exp(-x));
        return s * (1 + x * (1 - s));
    }
    if (act == ACT_GELU) {
        vec4 bell = exp(-0.5 * x * x);
        return normal_share(x, bell) + 0.39894228 * x * bell;
    }
    return vec4(1);
}
