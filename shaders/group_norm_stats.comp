#version 450
// stats[N,groups,2] = mean and 1/sqrt(variance + eps), from group_norm_sums.
#extension GL_GOOGLE_include_directive : require
#include "tensor.glsl"
#include "formulas.glsl"
TENSOR(0, x)
TENSOR(1, partial)
TENSOR(2, stats)

void main()
{
    uint count = P(0), channels = P(1), rows = P(2), parts = P(3), width = P(4);
    uint i = gl_GlobalInvocationID.x, groups = channels / width;
    if (i >= count) return;
    uint n = i / groups, first = i % groups * width;
    float sum = 0, squares = 0;
    for (uint part = 0; part < parts; part++) {
        uint at = (n * parts + part) * 2 * channels + first;
        for (uint c = 0; c < width; c++) {
            sum += partial(at + c);
            squares += partial(at + channels + c);
        }
    }
    float size = float(rows) * float(width), away = sum / size;
    float raw = squares / size - away * away, variance = is_finite(raw) ? max(raw, 0) : raw;
    stats_store(2 * i, x(n * rows * channels + first) + away);
    stats_store(2 * i + 1, 1 / sqrt(variance + PF(5)));
}
