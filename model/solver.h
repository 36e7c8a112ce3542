/* Samplers as numbers: every sampler is a list of coefficients for the operator sampler_step. */
#ifndef SID2_SOLVER_H
#define SID2_SOLVER_H

#include "schedule.h"

/* One step, from time t to s < t:  xhat = clamp(alpha z - sigma v);  z_s = c.z z + c.x xhat + c.noise noise +
 * c.prev xhat_before. */
typedef struct sid2_solver_step {
    double t, s, logsnr; /* logsnr at t */
    bool guided;
    double alpha, sigma, w, z, x, noise, prev;
} sid2_solver_step;

/* Fills sample.steps steps on the uniform grid of times from 1 to 0. The last one returns xhat. */
void sid2_solver_plan(const sid2_schedule *schedule, const sid2_config *config, sid2_solver_step *steps);

#endif
