/* Randomness that does not depend on order, batch or device.
 *
 * Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC'11) maps a 128-bit
 * counter and a 64-bit key to 128 random bits. sid2 fixes what goes in, on every backend:
 *
 *     key     = { seed.lo, seed.hi }
 *     counter = { block, purpose, sample.lo, sample.hi }
 *
 * where `sample` is the global number of the image (the seed number when sampling), `purpose` names what
 * the numbers are for, and block b yields elements 4b .. 4b+3. So one image's noise is the same for any
 * batch size, device count or resume point. */
#ifndef SID2_PHILOX_H
#define SID2_PHILOX_H

#include <stdint.h>

#include "portable.h"

typedef struct sid2_philox_block {
    uint32_t word[4];
} sid2_philox_block;

SID2_INLINE sid2_philox_block sid2_philox(uint64_t seed, uint64_t sample, uint32_t purpose, uint32_t block)
{
    uint32_t c0 = block, c1 = purpose, c2 = (uint32_t)sample, c3 = (uint32_t)(sample >> 32);
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)p1;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    sid2_philox_block words = {{c0, c1, c2, c3}};
    return words;
}

/* One word of the stream: element `index` of (seed, sample, purpose). */
SID2_INLINE uint32_t sid2_philox_word(uint64_t seed, uint64_t sample, uint32_t purpose, uint64_t index)
{
    return sid2_philox(seed, sample, purpose, (uint32_t)(index / 4)).word[index % 4];
}

/* Uniform in (0,1): the centre of one of 2^23 equal cells, exact in f32 and never 0 or 1. */
SID2_INLINE float sid2_uniform(uint32_t word) { return ((float)(word >> 9) + 0.5f) * 0x1p-23f; }

/* Who uses which stream. Dropout layers count up from SID2_PURPOSE_DROPOUT. */
enum {
    SID2_PURPOSE_NOISE = 0,   /* epsilon of the diffusion, or the sampler's starting noise */
    SID2_PURPOSE_TIME = 1,    /* t0 of the low-discrepancy draw (sample = step) */
    SID2_PURPOSE_LABEL = 2,   /* label dropped in training; label drawn in sampling */
    SID2_PURPOSE_FLIP = 3,    /* horizontal flip (sample = global image number) */
    SID2_PURPOSE_SHUFFLE = 4, /* data order (sample = epoch) */
    SID2_PURPOSE_INIT = 5,    /* weights (sample = parameter number) */
    SID2_PURPOSE_SYNTH = 6,   /* generated pictures (sample = picture) */
    SID2_PURPOSE_SPLIT = 7,   /* held-out pictures (sample = picture number) */
    SID2_PURPOSE_MOVE = 8,    /* how far a picture is moved (sample = global image number) */
    SID2_PURPOSE_HISTORY = 9, /* given frames noised in training (sample = clip) */
    SID2_PURPOSE_DELTA =
        10, /* how much noisier z_t is than z_s in distillation (sample = global image number) */
    SID2_PURPOSE_STEP = 1024, /* sampler noise: STEP + step number */
    SID2_PURPOSE_DROPOUT = 1u << 20,
    SID2_PURPOSE_DROPOUT_STUDENT = 1u << 21, /* of a student, whose masks are its own */
};

#endif
