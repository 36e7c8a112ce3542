#include "metrics.h"

#include "buffers.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- Products of all pairs, block by block ---- */

enum { LINES = 512, COLUMNS = 4096, KEPT = SID2_DENSITY_NEAREST };

typedef struct products {
    sid2_graph *graph;
    sid2_buffers buffers;
    sid2_program *program;
    int64_t width;
    float *x, *y, *dots; /* a block of each on the host */
    const sid2_metric_progress *progress;
    double share, done; /* of the whole, for those to whom it is told */
} products;

static bool products_open(products *p, sid2_device *device, int64_t width,
                          const sid2_metric_progress *progress, sid2_error *err)
{
    *p = (products){.width = width, .progress = progress, .buffers = {.device = device}};
    sid2_graph *g = p->graph = sid2_graph_create(SID2_F32);
    p->x = calloc((size_t)(LINES * width), sizeof *p->x);
    p->y = calloc((size_t)(COLUMNS * width), sizeof *p->y);
    p->dots = malloc(sizeof(float[LINES][COLUMNS]));
    if (!g || !p->x || !p->y || !p->dots)
        return sid2_fail(err, SID2_ERR_MEMORY, "no memory for pairs of features");
    sid2_tensor x = sid2_graph_external(g, "x", SID2_F32, sid2_shape_of(LINES, width));
    sid2_tensor y = sid2_graph_external(g, "y", SID2_F32, sid2_shape_of(COLUMNS, width));
    sid2_graph_export(g, sid2_linear(g, x, y, SID2_NONE), "dots");
    if (!sid2_graph_finish(g, err)) return false;
    p->program = sid2_buffers_program(&p->buffers, g, NULL, err);
    return p->program != NULL;
}

static void products_close(products *p)
{
    sid2_program_destroy(p->program);
    sid2_buffers_clear(&p->buffers);
    sid2_graph_destroy(p->graph);
    free(p->x);
    free(p->y);
    free(p->dots);
}

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

/* What a block of pairs is good for: dots[i][j] of rows first_a + i of `a` and first_b + j of `b`. */
typedef void (*pairs_rule)(void *user, const float *dots, int64_t first_a, int64_t count_a, int64_t first_b,
                           int64_t count_b);

static bool each_pair(products *p, sid2_features a, sid2_features b, pairs_rule rule, void *user,
                      sid2_error *err)
{
    const size_t row = (size_t)p->width * sizeof(float);
    for (int64_t j = 0; j < b.count; j += COLUMNS) {
        int64_t columns = least(COLUMNS, b.count - j);
        memcpy(p->y, b.rows + j * p->width, (size_t)columns * row);
        if (!sid2_buffers_upload(&p->buffers, "y", p->y, err)) return false;
        for (int64_t i = 0; i < a.count; i += LINES) {
            int64_t lines = least(LINES, a.count - i);
            memcpy(p->x, a.rows + i * p->width, (size_t)lines * row);
            if (!sid2_buffers_upload(&p->buffers, "x", p->x, err) || !sid2_program_run(p->program, err) ||
                !sid2_buffers_download(&p->buffers, "dots", p->dots, err))
                return false;
            rule(user, p->dots, i, lines, j, columns);
            p->done += p->share * (double)lines * (double)columns / ((double)a.count * (double)b.count);
            if (p->progress && p->progress->tell && !p->progress->tell(p->progress->user, fmin(p->done, 1)))
                return sid2_fail(err, SID2_ERR_CANCELLED, "stopped");
        }
    }
    return true;
}

static bool fit(sid2_features a, sid2_features b, int64_t least_count, sid2_error *err)
{
    if (a.width != b.width)
        return sid2_fail(err, SID2_ERR_USAGE, "features of %lld numbers cannot be compared with such of %lld",
                         (long long)a.width, (long long)b.width);
    return (a.count >= least_count && b.count >= least_count) ||
           sid2_fail(err, SID2_ERR_USAGE,
                     "%lld and %lld rows of features are too few: at least %lld are needed",
                     (long long)a.count, (long long)b.count, (long long)least_count);
}

