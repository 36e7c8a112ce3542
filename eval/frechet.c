#include "frechet.h"

#include <lapacke.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- Products ---- */

enum { PANEL = 64, ROW_TILE = 4, COLUMN_TILE = 8 };

static bool no_memory(sid2_error *err)
{
    return sid2_fail(err, SID2_ERR_MEMORY, "no memory for the statistics of features");
}

static int64_t panels_of(int64_t width) { return (width + PANEL - 1) / PANEL; }

/* a[depth,width] in panels of 64 columns, the last filled up with zeros: packed[panels][depth][64]. */
static void pack(double *packed, const double *a, int64_t depth, int64_t width)
{
#pragma omp parallel for
    for (int64_t p = 0; p < panels_of(width); p++)
        for (int64_t k = 0; k < depth; k++) {
            int64_t left = width - p * PANEL, count = left < PANEL ? left : PANEL;
            double *to = packed + (p * depth + k) * PANEL;
            memcpy(to, a + k * width + p * PANEL, (size_t)count * sizeof *to);
            memset(to + count, 0, (size_t)(PANEL - count) * sizeof *to);
        }
}

/* sum[4,8] of products of columns of two panels, over all rows in their order. */
static void tile(double sum[restrict ROW_TILE][COLUMN_TILE], const double *restrict p,
                 const double *restrict q, int64_t depth)
{
    memset(sum, 0, sizeof(double[ROW_TILE][COLUMN_TILE]));
    for (int64_t k = 0; k < depth; k++)
        for (int i = 0; i < ROW_TILE; i++)
            for (int j = 0; j < COLUMN_TILE; j++) sum[i][j] += p[k * PANEL + i] * q[k * PANEL + j];
}

/* c[rows,columns] += p^T q of packed p[depth,rows] and q[depth,columns]; `half`: only panels on and below the diagonal.
 * Each element is summed by one thread, in the order of depth. */
static void add_product(double *c, const double *p, const double *q, int64_t depth, int64_t rows,
                        int64_t columns, bool half)
{
#pragma omp parallel for collapse(2) schedule(dynamic)
    for (int64_t a = 0; a < panels_of(rows); a++)
        for (int64_t b = 0; b < panels_of(columns); b++) {
            if (half && b > a) continue;
            for (int64_t i = a * PANEL; i < (a + 1) * PANEL && i < rows; i += ROW_TILE)
                for (int64_t j = b * PANEL; j < (b + 1) * PANEL && j < columns; j += COLUMN_TILE) {
                    double sum[ROW_TILE][COLUMN_TILE];
                    tile(sum, p + a * depth * PANEL + i % PANEL, q + b * depth * PANEL + j % PANEL, depth);
                    for (int64_t y = 0; y < ROW_TILE && i + y < rows; y++)
                        for (int64_t x = 0; x < COLUMN_TILE && j + x < columns; x++)
                            c[(i + y) * columns + j + x] += sum[y][x];
                }
        }
}

static double *new_packed(int64_t depth, int64_t width)
{
    return malloc((size_t)(panels_of(width) * depth * PANEL) * sizeof(double));
}

/* p[depth,rows]^T q[depth,columns], the caller's to free; NULL without memory. */
static double *product(const double *p, const double *q, int64_t depth, int64_t rows, int64_t columns)
{
    double *c = calloc((size_t)(rows * columns) + 1, sizeof *c);
    double *left = new_packed(depth, rows), *right = new_packed(depth, columns);
    if (c && left && right) {
        pack(left, p, depth, rows);
        pack(right, q, depth, columns);
        add_product(c, left, right, depth, rows, columns, false);
    } else {
        free(c);
        c = NULL;
    }
    free(left);
    free(right);
    return c;
}

/* ---- Moments ---- */

struct sid2_moments {
    int64_t width, count;     /* rows in whole blocks */
    double *mean, *scatter;   /* of those; of scatter only panels on and below the diagonal */
    int64_t pending;          /* rows of the block that is not full */
    float *block;             /* SID2_MOMENT_BLOCK rows */
    double *centred, *packed; /* scratch */
};

