/* CUDA devices: what there is, opening, memory. */
#include "cuda_backend.h"
#include "runtime.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Compute capabilities, times ten: the first with bf16, and with FP8. */
enum { OLDEST = 80, FIRST_FP8 = 89 };

/* ---- Errors and memory ---- */

/* Whether all later calls of the process fail as well. */
static bool is_final(cudaError_t status)
{
    switch (status) {
    case cudaErrorIllegalAddress:
    case cudaErrorIllegalInstruction:
    case cudaErrorMisalignedAddress:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorHardwareStackError:
    case cudaErrorLaunchFailure:
    case cudaErrorLaunchTimeout:
    case cudaErrorAssert:
    case cudaErrorECCUncorrectable:
    case cudaErrorNvlinkUncorrectable: return true;
    default: return false;
    }
}

bool sid2_cuda_check(cudaError_t status, const char *what, sid2_error *err)
{
    if (status == cudaSuccess) return true;
    cudaGetLastError(); /* an error that is not sticky must not come back from the next call */
    sid2_code code = status == cudaErrorMemoryAllocation ? SID2_ERR_MEMORY
                     : is_final(status)                  ? SID2_ERR_LOST
                                                         : SID2_ERR_DEVICE;
    return sid2_fail(err, code, "%s: %s (CUDA error %d)", what, cudaGetErrorString(status), (int)status);
}

void *sid2_cuda_malloc(size_t bytes, const char *what, sid2_error *err)
{
    void *memory = NULL;
    cudaError_t status = cudaMalloc(&memory, bytes + !bytes);
    if (status == cudaErrorMemoryAllocation) {
        size_t available = 0, total = 0;
        cudaGetLastError();
        cudaMemGetInfo(&available, &total);
        return sid2_fail(err, SID2_ERR_MEMORY,
                         "%s needs %.2f GiB of GPU memory; %.2f of %.2f GiB are free: give --memory, or a "
                         "smaller batch",
                         what, (double)bytes / (1 << 30), (double)available / (1 << 30),
                         (double)total / (1 << 30)),
               NULL;
    }
    return sid2_cuda_check(status, what, err) ? memory : NULL;
}

void sid2_cuda_mfree(void *memory) { cudaFree(memory); }

static void *cuda_alloc(void *self, size_t bytes, const char *what, bool zero, sid2_error *err)
{
    sid2_cuda_device *d = self;
    if (!sid2_cuda_check(cudaSetDevice(d->index), "the GPU", err)) return NULL;
    void *memory = sid2_cuda_malloc(bytes, what, err);
    if (!memory || !zero ||
        sid2_cuda_check(cudaMemsetAsync(memory, 0, bytes, d->compute), "clearing a buffer", err))
        return memory;
    sid2_cuda_mfree(memory);
    return NULL;
}

static void cuda_free(void *self, void *handle)
{
    sid2_cuda_device *d = self;
    cudaSetDevice(d->index);
    sid2_cuda_settle(d->transfers); /* whoever frees a buffer may free what was to come from it */
    sid2_cuda_mfree(handle);
}

static bool cuda_upload(void *self, void *handle, size_t offset, const void *from, size_t bytes,
                        sid2_error *err)
{
    sid2_cuda_device *d = self;
    return sid2_cuda_check(cudaSetDevice(d->index), "the GPU", err) &&
           sid2_cuda_upload(d->transfers, (char *)handle + offset, from, bytes, err);
}

static bool cuda_download(void *self, const void *handle, size_t offset, void *to, size_t bytes,
                          sid2_error *err)
{
    sid2_cuda_device *d = self;
    return sid2_cuda_check(cudaSetDevice(d->index), "the GPU", err) &&
           sid2_cuda_download(d->transfers, (const char *)handle + offset, to, bytes, err);
}

static bool cuda_download_later(void *self, const void *handle, size_t offset, void *to, size_t bytes,
                                sid2_error *err)
{
    sid2_cuda_device *d = self;
    return sid2_cuda_check(cudaSetDevice(d->index), "the GPU", err) &&
           sid2_cuda_download_later(d->transfers, (const char *)handle + offset, to, bytes, err);
}

/* ---- What there is ---- */

/* Without a driver the count is not written; nor is it where the driver is too old. */
static int visible(cudaError_t *status)
{
    int count = 0;
    *status = cudaGetDeviceCount(&count);
    if (*status == cudaSuccess) return count;
    cudaGetLastError();
    return 0;
}

static int cuda_count(void)
{
    cudaError_t status;
    return visible(&status);
}

static int capability_of(int index)
{
    int major = 0, minor = 0;
    cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, index);
    cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, index);
    return 10 * major + minor;
}

