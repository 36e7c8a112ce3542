// Tensors in storage buffers, of any element type. The other side of sid2_vk_dispatch in vk/lower.h.
//
// TENSOR(b, x) declares binding b as tensor x of a type that a specialisation constant tells (id b):
//   float x(uint i)              element i as a float
//   vec4  x4(uint i)             elements i .. i+3; the lowering made sure that quads can be loaded
//   void  x_store(uint i, float v), void x_store4(uint i, vec4 v)
//   HAS(x)                       false where the call has no such tensor; do not touch it then
//   GIVEN(b)                     the same of binding b where that is not known to the compiler: letter o in shaders.def
// TEXELS(b, x) is TENSOR for reading only, and in modules compiled with SID2_TEXELS goes through a texel buffer,
// which CPU drivers read several times faster: letter t in shaders.def.
// INTEGERS(b, x) declares a tensor of 32-bit words: uint x(uint i).
// Each shader is compiled once for 32-bit tensors only, and once more (SID2_16) with bf16 and f16.
// Offsets of tensors within their bindings are added here. P(k) is number k of the dispatch, PF(k) as a float.

#ifdef SID2_16
#extension GL_EXT_shader_16bit_storage : require
#extension GL_EXT_shader_explicit_arithmetic_types_int16 : require
#endif

#define SID2_F32 0
#define SID2_BF16 1
#define SID2_F16 2
#define SID2_ABSENT 255

layout(local_size_x_id = 12, local_size_y_id = 13, local_size_z_id = 14) in;
layout(push_constant) uniform sid2_push
{
    uint sid2_at[12];
    uint sid2_number[20];
};
#define P(k) sid2_number[k]
#define PF(k) uintBitsToFloat(sid2_number[k])
#define HAS(x) (x##_type != SID2_ABSENT)
#define GIVEN(b) (sid2_at[b] != 0xffffffffu)

// bf16: round to nearest even; NaN stays NaN.
uint sid2_to_bf16(float v)
{
    uint bits = floatBitsToUint(v);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return (bits >> 16) | 0x40u;
    return (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
}
float sid2_from_16(uint type, uint bits)
{
    return type == SID2_BF16 ? uintBitsToFloat(bits << 16) : unpackHalf2x16(bits).x;
}
uint sid2_to_16(uint type, float v) { return type == SID2_BF16 ? sid2_to_bf16(v) : packHalf2x16(vec2(v, 0)); }
// Two words that hold four 16-bit numbers, low half first.
vec4 sid2_from_16x4(uint type, uvec2 w)
{
    if (type == SID2_BF16) return uintBitsToFloat(uvec4(w.x << 16, w.x & 0xffff0000u, w.y << 16, w.y & 0xffff0000u));
    return vec4(unpackHalf2x16(w.x), unpackHalf2x16(w.y));
}
uvec2 sid2_to_16x4(uint type, vec4 v)
{
    if (type == SID2_BF16)
        return uvec2(sid2_to_bf16(v.x) | sid2_to_bf16(v.y) << 16, sid2_to_bf16(v.z) | sid2_to_bf16(v.w) << 16);
    return uvec2(packHalf2x16(v.xy), packHalf2x16(v.zw));
}

#ifdef SID2_16
#define TENSOR(b, x)                                                                                         \
    layout(constant_id = b) const uint x##_type = SID2_F32;                                                  \
    layout(std430, binding = b) buffer x##_block_1 { float x##_32[]; };                                      \
    layout(std430, binding = b) buffer x##_block_2 { vec4 x##_32x4[]; };                                     \
    layout(std430, binding = b) buffer x##_block_3 { uint16_t x##_16[]; };                                   \
    layout(std430, binding = b) buffer x##_block_4 { uvec2 x##_16x4[]; };                                    \
    float x(uint i)                                                                                          \
    {                                                                                                        \
        i += sid2_at[b];                                                                                     \
        if (x##_type == SID2_F32) return x##_32[i];                                                          \
        return sid2_from_16(x##_type, uint(x##_16[i]));                                                      \
    }                                                                                                        \
    vec4 x##4(uint i)                                                                                        \
    {                                                                                                        \
        i = (i + sid2_at[b]) / 4;                                                                            \
        if (x##_type == SID2_F32) return x##_32x4[i];                                                        \
        return sid2_from_16x4(x##_type, x##_16x4[i]);                                                        \
    }                                                                                                        \
    void x##_store(uint i, float v)                                                                          \
    {                                                                                                        \
        i += sid2_at[b];                                                                                     \
        if (x##_type == SID2_F32) x##_32[i] = v;                                                             \
        else x##_16[i] = uint16_t(sid2_to_16(x##_type, v));                                                  \
    }                                                                                                        \
    void x##_store4(uint i, vec4 v)                                                                          \
    {                                                                                                        \
        i = (i + sid2_at[b]) / 4;                                                                            \
        if (x##_type == SID2_F32) x##_32x4[i] = v;                                                           \
        else x##_16x4[i] = sid2_to_16x4(x##_type, v);                                                        \
    }
#else
#define TENSOR(b, x)                                                                                         \
    layout(constant_id = b) const uint x##_type = SID2_F32;                                                  \
    layout(std430, binding = b) buffer x##_block_1 { float x##_32[]; };                                      \
    layout(std430, binding = b) buffer x##_block_2 { vec4 x##_32x4[]; };                                     \
    float x(uint i) { return x##_32[i + sid2_at[b]]; }                                                       \
    vec4 x##4(uint i) { return x##_32x4[(i + sid2_at[b]) / 4]; }                                             \
    void x##_store(uint i, float v) { x##_32[i + sid2_at[b]] = v; }                                          \
    void x##_store4(uint i, vec4 v) { x##_32x4[(i + sid2_at[b]) / 4] = v; }
#endif

#define INTEGERS(b, x)                                                                                       \
    layout(constant_id = b) const uint x##_type = SID2_F32;                                                  \
    layout(std430, binding = b) readonly buffer x##_block_1 { uint x##_32[]; };                              \
    uint x(uint i) { return x##_32[i + sid2_at[b]]; }

// Four elements a texel: RGBA32 of 32-bit elements, RG32 of 16-bit ones.
#ifdef SID2_TEXELS
#define TEXELS(b, x)                                                                                         \
    layout(constant_id = b) const uint x##_type = SID2_F32;                                                  \
    layout(binding = b) uniform usamplerBuffer x##_texels;                                                   \
    vec4 x##_texel(uint i)                                                                                   \
    {                                                                                                        \
        uvec4 words = texelFetch(x##_texels, int(i));                                                        \
        return x##_type == SID2_F32 ? uintBitsToFloat(words) : sid2_from_16x4(x##_type, words.xy);           \
    }                                                                                                        \
    float x(uint i)                                                                                          \
    {                                                                                                        \
        i += sid2_at[b];                                                                                     \
        return x##_texel(i / 4)[i % 4];                                                                      \
    }                                                                                                        \
    vec4 x##4(uint i) { return x##_texel((i + sid2_at[b]) / 4); }
#else
#define TEXELS(b, x) TENSOR(b, x)
#endif
