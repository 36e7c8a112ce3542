/* What the sampler shows inside sid2. */
#ifndef SID2_SAMPLER_H
#define SID2_SAMPLER_H

#include <sid2/sample.h>

#include "device.h"

/* The program of one step without guidance and its graph, to be measured (sid2 bench). Both stay the
 * sampler's. */
sid2_program *sid2_sampler_program(sid2_sampler *sampler, const sid2_graph **graph);

#endif
