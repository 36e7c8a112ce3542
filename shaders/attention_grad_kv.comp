#version 450
// dk and dv, for CPU drivers: an invocation a key.
#extension GL_GOOGLE_include_directive : require
#include "tensor.glsl"
#include "attention.glsl"
TEXELS(0, dy)
TEXELS(1, qk)
TEXELS(2, qkv)
TENSOR(3, lse)
TENSOR(4, along)
TENSOR(5, dqk)
TENSOR(6, dv)

void main()
{
    uint j = gl_GlobalInvocationID.x, h = gl_WorkGroupID.y, n = gl_WorkGroupID.z;
    if (j >= TOKENS) return;
    vec4 k[D4], v[D4], sum_k[D4], sum_v[D4];
    uint key = place(n, j, h, 2, 1), value = place(n, j, h, 3, 2);
    for (uint e = 0; e < PIECES; e++) {
        k[e] = PIECE(qk, key, e);
        v[e] = PIECE(qkv, value, e);
        sum_k[e] = sum_v[e] = vec4(0);
    }
    for (uint i = 0; i < TOKENS; i += 4) {
        uvec4 rows = four(i), row = (n * HEADS + h) * TOKENS + rows;
        uvec4 query = uvec4(place(n, rows.x, h, 2, 0), place(n, rows.y, h, 2, 0), place(n, rows.z, h, 2, 0),
                            place(n, rows.w, h, 2, 0));
        uvec4 back = uvec4(place(n, rows.x, h, 1, 0), place(n, rows.y, h, 1, 0), place(n, rows.z, h, 1, 0),
                           place(n, rows.w, h, 1, 0));
        vec4 s = vec4(0), dp = vec4(0);
        for (uint e = 0; e < PIECES; e++) {
            s += vec4(dot(k[e], PIECE(qk, query.x, e)), dot(k[e], PIECE(qk, query.y, e)),
                      dot(k[e], PIECE(qk, query.z, e)), dot(k[e], PIECE(qk, query.w, e)));
            dp += vec4(dot(v[e], PIECE(dy, back.x, e)), dot(v[e], PIECE(dy, back.y, e)),
                       dot(v[e], PIECE(dy, back.z, e)), dot(v[e], PIECE(dy, back.w, e)));
        }
        vec4 p = exp(SCALE * s - vec4(lse(row.x), lse(row.y), lse(row.z), lse(row.w)));
        p = mix(p, vec4(0), greaterThanEqual(i + uvec4(0, 1, 2, 3), uvec4(TOKENS)));
        vec4 ds = SCALE * p * (dp - vec4(along(row.x), along(row.y), along(row.z), along(row.w)));
        for (uint e = 0; e < PIECES; e++) {
            sum_v[e] += p.x * PIECE(dy, back.x, e) + p.y * PIECE(dy, back.y, e) + p.z * PIECE(dy, back.z, e) +
                        p.w * PIECE(dy, back.w, e);
            sum_k[e] += ds.x * PIECE(qk, query.x, e) + ds.y * PIECE(qk, query.y, e) +
                        ds.z * PIECE(qk, query.z, e) + ds.w * PIECE(qk, query.w, e);
        }
    }
    uint to = place(n, j, h, 1, 0);
    for (uint e = 0; e < PIECES; e++) {
        STORE_PIECE(dqk, key, e, sum_k[e])
        STORE_PIECE(dv, to, e, sum_v[e])
    }
}
