/* Attention with online softmax (Milakov & Gimelshein 2018; Dao et al. 2022), forward and backward: never a
 * T x T buffer.
 *
 * Everything is computed transposed: S^T[keys, queries] = K Q^T. Then keys and values are only ever broadcast
 * or read by rows, just as they lie in memory; a block of queries is transposed once; and the softmax runs
 * down columns, one query a lane, without a horizontal step. Per block of BLOCK queries the forward pass
 * walks over blocks of BLOCK keys and keeps maximum, sum and output; the backward pass recomputes
 * P^T = e^(S^T - lse) and does the five products of a block pair (dV, dP, dK, dQ beside S) while they are in
 * cache. dK and dV of one head add up in scratch over the blocks of queries.
 *
 * Work is split by sample, head and block of queries; backward by sample and head, or, where that gives too
 * few pieces, in two sweeps (dK and dV by blocks of keys, then dQ by blocks of queries), which repeats two of
 * the products. Sums run in the same order either way. */
#include "fast_tile.h"

enum { BLOCK = 64 };

typedef struct heads {
    const sid2_operand *qk, *qkv;
    int64_t samples, tokens, channels, heads;
    int64_t width, padded; /* of a head; padded to whole vectors */
    float scale;
} heads;

static heads heads_of(const sid2_call *call)
{
    const sid2_operand *in = &call->in[call->op == SID2_OP_attention ? 0 : 1];
    heads h = {.qk = &in[0], .qkv = &in[1], .heads = max64(1, call->attr->heads)};
    h.samples = first(h.qk);
    h.channels = last(h.qk) / 2;
    h.tokens = count(h.qk) / max64(1, h.samples * 2 * h.channels);
    h.width = h.channels / h.heads;
    h.padded = round_up(h.width, VL);
    h.scale = 1.0f / sqrtf((float)h.width);
    return h;
}

/* Copies rows x width, `pitch` apart in the tensor, into dense padded rows, times `scale`. */
static void gather(const sid2_operand *t, int64_t at, int64_t pitch, int64_t rows, const heads *h,
                   float scale, float *to)
{
    for (int64_t r = 0; r < rows; r++, to += h->padded) {
        const float *from = load(t, at + r * pitch, h->width, to);
        for (int64_t i = 0; i < h->padded; i += VL) vstore(to + i, vload(from + i) * scale);
    }
}

/* to[padded][BLOCK] = from[rows][padded]^T; columns beyond `rows` are zero. `from` holds BLOCK rows. */
static void transpose(float *from, int64_t rows, const heads *h, float *to)
{
    memset(from + rows * h->padded, 0, (size_t)((BLOCK - rows) * h->padded) * sizeof(float));
    for (int64_t r = 0; r < BLOCK; r += VL)
        for (int64_t c = 0; c < h->padded; c += VL)
            transpose_square(from + r * h->padded + c, h->padded, to + c * BLOCK + r, BLOCK);
}

static int64_t query_at(const heads *h, int64_t n, int64_t head, int64_t token)
{
    return (n * h->tokens + token) * 2 * h->channels + head * h->width;
}

/* Copies keys [first_key, + keys) and their values. */
static void gather_keys(const heads *h, int64_t n, int64_t head, int64_t key, int64_t keys, float *k,
                        float *v)
{
    gather(h->qk, query_at(h, n, head, key) + h->channels, 2 * h->channels, keys, h, 1.0f, k);
    int64_t at = (n * h->tokens + key) * 3 * h->channels + 2 * h->channels + head * h->width;
    gather(h->qkv, at, 3 * h->channels, keys, h, 1.0f, v);
}

/* ---- Forward ---- */
static int64_t forward_floats(const heads *h) { return 4 * BLOCK * h->padded + BLOCK * BLOCK + 3 * BLOCK; }

/* One step of the online softmax over s[keys][BLOCK]: s becomes e^(s - max), maximum and sum are brought up
 * to date, `rescale` is what earlier sums and outputs must be multiplied by. */
