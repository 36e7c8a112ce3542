#version 450
// dtable[index[n]] += dy[n], in order of n: an invocation owns a column.
#extension GL_GOOGLE_include_directive : require
#include "tensor.glsl"
TENSOR(0, dy)
INTEGERS(1, index)
TENSOR(2, dtable)

void main()
{
    uint samples = P(0), width = P(1), rows = P(2), e = gl_GlobalInvocationID.x;
    if (e >= width) return;
    for (uint n = 0; n < samples; n++) {
        uint at = min(index(n), rows - 1) * width + e;
        dtable_store(at, dtable(at) + dy(n * width + e));
    }
}
