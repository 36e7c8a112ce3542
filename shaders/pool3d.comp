#version 450
// y = the largest, or the mean, of what of each window lies inside x.
#extension GL_GOOGLE_include_directive : require
#include "tensor.glsl"
#include "quads.glsl"
TENSOR(0, x)
TENSOR(1, y)

void main()
{
    uint count = P(0), channels = P(1), i = gl_GlobalInvocationID.x * STEP;
    ivec3 from = ivec3(P(2), P(3), P(4)), to = ivec3(P(5), P(6), P(7)), window = ivec3(P(8), P(9), P(10));
    ivec3 stride = ivec3(P(11), P(12), P(13)), before = ivec3(P(14), P(15), P(16));
    if (i >= count) return;
    int at = int(i / channels);
    ivec3 first = ivec3(at / to.z / to.y % to.x, at / to.z % to.y, at % to.z) * stride - before;
    ivec3 last = min(first + window, from);
    int image = at / to.z / to.y / to.x * from.x, taken = 0;
    first = max(first, ivec3(0));
    vec4 sum = vec4(0);
    for (int f = first.x; f < last.x; f++)
        for (int a = first.y; a < last.y; a++)
            for (int b = first.z; b < last.z; b++) {
                vec4 v = LOAD(x, uint(((image + f) * from.y + a) * from.z + b) * channels + i % channels);
                if (P(17) != 0)
                    sum += v;
                else
                    for (int e = 0; e < 4; e++) // NaN stays, whichever comes first
                        if (taken == 0 || !(v[e] <= sum[e] || sum[e] != sum[e])) sum[e] = v[e];
                taken++;
            }
    STORE(y, i, P(17) != 0 ? sum / float(taken) : sum)
}