static void softmax_step(float *s, int64_t keys, float *maximum, float *sum, float *rescale)
{
    for (int64_t q = 0; q < BLOCK; q += VL) {
        vf old = vload(maximum + q), top = old, total = {0};
        for (int64_t k = 0; k < keys; k++) top = vmax(vload(s + k * BLOCK + q), top);
        for (int64_t k = 0; k < keys; k++) {
            vf p = vexp(vload(s + k * BLOCK + q) - top);
            total += p;
            vstore(s + k * BLOCK + q, p);
        }
        vf factor = vexp(old - top);
        vstore(maximum + q, top);
        vstore(sum + q, vmuladd(vload(sum + q), factor, total));
        vstore(rescale + q, factor);
    }
}

static void attend(const sid2_call *call, const heads *h, int64_t n, int64_t head, int64_t block, float *work)
{
    int64_t query = block * BLOCK, queries = min64(BLOCK, h->tokens - query), size = BLOCK * h->padded;
    float *transposed = work, *k = transposed + size, *v = k + size, *y = v + size, *s = y + size,
          *maximum = s + BLOCK * BLOCK, *sum = maximum + BLOCK, *rescale = sum + BLOCK;
    gather(h->qk, query_at(h, n, head, query), 2 * h->channels, queries, h, h->scale, y);
    transpose(y, queries, h, transposed);
    memset(y, 0, (size_t)size * sizeof(float));
    for (int i = 0; i < BLOCK; i++) maximum[i] = -INFINITY, sum[i] = 0.0f;
    for (int64_t key = 0; key < h->tokens; key += BLOCK) {
        int64_t keys = min64(BLOCK, h->tokens - key);
        gather_keys(h, n, head, key, keys, k, v);
        tile_multiply(&(tile){.a = k,
                              .lda = h->padded,
                              .b = transposed,
                              .ldb = BLOCK,
                              .c = s,
                              .ldc = BLOCK,
                              .depth = h->width},
                      keys, BLOCK);
        softmax_step(s, keys, maximum, sum, rescale);
        if (key > 0)
            for (int64_t i = 0; i < queries; i++)
                for (int64_t c = 0; c < h->padded; c += VL)
                    vstore(y + i * h->padded + c, vload(y + i * h->padded + c) * rescale[i]);
        tile_multiply_transposed(&(tile){.a = s,
                                         .lda = BLOCK,
                                         .b = v,
                                         .ldb = h->padded,
                                         .c = y,
                                         .ldc = h->padded,
                                         .depth = keys,
                                         .start = y,
                                         .start_pitch = h->padded},
                                 queries, h->padded);
    }
    float *lse = (float *)call->out[1].data + (n * h->heads + head) * h->tokens + query;
    for (int64_t i = 0; i < queries; i++) {
        float inverse = 1.0f / sum[i], *row = y + i * h->padded;
        for (int64_t c = 0; c < h->padded; c += VL) vstore(row + c, vload(row + c) * inverse);
        store(row, &call->out[0], (n * h->tokens + query + i) * h->channels + head * h->width, h->width);
        lse[i] = maximum[i] + (float)log((double)sum[i]) /* whichever libm */;
    }
}

void FAST(attention)(sid2_call *call)
{
    heads h = heads_of(call);
    int64_t blocks = divide_up(h.tokens, BLOCK);
    int threads = team(call, h.samples * h.tokens * h.channels * 4);
#pragma omp parallel num_threads(threads)
    {
        float *work = (float *)call->scratch + thread_index() * forward_floats(&h);
#pragma omp for schedule(static) collapse(3)
        for (int64_t n = 0; n < h.samples; n++)
            for (int64_t head = 0; head < h.heads; head++)
                for (int64_t block = 0; block < blocks; block++) attend(call, &h, n, head, block, work);
    }
}

/* ---- Backward ---- */
typedef struct backward {
    heads h;
    const sid2_operand *dy, *y, *lse, *dqk, *dv;
} backward;

