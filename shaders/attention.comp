#version 450
// softmax(q k^T / sqrt d) v with an online softmax, for CPU drivers: an invocation a query.
#extension GL_GOOGLE_include_directive : require
#include "tensor.glsl"
#include "attention.glsl"
TEXELS(0, qk)
TEXELS(1, qkv)
TENSOR(2, y)
TENSOR(3, lse)

void main()
{
    uint i = gl_GlobalInvocationID.x, h = gl_WorkGroupID.y, n = gl_WorkGroupID.z;
    if (i >= TOKENS) return;
    vec4 q[D4], sum[D4];
    uint at = place(n, i, h, 2, 0);
    for (uint e = 0; e < PIECES; e++) {
        q[e] = SCALE * PIECE(qk, at, e);
        sum[e] = vec4(0);
    }
    float most = -3.4e38, total = 0;
    for (uint j = 0; j < TOKENS; j += 4) {
        uvec4 rows = four(j);
        uvec4 key = uvec4(place(n, rows.x, h, 2, 1), place(n, rows.y, h, 2, 1), place(n, rows.z, h, 2, 1),
                          place(n, rows.w, h, 2, 1));
        vec4 s = vec4(0);
        for (uint e = 0; e < PIECES; e++)
            s += vec4(dot(q[e], PIECE(qk, key.x, e)), dot(q[e], PIECE(qk, key.y, e)),
                      dot(q[e], PIECE(qk, key.z, e)), dot(q[e], PIECE(qk, key.w, e)));
        s = mix(s, vec4(-3.4e38), greaterThanEqual(j + uvec4(0, 1, 2, 3), uvec4(TOKENS)));
        float larger = max(most, max(max(s.x, s.y), max(s.z, s.w))), shrink = exp(most - larger);
        vec4 p = exp(s - larger);
        most = larger;
        total = total * shrink + dot(p, vec4(1));
        uvec4 value = uvec4(place(n, rows.x, h, 3, 2), place(n, rows.y, h, 3, 2), place(n, rows.z, h, 3, 2),
                            place(n, rows.w, h, 3, 2));
        for (uint e = 0; e < PIECES; e++)
            sum[e] = sum[e] * shrink + p.x * PIECE(qkv, value.x, e) + p.y * PIECE(qkv, value.y, e) +
                     p.z * PIECE(qkv, value.z, e) + p.w * PIECE(qkv, value.w, e);
    }
    uint to = place(n, i, h, 1, 0);
    for (uint e = 0; e < PIECES; e++) STORE_PIECE(y, to, e, sum[e] / total)
    if (HAS(lse)) lse_store((n * HEADS + h) * TOKENS + i, log_of_sum(most, total));
}
