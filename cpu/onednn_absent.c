/* In place of onednn.c in a build without oneDNN: our own loops do everything. */
#include "kernel.h"

const sid2_kernel sid2_cpu_onednn[SID2_OP_COUNT];

const char *sid2_cpu_onednn_version(void) { return "built without oneDNN"; }
