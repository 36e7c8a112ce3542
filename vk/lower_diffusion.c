/* Pictures, conditioning, the diffusion process, the optimizer. */
#include "lower_each.h"

#include <math.h>

/* ---- Pictures: an invocation owns a word of four bytes ---- */

static void emit_words(sid2_vk_lowering *lowering, const sid2_vk_tensor *bytes, const sid2_vk_tensor *y,
                       bool to_bytes)
{
    int64_t count = sid2_vk_count(y), words = count / 4 + 2; /* the first and the last may be shared */
    sid2_vk_emit(lowering, &(sid2_vk_dispatch){.shader = SID2_VK_image,
                                               .tensor = {*bytes, *y},
                                               .local = {SID2_VK_EACH_LOCAL},
                                               .groups = {sid2_vk_ceil_div(words, SID2_VK_EACH_LOCAL)},
                                               .constant = {to_bytes},
                                               .push = {(uint32_t)count},
                                               .work = (double)count});
}

void sid2_vk_lower_image_to_float(sid2_vk_lowering *lowering, const sid2_vk_call *call)
{
    emit_words(lowering, &call->in[0], &call->out[0], false);
}

void sid2_vk_lower_float_to_image(sid2_vk_lowering *lowering, const sid2_vk_call *call)
{
    emit_words(lowering, &call->out[0], &call->in[0], true);
}

/* ---- Conditioning ---- */

void sid2_vk_lower_embedding(sid2_vk_lowering *lowering, const sid2_vk_call *call)
{
    int64_t width = sid2_vk_last(&call->out[0]);
    sid2_vk_dispatch d = {.shader = SID2_VK_embedding,
                          .tensor = {call->in[0], call->in[1], call->out[0]},
                          .push = {[1] = (uint32_t)width, [2] = (uint32_t)call->in[0].shape.dim[0]}};
    sid2_vk_emit_each(lowering, &d, sid2_vk_count(&call->out[0]), width % 4 == 0);
}

void sid2_vk_lower_embedding_grad(sid2_vk_lowering *lowering, const sid2_vk_call *call)
{
    const sid2_vk_tensor *table = &call->out[0];
    int64_t width = sid2_vk_last(table), samples = call->in[1].shape.dim[0];
    sid2_vk_emit(lowering, &(sid2_vk_dispatch){
                               .shader = SID2_VK_embedding_grad,
                               .tensor = {call->in[0], call->in[1], *table},
                               .local = {SID2_VK_EACH_LOCAL},
                               .groups = {sid2_vk_ceil_div(width, SID2_VK_EACH_LOCAL)},
                               .push = {(uint32_t)samples, (uint32_t)width, (uint32_t)table->shape.dim[0]},
                               .work = (double)(samples * width)});
}

void sid2_vk_lower_sinusoid(sid2_vk_lowering *lowering, const sid2_vk_call *call)
{
    const sid2_vk_tensor *y = &call->out[0];
    int64_t half = sid2_vk_last(y) / 2;
    double exponent = log2((double)call->attr->period) / (double)half;
    int scale;
    frexp(exponent, &scale);
    double high = ldexp(rint(ldexp(exponent, 11 - scale)), scale - 11); /* 11 bits: times k it is exact */
    sid2_vk_dispatch d = {.shader = SID2_VK_sinusoid,
                          .tensor = {call->in[0], *y},
                          .push = {[1] = (uint32_t)half,
                                   [2] = sid2_vk_bits((float)high),
                                   [3] = sid2_vk_bits((float)(exponent - high))}};
    sid2_vk_emit_each(lowering, &d, y->shape.dim[0] * half, false);
}

/* ---- The loss ---- */

void sid2_vk_lower_diffusion_loss(sid2_vk_lowering *lowering, const sid2_vk_call *call)
{
    const sid2_vk_tensor *in = call->in;
    int64_t samples = in[0].shape.dim[0], each = sid2_vk_count(&in[0]) / samples;
    int64_t parts = each < 256 ? each : 256;
    sid2_vk_tensor partial = sid2_vk_scratch(lowering, SID2_F32, sid2_shape_of(samples, parts));
    sid2_vk_emit(lowering, &(sid2_vk_dispatch){
                               .shader = SID2_VK_diffusion_loss_sums,
                               .tensor = {in[0], in[1], in[2], in[3], in[4], partial},
                               .local = {SID2_VK_EACH_LOCAL},
                               .groups = {sid2_vk_ceil_div(parts, SID2_VK_EACH_LOCAL), (uint32_t)samples},
                               .push = {(uint32_t)each, (uint32_t)parts},
                               .work = (double)(samples * each)});
    sid2_vk_dispatch sums = {.shader = SID2_VK_diffusion_loss,
                             .tensor = {partial, in[5], call->out[0]},
                             .push = {[1] = (uint32_t)parts, [2] = sid2_vk_bits((float)each)}};
    sid2_vk_emit_each(lowering, &sums, samples, false);
}

