#version 450
// dk and dv: attention_tiled_grad_kv.comp for GPUs with matrix units. Rows are keys, columns queries.
#extension GL_GOOGLE_include_directive : require
#include "tensor.glsl"
#include "attention_matrices.glsl"
TENSOR(0, dy)
TENSOR(1, qk)
TENSOR(2, qkv)
TENSOR(3, lse)
TENSOR(4, along)
TENSOR(5, dqk)
TENSOR(6, dv)
STAGED(0, dy)
STAGED(1, qk)
STAGED(2, qkv)

void main()
{
    uint row = gl_WorkGroupID.x * ROWS, h = gl_WorkGroupID.y, n = gl_WorkGroupID.z;
    HOLD(key, qk, 2, 1)
    HOLD(value, qkv, 3, 2)
    NO_SUMS(sum_k)
    NO_SUMS(sum_v)
    for (uint column = 0; column < TOKENS; column += SIDE) {
        barrier();
        STAGE(0, SIDE, qk, 2, 0, column)
        STAGE(SIDE, SIDE, dy, 1, 0, column)
        barrier();
        vec4 p[EACH];
        SCORES(key, 0)
        EVERY_QUAD(i) {
            uvec4 at = (n * HEADS + h) * TOKENS + four(column + COLUMN_OF(i));
            vec4 logsum = vec4(lse(at.x), lse(at.y), lse(at.z), lse(at.w));
            p[i] = mix(exp(SCALE * SCORES_OF(i) - logsum), vec4(0), PAST_END(i));
            SET_WEIGHTS(i, p[i])
        }
        ADD_WEIGHTED(sum_v, SIDE)
        SCORES(value, SIDE)
        EVERY_QUAD(i) {
            uvec4 at = (n * HEADS + h) * TOKENS + four(column + COLUMN_OF(i));
            SET_WEIGHTS(i, p[i] * (SCORES_OF(i) - vec4(along(at.x), along(at.y), along(at.z), along(at.w))))
        }
        ADD_WEIGHTED(sum_k, 0)
    }
    STORE_ROWS(dqk, 2, 1, sum_k, SCALE)
    STORE_ROWS(dv, 1, 0, sum_v, 1)
}
