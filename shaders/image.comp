#version 450
// Pictures of bytes and back, without 8-bit access: an invocation owns a word of four bytes.
//   TO_BYTES 0: y = x / 127.5 - 1        1: x = round(127.5 (clamp(y, -1, 1) + 1))
#extension GL_GOOGLE_include_directive : require
#include "tensor.glsl"
layout(constant_id = 16) const uint TO_BYTES = 0;
layout(std430, binding = 0) buffer bytes_block { uint words[]; };
TENSOR(1, y)

void main()
{
    // The tensor's bytes are first .. first + count - 1 of the binding.
    uint count = P(0), first = sid2_at[0], word = first / 4 + gl_GlobalInvocationID.x;
    if (4 * word >= first + count) return;
    uint bits = words[word];
    for (uint k = 0; k < 4; k++) {
        uint at = 4 * word + k;
        if (at < first || at >= first + count) continue; // a neighbour's byte
        if (TO_BYTES != 0) {
            float v = y(at - first);
            uint level = isnan(v) ? 0 : uint(127.5 * (clamp(v, -1, 1) + 1) + 0.5);
            bits = bitfieldInsert(bits, level, int(8 * k), 8);
        } else {
            y_store(at - first, float(bitfieldExtract(bits, int(8 * k), 8)) / 127.5 - 1);
        }
    }
    if (TO_BYTES != 0) words[word] = bits;
}
