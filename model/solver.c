/* The samplers' coefficients, in double. Formulas: docs/model.md. */
#include "solver.h"

#include <math.h>

/* One step of the grid: from a level of logSNR to a cleaner one, the evaluations before having been at `before`,
 * newest first. */
typedef struct interval {
    double from, to, before[SID2_MAX_HISTORY];
    int known; /* of them */
    double gamma;
} interval;

/* ---- The rows of samplers.def ---- */

void sid2_ancestral_step(double from, double to, double gamma, sid2_solver_stage *stage)
{
    double c = -expm1(from - to); /* 1 - e^(from - to): the share of the step that is new */
    stage->z = exp(0.5 * (sid2_log_sigmoid(to) - sid2_log_sigmoid(from)) + from - to);
    stage->x = sid2_alpha(to) * c;
    double log_variance = log(c) + gamma * sid2_log_sigmoid(-from) + (1 - gamma) * sid2_log_sigmoid(-to);
    stage->noise = exp(0.5 * log_variance);
}

static void ddpm(const interval *i, sid2_solver_stage *stage)
{
    sid2_ancestral_step(i->from, i->to, i->gamma, stage);
}

void sid2_ddim_step(double from, double to, sid2_solver_stage *stage)
{
    stage->z = sid2_sigma(to) / sid2_sigma(from);
    stage->x = sid2_alpha(to) - sid2_alpha(from) * stage->z;
}

static void ddim(const interval *i, sid2_solver_stage *stage) { sid2_ddim_step(i->from, i->to, stage); }

/* DDIM on xhat extrapolated by its last change: second order in log(alpha/sigma) = logsnr / 2. */
static void dpm2m(const interval *i, sid2_solver_stage *stage)
{
    ddim(i, stage);
    if (!i->known) return;
    double half_ratio = 0.5 * (i->to - i->from) / (i->from - i->before[0]);
    stage->past[0] = -stage->x * half_ratio;
    stage->x *= 1 + half_ratio;
}

/* The integrals over a step of length h in l = log(alpha/sigma) of e^(l - h) l^power, power 1 and 2: what the
 * terms of a polynomial in l add to z, in units of alpha. That of power 0 is DDIM's. */
static double moment(double h, int power)
{
    double first = h + expm1(-h);
    return power == 1 ? first : h * h - 2 * first;
}

/* xhat as the polynomial in l through the last three, integrated exactly; fewer where there are not so many. */
static void dpm3m(const interval *i, sid2_solver_stage *stage)
{
    ddim(i, stage);
    if (!i->known) return;
    double h = 0.5 * (i->to - i->from), h0 = 0.5 * (i->from - i->before[0]), alpha = sid2_alpha(i->to);
    double slope = alpha * moment(h, 1) / h0; /* of (xhat - xhat_0) */
    stage->x += slope;
    stage->past[0] -= slope;
    if (i->known < 2) return;
    double h1 = 0.5 * (i->before[0] - i->before[1]);
    double bend = alpha * (moment(h, 2) + h0 * moment(h, 1)) / (h0 + h1); /* of the slopes' difference */
    stage->x += bend / h0;
    stage->past[0] -= bend / h0 + bend / h1;
    stage->past[1] += bend / h1;
}

/* The stochastic path whose noise is renewed at `gamma` times the rate of ddpm's (S. Xue et al., 2023, "SA-Solver"): xhat as the
 * line in l through the last two, weighted by (1 + gamma) e^((1 + gamma)(l - h)), integrated exactly. */
static void sde2m(const interval *i, sid2_solver_stage *stage)
{
    double h = 0.5 * (i->to - i->from), rate = 1 + i->gamma, alpha = sid2_alpha(i->to),
           sigma = sid2_sigma(i->to);
    double share = -expm1(-rate * h);
    stage->z = sigma / sid2_sigma(i->from) * exp(-i->gamma * h);
    stage->x = alpha * share;
    stage->noise = sigma * sqrt(-expm1(-2 * i->gamma * h));
    if (!i->known) return;
    double slope = alpha * (h - share / rate) / (0.5 * (i->from - i->before[0])); /* of (xhat - xhat_0) */
    stage->x += slope;
    stage->past[0] = -slope;
}

/* DDIM all the way; then again, from where it began, along the line from the old xhat to that found there. The
 * first try holds what the second needs of the old z. */
static void heun(const interval *i, sid2_solver_stage *stage)
{
    double h = 0.5 * (i->to - i->from), slope = sid2_alpha(i->to) * moment(h, 1) / h;
    ddim(i, &stage[0]);
    stage[1] = (sid2_solver_stage){.logsnr = i->to, .z = 1, .x = slope, .past = {-slope}};
}

