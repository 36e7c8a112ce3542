/* sid2: the library's public face. Train a SiD2 model, keep it, sample from it.
 *
 *     config ─► trainer ─► checkpoint ─► sampler
 *
 * Handles are opaque and independent; one handle is used from one thread at a time. Nothing here prints,
 * exits or keeps global state. Functions that fail return false or NULL and fill `err` with one line.
 * Images are uint8 NHWC, image_size² x image_channels, as in the configuration. */
#ifndef SID2_H
#define SID2_H

#include "device.h"

/* ---- Configuration ----
 * Every choice is a key, `section.name = value`, listed in model/config.def with its default. */
typedef struct sid2_config sid2_config;

sid2_config *sid2_config_create(void); /* all defaults */
sid2_config *sid2_config_clone(const sid2_config *config);
void sid2_config_destroy(sid2_config *config);
/* A built-in preset by name, or a file by path. Unknown names list what there is. */
bool sid2_config_preset(sid2_config *config, const char *name_or_path, sid2_error *err);
bool sid2_config_load(sid2_config *config, const char *path, sid2_error *err);
bool sid2_config_set(sid2_config *config, const char *assignment, sid2_error *err); /* "key=value" */
/* Whether sid2_config_set has given the key; what files and presets say does not count. */
bool sid2_config_is_set(const sid2_config *config, const char *key);
/* Whether what other keys say lets this one matter: sample.gamma and sample.rho do for some samplers and grids. */
bool sid2_config_uses(const sid2_config *config, const char *key);
bool sid2_config_get(const sid2_config *config, const char *key, char *value, size_t size, sid2_error *err);
bool sid2_config_save(const sid2_config *config, const char *path, sid2_error *err);
/* Checks the keys against each other (divisibility, list lengths); every entry point below does so too. */
bool sid2_config_check(const sid2_config *config, sid2_error *err);
/* Settles what depends on the device. A precision that is auto becomes the one the device is fastest in (for
 * training, of bf16 and f32), and so does one to sample in that the device does not have. */
void sid2_config_settle_train(sid2_config *config, const sid2_device *device);
void sid2_config_settle_sample(sid2_config *config, const sid2_device *device);
/* All keys in order, for --help and documents; false past the last. */
typedef struct sid2_config_key {
    const char *name, *default_value, *help, *accepts;
} sid2_config_key;
bool sid2_config_key_at(int index, sid2_config_key *key);
/* The words of keys whose words need an explanation, key by key; false past the last. */
typedef struct sid2_config_word {
    const char *key, *word, *help;
} sid2_config_word;
bool sid2_config_word_at(int index, sid2_config_word *word);
const char *sid2_preset_name(int index); /* NULL past the last */

int sid2_config_image_size(const sid2_config *config);
int sid2_config_image_channels(const sid2_config *config);
int sid2_config_classes(const sid2_config *config);

/* ---- Facts about a model, without running it ---- */
typedef struct sid2_layer {
    char name[48];     /* "down.1", "mid", "head" */
    char kind[24];     /* "Res x 3", "Transformer x 16" */
    sid2_shape output; /* of one image */
    int64_t parameters;
    double multiply_adds; /* of one image */
} sid2_layer;

typedef struct sid2_model_info {
    sid2_layer *layers;
    int layer_count;
    int64_t parameters;
    double multiply_adds;       /* one forward pass of one image, everything counted */
    double block_multiply_adds; /* the blocks only: the figure that papers publish */
    size_t train_state_bytes;   /* weights, gradients, Adam, EMA */
    size_t train_arena_bytes;   /* activations of one micro-batch */
    int train_microbatch;
    int recomputed_segments, segments;
    size_t sample_state_bytes, sample_arena_bytes; /* at sample.batch */
} sid2_model_info;

/* `memory`: a limit in bytes as for the trainer, or 0. Free with sid2_model_info_clear. */
bool sid2_model_describe(const sid2_config *config, size_t memory, sid2_model_info *info, sid2_error *err);
void sid2_model_info_clear(sid2_model_info *info);

/* ---- Training ---- */
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
sid2_trainer *sid2_trainer_create(sid2_device *device, const sid2_config *config, size_t memory,
                                  sid2_error *err);
void sid2_trainer_destroy(sid2_trainer *trainer);
/* One optimizer step on train.batch images in the data order's sequence; label -1 means none. A model without
 * classes looks at no label. */
bool sid2_trainer_step(sid2_trainer *trainer, const uint8_t *pixels, const int32_t *labels,
                       sid2_train_stats *stats, sid2_error *err);
