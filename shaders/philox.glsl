// Philox4x32-10 and normal numbers; what goes in, and the polynomials, as in core/philox.h and core/normal.h.
// `precise` keeps the compiler from fusing a multiplication with an addition, so that the bits agree.
uvec4 philox(uvec2 seed, uvec2 sample_, uint purpose, uint block)
{
    uvec4 c = uvec4(block, purpose, sample_);
    for (int i = 0; i < 10; i++) {
        uint high0, low0, high1, low1;
        umulExtended(0xD2511F53u, c.x, high0, low0);
        umulExtended(0xCD9E8D57u, c.z, high1, low1);
        c = uvec4(high1 ^ c.y ^ seed.x, low1, high0 ^ c.w ^ seed.y, low0);
        seed += uvec2(0x9E3779B9u, 0xBB67AE85u);
    }
    return c;
}

// In (0,1): the centre of one of 2^23 equal cells.
float uniform_of(uint word) { return (float(word >> 9) + 0.5) * (1.0 / 8388608.0); }

float log_unit(float u)
{
    uint bits = floatBitsToUint(u);
    int e = int(bits - 0x3f3504f3u) >> 23;
    precise float m = uintBitsToFloat(bits - (uint(e) << 23));
    precise float f = m - 1.0;
    precise float f2 = f * f;
    precise float p = -0.0785961524;
    p = p * f + 0.128816485;
    p = p * f + -0.131287545;
    p = p * f + 0.141811922;
    p = p * f + -0.166245535;
    p = p * f + 0.200022861;
    p = p * f + -0.250008106;
    p = p * f + 0.333333164;
    precise float low = float(e) * -0.000212194442 + (p * f * f2 - 0.5 * f2);
    precise float sum = float(e) * 0.693359375 + (f + low);
    return sum;
}

// cos and sin of 2 pi u, u in (0,1).
vec2 cos_sin_turn(float u)
{
    int q = int(4.0 * u + 0.5);
    precise float r = u - 0.25 * float(q);
    precise float z = r * r;
    precise float s = 41.47295;
    s = s * z + -76.6978683;
    s = s * z + 81.6052017;
    s = s * z + -41.3417015;
    s = s * z + 6.28318548;
    s = s * r;
    precise float c = 59.2459641;
    c = c * z + -85.4437408;
    c = c * z + 64.9393234;
    c = c * z + -19.7392082;
    c = c * z + 1.0;
    bool odd = (q & 1) != 0;
    float x = odd ? s : c, y = odd ? c : s;
    return vec2(((q + 1) & 2) != 0 ? -x : x, (q & 2) != 0 ? -y : y);
}

vec2 normal_pair(uint a, uint b)
{
    precise float radius = sqrt(-2.0 * log_unit(uniform_of(a)));
    precise vec2 pair = radius * cos_sin_turn(uniform_of(b));
    return pair;
}
