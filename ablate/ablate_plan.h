/* The plan of an ablation: rows of settings, trained and measured beside each other. A file:
 *
 *     [plan]
 *     title = Loss weighting       what it asks
 *     preset = quickstart          what all rows begin with: a preset's name, or a file
 *     seeds = 0,1,2                each row is trained once for each
 *     equal = operations           what rows have as much of as the first one, whose train.steps count: images (which it
 *                                  is unless said), or operations, so that a row whose network costs more sees fewer images
 *     samples = 256                drawn of each training, to be judged; 0 unless said
 *     axis = sample.guidance       a key whose values make curves, or evaluations: passes through networks for an image; none
 *                                  unless said
 *     [all]
 *     train.steps = 640            keys of all rows
 *     [row sigmoid]                the first is what the others are compared with
 *     loss.weighting = sigmoid     what makes this row
 *     [row student]
 *     checkpoint = runs/student    not trained: this one, sampled from as its configuration says; only eval. keys of [all] count
 *     guide = runs/early           the network that guides the samples of a row, instead of its own without a class
 *     [each]
 *     sample.steps = 8 | 16 | 32   every row once for each of these, under its name and the value's: sigmoid-8; of several keys
 *                                  once for each combination, the last key's values changing first. A row that says such a key
 *                                  itself, or has a checkpoint of its own, has that one value
 *
 * Rows that differ in how they sample or are measured, and not in how they are trained, share a training. */
#ifndef SID2_ABLATE_PLAN_H
#define SID2_ABLATE_PLAN_H

#include "config.h"

#define SID2_ABLATE_EVALUATIONS "evaluations"
enum { SID2_ABLATE_ROWS = 256, SID2_ABLATE_SEEDS = 32 };

typedef struct sid2_ablate_row {
    char name[40];
    char curve[40];                   /* the name without the value on the plan's axis */
    char checkpoint[256], guide[256]; /* of its own, or "" */
    int line;                         /* where it begins */
    int section, choice;              /* its [row], and the combination of [each]; both by number */
    sid2_config *config;
    int trained_as; /* the row whose training is its own: itself, or one before */
    int64_t parameters;
    double
        operations; /* multiplications and additions of a training: three passes over each image of every step */
    double pass;    /* of one pass over one image */
    size_t memory; /* bytes, as planned: weights, gradients, Adam, averages, activations */
} sid2_ablate_row;

typedef struct sid2_ablate_plan {
    char name[256]; /* the file's, for messages */
    char title[160], preset[256];
    char axis[64]; /* a key, SID2_ABLATE_EVALUATIONS, or "" */
    bool equal_operations;
    int64_t samples;
    uint64_t seed[SID2_ABLATE_SEEDS];
    int seeds;
    bool each_of_axis; /* the axis is a key of [each]: rows of one `curve` are one */
    sid2_ablate_row row[SID2_ABLATE_ROWS];
    int rows;
} sid2_ablate_plan;

typedef struct sid2_ablate_plan_options {
    const char *preset, *seeds; /* in place of the plan's; NULL: as it says */
    const char *const
        *set; /* "key=value" for all rows: they count after [all], and before what makes a row */
    int set_count;
    int64_t samples;                /* in place of the plan's; negative: as it says */
    const char *checkpoint;         /* in place of a preset, where nothing is trained; or NULL */
    const sid2_device_info *device; /* that memory is planned for; NULL: one core */
} sid2_ablate_plan_options;

/* A plan that comes with sid2, by name, or a file by path. What is wrong with it names the line. Free it in any case. */
bool sid2_ablate_plan_read(sid2_ablate_plan *plan, const char *name_or_path,
                           const sid2_ablate_plan_options *options, sid2_error *err);
void sid2_ablate_plan_free(sid2_ablate_plan *plan);
/* Whether a key says how a training is sampled from or measured, and nothing of the training itself. */
bool sid2_ablate_plan_samples_only(const char *key);
bool sid2_ablate_plan_measures(const char *key);                    /* how it is measured alone */
bool sid2_ablate_plan_by_evaluations(const sid2_ablate_plan *plan); /* that is its axis */
/* The key whose values make the axis: evaluations are by sample.steps. */
const char *sid2_ablate_plan_axis_key(const sid2_ablate_plan *plan);
const char *sid2_ablate_plan_name(int index); /* of those that come with sid2; NULL past the last */

#endif
