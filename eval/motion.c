#include "motion.h"

#include <math.h>

double sid2_motion_centroid(const uint8_t *frame, sid2_shape shape, int channel, double centroid[2])
{
    enum { DIM = 48 }; /* what a network leaves of black */
    const int64_t height = shape.dim[0], width = shape.dim[1], channels = shape.dim[2];
    double mass = 0, sum[2] = {0};
    for (int64_t y = 0; y < height; y++)
        for (int64_t x = 0; x < width; x++) {
            int value = frame[(y * width + x) * channels + channel] - DIM;
            if (value <= 0) continue;
            mass += value;
            sum[0] += value * ((double)x + 0.5);
            sum[1] += value * ((double)y + 0.5);
        }
    centroid[0] = mass > 0 ? sum[0] / mass : (double)width / 2;
    centroid[1] = mass > 0 ? sum[1] / mass : (double)height / 2;
    return mass;
}

static double distance(const double a[2], const double b[2]) { return hypot(a[0] - b[0], a[1] - b[1]); }

/* Where frame `at` is if what happened between the two before `given` goes on. */
static void go_on(const double before[2], const double last[2], int64_t steps, double place[2])
{
    for (int axis = 0; axis < 2; axis++)
        place[axis] = last[axis] + (double)steps * (last[axis] - before[axis]);
}

void sid2_motion_add(sid2_motion *m, const sid2_motion_truth *truth, const uint8_t *given,
                     const uint8_t *const *made, int64_t count, sid2_shape clip)
{
    const sid2_shape shape = sid2_shape_of(clip.dim[1], clip.dim[2], clip.dim[3]);
    const int64_t bytes = sid2_shape_count(shape), first = truth->given;
    double before[2], last[2], place[2];
    sid2_motion_centroid(given + (first - 2) * bytes, shape, truth->channel, before);
    const double mass = sid2_motion_centroid(given + (first - 1) * bytes, shape, truth->channel, last);
    bool bounced = false;
    for (int64_t f = first; f < truth->frames; f++) {
        const double *exact = truth->centre + 2 * f;
        double mean[2] = {0};
        go_on(exact - 2 * (f - first + 2), exact - 2 * (f - first + 1), f - first + 1, place);
        bounced = bounced || distance(place, exact) > 1e-4 * (double)clip.dim[2];
        for (int64_t k = 0; k < count; k++) {
            double centroid[2];
            m->lost += sid2_motion_centroid(made[k] + f * bytes, shape, truth->channel, centroid) < mass / 4;
            for (int axis = 0; axis < 2; axis++) mean[axis] += centroid[axis] / (double)count;
        }
        const int kind = bounced ? SID2_MOTION_BOUNCED : SID2_MOTION_STRAIGHT;
        m->frames[kind]++;
        m->made[kind] += distance(mean, exact);
        m->last[kind] += distance(last, exact);
        go_on(before, last, f - first + 1, place);
        m->straight[kind] += distance(place, exact);
    }
}
