/* Averages over time, and how one is mixed of others (T. Karras et al., 2024, arXiv 2312.02696, appendix C). */
#ifndef SID2_PROFILE_H
#define SID2_PROFILE_H

#include "base.h"

/* An average over times 0 to `time`, in which what was there at t counts as t^power. */
typedef struct sid2_profile {
    double time, power; /* > 0, >= 0 */
} sid2_profile;

/* Shares, of sum 1, with which `count` profiles come nearest to the wanted one (least squares). *lack: what they are away
 * from it, as a share of its norm. FORMAT: LAPACK finds none. */
bool sid2_profile_mix(const sid2_profile *of, int count, sid2_profile wanted, double *shares, double *lack,
                      sid2_error *err);

#endif
