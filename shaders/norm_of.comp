#version 450
// norm = sqrt(sum of sums), which are doubles: added in integers as in sum_squares.comp, 41 bits of each relative to
// the largest. NaN where one is not finite. One group.
#extension GL_GOOGLE_include_directive : require
#include "tensor.glsl"
#include "wide.glsl"
DOUBLES(0, sums)
TENSOR(1, norm)

void main()
{
    uint count = P(0), me = gl_LocalInvocationIndex, most = 0;
    for (uint i = me; i < count; i += gl_WorkGroupSize.x) most = max(most, sums(i).y);
    uint top = wide_max(most) >> 20; // the exponent of the largest
    uvec3 sum = uvec3(0);
    for (uint i = me; i < count; i += gl_WorkGroupSize.x) {
        uvec2 bits = sums(i);
        uint exponent = bits.y >> 20, shift = top - exponent;
        if (exponent == 0 || shift > 40) continue; // 0, or nothing beside the largest
        uint high = (bits.y & 0xfffffu) | 0x100000u, low = high << 20 | bits.x >> 12;
        high >>= 12;
        if (shift >= 32) low = high >> (shift - 32), high = 0;
        else if (shift > 0) low = low >> shift | high << (32 - shift), high >>= shift;
        sum = wide_add(sum, uvec3(low, high, 0));
    }
    sum = wide_sum(sum); // sum 2^(top - 1063)
    if (me != 0) return;
    if (top == 0x7ff) norm_store(0, uintBitsToFloat(0x7fc00000u));
    else norm_store(0, wide_root(sum, int(top) - 1063));
}
