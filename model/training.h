/* The plan of a training: graphs of its objectives, lanes, micro-batch, how many cores work on what, and what is computed
 * twice, within a limit. */
#ifndef SID2_TRAINING_H
#define SID2_TRAINING_H

#include <sid2/train.h>

#include "objective.h"

/* Where a training is to run. */
typedef struct sid2_training_site {
    size_t alignment; /* of tensors, the device's */
    int cores;        /* that lanes can be laid on, at least 1 */
    int ranks;        /* that train together, each with as many lanes; 0 as 1 */
    bool gpu;         /* one piece, on which a lane more is a launch more */
    bool rebinds;     /* programs can be given other buffers */
    bool fill;        /* memory of its own, there to be filled with images: a GPU's */
    int arena;        /* MiB of activations that an automatic micro-batch aims at */
    size_t memory;    /* limit in bytes on all that the training holds; 0: none */
    size_t room;      /* bytes beyond which fewer lanes are computed at once; 0: none */
} sid2_training_site;

/* Of a device (or, NULL, of one core), with the limit that is asked for; the alignment is the CPU's. */
sid2_training_site sid2_training_site_of(const sid2_device_info *device, size_t memory);

/* A step is so many lanes of images, and a lane so many micro-batches. Lanes are computed at the same time by workers;
 * each has some of the cores, and an arena of its own. */
typedef struct sid2_training {
    sid2_graph *graph[SID2_MAX_OBJECTIVES]; /* of a micro-batch */
    int graph_count;
    int lanes, microbatch, recomputed, segments;
    int own;            /* lanes of each rank */
    int workers, cores; /* of each worker */
    int sums;      /* buffers of gradients beside the states' own: lanes' that have not met yet, or zeros */
    size_t sum;    /* bytes of one */
    size_t arena;  /* bytes of activations of a worker, of the graph that needs most */
    size_t told;   /* bytes of a worker for what goes in and out */
    size_t beside; /* bytes of a snapshot (snapshot.h), where it takes the device's own memory */
    size_t params; /* bytes of weights, gradients, and of a rank's part of moments and averages */
    size_t
        wish; /* bytes that a lane on every core would take, where there are fewer for want of memory; else 0 */
} sid2_training;

/* Bytes, as planned: what belongs to the weights, gradients of lanes among it, and what goes in and out; activations. */
size_t sid2_training_state(const sid2_training *training);
size_t sid2_training_arena(const sid2_training *training);

/* Lanes and micro-batch follow from the configuration, and so do a training's bits; but there are no fewer lanes than ranks.
 * USAGE: the configuration's cannot be dealt to the ranks. Then as many lanes are computed at
 * once as memory holds. Where the limit does not even hold one, the micro-batch shrinks and blocks are recomputed
 * until it does; where nothing fits, the plan is what needs least. To be cleared after use. */
bool sid2_training_plan(const sid2_config *config, const sid2_recipe *recipe, const sid2_training_site *site,
                        sid2_training *training, sid2_error *err);
void sid2_training_clear(sid2_training *training);

/* Whether a training keeps the limit (0: none); the error tells how much would do. */
bool sid2_training_fits(const sid2_memory_report *need, size_t memory, sid2_error *err);

#endif
