/* The elementwise formulas, written once for every backend. C (doubles in the reference, whole vectors in the
 * fast loops), CUDA C++ and GLSL all read this text, so it keeps to what the three share: functions of one
 * expression, whose types and few primitives are named by whoever includes it, as often as wanted:
 *
 *     REAL                     an element: double, float, a vector of floats, vec4
 *     NUMBER                   what many elements share: double or float
 *     FORMULA(name)            what the function is called here
 *     FORMULA_INLINE           how a function is declared: static inline
 *     CONSTANT(x), EACH(x)     a literal as a NUMBER; a NUMBER as a REAL
 *     SQRT(x), CLAMP(x)        of a REAL; within -1 .. 1, where NaN stays NaN
 *     MULTIPLY_ADD(a, b, c)    a b + c of REALs, where there is a better way than to write it so
 *     FINITE(x), NOT_FINITE    whether a NUMBER is neither infinite nor NaN; a NaN
 *     KIND                     the type of an activation's number, sid2_act; and, as fast and as exact as the
 *                              place wants, SIGMOID(x), BELL(x) = exp(-x^2 / 2), NORMAL_CDF(x, bell). Without
 *                              KIND, no activations
 *
 * NaN: nothing here turns a NaN into a number, but for to_pixel. What is not finite in a picture or a step of
 * the optimizer stays so, until whoever could make a picture or a weight of it looks (docs/design.md). */

#ifndef MULTIPLY_ADD
#define MULTIPLY_ADD(a, b, c) ((a) * (b) + (c))
#endif

/* ---- Activations ---- */
#ifdef KIND
FORMULA_INLINE REAL FORMULA(silu)(REAL x) { return x * SIGMOID(x); }
FORMULA_INLINE REAL FORMULA(silu_slope)(REAL x)
{
    REAL s = SIGMOID(x);
    return s + x * s * (CONSTANT(1) - s);
}

/* x Phi(x). */
FORMULA_INLINE REAL FORMULA(gelu)(REAL x) { return x * NORMAL_CDF(x, BELL(x)); }
FORMULA_INLINE REAL FORMULA(gelu_slope)(REAL x)
{
    REAL bell = BELL(x);
    return NORMAL_CDF(x, bell) + x * bell * CONSTANT(0.39894228040143267794);
}

FORMULA_INLINE REAL FORMULA(activate)(KIND kind, REAL x)
{
    if (kind == SID2_ACT_SILU) return FORMULA(silu)(x);
    if (kind == SID2_ACT_GELU) return FORMULA(gelu)(x);
    return x;
}
FORMULA_INLINE REAL FORMULA(activation_slope)(KIND kind, REAL x)
{
    if (kind == SID2_ACT_SILU) return FORMULA(silu_slope)(x);
    if (kind == SID2_ACT_GELU) return FORMULA(gelu_slope)(x);
    return EACH(CONSTANT(1));
}
#endif

/* ---- Norms and FiLM: n = normalised(x), u = affine(n, gain, offset), y = act(u) ---- */
FORMULA_INLINE REAL FORMULA(affine)(REAL x, REAL gain, REAL offset) { return MULTIPLY_ADD(x, gain, offset); }

/* FiLM(h) = affine(h, film_gain(scale), shift). */
FORMULA_INLINE REAL FORMULA(film_gain)(REAL scale) { return CONSTANT(1) + scale; }

FORMULA_INLINE REAL FORMULA(normalised)(REAL x, REAL mean, REAL rstd) { return (x - mean) * rstd; }

/* dx from dn and its means over the set that shares mean and rstd: of dn (0 where the mean is not taken off),
 * of dn n. */
FORMULA_INLINE REAL FORMULA(normalised_slope)(REAL dn, REAL n, REAL rstd, REAL mean_dn, REAL mean_dn_n)
{
    return (dn - mean_dn - n * mean_dn_n) * rstd;
}

