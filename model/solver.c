/* The samplers' coefficients, in double. Formulas: docs/model.md. */
#include "solver.h"

#include <math.h>

/* Ancestral step: the posterior's mean, and a variance between its lower and upper bound. */
static void ddpm(sid2_solver_step *step, double from, double to, double gamma)
{
    double c = -expm1(from - to); /* 1 - e^(from - to): the share of the step that is new */
    step->z = exp(0.5 * (sid2_log_sigmoid(to) - sid2_log_sigmoid(from)) + from - to);
    step->x = sid2_alpha(to) * c;
    double log_variance = log(c) + gamma * sid2_log_sigmoid(-from) + (1 - gamma) * sid2_log_sigmoid(-to);
    step->noise = exp(0.5 * log_variance);
}

/* Keeps the noise that z holds, at its new level. */
static void ddim(sid2_solver_step *step, double from, double to)
{
    step->z = sid2_sigma(to) / sid2_sigma(from);
    step->x = sid2_alpha(to) - sid2_alpha(from) * step->z;
}

/* DDIM on xhat extrapolated by its last change: second order in log(alpha/sigma) = logsnr / 2. */
static void dpm2m(sid2_solver_step *step, double before, double from, double to)
{
    ddim(step, from, to);
    double half_ratio = 0.5 * (to - from) / (from - before);
    step->prev = -step->x * half_ratio;
    step->x *= 1 + half_ratio;
}

void sid2_solver_plan(const sid2_schedule *schedule, const sid2_config *config, sid2_solver_step *steps)
{
    int64_t count = config->sample_steps;
    sid2_config_INTERVAL interval = config->sample_interval;
    double before = 0;
    for (int64_t i = 0; i < count; i++) {
        sid2_solver_step step = {.t = (double)(count - i) / (double)count,
                                 .s = (double)(count - i - 1) / (double)count};
        double from = step.logsnr = sid2_schedule_logsnr(schedule, step.t),
               to = sid2_schedule_logsnr(schedule, step.s);
        step.alpha = sid2_alpha(from);
        step.sigma = sid2_sigma(from);
        step.guided = config->sample_guidance != 1 && from >= interval.low && from <= interval.high;
        step.w = step.guided ? config->sample_guidance : 1;
        if (i == count - 1)
            step.x = 1;
        else if (config->sample_sampler == SID2_SAMPLER_DDPM)
            ddpm(&step, from, to, config->sample_gamma);
        else if (config->sample_sampler == SID2_SAMPLER_DDIM || i == 0)
            ddim(&step, from, to);
        else
            dpm2m(&step, before, from, to);
        before = from;
        steps[i] = step;
    }
}
