/* Numbers that compare two sets of features, whatever made them, beside the Fréchet distance (frechet.h). Pairs of rows are
 * multiplied on a device; what comes of the products is summed in float64 and in one order. */
#ifndef SID2_METRICS_H
#define SID2_METRICS_H

#include "device.h"

/* rows[count,width], all finite. */
typedef struct sid2_features {
    const float *rows;
    int64_t count, width;
} sid2_features;

/* Told how much is done, 0 to 1; false stops, which is CANCELLED. May be NULL. */
typedef struct sid2_metric_progress {
    bool (*tell)(void *user, double done);
    void *user;
} sid2_metric_progress;

/* Kernel distance (KID where features are Inception's): the unbiased squared maximum mean discrepancy of the kernel
 * (x.y / width + 1)^3, over all pairs. May be slightly negative. USAGE: fewer than two rows, or widths that differ. */
bool sid2_kernel_distance(sid2_device *device, sid2_features a, sid2_features b, double *distance,
                          const sid2_metric_progress *progress, sid2_error *err);

/* Manifolds of balls around rows, out to their nearest other rows of the same set.
 *   precision  the share of `other` within a ball of `real` (to the 3rd neighbour), recall the reverse
 *   density    in how many such balls (to the 5th) one of `other` lies, over 5; coverage: the share of them that hold one */
enum { SID2_MANIFOLD_NEAREST = 3, SID2_DENSITY_NEAREST = 5 };
typedef struct sid2_manifold {
    double precision, recall, density, coverage;
} sid2_manifold;

typedef struct sid2_neighbour {
    int64_t index; /* of the row of `real` that is nearest */
    double distance;
} sid2_neighbour;

/* `nearest`: [other.count], or NULL. USAGE: fewer than six rows of either, or widths that differ. */
bool sid2_manifolds(sid2_device *device, sid2_features real, sid2_features other, sid2_manifold *m,
                    sid2_neighbour *nearest, const sid2_metric_progress *progress, sid2_error *err);

/* Inception score: exp of the mean divergence of a row from the mean row, of splits of `split` rows in their order (the last
 * may be shorter). rows are probabilities. *deviation: over the splits, NaN for one. */
void sid2_inception_score(sid2_features probabilities, int64_t split, double *score, double *deviation);

#endif
