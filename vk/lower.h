/* Lowering: an operator as dispatches of shaders. One function per operator, by family in lower_*.c.
 *
 * A lowering runs once, when a program is compiled. It looks at shapes, types and the device's limits, picks
 * shaders, constants and group counts, and appends dispatches; the recorder (program.c) adds the barriers,
 * splits what is too long, and records. Whatever a shader can be told at that time goes into specialisation
 * constants where it selects code, and into push constants where it is a number (a shape). */
#ifndef SID2_VK_LOWER_H
#define SID2_VK_LOWER_H

#include "caps.h"
#include "graph.h"

typedef enum sid2_vk_shader {
#define SHADER(name, access, variants) SID2_VK_##name,
#include "shaders.def"
#undef SHADER
    SID2_VK_SHADER_COUNT
} sid2_vk_shader;

/* A tensor somewhere in device memory. rank -1: absent. */
typedef struct sid2_vk_tensor {
    sid2_dtype dtype;
    sid2_shape shape;
    struct sid2_vk_memory *memory;
    size_t offset;           /* bytes, a multiple of the element's size */
    const uint64_t *version; /* of an external that the program does not write to: sid2_operand; else NULL */
} sid2_vk_tensor;

typedef struct sid2_vk_call {
    sid2_op op;
    const sid2_attr *attr;
    sid2_vk_tensor in[SID2_MAX_INPUTS], out[SID2_MAX_OUTPUTS];
} sid2_vk_call;

enum { SID2_VK_BINDINGS = 12, SID2_VK_PUSH = 20, SID2_VK_CONSTANTS = 13, SID2_VK_ABSENT = 255 };

/* shaders/tensor.glsl is the other side of this struct. */
typedef struct sid2_vk_dispatch {
    sid2_vk_shader shader;
    sid2_vk_tensor tensor[SID2_VK_BINDINGS]; /* by binding, as many as the shader's row says */
    uint32_t local[3];                       /* invocations of a group; 0 counts as 1 */
    uint32_t groups[3]; /* groups; 0 counts as 1; any size, the recorder splits. A shader never
                           reads gl_NumWorkGroups */
    uint32_t constant[SID2_VK_CONSTANTS]; /* specialisation constants 16, 17, .. */
    uint32_t push[SID2_VK_PUSH];          /* P(0), P(1), ..; floats by sid2_vk_bits */
    double work;                          /* multiply-adds or elements touched: splits long dispatches */
} sid2_vk_dispatch;

/* Where dispatches are collected; the recorder's own. */
typedef struct sid2_vk_lowering sid2_vk_lowering;

/* What the device can do, for choosing shaders. */
const sid2_vk_caps *sid2_vk_lowering_caps(const sid2_vk_lowering *lowering);
/* Block sizes of products for this device: tiles.h. */
const struct sid2_vk_tiles *sid2_vk_lowering_tiles(const sid2_vk_lowering *lowering);
/* Appends a dispatch. After the first failure (a limit, no memory) further ones do nothing and the program's
 * compilation reports it. */
void sid2_vk_emit(sid2_vk_lowering *lowering, const sid2_vk_dispatch *dispatch);
/* Memory for intermediate results of this call; not initialised, gone after it. */
sid2_vk_tensor sid2_vk_scratch(sid2_vk_lowering *lowering, sid2_dtype dtype, sid2_shape shape);
/* Memory for what `dispatch` makes, into its second tensor and of its first alone, and the dispatch itself. Where the program
 * computes no gradients and does not write to the first tensor, the result stays, and is made anew only when that was written
 * to; else it is scratch, made in each run. */
sid2_vk_tensor sid2_vk_derive(sid2_vk_lowering *lowering, sid2_vk_dispatch *dispatch, sid2_dtype dtype,
                              sid2_shape shape);
/* Names why this call cannot be done here; the program's compilation fails with it. */
void sid2_vk_refuse(sid2_vk_lowering *lowering, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* ---- Small questions that every lowering asks ---- */
static inline bool sid2_vk_has(const sid2_vk_tensor *t) { return t->shape.rank >= 0; }
static inline uint32_t sid2_vk_bits(float value)
{
    union {
        float value;
        uint32_t bits;
    } pun = {value};
    return pun.bits;
}
static inline uint32_t sid2_vk_ceil_div(int64_t n, int64_t by) { return (uint32_t)((n + by - 1) / by); }
int64_t sid2_vk_count(const sid2_vk_tensor *t);           /* elements */
int64_t sid2_vk_last(const sid2_vk_tensor *t);            /* channels */
int64_t sid2_vk_rows(const sid2_vk_tensor *t);            /* count / channels */
int64_t sid2_vk_rows_per_sample(const sid2_vk_tensor *t); /* rows / first extent */
/* Whether the device has cooperative matrices for two such operands; all sums are in f32. */
static inline bool sid2_vk_matrices(const sid2_vk_caps *caps, const sid2_vk_tensor *a,
                                    const sid2_vk_tensor *b)
{
    return caps->cooperative.m && a->dtype == b->dtype &&
           (a->dtype == SID2_F16 || (a->dtype == SID2_BF16 && caps->cooperative.bf16));
}
/* Whether four neighbouring elements can be loaded at once from any multiple of 4: the tensor's place. The
 * caller answers for its own indices (usually: channels % 4 == 0). */
bool sid2_vk_quads(const sid2_vk_tensor *t);

typedef void (*sid2_vk_lower)(sid2_vk_lowering *lowering, const sid2_vk_call *call);
/* By operator: sid2_vk_lower_linear and so on. */
#define KERNEL(name) void sid2_vk_lower_##name(sid2_vk_lowering *lowering, const sid2_vk_call *call);
#include "lower.def"

#endif
