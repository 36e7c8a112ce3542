/* What the sampler shows inside sid2. */
#ifndef SID2_SAMPLER_H
#define SID2_SAMPLER_H

#include <sid2/sample.h>

#include "device.h"

/* The program of one evaluation of a part, of worker number `worker`, without guidance if any is, and its graph, to be
 * measured (sid2 bench); NULL past the last worker. Both stay the sampler's. */
sid2_program *sid2_sampler_program(sid2_sampler *sampler, int worker, const sid2_graph **graph);

/* What they hold on the device: state and arena as planned, and the device's own workspace. */
sid2_memory_report sid2_sampler_memory(const sid2_sampler *sampler);
sid2_memory_report sid2_evaluator_memory(const sid2_evaluator *evaluator);

#endif