static const struct {
    sid2_solver solver;
    void (*fill)(const interval *i, sid2_solver_stage *stages);
} rows[] = {
#define SAMPLER(word, evaluations, history, noise, help) {{evaluations, history, noise}, word},
#include "samplers.def"
};
#define SAMPLER(word, evaluations, history, noise, help)                                                     \
    _Static_assert(history <= SID2_MAX_HISTORY, #word " reads more history than is kept");
#include "samplers.def"

const sid2_solver *sid2_solver_of(const sid2_config *config) { return &rows[config->sample_sampler].solver; }

/* ---- The rows of guidances.def ---- */

static double linear(double weight, const interval *i, const sid2_solver_stage *stage)
{
    return (void)i, (void)stage, weight;
}

/* DDIM's z' = alpha' xhat + sigma' eps with xhat of this weight and eps of the guide, as one weight for both. */
static double cfgpp(double weight, const interval *i, const sid2_solver_stage *stage)
{
    return weight * sid2_alpha(i->to) / stage->x;
}

/* What is measured (sid2_guidance_shares) does the rest. */
static double apg(double weight, const interval *i, const sid2_solver_stage *stage)
{
    return linear(weight, i, stage);
}

static const struct {
    bool measured;
    double (*weight)(double weight, const interval *i, const sid2_solver_stage *stage);
} guidances[] = {
#define GUIDANCE(word, measured, help) {measured, word},
#include "guidances.def"
};

bool sid2_guidance_measures(const sid2_config *config)
{
    return guidances[config->sample_guidance_rule].measured;
}

void sid2_guidance_shares(const sid2_config *config, double weight, const double means[3], double shares[2])
{
    double x = means[0], d = means[1], dot = 0.5 * (x + d - means[2]), radius = config->sample_apg_radius;
    double push = (weight - 1) * (radius > 0 && d > radius * radius ? radius / sqrt(d) : 1);
    double along = x > 0 ? dot / x : 0; /* d = along x + what stands across it */
    shares[0] = 1 - push * (1 - config->sample_apg_parallel) * along;
    shares[1] = push;
}

/* ---- The rows of grids.def ---- */

static double uniform(const sid2_schedule *schedule, const sid2_config *config, double u)
{
    return (void)config, sid2_schedule_logsnr(schedule, u);
}

static double logsnr(const sid2_schedule *schedule, const sid2_config *config, double u)
{
    return (void)config, schedule->first + u * (schedule->last - schedule->first);
}

static double rho(const sid2_schedule *schedule, const sid2_config *config, double u)
{
    double power = 1 / config->sample_rho; /* of sigma / alpha = e^(-logsnr / 2) */
    double clean = exp(-0.5 * power * schedule->first), noise = exp(-0.5 * power * schedule->last);
    return -2 / power * log(clean + u * (noise - clean));
}

static double (*const grids[])(const sid2_schedule *schedule, const sid2_config *config, double u) = {
#define GRID(word, help) word,
#include "grids.def"
};

double sid2_grid_logsnr(const sid2_schedule *schedule, const sid2_config *config, double u)
{
    return grids[config->sample_grid](schedule, config, u);
}

/* ---- The plan ---- */

int64_t sid2_solver_evaluations(const sid2_config *config)
{
    return (config->sample_steps - 1) * sid2_solver_of(config)->evaluations + 1;
}

void sid2_solver_plan(const sid2_schedule *schedule, const sid2_config *config, sid2_solver_stage *stages)
{
    int64_t count = config->sample_steps;
    sid2_config_INTERVAL guide = config->sample_interval;
    interval i = {.to = sid2_grid_logsnr(schedule, config, 1), .gamma = config->sample_gamma};
    for (int64_t k = 0; k < count; k++) {
        bool last = k == count - 1;
        int evaluations = last ? 1 : sid2_solver_of(config)->evaluations;
        i.from = i.to;
        i.to = sid2_grid_logsnr(schedule, config, (double)(count - k - 1) / (double)count);
        for (int e = 0; e < evaluations; e++) stages[e] = (sid2_solver_stage){.logsnr = i.from};
        if (last)
            stages->x = 1;
        else
            rows[config->sample_sampler].fill(&i, stages);
        for (int e = 0; e < evaluations; e++, stages++) {
            stages->step = (int)k;
            stages->alpha = sid2_alpha(stages->logsnr);
            stages->sigma = sid2_sigma(stages->logsnr);
            stages->guided =
                sid2_config_guides(config) && stages->logsnr >= guide.low && stages->logsnr <= guide.high;
            stages->w =
                stages->guided
                    ? guidances[config->sample_guidance_rule].weight(config->sample_guidance, &i, stages)
                    : 1;
            for (int b = SID2_MAX_HISTORY - 1; b > 0; b--) i.before[b] = i.before[b - 1];
            i.before[0] = stages->logsnr;
            if (i.known < SID2_MAX_HISTORY) i.known++;
        }
    }
}
