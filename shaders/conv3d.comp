#version 450
// y[m,n] = bias[n] + sum over taps t and channels k of x[under window m at t, k] w[n,t,k], in steps, with margins of zeros;
// negative ones become 0 where that is asked for.
//
// As product.comp, of which it is the general case: weights are packed so that neighbouring invocations, which take
// neighbouring columns, find theirs side by side; an invocation holds sums of a few rows in registers.
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#include "tensor.glsl"
layout(constant_id = 16) const uint QUADS = 0; // of channels of x
TENSOR(0, x)
TENSOR(1, w)
TENSOR(2, bias)
TENSOR(3, y)

const uint ROWS = 4;

vec4 channels(uint pixel, uint k, uint ins)
{
    uint at = pixel * ins + k;
    if (QUADS != 0) return x4(at);
    vec4 v = vec4(0);
    [[unroll]] for (uint e = 0; e < 4; e++)
        if (k + e < ins) v[e] = x(at + e);
    return v;
}

void main()
{
    uint rows = P(0), outs = P(1), ins = P(2);
    ivec3 from = ivec3(P(3), P(4), P(5)), to = ivec3(P(6), P(7), P(8)), window = ivec3(P(9), P(10), P(11));
    ivec3 stride = ivec3(P(12), P(13), P(14)), before = ivec3(P(15), P(16), P(17));
    uint n = gl_GlobalInvocationID.x, first = gl_GlobalInvocationID.y * ROWS;
    if (n >= outs || first >= rows) return;

    float sum[ROWS];
    ivec3 corner[ROWS];
    int image[ROWS]; // frames before its sample's
    [[unroll]] for (uint i = 0; i < ROWS; i++) {
        int at = int(min(first + i, rows - 1));
        ivec3 place = ivec3(at / to.z / to.y % to.x, at / to.z % to.y, at % to.z);
        corner[i] = place * stride - before;
        image[i] = at / to.z / to.y / to.x * from.x;
        sum[i] = 0;
    }
    uint quad = 0; // of the channels of all taps
    for (int f = 0; f < window.x; f++)
        for (int a = 0; a < window.y; a++)
            for (int b = 0; b < window.z; b++) {
                bool inside[ROWS];
                uint under[ROWS];
                [[unroll]] for (uint i = 0; i < ROWS; i++) {
                    ivec3 at = corner[i] + ivec3(f, a, b);
                    inside[i] = all(greaterThanEqual(at, ivec3(0))) && all(lessThan(at, from));
                    under[i] = inside[i] ? uint(((image[i] + at.x) * from.y + at.y) * from.z + at.z) : 0;
                }
                for (uint k = 0; k < ins; k += 4, quad++) {
                    vec4 right = w4((quad * outs + n) * 4);
                    [[unroll]] for (uint i = 0; i < ROWS; i++) {
                        vec4 left = channels(under[i], k, ins);
                        sum[i] += inside[i] ? dot(left, right) : 0;
                    }
                }
            }
    float start = HAS(bias) ? bias(n) : 0;
    [[unroll]] for (uint i = 0; i < ROWS; i++)
        if (first + i < rows) {
            float v = sum[i] + start;
            y_store((first + i) * outs + n, P(18) != 0 && v < 0 ? 0 : v);
        }
}
