/* Whether what was measured several times is a difference: means, deviations, and a test of pairs. */
#ifndef SID2_PAIRED_H
#define SID2_PAIRED_H

#include <stdint.h>

typedef struct sid2_mean {
    int count;
    double mean, deviation; /* of the sample, divided by count - 1; NaN for fewer than two */
} sid2_mean;
/* Of the values that are finite. */
sid2_mean sid2_mean_of(const double *values, int count);

/* Student's two-sided probability of |t| or more, of so many degrees of freedom (1 or more). */
double sid2_student(double t, int degrees);

typedef struct sid2_paired {
    sid2_mean difference;  /* of b - a, over the pairs that are finite */
    double t, probability; /* of Student's paired test; NaN for fewer than two pairs */
} sid2_paired;
sid2_paired sid2_paired_test(const double *a, const double *b, int count);

/* Holm's correction for many tests: each probability becomes what it is among all of them. NaN: no test. */
void sid2_holm(double *probability, int count);

#endif
