// What attention and its gradients share. A head is D4 pieces of four elements, the last padded with zeros.
//
// For CPU drivers an invocation owns a row (a query, or a key) and walks over the others four at a time, so that
// neighbouring invocations read the same addresses and each piece of its own row is used four times. For GPUs:
// attention_tiles.glsl.
#include "quads.glsl"
#include "formulas.glsl"

// The logarithm of a sum of exponentials, `most` taken out. A driver's log may make a number of a NaN.
float log_of_sum(float most, float total) { return is_finite(total) ? most + log(total) : total; }
layout(constant_id = 17) const uint D4 = 16;
// Whether the compiler sees the number of pieces, unrolls, and holds them in registers: twice as fast, but compiling
// takes minutes where loads are from storage buffers.
layout(constant_id = 18) const uint UNROLL = 1;
#define PIECES (UNROLL != 0 ? D4 : P(4))
#define PIECE(tensor, at, e)                                                                  \
    (QUADS != 0 ? tensor##4((at) + 4 * (e))                                                   \
                : vec4(tensor((at) + 4 * (e)),                                                \
                       4 * (e) + 1 < HEAD ? tensor((at) + 4 * (e) + 1) : 0,                   \
                       4 * (e) + 2 < HEAD ? tensor((at) + 4 * (e) + 2) : 0,                   \
                       4 * (e) + 3 < HEAD ? tensor((at) + 4 * (e) + 3) : 0))
#define STORE_PIECE(tensor, at, e, v)                                                         \
    {                                                                                         \
        if (QUADS != 0) tensor##_store4((at) + 4 * (e), v);                                   \
        else                                                                                  \
            for (uint k_ = 0; k_ < 4 && 4 * (e) + k_ < HEAD; k_++)                            \
                tensor##_store((at) + 4 * (e) + k_, (v)[k_]);                                 \
    }
#define TOKENS P(0)
#define HEADS P(1)
#define HEAD P(2) // elements of a head
#define SCALE PF(3)

// Where head `h` of token `t` of sample `n` begins in tensors of 1, 2 or 3 times HEADS * HEAD channels.
uint place(uint n, uint t, uint h, uint width, uint third) { return ((n * TOKENS + t) * width + third) * HEADS * HEAD + h * HEAD; }
// Four rows from `first` on; past the last, the last again.
uvec4 four(uint first) { return min(first + uvec4(0, 1, 2, 3), uvec4(TOKENS - 1)); }
