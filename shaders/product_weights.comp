#version 450
// Weights laid out for a product: packed[t, k/4, n, 4], channels past the last zero. By its strides it reads
// w[n,t,k] as it is, transposed, and, for gradients, with the taps turned around.
#extension GL_GOOGLE_include_directive : require
#include "tensor.glsl"
TENSOR(0, w)
TENSOR(1, packed)

void main()
{
    uint i = gl_GlobalInvocationID.x, columns = P(1), ins = P(2), quads = (ins + 3) / 4, taps = P(3);
    if (i >= P(0)) return;
    uint n = i % columns, k = i / columns % quads * 4, t = i / columns / quads;
    uint at = n * P(4) + (P(7) != 0 ? taps - 1 - t : t) * P(5);
    vec4 v = vec4(0);
    for (uint j = 0; j < 4; j++)
        if (k + j < ins) v[j] = w(at + (k + j) * P(6));
    packed_store4(4 * i, v);
}