/* ---- Kernel distance ---- */

typedef struct kernel_sum {
    double width, sum;
    bool is_self; /* pairs of a row with itself do not count */
} kernel_sum;

static void add_kernels(void *user, const float *dots, int64_t first_a, int64_t count_a, int64_t first_b,
                        int64_t count_b)
{
    kernel_sum *k = user;
    for (int64_t i = 0; i < count_a; i++) {
        double line = 0;
        for (int64_t j = 0; j < count_b; j++) {
            double base = (double)dots[i * COLUMNS + j] / k->width + 1;
            if (!k->is_self || first_a + i != first_b + j) line += base * base * base;
        }
        k->sum += line;
    }
}

bool sid2_kernel_distance(sid2_device *device, sid2_features a, sid2_features b, double *distance,
                          const sid2_metric_progress *progress, sid2_error *err)
{
    const double n = (double)a.count, m = (double)b.count;
    kernel_sum aa = {(double)a.width, 0, true}, bb = aa, ab = {(double)a.width, 0, false};
    if (!fit(a, b, 2, err)) return false;
    products p;
    bool ok = products_open(&p, device, a.width, progress, err);
    p.share = 1.0 / 3;
    ok = ok && each_pair(&p, a, a, add_kernels, &aa, err) && each_pair(&p, b, b, add_kernels, &bb, err) &&
         each_pair(&p, a, b, add_kernels, &ab, err);
    products_close(&p);
    *distance = aa.sum / (n * (n - 1)) + bb.sum / (m * (m - 1)) - 2 * ab.sum / (n * m);
    return ok;
}

/* ---- Manifolds ---- */

/* A set, the squared lengths of its rows, and the squared distances of each to its nearest others, ascending. */
typedef struct cloud {
    sid2_features of;
    double *length, (*nearest)[KEPT];
} cloud;

static double squared(const cloud *a, const cloud *b, const float *dots, int64_t first_a, int64_t i,
                      int64_t first_b, int64_t j)
{
    return fmax(a->length[first_a + i] + b->length[first_b + j] - 2 * (double)dots[i * COLUMNS + j], 0);
}

static void keep_nearest(void *user, const float *dots, int64_t first_a, int64_t count_a, int64_t first_b,
                         int64_t count_b)
{
    const cloud *c = user;
    for (int64_t i = 0; i < count_a; i++) {
        double *kept = c->nearest[first_a + i];
        for (int64_t j = 0; j < count_b; j++) {
            if (first_a + i == first_b + j) continue;
            double d = squared(c, c, dots, first_a, i, first_b, j);
            for (int k = 0; k < KEPT; k++)
                if (d < kept[k]) {
                    double farther = kept[k];
                    kept[k] = d;
                    d = farther;
                }
        }
    }
}

static bool cloud_open(cloud *c, sid2_features of, products *p, sid2_error *err)
{
    *c = (cloud){.of = of};
    c->length = calloc((size_t)of.count, sizeof *c->length);
    c->nearest = malloc((size_t)of.count * sizeof *c->nearest);
    if (!c->length || !c->nearest)
        return sid2_fail(err, SID2_ERR_MEMORY, "no memory for distances of features");
    for (int64_t n = 0; n < of.count; n++) {
        for (int64_t i = 0; i < of.width; i++)
            c->length[n] += (double)of.rows[n * of.width + i] * (double)of.rows[n * of.width + i];
        for (int k = 0; k < KEPT; k++) c->nearest[n][k] = INFINITY;
    }
    return each_pair(p, of, of, keep_nearest, c, err);
}

static void cloud_close(cloud *c)
{
    free(c->length);
    free(c->nearest);
}

typedef struct crossing {
    const cloud *real, *other;
    bool *in_real, *in_other, *holds; /* of other, of real, of real */
    int64_t balls;
    sid2_neighbour *nearest;
} crossing;