void sid2_vk_lower_diffusion_loss_grad(sid2_vk_lowering *lowering, const sid2_vk_call *call)
{
    const sid2_vk_tensor *in = call->in, *dv = &call->out[0];
    int64_t count = sid2_vk_count(dv), each = count / dv->shape.dim[0];
    sid2_vk_dispatch d = {.shader = SID2_VK_diffusion_loss_grad,
                          .tensor = {in[0], in[1], in[2], in[3], in[4], in[5], in[6], in[7], *dv},
                          .push = {[1] = (uint32_t)each, [2] = sid2_vk_bits((float)each)}};
    /* The scalars of each sample are read one by one, wherever they lie. */
    bool quads = each % 4 == 0 && sid2_vk_quads(&in[1]) && sid2_vk_quads(&in[2]) && sid2_vk_quads(&in[3]);
    sid2_vk_emit_each(lowering, &d, count, quads);
}

void sid2_vk_lower_sampler_step(sid2_vk_lowering *lowering, const sid2_vk_call *call)
{
    const sid2_vk_tensor *in = call->in, *out = call->out;
    sid2_vk_dispatch d = {.shader = SID2_VK_sampler_step,
                          .tensor = {in[0], in[1], in[2], in[3], in[4], in[5], out[0], out[1]}};
    sid2_vk_emit_each(lowering, &d, sid2_vk_count(&in[0]), true);
}

/* ---- The optimizer ---- */

/* A group for each block, pieces of whole blocks where one binding does not span all. */
void sid2_vk_lower_square_sums(sid2_vk_lowering *lowering, const sid2_vk_call *call)
{
    const sid2_vk_caps *caps = sid2_vk_lowering_caps(lowering);
    int64_t count = sid2_vk_count(&call->in[0]),
            piece = (int64_t)(caps->max_range / 8) & ~(int64_t)(SID2_SUM_BLOCK - 1);
    for (int64_t first = 0; first < count; first += piece) {
        int64_t length = count - first < piece ? count - first : piece;
        sid2_vk_tensor x = call->in[0], sums = call->out[0];
        uint32_t blocks = sid2_vk_ceil_div(length, SID2_SUM_BLOCK);
        x.shape = sid2_shape_of(length);
        x.offset += (size_t)first * sizeof(float);
        sums.shape = sid2_shape_of(blocks);
        sums.offset += (size_t)(first / SID2_SUM_BLOCK) * sizeof(double);
        sid2_vk_emit(lowering, &(sid2_vk_dispatch){.shader = SID2_VK_sum_squares,
                                                   .tensor = {x, sums},
                                                   .local = {SID2_VK_EACH_LOCAL},
                                                   .groups = {blocks},
                                                   .constant = {length % 4 == 0 && sid2_vk_quads(&x)},
                                                   .push = {(uint32_t)length},
                                                   .work = (double)length});
    }
}

void sid2_vk_lower_norm_of(sid2_vk_lowering *lowering, const sid2_vk_call *call)
{
    int64_t count = sid2_vk_count(&call->in[0]);
    sid2_vk_emit(lowering, &(sid2_vk_dispatch){.shader = SID2_VK_norm_of,
                                               .tensor = {call->in[0], call->out[0]},
                                               .local = {SID2_VK_EACH_LOCAL},
                                               .groups = {1},
                                               .push = {(uint32_t)count},
                                               .work = (double)count});
}

static bool in_place(sid2_vk_lowering *lowering, const sid2_vk_call *call, int output, int input)
{
    const sid2_vk_tensor *to = &call->out[output], *from = &call->in[input];
    if (!sid2_vk_has(to) || (to->memory == from->memory && to->offset == from->offset)) return true;
    sid2_vk_refuse(lowering, "%s updates its buffers where they are", sid2_op_name(call->op));
    return false;
}

void sid2_vk_lower_adam(sid2_vk_lowering *lowering, const sid2_vk_call *call)
{
    const sid2_vk_tensor *in = call->in;
    sid2_vk_dispatch d = {.shader = SID2_VK_adam,
                          .tensor = {in[0], in[1], in[2], in[3], in[4], in[5], call->out[4]},
                          .constant = {[1] = sid2_vk_has(&call->out[3])}};
    if (in_place(lowering, call, 0, 0) && in_place(lowering, call, 1, 2) && in_place(lowering, call, 2, 3) &&
        in_place(lowering, call, 3, 1))
        sid2_vk_emit_each(lowering, &d, sid2_vk_count(&in[0]), true);
}

void sid2_vk_lower_ema(sid2_vk_lowering *lowering, const sid2_vk_call *call)
{
    const sid2_vk_tensor *in = call->in;
    sid2_vk_dispatch d = {.shader = SID2_VK_ema, .tensor = {in[0], in[1], in[2], in[3]}};
    if (in_place(lowering, call, 0, 0)) sid2_vk_emit_each(lowering, &d, sid2_vk_count(&in[0]), true);
}
