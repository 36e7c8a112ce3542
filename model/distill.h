/* A student learns to make in k steps what its teacher makes in many.
 *
 * Three networks of one shape, called by their parameters: the student "", the frozen "teacher", and an "auxiliary" one.
 * With z_t of a real image, x~ the student's x of it, and z_s made of both, the auxiliary network learns the mean of x~ given z_s;
 * the student learns until that is the teacher's mean of x given z_s. No gradient passes through z_s, nor through any network
 * but the one that learns. With z_s drawn from q(z_s | z_t, x~) that is multistep moment matching (T. Salimans et al., 2024,
 * arXiv 2406.04103); in the first distill.first steps z_s is DDIM's, without new noise, so that x~ comes to solve an implicit
 * step of the teacher's equation. Formulas: docs/distill.md. */
#ifndef SID2_DISTILL_H
#define SID2_DISTILL_H

#include "objective.h"

/* They take turns, in this order. */
extern const sid2_objective sid2_distill_auxiliary; /* trains "auxiliary" */
extern const sid2_objective sid2_distill_student;   /* trains "" */

/* What v the network with the parameters `set` says of at.z at at.time, f32 [N,H,W,c]. */
typedef sid2_tensor (*sid2_denoiser)(sid2_graph *g, const sid2_config *config, const char *set, bool trained,
                                     const sid2_noised *at);
/* The U-ViT, with distill.dropout; as the random numbers are those of images, teacher and auxiliary network have the same
 * masks. */
sid2_tensor sid2_distill_network(sid2_graph *g, const sid2_config *config, const char *set, bool trained,
                                 const sid2_noised *at);

typedef struct sid2_distilled {
    sid2_tensor v;              /* of the network that learns; */
    sid2_noised at;             /* where it is asked; */
    sid2_tensor x;              /* what its x should be, through which no gradient passes; */
    sid2_tensor loss;           /* f32 [N], of the two */
    sid2_tensor x_student, z_s; /* x~, and what noise makes of it */
} sid2_distilled;

/* The forward pass of a micro-batch, of the student's turn or the auxiliary network's. Externals beside those of `at` are the
 * numbers in distill.c, f32 [N], and no_label i32 [N] where the teacher is guided. */
sid2_distilled sid2_distill_build(sid2_graph *g, const sid2_config *config, sid2_denoiser denoiser,
                                  sid2_noised at, bool student);

#endif
