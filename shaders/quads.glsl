// Elements one by one or four at a time, by specialisation constant 16: the same text for both.
// An invocation at i = STEP * its number does LOAD(x, i) .. STORE(y, i, v); one by one, only v.x counts.
layout(constant_id = 16) const uint QUADS = 0;
#define STEP (QUADS != 0 ? 4 : 1)
#define LOAD(tensor, i) (QUADS != 0 ? tensor##4(i) : vec4(tensor(i)))
#define STORE(tensor, i, v)             \
    {                                   \
        if (QUADS != 0)                 \
            tensor##_store4(i, v);      \
        else                            \
            tensor##_store(i, (v).x);   \
    }
