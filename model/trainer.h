/* What the trainer shows to its neighbours in this folder. */
#ifndef SID2_TRAINER_H
#define SID2_TRAINER_H

#include <sid2/train.h>

#include "lanes.h"
#include "objective.h"
#include "training.h"

/* How a batch was cut when a checkpoint was made; 0: not known. */
typedef struct sid2_cut {
    int64_t lanes, microbatch;
} sid2_cut;

struct sid2_trainer {
    sid2_device *device;
    sid2_group *group; /* the caller's; NULL: alone */
    sid2_config config;
    sid2_recipe recipe;
    size_t memory; /* limit, as it was given */
    sid2_cut kept; /* of the checkpoint that this goes on from: `auto` means that */
    sid2_training training;
    sid2_buffers buffers; /* of the states; lanes have their own beside */
    sid2_lanes lanes;
    sid2_state states[SID2_MAX_STATES]; /* by the recipe */
    uint64_t steps, images;             /* done */
    int64_t bad_steps;                  /* stepped over, the last ones in a row */
    sid2_classes *classes;              /* their names, or NULL */
    bool broken;                        /* a step failed half-way: the weights cannot be trusted */
    char note[240]; /* what is not as it was in the checkpoint that this goes on from, or "" */
    float *loss,
        *logsnr; /* of the last step: loss [train.batch model.frames], while it runs of each frame, then at the
                             front of each clip; logsnr [train.batch] */
    float *told; /* [ranks][2][train.batch / ranks]: both, as they travel */
    sid2_train_stats stats;
    sid2_memory_report memory_report; /* as it was last asked for */
};

/* The program of one micro-batch, of worker number `worker`, and its graph, to be measured (sid2 bench); NULL past the
 * last. Both stay the trainer's. */
sid2_program *sid2_trainer_program(sid2_trainer *trainer, int worker, const sid2_graph **graph);
/* sid2_trainer_create with a recipe that no configuration asks for. Of a group (NULL: alone, which the public calls are)
 * all ranks make, step, save and resume theirs together, and have the same errors; each brings a part of the batch,
 * images rank * train.batch / ranks and so many on. The group must live as long. */
sid2_trainer *sid2_trainer_create_recipe(sid2_device *device, const sid2_config *config,
                                         const sid2_recipe *recipe, size_t memory, sid2_group *group,
                                         sid2_error *err);
/* Bytes that this rank sends for a step, sums and weights: what the recursive halving moves. */
double sid2_trainer_sends(const sid2_trainer *trainer);
/* Whether all ranks hold the same weights; else DEVICE, and the message names the rank that differs from most. */
bool sid2_trainer_compare(sid2_trainer *trainer, sid2_error *err);
/* Before a state is loaded that was made with this cut: goes on with it, unless the configuration gives another or the
 * limit on memory forbids it; `note` says so then. Where it fails, or had to plan anew, the weights are gone: `broken`. */
bool sid2_trainer_keep_cut(sid2_trainer *trainer, sid2_cut cut, sid2_error *err);
/* A whole state from elsewhere: so many steps are done. */
void sid2_trainer_set_steps(sid2_trainer *trainer, uint64_t steps, uint64_t images);

#endif
