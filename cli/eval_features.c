/* sid2 eval features: two sets of anybody's features, compared. */
#include "cli.h"
#include "eval.h"

#include "arrays.h"
#include "frechet.h"
#include "json.h"
#include "metrics.h"
#include "ranks.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct job {
    const char *real_path, *other_path, *array;
    int64_t nearest;
    device_choice on;
    bool json;
    ranks ranks;
    sid2_device *device;
    sid2_features real, other;
    sid2_manifold manifold;
    sid2_neighbour *neighbour;
    double distance, kernel;
    progress bar;
} job;

enum { MOST_BYTES_LOG = 34 };

static bool read_features(const job *j, const char *path, sid2_features *f, sid2_error *err)
{
    sid2_array a;
    sid2_arrays *arrays = sid2_arrays_open(path, err);
    bool ok = arrays && sid2_arrays_find(arrays, j->array, &a, err);
    if (ok && (a.rank != 2 || a.dim[0] < 2 || a.dim[1] < 1 || a.dim[1] > SID2_MAX_FEATURES))
        ok = sid2_fail(err, SID2_ERR_FORMAT,
                       "%s: features are an array of [pictures, numbers], at least two of 1 to %d", path,
                       SID2_MAX_FEATURES);
    if (ok && a.dim[0] > (INT64_C(1) << MOST_BYTES_LOG) / a.dim[1])
        ok = sid2_fail(err, SID2_ERR_UNSUPPORTED, "%s: too many features", path);
    float *rows = ok ? malloc((size_t)(a.dim[0] * a.dim[1]) * sizeof *rows) : NULL;
    double *line = ok ? malloc((size_t)a.dim[1] * sizeof *line) : NULL;
    if (ok && (!rows || !line)) ok = sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory for its features", path);
    for (int64_t n = 0; ok && n < a.dim[0]; n++) {
        ok = sid2_arrays_read(arrays, n * a.dim[1], a.dim[1], line, err);
        for (int64_t i = 0; ok && i < a.dim[1]; i++) {
            rows[n * a.dim[1] + i] = (float)line[i];
            if (!isfinite(rows[n * a.dim[1] + i]))
                ok = sid2_fail(err, SID2_ERR_FORMAT,
                               "%s: number %" PRId64 " of row %" PRId64 " is not finite", path, i, n);
        }
    }
    free(line);
    sid2_arrays_close(arrays);
    *f = (sid2_features){rows, ok ? a.dim[0] : 0, ok ? a.dim[1] : 0};
    return ok;
}

static bool on_pairs(void *user, double done)
{
    progress_show(user, done, "comparing pairs: %.0f %%", 100 * done);
    return !interrupted();
}

static bool work(job *j, sid2_error *err)
{
    sid2_gaussian a = {0}, b = {0};
    const sid2_metric_progress told = {on_pairs, &j->bar};
    if (!read_features(j, j->real_path, &j->real, err) || !read_features(j, j->other_path, &j->other, err))
        return false;
    if (j->real.width != j->other.width)
        return sid2_fail(err, SID2_ERR_USAGE, "%s has features of %" PRId64 " numbers, %s such of %" PRId64,
                         j->real_path, j->real.width, j->other_path, j->other.width);
    j->neighbour = calloc((size_t)j->other.count, sizeof *j->neighbour);
    if (!j->neighbour) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory");
    j->device = ranks_device(&j->ranks, &j->on, err);
    if (!j->device) return false;
    progress_begin(&j->bar);
    progress_wait(&j->bar, "summing features");
    bool ok = sid2_gaussian_of(j->real.rows, j->real.count, j->real.width, &a, err) &&
              sid2_gaussian_of(j->other.rows, j->other.count, j->other.width, &b, err);
    progress_wait(&j->bar, "eigenvalues of covariances");
    ok = ok && sid2_frechet(&a, &b, &j->distance, err);
    progress_clear(&j->bar);
    progress_begin(&j->bar);
    ok = ok && sid2_kernel_distance(j->device, j->real, j->other, &j->kernel, &told, err) &&
         sid2_manifolds(j->device, j->real, j->other, &j->manifold, j->neighbour, &told, err);
    progress_clear(&j->bar);
    sid2_gaussian_free(&a);
    sid2_gaussian_free(&b);
    return ok;
}

static int by_distance(const void *a, const void *b, void *user)
{
    const sid2_neighbour *of = user;
    const int64_t i = *(const int64_t *)a, k = *(const int64_t *)b;
    const double x = of[i].distance, y = of[k].distance;
    return x != y ? (x > y) - (x < y) : (i > k) - (i < k);
}

