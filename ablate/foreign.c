#include "foreign.h"

#include "arrays.h"

#include <math.h>
#include <stdlib.h>

enum { MOST_VALUES = 1 << 28 };

/* values[rows, columns] of an array of two extents, from malloc. */
static double *read_matrix(sid2_arrays *arrays, const char *name, const char *path, int64_t *rows,
                           int64_t *columns, sid2_error *err)
{
    sid2_array a;
    if (!sid2_arrays_find(arrays, name, &a, err)) return NULL;
    if (a.rank != 2 || a.dim[0] < 1 || a.dim[1] < 1 || a.dim[0] > MOST_VALUES / a.dim[1])
        return sid2_fail(err, SID2_ERR_FORMAT, "%s: %s should be an array [N, width] of at most 2^28 numbers",
                         path, name),
               NULL;
    *rows = a.dim[0];
    *columns = a.dim[1];
    double *values = malloc((size_t)(*rows * *columns) * sizeof *values);
    if (!values) return sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory for %s", path, name), NULL;
    if (sid2_arrays_read(arrays, 0, *rows * *columns, values, err)) return values;
    free(values);
    return NULL;
}

static bool read_gaussian(sid2_arrays *arrays, const char *path, sid2_gaussian *g, sid2_error *err)
{
    int64_t rows, columns;
    double *values = read_matrix(arrays, "features", path, &rows, &columns, err);
    float *single = values ? malloc((size_t)(rows * columns) * sizeof *single) : NULL;
    sid2_error cause = {0};
    bool ok = single != NULL;
    if (values && !single) sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory", path);
    for (int64_t i = 0; ok && i < rows * columns; i++) single[i] = (float)values[i];
    if (ok && !sid2_gaussian_of(single, rows, columns, g, &cause))
        ok = sid2_fail(err, cause.code, "%s: features: %s", path, cause.message);
    free(single);
    free(values);
    return ok;
}

bool sid2_foreign_gaussian(const char *path, sid2_gaussian *g, sid2_error *err)
{
    sid2_arrays *arrays = sid2_arrays_open(path, err);
    bool ok = arrays && read_gaussian(arrays, path, g, err);
    sid2_arrays_close(arrays);
    return ok;
}

static bool judge_features(sid2_arrays *arrays, const char *path, const sid2_gaussian *real, int count,
                           double *distance, sid2_error *err)
{
    sid2_gaussian g = {0};
    bool ok = read_gaussian(arrays, path, &g, err);
    if (ok && g.count != count)
        ok = sid2_fail(err, SID2_ERR_FORMAT, "%s: features of %lld samples, there are %d", path,
                       (long long)g.count, count);
    if (ok && g.width != real->width)
        ok = sid2_fail(err, SID2_ERR_FORMAT, "%s: %lld features, the real pictures have %lld", path,
                       (long long)g.width, (long long)real->width);
    ok = ok && sid2_frechet(real, &g, distance, err);
    sid2_gaussian_free(&g);
    return ok;
}

static bool judge_logits(sid2_arrays *arrays, const char *path, int count, int classes, double *agreement,
                         sid2_error *err)
{
    int64_t rows, columns, right = 0;
    double *logits = read_matrix(arrays, "logits", path, &rows, &columns, err);
    bool ok = logits != NULL;
    if (ok && (rows != count || columns < classes))
        ok = sid2_fail(err, SID2_ERR_FORMAT,
                       "%s: logits of %lld samples and %lld classes, there are %d and %d", path,
                       (long long)rows, (long long)columns, count, classes);
    for (int64_t i = 0; ok && i < rows; i++) {
        int64_t best = 0;
        for (int64_t k = 0; ok && k < columns; k++) {
            if (!isfinite(logits[i * columns + k]))
                ok = sid2_fail(err, SID2_ERR_FORMAT, "%s: a logit of sample %lld is not finite", path,
                               (long long)i);
            if (logits[i * columns + k] > logits[i * columns + best]) best = k;
        }
        right += best == i % classes;
    }
    if (ok) *agreement = (double)right / (double)rows;
    free(logits);
    return ok;
}

bool sid2_foreign_judge(const char *path, const sid2_gaussian *real, int count, int classes, double *distance,
                        double *agreement, sid2_error *err)
{
    *distance = *agreement = NAN;
    sid2_arrays *arrays = sid2_arrays_open(path, err);
    bool ok = arrays != NULL, has_features = ok && sid2_arrays_have(arrays, "features"),
         has_logits = ok && sid2_arrays_have(arrays, "logits");
    if (ok && !has_features && !has_logits)
        ok = sid2_fail(err, SID2_ERR_FORMAT, "%s: holds no features and no logits", path);
    ok = ok && (!has_features || !real->width || judge_features(arrays, path, real, count, distance, err)) &&
         (!has_logits || !classes || judge_logits(arrays, path, count, classes, agreement, err));
    sid2_arrays_close(arrays);
    return ok;
}
