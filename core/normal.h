/* Normal numbers from Philox words, alike on every backend.
 *
 * Box-Muller (1958) with its own logarithm, sine and cosine: polynomials in a fixed order of f32 additions
 * and multiplications, and no library call but the square root, which IEEE 754 rounds exactly. Compilers must
 * not fuse a multiplication with an addition: include this from files built with -ffp-contract=off. No
 * branches, so that loops over it vectorise. */
#ifndef SID2_NORMAL_H
#define SID2_NORMAL_H

#include "philox.h"

#include <math.h>
#include <string.h>

/* ln u for u in (0,1), within 1 ulp or so: u = 2^e m with m in [sqrt(1/2), sqrt(2)), and with f = m - 1
 * ln m = f - f^2/2 + f^3 P(f), P a minimax fit. */
SID2_INLINE float sid2_log_unit(float u)
{
    uint32_t bits, half_root = 0x3f3504f3u; /* sqrt(1/2) */
    float m;
    memcpy(&bits, &u, 4);
    int32_t e = (int32_t)(bits - half_root) >> 23;
    bits -= (uint32_t)e << 23;
    memcpy(&m, &bits, 4);
    float f = m - 1.0f, f2 = f * f;
    float p = -0x1.41ee0ap-4f;
    p = p * f + 0x1.07d0f0p-3f;
    p = p * f + -0x1.0ce07cp-3f;
    p = p * f + 0x1.226e4ap-3f;
    p = p * f + -0x1.54788ap-3f;
    p = p * f + 0x1.99a596p-3f;
    p = p * f + -0x1.000220p-2f;
    p = p * f + 0x1.55554ap-2f;
    /* ln 2 in two parts, the first short enough for e times it to be exact. */
    float low = (float)e * -0x1.bd0106p-13f + (p * f * f2 - 0.5f * f2);
    return (float)e * 0x1.63p-1f + (f + low);
}

/* cos and sin of 2 pi u for u in (0,1): u = q/4 + r with r in [-1/8, 1/8], exactly. */
SID2_INLINE void sid2_cos_sin_turn(float u, float *cosine, float *sine)
{
    int32_t q = (int32_t)(4.0f * u + 0.5f);
    float r = u - 0.25f * (float)q, z = r * r;
    float s = 0x1.4bc89ap+5f;
    s = s * z + -0x1.32ca9ep+6f;
    s = s * z + 0x1.466bbap+6f;
    s = s * z + -0x1.4abbcep+5f;
    s = s * z + 0x1.921fb6p+2f;
    s = s * r;
    float c = 0x1.d9f7bcp+5f;
    c = c * z + -0x1.55c664p+6f;
    c = c * z + 0x1.03c1dep+6f;
    c = c * z + -0x1.3bd3ccp+4f;
    c = c * z + 1.0f;
    float x = q & 1 ? s : c, y = q & 1 ? c : s;
    *cosine = (q + 1) & 2 ? -x : x;
    *sine = q & 2 ? -y : y;
}

/* Two independent standard normal numbers from two random words. Of a Philox block, words 0 and 1 give
 * elements 0 and 1, words 2 and 3 give elements 2 and 3. No value lies beyond 5.77. */
SID2_INLINE void sid2_normal_pair(uint32_t a, uint32_t b, float out[2])
{
    float radius = sqrtf(-2.0f * sid2_log_unit(sid2_uniform(a))), c, s;
    sid2_cos_sin_turn(sid2_uniform(b), &c, &s);
    out[0] = radius * c;
    out[1] = radius * s;
}

#endif
