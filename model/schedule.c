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

/* ---- The rows of schedules.def: what is added to the cosine's logSNR ---- */

static void interpolated(sid2_schedule *s, const sid2_config *config, double size)
{
    double high = config->schedule_high ? (double)config->schedule_high : fmin(size, 512);
    s->shift_clean = 2 * log(high / size);
    s->shift_noise = 2 * log((double)config->schedule_low / size);
}

static void shifted(sid2_schedule *s, const sid2_config *config, double size)
{
    s->shift_clean = s->shift_noise = 2 * log((double)config->schedule_reference / size);
}

static void cosine(sid2_schedule *s, const sid2_config *config, double size)
{
    (void)config, (void)size;
    s->shift_clean = s->shift_noise = 0;
}

static void (*const shifts[])(sid2_schedule *s, const sid2_config *config, double size) = {
#define SCHEDULE(word, help) word,
#include "schedules.def"
};

sid2_schedule sid2_schedule_create(const sid2_config *config)
{
    double size = sid2_config_image_side(config);
    sid2_schedule s = {
        .weighting = config->loss_weighting, .edm_shift = -2 * log(64 / size), .edm_peak = edm_peak()};
    s.bias = isnan(config->loss_bias) ? auto_bias(size) : config->loss_bias;
    s.b = atan(exp(-config->schedule_logsnr_max / 2));
    s.a = atan(exp(-config->schedule_logsnr_min / 2)) - s.b;
    shifts[config->schedule_kind](&s, config, size);
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

/* ---- The rows of weightings.def ---- */

static double sigmoid(const sid2_schedule *s, double logsnr)
{
    return exp(sid2_log_sigmoid(s->bias - logsnr));
}

static double elbo(const sid2_schedule *s, double logsnr) { return (void)s, (void)logsnr, 1; }

static double edm_weight(double shifted_logsnr)
{
    return exp(edm_log_weight(shifted_logsnr)) / (2.4 * sqrt(2 * acos(-1)));
}

static double edm(const sid2_schedule *s, double logsnr) { return edm_weight(logsnr + s->edm_shift); }

static double edm_monotonic(const sid2_schedule *s, double logsnr)
{
    return edm_weight(fmax(logsnr + s->edm_shift, s->edm_peak));
}

static double v_cosine(const sid2_schedule *s, double logsnr) { return (void)s, exp(-logsnr / 2); }

/* The next two are errors averaged over the times of the cosine schedule, whose density of logsnr is ∝
 * sech(logsnr/2). */
static double sech_of_half(double logsnr) { return 2 * (1 / (exp(logsnr / 2) + exp(-logsnr / 2))); }

static double snr_truncated(const sid2_schedule *s, double logsnr)
{
    return (void)s, sech_of_half(logsnr) * fmax(exp(-logsnr), 1);
}

static double min_snr(const sid2_schedule *s, double logsnr)
{
    return (void)s, sech_of_half(logsnr) * fmin(1, 5 * exp(-logsnr));
}

static double (*const weightings[])(const sid2_schedule *s, double logsnr) = {
#define WEIGHTING(word, help) word,
#include "weightings.def"
};

double sid2_loss_weighting(const sid2_schedule *s, double logsnr)
{
    return weightings[s->weighting](s, logsnr);
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
