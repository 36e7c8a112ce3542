/* Training, step by step: the caller brings the images. */
#ifndef SID2_TRAIN_H
#define SID2_TRAIN_H

#include <sid2/classes.h>
#include <sid2/config.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct sid2_trainer sid2_trainer;

/* What a step came to. */
typedef struct sid2_train_stats {
    uint64_t step;    /* completed steps */
    uint64_t images;  /* images seen */
    double loss;      /* mean over the global batch, of this step */
    double grad_norm; /* before clipping */
    double learning_rate;
    const float *sample_loss;   /* [train.batch], of each image or clip; valid until the next step, */
    const float *sample_logsnr; /* as is the noise level at which it was taken */
    bool skipped;               /* the norm is not finite, so nothing changed; see train.skip_bad_steps */
} sid2_train_stats;

/* Bytes on the device, as planned and held. */
typedef struct sid2_memory_report {
    size_t state, arena, workspace; /* weights and all that belongs to them; activations; the device's own */
    int microbatch;                 /* images at a time, of each lane that is computed */
    int recomputed_segments, segments; /* blocks that are computed twice, of how many */
    int lanes, workers, cores; /* lanes of a batch; how many are computed at the same time; cores of each */
    size_t
        wish; /* bytes that a lane on every core would take, where there are fewer for want of memory; else 0 */
    int own; /* lanes that this process computes, where several train together; else all */
} sid2_memory_report;

/* Builds the step for `device`, which must outlive it; `config` is copied. memory: limit in bytes on everything the
 * trainer holds there (0: none); the micro-batch shrinks and blocks are recomputed until the plan fits, or the error
 * says what would. Fresh weights from train.seed. USAGE: the configuration contradicts itself; MEMORY; UNSUPPORTED: the
 * device lacks an operator in train.precision; DEVICE. */
SID2_API sid2_trainer *sid2_trainer_create(sid2_device *device, const sid2_config *config, size_t memory,
                                           sid2_error *err);
SID2_API void sid2_trainer_destroy(sid2_trainer *trainer);
/* One optimizer step on train.batch images, the next in the data order's sequence. pixels: [train.batch, height,
 * width, channels], of clips model.frames such images each; labels: [train.batch], -1 for none; NULL: all -1. A model without classes looks at none. USAGE:
 * a label outside the classes. DEVICE: a loss or gradient that is not finite, or that train.verify_every found to
 * differ, named; no weight, moment or average has changed then, and the trainer wants a resume, unless
 * train.skip_bad_steps steps over it. */
SID2_API bool sid2_trainer_step(sid2_trainer *trainer, const uint8_t *pixels, const int32_t *labels,
                                sid2_error *err);
/* Of the last step; NULL before the first. Valid until the next. */
SID2_API const sid2_train_stats *sid2_trainer_stats(const sid2_trainer *trainer);
/* Writes / restores everything (weights, Adam, EMA, step): resuming is bit-identical, on any number of threads up to that
 * of lanes. A restored training goes on with the lanes and the micro-batch that it had, unless the configuration gives
 * others or `memory` does not hold them. `directory`
 * appears whole or not at all, and is read back. IO: the system refused; FORMAT: damaged, or another model's; USAGE: saving
 * after a step that failed. */
SID2_API bool sid2_trainer_save(sid2_trainer *trainer, const char *directory, sid2_error *err);
SID2_API bool sid2_trainer_resume(sid2_trainer *trainer, const char *directory, sid2_error *err);
/* Fresh optimizer state around the EMA weights of a checkpoint (fine-tuning, also from /4 to /2: embed and
 * head of another patch size start fresh). Where distill.k asks for a student, all its networks begin so, and the teacher
 * stays. */
SID2_API bool sid2_trainer_warm_start(sid2_trainer *trainer, const char *directory, sid2_error *err);
/* What the labels are called, for the checkpoints from now on; copied. Until then those of the checkpoint that was
 * resumed, else none. USAGE: more names than classes. */
SID2_API bool sid2_trainer_name_classes(sid2_trainer *trainer, const sid2_classes *classes, sid2_error *err);
SID2_API uint64_t sid2_trainer_steps(const sid2_trainer *trainer);
SID2_API uint64_t sid2_trainer_images(const sid2_trainer *trainer);
/* What it holds on its device. Valid until the trainer is destroyed. */
SID2_API const sid2_memory_report *sid2_trainer_memory(sid2_trainer *trainer);

#ifdef __cplusplus
}
#endif

#endif
