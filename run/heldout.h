/* Pictures that a training does not see, and the loss on them: for sid2 eval, and along a run. */
#ifndef SID2_HELDOUT_H
#define SID2_HELDOUT_H

#include <sid2/data.h>
#include <sid2/sample.h>

#include "group.h"

typedef struct sid2_heldout {
    sid2_group *group;
    int count, levels;
    size_t bytes;    /* of a picture */
    uint8_t *pixels; /* [count] pictures */
    int32_t *labels;
    sid2_eval_point *points; /* [levels], at t = (level + 0.5) / levels: what was measured last */
} sid2_heldout;

/* A data set as the configuration has it: its size and channels, whether pictures are turned, and the part; all pictures
 * where train.holdout keeps none out. By all ranks of a group (NULL: alone). on_skip, user: as of sid2_dataset_options. */
sid2_dataset *sid2_open_part(sid2_group *group, const char *path, const sid2_config *config, sid2_part part,
                             void (*on_skip)(void *user, const char *name, const char *reason), void *user,
                             sid2_error *err);
/* Reads up to eval.images pictures of a data set, always the same ones; of a group (NULL: alone) each rank its share, of
 * which it measures the errors, and all have the same result. USAGE: a label that the model does not have. */
bool sid2_heldout_read(sid2_heldout *h, sid2_group *group, sid2_dataset *data, const sid2_config *config,
                       sid2_error *err);
void sid2_heldout_free(sid2_heldout *h);

/* done: 0 to 1. false: stop, which is CANCELLED. */
typedef bool (*sid2_heldout_callback)(void *user, double done);
bool sid2_heldout_measure(sid2_heldout *h, sid2_evaluator *evaluator, sid2_heldout_callback callback,
                          void *user, sid2_error *err);
/* The mean over all levels, comparable with the training loss. */
double sid2_heldout_loss(const sid2_heldout *h);

#endif
