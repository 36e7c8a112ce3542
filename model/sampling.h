/* The graphs of sampling and evaluation, and the plan of those that run. Of a graph for n clips of F frames, N = n F images,
 * externals are:
 *
 *   z f32 [N,H,W,c] · time f32 [N] · label, no_label i32 [N] · samples u32 [n,2] · seed u32 [2] · coef f32 [8]
 *   guide_label i32 [N], guide_time f32 [N], guide.weights, guide.weights_low: a guide's that is another network
 *   x_hat, x_hat_before f32 [N,H,W,c], of the last two evaluations, and past_0, past_1 f32 [N], what they are
 *   multiplied by · image u8 [N,H,W,c] · weights, weights_low
 *
 * Where guidance is measured (sid2_guidance_measures), between two passes: x_model, direction f32 [N,H,W,c], of which
 * x_square, d_square, apart_square f32 [N] are told, and share_x, share_d f32 [N] wanted; and level_alpha, level_sigma, zero,
 * one f32 [N].
 *
 * A sampler has of these what its row in samplers.def asks for. Where model.given > 0 it has also
 *
 *   given u8 [N,H,W,c], of which given frames count · made f32 [N], 1 of a frame that is made, 0 of one that is given,
 *   and kept f32 [N] = 1 - made
 *   of a guide without the history: guide_time as above, history_seed u32 [2], history_alpha, history_sigma f32 [N]
 */
#ifndef SID2_SAMPLING_H
#define SID2_SAMPLING_H

#include "graph.h"
#include "solver.h"
#include "training.h"

typedef enum sid2_pass {
    SID2_PASS_START,  /* z = starting noise */
    SID2_PASS_PLAIN,  /* z = what one evaluation makes of it, x_hat moving on */
    SID2_PASS_GUIDED, /* the same, the network running twice; or, where guidance is measured, that alone, */
    SID2_PASS_STEP,   /* and the rest */
    SID2_PASS_FINISH, /* image = z as 8-bit pixels */
    /* error f32 [N] = mean |x - xhat|², of pixels u8 [N,H,W,c] at alpha, sigma f32 [N]; weight f32 [N] must be 1 */
    SID2_PASS_ERRORS,
    SID2_PASS_COUNT
} sid2_pass;

/* `guide`: of the network that guides, whose parameters are the set "guide"; NULL: the same one without a class. */
sid2_graph *sid2_pass_graph(const sid2_config *config, const sid2_config *guide, sid2_pass pass, int64_t n,
                            sid2_error *err);
/* Whether the guide of passes that are guided is the network without the history (sample.guide_without). */
bool sid2_guide_forgets(const sid2_config *config, const sid2_config *guide);
/* Whether it may guide: images and classes must agree, but for a guide that knows no classes. */
bool sid2_guide_check(const sid2_config *config, const sid2_config *guide, sid2_error *err);

/* A batch (of images, or clips) is computed in parts, each pass on one part after another or, by workers, on several at the same time; each
 * worker has some of the cores and an arena of its own. How many images a part has follows from the batch alone, so that an
 * image is the same whatever the number of threads. No two passes of a worker run at the same time, so one arena serves
 * them all; a part has one buffer for all externals of one name. */
typedef struct sid2_sampling {
    int batch;                          /* images at a time, all parts together */
    int images, parts;                  /* of a part */
    int workers, cores;                 /* of a worker */
    sid2_graph *graph[SID2_PASS_COUNT]; /* of a part; NULL: does not run */
    size_t params, told,
        arena; /* bytes: weights; of a part, what goes in and out; of a worker, activations */
} sid2_sampling;

/* Bytes, as planned: weights and what goes in and out; activations. */
size_t sid2_sampling_state(const sid2_sampling *sampling);
size_t sid2_sampling_arena(const sid2_sampling *sampling);

/* The stages of sampling, for the caller to free, and the passes that they run. */
sid2_solver_stage *sid2_sampling_stages(const sid2_config *config, const sid2_config *guide, int64_t *count,
                                        bool runs[SID2_PASS_COUNT], sid2_error *err);
/* The largest of `batch` and its halvings that fits in the site's memory (0: no limit) with one worker; where none does, 1.
 * At most `workers` workers, as many as memory, or without a limit the site's room, has space for. */
bool sid2_sampling_plan(const sid2_config *config, const sid2_config *guide, const bool runs[SID2_PASS_COUNT],
                        int batch, int workers, const sid2_training_site *site, sid2_sampling *sampling,
                        sid2_error *err);
/* Where sampling is to run: as a training's, but that no memory is filled for its own sake. */
sid2_training_site sid2_sampling_site_of(const sid2_device_info *device, size_t memory);
void sid2_sampling_clear(sid2_sampling *sampling);

#endif
