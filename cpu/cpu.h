/* The CPU backend: two devices, "cpu" (fast) and "reference" (plain, double accumulation, the arbiter). */
#ifndef SID2_CPU_H
#define SID2_CPU_H

#include "device.h"

extern const sid2_backend sid2_backend_cpu;

#endif
