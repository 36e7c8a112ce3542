/* Operators that touch each element once, and resampling. */
#include "lower_each.h"

void sid2_vk_emit_each(sid2_vk_lowering *lowering, sid2_vk_dispatch *d, int64_t count, bool quads)
{
    for (int i = 0; i < SID2_VK_BINDINGS; i++) {
        const sid2_vk_tensor *t = &d->tensor[i];
        if (t->memory && sid2_vk_has(t) && sid2_vk_count(t) > 3) quads = quads && sid2_vk_quads(t);
    }
    quads = quads && count % 4 == 0;
    d->constant[0] = quads;
    d->push[0] = (uint32_t)count;
    d->local[0] = SID2_VK_EACH_LOCAL;
    d->groups[0] = sid2_vk_ceil_div(quads ? count / 4 : count, SID2_VK_EACH_LOCAL);
    d->work = (double)count;
    sid2_vk_emit(lowering, d);
}

int64_t sid2_vk_per_sample(const sid2_vk_tensor *t)
{
    return t->shape.rank > 1 ? sid2_vk_count(t) / t->shape.dim[0] : sid2_vk_count(t);
}

/* ---- Sums of two tensors ---- */

static void combine(sid2_vk_lowering *lowering, const sid2_vk_tensor *x, float p, const sid2_vk_tensor *b,
                    float q, const sid2_vk_tensor *y)
{
    int64_t count = sid2_vk_count(y);
    sid2_vk_dispatch d = {.shader = SID2_VK_combine,
                          .tensor = {[0] = *x, [4] = *y},
                          .push = {[1] = (uint32_t)count, [2] = sid2_vk_bits(p), [3] = sid2_vk_bits(q)}};
    if (b) d.tensor[1] = *b;
    sid2_vk_emit_each(lowering, &d, count, true);
}

void sid2_vk_lower_scale(sid2_vk_lowering *lowering, const sid2_vk_call *call)
{
    combine(lowering, &call->in[0], call->attr->scale, NULL, 0, &call->out[0]);
}

void sid2_vk_lower_cast(sid2_vk_lowering *lowering, const sid2_vk_call *call)
{
    combine(lowering, &call->in[0], 1, NULL, 0, &call->out[0]);
}

void sid2_vk_lower_add(sid2_vk_lowering *lowering, const sid2_vk_call *call)
{
    combine(lowering, &call->in[0], 1, &call->in[1], call->attr->scale, &call->out[0]);
}

void sid2_vk_lower_diffuse(sid2_vk_lowering *lowering, const sid2_vk_call *call)
{
    int64_t count = sid2_vk_count(&call->out[0]), each = count / call->out[0].shape.dim[0];
    sid2_vk_dispatch d = {.shader = SID2_VK_combine,
                          .tensor = {call->in[0], call->in[1], call->in[2], call->in[3], call->out[0]},
                          .push = {[1] = (uint32_t)each}};
    sid2_vk_emit_each(lowering, &d, count, each % 4 == 0);
}

/* ---- Sums in parts ---- */

enum { JOINED = 32, BUSY = 64 << 10 }; /* parts; invocations that keep a GPU busy */

int64_t sid2_vk_parts(const sid2_vk_lowering *lowering, int64_t rows, int64_t columns, int64_t each,
                      int64_t shortest)
{
    bool software = sid2_vk_lowering_caps(lowering)->software;
    int64_t wanted = 1 + (software ? 4096 : BUSY) * each / columns;
    int64_t most = 1 + rows / (software ? 8 : shortest), parts = wanted < most ? wanted : most;
    return parts > JOINED ? parts / JOINED * JOINED : parts;
}

int64_t sid2_vk_join_parts(sid2_vk_lowering *lowering, sid2_vk_tensor *x, int64_t outer, int64_t parts,
                           int64_t inner)
{
    if (parts <= JOINED || outer * inner >= BUSY / 4 || sid2_vk_lowering_caps(lowering)->software)
        return parts;
    sid2_vk_tensor y = sid2_vk_scratch(lowering, SID2_F32, sid2_shape_of(outer, JOINED, inner));
    sid2_vk_dispatch d = {.shader = SID2_VK_sum_middle,
                          .tensor = {*x, y},
                          .push = {[1] = (uint32_t)(parts / JOINED), [2] = (uint32_t)inner}};
    sid2_vk_emit_each(lowering, &d, outer * JOINED * inner, false);
    *x = y;
    return JOINED;
}

