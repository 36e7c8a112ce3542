#version 450
// From sums[N,2,C] of du and du n: means[N,groups,2] of dn and dn n over each group.
#extension GL_GOOGLE_include_directive : require
#include "tensor.glsl"
#include "formulas.glsl"
TENSOR(0, sums)
TENSOR(1, gamma)
TENSOR(2, film)
TENSOR(3, means)

void main()
{
    uint count = P(0), channels = P(1), rows = P(2), width = P(3);
    uint i = gl_GlobalInvocationID.x, groups = channels / width;
    if (i >= count) return;
    uint n = i / groups, first = i % groups * width;
    float sum = 0, along = 0;
    for (uint c = first; c < first + width; c++) {
        uint at = n * 2 * channels + c;
        float factor = gamma(c);
        if (HAS(film)) factor *= f32_film_gain(vec4(film(at))).x;
        sum += factor * sums(at);
        along += factor * sums(at + channels);
    }
    float size = float(rows) * float(width);
    means_store(2 * i, sum / size);
    means_store(2 * i + 1, along / size);
}
