/* Per-head norm and rotary positions of queries and keys, forward and backward.
 *
 * Sines and cosines are the same in every step, so `prepare` makes a table of them: [tokens][2][d/2], the
 * cosines of a token's pairs, then their sines, in the order of core/rotary.h. Each head is read once, worked on
 * in buffers of whole vectors and stored once. Backward, gradients of scale and bias are summed per part of
 * about 16 Ki elements, parts added up in order. */
#include "fast.h"
#include "rotary.h"

#include <stdlib.h>

typedef struct rope {
    const sid2_attr *attr;
    const sid2_operand *qkv, *dqk, *dv, *out;
    const float *gamma, *beta, *table;
    int64_t rows, tokens, channels, heads, width; /* rows of all samples; width of a head */
    int64_t padded;                               /* width of a head in whole vectors */
    int64_t part_rows, parts;
} rope;

static rope rope_of(const sid2_call *call)
{
    bool backward = call->op == SID2_OP_qk_norm_rope_grad;
    const sid2_operand *in = &call->in[backward ? 2 : 0];
    rope r = {.attr = call->attr,
              .qkv = &in[0],
              .gamma = in[1].data,
              .beta = in[2].data,
              .table = call->state,
              .out = &call->out[0],
              .dqk = &call->in[0],
              .dv = &call->in[1]};
    r.channels = last(r.qkv) / 3;
    r.heads = max64(1, call->attr->heads);
    r.width = r.channels / r.heads;
    r.padded = round_up(r.width, VL);
    r.rows = count(r.qkv) / max64(1, 3 * r.channels);
    r.tokens = r.rows / max64(1, first(r.qkv));
    r.part_rows = max64(1, 16384 / max64(1, r.channels));
    r.parts = divide_up(r.rows, r.part_rows);
    return r;
}

/* Scratch: gamma and beta, padded; the parts' sums; a thread's buffers. */
static int64_t scale_floats(const rope *r) { return round_up(4 * r->padded, 16); }
static int64_t partial_floats(const rope *r) { return round_up(r->parts * 4 * r->padded, 16); }
static int64_t thread_floats(const rope *r) { return round_up(3 * r->padded, 16); }

size_t FAST(rope_scratch)(const sid2_call *call)
{
    rope r = rope_of(call);
    return sizeof(float) *
           (size_t)(scale_floats(&r) + partial_floats(&r) + call->threads * thread_floats(&r));
}

size_t FAST(rope_owned)(const sid2_call *call)
{
    rope r = rope_of(call);
    return sizeof(float) * (size_t)(r.tokens * r.width);
}

bool FAST(rope_prepare)(sid2_call *call, sid2_error *err)
{
    rope r = rope_of(call);
    sid2_rotary parts = sid2_rotary_split(r.width, call->attr->grid);
    float *table = malloc(FAST(rope_owned)(call));
    if (!table)
        return sid2_fail(err, SID2_ERR_MEMORY, "no memory for the rotary table of %ld tokens",
                         (long)r.tokens);
    for (int64_t token = 0; token < r.tokens; token++) {
        float *cosine = table + token * r.width, *sine = cosine + r.width / 2;
        for (int axis = 0; axis < SID2_ROTARY_AXES; axis++) {
            int64_t position = sid2_rotary_position(token, axis, call->attr->grid);
            for (int64_t i = 0; i < parts.width[axis] / 2; i++) {
                double angle = sid2_rotary_angle(position, i, parts.width[axis], call->attr->theta);
                *cosine++ = (float)cos(angle);
                *sine++ = (float)sin(angle);
            }
        }
    }
    call->state = table;
    return true;
}

/* gamma and beta [2][width] as [2][padded]; ones and zeros where there are none, zeros in the padding. */
static void pad_scales(rope *r, float *to)
{
    float *gamma = to, *beta = to + 2 * r->padded;
    memset(to, 0, (size_t)(4 * r->padded) * sizeof(float));
    for (int k = 0; k < 2; k++)
        for (int64_t i = 0; i < r->width; i++) {
            gamma[k * r->padded + i] = r->gamma ? r->gamma[k * r->width + i] : 1.0f;
            beta[k * r->padded + i] = r->beta ? r->beta[k * r->width + i] : 0.0f;
        }
}

/* Turns a head by its token's row of the table; sign -1 turns back. */
static void rotate(const rope *r, const sid2_rotary *parts, int64_t token, float sign,
                   const float *restrict from, float *restrict to)
{
    const float *cosine = r->table + token * r->width, *sine = cosine + r->width / 2;
    int64_t done = 0;
    for (int axis = 0; axis < SID2_ROTARY_AXES; axis++) {
        int64_t half = parts->width[axis] / 2;
        const float *a = from + done, *b = a + half;
        float *to_a = to + done, *to_b = to_a + half;
#pragma omp simd
        for (int64_t i = 0; i < half; i++) {
            float c = cosine[i], s = sign * sine[i];
            to_a[i] = muladd(a[i], c, -b[i] * s);
            to_b[i] = muladd(a[i], s, b[i] * c);
        }
        done += 2 * half;
        cosine += half;
        sine += half;
    }
    for (; done < r->width; done++) to[done] = from[done];
}

typedef struct moments {
    float mean, rstd;
} moments;