/* ---- Diffusion ---- */
FORMULA_INLINE REAL FORMULA(diffuse)(REAL x, REAL eps, NUMBER alpha, NUMBER sigma)
{
    return alpha * x + sigma * eps;
}

/* xhat - x, with xhat = alpha z - sigma v. */
FORMULA_INLINE REAL FORMULA(x_hat)(REAL z, REAL v, NUMBER alpha, NUMBER sigma)
{
    return alpha * z - sigma * v;
}
FORMULA_INLINE REAL FORMULA(x_error)(REAL v, REAL z, REAL x, NUMBER alpha, NUMBER sigma)
{
    return FORMULA(x_hat)(z, v, alpha, sigma) - x;
}

/* The loss of a sample from its sum of squared errors, and what its error is multiplied by in the gradient. A
 * loss that is not finite has no gradient: NaN, so that the norm tells of it. */
FORMULA_INLINE NUMBER FORMULA(loss)(NUMBER sum, NUMBER weight, NUMBER elements)
{
    return weight * sum / elements;
}
FORMULA_INLINE NUMBER FORMULA(loss_slope)(NUMBER loss, NUMBER dloss, NUMBER weight, NUMBER sigma,
                                          NUMBER elements)
{
    return FINITE(loss) ? CONSTANT(-2) * dloss * weight * sigma / elements : NOT_FINITE;
}

/* ---- A step of any sampler ---- */
/* Part of the way: guidance, moments, averages. */
FORMULA_INLINE REAL FORMULA(toward)(REAL from, REAL to, NUMBER share) { return from + share * (to - from); }

FORMULA_INLINE REAL FORMULA(x_hat_clamped)(REAL z, REAL v, NUMBER alpha, NUMBER sigma)
{
    return CLAMP(FORMULA(x_hat)(z, v, alpha, sigma));
}
FORMULA_INLINE REAL FORMULA(z_next)(REAL z, REAL x_hat, NUMBER of_z, NUMBER of_x)
{
    return of_z * z + of_x * x_hat;
}
/* The noise and the x_hat before, where there are any. */
FORMULA_INLINE REAL FORMULA(z_more)(REAL z_next, REAL term, NUMBER factor) { return z_next + factor * term; }

/* ---- Pictures ---- */
FORMULA_INLINE REAL FORMULA(from_pixel)(REAL level) { return level / CONSTANT(127.5) - CONSTANT(1); }

/* To be cut to an integer; 0 for NaN. */
FORMULA_INLINE NUMBER FORMULA(to_pixel)(NUMBER x)
{
    NUMBER low = CONSTANT(-1) < x ? x : CONSTANT(-1), inside = low < CONSTANT(1) ? low : CONSTANT(1);
    return CONSTANT(127.5) * (inside + CONSTANT(1)) + CONSTANT(0.5);
}

/* ---- Optimizer ---- */
/* What gradients are multiplied by; their norm is finite. */
FORMULA_INLINE NUMBER FORMULA(clip_factor)(NUMBER clip, NUMBER norm)
{
    return clip < norm ? clip / norm : CONSTANT(1);
}

/* The weight after Adam's moments m = toward(m, g, 1 - beta1), v = toward(v, g^2, 1 - beta2); rate = lr / c1 and
 * spread = 1 / c2 take off the moments' start from 0. */
FORMULA_INLINE REAL FORMULA(adam)(REAL w, REAL m, REAL v, NUMBER rate, NUMBER spread, NUMBER eps)
{
    return w - rate * m / (SQRT(v * spread) + eps);
}

#undef REAL
#undef NUMBER
#undef FORMULA
#undef FORMULA_INLINE
#undef CONSTANT
#undef EACH
#undef CLAMP
#undef SQRT
#undef MULTIPLY_ADD
#undef FINITE
#undef NOT_FINITE
#undef SIGMOID
#undef BELL
#undef NORMAL_CDF
#undef KIND
