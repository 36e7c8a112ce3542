#version 450
// Pictures of bytes and back, without 8-bit access: an invocation owns a word of four bytes.
//   TO_BYTES 0: y = x / 127.5 - 1        1: x = round(127.5 (clamp(y, -1, 1) + 1)), 0 for NaN
#extension GL_GOOGLE_include_directive : require
#include "tensor.glsl"
#include "formulas.glsl"
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
            bits = bitfieldInsert(bits, uint(f32_to_pixel(y(at - first))), int(8 * k), 8);
        } else {
            y_store(at - first, f32_from_pixel(vec4(bitfieldExtract(bits, int(8 * k), 8))).x);
        }
    }
    if (TO_BYTES != 0) words[word] = bits;
}
