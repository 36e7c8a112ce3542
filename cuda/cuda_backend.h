/* The CUDA backend: devices "cuda:0", "cuda:1", ... from compute capability 8.0 on. */
#ifndef SID2_CUDA_BACKEND_H
#define SID2_CUDA_BACKEND_H

#include "device.h"

extern const sid2_backend sid2_backend_cuda;

#endif
