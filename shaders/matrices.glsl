// Cooperative matrices of 16-bit elements, which a subgroup holds together: f16, or bf16 in modules compiled with
// SID2_BF16_MATRICES. They are staged as the bits that tensors hold, four elements a uvec2.
#extension GL_KHR_memory_scope_semantics : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_cooperative_matrix : require
#ifdef SID2_BF16_MATRICES
#extension GL_EXT_bfloat16 : require
#define ELEMENT      bfloat16_t
#define ELEMENT_TYPE SID2_BF16
#else
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#define ELEMENT      float16_t
#define ELEMENT_TYPE SID2_F16
#endif
#define MATRIX(rows, columns, use) coopmat<ELEMENT, gl_ScopeSubgroup, rows, columns, gl_MatrixUse##use>
#define SUMS(rows, columns)        coopmat<float, gl_ScopeSubgroup, rows, columns, gl_MatrixUseAccumulator>

// STAGED(b, x) declares, beside TENSOR(b, x): the bits of elements at + k .. at + k + 3, zeros from at + all on.
#define STAGED(b, x)                                                                                          \
    uvec2 x##_staged(uint at, uint k, uint all, uint quads)                                                  \
    {                                                                                                        \
        at += k + sid2_at[b];                                                                                \
        if (quads != 0) return x##_16x4[at / 4];                                                             \
        uvec4 bits = uvec4(x##_16[at], k + 1 < all ? x##_16[at + 1] : 0, k + 2 < all ? x##_16[at + 2] : 0,   \
                           k + 3 < all ? x##_16[at + 3] : 0);                                                \
        return bits.xz | bits.yw << 16;                                                                      \
    }
