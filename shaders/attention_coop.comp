#version 450
// softmax(q k^T / sqrt d) v: attention_tiled.comp for GPUs with matrix units. The first walk over the keys finds each
// row's largest score, so that sums of the second, which stay in matrices, need no new scale: half as many products
// again, and nothing between them.
#extension GL_GOOGLE_include_directive : require
#include "tensor.glsl"
#include "attention_matrices.glsl"
TENSOR(0, qk)
TENSOR(1, qkv)
TENSOR(2, y)
TENSOR(3, lse)
STAGED(0, qk)
STAGED(1, qkv)

void main()
{
    uint row = gl_WorkGroupID.x * ROWS, h = gl_WorkGroupID.y, n = gl_WorkGroupID.z;
    HOLD(q, qk, 2, 0)
    SUMS(M, N) most = SUMS(M, N)(-3.4e38);
    for (uint column = 0; column < TOKENS; column += SIDE) {
        barrier();
        STAGE(0, SIDE, qk, 2, 1, column)
        barrier();
        [[unroll]] for (uint j = 0; j < SIDE / N; j++) {
            SCORE(s, q, 0, j)
            [[unroll]] for (uint e = 0; e < s.length(); e++) most[e] = max(most[e], s[e]);
        }
    }
    coopMatStore(most, scores, MY_SCORES, N / 4, gl_CooperativeMatrixLayoutRowMajor);
    subgroupBarrier();
    float largest[EACH], total[EACH];
    EVERY_QUAD(i) {
        vec4 m = vec4(-3.4e38);
        for (uint e = 0; e < N / 4; e++) m = max(m, scores[MY_SCORES + ROW_OF(i) * N / 4 + e]);
        largest[i] = max(max(m.x, m.y), max(m.z, m.w));
        total[i] = 0;
    }

    NO_SUMS(sum)
    for (uint column = 0; column < TOKENS; column += SIDE) {
        barrier();
        STAGE(0, SIDE, qk, 2, 1, column)
        STAGE(SIDE, SIDE, qkv, 3, 2, column)
        barrier();
        SCORES(q, 0)
        EVERY_QUAD(i) {
            vec4 p = mix(exp(SCALE * (SCORES_OF(i) - largest[i])), vec4(0), PAST_END(i));
            total[i] += dot(p, vec4(1));
            SET_WEIGHTS(i, p)
        }
        ADD_WEIGHTED(sum, SIDE)
    }
    SUM_ROWS(total)
    if (HAS(lse))
        EVERY_QUAD(i) if (COLUMN_OF(i) == 0 && TOKEN_OF_ROW(ROW_OF(i)) < TOKENS)
            lse_store((n * HEADS + h) * TOKENS + TOKEN_OF_ROW(ROW_OF(i)),
                      log_of_sum(SCALE * largest[i], of_row[MY_LINE * M + ROW_OF(i)]));
    STORE_ROWS(y, 1, 0, sum, 1 / of_row[MY_LINE * M + r])
}
