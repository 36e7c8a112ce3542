/* What the trainer shows to its neighbours in this folder. */
#ifndef SID2_TRAINER_H
#define SID2_TRAINER_H

#include <sid2/train.h>

#include "objective.h"
#include "training.h"

struct sid2_trainer {
    sid2_config config;
    sid2_recipe recipe;
    sid2_training training;
    sid2_buffers buffers;
    sid2_arena *arena;                           /* of all programs */
    sid2_state states[SID2_MAX_STATES];          /* by the recipe */
    sid2_program *programs[SID2_MAX_OBJECTIVES]; /* by the recipe */
    void *hosts[SID2_MAX_OBJECTIVES];
    const char *stops[SID2_MAX_OBJECTIVES][SID2_MAX_STOPS + 1]; /* in order; NULL past the last */
    uint64_t steps, images;                                     /* done */
    int64_t bad_steps;                                          /* stepped over, the last ones in a row */
    sid2_classes *classes;                                      /* their names, or NULL */
    bool broken;          /* a step failed half-way: the weights cannot be trusted */
    float *loss, *logsnr; /* [train.batch], of the last step */
    sid2_train_stats stats;
    sid2_memory_report memory; /* as it was last asked for */
};

/* The program of one micro-batch and its graph, to be measured (sid2 bench). Both stay the trainer's. */
sid2_program *sid2_trainer_program(sid2_trainer *trainer, const sid2_graph **graph);
/* The same with a recipe that no configuration asks for. */
sid2_trainer *sid2_trainer_create_recipe(sid2_device *device, const sid2_config *config,
                                         const sid2_recipe *recipe, size_t memory, sid2_error *err);
/* A whole state from elsewhere: so many steps are done. */
void sid2_trainer_set_steps(sid2_trainer *trainer, uint64_t steps, uint64_t images);

#endif
