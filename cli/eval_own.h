/* What sid2 eval asks of a checkpoint beside its loss, without any other network: bits by noise level of held-out and of
 * training pictures, and how its samples compare with both. */
#ifndef SID2_CLI_EVAL_OWN_H
#define SID2_CLI_EVAL_OWN_H

#include "cli.h"

#include "bits.h"
#include "samples.h"

typedef struct own_wish {
    bool bits;
    int64_t samples;     /* to draw; 0: none */
    const char *nearest; /* a PNG of samples and the training pictures nearest to them; or NULL */
    const char *data;
    bool all; /* other pictures than the model's: nothing of them is training */
    bool raw;
    size_t memory;
} own_wish;

typedef struct own_findings {
    bool has_bits, has_gap, has_samples;
    sid2_bits heldout, training;
    int samples, floor_count;                /* pictures in the distances */
    sid2_picture_distances distances, floor; /* to training pictures: of samples; of held-out pictures */
    sid2_neighbours near;
} own_findings;

/* heldout: the pictures that the loss is measured on. doing: "checkpoint 1 of 2", for the bar. */
bool own_measure(own_findings *j, const own_wish *wish, sid2_device *device, const sid2_config *config,
                 const char *checkpoint, const sid2_heldout *heldout, progress *bar, sid2_error *err);
void own_free(own_findings *j);
void own_print(const own_findings *j, const own_wish *wish);
/* Adds members "bits" and "samples" to a JSON object. */
bool own_json(const own_findings *j, json_t *object);

#endif