bool sid2_cuda_has_code(const char *architectures, int capability)
{
    bool has = false;
    for (const char *word = architectures; *word;) {
        char *rest;
        int number = (int)strtol(word, &rest, 10);
        size_t length = strcspn(word, ",");
        bool machine = true, ptx = true;
        if (strncmp(rest, "-real", 5) == 0) ptx = false;
        if (strncmp(rest, "-virtual", 8) == 0) machine = false;
        if (rest == word) return true;    /* "all", "native": whoever chose that knows */
        if (*rest == 'a' || *rest == 'f') /* features of one processor, of one generation */
            has |=
                *rest == 'a' ? number == capability : number / 10 == capability / 10 && number <= capability;
        else
            has |= number <= capability && (ptx || (machine && number / 10 == capability / 10));
        word += length + (word[length] == ',');
    }
    return has;
}

static bool usable(int capability)
{
    return capability >= OLDEST && sid2_cuda_has_code(SID2_CUDA_CODE, capability);
}

/* "driver 13.0", from 13000. */
static void print_version(char *text, size_t size, const char *what, int version)
{
    snprintf(text, size, "%s %d.%d", what, version / 1000, version / 10 % 100);
}

static bool explain_driver(cudaError_t status, char text[200])
{
    char has[32], needs[32];
    int driver = 0;
    cudaDriverGetVersion(&driver);
    print_version(has, sizeof has, "CUDA", driver);
    print_version(needs, sizeof needs, "CUDA", CUDART_VERSION);
    void *library = dlopen("libcuda.so.1", RTLD_LAZY);
    if (library) dlclose(library);
    if (!library)
        snprintf(text, 200, "CUDA: no driver (libcuda.so.1 not found)");
    else if (driver < CUDART_VERSION)
        snprintf(text, 200, "CUDA: the driver knows %s, this sid2 needs %s: a newer driver would do", has,
                 needs);
    else
        snprintf(text, 200, "CUDA: a driver, but no device (%s)", cudaGetErrorString(status));
    return true;
}

/* "CUDA driver 13.0, runtime 13.0, cublasLt 13.1.0, cuDNN 9.19.0"; and which of these libraries there are. */
typedef struct libraries {
    bool cublaslt, cudnn;
} libraries;
static libraries describe_driver(char *text, size_t size)
{
    char part[64], why[100];
    int driver = 0;
    cudaDriverGetVersion(&driver);
    print_version(text, size, "CUDA driver", driver);
    print_version(part, sizeof part, ", runtime", CUDART_VERSION);
    strncat(text, part, size - strlen(text) - 1);
    sid2_cublaslt cublaslt;
    sid2_cudnn cudnn;
    const bool has_cublaslt = sid2_cublaslt_load(&cublaslt, why, sizeof why);
    strncat(text, ", ", size - strlen(text) - 1);
    strncat(text, has_cublaslt ? sid2_cublaslt_version(&cublaslt, part) : "no cublasLt",
            size - strlen(text) - 1);
    const bool has_cudnn = sid2_cudnn_load(&cudnn, why, sizeof why);
    strncat(text, ", ", size - strlen(text) - 1);
    strncat(text, has_cudnn ? sid2_cudnn_version(&cudnn, part) : "no cuDNN", size - strlen(text) - 1);
    return (libraries){has_cublaslt, has_cudnn};
}

/* What `sid2 tune` measured holds for this GPU, this driver, these libraries and this sid2. As sid2_cuda_kept_load. */
static int load_kept(sid2_cuda_kept *kept, const struct cudaDeviceProp *properties, char path[4096])
{
    char driver[128], identity[400];
    describe_driver(driver, sizeof driver);
    snprintf(identity, sizeof identity, "sid2 " SID2_VERSION "; %.200s, %d multiprocessors; %s",
             properties->name, properties->multiProcessorCount, driver);
    return sid2_cuda_kept_load(kept, identity, path);
}

static bool cuda_missing(int line, char text[200])
{
    cudaError_t status;
    char why[100];
    int count = visible(&status);
    if (status != cudaSuccess || !count) {
        if (line == 0) return explain_driver(status, text);
        line--;
    }
    for (int i = 0; i < count; i++) {
        int capability = capability_of(i);
        struct cudaDeviceProp properties;
        if (cudaGetDeviceProperties(&properties, i) != cudaSuccess) continue;
        if (usable(capability)) {
            sid2_cuda_kept kept;
            char path[4096];
            int there = load_kept(&kept, &properties, path);
            sid2_cuda_kept_clear(&kept);
            if (there >= 0 || line--) continue;
            snprintf(text, 200, "CUDA: what sid2 tune kept cannot be read, and is not used: %.120s", path);
            return true;
        }
        if (line--) continue;
        int used = snprintf(text, 200, "CUDA: %.80s has compute capability %d.%d, ", properties.name,
                            properties.major, properties.minor);
        if (capability < OLDEST)
            snprintf(text + used, 200 - (size_t)used, "sid2 needs 8.0");
        else
            snprintf(text + used, 200 - (size_t)used,
                     "this build has code for %.40s: SID2_CUDA_ARCHITECTURES", SID2_CUDA_CODE);
        return true;
    }
    sid2_cublaslt cublaslt;
    if (!sid2_cublaslt_load(&cublaslt, why, sizeof why) && line-- == 0) {
        snprintf(text, 200, "CUDA: %s: own matrix products, much slower; see SID2_CUDA_LIBRARIES", why);
        return true;
    }
    sid2_cudnn cudnn;
    if (!sid2_cudnn_load(&cudnn, why, sizeof why) && line-- == 0) {
        snprintf(text, 200, "CUDA: %s: own convolutions and attention, much slower; see SID2_CUDA_LIBRARIES",
                 why);
        return true;
    }
    return false;
}

