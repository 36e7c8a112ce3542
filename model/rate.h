/* The learning rate of a step. */
#ifndef SID2_RATE_H
#define SID2_RATE_H

#include "config.h"

/* Of the step after `done` completed ones; not negative, at most train.learning_rate. */
double sid2_learning_rate(const sid2_config *config, uint64_t done);

#endif
