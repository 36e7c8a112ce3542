/* The graphs of sampling and evaluation, and the plan of those that run. They share externals (N = images at a time):
 *
 *   z f32 [N,S,S,c] · time f32 [N] · label, no_label i32 [N] · samples u32 [N,2] · seed u32 [2] · coef f32 [8]
 *   x_hat, x_hat_before f32 [N,S,S,c], of the last two evaluations, and past_0, past_1 f32 [N], what they are
 *   multiplied by · image u8 [N,S,S,c] · weights, weights_low
 *
 * A sampler has of these what its row in samplers.def asks for. */
#ifndef SID2_SAMPLING_H
#define SID2_SAMPLING_H

#include "graph.h"
#include "solver.h"

typedef enum sid2_pass {
    SID2_PASS_START,  /* z = starting noise */
    SID2_PASS_PLAIN,  /* z = what one evaluation makes of it, x_hat moving on */
    SID2_PASS_GUIDED, /* the same, the network running twice */
    SID2_PASS_FINISH, /* image = z as 8-bit pixels */
    /* error f32 [N] = mean |x - xhat|², of pixels u8 [N,S,S,c] at alpha, sigma f32 [N]; weight f32 [N] must be 1 */
    SID2_PASS_ERRORS,
    SID2_PASS_COUNT
} sid2_pass;

sid2_graph *sid2_pass_graph(const sid2_config *config, sid2_pass pass, int64_t n, sid2_error *err);

/* All of one batch. No two passes run at the same time, so one arena serves them all, and externals of one name are one
 * buffer. */
typedef struct sid2_sampling {
    int batch;
    sid2_graph *graph[SID2_PASS_COUNT]; /* NULL: does not run */
    size_t state, arena;                /* bytes */
} sid2_sampling;

/* The stages of sampling, for the caller to free, and the passes that they run. */
sid2_solver_stage *sid2_sampling_stages(const sid2_config *config, int64_t *count, bool runs[SID2_PASS_COUNT],
                                        sid2_error *err);
/* The largest of `batch` and its halvings that fits in `memory` (0: no limit); where none does, 1. */
bool sid2_sampling_plan(const sid2_config *config, const bool runs[SID2_PASS_COUNT], int batch, size_t memory,
                        size_t alignment, sid2_sampling *sampling, sid2_error *err);
void sid2_sampling_clear(sid2_sampling *sampling);

#endif
