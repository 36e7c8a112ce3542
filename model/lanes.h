/* Inside model/: the gradients of a step, by lanes on cores.
 *
 * A lane is a part of the batch: micro-batches one after another, their gradients added up in place from zero. The
 * sums of lanes meet in a fixed binary tree: 0 + 1, 2 + 3, ..., then pairs of pairs. Which core computes which lane, and
 * when, changes no bit: a lane's arithmetic is one worker's, and additions of two numbers commute. */
#ifndef SID2_LANES_H
#define SID2_LANES_H

#include <pthread.h>
#include <stdatomic.h>

#include "group.h"
#include "objective.h"
#include "state.h"
#include "team.h"
#include "training.h"

enum { SID2_MAX_HEIGHT = 16 }; /* of the tree: 65536 lanes */

/* Whoever computes a lane at a time: on a part of the device, or on the whole. */
typedef struct sid2_lane_worker {
    sid2_device *part;    /* NULL: the whole */
    sid2_buffers buffers; /* the states', borrowed, and what its micro-batches are told and tell */
    sid2_arena *arena;
    sid2_program *program[SID2_MAX_OBJECTIVES]; /* by the recipe */
    void *host[SID2_MAX_OBJECTIVES];
} sid2_lane_worker;

/* Where programs keep their buffers: those that move sums, of the state that an objective trains. */
typedef struct sid2_lane_moves {
    sid2_graph *graph;
    sid2_program *out[SID2_MAX_HEIGHT],
        *back[SID2_MAX_HEIGHT]; /* to sums[height], where nothing is, and from there */
} sid2_lane_moves;

typedef struct sid2_lanes {
    const sid2_recipe *recipe;
    const sid2_training *plan;
    int images, begin; /* of a lane; the first of the batch that is this rank's */
    sid2_group *group;
    bool low; /* sums of lanes are rounded to bf16 before they are added */
    sid2_state
        *early; /* in this step, buckets of its gradients are summed as soon as they are whole; or NULL */
    sid2_state *coming; /* in this step, its weights come while the first micro-batch is computed; or NULL */
    const char *stops[SID2_MAX_OBJECTIVES][SID2_MAX_STOPS + 1]; /* in order; NULL past the last */
    sid2_team *team;
    sid2_lane_worker *worker; /* [plan->workers] */
    sid2_buffer **sums;       /* [plan->sums], zero between steps */
    bool rebinds, dirty;      /* dirty: a step failed, so the sums are not zero */
    sid2_lane_moves moves[SID2_MAX_OBJECTIVES];

    /* Of the step that runs. */
    int turn;
    const sid2_step_input *step;
    float *loss, *logsnr; /* of the whole batch: by frame, by clip */
    sid2_buffer *home;    /* the gradients of the state that is trained, where all is to end */
    const char *grads;    /* its name */
    /* Under the lock. */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int next; /* lane to take */
    sid2_buffer **
        node; /* [2 lanes]: sums that wait for their other half. 1 is the root, n has the children 2n, 2n + 1 */
    sid2_buffer **free; /* zero, to add a lane up in */
    int free_count;
    atomic_bool stop; /* somebody failed */
    struct sid2_meeting {
        sid2_buffer *into, *from;
    } * meeting; /* what is left to be added at the end, in this order */
    int meetings;
} sid2_lanes;

/* Workers for a rank's lanes of a plan, with programs of its graphs. `states` has the buffers of all parameters;
 * recipe, plan and states must outlive them. Arenas of workers hold the graphs in `others` too (those of updates), for
 * programs that run between steps. */
bool sid2_lanes_open(sid2_lanes *lanes, const sid2_recipe *recipe, const sid2_training *plan,
                     const sid2_buffers *states, const sid2_config *config, sid2_group *group,
                     const sid2_graph *const *others, int other_count, sid2_error *err);
/* The host's part of the objectives: once, before the first step. */
bool sid2_lanes_start(sid2_lanes *lanes, const sid2_config *config, sid2_error *err);
void sid2_lanes_close(sid2_lanes *lanes);

/* Adds to `grads`, the gradients of the state that objective number `turn` trains, those of this rank's lanes. loss
 * [train.batch model.frames], logsnr [train.batch], of which this rank's are filled; as sid2_buffer_download_later, the losses are sure to be
 * there after the next download. Of workers that fail, the first names the error, and the others stop at their next
 * micro-batch. */
bool sid2_lanes_run(sid2_lanes *lanes, int turn, const sid2_step_input *step, const char *grads, float *loss,
                    float *logsnr, sid2_error *err);

/* Bytes held beside the states' buffers: gradients of lanes, and what goes in and out; arenas with scratch; programs. */
size_t sid2_lanes_buffers(const sid2_lanes *lanes);
size_t sid2_lanes_arenas(const sid2_lanes *lanes);
size_t sid2_lanes_workspace(const sid2_lanes *lanes);

#endif
