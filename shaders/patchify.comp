#version 450
// y[..,H/p,W/p,p p C] = x[..,H,W,C], or back.
#extension GL_GOOGLE_include_directive : require
#include "tensor.glsl"
#include "quads.glsl"
layout(constant_id = 17) const uint BACK = 0;
TENSOR(0, x)
TENSOR(1, y)

void main()
{
    uint count = P(0), line = P(1), channels = P(2), patch_ = P(3), i = gl_GlobalInvocationID.x * STEP;
    if (i >= count) return;
    // i is the element's place among the pixels; `cell` among the patches.
    uint row = i / line, column = i % line / channels, width = line / channels;
    uint cell = row / patch_ * (width / patch_) + column / patch_;
    uint at = ((cell * patch_ + row % patch_) * patch_ + column % patch_) * channels + i % channels;
    if (BACK != 0)
        STORE(y, i, LOAD(x, at))
    else
        STORE(y, at, LOAD(x, i))
}