static bool cuda_describe(int index, const sid2_device_options *options, sid2_device_info *info)
{
    struct cudaDeviceProp properties;
    int capability = capability_of(index);
    if (!usable(capability) || cudaGetDeviceProperties(&properties, index) != cudaSuccess)
        return cudaGetLastError(), false;
    *info = (sid2_device_info){.memory = properties.totalGlobalMem,
                               .own_memory = true,
                               .bf16 = true,
                               .f16 = true,
                               .fast = SID2_BF16,
                               .fast_sample = SID2_BF16,
                               .rank = 1000 - index};
    snprintf(info->name, sizeof info->name, "%.100s", properties.name);
    snprintf(info->id, sizeof info->id, "cuda:%d", index);
    libraries has = describe_driver(info->driver, sizeof info->driver);
    if (options && has.cublaslt && capability >= FIRST_FP8) info->fp8 = options->fp8;
    info->rounds_conv_wgrad = has.cudnn && sid2_cudnn_rounds_wgrad(capability);
    snprintf(info->detail, sizeof info->detail, "compute capability %d.%d, %d multiprocessors%s%s%s",
             properties.major, properties.minor, properties.multiProcessorCount,
             options && options->deterministic ? ", deterministic" : "",
             options && options->tf32 ? ", TF32 in f32 products" : "",
             info->fp8 == SID2_FP8_LARGE ? ", large products in FP8"
             : info->fp8                 ? ", products in FP8"
                                         : "");
    sid2_cuda_kept kept;
    char path[4096];
    if (load_kept(&kept, &properties, path) > 0) {
        size_t used = strlen(info->detail);
        snprintf(info->detail + used, sizeof info->detail - used, ", libraries as measured (%.8s)",
                 kept.digest);
    }
    sid2_cuda_kept_clear(&kept);
    return true;
}

/* ---- Opening ---- */

static bool read_launch(sid2_cuda_launch *launch, sid2_error *err)
{
    static const char *const names[] = {"auto", "graph", "plain", "sync"};
    const char *wanted = getenv("SID2_CUDA_LAUNCH");
    *launch = SID2_CUDA_LAUNCH_AUTO;
    if (!wanted || !*wanted) return true;
    for (int i = 0; i < 4; i++)
        if (!strcmp(wanted, names[i])) return *launch = (sid2_cuda_launch)i, true;
    return sid2_fail(err, SID2_ERR_USAGE, "SID2_CUDA_LAUNCH is '%.40s'; it may be auto, graph, plain or sync",
                     wanted);
}

static bool not_started(const char *library, int status, sid2_error *err)
{
    return sid2_fail(err, SID2_ERR_DEVICE,
                     "%s does not start (status %d): parts of several versions, or of several CUDAs? "
                     "SID2_CUDA_LIBRARIES names the folders to search; 'none' does without, much slower",
                     library, status);
}

/* A library that is absent is done without, as `sid2 devices` says; one that is broken is not passed over in
 * silence. */
static bool open_libraries(sid2_cuda_device *d, sid2_error *err)
{
    char why[100], version[32];
    if (sid2_cublaslt_load(&d->cublaslt, why, sizeof why)) {
        cublasStatus_t status = d->cublaslt.cublasLtCreate(&d->cublaslt.handle);
        if (status != CUBLAS_STATUS_SUCCESS)
            return not_started(sid2_cublaslt_version(&d->cublaslt, version), (int)status, err);
        d->target.cublaslt = &d->cublaslt;
    }
#if SID2_HAVE_CUDNN
    if (sid2_cudnn_load(&d->cudnn, why, sizeof why)) {
        cudnnStatus_t status = d->cudnn.cudnnCreate(&d->cudnn.handle);
        if (status != CUDNN_STATUS_SUCCESS)
            return not_started(sid2_cudnn_version(&d->cudnn, version), (int)status, err);
        d->target.cudnn = &d->cudnn;
    }
#endif
    return true;
}

