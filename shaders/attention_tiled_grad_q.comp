#version 450
// dq, and along, in tiles: attention_grad_q.comp for GPUs.
#extension GL_GOOGLE_include_directive : require
#include "tensor.glsl"
#include "attention_tiles.glsl"
TENSOR(0, dy)
TENSOR(1, qk)
TENSOR(2, qkv)
TENSOR(3, y)
TENSOR(4, lse)
TENSOR(5, dqk)
TENSOR(6, along)
SCORES(query_key, qk, 2, 0, qk, 2, 1)
SCORES(gradient_value, dy, 1, 0, qkv, 3, 2)

void main()
{
    uint row = gl_WorkGroupID.x * SIDE, h = gl_WorkGroupID.y, n = gl_WorkGroupID.z;
    vec4 sum[4 * HELD], s[4], dp[4], mine = vec4(0), logsum = vec4(0);
    for (uint m = 0; m < 4 * HELD; m++) sum[m] = vec4(0);
    for (uint i = 0; i < 4; i++) {
        uint t = min(row + MY_ROW(i), TOKENS - 1), at = place(n, t, h, 1, 0);
        for (uint e = ME_X; e < D4; e += 8) mine[i] += dot(PIECE(dy, at, e), PIECE(y, at, e));
        logsum[i] = lse((n * HEADS + h) * TOKENS + t);
    }
    mine = row_sums(mine);
    for (uint i = 0; i < 4; i++)
        if (ME_X == 0 && row + MY_ROW(i) < TOKENS) along_store((n * HEADS + h) * TOKENS + row + MY_ROW(i), mine[i]);
    for (uint column = 0; column < TOKENS; column += SIDE) {
        query_key(n, h, row, column, s);
        gradient_value(n, h, row, column, dp);
        [[unroll]] for (uint i = 0; i < 4; i++) {
            vec4 ds = exp(SCALE * s[i] - logsum[i]) * (dp[i] - mine[i]);
            SET_WEIGHTS(i, mix(ds, vec4(0), PAST_END(column)))
        }
        ADD_WEIGHTED(sum, qk, 2, 1, n, h, column)
    }
    STORE_ROWS(dqk, 2, 0, n, h, row, sum, SCALE)
}
