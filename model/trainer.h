/* What the trainer shows to its neighbours in this folder. */
#ifndef SID2_TRAINER_H
#define SID2_TRAINER_H

#include "buffers.h"
#include "schedule.h"
#include "training.h"

struct sid2_trainer {
    sid2_config config;
    sid2_schedule schedule;
    sid2_training training;
    sid2_graph *update_graph;
    sid2_program *step, *update;
    sid2_buffers buffers;
    uint64_t steps, images; /* done */
    bool broken;            /* a step failed half-way: the weights cannot be trusted */
    float *loss, *logsnr;   /* [train.batch], of the last step */
    struct sid2_host_batch *host;
};

#endif
