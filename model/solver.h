/* Samplers as numbers: every sampler is a list of coefficients for the operator sampler_step. */
#ifndef SID2_SOLVER_H
#define SID2_SOLVER_H

#include "schedule.h"

enum { SID2_MAX_HISTORY = 2 };

/* One evaluation of the network, and what z becomes by it:
 *
 *     xhat = clamp(alpha z - sigma v);   z = c.z z + c.x xhat + c.noise noise + sum of c.past[k] xhat_k
 *
 * xhat_0 is that of the evaluation before, xhat_1 of the one before that. */
typedef struct sid2_solver_stage {
    int step;      /* of the grid, from 0 */
    double logsnr; /* at which the network is asked */
    bool guided;
    double alpha, sigma, w, z, x, noise, past[SID2_MAX_HISTORY];
} sid2_solver_stage;

/* A row of samplers.def. */
typedef struct sid2_solver {
    int evaluations, history;
    bool noise;
} sid2_solver;

/* Whether guided stages are measured: a row of guidances.def. */
bool sid2_guidance_measures(const sid2_config *config);
/* Of an image, from means over its values: x², d² and (d - x)², of what the model says, x, and the direction from the guide
 * to it, d. What it becomes, guided by a weight: shares[0] x + shares[1] d. */
void sid2_guidance_shares(const sid2_config *config, double weight, const double means[3], double shares[2]);

const sid2_solver *sid2_solver_of(const sid2_config *config);
/* How many evaluations sample.steps steps take. */
int64_t sid2_solver_evaluations(const sid2_config *config);
/* Fills that many stages, along sample.grid from noise to clean. The last one makes z = xhat. */
void sid2_solver_plan(const sid2_schedule *schedule, const sid2_config *config, sid2_solver_stage *stages);
/* Fills z, x and noise of an ancestral step between two logSNR, to a cleaner one: the posterior's mean, and a variance
 * between its lower (gamma = 0, the posterior's own) and upper bound. */
void sid2_ancestral_step(double from, double to, double gamma, sid2_solver_stage *stage);
/* Fills z and x of a DDIM step between two logSNR, to a cleaner one: the noise that z holds is kept, at its new level. */
void sid2_ddim_step(double from, double to, sid2_solver_stage *stage);
/* The logSNR at place u of the grid, from 1 (noise) to 0 (clean). */
double sid2_grid_logsnr(const sid2_schedule *schedule, const sid2_config *config, double u);

#endif
