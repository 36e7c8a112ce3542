/* An objective: what a micro-batch of training computes, and what the host tells it.
 *
 * The loop (trainer.c) knows no more of it than this: it runs the micro-batches of a step, then updates the state
 * whose gradients they made. Diffusion is one objective; a distillation is two that take turns, over the states of
 * a frozen teacher, a student and an auxiliary network. A *recipe* says which states there are and which
 * objectives. */
#ifndef SID2_OBJECTIVE_H
#define SID2_OBJECTIVE_H

#include "buffers.h"
#include "config.h"
#include "graph.h"
#include "state.h"

/* A step as the loop was given it. */
typedef struct sid2_step_input {
    uint64_t step;         /* steps done before this one */
    uint64_t first_sample; /* images (clips, where model.frames = F is more than 1) seen before it */
    int begin;             /* the first image of the batch that is here; there are [n] of them */
    const uint8_t *pixels; /* [n F,H,W,c], clip by clip */
    const int32_t *labels; /* [n], -1 for none; or NULL */
} sid2_step_input;

typedef struct sid2_objective {
    const char *name;
    const char *trains; /* the state that a step of it updates, by name */
    /* A micro-batch of n images: adds to that state's `grads` what the mean over train.batch wants, and writes the
     * external `loss` f32 [n F], of whose F for each image (or clip) the mean counts. Externals that objectives share by name are shared memory. */
    sid2_graph *(*graph)(const sid2_config *config, int64_t n, sid2_error *err);
    /* The host's part, for micro-batches of n; uploads what stays the same. */
    void *(*open)(const sid2_config *config, int n, sid2_buffers *buffers, sid2_error *err);
    void (*close)(void *self); /* NULL is fine */
    /* Uploads what images first .. first + n - 1 of the whole batch are told; logsnr f32 [n] is for the statistics. */
    bool (*tell)(void *self, sid2_buffers *buffers, const sid2_step_input *step, int first, float *logsnr,
                 sid2_error *err);
    /* At each stop that the graph names (sid2_graph_stop), in order: what was computed until there may be read, and what
     * follows be told. `last`: of the step's micro-batches, after which gradients are whole. NULL: nobody stops. */
    bool (*at_stop)(void *self, sid2_buffers *buffers, const char *stop, bool last, sid2_error *err);
} sid2_objective;

extern const sid2_objective sid2_diffusion; /* trains "" */

/* ---- What objectives share ---- */

/* Images and what noise made of them, of externals: with N clips of F frames, so M = N F images, pixels u8 [M,H,W,c] ·
 * label i32 [M] · samples u32 [N,2] · seed u32 [2] · time, alpha, sigma f32 [M]. */
typedef struct sid2_noised {
    sid2_tensor x, z, alpha, sigma, time, label, samples, seed;
} sid2_noised;

sid2_noised sid2_noised_images(sid2_graph *g, const sid2_config *config, int64_t n);
/* The gradients of a loss f32 [M], which leaves as external; of dloss f32 [M]. NULL: the graph's first error. */
sid2_graph *sid2_objective_finish(sid2_graph *g, sid2_tensor loss, sid2_error *err);
/* Uploads what stays the same: seed; dloss, 1 / (F train.batch). */
bool sid2_objective_tell_once(const sid2_config *config, int n, sid2_buffers *buffers, sid2_error *err);
/* Uploads pixels, label (train.label_drop replaces some) and samples of n clips; `room`: [2 n + n F]. */
bool sid2_objective_tell_images(const sid2_config *config, sid2_buffers *buffers, const sid2_step_input *step,
                                int first, int n, uint32_t *room, sid2_error *err);
/* The frames that clip `sample` begins with: the model's, or none, so that these are learnt too. */
int sid2_draw_given(const sid2_config *config, uint64_t sample);

enum { SID2_MAX_STATES = 4, SID2_MAX_OBJECTIVES = 2 };

typedef struct sid2_recipe {
    sid2_state_rule states[SID2_MAX_STATES]; /* the first is the one that is sampled from */
    int state_count;
    const sid2_objective *objectives[SID2_MAX_OBJECTIVES]; /* step s takes number s % objective_count */
    int objective_count;
} sid2_recipe;

/* What the configuration asks for. */
sid2_recipe sid2_recipe_of(const sid2_config *config);

#endif
