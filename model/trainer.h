/* What the trainer shows to its neighbours in this folder. */
#ifndef SID2_TRAINER_H
#define SID2_TRAINER_H

#include <sid2/train.h>

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

/* The program of one micro-batch and its graph, to be measured (sid2 bench). Both stay the trainer's. */
sid2_program *sid2_trainer_program(sid2_trainer *trainer, const sid2_graph **graph);

#endif
