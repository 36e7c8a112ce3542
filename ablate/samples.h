/* Samples of a checkpoint, and real pictures to compare them with: how far apart they are, and whether samples are what was
 * learnt by heart. */
#ifndef SID2_SAMPLES_H
#define SID2_SAMPLES_H

#include "config.h"
#include "heldout.h"
#include "pictures.h"

#include <sid2/sample.h>

typedef struct sid2_samples {
    uint8_t *pixels; /* [count] pictures */
    int32_t *labels; /* classes in turn; -1: the model has none */
    int count;
    double evaluations; /* of the network for one, on average */
    double seconds;
} sid2_samples;

/* Seeds first_seed and on, classes in turn. guide: the checkpoint of the network that guides; NULL: none. callback: 0 to 1;
 * false: stop, which is CANCELLED. Free it in any case. */
bool sid2_samples_draw(sid2_samples *samples, sid2_device *device, const sid2_config *config,
                       const char *checkpoint, const char *guide, bool ema, int count, uint64_t first_seed,
                       size_t memory, sid2_heldout_callback callback, void *user, sid2_error *err);
void sid2_samples_free(sid2_samples *samples);

sid2_pictures sid2_pictures_of(const sid2_config *config, const uint8_t *pixels, int count);
/* Up to `count` pictures of one part of a data set, always the same ones. */
bool sid2_pictures_read(sid2_heldout *pictures, const char *data, const sid2_config *config, sid2_part part,
                        int count, sid2_error *err);

/* ---- Learnt by heart? ----
 * Of a model that knows no picture of the training by heart, half the samples are nearer to one of so many training
 * pictures than to any of as many held-out ones. */
typedef struct sid2_neighbours {
    int samples, set; /* pictures of either set */
    double
        share; /* of samples nearer to a training picture than to a held-out one; equally near ones count half */
    double deviation;      /* that chance makes of one half */
    sid2_nearest *nearest; /* [samples]: of all training pictures */
    int *order; /* [samples]: the most suspicious first, by the distance for the picture's own contrast */
} sid2_neighbours;

/* USAGE: nothing is held out. */
bool sid2_neighbours_find(sid2_neighbours *neighbours, const sid2_samples *samples, const char *data,
                          const sid2_config *config, sid2_heldout_callback callback, void *user,
                          sid2_error *err);
void sid2_neighbours_free(sid2_neighbours *neighbours);
/* A PNG: the `count` most suspicious samples in rows, below each row the nearest training pictures. */
bool sid2_neighbours_write(const sid2_neighbours *neighbours, const sid2_samples *samples, const char *data,
                           const sid2_config *config, int count, const char *path, sid2_error *err);

#endif
