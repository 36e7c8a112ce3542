// Attention for GPUs, in tiles: a group of 8 x 8 invocations owns 32 rows (queries, or keys for their gradients)
// of a head and walks over the others, 32 columns at a time. Invocation (x, y) holds the scores of rows y + 8 i and
// columns 4 x + j. Sums of a row of the head lie by fours at pieces x + 8 m. Tiles pass through shared memory eight
// pieces at a time; a column's slot in its tile is such that neighbours read different banks.
#extension GL_EXT_control_flow_attributes : require
#include "attention.glsl"
const uint SIDE = 32, PITCH = 9;
const uint HELD = (D4 + 7) / 8; // of a row that an invocation holds
shared vec4 left_tile[SIDE * PITCH], right_tile[SIDE * PITCH];
shared vec4 weights[SIDE * PITCH]; // 32 rows of 32 columns
shared float row_parts[SIDE * PITCH];
#define ME_X (gl_LocalInvocationIndex % 8)
#define ME_Y (gl_LocalInvocationIndex / 8)
#define MY_ROW(i) (ME_Y + 8 * (i))

// Pieces 8 m .. 8 m + 7 of the 32 tokens from `first` on; beyond the head, zeros; beyond the tokens, the last.
#define LOAD_TILE(tile, slot, tensor, width, third, n, h, first, m)                                          \
    for (uint k_ = ME_Y; k_ < SIDE; k_ += 8) {                                                               \
        uint e_ = 8 * (m) + ME_X, at_ = place(n, min((first) + k_, TOKENS - 1), h, width, third);            \
        tile[(slot) * PITCH + ME_X] = e_ < D4 ? PIECE(tensor, at_, e_) : vec4(0);                            \
    }
#define ROW_SLOT k_
#define COLUMN_SLOT (k_ % 4 * 8 + k_ / 4)

// SCORES(name, left, .., right, ..) declares name(n, h, row, column, s): s[i][j] = left row . right column. The number
// after a tensor is its width in heads' channels, then the third (or half) of it that is meant.
#define SCORES(name, left, left_width, left_third, right, right_width, right_third)                          \
    void name(uint n, uint h, uint row, uint column, out vec4 s[4])                                          \
    {                                                                                                        \
        [[unroll]] for (uint i = 0; i < 4; i++) s[i] = vec4(0);                                              \
        for (uint m = 0; m < HELD; m++) {                                                                  \
            barrier();                                                                                       \
            LOAD_TILE(left_tile, ROW_SLOT, left, left_width, left_third, n, h, row, m)                       \
            LOAD_TILE(right_tile, COLUMN_SLOT, right, right_width, right_third, n, h, column, m)             \
            barrier();                                                                                       \
            for (uint e = 0; e < 8; e++) {                                                                   \
                vec4 b[4];                                                                                   \
                [[unroll]] for (uint j = 0; j < 4; j++) b[j] = right_tile[(j * 8 + ME_X) * PITCH + e];       \
                [[unroll]] for (uint i = 0; i < 4; i++) {                                                    \
                    vec4 a = left_tile[MY_ROW(i) * PITCH + e];                                               \
                    s[i] += vec4(dot(a, b[0]), dot(a, b[1]), dot(a, b[2]), dot(a, b[3]));                    \
                }                                                                                            \
            }                                                                                                \
        }                                                                                                    \
    }

// sum += weights x the 32 columns of right. (No function: glslang is not sure of arrays of this size as parameters.)
#define ADD_WEIGHTED(sum, right, right_width, right_third, n, h, column)                                     \
    for (uint m_ = 0; m_ < HELD; m_++) {                                                                     \
        barrier();                                                                                           \
        LOAD_TILE(right_tile, COLUMN_SLOT, right, right_width, right_third, n, h, column, m_)                \
        barrier();                                                                                           \
        for (uint k = 0; k < 8; k++) {                                                                       \
            vec4 b[4];                                                                                       \
            [[unroll]] for (uint j = 0; j < 4; j++) b[j] = right_tile[(j * 8 + k) * PITCH + ME_X];           \
            [[unroll]] for (uint i = 0; i < 4; i++) {                                                        \
                vec4 w = weights[MY_ROW(i) * PITCH + k];                                                     \
                sum[4 * m_ + i] += w.x * b[0] + w.y * b[1] + w.z * b[2] + w.w * b[3];                        \
            }                                                                                                \
        }                                                                                                    \
    }

// After all have read the weights before: barrier() first.
#define SET_WEIGHTS(i, w) weights[MY_ROW(i) * PITCH + ME_X] = w;
#define PAST_END(column) greaterThanEqual((column) + 4 * ME_X + uvec4(0, 1, 2, 3), uvec4(TOKENS))

// The sum of v over the eight invocations that share row i, for all i.
vec4 row_sums(vec4 v)
{
    barrier();
    [[unroll]] for (uint i = 0; i < 4; i++) row_parts[MY_ROW(i) * PITCH + ME_X] = v[i];
    barrier();
    v = vec4(0);
    for (uint k = 0; k < 8; k++)
        [[unroll]] for (uint i = 0; i < 4; i++) v[i] += row_parts[MY_ROW(i) * PITCH + k];
    return v;
}
vec4 row_maxima(vec4 v)
{
    barrier();
    [[unroll]] for (uint i = 0; i < 4; i++) row_parts[MY_ROW(i) * PITCH + ME_X] = v[i];
    barrier();
    for (uint k = 0; k < 8; k++)
        [[unroll]] for (uint i = 0; i < 4; i++) v[i] = max(v[i], row_parts[MY_ROW(i) * PITCH + k]);
    return v;
}

// Writes rows of sums, each times its factor.
#define STORE_ROWS(tensor, width, third, n, h, row, sum, factor)                                             \
    for (uint i = 0; i < 4; i++) {                                                                           \
        if ((row) + MY_ROW(i) >= TOKENS) continue;                                                           \
        uint to_ = place(n, (row) + MY_ROW(i), h, width, third);                                             \
        for (uint m = 0; m < HELD && 8 * m + ME_X < D4; m++)                                               \
            STORE_PIECE(tensor, to_, 8 * m + ME_X, sum[4 * m + i] * factor)                                  \
    }
