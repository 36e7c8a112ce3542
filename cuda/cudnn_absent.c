/* In place of cudnn*.c in a build without cuDNN's headers. */
#include "kernel.h"

const sid2_kernel sid2_cuda_cudnn[SID2_OP_COUNT];
