#version 450
// The product of product.comp for GPUs: a group of LANES x LINES invocations stages DEPTH channels of its rows
// and columns in shared memory, and each invocation sums ROWS x COLUMNS of them.
//
// Rows and columns of an invocation lie LINES and LANES apart, so that neighbours read neighbouring words.
// Staged channels are rows of quads over rows or columns; what lies outside is staged as zeros, and the sums
// need no tests. w is packed always (product_weights.comp).
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#include "tensor.glsl"
layout(constant_id = 16) const uint ROWS = 4;
layout(constant_id = 17) const uint COLUMNS = 4;
layout(constant_id = 18) const uint SIDE = 1;  // of the kernel
layout(constant_id = 19) const uint QUADS = 0; // x can be read by fours
layout(constant_id = 20) const uint DEPTH = 4; // quads of channels staged at once
layout(constant_id = 21) const uint LANES = 16;
layout(constant_id = 22) const uint LINES = 16;
TENSOR(0, x)
TENSOR(1, w)
TENSOR(2, bias)
TENSOR(3, residual)
TENSOR(4, y)

// One quad more in a row of `left`, for its rows are written down and read across.
const uint TALL = LINES * ROWS, WIDE = LANES * COLUMNS, PITCH = TALL + 1;
shared vec4 left[DEPTH * PITCH];
shared vec4 right[DEPTH * WIDE];

const uint STEP = LANES * LINES, EACH = (TALL * DEPTH + STEP - 1) / STEP; // quads that an invocation stages of the left
const uint OUTSIDE = 0xffffffff;

vec4 channels(uint at, uint k, uint all)
{
    if (QUADS != 0) return x4(at + k);
    return vec4(x(at + k), k + 1 < all ? x(at + k + 1) : 0, k + 2 < all ? x(at + k + 2) : 0,
                k + 3 < all ? x(at + k + 3) : 0);
}

void main()
{
    uint rows = P(0), columns = P(1), ins = P(2), height = P(3), width = P(4), quads = (ins + 3) / 4;
    uint me = gl_LocalInvocationIndex, lane = gl_LocalInvocationID.x, line = gl_LocalInvocationID.y;
    uint first = gl_WorkGroupID.y * TALL, column = gl_WorkGroupID.x * WIDE;
    float sum[ROWS][COLUMNS];
    [[unroll]] for (uint i = 0; i < ROWS; i++)
        [[unroll]] for (uint j = 0; j < COLUMNS; j++) sum[i][j] = 0;

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
                    left[i % DEPTH * PITCH + i / DEPTH] =
                        inside ? channels(start[e] + to_tap, 4 * q, ins) : vec4(0);
            }
            for (uint i = me; i < WIDE * DEPTH; i += STEP) {
                uint n = column + i % WIDE, q = quad + i / WIDE;
                right[i] = n < columns && q < quads ? w4(4 * ((tap * quads + q) * columns + n)) : vec4(0);
            }
            barrier();
            for (uint q = 0; q < DEPTH; q++) {
                vec4 r[COLUMNS];
                [[unroll]] for (uint j = 0; j < COLUMNS; j++) r[j] = right[q * WIDE + j * LANES + lane];
                [[unroll]] for (uint i = 0; i < ROWS; i++) {
                    vec4 l = left[q * PITCH + i * LINES + line];
                    [[unroll]] for (uint j = 0; j < COLUMNS; j++) sum[i][j] += dot(l, r[j]);
                }
            }
        }
    }

    [[unroll]] for (uint j = 0; j < COLUMNS; j++) {
        uint n = column + j * LANES + lane;
        if (n < columns) {
            float start = GIVEN(2) ? bias(n) : 0;
            [[unroll]] for (uint i = 0; i < ROWS; i++) {
                uint row = first + i * LINES + line, at = row * columns + n;
                if (row < rows) y_store(at, sum[i][j] + start + (GIVEN(3) ? residual(at) : 0));
            }
        }
    }
}
