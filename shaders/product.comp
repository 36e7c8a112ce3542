#version 450
// y[m,n] = bias[n] + residual[m,n] + sum over taps t and channels k of x[row of m under t, k] w[n,t,k].
//
// A convolution as one matrix product that is never laid out; a linear layer is the case of one tap. For CPU
// drivers: an invocation holds ROWS x COLUMNS sums in registers and shares nothing. Neighbouring invocations
// take neighbouring columns, so that their weights lie side by side when packed (product_weights.comp), while
// x is the same for all of them. Four channels a step: loads dominate there, and a load of four costs little
// more than a load of one.
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#include "tensor.glsl"
layout(constant_id = 16) const uint ROWS = 4;
layout(constant_id = 17) const uint COLUMNS = 4;
layout(constant_id = 18) const uint SIDE = 1;  // of the kernel
layout(constant_id = 19) const uint QUADS = 0; // x can be read by fours
layout(constant_id = 21) const uint LANES = 8; // invocations along the columns, if all; 0: P(7), the rest along the rows
TEXELS(0, x)
TEXELS(1, w)
TENSOR(2, bias)
TENSOR(3, residual)
TENSOR(4, y)

vec4 channels(uint row, uint k, uint all)
{
    if (QUADS != 0) return x4(row * all + k);
    uint last = all - 1, at = row * all;
    vec4 v = vec4(x(at + k), x(at + min(k + 1, last)), x(at + min(k + 2, last)), x(at + min(k + 3, last)));
    return vec4(v.x, k + 1 < all ? v.y : 0, k + 2 < all ? v.z : 0, k + 3 < all ? v.w : 0);
}

void main()
{
    uint rows = P(0), columns = P(1), ins = P(2);
    int height = int(P(3)), width = int(P(4)), pad = int(SIDE / 2);
    uint step_column = P(5), step_quad = P(6); // within w
    uint me = gl_LocalInvocationID.x, lanes = LANES != 0 ? LANES : P(7);
    uint first = (gl_WorkGroupID.y * (gl_WorkGroupSize.x / lanes) + (LANES != 0 ? 0 : me / lanes)) * ROWS;
    uint column = gl_WorkGroupID.x * lanes * COLUMNS + me % lanes;
    if (first >= rows || column >= columns) return;

    float sum[ROWS][COLUMNS];
    uint row[ROWS], weight[COLUMNS];
    int line[ROWS], place[ROWS]; // of the pixel in its image
    [[unroll]] for (uint j = 0; j < COLUMNS; j++)
        weight[j] = min(column + j * lanes, columns - 1) * step_column;
    [[unroll]] for (uint i = 0; i < ROWS; i++) {
        row[i] = min(first + i, rows - 1);
        if (SIDE > 1) {
            int r = int(row[i]);
            place[i] = r % width;
            line[i] = r / width % height;
        }
        [[unroll]] for (uint j = 0; j < COLUMNS; j++) sum[i][j] = 0;
    }

    uint quad = 0; // of the channels of all taps
    for (int a = -pad; a <= pad; a++)
        for (int b = -pad; b <= pad; b++) {
            uint under[ROWS];
            bool inside[ROWS];
            [[unroll]] for (uint i = 0; i < ROWS; i++) {
                inside[i] = SIDE == 1 || (uint(line[i] + a) < uint(height) && uint(place[i] + b) < uint(width));
                under[i] = SIDE > 1 && inside[i] ? uint(int(row[i]) + a * width + b) : row[i];
            }
            for (uint k = 0; k < ins; k += 4) {
                vec4 right[COLUMNS];
                [[unroll]] for (uint j = 0; j < COLUMNS; j++) right[j] = w4(weight[j] + quad * step_quad);
                [[unroll]] for (uint i = 0; i < ROWS; i++) {
                    vec4 left = channels(under[i], k, ins);
                    if (SIDE > 1) left = inside[i] ? left : vec4(0);
                    [[unroll]] for (uint j = 0; j < COLUMNS; j++) sum[i][j] += dot(left, right[j]);
                }
                quad++;
            }
        }

    [[unroll]] for (uint j = 0; j < COLUMNS; j++) {
        uint n = column + j * lanes;
        if (n < columns) {
            float start = GIVEN(2) ? bias(n) : 0;
            [[unroll]] for (uint i = 0; i < ROWS; i++)
                if (first + i < rows) {
                    uint at = (first + i) * columns + n;
                    y_store(at, sum[i][j] + start + (GIVEN(3) ? residual(at) : 0));
                }
        }
    }
}
