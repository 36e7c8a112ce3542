#include "profile.h"

#include <lapacke.h>
#include <math.h>
#include <stdlib.h>

static double product(sid2_profile a, sid2_profile b)
{
    double later = fmax(a.time, b.time), power = a.time < b.time ? b.power : -a.power;
    return (a.power + 1) * (b.power + 1) * pow(a.time / b.time, power) / ((a.power + b.power + 1) * later);
}

static double cosine(sid2_profile a, sid2_profile b)
{
    return product(a, b) / sqrt(product(a, a) * product(b, b));
}

/* The least of the solutions of A x = b that fit to rounding: profiles that lie close together would else be given large
 * shares of opposite sign, and with them what their files were rounded by. All profiles are scaled to norm 1. */
static bool solve(double *a, int count, double *x, sid2_error *err)
{
    lapack_int rank, n = (lapack_int)count;
    double *values = malloc((size_t)count * sizeof *values);
    lapack_int info = values ? LAPACKE_dgelsd(LAPACK_COL_MAJOR, n, n, 1, a, n, x, n, values, 1e-10, &rank)
                             : LAPACK_WORK_MEMORY_ERROR;
    free(values);
    if (info == LAPACK_WORK_MEMORY_ERROR)
        return sid2_fail(err, SID2_ERR_MEMORY, "out of memory to mix %d averages", count);
    return !info ||
           sid2_fail(err, SID2_ERR_FORMAT, "averages that cannot be mixed (LAPACK: %lld)", (long long)info);
}

bool sid2_profile_mix(const sid2_profile *of, int count, sid2_profile wanted, double *x, double *lack,
                      sid2_error *err)
{
    size_t n = (size_t)count;
    double *a = malloc(n * n * sizeof *a), norm = sqrt(product(wanted, wanted)), sum = 0, square = 1;
    if (!a) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory to mix %d averages", count);
    for (size_t i = 0; i < n; i++) {
        for (size_t k = 0; k < n; k++) a[i * n + k] = cosine(of[i], of[k]);
        x[i] = cosine(of[i], wanted);
    }
    bool ok = solve(a, count, x, err);
    for (size_t i = 0; ok && i < n; i++) { /* |wanted - sum of x|^2 over |wanted|^2 */
        square -= 2 * x[i] * cosine(of[i], wanted);
        for (size_t k = 0; k < n; k++) square += x[i] * x[k] * cosine(of[i], of[k]);
    }
    for (size_t i = 0; ok && i < n; i++) sum += x[i] *= norm / sqrt(product(of[i], of[i]));
    for (size_t i = 0; ok && i < n; i++) x[i] /= sum;
    *lack = sqrt(fmax(0, square));
    free(a);
    return ok;
}