/* ---- Activations ---- */

void sid2_vk_lower_activation(sid2_vk_lowering *lowering, const sid2_vk_call *call)
{
    const sid2_vk_tensor *x = &call->in[0];
    sid2_vk_dispatch d = {.shader = SID2_VK_activation,
                          .tensor = {*x, call->in[1], call->out[0]},
                          .constant = {[1] = call->attr->act},
                          .push = {[1] = (uint32_t)sid2_vk_per_sample(x), [2] = (uint32_t)sid2_vk_last(x)}};
    sid2_vk_emit_each(lowering, &d, sid2_vk_count(x), sid2_vk_last(x) % 4 == 0);
}

/* dfilm[N,2C], in two steps: sums over parts of a sample's rows, then over the parts. */
static void film_gradient(sid2_vk_lowering *lowering, const sid2_vk_call *call)
{
    const sid2_vk_tensor *x = &call->in[1];
    int64_t channels = sid2_vk_last(x), samples = x->shape.dim[0], rows = sid2_vk_rows_per_sample(x);
    int64_t parts = rows < 32 ? rows : 32;
    sid2_vk_tensor partial = sid2_vk_scratch(lowering, SID2_F32, sid2_shape_of(samples, parts, 2 * channels));
    sid2_vk_emit(lowering, &(sid2_vk_dispatch){.shader = SID2_VK_activation_film_sums,
                                               .tensor = {call->in[0], *x, partial},
                                               .local = {SID2_VK_EACH_LOCAL},
                                               .groups = {sid2_vk_ceil_div(channels, SID2_VK_EACH_LOCAL),
                                                          (uint32_t)parts, (uint32_t)samples},
                                               .constant = {[1] = call->attr->act},
                                               .push = {(uint32_t)channels, (uint32_t)rows, (uint32_t)parts},
                                               .work = (double)sid2_vk_count(x)});
    sid2_vk_dispatch sums = {.shader = SID2_VK_sum_middle,
                             .tensor = {partial, call->out[1]},
                             .push = {[1] = (uint32_t)parts, [2] = (uint32_t)(2 * channels)}};
    sid2_vk_emit_each(lowering, &sums, samples * 2 * channels, false);
}

void sid2_vk_lower_activation_grad(sid2_vk_lowering *lowering, const sid2_vk_call *call)
{
    const sid2_vk_tensor *x = &call->in[1];
    if (sid2_vk_has(&call->out[1])) film_gradient(lowering, call); /* before dx overwrites dy or x */
    sid2_vk_dispatch d = {.shader = SID2_VK_activation_grad,
                          .tensor = {call->in[0], *x, call->in[2], call->out[0]},
                          .constant = {[1] = call->attr->act},
                          .push = {[1] = (uint32_t)sid2_vk_per_sample(x), [2] = (uint32_t)sid2_vk_last(x)}};
    sid2_vk_emit_each(lowering, &d, sid2_vk_count(x), sid2_vk_last(x) % 4 == 0);
}

/* ---- Random numbers: an invocation draws a block of four, within one sample ---- */

static void emit_blocks(sid2_vk_lowering *lowering, sid2_vk_dispatch *d, const sid2_vk_tensor *y,
                        uint32_t purpose)
{
    int64_t samples = y->shape.dim[0], each = sid2_vk_count(y) / samples, blocks = (each + 3) / 4;
    bool quads = each % 4 == 0 && sid2_vk_quads(y);
    if (d->shader == SID2_VK_dropout) quads = quads && sid2_vk_quads(&d->tensor[0]);
    d->constant[0] = quads;
    d->push[0] = (uint32_t)each;
    d->push[1] = (uint32_t)blocks;
    d->push[2] = purpose;
    d->local[0] = SID2_VK_EACH_LOCAL;
    d->groups[0] = sid2_vk_ceil_div(blocks, SID2_VK_EACH_LOCAL);
    d->groups[1] = (uint32_t)samples;
    d->work = 8 * (double)(samples * each);
    sid2_vk_emit(lowering, d);
}

