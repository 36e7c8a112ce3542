#version 450
// dk and dv, in tiles: attention_grad_kv.comp for GPUs. Rows are keys, columns queries.
#extension GL_GOOGLE_include_directive : require
#include "tensor.glsl"
#include "attention_tiles.glsl"
TENSOR(0, dy)
TENSOR(1, qk)
TENSOR(2, qkv)
TENSOR(3, lse)
TENSOR(4, along)
TENSOR(5, dqk)
TENSOR(6, dv)
SCORES(key_query, qk, 2, 1, qk, 2, 0)
SCORES(value_gradient, qkv, 3, 2, dy, 1, 0)

void main()
{
    uint row = gl_WorkGroupID.x * SIDE, h = gl_WorkGroupID.y, n = gl_WorkGroupID.z;
    vec4 sum_k[4 * HELD], sum_v[4 * HELD], p[4], dp[4];
    for (uint m = 0; m < 4 * HELD; m++) sum_k[m] = sum_v[m] = vec4(0);
    for (uint column = 0; column < TOKENS; column += SIDE) {
        vec4 logsum, mine;
        for (uint j = 0; j < 4; j++) {
            uint at = (n * HEADS + h) * TOKENS + min(column + 4 * ME_X + j, TOKENS - 1);
            logsum[j] = lse(at);
            mine[j] = along(at);
        }
        key_query(n, h, row, column, p);
        value_gradient(n, h, row, column, dp);
        [[unroll]] for (uint i = 0; i < 4; i++) {
            p[i] = mix(exp(SCALE * p[i] - logsum), vec4(0), PAST_END(column));
            SET_WEIGHTS(i, p[i])
        }
        ADD_WEIGHTED(sum_v, dy, 1, 0, n, h, column)
        barrier();
        [[unroll]] for (uint i = 0; i < 4; i++) SET_WEIGHTS(i, p[i] * (dp[i] - mine))
        ADD_WEIGHTED(sum_k, qk, 2, 0, n, h, column)
    }
    STORE_ROWS(dqk, 2, 1, n, h, row, sum_k, SCALE)
    STORE_ROWS(dv, 1, 0, n, h, row, sum_v, 1)
}
