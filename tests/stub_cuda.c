/* A libcuda.so.1 that has no device and loads any kernel: enough for cuDNN to compile and finalise plans
 * where no driver is. Built as a library of that name and loaded by test_cuda_plans before cuDNN looks for
 * the real one. Declared here rather than by cuda.h, whose macros rename half of them. */
#include <stddef.h>

#define EXPORT __attribute__((visibility("default"))) int

enum { SUCCESS = 0, NO_DEVICE = 100, NOT_FOUND = 500, VERSION = 13000 };

static char something[64]; /* what all handles point to */

EXPORT cuInit(unsigned flags);
EXPORT cuDriverGetVersion(int *version);
EXPORT cuDeviceGetCount(int *count);
EXPORT cuGetProcAddress_v2(const char *name, void **address, int version, unsigned long flags, int *status);
EXPORT cuGetErrorName(int error, const char **name);
EXPORT cuGetErrorString(int error, const char **text);
EXPORT cuLibraryLoadData(void **library, const void *code, ...);
EXPORT cuLibraryUnload(void *library);
EXPORT cuLibraryGetKernel(void **kernel, void *library, const char *name);
EXPORT cuKernelGetFunction(void **function, void *kernel);
EXPORT cuKernelSetAttribute(int attribute, int value, void *kernel, int device);
EXPORT cuFuncSetAttribute(void *function, int attribute, int value);

/* cuDNN wants to find these, and calls none of them to finalise a plan. */
#define UNUSED(name)                                                                                         \
    EXPORT name(void);                                                                                       \
    int name(void) { return NO_DEVICE; }
UNUSED(cuCtxGetCurrent)
UNUSED(cuCtxGetLimit)
UNUSED(cuCtxPopCurrent)
UNUSED(cuCtxPushCurrent_v2)
UNUSED(cuCtxPushCurrent)
UNUSED(cuCtxPopCurrent_v2)
UNUSED(cuDeviceGet)
UNUSED(cuKernelGetAttribute)
UNUSED(cuLaunchCooperativeKernel)
UNUSED(cuLaunchKernel)
UNUSED(cuLaunchKernelEx)
UNUSED(cuLibraryLoadFromFile)
UNUSED(cuLinkAddData)
UNUSED(cuLinkComplete)
UNUSED(cuLinkCreate)
UNUSED(cuLinkDestroy)
UNUSED(cuOccupancyMaxPotentialClusterSize)
UNUSED(cuStreamGetCtx)

int cuInit(unsigned flags) { return (void)flags, NO_DEVICE; }
int cuDriverGetVersion(int *version) { return *version = VERSION, SUCCESS; }
int cuDeviceGetCount(int *count) { return *count = 0, SUCCESS; }

int cuGetProcAddress_v2(const char *name, void **address, int version, unsigned long flags, int *status)
{
    (void)name, (void)version, (void)flags;
    *address = NULL;
    if (status) *status = 1;
    return NOT_FOUND;
}

int cuGetErrorName(int error, const char **name) { return (void)error, *name = "STUB", SUCCESS; }
int cuGetErrorString(int error, const char **text) { return (void)error, *text = "stub", SUCCESS; }
int cuLibraryLoadData(void **library, const void *code, ...)
{
    return (void)code, *library = something, SUCCESS;
}
int cuLibraryUnload(void *library) { return (void)library, SUCCESS; }
int cuLibraryGetKernel(void **kernel, void *library, const char *name)
{
    return (void)library, (void)name, *kernel = something, SUCCESS;
}
int cuKernelGetFunction(void **function, void *kernel)
{
    return (void)kernel, *function = something, SUCCESS;
}
int cuKernelSetAttribute(int attribute, int value, void *kernel, int device)
{
    return (void)attribute, (void)value, (void)kernel, (void)device, SUCCESS;
}
int cuFuncSetAttribute(void *function, int attribute, int value)
{
    return (void)function, (void)attribute, (void)value, SUCCESS;
}
