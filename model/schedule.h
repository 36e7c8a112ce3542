/* The diffusion process: z = alpha x + sigma eps with alpha² = sigmoid(logsnr), sigma² = sigmoid(-logsnr),
 * and logsnr a falling function of time t in [0,1] (0 clean, 1 noise). Everything in double. Formulas:
 * docs/model.md. */
#ifndef SID2_SCHEDULE_H
#define SID2_SCHEDULE_H

#include "config.h"

typedef struct sid2_schedule {
    double a, b;                     /* the cosine schedule is -2 log tan(a t + b) */
    double shift_clean, shift_noise; /* added to it, interpolated from t = 0 to t = 1 */
    double first, last;              /* logsnr at t = 0 and t = 1 */
    int weighting;
    double bias;      /* of the sigmoid weighting */
    double edm_shift; /* of the EDM weightings' argument */
    double edm_peak;  /* logsnr at which EDM's weight is largest */
} sid2_schedule;

sid2_schedule sid2_schedule_create(const sid2_config *config);
double sid2_schedule_logsnr(const sid2_schedule *schedule, double t);
double sid2_schedule_slope(const sid2_schedule *schedule, double t); /* d logsnr / dt, negative */
/* The time at which logsnr has this value, clamped to [0,1]. */
double sid2_schedule_time(const sid2_schedule *schedule, double logsnr);
/* What the network is told: 1000 at the clean end of the schedule, 0 at the noisy end. */
double sid2_schedule_position(const sid2_schedule *schedule, double logsnr);

double sid2_log_sigmoid(double x);
double sid2_alpha(double logsnr);
double sid2_sigma(double logsnr);

/* w(logsnr) of the loss E[-1/2 dlogsnr/dt w |eps - epshat|²]. */
double sid2_loss_weighting(const sid2_schedule *schedule, double logsnr);
/* The factor of mean |x - xhat|² in the same loss at time t: -1/2 dlogsnr/dt w e^logsnr. */
double sid2_loss_weight(const sid2_schedule *schedule, double t);

/* Time of image i of n in a step: (t0 + i/n) mod 1, t0 uniform by (seed, step). */
double sid2_draw_time(uint64_t seed, uint64_t step, int64_t i, int64_t n);

#endif
