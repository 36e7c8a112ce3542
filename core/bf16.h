/* bf16 where many numbers are converted: in line and without a branch, so that loops over them become vectors. */
#ifndef SID2_BF16_H
#define SID2_BF16_H

#include <stdint.h>
#include <string.h>

static inline float sid2_widened(uint16_t bits)
{
    uint32_t wide = (uint32_t)bits << 16;
    float value;
    memcpy(&value, &wide, sizeof value);
    return value;
}

/* To the nearest, of two the even one; a NaN stays one. */
static inline uint16_t sid2_narrowed(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    uint32_t near = (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16, nan = bits >> 16 | 0x40u;
    return (uint16_t)((bits & 0x7fffffffu) > 0x7f800000u ? nan : near);
}

#endif
