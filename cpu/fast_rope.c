/* Per-head norm and rotary positions of queries and keys, forward and backward.
 *
 * Sines and cosines are the same in every step, so `prepare` makes a table of them: [tokens][2][d/2], the
 * cosines of a token's pairs, then their sines, in the order of core/rotary.h. A token's queries and keys are
 * read once as f32, worked on head by head and stored once. Backward, gradients of scale and bias are summed
 * per part of about 16 Ki elements, parts added up in order. */
#include "fast.h"
#include "rotary.h"

#include <stdlib.h>

typedef struct rope {
    const sid2_attr *attr;
    const sid2_operand *qkv, *dqk, *dv, *out;
    const float *gamma, *beta, *table;
    int64_t rows, tokens, channels, heads, width; /* rows of all samples; width of a head */
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
    r.rows = count(r.qkv) / max64(1, 3 * r.channels);
    r.tokens = r.rows / max64(1, first(r.qkv));
    r.part_rows = max64(1, 16384 / max64(1, r.channels));
    r.parts = divide_up(r.rows, r.part_rows);
    return r;
}

/* A thread's buffers: a token's q and k, their gradients, the result. */
static int64_t thread_floats(const rope *r) { return round_up(7 * r->channels, 16); }
static int64_t partial_floats(const rope *r) { return round_up(r->parts * 4 * r->width, 16); }

size_t FAST(rope_scratch)(const sid2_call *call)
{
    rope r = rope_of(call);
    return sizeof(float) * (size_t)(partial_floats(&r) + call->threads * thread_floats(&r));
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

/* Turns a head by its token's row of the table; sign -1 turns back. */
static void rotate(const rope *r, const sid2_rotary *parts, int64_t token, float sign, float *head)
{
    const float *cosine = r->table + token * r->width, *sine = cosine + r->width / 2;
    for (int axis = 0; axis < SID2_ROTARY_AXES; axis++) {
        int64_t half = parts->width[axis] / 2;
        float *a = head, *b = head + half;
#pragma omp simd
        for (int64_t i = 0; i < half; i++) {
            float c = cosine[i], s = sign * sine[i], ai = a[i], bi = b[i];
            a[i] = ai * c - bi * s;
            b[i] = ai * s + bi * c;
        }
        head += 2 * half;
        cosine += half;
        sine += half;
    }
}

typedef struct moments {
    float mean, rstd;
} moments;

static moments moments_of(const rope *r, const float *x)
{
    float sum = 0.0f, square = 0.0f, inverse = 1.0f / (float)r->width;
    if (r->attr->center) {
#pragma omp simd reduction(+ : sum)
        for (int64_t i = 0; i < r->width; i++) sum += x[i];
    }
    float mean = sum * inverse;
#pragma omp simd reduction(+ : square)
    for (int64_t i = 0; i < r->width; i++) square += (x[i] - mean) * (x[i] - mean);
    return (moments){mean, 1.0f / sqrtf(square * inverse + r->attr->eps)};
}

static void forward_row(const rope *r, const sid2_rotary *parts, int64_t row, float *work)
{
    int64_t c = r->channels, d = r->width;
    float *x = work;
    fetch(r->qkv, row * 3 * c, 2 * c, x);
    for (int64_t h = 0; h < 2 * r->heads; h++) {
        float *head = x + h * d;
        if (r->gamma) {
            const float *gamma = r->gamma + h / r->heads * d;
            moments m = moments_of(r, head);
#pragma omp simd
            for (int64_t i = 0; i < d; i++) head[i] = (head[i] - m.mean) * m.rstd * gamma[i];
        }
        if (r->beta) {
            const float *beta = r->beta + h / r->heads * d;
#pragma omp simd
            for (int64_t i = 0; i < d; i++) head[i] += beta[i];
        }
        rotate(r, parts, row % r->tokens, 1.0f, head);
    }
    store(x, r->out, row * 2 * c, 2 * c);
}

void FAST(qk_norm_rope)(sid2_call *call)
{
    rope r = rope_of(call);
    sid2_rotary parts = sid2_rotary_split(r.width, call->attr->grid);
    int threads = team(call, count(r.qkv));
#pragma omp parallel num_threads(threads)
    {
        float *work = (float *)call->scratch + partial_floats(&r) + thread_index() * thread_floats(&r);
#pragma omp for schedule(static)
        for (int64_t row = 0; row < r.rows; row++) forward_row(&r, &parts, row, work);
    }
}

/* sums: dgamma then dbeta, [2][2][d], of this part. */
static void backward_row(const rope *r, const sid2_rotary *parts, int64_t row, float *work, float *sums)
{
    int64_t c = r->channels, d = r->width;
    float *dx = work, *x = dx + 3 * c, inverse = 1.0f / (float)d;
    fetch(r->dqk, row * 2 * c, 2 * c, dx);
    fetch(r->dv, row * c, c, dx + 2 * c);
    if (r->gamma) fetch(r->qkv, row * 3 * c, 2 * c, x);
    for (int64_t h = 0; h < 2 * r->heads; h++) {
        float *dy = dx + h * d;
        rotate(r, parts, row % r->tokens, -1.0f, dy);
        if (!r->gamma) continue;
        float *xhat = x + h * d, *dgamma = sums + h / r->heads * d, *dbeta = dgamma + 2 * d;
        const float *gamma = r->gamma + h / r->heads * d;
        moments m = moments_of(r, xhat);
        float sum = 0.0f, dot = 0.0f;
#pragma omp simd reduction(+ : sum, dot)
        for (int64_t i = 0; i < d; i++) {
            float n = (xhat[i] - m.mean) * m.rstd, g = dy[i] * gamma[i];
            dgamma[i] += dy[i] * n;
            dbeta[i] += dy[i];
            sum += g;
            dot += g * n;
        }
        float m1 = r->attr->center ? sum * inverse : 0.0f, m2 = dot * inverse;
#pragma omp simd
        for (int64_t i = 0; i < d; i++)
            dy[i] = m.rstd * (dy[i] * gamma[i] - m1 - (xhat[i] - m.mean) * m.rstd * m2);
    }
    store(dx, r->out, row * 3 * c, 3 * c);
}

void FAST(qk_norm_rope_grad)(sid2_call *call)
{
    rope r = rope_of(call);
    sid2_rotary parts = sid2_rotary_split(r.width, call->attr->grid);
    float *partial = call->scratch, *works = partial + partial_floats(&r);
    int threads = team(call, count(r.qkv));
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t part = 0; part < r.parts; part++) {
        float *work = works + thread_index() * thread_floats(&r), *sums = partial + part * 4 * r.width;
        memset(sums, 0, (size_t)(4 * r.width) * sizeof(float));
        int64_t row = part * r.part_rows, end = min64(r.rows, row + r.part_rows);
        for (; row < end; row++) backward_row(&r, &parts, row, work, sums);
    }
    float *out[2] = {call->out[1].data, call->out[2].data};
    for (int k = 0; k < 2 && r.gamma; k++)
        for (int64_t part = 0; part < r.parts && out[k]; part++)
            for (int64_t i = 0; i < 2 * r.width; i++) out[k][i] += partial[(part * 2 + k) * 2 * r.width + i];
}
