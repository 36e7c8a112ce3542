#version 450
// y[n] = table[index[n]]; an index outside the table reads its last row.
#extension GL_GOOGLE_include_directive : require
#include "tensor.glsl"
#include "quads.glsl"
TENSOR(0, table)
INTEGERS(1, index)
TENSOR(2, y)

void main()
{
    uint count = P(0), width = P(1), rows = P(2), i = gl_GlobalInvocationID.x * STEP;
    if (i >= count) return;
    uint row = min(index(i / width), rows - 1); // a negative one is a large one
    STORE(y, i, LOAD(table, row * width + i % width))
}