static moments moments_of(const rope *r, const float *x)
{
    if (!r->gamma) return (moments){0.0f, 1.0f};
    float inverse = 1.0f / (float)r->width, mean = 0.0f;
    vf sum = {0}, square = {0};
    if (r->attr->center) {
        for (int64_t i = 0; i < r->padded; i += VL) sum += vload(x + i);
        mean = vsum(sum) * inverse;
    }
    for (int64_t i = 0; i < r->padded; i += VL) {
        vf d = vload(x + i) - mean;
        if (i + VL > r->width) d = vkeep(d, r->width - i);
        square = vmuladd(d, d, square);
    }
    return (moments){mean, 1.0f / sqrtf(vsum(square) * inverse + r->attr->eps)};
}

static void forward_row(const rope *r, const sid2_rotary *parts, int64_t row, const float *scales,
                        float *work)
{
    float *buffer = work, *normed = buffer + r->padded, *result = normed + r->padded;
    for (int64_t h = 0; h < 2 * r->heads; h++) {
        int64_t at = row * 2 * r->channels + h * r->width;
        const float *gamma = scales + h / r->heads * r->padded, *beta = gamma + 2 * r->padded;
        const float *x = load(r->qkv, row * 3 * r->channels + h * r->width, r->width, buffer);
        moments m = moments_of(r, x);
        for (int64_t i = 0; i < r->padded; i += VL)
            vstore(normed + i, vf_affine(vf_normalised(vload(x + i), vset(m.mean), vset(m.rstd)),
                                         vload(gamma + i), vload(beta + i)));
        float *y = target(r->out, at, r->width, result);
        rotate(r, parts, row % r->tokens, 1.0f, normed, y);
        store(y, r->out, at, r->width);
    }
}

void FAST(qk_norm_rope)(sid2_call *call)
{
    rope r = rope_of(call);
    sid2_rotary parts = sid2_rotary_split(r.width, call->attr->grid);
    float *scales = call->scratch, *works = scales + scale_floats(&r) + partial_floats(&r);
    pad_scales(&r, scales);
    int threads = team(call, count(r.qkv));
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t row = 0; row < r.rows; row++)
        forward_row(&r, &parts, row, scales, works + thread_index() * thread_floats(&r));
}

/* From dy, turned back, and x: dx in dy's place; adds to dgamma and dbeta. */
static void norm_grad(const rope *r, const float *x, const float *gamma, float *dy, float *dgamma,
                      float *dbeta)
{
    float inverse = 1.0f / (float)r->width;
    moments m = moments_of(r, x);
    vf sum = {0}, dot = {0};
    for (int64_t i = 0; i < r->padded; i += VL) {
        vf n = vf_normalised(vload(x + i), vset(m.mean), vset(m.rstd)), d = vload(dy + i),
           g = d * vload(gamma + i);
        vstore(dgamma + i, vmuladd(d, n, vload(dgamma + i)));
        vstore(dbeta + i, vload(dbeta + i) + d);
        sum += g;
        dot = vmuladd(g, n, dot);
    }
    float m1 = r->attr->center ? vsum(sum) * inverse : 0.0f, m2 = vsum(dot) * inverse;
    for (int64_t i = 0; i < r->padded; i += VL) {
        vf n = vf_normalised(vload(x + i), vset(m.mean), vset(m.rstd)), g = vload(dy + i) * vload(gamma + i);
        vstore(dy + i, vf_normalised_slope(g, n, vset(m.rstd), vset(m1), vset(m2)));
    }
}

/* sums: dgamma then dbeta, [2][2][padded], of this part. */
static void backward_row(const rope *r, const sid2_rotary *parts, int64_t row, const float *scales,
                         float *work, float *sums)
{
    float *buffer = work, *result = buffer + r->padded;
    for (int64_t h = 0; h < 3 * r->heads; h++) {
        int64_t part = h / r->heads, at = row * 3 * r->channels + h * r->width;
        if (part == 2) {
            const float *dv =
                load(r->dv, row * r->channels + (h - 2 * r->heads) * r->width, r->width, buffer);
            store(dv, r->out, at, r->width);
            continue;
        }
        const float *dy = load(r->dqk, row * 2 * r->channels + h * r->width, r->width, buffer);
        float *dx = target(r->out, at, r->width, result);
        rotate(r, parts, row % r->tokens, -1.0f, dy, dx);
        if (r->gamma)
            norm_grad(r, load(r->qkv, at, r->width, buffer), scales + part * r->padded, dx,
                      sums + part * r->padded, sums + (2 + part) * r->padded);
        store(dx, r->out, at, r->width);
    }
}

void FAST(qk_norm_rope_grad)(sid2_call *call)
{
    rope r = rope_of(call);
    sid2_rotary parts = sid2_rotary_split(r.width, call->attr->grid);
    float *scales = call->scratch, *partial = scales + scale_floats(&r),
          *works = partial + partial_floats(&r);
    pad_scales(&r, scales);
    int threads = team(call, count(r.qkv));
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t part = 0; part < r.parts; part++) {
        float *work = works + thread_index() * thread_floats(&r), *sums = partial + part * 4 * r.padded;
        memset(sums, 0, (size_t)(4 * r.padded) * sizeof(float));
        memset(work, 0, (size_t)thread_floats(&r) * sizeof(float)); /* the padding */
        int64_t row = part * r.part_rows, end = min64(r.rows, row + r.part_rows);
        for (; row < end; row++) backward_row(&r, &parts, row, scales, work, sums);
    }
    float *out[2] = {call->out[1].data, call->out[2].data};
    for (int k = 0; k < 2 && r.gamma; k++)
        for (int64_t part = 0; part < r.parts && out[k]; part++)
            for (int64_t i = 0; i < 2 * r.width; i++)
                out[k][i] += partial[((part * 2 + k) * 2 + i / r.width) * r.padded + i % r.width];
}