static int64_t backward_floats(const heads *h)
{
    return (9 * BLOCK + 2 * h->tokens) * h->padded + 2 * BLOCK * BLOCK + 2 * BLOCK;
}

/* p = e^(p - lse), then dp = p (dp - delta): one query a lane. */
static void softmax_grad(float *p, float *dp, int64_t keys, const float *lse, const float *delta)
{
    for (int64_t q = 0; q < BLOCK; q += VL) {
        vf shift = vload(lse + q), mean = vload(delta + q);
        for (int64_t k = 0; k < keys; k++) {
            vf value = vexp(vload(p + k * BLOCK + q) - shift);
            vstore(p + k * BLOCK + q, value);
            vstore(dp + k * BLOCK + q, value * (vload(dp + k * BLOCK + q) - mean));
        }
    }
}

/* Row sums of dy y, from dense dy. */
static void row_products(const backward *g, int64_t at, int64_t rows, const float *dy, float *buffer,
                         float *delta)
{
    const heads *h = &g->h;
    gather(g->y, at, h->channels, rows, h, 1.0f, buffer);
    for (int64_t r = 0; r < rows; r++) {
        vf sum = {0};
        for (int64_t c = 0; c < h->padded; c += VL)
            sum = vmuladd(vload(dy + r * h->padded + c), vload(buffer + r * h->padded + c), sum);
        delta[r] = vsum(sum);
    }
    for (int64_t r = rows; r < BLOCK; r++) delta[r] = 0.0f;
}

/* One head's queries and keys in the ranges given; what is not wanted is not computed. Ranges start at a
 * block. */
static void attend_grad(const backward *g, int64_t n, int64_t head, int64_t query0, int64_t query1,
                        int64_t key0, int64_t key1, bool want_keys, bool want_queries, float *work)
{
    const heads *h = &g->h;
    int64_t size = BLOCK * h->padded, pad = h->padded;
    float *q = work, *q_transposed = q + size, *dy = q_transposed + size, *dy_transposed = dy + size,
          *k = dy_transposed + size, *v = k + size, *dq = v + size, *p = dq + size, *dp = p + BLOCK * BLOCK,
          *lse = dp + BLOCK * BLOCK, *delta = lse + BLOCK, *dk = delta + BLOCK,
          *dv = dk + (key1 - key0) * pad;
    if (want_keys) memset(dk, 0, (size_t)((key1 - key0) * pad * 2) * sizeof(float));
    for (int64_t query = query0; query < query1; query += BLOCK) {
        int64_t queries = min64(BLOCK, query1 - query),
                y_at = (n * h->tokens + query) * h->channels + head * h->width;
        gather(h->qk, query_at(h, n, head, query), 2 * h->channels, queries, h, h->scale, q);
        transpose(q, queries, h, q_transposed);
        gather(g->dy, y_at, h->channels, queries, h, 1.0f, dy);
        transpose(dy, queries, h, dy_transposed);
        row_products(g, y_at, queries, dy, dq, delta);
        const float *lse_from = (const float *)g->lse->data + (n * h->heads + head) * h->tokens + query;
        for (int64_t i = 0; i < BLOCK; i++) lse[i] = i < queries ? lse_from[i] : 0.0f;
        memset(dq, 0, (size_t)size * sizeof(float));
        for (int64_t key = key0; key < key1; key += BLOCK) {
            int64_t keys = min64(BLOCK, key1 - key), offset = (key - key0) * pad;
            gather_keys(h, n, head, key, keys, k, v);
            tile_multiply(&(tile){.a = k,
                                  .lda = pad,
                                  .b = q_transposed,
                                  .ldb = BLOCK,
                                  .c = p,
                                  .ldc = BLOCK,
                                  .depth = h->width},
                          keys, BLOCK);
            tile_multiply(&(tile){.a = v,
                                  .lda = pad,
                                  .b = dy_transposed,
                                  .ldb = BLOCK,
                                  .c = dp,
                                  .ldc = BLOCK,
                                  .depth = h->width},
                          keys, BLOCK);
            softmax_grad(p, dp, keys, lse, delta);
            if (want_keys) {
                tile_multiply(&(tile){.a = p,
                                      .lda = BLOCK,
                                      .b = dy,
                                      .ldb = pad,
                                      .c = dv + offset,
                                      .ldc = pad,
                                      .depth = queries,
                                      .start = dv + offset,
                                      .start_pitch = pad},
                              keys, pad);
                tile_multiply(&(tile){.a = dp,
                                      .lda = BLOCK,
                                      .b = q,
                                      .ldb = pad,
                                      .c = dk + offset,
                                      .ldc = pad,
                                      .depth = queries,
                                      .start = dk + offset,
                                      .start_pitch = pad},
                              keys, pad);
            }
            if (want_queries)
                tile_multiply_transposed(&(tile){.a = dp,
                                                 .lda = BLOCK,
                                                 .b = k,
                                                 .ldb = pad,
                                                 .c = dq,
                                                 .ldc = pad,
                                                 .depth = keys,
                                                 .start = dq,
                                                 .start_pitch = pad},
                                         queries, pad);
        }
        if (want_queries)
            for (int64_t i = 0; i < queries; i++) {
                float *row = dq + i * pad;
                for (int64_t c = 0; c < pad; c += VL) vstore(row + c, vload(row + c) * h->scale);
                store(row, g->dqk, query_at(h, n, head, query + i), h->width);
            }
    }
    if (want_keys)
        for (int64_t key = key0; key < key1; key++) {
            store(dk + (key - key0) * pad, g->dqk, query_at(h, n, head, key) + h->channels, h->width);
            store(dv + (key - key0) * pad, g->dv, (n * h->tokens + key) * h->channels + head * h->width,
                  h->width);
        }
}