static void cuda_close(void *self)
{
    sid2_cuda_device *d = self;
    if (!d) return;
    cudaSetDevice(d->index);
    if (d->compute) cudaStreamSynchronize(d->compute);
#if SID2_HAVE_CUDNN
    sid2_cudnn_forget(&d->cudnn);
    if (d->target.cudnn) d->cudnn.cudnnDestroy(d->cudnn.handle);
#endif
    if (d->target.cublaslt) d->cublaslt.cublasLtDestroy(d->cublaslt.handle);
    free(d->cublaslt.choices);
    sid2_cuda_kept_clear(&d->kept);
    sid2_cuda_transfers_destroy(d->transfers);
    if (d->compute) cudaStreamDestroy(d->compute);
    free(d);
}

static void list_kernels(sid2_cuda_device *d)
{
    enum { TYPES = SID2_TYPE_BIT(SID2_F32) | SID2_TYPE_BIT(SID2_BF16) | SID2_TYPE_BIT(SID2_F16) };
    static const sid2_kernel_table cudnn = {TYPES, sid2_cuda_cudnn}, cublaslt = {TYPES, sid2_cuda_cublaslt},
                                   own = {TYPES, sid2_cuda_own};
    const sid2_kernel_table **next = d->kernels.tables;
    if (d->target.cudnn) *next++ = &cudnn;
    if (d->target.cublaslt) *next++ = &cublaslt;
    *next = &own;
    d->kernels.target = &d->target;
}

static void *cuda_open(int index, const sid2_device_options *options, sid2_error *err)
{
    sid2_cuda_device *d = calloc(1, sizeof *d);
    if (!d) return sid2_fail(err, SID2_ERR_MEMORY, "no memory for the device"), NULL;
    d->index = index;
    d->target.deterministic = options && options->deterministic;
    d->target.tf32 = options && options->tf32;
    d->target.fp8 = options ? options->fp8 : SID2_FP8_NONE;
    bool ok = read_launch(&d->launch, err) && sid2_cuda_check(cudaSetDevice(index), "opening the GPU", err);
    ok = ok &&
         sid2_cuda_check(
             cudaDeviceGetAttribute(&d->target.multiprocessors, cudaDevAttrMultiProcessorCount, index),
             "opening the GPU", err) &&
         sid2_cuda_check(cudaStreamCreateWithFlags(&d->compute, cudaStreamNonBlocking), "opening the GPU",
                         err) &&
         (d->transfers = sid2_cuda_transfers_create(d->compute, err));
    d->target.capability = capability_of(index);
    d->target.stream = d->compute;
    if (!ok || !open_libraries(d, err)) return cuda_close(d), NULL;
    struct cudaDeviceProp properties;
    char path[4096];
    if (cudaGetDeviceProperties(&properties, index) == cudaSuccess) {
        load_kept(&d->kept, &properties, path);
        d->target.kept = &d->kept;
    }
    list_kernels(d);
    return d;
}

static void cuda_measure(void *self) { ((sid2_cuda_device *)self)->kept.measures = true; }

static const sid2_way_report *cuda_measured(void *self, int i)
{
    return sid2_cuda_kept_measured(&((const sid2_cuda_device *)self)->kept, i);
}

static bool cuda_keep_measured(void *self, sid2_error *err)
{
    return sid2_cuda_kept_write(&((const sid2_cuda_device *)self)->kept, err);
}

static size_t cuda_alignment(void *self)
{
    (void)self;
    return SID2_CUDA_ALIGNMENT;
}

static const char *cuda_notice(void *self)
{
    sid2_cuda_device *d = self;
    if (d->noticed != SID2_CUDA_NOTICED) return NULL;
    d->noticed = SID2_CUDA_TOLD;
    return d->notice;
}

static bool cuda_supports(void *self, sid2_op op, sid2_dtype compute)
{
    return sid2_kernels_have(&((const sid2_cuda_device *)self)->kernels, op, compute);
}

const sid2_backend sid2_backend_cuda = {
    .name = "cuda",
    .count = cuda_count,
    .describe = cuda_describe,
    .missing = cuda_missing,
    .notice = cuda_notice,
    .measure = cuda_measure,
    .measured = cuda_measured,
    .keep_measured = cuda_keep_measured,
    .open = cuda_open,
    .close = cuda_close,
    .addresses = true,
    .alignment = cuda_alignment,
    .supports = cuda_supports,
    .alloc = cuda_alloc,
    .free = cuda_free,
    .upload = cuda_upload,
    .download = cuda_download,
    .download_later = cuda_download_later,
    .compile = sid2_cuda_compile,
    .run = sid2_cuda_run,
    .workspace = sid2_cuda_workspace,
    .profile = sid2_cuda_profile,
    .destroy = sid2_cuda_destroy,
};