void sid2_vk_lower_random_uniform(sid2_vk_lowering *lowering, const sid2_vk_call *call)
{
    sid2_vk_dispatch d = {.shader = SID2_VK_random, .tensor = {call->in[0], call->in[1], call->out[0]}};
    emit_blocks(lowering, &d, &call->out[0], call->attr->purpose);
}

void sid2_vk_lower_random_normal(sid2_vk_lowering *lowering, const sid2_vk_call *call)
{
    sid2_vk_dispatch d = {.shader = SID2_VK_random,
                          .tensor = {call->in[0], call->in[1], call->out[0]},
                          .constant = {[1] = true}};
    emit_blocks(lowering, &d, &call->out[0], call->attr->purpose);
}

void sid2_vk_lower_dropout(sid2_vk_lowering *lowering, const sid2_vk_call *call)
{
    float rate = call->attr->rate;
    sid2_vk_dispatch d = {.shader = SID2_VK_dropout,
                          .tensor = {call->in[0], call->in[1], call->in[2], call->out[0]},
                          .push = {[3] = sid2_vk_bits(rate), [4] = sid2_vk_bits(1 / (1 - rate))}};
    emit_blocks(lowering, &d, &call->out[0], call->attr->purpose);
}

/* ---- Resampling. A line is one row of pixels of the larger-grained tensor that P(0) counts ---- */

static uint32_t line_of(const sid2_vk_tensor *image)
{
    return (uint32_t)(image->shape.dim[image->shape.rank - 2] * sid2_vk_last(image));
}

void sid2_vk_lower_pool2(sid2_vk_lowering *lowering, const sid2_vk_call *call)
{
    const sid2_vk_tensor *y = &call->out[0];
    sid2_vk_dispatch d = {
        .shader = SID2_VK_pool2,
        .tensor = {call->in[0], *y},
        .push = {[1] = line_of(y), [2] = (uint32_t)sid2_vk_last(y), [3] = sid2_vk_bits(call->attr->scale)}};
    sid2_vk_emit_each(lowering, &d, sid2_vk_count(y), sid2_vk_last(y) % 4 == 0);
}

void sid2_vk_lower_upsample2(sid2_vk_lowering *lowering, const sid2_vk_call *call)
{
    const sid2_vk_tensor *y = &call->out[0];
    sid2_vk_dispatch d = {
        .shader = SID2_VK_upsample2,
        .tensor = {call->in[0], call->in[1], *y},
        .push = {[1] = line_of(y), [2] = (uint32_t)sid2_vk_last(y), [3] = sid2_vk_bits(call->attr->scale)}};
    sid2_vk_emit_each(lowering, &d, sid2_vk_count(y), sid2_vk_last(y) % 4 == 0);
}

static void patches(sid2_vk_lowering *lowering, const sid2_vk_call *call, const sid2_vk_tensor *image,
                    bool back)
{
    sid2_vk_dispatch d = {
        .shader = SID2_VK_patchify,
        .tensor = {call->in[0], call->out[0]},
        .constant = {[1] = back},
        .push = {
            [1] = line_of(image), [2] = (uint32_t)sid2_vk_last(image), [3] = (uint32_t)call->attr->patch}};
    sid2_vk_emit_each(lowering, &d, sid2_vk_count(image), sid2_vk_last(image) % 4 == 0);
}

void sid2_vk_lower_patchify(sid2_vk_lowering *lowering, const sid2_vk_call *call)
{
    patches(lowering, call, &call->in[0], false);
}

void sid2_vk_lower_unpatchify(sid2_vk_lowering *lowering, const sid2_vk_call *call)
{
    patches(lowering, call, &call->out[0], true);
}
