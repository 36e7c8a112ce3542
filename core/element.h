/* One element of any type, as a double. For code that must be right rather than fast. */
#ifndef SID2_ELEMENT_H
#define SID2_ELEMENT_H

#include "base.h"

static inline double sid2_element_get(sid2_dtype dtype, const void *data, int64_t i)
{
    switch (dtype) {
    case SID2_F32: return ((const float *)data)[i];
    case SID2_BF16: return sid2_bf16_to_f32(((const uint16_t *)data)[i]);
    case SID2_F16: return sid2_f16_to_f32(((const uint16_t *)data)[i]);
    case SID2_F64: return ((const double *)data)[i];
    case SID2_U8: return ((const uint8_t *)data)[i];
    case SID2_I32: return ((const int32_t *)data)[i];
    case SID2_U32: return ((const uint32_t *)data)[i];
    case SID2_DTYPE_COUNT: break;
    }
    return 0;
}

/* Rounds to nearest; integers must fit. */
static inline void sid2_element_set(sid2_dtype dtype, void *data, int64_t i, double value)
{
    switch (dtype) {
    case SID2_F32: ((float *)data)[i] = (float)value; break;
    case SID2_BF16: ((uint16_t *)data)[i] = sid2_f32_to_bf16((float)value); break;
    case SID2_F16: ((uint16_t *)data)[i] = sid2_f32_to_f16((float)value); break;
    case SID2_F64: ((double *)data)[i] = value; break;
    case SID2_U8: ((uint8_t *)data)[i] = (uint8_t)value; break;
    case SID2_I32: ((int32_t *)data)[i] = (int32_t)value; break;
    case SID2_U32: ((uint32_t *)data)[i] = (uint32_t)value; break;
    case SID2_DTYPE_COUNT: break;
    }
}

/* The value as the type can hold it. */
static inline double sid2_element_round(sid2_dtype dtype, double value)
{
    union {
        double f64;
        float f32;
        uint32_t u32;
        uint16_t u16;
        uint8_t u8;
    } cell;
    sid2_element_set(dtype, &cell, 0, value);
    return sid2_element_get(dtype, &cell, 0);
}

#endif
