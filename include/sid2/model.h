/* Facts about a model, without running it. */
#ifndef SID2_MODEL_H
#define SID2_MODEL_H

#include <sid2/config.h>
#include <sid2/device.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct sid2_layer {
    char name[48];     /* "down.1", "mid", "head" */
    char kind[24];     /* "Res x 3", "Transformer x 16" */
    sid2_shape output; /* of one image */
    int64_t parameters;
    double multiply_adds; /* of one image */
} sid2_layer;

typedef struct sid2_model_info {
    const sid2_layer *const *layers; /* from the image to the image */
    int layer_count;
    int64_t parameters;
    double multiply_adds;       /* one forward pass of one image, everything counted */
    double block_multiply_adds; /* the blocks only: the figure that papers publish */
    size_t train_state_bytes;   /* weights, gradients, Adam, EMA */
    size_t train_arena_bytes;   /* activations, of all lanes that are computed at the same time */
    int train_microbatch;
    int recomputed_segments, segments;
    size_t sample_state_bytes, sample_arena_bytes; /* at sample.batch */
    int train_lanes, train_workers, train_cores;   /* of a batch; computed at the same time; cores of each */
    int sample_images, sample_parts;               /* of a part of a batch; of a batch */
    int sample_workers, sample_cores;              /* parts at the same time; cores of each */
    size_t train_wish_bytes; /* of a lane on every core, where there are fewer for want of memory; else 0 */
} sid2_model_info;

/* What training takes on a `device` (NULL: on one core), within `memory`, a limit in bytes as for the trainer, or 0;
 * MEMORY where nothing fits. */
SID2_API sid2_model_info *sid2_model_describe(const sid2_config *config, const sid2_device_info *device,
                                              size_t memory, sid2_error *err);
SID2_API void sid2_model_info_destroy(sid2_model_info *info); /* NULL is fine */

#ifdef __cplusplus
}
#endif

#endif
