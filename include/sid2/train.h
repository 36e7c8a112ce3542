/* Training, step by step: the caller brings the images. */
#ifndef SID2_TRAIN_H
#define SID2_TRAIN_H

#include <sid2/config.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct sid2_trainer sid2_trainer;

typedef struct sid2_train_stats {
    uint64_t step;    /* completed steps */
    uint64_t images;  /* images seen */
    double loss;      /* mean over the global batch, of this step */
    double grad_norm; /* before clipping */
    double learning_rate;
    const float *sample_loss; /* per image of the batch, and its logSNR; valid until the next step */
    const float *sample_logsnr;
} sid2_train_stats;

/* Builds the step for `device`. memory: limit in bytes on everything the trainer holds there (0: none); the
 * micro-batch shrinks and blocks are recomputed until the plan fits, or the error says what would. Fresh
 * weights from train.seed. */
SID2_API sid2_trainer *sid2_trainer_create(sid2_device *device, const sid2_config *config, size_t memory,
                                           sid2_error *err);
SID2_API void sid2_trainer_destroy(sid2_trainer *trainer);
/* One optimizer step on train.batch images in the data order's sequence; label -1 means none. A model without
 * classes looks at no label. */
SID2_API bool sid2_trainer_step(sid2_trainer *trainer, const uint8_t *pixels, const int32_t *labels,
                                sid2_train_stats *stats, sid2_error *err);
/* Writes / restores everything (weights, Adam, EMA, step): resuming is bit-identical. `directory` appears
 * whole or not at all. */
SID2_API bool sid2_trainer_save(sid2_trainer *trainer, const char *directory, sid2_error *err);
SID2_API bool sid2_trainer_resume(sid2_trainer *trainer, const char *directory, sid2_error *err);
/* Fresh optimizer state around the EMA weights of a checkpoint (fine-tuning, also from /4 to /2: embed and
 * head of another patch size start fresh). */
SID2_API bool sid2_trainer_warm_start(sid2_trainer *trainer, const char *directory, sid2_error *err);
SID2_API uint64_t sid2_trainer_steps(const sid2_trainer *trainer);
SID2_API uint64_t sid2_trainer_images(const sid2_trainer *trainer);
typedef struct sid2_memory_report {
    size_t state, arena, workspace;
    int microbatch, recomputed_segments, segments;
} sid2_memory_report;
SID2_API sid2_memory_report sid2_trainer_memory(const sid2_trainer *trainer);

#ifdef __cplusplus
}
#endif

#endif
