/* What a tool of the user's says of samples: an npz with `features` [N, width] or `logits` [N, classes], or both, real numbers
 * in the order of the samples. Any network in any framework can write that, and none has to run here. */
#ifndef SID2_FOREIGN_H
#define SID2_FOREIGN_H

#include "frechet.h"

/* Of `features`. The caller frees. FORMAT: there are none, too many, or one is not finite. */
bool sid2_foreign_gaussian(const char *path, sid2_gaussian *g, sid2_error *err);

/* Of samples whose classes come in turn, 0 .. classes - 1: Fréchet distance of `features` to `real` (width 0: none), and the
 * share whose largest logit is of the class asked for; NaN for what the file does not have. FORMAT: not of `count`
 * samples, or of other features than `real`. */
bool sid2_foreign_judge(const char *path, const sid2_gaussian *real, int count, int classes, double *distance,
                        double *agreement, sid2_error *err);

#endif
