/* What a model knows of pictures, by noise level: the variational bound in bits a dimension, and its parts.
 *
 * The bound on -log2 p(x) / dimensions is prior + the bands + pixel. A band is (1 / 2 ln 2) ∫ e^λ mean|x - x̂|² dλ over its
 * logSNRs λ; prior is what little of the picture is left in the noise at λ = -10; pixel is what it takes to tell the
 * 256 values apart at λ = 10. The range and its bands are the same for every model, whatever its schedule and loss. Where
 * the model has classes, it is told them. */
#ifndef SID2_BITS_H
#define SID2_BITS_H

#include "folder.h"
#include "schedule.h"

enum { SID2_BANDS = SID2_LOGSNR_BINS }; /* of width 2 from -10 to 10, as those of stats.jsonl */

typedef struct sid2_bits {
    int images;
    double mse[SID2_BANDS]; /* mean|x - x̂|² at its noise levels */
    double band[SID2_BANDS];
    double prior, pixel, total;
    double
        deviation; /* of the total, from picture to picture, of its mean: standard error; NaN for one picture */
} sid2_bits;

/* Each band is measured at `levels` noise levels, in its middle, or
 * evenly spread; the noise of a picture is the same for every model. callback: as of sid2_heldout_measure. */
bool sid2_bits_measure(sid2_bits *bits, const sid2_heldout *pictures, sid2_evaluator *evaluator, int levels,
                       sid2_heldout_callback callback, void *user, sid2_error *err);
/* What the errors come to as a loss, by band: 1/2 ∫ w e^λ mean|x - x̂|² dλ in the weighting of a schedule. Their sum is
 * the training loss of that schedule, up to noise levels past its ends. */
void sid2_bits_loss(const sid2_bits *bits, const sid2_schedule *schedule, double band[SID2_BANDS]);
double sid2_band_logsnr(int band); /* its middle */

#endif
