/* The graphs of sampling. They share externals (N = images at a time):
 *
 *   z f32 [N,S,S,c] · time f32 [N] · label, no_label i32 [N] · samples u32 [N,2] · seed u32 [2] · coef f32 [8]
 *   x_hat, x_hat_before f32 [N,S,S,c], of the last two evaluations, and past_0, past_1 f32 [N], what they are
 *   multiplied by · image u8 [N,S,S,c] · weights, weights_low
 *
 * A sampler has of these what its row in samplers.def asks for. */
#ifndef SID2_SAMPLING_H
#define SID2_SAMPLING_H

#include "graph.h"
#include "uvit.h"

/* z = starting noise. */
sid2_graph *sid2_start_graph(const sid2_config *config, int64_t n, sid2_error *err);
/* z = what one evaluation makes of it, x_hat moving on; guided: the network runs twice. */
sid2_graph *sid2_sample_graph(const sid2_config *config, int64_t n, bool guided, sid2_error *err);
/* image = z as 8-bit pixels. */
sid2_graph *sid2_finish_graph(const sid2_config *config, int64_t n, sid2_error *err);
/* error f32 [N] = mean |x - xhat|², of pixels u8 [N,S,S,c] at alpha, sigma f32 [N]; weight f32 [N] must be 1. */
sid2_graph *sid2_error_graph(const sid2_config *config, int64_t n, sid2_error *err);

/* Whether guidance is on at all. */
bool sid2_is_guided(const sid2_config *config);

typedef struct sid2_sampling {
    int batch;
    size_t state, arena;
} sid2_sampling;

/* The largest batch up to sample.batch that fits in `memory` (0: no limit), at least 1. */
bool sid2_sampling_plan(const sid2_config *config, size_t memory, size_t alignment, sid2_sampling *sampling,
                        sid2_error *err);

#endif
