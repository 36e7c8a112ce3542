#version 450
// sums[b] = the sum of the squares of elements 16384 b .. 16384 b + 16383, as the bits of a double. In integers, for
// few devices compute in doubles: an element is a fixed-point number of 31 bits relative to the block's largest, so
// nothing overflows, and the sum is the same in any order. A group a block.
#extension GL_GOOGLE_include_directive : require
#include "tensor.glsl"
#include "quads.glsl"
#include "wide.glsl"
TENSOR(0, x)
DOUBLES(1, sums)

const uint BLOCK = 16384;

// The bits of |v| as a fixed-point number: v = fixed 2^(top - 157), top the exponent of the largest.
uint to_fixed(uint bits, uint top)
{
    uint exponent = bits >> 23, mantissa = bits & 0x7fffffu;
    if (exponent == 0) exponent = 1;
    else mantissa |= 0x800000u;
    uint shift = top - exponent;
    return shift > 31 ? 0 : ((mantissa << 7) + (1u << shift >> 1)) >> shift;
}

void main()
{
    uint count = P(0), block = gl_WorkGroupID.x, first = block * BLOCK, end = min(first + BLOCK, count);
    uint me = gl_LocalInvocationIndex * STEP, step_ = gl_WorkGroupSize.x * STEP;
    uvec4 most = uvec4(0);
    for (uint i = first + me; i < end; i += step_) most = max(most, floatBitsToUint(LOAD(x, i)) & 0x7fffffffu);
    uint largest = wide_max(max(max(most.x, most.y), max(most.z, most.w)));
    uint top = max(largest >> 23, 1u);
    uvec3 sum = uvec3(0);
    for (uint i = first + me; i < end; i += step_) {
        uvec4 bits = floatBitsToUint(LOAD(x, i)) & 0x7fffffffu;
        for (uint e = 0; e < STEP; e++) {
            uint high, low, fixed_ = to_fixed(bits[e], top);
            umulExtended(fixed_, fixed_, high, low);
            sum = wide_add(sum, uvec3(low, high, 0));
        }
    }
    sum = wide_sum(sum);
    if (gl_LocalInvocationIndex == 0)
        sums_store(block, top == 255 ? uvec2(0, 0x7ff80000u) : wide_double(sum, 2 * int(top) - 314));
}
