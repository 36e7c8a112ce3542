#version 450
// dq, for CPU drivers: an invocation a query. along[N,heads,T] = sum of dy y over the head, for attention_grad_kv. p = exp(s - lse), ds = p (dy v - along).
#extension GL_GOOGLE_include_directive : require
#include "tensor.glsl"
#include "attention.glsl"
TEXELS(0, dy)
TEXELS(1, qk)
TEXELS(2, qkv)
TENSOR(3, y)
TENSOR(4, lse)
TENSOR(5, dqk)
TENSOR(6, along)

void main()
{
    uint i = gl_GlobalInvocationID.x, h = gl_WorkGroupID.y, n = gl_WorkGroupID.z;
    if (i >= TOKENS) return;
    vec4 q[D4], d[D4], sum[D4];
    uint at = place(n, i, h, 2, 0), out_ = place(n, i, h, 1, 0), row = (n * HEADS + h) * TOKENS + i;
    float mine = 0, logsum = lse(row);
    for (uint e = 0; e < PIECES; e++) {
        q[e] = PIECE(qk, at, e);
        d[e] = PIECE(dy, out_, e);
        mine += dot(d[e], PIECE(y, out_, e));
        sum[e] = vec4(0);
    }
    along_store(row, mine);
    for (uint j = 0; j < TOKENS; j += 4) {
        uvec4 rows = four(j);
        uvec4 key = uvec4(place(n, rows.x, h, 2, 1), place(n, rows.y, h, 2, 1), place(n, rows.z, h, 2, 1),
                          place(n, rows.w, h, 2, 1));
        uvec4 value = uvec4(place(n, rows.x, h, 3, 2), place(n, rows.y, h, 3, 2), place(n, rows.z, h, 3, 2),
                            place(n, rows.w, h, 3, 2));
        vec4 s = vec4(0), dp = vec4(0);
        for (uint e = 0; e < PIECES; e++) {
            s += vec4(dot(q[e], PIECE(qk, key.x, e)), dot(q[e], PIECE(qk, key.y, e)),
                      dot(q[e], PIECE(qk, key.z, e)), dot(q[e], PIECE(qk, key.w, e)));
            dp += vec4(dot(d[e], PIECE(qkv, value.x, e)), dot(d[e], PIECE(qkv, value.y, e)),
                       dot(d[e], PIECE(qkv, value.z, e)), dot(d[e], PIECE(qkv, value.w, e)));
        }
        vec4 ds = SCALE * exp(SCALE * s - logsum) * (dp - mine);
        ds = mix(ds, vec4(0), greaterThanEqual(j + uvec4(0, 1, 2, 3), uvec4(TOKENS)));
        for (uint e = 0; e < PIECES; e++)
            sum[e] += ds.x * PIECE(qk, key.x, e) + ds.y * PIECE(qk, key.y, e) + ds.z * PIECE(qk, key.z, e) +
                      ds.w * PIECE(qk, key.w, e);
    }
    for (uint e = 0; e < PIECES; e++) STORE_PIECE(dqk, at, e, sum[e])
}
