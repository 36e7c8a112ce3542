#version 450
// softmax(q k^T / sqrt d) v with an online softmax, in tiles: attention.comp for GPUs.
#extension GL_GOOGLE_include_directive : require
#include "tensor.glsl"
#include "attention_tiles.glsl"
TENSOR(0, qk)
TENSOR(1, qkv)
TENSOR(2, y)
TENSOR(3, lse)
SCORES(query_key, qk, 2, 0, qk, 2, 1)

void main()
{
    uint row = gl_WorkGroupID.x * SIDE, h = gl_WorkGroupID.y, n = gl_WorkGroupID.z;
    vec4 sum[4 * HELD], s[4], most = vec4(-3.4e38), total = vec4(0); // most and total: of rows i = 0 .. 3
    for (uint m = 0; m < 4 * HELD; m++) sum[m] = vec4(0);
    for (uint column = 0; column < TOKENS; column += SIDE) {
        query_key(n, h, row, column, s);
        vec4 larger = most;
        [[unroll]] for (uint i = 0; i < 4; i++) {
            s[i] = mix(SCALE * s[i], vec4(-3.4e38), PAST_END(column));
            larger[i] = max(max(larger[i], max(s[i].x, s[i].y)), max(s[i].z, s[i].w));
        }
        larger = row_maxima(larger);
        vec4 shrink = exp(most - larger);
        most = larger;
        [[unroll]] for (uint i = 0; i < 4; i++) {
            vec4 p = exp(s[i] - larger[i]);
            SET_WEIGHTS(i, p)
            total[i] = total[i] * shrink[i] + dot(p, vec4(1));
            for (uint m = 0; m < HELD; m++) sum[4 * m + i] *= shrink[i];
        }
        ADD_WEIGHTED(sum, qkv, 3, 2, n, h, column)
    }
    total = row_sums(total);
    STORE_ROWS(y, 1, 0, n, h, row, sum, (1 / total[i]))
    if (HAS(lse) && ME_X == 0)
        for (uint i = 0; i < 4; i++)
            if (row + MY_ROW(i) < TOKENS)
                lse_store((n * HEADS + h) * TOKENS + row + MY_ROW(i), log_of_sum(most[i], total[i]));
}