void FAST(attention_grad)(sid2_call *call)
{
    backward g = {.h = heads_of(call),
                  .dy = &call->in[0],
                  .y = &call->in[3],
                  .lse = &call->in[4],
                  .dqk = &call->out[0],
                  .dv = &call->out[1]};
    const heads *h = &g.h;
    int64_t blocks = divide_up(h->tokens, BLOCK), pieces = h->samples * h->heads;
    int threads = team(call, h->samples * h->tokens * h->channels * 4);
    bool whole = pieces % threads == 0 || pieces >= 4 * threads;
#pragma omp parallel num_threads(threads)
    {
        float *work = (float *)call->scratch + thread_index() * backward_floats(h);
        if (whole) {
#pragma omp for schedule(static) collapse(2)
            for (int64_t n = 0; n < h->samples; n++)
                for (int64_t head = 0; head < h->heads; head++)
                    attend_grad(&g, n, head, 0, h->tokens, 0, h->tokens, true, true, work);
        } else {
#pragma omp for schedule(static) collapse(3) nowait
            for (int64_t n = 0; n < h->samples; n++)
                for (int64_t head = 0; head < h->heads; head++)
                    for (int64_t b = 0; b < blocks; b++)
                        attend_grad(&g, n, head, 0, h->tokens, b * BLOCK, min64(h->tokens, (b + 1) * BLOCK),
                                    true, false, work);
#pragma omp for schedule(static) collapse(3)
            for (int64_t n = 0; n < h->samples; n++)
                for (int64_t head = 0; head < h->heads; head++)
                    for (int64_t b = 0; b < blocks; b++)
                        attend_grad(&g, n, head, b * BLOCK, min64(h->tokens, (b + 1) * BLOCK), 0, h->tokens,
                                    false, true, work);
        }
    }
}

size_t FAST(attention_scratch)(const sid2_call *call)
{
    heads h = heads_of(call);
    int64_t floats = call->op == SID2_OP_attention ? forward_floats(&h) : backward_floats(&h);
    return (size_t)round_up(floats, 16) * sizeof(float) * (size_t)call->threads;
}