sid2_moments *sid2_moments_create(int64_t width, sid2_error *err)
{
    if (width < 1 || width > SID2_MAX_FEATURES)
        return sid2_fail(err, SID2_ERR_UNSUPPORTED, "features have 1 to %d numbers, not %lld",
                         SID2_MAX_FEATURES, (long long)width),
               NULL;
    sid2_moments *m = calloc(1, sizeof *m);
    if (m) {
        m->width = width;
        m->mean = calloc((size_t)width, sizeof *m->mean);
        m->scatter = calloc((size_t)(width * width), sizeof *m->scatter);
        m->block = malloc((size_t)(SID2_MOMENT_BLOCK * width) * sizeof *m->block);
        m->centred = malloc((size_t)(SID2_MOMENT_BLOCK * width) * sizeof *m->centred);
        m->packed = new_packed(SID2_MOMENT_BLOCK, width);
        if (m->mean && m->scatter && m->block && m->centred && m->packed) return m;
    }
    sid2_moments_destroy(m);
    return no_memory(err), NULL;
}

void sid2_moments_destroy(sid2_moments *m)
{
    if (!m) return;
    free(m->mean);
    free(m->scatter);
    free(m->block);
    free(m->centred);
    free(m->packed);
    free(m);
}

/* Merges the `rows` rows of the block into count, mean and scatter. `mean` is left as it was where there are none. */
static void merge(const sid2_moments *m, int64_t rows, int64_t *count, double *mean, double *scatter)
{
    const int64_t width = m->width;
    const double total = (double)(*count + rows), share = (double)rows / total;
    if (!rows) return;
    double *shift = m->packed; /* until it is packed into: mean of the block - mean so far */
    memset(shift, 0, (size_t)width * sizeof *shift);
    for (int64_t n = 0; n < rows; n++)
        for (int64_t i = 0; i < width; i++) shift[i] += (double)m->block[n * width + i];
    for (int64_t i = 0; i < width; i++) shift[i] /= (double)rows;
    for (int64_t n = 0; n < rows; n++)
        for (int64_t i = 0; i < width; i++)
            m->centred[n * width + i] = (double)m->block[n * width + i] - shift[i];
    for (int64_t i = 0; i < width; i++) shift[i] -= mean[i];
#pragma omp parallel for
    for (int64_t i = 0; i < width; i++)
        for (int64_t j = 0; j < width; j++)
            scatter[i * width + j] += shift[i] * shift[j] * ((double)*count * share);
    for (int64_t i = 0; i < width; i++) mean[i] += shift[i] * share;
    pack(m->packed, m->centred, rows, width);
    add_product(scatter, m->packed, m->packed, rows, width, width, true);
    *count += rows;
}

bool sid2_moments_add(sid2_moments *m, const float *rows, int64_t count, sid2_error *err)
{
    for (int64_t n = 0; n < count; n++, rows += m->width) {
        for (int64_t i = 0; i < m->width; i++)
            if (!isfinite(rows[i]))
                return sid2_fail(err, SID2_ERR_FORMAT, "feature %lld of row %lld is not finite", (long long)i,
                                 (long long)(m->count + m->pending));
        memcpy(m->block + m->pending++ * m->width, rows, (size_t)m->width * sizeof *rows);
        if (m->pending < SID2_MOMENT_BLOCK) continue;
        merge(m, m->pending, &m->count, m->mean, m->scatter);
        m->pending = 0;
    }
    return true;
}

bool sid2_gaussian_alloc(sid2_gaussian *g, int64_t width, sid2_error *err)
{
    *g = (sid2_gaussian){.width = width};
    if (width < 1 || width > SID2_MAX_FEATURES)
        return sid2_fail(err, SID2_ERR_UNSUPPORTED, "features have 1 to %d numbers, not %lld",
                         SID2_MAX_FEATURES, (long long)width);
    g->mean = calloc((size_t)width, sizeof *g->mean);
    g->covariance = calloc((size_t)(width * width), sizeof *g->covariance);
    if (g->mean && g->covariance) return true;
    sid2_gaussian_free(g);
    return no_memory(err);
}

void sid2_gaussian_free(sid2_gaussian *g)
{
    free(g->mean);
    free(g->covariance);
    *g = (sid2_gaussian){0};
}

bool sid2_gaussian_check(const sid2_gaussian *g, const char *name, sid2_error *err)
{
    const int64_t n = g->width;
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j <= i; j++) {
            double a = g->covariance[i * n + j], b = g->covariance[j * n + i];
            if (!isfinite(a) || !isfinite(b) || !isfinite(g->mean[i]))
                return sid2_fail(err, SID2_ERR_FORMAT, "%s: a number that is not finite", name);
            if (fabs(a - b) > 1e-5 * (1 + fabs(a)))
                return sid2_fail(err, SID2_ERR_FORMAT, "%s: a covariance that is not symmetric", name);
        }
    return true;
}

