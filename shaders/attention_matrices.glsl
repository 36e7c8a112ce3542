// Attention for GPUs with matrix units, in 16 bits with sums in f32: a group of LINES subgroups owns M rows each
// (queries, or keys for their gradients) of a head and walks over the others, 32 columns at a time.
//
// Matrices keep to themselves which invocation holds what, so scores go through shared memory: as a quad of columns
// i, an invocation has columns 4 (quad % 8) .. + 3 of row quad / 8, quad = its number + i * the subgroup's size.
#extension GL_EXT_control_flow_attributes : require
#include "attention.glsl"
#include "matrices.glsl"
layout(constant_id = 19) const uint LINES = 4;
layout(constant_id = 20) const uint M = 16;
layout(constant_id = 21) const uint N = 16;
layout(constant_id = 22) const uint K = 16;
layout(constant_id = 23) const uint INVOCATIONS = 128; // invocations of the group
const uint SIDE = 32, ROWS = LINES * M;
// A head's quads, filled up with zeros to whole matrices; rows of matrices must begin at multiples of 16 bytes.
const uint UNIT = (N > K ? N : K) / 4, DEEP = (D4 + UNIT - 1) / UNIT * UNIT, PITCH = DEEP + 2, WEIGHTS_PITCH = SIDE / 4 + 2;
const uint HEAD_K = 4 * DEEP / K, HEAD_N = 4 * DEEP / N; // matrices along a head, as operand and as sum
const uint EACH = (M * SIDE / 4 * LINES + INVOCATIONS - 1) / INVOCATIONS; // quads of columns that an invocation has
shared uvec2 tile[(ROWS > 2 * SIDE ? ROWS : 2 * SIDE) * PITCH];
shared vec4 scores[ROWS * SIDE / 4];
shared uvec2 weights[ROWS * WEIGHTS_PITCH];
shared float of_row[ROWS];
#define MY_LINE           gl_SubgroupID
#define MY_SCORES         (MY_LINE * M * SIDE / 4)
#define QUAD(i)           (gl_SubgroupInvocationID + (i) * gl_SubgroupSize)
#define ROW_OF(i)         (QUAD(i) / (SIDE / 4))
#define COLUMN_OF(i)      (4 * (QUAD(i) % (SIDE / 4)))
#define EVERY_QUAD(i)                        \
    [[unroll]] for (uint i = 0; i < EACH; i++) \
        if (M * SIDE / 4 * LINES % INVOCATIONS == 0 || QUAD(i) < M * SIDE / 4)
#define EVERY_ROW(r)      for (uint r = gl_SubgroupInvocationID; r < M; r += gl_SubgroupSize)
#define TOKEN_OF_ROW(r)   (row + MY_LINE * M + (r))
#define PAST_END(i)       greaterThanEqual(column + COLUMN_OF(i) + uvec4(0, 1, 2, 3), uvec4(TOKENS))

// `count` tokens of a head from `first` on, to the tile from `slot` on; past the tokens, the last again.
#define STAGE(slot, count, tensor, width, third, first)                                                      \
    for (uint i_ = gl_LocalInvocationIndex; i_ < (count) * DEEP; i_ += INVOCATIONS) {                           \
        uint e_ = i_ % DEEP, at_ = place(n, min((first) + i_ / DEEP, TOKENS - 1), h, width, third);          \
        tile[((slot) + i_ / DEEP) * PITCH + e_] = e_ < D4 ? tensor##_staged(at_, 4 * e_, HEAD, QUADS) : uvec2(0); \
    }
// The subgroup's rows as left operands.
#define HOLD(name, tensor, width, third)                                                                     \
    MATRIX(M, K, A) name[HEAD_K];                                                                            \
    barrier();                                                                                               \
    STAGE(0, ROWS, tensor, width, third, row)                                                                \
    barrier();                                                                                               \
    [[unroll]] for (uint k = 0; k < HEAD_K; k++)                                                             \
        coopMatLoad(name[k], tile, MY_LINE * M * PITCH + k * K / 4, PITCH, gl_CooperativeMatrixLayoutRowMajor);
