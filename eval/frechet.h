/* Means, covariances, and the Fréchet distance of two sets of features.
 *
 * A *feature* is a row of `width` floats: what a network, or any other rule, says of one picture. All sums are float64.
 * Rows are summed in blocks of SID2_MOMENT_BLOCK, counted from the first, and blocks are merged in order (Chan et al.), so
 * the result has the same bits however the rows arrive and however many threads there are. */
#ifndef SID2_FRECHET_H
#define SID2_FRECHET_H

#include "base.h"

enum { SID2_MOMENT_BLOCK = 256, SID2_MAX_FEATURES = 16384 };

/* Of `count` rows: mean[width] and covariance[width,width], which is symmetric and divided by count - 1. */
typedef struct sid2_gaussian {
    int64_t width, count; /* count 0: not known, as in a file of mu and sigma alone */
    double *mean, *covariance;
} sid2_gaussian;
/* Zero-filled. On failure there is nothing to free. */
bool sid2_gaussian_alloc(sid2_gaussian *g, int64_t width, sid2_error *err);
void sid2_gaussian_free(sid2_gaussian *g); /* zeros are fine; leaves zeros */

/* Refuses what is no covariance: a number that is not finite, or a matrix that is not symmetric. `name` is for the line. */
bool sid2_gaussian_check(const sid2_gaussian *g, const char *name, sid2_error *err);

/* Sums rows as they come: memory is that of two covariances, whatever the count. */
typedef struct sid2_moments sid2_moments;
/* 1 <= width <= SID2_MAX_FEATURES, else UNSUPPORTED. */
sid2_moments *sid2_moments_create(int64_t width, sid2_error *err);
void sid2_moments_destroy(sid2_moments *moments); /* NULL is fine */
/* rows[count,width]. FORMAT: one is not finite, which is then named by its number. */
bool sid2_moments_add(sid2_moments *moments, const float *rows, int64_t count, sid2_error *err);
/* What there is so far. USAGE: fewer than two rows. The caller frees. */
bool sid2_moments_get(const sid2_moments *moments, sid2_gaussian *g, sid2_error *err);
/* The three above in one. */
bool sid2_gaussian_of(const float *rows, int64_t count, int64_t width, sid2_gaussian *g, sid2_error *err);

/* |mean_a - mean_b|^2 + Tr A + Tr B - 2 Tr (AB)^(1/2), covariances A and B of equal width, by symmetric eigenvalues: those
 * of S B S, S = A^(1/2), are those of AB. Negative ones, which rounding makes of zeros, count as 0. */
bool sid2_frechet(const sid2_gaussian *a, const sid2_gaussian *b, double *distance, sid2_error *err);

#endif
