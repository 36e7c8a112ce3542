// core/formulas.h on vec4: f32_silu and so on. For one number: f32_silu(vec4(x)).x; compilers leave the rest out.
#define SID2_ACT_NONE 0
#define SID2_ACT_SILU 1
#define SID2_ACT_GELU 2

// By their bits: a shader's compiler may take it that no NaN comes.
bool is_finite(float x) { return (floatBitsToUint(x) & 0x7fffffffu) < 0x7f800000u; }
vec4 clamp_finite(vec4 x)
{
    return mix(clamp(x, -1, 1), x, greaterThan(floatBitsToUint(x) & 0x7fffffffu, uvec4(0x7f800000u)));
}

// Phi(x) = (1 + erf(x / sqrt 2)) / 2, by Abramowitz and Stegun 7.1.26: within 1e-7.
vec4 normal_cdf(vec4 x, vec4 bell)
{
    vec4 t = 1 / (1 + 0.3275911 * 0.70710678 * abs(x));
    vec4 tail = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
    tail *= 0.5 * bell;
    return mix(tail, 1 - tail, greaterThan(x, vec4(0)));
}

#define REAL vec4
#define NUMBER float
#define FORMULA(name) f32_##name
#define FORMULA_INLINE
#define CONSTANT(x) float(x)
#define EACH(x) vec4(x)
#define SQRT(x) sqrt(x)
#define CLAMP(x) clamp_finite(x)
#define FINITE(x) is_finite(x)
#define NOT_FINITE uintBitsToFloat(0x7fc00000u)
#define KIND uint
#define SIGMOID(x) (1 / (1 + exp(-(x))))
#define BELL(x) exp(-0.5 * (x) * (x))
#define NORMAL_CDF(x, bell) normal_cdf(x, bell)
#include "../core/formulas.h"
