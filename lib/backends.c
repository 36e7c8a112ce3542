#include "backends.h"

#include "cpu.h"
#if SID2_HAVE_CUDA
#include "cuda_backend.h"
#endif
#if SID2_HAVE_VULKAN
#include "vk.h"
#endif

const sid2_backend *const sid2_backends[] = {
    &sid2_backend_cpu,
#if SID2_HAVE_CUDA
    &sid2_backend_cuda,
#endif
#if SID2_HAVE_VULKAN
    &sid2_backend_vk,
#endif
};
const int sid2_backend_count = sizeof sid2_backends / sizeof sid2_backends[0];
#if SID2_HAVE_VULKAN
const sid2_backend *const sid2_compiler = &sid2_backend_vk_compiler;
#else
const sid2_backend *const sid2_compiler = NULL;
#endif
