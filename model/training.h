/* The two graphs of training: the loss and its gradient of one micro-batch, and the optimizer's update. */
#ifndef SID2_TRAINING_H
#define SID2_TRAINING_H

#include <sid2/train.h>

#include "graph.h"
#include "uvit.h"

/* Externals of the first (N = micro-batch):
 *   pixels u8 [N,S,S,c] · label i32 [N] · time, alpha, sigma, weight f32 [N] · samples u32 [N,2] · seed u32 [2]
 *   dloss f32 [N], 1 / train.batch · loss f32 [N] · weights, weights_low, grads */
typedef struct sid2_training {
    sid2_graph *step;
    int microbatch, recomputed, segments;
    size_t arena; /* bytes of the step's activations */
    size_t state; /* bytes of weights, gradients, Adam, EMA, and what goes in and out */
} sid2_training;

/* Chooses the micro-batch, and which blocks to recompute, so that state + arena <= memory (0: no limit);
 * where nothing fits, what needs least. `alignment` is the device's. Destroy training->step after use. */
bool sid2_training_plan(const sid2_config *config, size_t memory, size_t alignment, sid2_training *training,
                        sid2_error *err);

/* Whether a training keeps the limit (0: none); the error tells how much would do. */
bool sid2_training_fits(const sid2_memory_report *need, size_t memory, sid2_error *err);

/* Externals: weights, weights_low, grads, m, v, ema f32 [elements] · hyper f32 [8] · norm f32 [1]. */
sid2_graph *sid2_update_graph(sid2_dtype compute, int64_t elements, sid2_error *err);

#endif