static void cross(void *user, const float *dots, int64_t first_a, int64_t count_a, int64_t first_b,
                  int64_t count_b)
{
    crossing *c = user; /* a: other; b: real */
    for (int64_t i = 0; i < count_a; i++)
        for (int64_t j = 0; j < count_b; j++) {
            const int64_t o = first_a + i, r = first_b + j;
            const double d = squared(c->other, c->real, dots, first_a, i, first_b, j);
            const double *around = c->real->nearest[r];
            c->in_real[o] |= d <= around[SID2_MANIFOLD_NEAREST - 1];
            c->in_other[r] |= d <= c->other->nearest[o][SID2_MANIFOLD_NEAREST - 1];
            c->balls += d <= around[SID2_DENSITY_NEAREST - 1];
            c->holds[r] |= d <= around[SID2_DENSITY_NEAREST - 1];
            if (c->nearest && d < c->nearest[o].distance) c->nearest[o] = (sid2_neighbour){r, d};
        }
}

static double share_of(const bool *flags, int64_t count)
{
    int64_t sum = 0;
    for (int64_t i = 0; i < count; i++) sum += flags[i];
    return (double)sum / (double)count;
}

static bool compare(products *p, crossing *c, sid2_manifold *m, sid2_error *err)
{
    const int64_t reals = c->real->of.count, others = c->other->of.count;
    c->in_real = calloc((size_t)others, 1);
    c->in_other = calloc((size_t)reals, 1);
    c->holds = calloc((size_t)reals, 1);
    bool ok = (c->in_real && c->in_other && c->holds) ||
              sid2_fail(err, SID2_ERR_MEMORY, "no memory for distances of features");
    for (int64_t i = 0; c->nearest && i < others; i++) c->nearest[i] = (sid2_neighbour){-1, INFINITY};
    ok = ok && each_pair(p, c->other->of, c->real->of, cross, c, err);
    for (int64_t i = 0; ok && c->nearest && i < others; i++)
        c->nearest[i].distance = sqrt(c->nearest[i].distance);
    if (ok)
        *m = (sid2_manifold){.precision = share_of(c->in_real, others),
                             .recall = share_of(c->in_other, reals),
                             .density = (double)c->balls / SID2_DENSITY_NEAREST / (double)others,
                             .coverage = share_of(c->holds, reals)};
    free(c->in_real);
    free(c->in_other);
    free(c->holds);
    return ok;
}

bool sid2_manifolds(sid2_device *device, sid2_features real, sid2_features other, sid2_manifold *m,
                    sid2_neighbour *nearest, const sid2_metric_progress *progress, sid2_error *err)
{
    cloud a = {0}, b = {0};
    products p;
    if (!fit(real, other, KEPT + 1, err)) return false;
    bool ok = products_open(&p, device, real.width, progress, err);
    p.share = 1.0 / 3;
    ok = ok && cloud_open(&a, real, &p, err) && cloud_open(&b, other, &p, err) &&
         compare(&p, &(crossing){.real = &a, .other = &b, .nearest = nearest}, m, err);
    cloud_close(&a);
    cloud_close(&b);
    products_close(&p);
    return ok;
}

/* ---- Inception score ---- */

static double score_of(const float *rows, int64_t count, int64_t width)
{
    double divergence = 0;
    for (int64_t i = 0; i < width; i++) {
        double mean = 0, entropy = 0;
        for (int64_t n = 0; n < count; n++) {
            double p = (double)rows[n * width + i];
            mean += p;
            if (p > 0) entropy += p * log(p);
        }
        if (mean > 0)
            divergence += entropy / (double)count - mean / (double)count * log(mean / (double)count);
    }
    return exp(divergence);
}

void sid2_inception_score(sid2_features p, int64_t split, double *score, double *deviation)
{
    double sum = 0, squares = 0;
    int64_t splits = 0;
    for (int64_t n = 0; n < p.count; n += split, splits++) {
        double s = score_of(p.rows + n * p.width, least(split, p.count - n), p.width);
        sum += s;
        squares += s * s;
    }
    *score = sum / (double)splits;
    *deviation = splits > 1 ? sqrt(fmax(squares / (double)splits - *score * *score, 0)) : NAN;
}
