#version 450
// The product of product_shared.comp for GPUs with matrix units: f16 or bf16 tensors, summed in f32. A subgroup sums ROWS x
// COLUMNS matrices of M x N, over K channels at a time; a group has LANES x LINES subgroups.
//
// Rows and columns are staged as quads of channels, each row a little longer than it need be, so that a column of
// them does not meet one bank of memory. What lies outside is staged as zeros. Sums go through shared memory to where
// an invocation knows its row and column.
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#include "tensor.glsl"
#include "matrices.glsl"
layout(constant_id = 16) const uint ROWS = 2;
layout(constant_id = 17) const uint COLUMNS = 2;
layout(constant_id = 18) const uint SIDE = 1;  // of the kernel
layout(constant_id = 19) const uint QUADS = 0; // x can be read by fours
layout(constant_id = 20) const uint DEPTH = 8; // quads of channels staged at once, a multiple of K / 4
layout(constant_id = 21) const uint LANES = 2;
layout(constant_id = 22) const uint LINES = 2;
layout(constant_id = 23) const uint M = 16;
layout(constant_id = 24) const uint N = 16;
layout(constant_id = 25) const uint K = 16;
layout(constant_id = 26) const uint STEP = 128; // invocations of the group
TENSOR(0, x)
TENSOR(1, w)
TENSOR(2, bias)
TENSOR(3, residual)
TENSOR(4, y)
STAGED(0, x)

// Rows of matrices must begin at multiples of 16 bytes.
const uint TALL = LINES * ROWS * M, WIDE = LANES * COLUMNS * N, PITCH = DEPTH + 2;
shared uvec2 left[TALL * PITCH];
shared uvec2 right[WIDE * PITCH];
shared float sums[LANES * LINES * M * N];

const uint EACH = (TALL * DEPTH + STEP - 1) / STEP; // quads that an invocation stages of the left
const uint OUTSIDE = 0xffffffff;

void main()
{
    uint rows = P(0), columns = P(1), ins = P(2), height = P(3), width = P(4), quads = (ins + 3) / 4;
    uint me = gl_LocalInvocationIndex, lane = gl_SubgroupID % LANES, line = gl_SubgroupID / LANES;
    uint first = gl_WorkGroupID.y * TALL, column = gl_WorkGroupID.x * WIDE;
    SUMS(M, N) sum[ROWS * COLUMNS];
    [[unroll]] for (uint i = 0; i < ROWS * COLUMNS; i++)
        sum[i] = SUMS(M, N)(0);

    // What an invocation stages lies in the same rows at every stage: their pixels are found once.
    uint start[EACH];  // of a row in x
    ivec2 pixel[EACH]; // its line, and its place within it
    [[unroll]] for (uint e = 0; e < EACH; e++) {
        uint row = first + (me + e * STEP) / DEPTH;
        start[e] = row < rows ? row * ins : OUTSIDE;
        if (SIDE > 1) pixel[e] = ivec2(row / width % height, row % width);
    }
    for (uint tap = 0; tap < SIDE * SIDE; tap++) {
        int down = int(tap / SIDE) - int(SIDE / 2), across = int(tap % SIDE) - int(SIDE / 2);
        uint to_tap = uint(down * int(width) + across) * ins;
        for (uint quad = 0; quad < quads; quad += DEPTH) {
            barrier();
            [[unroll]] for (uint e = 0; e < EACH; e++) {
                uint i = me + e * STEP, q = quad + i % DEPTH;
                bool inside = start[e] != OUTSIDE && q < quads;
                if (SIDE > 1) inside = inside && uint(pixel[e].x + down) < height && uint(pixel[e].y + across) < width;
                if (TALL * DEPTH % STEP == 0 || i < TALL * DEPTH)
                    left[i / DEPTH * PITCH + i % DEPTH] =
                        inside ? x_staged(start[e] + to_tap, 4 * q, ins, QUADS) : uvec2(0);
            }
            for (uint i = me; i < WIDE * DEPTH; i += STEP) {
                uint n = column + i % WIDE, q = quad + i / WIDE;
                bool inside = n < columns && q < quads;
                right[i % WIDE * PITCH + i / WIDE] =
                    inside ? w_16x4[(tap * quads + q) * columns + n + sid2_at[1] / 4] : uvec2(0);
            }
            barrier();
            for (uint q = 0; q < DEPTH; q += K / 4) {
                MATRIX(K, N, B) r[COLUMNS];
                [[unroll]] for (uint j = 0; j < COLUMNS; j++)
                    coopMatLoad(r[j], right, (lane * COLUMNS + j) * N * PITCH + q, PITCH,
                                gl_CooperativeMatrixLayoutColumnMajor);
                [[unroll]] for (uint i = 0; i < ROWS; i++) {
                    MATRIX(M, K, A) l;
                    coopMatLoad(l, left, (line * ROWS + i) * M * PITCH + q, PITCH, gl_CooperativeMatrixLayoutRowMajor);
                    [[unroll]] for (uint j = 0; j < COLUMNS; j++)
                        sum[i * COLUMNS + j] = coopMatMulAdd(l, r[j], sum[i * COLUMNS + j]);
                }
            }
        }
    }

    uint mine = gl_SubgroupID * M * N;
    [[unroll]] for (uint i = 0; i < ROWS * COLUMNS; i++) {
        coopMatStore(sum[i], sums, mine, N, gl_CooperativeMatrixLayoutRowMajor);
        subgroupBarrier();
        uint row = first + (line * ROWS + i / COLUMNS) * M, n = column + (lane * COLUMNS + i % COLUMNS) * N;
        for (uint e = gl_SubgroupInvocationID; e < M * N; e += gl_SubgroupSize)
            if (row + e / N < rows && n + e % N < columns) {
                uint at = (row + e / N) * columns + n + e % N;
                float start = (HAS(bias) ? bias(n + e % N) : 0) + (HAS(residual) ? residual(at) : 0);
                y_store(at, sums[mine + e] + start);
            }
        subgroupBarrier();
    }
}
