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

sid2_device *sid2_device_open(const char *id, const sid2_device_options *options, sid2_error *err)
{
    return sid2_backends_open(sid2_backends, sid2_backend_count, id, options, err);
}

const char *sid2_version(void) { return SID2_VERSION; }
