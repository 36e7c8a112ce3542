#include "paired.h"

#include <math.h>

sid2_mean sid2_mean_of(const double *values, int count)
{
    sid2_mean m = {.deviation = NAN};
    double sum = 0, squares = 0;
    for (int i = 0; i < count; i++)
        if (isfinite(values[i])) sum += values[i], m.count++;
    m.mean = m.count ? sum / m.count : NAN;
    for (int i = 0; i < count; i++)
        if (isfinite(values[i])) squares += (values[i] - m.mean) * (values[i] - m.mean);
    if (m.count > 1) m.deviation = sqrt(squares / (m.count - 1));
    return m;
}

/* Closed forms for whole degrees of freedom (Abramowitz and Stegun, 26.7.3 and 26.7.4). */
double sid2_student(double t, int degrees)
{
    double angle = atan2(fabs(t), sqrt(degrees)), c = cos(angle), s = sin(angle), term, sum = 0;
    if (isnan(t)) return NAN;
    if (degrees % 2) {
        term = c;
        for (int k = 1; k < degrees; k += 2) {
            sum += term;
            term *= c * c * (k + 1) / (k + 2);
        }
        return fmax(0, 1 - 2 / acos(-1) * (angle + s * sum));
    }
    term = 1;
    for (int k = 0; k < degrees; k += 2) {
        sum += term;
        term *= c * c * (k + 1) / (k + 2);
    }
    return fmax(0, 1 - s * sum);
}

sid2_paired sid2_paired_test(const double *a, const double *b, int count)
{
    sid2_paired p = {.t = NAN, .probability = NAN};
    double sum = 0, squares = 0;
    int pairs = 0;
    for (int i = 0; i < count; i++)
        if (isfinite(b[i] - a[i])) sum += b[i] - a[i], pairs++;
    double mean = pairs ? sum / pairs : NAN;
    for (int i = 0; i < count; i++)
        if (isfinite(b[i] - a[i])) squares += (b[i] - a[i] - mean) * (b[i] - a[i] - mean);
    p.difference = (sid2_mean){pairs, mean, pairs > 1 ? sqrt(squares / (pairs - 1)) : NAN};
    if (pairs < 2) return p;
    /* Pairs that all differ by the same are as sure as they are many; without any difference there is none. */
    p.t = mean == 0 ? 0 : mean / (p.difference.deviation / sqrt(pairs));
    p.probability = sid2_student(p.t, pairs - 1);
    return p;
}

void sid2_holm(double *probability, int count)
{
    int tests = 0;
    for (int i = 0; i < count; i++) tests += isfinite(probability[i]);
    double before = 0;
    for (int left = tests; left > 0; left--) { /* the smallest of those that are left */
        int least = -1;
        for (int i = 0; i < count; i++)
            if (isfinite(probability[i]) && probability[i] >= 0 &&
                (least < 0 || probability[i] < probability[least]))
                least = i;
        before = fmax(before, fmin(1, left * probability[least]));
        probability[least] = -1 - before; /* done: kept below zero until all are */
    }
    for (int i = 0; i < count; i++)
        if (isfinite(probability[i])) probability[i] = -1 - probability[i];
}
