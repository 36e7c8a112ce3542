#version 450
// The sums of product_wgrad.comp for GPUs: a group of LANES x LINES invocations stages DEPTH rows of dy and of
// the x under one tap in shared memory; each invocation sums 4 OUTS x 4 INS of their products.
//
// Staged are quads of channels, rows that do not count as zeros.
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#include "tensor.glsl"
layout(constant_id = 16) const uint OUTS = 1; // quads of output channels
layout(constant_id = 17) const uint INS = 1;  // quads of input channels
layout(constant_id = 18) const uint SIDE = 1; // of the kernel
layout(constant_id = 19) const uint QUADS_X = 0;
layout(constant_id = 20) const uint QUADS_DY = 0;
layout(constant_id = 21) const uint ADD = 0;
layout(constant_id = 22) const uint DEPTH = 8;
layout(constant_id = 23) const uint LANES = 16;
layout(constant_id = 24) const uint LINES = 16;
TENSOR(0, x)
TENSOR(1, dy)
TENSOR(2, dw)

const uint TALL = LINES * OUTS, WIDE = LANES * INS;
shared vec4 left[DEPTH * TALL];
shared vec4 right[DEPTH * WIDE];

const uint STEP = LANES * LINES, EACH = (DEPTH * WIDE + STEP - 1) / STEP; // quads that an invocation stages of x

vec4 outputs(uint at, uint o, uint all)
{
    if (QUADS_DY != 0) return o < all ? dy4(at + o) : vec4(0);
    return vec4(o < all ? dy(at + o) : 0, o + 1 < all ? dy(at + o + 1) : 0, o + 2 < all ? dy(at + o + 2) : 0,
                o + 3 < all ? dy(at + o + 3) : 0);
}

vec4 inputs(uint at, uint k, uint all)
{
    if (QUADS_X != 0) return k < all ? x4(at + k) : vec4(0);
    return vec4(k < all ? x(at + k) : 0, k + 1 < all ? x(at + k + 1) : 0, k + 2 < all ? x(at + k + 2) : 0,
                k + 3 < all ? x(at + k + 3) : 0);
}

void main()
{
    uint rows = P(0), outs = P(1), ins = P(2), height = P(3), width = P(4), share = P(6) * width, parts = P(7);
    uint tap = gl_WorkGroupID.z / parts, part = gl_WorkGroupID.z % parts;
    int down = int(tap / SIDE) - int(SIDE / 2), across = int(tap % SIDE) - int(SIDE / 2);
    uint me = gl_LocalInvocationIndex, lane = gl_LocalInvocationID.x, line = gl_LocalInvocationID.y;
    uint k0 = gl_WorkGroupID.x * WIDE, o0 = gl_WorkGroupID.y * TALL; // quads
    vec4 sum[OUTS * 4][INS];
    [[unroll]] for (uint i = 0; i < OUTS * 4; i++)
        [[unroll]] for (uint j = 0; j < INS; j++) sum[i][j] = vec4(0);

    // The pixels of the rows that an invocation stages move on by DEPTH a stage: divided is once.
    ivec2 pixel[EACH]; // line and place
    ivec2 ahead = ivec2(DEPTH / width % height, DEPTH % width);
    uint to_tap = uint(down * int(width) + across);
    if (SIDE > 1)
        [[unroll]] for (uint e = 0; e < EACH; e++) {
            uint row = part * share + (me + e * STEP) / WIDE;
            pixel[e] = ivec2(row / width % height, row % width);
        }
    uint end = min((part + 1) * share, rows);
    for (uint begin = part * share; begin < end; begin += DEPTH) {
        barrier();
        for (uint i = me; i < DEPTH * TALL; i += STEP) {
            uint row = begin + i / TALL;
            left[i] = row < end ? outputs(row * outs, 4 * (o0 + i % TALL), outs) : vec4(0);
        }
        [[unroll]] for (uint e = 0; e < EACH; e++) {
            uint i = me + e * STEP, row = begin + i / WIDE;
            bool inside = row < end;
            if (SIDE > 1) {
                inside = inside && uint(pixel[e].x + down) < height && uint(pixel[e].y + across) < width;
                row += to_tap;
                pixel[e] += ahead;
                if (uint(pixel[e].y) >= width) pixel[e] += ivec2(1, -int(width));
                if (uint(pixel[e].x) >= height) pixel[e].x -= int(height);
            }
            if (DEPTH * WIDE % STEP == 0 || i < DEPTH * WIDE)
                right[i] = inside ? inputs(row * ins, 4 * (k0 + i % WIDE), ins) : vec4(0);
        }
        barrier();
        for (uint q = 0; q < DEPTH; q++) {
            vec4 r[INS];
            [[unroll]] for (uint j = 0; j < INS; j++) r[j] = right[q * WIDE + j * LANES + lane];
            [[unroll]] for (uint i = 0; i < OUTS; i++) {
                vec4 l = left[q * TALL + i * LINES + line];
                [[unroll]] for (uint j = 0; j < INS; j++) {
                    sum[4 * i][j] += l.x * r[j];
                    sum[4 * i + 1][j] += l.y * r[j];
                    sum[4 * i + 2][j] += l.z * r[j];
                    sum[4 * i + 3][j] += l.w * r[j];
                }
            }
        }
    }

    [[unroll]] for (uint i = 0; i < OUTS * 4; i++)
        [[unroll]] for (uint j = 0; j < INS; j++) {
            uint o = 4 * (o0 + i / 4 * LINES + line) + i % 4, k = 4 * (k0 + j * LANES + lane);
            if (o < outs) {
                uint at = ((part * outs + o) * SIDE * SIDE + tap) * ins;
                [[unroll]] for (uint e = 0; e < 4; e++)
                    if (k + e < ins) dw_store(at + k + e, sum[i][j][e] + (ADD != 0 ? dw(at + k + e) : 0));
            }
        }
}
