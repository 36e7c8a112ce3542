#version 450
// dw[o,t,k] = sum over a share of the rows of dy[row,o] x[row under t, k]: added to dw, or kept as a part.
//
// For CPU drivers: an invocation holds 4 OUTS x 4 INS sums in registers. Neighbours take neighbouring quads
// of channels; dy is the same for all of them. Rows come in lines of `width` pixels (of a linear layer,
// any), so that the edges of images are seen to once a line.
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#include "tensor.glsl"
layout(constant_id = 16) const uint OUTS = 1; // quads of output channels
layout(constant_id = 17) const uint INS = 1;  // quads of input channels
layout(constant_id = 18) const uint SIDE = 1; // of the kernel
layout(constant_id = 19) const uint QUADS_X = 0;
layout(constant_id = 20) const uint QUADS_DY = 0;
layout(constant_id = 21) const uint ADD = 0;
layout(constant_id = 23) const uint LANES = 8; // invocations along the inputs, if all; 0: P(8), the rest along the outputs
TEXELS(0, x)
TEXELS(1, dy)
TENSOR(2, dw)

vec4 left(uint at, uint o, uint outs)
{
    if (QUADS_DY != 0) return dy4(at + min(o, outs - 4));
    uint last = outs - 1;
    return vec4(dy(at + min(o, last)), dy(at + min(o + 1, last)), dy(at + min(o + 2, last)), dy(at + min(o + 3, last)));
}

vec4 right(uint at, uint k, uint ins)
{
    if (QUADS_X != 0) return x4(at + min(k, ins - 4));
    uint last = ins - 1;
    return vec4(x(at + min(k, last)), x(at + min(k + 1, last)), x(at + min(k + 2, last)), x(at + min(k + 3, last)));
}

void main()
{
    uint rows = P(0), outs = P(1), ins = P(2), height = P(3), width = P(4), lines = P(5), share = P(6), parts = P(7);
    uint tap = gl_WorkGroupID.z / parts, part = gl_WorkGroupID.z % parts;
    int down = int(tap / SIDE) - int(SIDE / 2), across = int(tap % SIDE) - int(SIDE / 2);
    uint me = gl_LocalInvocationID.x, lanes = LANES != 0 ? LANES : P(8);
    uint k0 = (gl_WorkGroupID.x * lanes * INS + me % lanes) * 4;
    uint o0 = (gl_WorkGroupID.y * (gl_WorkGroupSize.x / lanes) + (LANES != 0 ? 0 : me / lanes)) * OUTS * 4;
    if (k0 >= ins || o0 >= outs) return;

    vec4 sum[OUTS * 4][INS];
    [[unroll]] for (uint i = 0; i < OUTS * 4; i++)
        [[unroll]] for (uint j = 0; j < INS; j++) sum[i][j] = vec4(0);
    for (uint line = part * share; line < min((part + 1) * share, lines); line++) {
        if (SIDE > 1 && uint(int(line % height) + down) >= height) continue;
        uint begin = line * width + uint(max(-across, 0)), end = line * width + uint(max(int(width) - max(across, 0), 0));
        int under = int(begin) + down * int(width) + across;
        end = min(end, rows);
        for (uint row = begin; row < end; row++, under++) {
            vec4 v[INS];
            [[unroll]] for (uint j = 0; j < INS; j++) v[j] = right(uint(under) * ins, k0 + 4 * j * lanes, ins);
            [[unroll]] for (uint i = 0; i < OUTS; i++) {
                vec4 d = left(row * outs, o0 + 4 * i, outs);
                [[unroll]] for (uint j = 0; j < INS; j++) {
                    sum[4 * i][j] += d.x * v[j];
                    sum[4 * i + 1][j] += d.y * v[j];
                    sum[4 * i + 2][j] += d.z * v[j];
                    sum[4 * i + 3][j] += d.w * v[j];
                }
            }
        }
    }

    [[unroll]] for (uint i = 0; i < OUTS * 4; i++)
        [[unroll]] for (uint j = 0; j < INS; j++) {
            uint o = o0 + i, k = k0 + 4 * j * lanes;
            if (o < outs) {
                uint at = ((part * outs + o) * SIDE * SIDE + tap) * ins;
                [[unroll]] for (uint e = 0; e < 4; e++)
                    if (k + e < ins) dw_store(at + k + e, sum[i][j][e] + (ADD != 0 ? dw(at + k + e) : 0));
            }
        }
}