/* The numbers of the rows that lie nearest to a real one, nearest first; NULL without memory. */
static int64_t *nearest_rows(const job *j)
{
    int64_t *order = malloc((size_t)j->other.count * sizeof *order);
    for (int64_t i = 0; order && i < j->other.count; i++) order[i] = i;
    if (order) qsort_r(order, (size_t)j->other.count, sizeof *order, by_distance, j->neighbour);
    return order;
}

/* NULL without memory. */
static json_t *describe(const job *j, const int64_t *order, int64_t shown)
{
    json_t *near = json_array();
    bool ok = true;
    for (int64_t i = 0; ok && i < shown; i++)
        ok = !json_array_append_new(near, json_pack("{s:I, s:I, s:f}", "row", (json_int_t)order[i], "real",
                                                    (json_int_t)j->neighbour[order[i]].index, "distance",
                                                    j->neighbour[order[i]].distance));
    if (!ok) json_decref(near);
    return json_pack("{s:s, s:s, s:I, s:I, s:I, s:f, s:f, s:f, s:f, s:f, s:f, s:o}", "real", j->real_path,
                     "other", j->other_path, "real_rows", (json_int_t)j->real.count, "other_rows",
                     (json_int_t)j->other.count, "width", (json_int_t)j->real.width, "frechet_distance",
                     j->distance, "kernel_distance", j->kernel, "precision", j->manifold.precision, "recall",
                     j->manifold.recall, "density", j->manifold.density, "coverage", j->manifold.coverage,
                     "nearest", ok ? near : NULL);
}

static bool print_all(const job *j, sid2_error *err)
{
    int64_t *order = nearest_rows(j), shown = j->nearest < j->other.count ? j->nearest : j->other.count;
    if (!order) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory");
    if (j->json) {
        json_t *all = describe(j, order, shown);
        bool ok = json_print(all, err);
        json_decref(all);
        free(order);
        return ok;
    }
    printf("real               %s (%" PRId64 " rows of %" PRId64 ")\n", j->real_path, j->real.count,
           j->real.width);
    printf("other              %s (%" PRId64 " rows)\n\n", j->other_path, j->other.count);
    printf("Fréchet distance   %.6g\nkernel distance    %.6g\n", j->distance, j->kernel);
    printf("precision, recall  %.4f, %.4f\ndensity, coverage  %.4f, %.4f\n", j->manifold.precision,
           j->manifold.recall, j->manifold.density, j->manifold.coverage);
    if (shown) puts("\n   row of other   nearest real row   distance");
    for (int64_t i = 0; i < shown; i++)
        printf("%15" PRId64 " %18" PRId64 " %10.5g\n", order[i], j->neighbour[order[i]].index,
               j->neighbour[order[i]].distance);
    free(order);
    return true;
}

int eval_features(int argc, char **argv)
{
    job j = {.nearest = 5};
    const option_row rows[] = {
        {OPTION_POSITIONAL, "REAL", NULL, &j.real_path,
         "x.npz with an array [pictures, numbers] of f2, f4 or f8", NULL},
        {OPTION_POSITIONAL, "OTHER", NULL, &j.other_path, "likewise: the features of what is judged", NULL},
        {OPTION_TEXT, "array", "NAME", &j.array, "which array of the files (the first)", NULL},
        {OPTION_INT, "nearest", "N", &j.nearest, "rows shown that lie nearest to a real one (5)", NULL},
        {OPTION_FLAG, "json", NULL, &j.json, "print JSON", NULL},
        OPTIONS_DEVICE_CHOICE(j.on),
    };
    int code = options_parse(
        &(option_table){
            "eval features", "Distances of two sets of anybody's features (DINOv2, CLIP, ...)",
            "Fréchet and kernel distance, precision and recall, density and coverage, nearest neighbours.",
            rows, sizeof rows / sizeof rows[0]},
        argc, argv);
    if (code != OPTIONS_RUN) return code;
    sid2_error err = {0};
    interrupt_install();
    if (!ranks_join(&j.ranks, &j.on, &err))
        return ranks_leave(&j.ranks, ranks_report(&j.ranks, "eval features", &err), &err);
    const bool speaks =
        ranks_speak(&j.ranks); /* the features are there: one rank compares them, the others wait */
    bool ok = sid2_group_concur(j.ranks.group, !speaks || work(&j, &err), &err);
    if (ok && speaks && (j.real.count <= j.real.width || j.other.count <= j.real.width))
        fprintf(stderr,
                "a Fréchet distance of features of %" PRId64 " numbers wants more than %" PRId64
                " rows of each: with fewer it is too large\n",
                j.real.width, j.real.width);
    if (ok && speaks) print_notice(j.device);
    ok = ok && (!speaks || print_all(&j, &err));
    code = ok ? 0 : ranks_report(&j.ranks, "eval features", &err);
    free((float *)j.real.rows);
    free((float *)j.other.rows);
    free(j.neighbour);
    return ranks_leave(&j.ranks, code, &err);
}