/* Writes / restores everything (weights, Adam, EMA, step): resuming is bit-identical. `directory` appears
 * whole or not at all. */
bool sid2_trainer_save(sid2_trainer *trainer, const char *directory, sid2_error *err);
bool sid2_trainer_resume(sid2_trainer *trainer, const char *directory, sid2_error *err);
/* Fresh optimizer state around the EMA weights of a checkpoint (fine-tuning, also from /4 to /2: embed and
 * head of another patch size start fresh). */
bool sid2_trainer_warm_start(sid2_trainer *trainer, const char *directory, sid2_error *err);
uint64_t sid2_trainer_steps(const sid2_trainer *trainer);
uint64_t sid2_trainer_images(const sid2_trainer *trainer);
/* Unweighted errors of the EMA weights on given images at one logSNR: mean |x-xhat|^2 and mean
 * |eps-epshat|^2, and the training loss there. `first_sample` keys the noise. */
typedef struct sid2_eval_point {
    double logsnr, x_mse, eps_mse, v_mse, weighted;
} sid2_eval_point;
typedef struct sid2_memory_report {
    size_t state, arena, workspace;
    int microbatch, recomputed_segments, segments;
} sid2_memory_report;
sid2_memory_report sid2_trainer_memory(const sid2_trainer *trainer);
/* The program of one micro-batch and its graph, to be measured (sid2 bench). Both stay the trainer's. */
sid2_program *sid2_trainer_program(sid2_trainer *trainer, const sid2_graph **graph);

/* ---- Sampling ---- */
typedef struct sid2_sampler sid2_sampler;

/* Where the sample.* keys of the configuration give steps, sampler, guidance, interval, batch. */
sid2_sampler *sid2_sampler_create(sid2_device *device, const sid2_config *config, size_t memory,
                                  sid2_error *err);
void sid2_sampler_destroy(sid2_sampler *sampler);
/* Loads EMA weights (or the raw ones) of a checkpoint directory. */
bool sid2_sampler_load(sid2_sampler *sampler, const char *directory, bool ema, sid2_error *err);
/* Takes the EMA weights straight from a trainer on the same device. */
bool sid2_sampler_load_trainer(sid2_sampler *sampler, sid2_trainer *trainer, sid2_error *err);

typedef struct sid2_sample_progress {
    int step, steps;          /* of the current batch */
    int images, total;        /* finished, asked for */
    int64_t evaluations;      /* network passes over one image so far */
    int64_t full_evaluations; /* what guidance at every step would have cost */
} sid2_sample_progress;
typedef bool (*sid2_sample_callback)(void *user, const sid2_sample_progress *progress); /* false: stop */

/* `count` images, image i from seeds[i] with labels[i] (-1: drawn from the seed, written back). The result
 * does not depend on sample.batch. pixels: count x H x W x C. */
bool sid2_sampler_run(sid2_sampler *sampler, const uint64_t *seeds, int32_t *labels, int count,
                      uint8_t *pixels, sid2_sample_callback callback, void *user, sid2_error *err);
/* Errors of the loaded weights on given images at one noise level (see sid2_eval_point). */
bool sid2_sampler_evaluate(sid2_sampler *sampler, const uint8_t *pixels, const int32_t *labels, int count,
                           double t, uint64_t first_sample, sid2_eval_point *point, sid2_error *err);

/* The program of one step without guidance and its graph, to be measured (sid2 bench). Both stay the
 * sampler's. */
sid2_program *sid2_sampler_program(sid2_sampler *sampler, const sid2_graph **graph);

/* ---- Checkpoints ---- */
/* A checkpoint is a directory: config.ini, ema.safetensors, and for resuming weights.safetensors,
 * optimizer.safetensors, state.json. `path` may be that directory or a run, whose newest complete checkpoint
 * is taken. `found` has room for `size` bytes. */
bool sid2_checkpoint_find(const char *path, char *found, size_t size, sid2_error *err);
bool sid2_checkpoint_config(const char *directory, sid2_config *config, sid2_error *err);
/* What sampling needs, to give away: config.ini and the EMA weights, as f32, bf16 or f16. `to` must not
 * exist; it appears whole or not at all. */
bool sid2_checkpoint_export(const char *directory, const char *to, sid2_dtype dtype, sid2_error *err);
/* 32 hexadecimal digits over names, types, shapes and bytes of the EMA weights. */
bool sid2_checkpoint_digest(const char *directory, char digest[33], sid2_error *err);

#endif
