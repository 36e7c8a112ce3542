/* The plan of a training: graphs of its objectives, micro-batch, and what to compute twice, within a limit. */
#ifndef SID2_TRAINING_H
#define SID2_TRAINING_H

#include <sid2/train.h>

#include "objective.h"

typedef struct sid2_training {
    sid2_graph *graph[SID2_MAX_OBJECTIVES];
    int graph_count;
    int microbatch, recomputed, segments;
    size_t arena; /* bytes of activations, of the graph that needs most */
    size_t state; /* bytes of weights, gradients, moments, averages, and what goes in and out */
} sid2_training;

/* Chooses the micro-batch, and which blocks to recompute, so that state + arena <= memory (0: no limit);
 * where nothing fits, what needs least. `alignment` is the device's. To be cleared after use. */
bool sid2_training_plan(const sid2_config *config, const sid2_recipe *recipe, size_t memory, size_t alignment,
                        sid2_training *training, sid2_error *err);
void sid2_training_clear(sid2_training *training);

/* Whether a training keeps the limit (0: none); the error tells how much would do. */
bool sid2_training_fits(const sid2_memory_report *need, size_t memory, sid2_error *err);

#endif
