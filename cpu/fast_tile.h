/* The matrix product all own kernels share: C[M,N] (+)= A[M,K] B[K,N], on tiles that fit the first-level
 * cache.
 *
 * Six rows by up to two or four vectors of C stay in registers over the whole of K; each step loads a row of
 * B and multiplies it by six broadcast elements of A. A is only ever broadcast, so it may lie either way
 * round: rows of K (`A`), or, transposed, rows of M. B and C are whole vectors wide. */
#ifndef SID2_CPU_FAST_TILE_H
#define SID2_CPU_FAST_TILE_H

#include "fast.h"

enum { TILE_ROWS = 6 };
#if defined(__AVX512F__) || defined(__aarch64__)
enum { TILE_VECTORS = 4 }; /* 32 vector registers */
#else
enum { TILE_VECTORS = 2 }; /* 16 */
#endif
enum { PANEL = TILE_VECTORS * VL }; /* columns that are worked on together */

typedef struct tile {
    const float *a, *b;
    float *c;
    int64_t lda, ldb, ldc;
    int64_t depth; /* K */
    const float
        *start; /* what is added to, rows start_pitch apart (0: each the same): C itself, or NULL: zeros */
    int64_t start_pitch;
} tile;

INLINE void tile_block(int rows, int vectors, bool transposed, const tile *t, int64_t row, int64_t column)
{
    vf sum[TILE_ROWS][TILE_VECTORS];
    float *c = t->c + row * t->ldc + column;
    const float *start = t->start ? t->start + row * t->start_pitch + column : NULL;
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++)
            sum[r][v] = start ? vload(start + r * t->start_pitch + v * VL) : (vf){0};
    const float *a = t->a + (transposed ? row : row * t->lda), *b = t->b + column;
    int64_t across = transposed ? 1 : t->lda, along = transposed ? t->lda : 1, ldb = t->ldb;
    for (int64_t k = t->depth; k > 0; k--) {
        vf right[TILE_VECTORS];
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) right[v] = vload(b + v * VL);
#pragma GCC unroll 6
        for (int r = 0; r < rows; r++) {
            vf left = vset(a[r * across]);
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++) sum[r][v] = vmuladd(left, right[v], sum[r][v]);
        }
        a += along;
        b += ldb;
    }
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) vstore(c + r * t->ldc + v * VL, sum[r][v]);
}

INLINE void tile_rows(int vectors, bool transposed, const tile *t, int64_t rows, int64_t column)
{
    int64_t r = 0;
    for (; r + 6 <= rows; r += 6) tile_block(6, vectors, transposed, t, r, column);
    if (r + 4 <= rows) tile_block(4, vectors, transposed, t, r, column), r += 4;
    if (r + 2 <= rows) tile_block(2, vectors, transposed, t, r, column), r += 2;
    if (r < rows) tile_block(1, vectors, transposed, t, r, column);
}

INLINE void tile_multiply_either(bool transposed, const tile *t, int64_t rows, int64_t columns)
{
    int64_t c = 0;
    for (; c + TILE_VECTORS * VL <= columns; c += TILE_VECTORS * VL)
        tile_rows(TILE_VECTORS, transposed, t, rows, c);
    if (TILE_VECTORS > 2)
        for (; c + 2 * VL <= columns; c += 2 * VL) tile_rows(2, transposed, t, rows, c);
    for (; c < columns; c += VL) tile_rows(1, transposed, t, rows, c);
}

/* Transposes VL x VL by riffling rows i and i + VL/2 into 2i and 2i + 1, log2 VL times. */
INLINE void transpose_square(const float *from, int64_t pitch, float *to, int64_t to_pitch)
{
    vf row[VL], next[VL];
#pragma GCC unroll 16
    for (int i = 0; i < VL; i++) row[i] = vload(from + i * pitch);
#pragma GCC unroll 4
    for (int step = 1; step < VL; step *= 2) {
#pragma GCC unroll 8
        for (int i = 0; i < VL / 2; i++) {
            next[2 * i] = vriffle_low(row[i], row[i + VL / 2]);
            next[2 * i + 1] = vriffle_high(row[i], row[i + VL / 2]);
        }
#pragma GCC unroll 16
        for (int i = 0; i < VL; i++) row[i] = next[i];
    }
#pragma GCC unroll 16
    for (int i = 0; i < VL; i++) vstore(to + i * to_pitch, row[i]);
}

/* columns: a multiple of VL. The second reads A[K,M]. */
static __attribute__((unused)) void tile_multiply(const tile *t, int64_t rows, int64_t columns)
{
    tile_multiply_either(false, t, rows, columns);
}
static __attribute__((unused)) void tile_multiply_transposed(const tile *t, int64_t rows, int64_t columns)
{
    tile_multiply_either(true, t, rows, columns);
}

#endif
