/* The noise schedules, the loss weightings, and the draw of times. */
#include "schedule.h"

#include <math.h>

#include "philox.h"

double sid2_log_sigmoid(double x) { return x < 0 ? x - log1p(exp(x)) : -log1p(exp(-x)); }
double sid2_alpha(double logsnr) { return exp(0.5 * sid2_log_sigmoid(logsnr)); }
double sid2_sigma(double logsnr) { return exp(0.5 * sid2_log_sigmoid(-logsnr)); }

/* log of N(x; 2.4, 2.4²) (e^-x + 0.25), up to a constant. */
static double edm_log_weight(double x)
{
    double d = (x - 2.4) / 2.4;
    return -0.5 * d * d + log(exp(-x) + 0.25);
}

/* Where EDM's weight is largest. It has one peak, between the centres of its two parts. */
static double edm_peak(void)
{
    double low = -4, high = 2.4;
    for (int i = 0; i < 200; i++) {
        double third = (high - low) / 3;
        if (edm_log_weight(low + third) < edm_log_weight(high - third))
            low += third;
        else
            high -= third;
    }
    return 0.5 * (low + high);
}

/* The bias that published runs use at 64 .. 1024 pixels, linear in log2 between; 2.5 at 32 and below. */
static double auto_bias(double image_size)
{
    static const double by_size[] = {2.5, 2, 0, -1, -3, -4};
    double place = log2(image_size / 32);
    if (place <= 0) return by_size[0];
    if (place >= 5) return by_size[5];
    int i = (int)place;
    return by_size[i] + (place - i) * (by_size[i + 1] - by_size[i]);
}

sid2_schedule sid2_schedule_create(const sid2_config *config)
{
    double size = (double)config->model_image_size;
    sid2_schedule s = {
        .weighting = config->loss_weighting, .edm_shift = -2 * log(64 / size), .edm_peak = edm_peak()};
    s.bias = isnan(config->loss_bias) ? auto_bias(size) : config->loss_bias;
    s.b = atan(exp(-config->schedule_logsnr_max / 2));
    s.a = atan(exp(-config->schedule_logsnr_min / 2)) - s.b;
    if (config->schedule_kind == SID2_SCHEDULE_SHIFTED) {
        s.shift_clean = s.shift_noise = 2 * log((double)config->schedule_reference / size);
    } else if (config->schedule_kind == SID2_SCHEDULE_INTERPOLATED) {
        double high = config->schedule_high ? (double)config->schedule_high : fmin(size, 512);
        s.shift_clean = 2 * log(high / size);
        s.shift_noise = 2 * log((double)config->schedule_low / size);
    }
    s.first = sid2_schedule_logsnr(&s, 0);
    s.last = sid2_schedule_logsnr(&s, 1);
    return s;
}

double sid2_schedule_logsnr(const sid2_schedule *s, double t)
{
    return -2 * log(tan(s->a * t + s->b)) + (1 - t) * s->shift_clean + t * s->shift_noise;
}

double sid2_schedule_slope(const sid2_schedule *s, double t)
{
    return -4 * s->a / sin(2 * (s->a * t + s->b)) + s->shift_noise - s->shift_clean;
}

double sid2_schedule_time(const sid2_schedule *s, double logsnr)
{
    double low = 0, high = 1;
    for (int i = 0; i < 100; i++) {
        double t = 0.5 * (low + high);
        if (sid2_schedule_logsnr(s, t) > logsnr)
            low = t;
        else
            high = t;
    }
    return logsnr >= s->first ? 0 : logsnr <= s->last ? 1 : 0.5 * (low + high);
}

double sid2_schedule_position(const sid2_schedule *s, double logsnr)
{
    return 1000 * (logsnr - s->last) / (s->first - s->last);
}

double sid2_loss_weighting(const sid2_schedule *s, double logsnr)
{
    double shifted = logsnr + s->edm_shift, half_sech = 1 / (exp(logsnr / 2) + exp(-logsnr / 2));
    switch (s->weighting) {
    case SID2_WEIGHTING_ELBO: return 1;
    case SID2_WEIGHTING_EDM_MONOTONIC: shifted = fmax(shifted, s->edm_peak); /* fall through */
    case SID2_WEIGHTING_EDM: return exp(edm_log_weight(shifted)) / (2.4 * sqrt(2 * acos(-1)));
    case SID2_WEIGHTING_V_COSINE: return exp(-logsnr / 2);
    /* These two are errors averaged over the times of the cosine schedule, whose density of logsnr is ∝
     * sech(logsnr/2). */
    case SID2_WEIGHTING_SNR_TRUNCATED: return 2 * half_sech * fmax(exp(-logsnr), 1);
    case SID2_WEIGHTING_MIN_SNR: return 2 * half_sech * fmin(1, 5 * exp(-logsnr));
    default: return exp(sid2_log_sigmoid(s->bias - logsnr));
    }
}

double sid2_loss_weight(const sid2_schedule *s, double t)
{
    double logsnr = sid2_schedule_logsnr(s, t);
    return -0.5 * sid2_schedule_slope(s, t) * sid2_loss_weighting(s, logsnr) * exp(logsnr);
}

double sid2_draw_time(uint64_t seed, uint64_t step, int64_t i, int64_t n)
{
    double t = sid2_uniform(sid2_philox_word(seed, step, SID2_PURPOSE_TIME, 0)) + (double)i / (double)n;
    return t - floor(t);
}
