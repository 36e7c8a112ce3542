/* Sampling: from seeds to images, or clips. A seed is an image, whatever the batch and the device. And evaluation: how far off
 * the network is on given images. */
#ifndef SID2_SAMPLE_H
#define SID2_SAMPLE_H

#include <sid2/train.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct sid2_sampler sid2_sampler;

/* Where the sample.* keys of the configuration give steps, sampler, guidance, interval, batch. memory: limit in bytes on
 * everything that it holds on the device (0: none); the batch shrinks until that fits, or the error says what one
 * image would need. */
SID2_API sid2_sampler *sid2_sampler_create(sid2_device *device, const sid2_config *config, size_t memory,
                                           sid2_error *err);
/* The same, guided by another network ("autoguidance": a smaller one, or one that was trained less; arXiv 2406.02507) in
 * place of its own without a class: x̂ = x̂_guide + sample.guidance (x̂ - x̂_guide), or as sample.guidance_rule says. `guide`
 * is its configuration, of which the sample.* keys mean nothing. It must make images of that size, and know those classes
 * or none. */
SID2_API sid2_sampler *sid2_sampler_create_guided(sid2_device *device, const sid2_config *config,
                                                  const sid2_config *guide, size_t memory, sid2_error *err);
SID2_API void sid2_sampler_destroy(sid2_sampler *sampler);
/* Loads EMA weights (or the raw ones) of a checkpoint directory. */
SID2_API bool sid2_sampler_load(sid2_sampler *sampler, const char *directory, bool ema, sid2_error *err);
/* The same for the network that guides. */
SID2_API bool sid2_sampler_load_guide(sid2_sampler *sampler, const char *directory, bool ema,
                                      sid2_error *err);
/* Takes the EMA weights straight from a trainer on the same device. */
SID2_API bool sid2_sampler_load_trainer(sid2_sampler *sampler, sid2_trainer *trainer, sid2_error *err);

typedef struct sid2_sample_progress {
    int step, steps;      /* of the current batch; a step may be told of once an evaluation */
    int images, total;    /* finished, asked for */
    int64_t evaluations;  /* of the network, for one image, so far */
    int64_t guided;       /* those of them for which a guide was asked too */
    double multiply_adds; /* so far, a guide's among them */
    double unguided_adds; /* what they would have been without one */
    int first, batch;     /* the images in work: first .. first + batch - 1 */
} sid2_sample_progress;
typedef bool (*sid2_sample_callback)(void *user, const sid2_sample_progress *progress); /* false: stop */

/* `count` images, image i from seeds[i] with labels[i] (-1: drawn from the seed, written back; where the model has
 * no classes all become -1). The result does not depend on sample.batch. pixels: count x H x W x C, F images each where
 * model.frames = F. An image that is not finite is an error (SID2_ERR_DEVICE) that names the step; images of its batch
 * and after are not written. */
SID2_API bool sid2_sampler_run(sid2_sampler *sampler, const uint64_t *seeds, int32_t *labels, int count,
                               uint8_t *pixels, sid2_sample_callback callback, void *user, sid2_error *err);

/* Clips, of a model with model.frames = F > 1 (images are clips of one frame): clip i, `frames` long, from seeds[i] with
 * labels[i]. `given`: what they begin with, count x model.given x H x W x C, or NULL: they begin with nothing. Given frames
 * count among `frames` and come back as they were. Past F the model goes on from the last model.given frames that it has
 * made, F - model.given more at a time. pixels: count x frames x H x W x C, in order. As sid2_sampler_run for all else, which
 * is this with nothing given and F frames; steps of the progress are those of all goes. USAGE: frames < 1, or given or more
 * than F of a model with model.given = 0. */
SID2_API bool sid2_sampler_run_clips(sid2_sampler *sampler, const uint64_t *seeds, int32_t *labels, int count,
                                     const uint8_t *given, int frames, uint8_t *pixels,
                                     sid2_sample_callback callback, void *user, sid2_error *err);

/* From within the callback, the images in work as they stand after that step, noise and all; after the last one, as they
 * will be; of clips, the F frames in work. pixels: progress->batch x F x H x W x C. Changes nothing of what is sampled.
 * USAGE: no callback is being called. */
SID2_API bool sid2_sampler_preview(sid2_sampler *sampler, uint8_t *pixels, sid2_error *err);

/* ---- Evaluation ---- */
typedef struct sid2_evaluator sid2_evaluator;

/* At most sample.batch images at a time, as many as `memory` (bytes, 0: no limit) allows. */
SID2_API sid2_evaluator *sid2_evaluator_create(sid2_device *device, const sid2_config *config, size_t memory,
                                               sid2_error *err);
SID2_API void sid2_evaluator_destroy(sid2_evaluator *evaluator);
/* As those of a sampler. */
SID2_API bool sid2_evaluator_load(sid2_evaluator *evaluator, const char *directory, bool ema,
                                  sid2_error *err);
SID2_API bool sid2_evaluator_load_trainer(sid2_evaluator *evaluator, sid2_trainer *trainer, sid2_error *err);
/* Unweighted errors at one logSNR, means over images and elements: |x-xhat|^2, |eps-epshat|^2 and |v-vhat|^2, and the
 * training loss there. */
typedef struct sid2_eval_point {
    double logsnr, x_mse, eps_mse, v_mse, weighted;
} sid2_eval_point;
/* Of the loaded weights on `count` images, at the noise level of time t in [0,1]; pixels, labels as of
 * sid2_trainer_step. `first_sample` keys the noise. USAGE: nothing is loaded, or no images; DEVICE: an error that is not
 * finite, with its image. */
SID2_API bool sid2_evaluator_run(sid2_evaluator *evaluator, const uint8_t *pixels, const int32_t *labels,
                                 int count, double t, uint64_t first_sample, sid2_error *err);
/* The same at a logSNR, which compares models of different schedules. Past the ends of its own a network is told of the
 * nearest noise level that it knows. */
SID2_API bool sid2_evaluator_run_at(sid2_evaluator *evaluator, const uint8_t *pixels, const int32_t *labels,
                                    int count, double logsnr, uint64_t first_sample, sid2_error *err);
/* What the last call found. Valid until the next. */
SID2_API const sid2_eval_point *sid2_evaluator_point(const sid2_evaluator *evaluator);

#ifdef __cplusplus
}
#endif

#endif