// s = the rows held times column matrix j of those staged from `slot` on.
#define SCORE(s, held, slot, j)                                                                              \
    SUMS(M, N) s = SUMS(M, N)(0);                                                                            \
    [[unroll]] for (uint k = 0; k < HEAD_K; k++) {                                                           \
        MATRIX(K, N, B) right;                                                                               \
        coopMatLoad(right, tile, ((slot) + (j) * N) * PITCH + k * K / 4, PITCH, gl_CooperativeMatrixLayoutColumnMajor); \
        s = coopMatMulAdd(held[k], right, s);                                                                \
    }
// The scores of all columns of the tile, where invocations know their rows and columns.
#define SCORES(held, slot)                                                                                   \
    subgroupBarrier();                                                                                       \
    [[unroll]] for (uint j = 0; j < SIDE / N; j++) {                                                         \
        SCORE(s, held, slot, j)                                                                              \
        coopMatStore(s, scores, MY_SCORES + j * N / 4, SIDE / 4, gl_CooperativeMatrixLayoutRowMajor);        \
    }                                                                                                        \
    subgroupBarrier();
#define SCORES_OF(i) scores[MY_SCORES + QUAD(i)]
#define SET_WEIGHTS(i, w) weights[(MY_LINE * M + ROW_OF(i)) * WEIGHTS_PITCH + COLUMN_OF(i) / 4] = sid2_to_16x4(ELEMENT_TYPE, w);
// sum += weights x the columns staged from `slot` on.
#define ADD_WEIGHTED(sum, slot)                                                                              \
    subgroupBarrier();                                                                                       \
    [[unroll]] for (uint k = 0; k < SIDE / K; k++) {                                                         \
        MATRIX(M, K, A) left;                                                                                \
        coopMatLoad(left, weights, MY_LINE * M * WEIGHTS_PITCH + k * K / 4, WEIGHTS_PITCH, gl_CooperativeMatrixLayoutRowMajor); \
        [[unroll]] for (uint j = 0; j < HEAD_N; j++) {                                                       \
            MATRIX(K, N, B) right;                                                                           \
            coopMatLoad(right, tile, ((slot) + k * K) * PITCH + j * N / 4, PITCH, gl_CooperativeMatrixLayoutRowMajor); \
            sum[j] = coopMatMulAdd(left, right, sum[j]);                                                     \
        }                                                                                                    \
    }                                                                                                        \
    subgroupBarrier();
#define NO_SUMS(sum)                                                                                         \
    SUMS(M, N) sum[HEAD_N];                                                                                  \
    [[unroll]] for (uint j = 0; j < HEAD_N; j++) sum[j] = SUMS(M, N)(0);
// of_row = the sum of part[i] over the quads of each row.
#define SUM_ROWS(part)                                                                                       \
    subgroupBarrier();                                                                                       \
    EVERY_QUAD(i) SCORES_OF(i).x = part[i];                                                                  \
    subgroupBarrier();                                                                                       \
    EVERY_ROW(r) {                                                                                           \
        float all_ = 0;                                                                                      \
        for (uint q = 0; q < SIDE / 4; q++) all_ += scores[MY_SCORES + r * SIDE / 4 + q].x;                  \
        of_row[MY_LINE * M + r] = all_;                                                                      \
    }                                                                                                        \
    subgroupBarrier();
// Writes the subgroup's rows of sums, each times its factor, where r is the row.
#define STORE_ROWS(tensor, width, third, sum, factor)                                                        \
    [[unroll]] for (uint j = 0; j < HEAD_N; j++) {                                                           \
        coopMatStore(sum[j], scores, MY_SCORES, N / 4, gl_CooperativeMatrixLayoutRowMajor);                  \
        subgroupBarrier();                                                                                   \
        for (uint e = gl_SubgroupInvocationID; e < M * N / 4; e += gl_SubgroupSize) {                        \
            uint r = e / (N / 4), piece = j * N / 4 + e % (N / 4);                                           \
            if (TOKEN_OF_ROW(r) >= TOKENS || piece >= D4) continue;                                          \
            uint to_ = place(n, TOKEN_OF_ROW(r), h, width, third);                                           \
            STORE_PIECE(tensor, to_, piece, scores[MY_SCORES + e] * (factor))                                \
        }                                                                                                    \
        subgroupBarrier();                                                                                   \
    }