bool sid2_moments_get(const sid2_moments *m, sid2_gaussian *g, sid2_error *err)
{
    *g = (sid2_gaussian){0};
    if (m->count + m->pending < 2)
        return sid2_fail(err, SID2_ERR_USAGE, "a covariance needs at least two rows of features");
    if (!sid2_gaussian_alloc(g, m->width, err)) return false;
    const int64_t width = m->width;
    g->count = m->count;
    memcpy(g->mean, m->mean, (size_t)width * sizeof *g->mean);
    memcpy(g->covariance, m->scatter, (size_t)(width * width) * sizeof *g->covariance);
    merge(m, m->pending, &g->count, g->mean, g->covariance);
    for (int64_t i = 0; i < width; i++)
        for (int64_t j = 0; j <= i; j++)
            g->covariance[j * width + i] = g->covariance[i * width + j] /= (double)(g->count - 1);
    return true;
}

bool sid2_gaussian_of(const float *rows, int64_t count, int64_t width, sid2_gaussian *g, sid2_error *err)
{
    *g = (sid2_gaussian){0};
    sid2_moments *m = sid2_moments_create(width, err);
    bool ok = m && sid2_moments_add(m, rows, count, err) && sid2_moments_get(m, g, err);
    sid2_moments_destroy(m);
    return ok;
}

/* ---- The distance ---- */

/* Eigenvalues of the symmetric a[n,n], ascending; with `vectors` a[e,i] is element i of vector e then, else it is lost. */
static bool eigenvalues(double *a, int64_t n, bool vectors, double *values, sid2_error *err)
{
    lapack_int size = (lapack_int)n;
    lapack_int info = LAPACKE_dsyevd(LAPACK_COL_MAJOR, vectors ? 'V' : 'N', 'L', size, a, size, values);
    if (info == LAPACK_WORK_MEMORY_ERROR) return no_memory(err);
    return info == 0 ||
           sid2_fail(err, SID2_ERR_FORMAT, "a covariance has no eigenvalues (LAPACK: %lld)", (long long)info);
}

/* The sum of square roots of the eigenvalues of AB. With A = V L V^T they are those of W^T B W, W = V L^(1/2), of which
 * only the columns of positive eigenvalues matter. */
static bool trace_of_root(const sid2_gaussian *a, const sid2_gaussian *b, double *trace, sid2_error *err)
{
    const int64_t n = a->width;
    double *vectors = malloc((size_t)(n * n) * sizeof *vectors), *values = malloc((size_t)n * sizeof *values);
    double *w = malloc((size_t)(n * n) * sizeof *w), *half = NULL, *whole = NULL;
    bool ok = (vectors && values && w) || no_memory(err);
    if (ok) memcpy(vectors, a->covariance, (size_t)(n * n) * sizeof *vectors);
    ok = ok && eigenvalues(vectors, n, true, values, err);
    int64_t first = 0;
    while (ok && first < n && !(values[first] > 0)) first++;
    int64_t rank = n - first;
    for (int64_t i = 0; ok && i < n; i++)
        for (int64_t e = 0; e < rank; e++)
            w[i * rank + e] = vectors[(first + e) * n + i] * sqrt(values[first + e]);
    if (ok && rank) {
        half = product(b->covariance, w, n, n, rank);
        whole = half ? product(w, half, n, rank, rank) : NULL;
        ok = (whole || no_memory(err)) && eigenvalues(whole, rank, false, values, err);
    }
    *trace = 0;
    for (int64_t e = 0; ok && e < rank; e++) *trace += sqrt(fmax(values[e], 0));
    free(vectors);
    free(values);
    free(w);
    free(half);
    free(whole);
    return ok;
}

bool sid2_frechet(const sid2_gaussian *a, const sid2_gaussian *b, double *distance, sid2_error *err)
{
    double sum = 0, trace;
    if (a->width != b->width)
        return sid2_fail(err, SID2_ERR_USAGE, "features of %lld numbers have no distance from such of %lld",
                         (long long)a->width, (long long)b->width);
    if (!trace_of_root(a, b, &trace, err)) return false;
    for (int64_t i = 0; i < a->width; i++) {
        double d = a->mean[i] - b->mean[i];
        sum += d * d + a->covariance[i * a->width + i] + b->covariance[i * a->width + i];
    }
    *distance = fmax(sum - 2 * trace, 0);
    return true;
}
