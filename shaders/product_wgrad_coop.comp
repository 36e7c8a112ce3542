#version 450
// The sums of product_wgrad_shared.comp for GPUs with matrix units, laid out as in product_coop.comp: OUTS x INS
// matrices of M output channels and N input channels a subgroup, over K rows at a time.
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#include "tensor.glsl"
#include "matrices.glsl"
layout(constant_id = 16) const uint OUTS = 2;
layout(constant_id = 17) const uint INS = 2;
layout(constant_id = 18) const uint SIDE = 1; // of the kernel
layout(constant_id = 19) const uint QUADS_X = 0;
layout(constant_id = 20) const uint QUADS_DY = 0;
layout(constant_id = 21) const uint ADD = 0;
layout(constant_id = 22) const uint DEPTH = 32; // rows staged at once, a multiple of K
layout(constant_id = 23) const uint LANES = 2;
layout(constant_id = 24) const uint LINES = 2;
layout(constant_id = 25) const uint M = 16;
layout(constant_id = 26) const uint N = 16;
layout(constant_id = 27) const uint K = 16;
layout(constant_id = 28) const uint STEP = 128; // invocations of the group
TENSOR(0, x)
TENSOR(1, dy)
TENSOR(2, dw)
STAGED(0, x)
STAGED(1, dy)

// In quads; rows of matrices must begin at multiples of 16 bytes.
const uint TALL = LINES * OUTS * M / 4, WIDE = LANES * INS * N / 4, TALL_PITCH = TALL + 2, WIDE_PITCH = WIDE + 2;
shared uvec2 left[DEPTH * TALL_PITCH];
shared uvec2 right[DEPTH * WIDE_PITCH];
shared float sums[LANES * LINES * M * N];

const uint EACH = (DEPTH * WIDE + STEP - 1) / STEP; // quads that an invocation stages of x

void main()
{
    uint rows = P(0), outs = P(1), ins = P(2), height = P(3), width = P(4), share = P(6) * width, parts = P(7);
    uint tap = gl_WorkGroupID.z / parts, part = gl_WorkGroupID.z % parts;
    int down = int(tap / SIDE) - int(SIDE / 2), across = int(tap % SIDE) - int(SIDE / 2);
    uint me = gl_LocalInvocationIndex, lane = gl_SubgroupID % LANES,
         line = gl_SubgroupID / LANES;
    uint k0 = gl_WorkGroupID.x * WIDE, o0 = gl_WorkGroupID.y * TALL; // quads
    SUMS(M, N) sum[OUTS * INS];
    [[unroll]] for (uint i = 0; i < OUTS * INS; i++)
        sum[i] = SUMS(M, N)(0);

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
            uint row = begin + i / TALL, o = 4 * (o0 + i % TALL);
            left[i / TALL * TALL_PITCH + i % TALL] =
                row < end && o < outs ? dy_staged(row * outs, o, outs, QUADS_DY) : uvec2(0);
        }
        [[unroll]] for (uint e = 0; e < EACH; e++) {
            uint i = me + e * STEP, row = begin + i / WIDE, k = 4 * (k0 + i % WIDE);
            bool inside = row < end && k < ins;
            if (SIDE > 1) {
                inside = inside && uint(pixel[e].x + down) < height && uint(pixel[e].y + across) < width;
                row += to_tap;
                pixel[e] += ahead;
                if (uint(pixel[e].y) >= width) pixel[e] += ivec2(1, -int(width));
                if (uint(pixel[e].x) >= height) pixel[e].x -= int(height);
            }
            if (DEPTH * WIDE % STEP == 0 || i < DEPTH * WIDE)
                right[i / WIDE * WIDE_PITCH + i % WIDE] = inside ? x_staged(row * ins, k, ins, QUADS_X) : uvec2(0);
        }
        barrier();
        for (uint q = 0; q < DEPTH; q += K) {
            MATRIX(K, N, B) r[INS];
            [[unroll]] for (uint j = 0; j < INS; j++)
                coopMatLoad(r[j], right, q * WIDE_PITCH + (lane * INS + j) * N / 4, WIDE_PITCH,
                            gl_CooperativeMatrixLayoutRowMajor);
            [[unroll]] for (uint i = 0; i < OUTS; i++) {
                MATRIX(M, K, A) l;
                coopMatLoad(l, left, q * TALL_PITCH + (line * OUTS + i) * M / 4, TALL_PITCH,
                            gl_CooperativeMatrixLayoutColumnMajor);
                [[unroll]] for (uint j = 0; j < INS; j++)
                    sum[i * INS + j] = coopMatMulAdd(l, r[j], sum[i * INS + j]);
            }
        }
    }

    uint mine = gl_SubgroupID * M * N;
    [[unroll]] for (uint i = 0; i < OUTS * INS; i++) {
        coopMatStore(sum[i], sums, mine, N, gl_CooperativeMatrixLayoutRowMajor);
        subgroupBarrier();
        uint o = 4 * o0 + (line * OUTS + i / INS) * M, k = 4 * k0 + (lane * INS + i % INS) * N;
        for (uint e = gl_SubgroupInvocationID; e < M * N; e += gl_SubgroupSize)
            if (o + e / N < outs && k + e % N < ins) {
                uint at = ((part * outs + o + e / N) * SIDE * SIDE + tap) * ins + k + e % N;
                dw_store(at, sums[mine + e] + (ADD != 0 ? dw(at) : 0));
            }
        subgroupBarrier();
    }
}
