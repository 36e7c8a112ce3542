/* Philox numbers, many blocks side by side: the rounds run over arrays of counters, which the compiler turns
 * into vectors. The bits equal core/philox.h and core/normal.h exactly, for nothing is fused (fast.h). */
#include "fast.h"
#include "normal.h"
#include "philox.h"

enum { BLOCKS = CHUNK / 4 };

/* Words of blocks [block, block + BLOCKS) of one stream. */
static void words(uint64_t seed, uint64_t sample, uint32_t purpose, uint32_t block, uint32_t *to)
{
    uint32_t c0[BLOCKS], c1[BLOCKS], c2[BLOCKS], c3[BLOCKS];
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    for (uint32_t i = 0; i < BLOCKS; i++) {
        c0[i] = block + i;
        c1[i] = purpose;
        c2[i] = (uint32_t)sample;
        c3[i] = (uint32_t)(sample >> 32);
    }
    for (int round = 0; round < 10; round++) {
#pragma omp simd
        for (int i = 0; i < BLOCKS; i++) {
            uint64_t p0 = (uint64_t)0xD2511F53u * c0[i], p1 = (uint64_t)0xCD9E8D57u * c2[i];
            c0[i] = (uint32_t)(p1 >> 32) ^ c1[i] ^ k0;
            c1[i] = (uint32_t)p1;
            c2[i] = (uint32_t)(p0 >> 32) ^ c3[i] ^ k1;
            c3[i] = (uint32_t)p0;
        }
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    for (int i = 0; i < BLOCKS; i++) {
        to[4 * i] = c0[i];
        to[4 * i + 1] = c1[i];
        to[4 * i + 2] = c2[i];
        to[4 * i + 3] = c3[i];
    }
}

/* CHUNK words of a sample's stream from element `at - start of the sample` on. */
static void sample_words(const sid2_call *call, const sid2_operand *samples, const sid2_operand *seed,
                         int64_t sample, int64_t element, uint32_t *to)
{
    const uint32_t *s = (const uint32_t *)samples->data + 2 * sample, *k = seed->data;
    words((uint64_t)k[1] << 32 | k[0], (uint64_t)s[1] << 32 | s[0], call->attr->purpose,
          (uint32_t)(element / 4), to);
}

static void normal_chunk(const sid2_call *call, int64_t sample, int64_t at, int64_t n)
{
    const sid2_operand *y = &call->out[0];
    uint32_t word[CHUNK];
    chunk result;
    sample_words(call, &call->in[0], &call->in[1], sample, at - sample * (count(y) / first(y)), word);
    float radius[CHUNK / 2], cosine[CHUNK / 2], sine[CHUNK / 2];
#pragma omp simd
    for (int i = 0; i < CHUNK / 2; i++) {
        radius[i] = sqrtf(-2.0f * sid2_log_unit(sid2_uniform(word[2 * i])));
        sid2_cos_sin_turn(sid2_uniform(word[2 * i + 1]), &cosine[i], &sine[i]);
    }
    for (int i = 0; i < CHUNK / 2; i++) {
        result.at[2 * i] = radius[i] * cosine[i];
        result.at[2 * i + 1] = radius[i] * sine[i];
    }
    store(result.at, y, at, n);
}

static void uniform_chunk(const sid2_call *call, int64_t sample, int64_t at, int64_t n)
{
    const sid2_operand *y = &call->out[0];
    uint32_t word[CHUNK];
    chunk result;
    sample_words(call, &call->in[0], &call->in[1], sample, at - sample * (count(y) / first(y)), word);
#pragma omp simd
    for (int i = 0; i < CHUNK; i++) result.at[i] = sid2_uniform(word[i]);
    store(result.at, y, at, n);
}

static void dropout_chunk(const sid2_call *call, int64_t sample, int64_t at, int64_t n)
{
    const sid2_operand *from = &call->in[0], *y = &call->out[0];
    uint32_t word[CHUNK];
    chunk buffer, result;
    sample_words(call, &call->in[1], &call->in[2], sample, at - sample * (count(y) / first(y)), word);
    const float *x = load(from, at, n, buffer.at);
    float rate = call->attr->rate, factor = 1.0f / (1.0f - rate);
#pragma omp simd
    for (int64_t i = 0; i < n; i++) result.at[i] = sid2_uniform(word[i]) >= rate ? x[i] * factor : 0.0f;
    store(result.at, y, at, n);
}

static void for_samples(const sid2_call *call, chunk_kernel kernel)
{
    int64_t samples = first(&call->out[0]);
    for_chunks(call, samples, count(&call->out[0]) / max64(1, samples), kernel);
}

void FAST(random_normal)(sid2_call *call) { for_samples(call, normal_chunk); }
void FAST(random_uniform)(sid2_call *call) { for_samples(call, uniform_chunk); }
void FAST(dropout)(sid2_call *call) { for_samples(call, dropout_chunk); }
