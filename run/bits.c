#include "bits.h"

#include <math.h>
#include <stdlib.h>

#define LIMIT 10.0 /* logSNR from -LIMIT to LIMIT */
#define WIDTH (2 * LIMIT / SID2_BANDS)

double sid2_band_logsnr(int band) { return -LIMIT + WIDTH * (band + 0.5); }

/* KL of what is left of a picture at the noisy end against noise alone, of a value x in [-1, 1]: nats. */
static double prior_of(double x)
{
    double alpha = sid2_alpha(-LIMIT), sigma = sid2_sigma(-LIMIT), variance = sigma * sigma;
    return 0.5 * (alpha * alpha * x * x + variance - 1 - log(variance));
}

/* -log p(value | z) at the clean end, p ∝ the density of z given each of the 256 values, mean over z: nats. By a sum over
 * the noise, which a value's neighbours within 16 sigma decide. */
static double pixel_of(int value)
{
    enum { POINTS = 200 };
    const double ratio = sid2_alpha(LIMIT) * (2 / 255.0) / sid2_sigma(LIMIT);
    const int reach = (int)ceil(16 / ratio);
    double sum = 0, mass = 0;
    for (int i = 0; i <= POINTS; i++) {
        double noise = -8 + 16.0 * i / POINTS, density = exp(-0.5 * noise * noise), all = 0;
        for (int other = value - reach; other <= value + reach; other++) {
            double d = noise + ratio * (value - other);
            if (other >= 0 && other < 256) all += exp(-0.5 * (d * d - noise * noise));
        }
        sum += density * log(all);
        mass += density;
    }
    return sum / mass;
}

/* What needs no network: the parts at both ends. */
static void measure_ends(sid2_bits *bits, const sid2_heldout *pictures)
{
    double count[256] = {0}, all = (double)pictures->count * (double)pictures->bytes;
    for (size_t i = 0; i < (size_t)pictures->count * pictures->bytes; i++) count[pictures->pixels[i]]++;
    for (int value = 0; value < 256; value++) {
        if (count[value] == 0) continue;
        bits->prior += count[value] / all * prior_of(value / 127.5 - 1) / log(2);
        bits->pixel += count[value] / all * pixel_of(value) / log(2);
    }
}

bool sid2_bits_measure(sid2_bits *bits, const sid2_heldout *pictures, sid2_evaluator *evaluator, int levels,
                       sid2_heldout_callback callback, void *user, sid2_error *err)
{
    enum { CHUNK = 64 }; /* pictures between calls back, whose means give the deviation */
    int chunks = (pictures->count + CHUNK - 1) / CHUNK;
    double *of_chunk = calloc((size_t)chunks + 1, sizeof *of_chunk);
    if (!of_chunk) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory");
    *bits = (sid2_bits){.images = pictures->count, .deviation = NAN};
    bool ok = true;
    for (int i = 0, all = levels * SID2_BANDS; ok && i < all; i++) {
        double logsnr = -LIMIT + 2 * LIMIT * (i + 0.5) / all, width = 2 * LIMIT / all;
        int band = i / levels;
        for (int k = 0; ok && k < chunks; k++) {
            int first = k * CHUNK, count = pictures->count - first < CHUNK ? pictures->count - first : CHUNK;
            ok = sid2_evaluator_run_at(evaluator, pictures->pixels + (size_t)first * pictures->bytes,
                                       pictures->labels + first, count, logsnr, (uint64_t)first, err);
            if (!ok) break;
            double mse = sid2_evaluator_point(evaluator)->x_mse, share = (double)count / pictures->count;
            double part = 0.5 / log(2) * width * exp(logsnr) * mse;
            bits->mse[band] += share * mse / levels;
            bits->band[band] += share * part;
            of_chunk[k] += part;
            if (!callback(user, (i + (double)(first + count) / pictures->count) / all))
                ok = sid2_fail(err, SID2_ERR_CANCELLED, "stopped");
        }
    }
    double sum = 0, squares = 0;
    for (int i = 0; i < SID2_BANDS; i++) sum += bits->band[i];
    for (int k = 0; k < chunks; k++) squares += (of_chunk[k] - sum) * (of_chunk[k] - sum);
    if (chunks > 1) bits->deviation = sqrt(squares / (chunks - 1) / chunks);
    measure_ends(bits, pictures);
    bits->total = sum + bits->prior + bits->pixel;
    free(of_chunk);
    return ok;
}

void sid2_bits_loss(const sid2_bits *bits, const sid2_schedule *schedule, double band[SID2_BANDS])
{
    for (int i = 0; i < SID2_BANDS; i++)
        band[i] = log(2) * bits->band[i] * sid2_loss_weighting(schedule, sid2_band_logsnr(i));
}
