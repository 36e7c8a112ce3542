/* Averages of any length after the fact (T. Karras et al., 2024, arXiv 2312.02696, "EDM2"). A training tracks two, whose
 * weights count by a power of their time, and keeps records of both on the way; a mixture of records is the average of
 * another length.
 *
 * The *length* of an average is the deviation of the time of its weights, as a share of the time so far: sigma_rel. */
#ifndef SID2_AVERAGES_H
#define SID2_AVERAGES_H

#include "safetensors.h"
#include "trainer.h"

#define SID2_LENGTH_MOST 0.28 /* about where the power reaches 0: all weights count alike */

/* The power of that length, 0 < length <= SID2_LENGTH_MOST. */
double sid2_length_power(double length);
/* The decay of an average whose `rate` is its power. */
double sid2_power_decay(const sid2_average *average, uint64_t update);
/* Adds to a rule the averages that train.averages wants tracked. */
void sid2_track_averages(sid2_state_rule *rule, const sid2_config *config);

/* ---- Records: RUN/averages/step-00001000.safetensors, both averages as f16 ----
 * Those that there should be follow from the step alone, so a run that goes on keeps the same ones: multiples of the
 * least power of two of which there are at most `most` so far. */
uint64_t sid2_record_stride(uint64_t step, int64_t most);
/* Of the state that is sampled from. All ranks together; rank 0 writes. */
bool sid2_record_save(const sid2_trainer *trainer, const char *path, sid2_error *err);
/* "step-00001000.safetensors", and back. */
const char *sid2_record_name(uint64_t step, char name[64]);
bool sid2_record_step(const char *name, uint64_t *step);
bool sid2_is_record(const char *name);
/* Whether the file says itself that it is a record of that step. */
bool sid2_record_holds(const char *path, uint64_t step);

/* ---- Mixtures ---- */

/* An average in a file: tensors `prefix` + parameter. */
typedef struct sid2_ingredient {
    const sid2_safetensors *file;
    char prefix[32];
    double time, power; /* steps averaged over, and how */
    double share;       /* the caller's; of all together 1 */
} sid2_ingredient;

typedef struct sid2_mixture {
    sid2_safetensors **files;
    int file_count;
    sid2_ingredient *item;
    int count;
    double time;     /* of the checkpoint */
    char length[24]; /* what it is to be, told in the file that is made of it; or "" */
} sid2_mixture;

/* A checkpoint's own averages first, then the records of its run from before it. What is read stays open, so that a training
 * may remove it. USAGE: the checkpoint has none. */
bool sid2_mixture_open(sid2_mixture *mixture, const char *checkpoint, sid2_error *err);
/* A file of weights as it is: a share of 1. */
bool sid2_mixture_of(sid2_mixture *mixture, const char *path, sid2_error *err);
void sid2_mixture_close(sid2_mixture *mixture);
/* sid2_checkpoint_export with these weights in place of the checkpoint's own. Sums are float64, in order. */
bool sid2_mixture_export(const sid2_mixture *mixture, const char *checkpoint, const char *to,
                         sid2_dtype dtype, sid2_error *err);

#endif
