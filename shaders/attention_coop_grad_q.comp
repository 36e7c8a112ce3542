#version 450
// dq, and along: attention_tiled_grad_q.comp for GPUs with matrix units.
#extension GL_GOOGLE_include_directive : require
#include "tensor.glsl"
#include "attention_matrices.glsl"
TENSOR(0, dy)
TENSOR(1, qk)
TENSOR(2, qkv)
TENSOR(3, y)
TENSOR(4, lse)
TENSOR(5, dqk)
TENSOR(6, along)
STAGED(0, dy)
STAGED(1, qk)
STAGED(2, qkv)

void main()
{
    uint row = gl_WorkGroupID.x * ROWS, h = gl_WorkGroupID.y, n = gl_WorkGroupID.z;
    float mine[EACH], logsum[EACH];
    EVERY_QUAD(i) {
        uint t = min(TOKEN_OF_ROW(ROW_OF(i)), TOKENS - 1), at = place(n, t, h, 1, 0);
        mine[i] = 0;
        for (uint e = COLUMN_OF(i) / 4; e < D4; e += SIDE / 4) mine[i] += dot(PIECE(dy, at, e), PIECE(y, at, e));
        logsum[i] = lse((n * HEADS + h) * TOKENS + t);
    }
    SUM_ROWS(mine)
    EVERY_QUAD(i) mine[i] = of_row[MY_LINE * M + ROW_OF(i)];
    EVERY_ROW(r) if (TOKEN_OF_ROW(r) < TOKENS)
        along_store((n * HEADS + h) * TOKENS + TOKEN_OF_ROW(r), of_row[MY_LINE * M + r]);

    HOLD(q, qk, 2, 0)
    HOLD(g, dy, 1, 0)
    NO_SUMS(sum)
    for (uint column = 0; column < TOKENS; column += SIDE) {
        barrier();
        STAGE(0, SIDE, qk, 2, 1, column)
        STAGE(SIDE, SIDE, qkv, 3, 2, column)
        barrier();
        vec4 p[EACH];
        SCORES(q, 0)
        EVERY_QUAD(i) p[i] = exp(SCALE * SCORES_OF(i) - logsum[i]);
        SCORES(g, SIDE)
        EVERY_QUAD(i) SET_WEIGHTS(i, mix(p[i] * (SCORES_OF(i) - mine[i]), vec4(0), PAST_END(i)))
        ADD_WEIGHTED(sum, 0)
    }
    STORE_ROWS(dqk, 2, 0, sum, SCALE)
}
