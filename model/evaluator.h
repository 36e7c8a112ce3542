/* Inside the library: an evaluation whose images are somebody's share of more. */
#ifndef SID2_EVALUATOR_H
#define SID2_EVALUATOR_H

#include <sid2/sample.h>

/* sid2_evaluator_run in two: the error of each image, and what errors [count] at a noise level come to. */
bool sid2_evaluator_errors(sid2_evaluator *evaluator, const uint8_t *pixels, const int32_t *labels, int count,
                           double t, uint64_t first_sample, float *errors, sid2_error *err);
void sid2_evaluator_conclude(sid2_evaluator *evaluator, const float *errors, int count, double t);

#endif
