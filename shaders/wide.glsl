// Sums of integers of 96 bits (low word first) over the invocations of a group, and doubles made and read as their bits.
// DOUBLES(b, x) declares binding b as a tensor of doubles: uvec2 x(uint i), void x_store(uint i, uvec2 bits); low first.
#define DOUBLES(b, x)                                                                                        \
    layout(constant_id = b) const uint x##_type = SID2_F32;                                                  \
    layout(std430, binding = b) buffer x##_block { uvec2 x##_64[]; };                                        \
    uvec2 x(uint i) { return x##_64[i + sid2_at[b]]; }                                                       \
    void x##_store(uint i, uvec2 bits) { x##_64[i + sid2_at[b]] = bits; }

shared uint wide_shared[6];

uint wide_max(uint v)
{
    if (gl_LocalInvocationIndex == 0) wide_shared[0] = 0;
    barrier();
    atomicMax(wide_shared[0], v);
    barrier();
    v = wide_shared[0];
    barrier();
    return v;
}

uvec3 wide_add(uvec3 a, uvec3 b)
{
    uint carry, more;
    a.x = uaddCarry(a.x, b.x, carry);
    a.y = uaddCarry(a.y, b.y, more);
    a.z += b.z + more;
    a.y = uaddCarry(a.y, carry, more);
    a.z += more;
    return a;
}

// Halves of words, so that none overflows, then carried on.
uvec3 wide_sum(uvec3 v)
{
    if (gl_LocalInvocationIndex < 6) wide_shared[gl_LocalInvocationIndex] = 0;
    barrier();
    for (uint i = 0; i < 3; i++) {
        atomicAdd(wide_shared[2 * i], v[i] & 0xffffu);
        atomicAdd(wide_shared[2 * i + 1], v[i] >> 16);
    }
    barrier();
    uvec3 sum = uvec3(0);
    for (uint i = 0, carry = 0; i < 6; i++) {
        carry += wide_shared[i];
        sum[i / 2] |= (carry & 0xffffu) << (16 * (i % 2));
        carry >>= 16;
    }
    return sum;
}

// v with its highest bit at bit 95; v 2^-bits. `bits`: how far it moved.
uvec3 wide_normalise(uvec3 v, out int bits)
{
    bits = 0;
    for (int i = 0; i < 2 && v.z == 0; i++, bits += 32) v = uvec3(0, v.xy);
    int shift = 31 - findMSB(v.z);
    bits += shift;
    return shift == 0 ? v : uvec3(v.x << shift, v.y << shift | v.x >> (32 - shift), v.z << shift | v.y >> (32 - shift));
}

// The bits of v 2^exponent, which is no smaller than a double can be.
uvec2 wide_double(uvec3 v, int exponent)
{
    if (v == uvec3(0)) return uvec2(0);
    int bits;
    v = wide_normalise(v, bits);
    uint biased = uint(1023 + 95 - bits + exponent);
    return uvec2(v.z << 21 | v.y >> 11, biased << 20 | ((v.z >> 11) & 0xfffffu));
}

// sqrt(v 2^exponent); infinite where a float cannot hold it, 0 where it has no normal float.
float wide_root(uvec3 v, int exponent)
{
    if (v == uvec3(0)) return 0;
    int bits;
    v = wide_normalise(v, bits);
    exponent += 95 - bits; // v.z 2^-31 is in [1, 2)
    float number = float(v.z) * uintBitsToFloat(0x30000000u); // 2^-31
    if ((exponent & 1) != 0) number *= 2;
    exponent >>= 1; // rounds down, as it must
    if (exponent > 127) return uintBitsToFloat(0x7f800000u);
    return exponent < -126 ? 0 : sqrt(number) * uintBitsToFloat(uint(exponent + 127) << 23);
}
