/* Devices: what can compute. The CPU always; GPUs where this build has their backend and the machine a
 * driver, which is opened when the first device is asked for. */
#ifndef SID2_DEVICE_H
#define SID2_DEVICE_H

#include <sid2/base.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct sid2_device sid2_device;

/* 16-bit matrix products of operands rounded to eight bits: E4M3, gradients E5M2, scaled by what came before. */
typedef enum sid2_fp8_products {
    SID2_FP8_NONE,
    SID2_FP8_LARGE, /* those that take less time so, by counting operations and bytes */
    SID2_FP8_ALL    /* all that the device has */
} sid2_fp8_products;

typedef struct sid2_device_info {
    char name[128];         /* "AMD EPYC, 2 threads, AVX-512" */
    char id[32];            /* what sid2_device_open takes: "cpu", "reference", "vulkan:0", "cuda:0" */
    char driver[128];       /* library or driver and version */
    char detail[256];       /* the variants in use; some are known only of an open device */
    size_t memory;          /* bytes it can use, 0 if unknown */
    bool own_memory;        /* not the host's: there to be filled */
    bool bf16, f16;         /* compute types it takes, beside f32 */
    sid2_dtype fast;        /* the one it trains fastest in */
    sid2_dtype fast_sample; /* and samples */
    int arena; /* MiB of activations that a micro-batch should keep to, for its caches; 0: unknown */
    bool rounds_conv_wgrad; /* 16-bit convolutions: their weight gradient has that type before it is added */
    int rank;               /* preference for "auto": the largest wins */
    int cores;              /* that can work side by side on different things; 0: a GPU, which is one piece */
    sid2_fp8_products fp8;  /* as it was opened */
} sid2_device_info;

typedef struct sid2_device_options {
    size_t struct_size;
    int threads; /* CPU threads; 0: all that the process may use */
    /* CPU threads that wait for each other sleep sooner while other programs want the cores; acts on every
     * OpenMP thread of the process. false: as OpenMP's own settings say */
    bool share_cores;
    bool deterministic; /* the same bits in every run, also where that is slower */
    bool tf32;          /* f32 products may round their inputs to TF32, where the device has it */
    const char *blocks; /* block sizes of products by name, as `sid2 tune` lists them; NULL: the best known */
    sid2_fp8_products fp8; /* UNSUPPORTED where the device has none */
} sid2_device_options;

/* What this machine can compute on, in the order of the backends. Looking does not open the devices. `options` as they will be opened with. */
typedef struct sid2_device_list sid2_device_list;
SID2_API sid2_device_list *sid2_devices(const sid2_device_options *options, sid2_error *err);
SID2_API void sid2_device_list_destroy(sid2_device_list *list);
SID2_API int sid2_device_list_count(const sid2_device_list *list);
SID2_API const sid2_device_info *sid2_device_list_at(const sid2_device_list *list, int index);
/* What "auto" would open. */
SID2_API const sid2_device_info *sid2_device_list_best(const sid2_device_list *list);
/* What keeps a backend from having (more) devices or full speed, a line each, such as "CUDA: no driver
 * (libcuda.so.1 not found)". NULL past the last. */
SID2_API const char *sid2_device_list_missing(const sid2_device_list *list, int line);

/* Opens a device: by its id, by a backend's name ("vulkan": the best of them), by part of its name, or "auto":
 * the one that computes fastest. USAGE where nothing answers to `id`: the message lists
 * what there is; DEVICE or UNSUPPORTED where it does not start. Everything made on a device is destroyed before
 * it is closed. */
SID2_API sid2_device *sid2_device_open(const char *id, const sid2_device_options *options, sid2_error *err);
SID2_API void sid2_device_close(sid2_device *device); /* NULL is fine */
SID2_API const sid2_device_info *sid2_device_describe(const sid2_device *device);
/* Bytes that are held on it now, by all that was made on it. */
SID2_API size_t sid2_device_used(const sid2_device *device);
/* What the device could not do as well as it should since this was last asked, in one line: "cuda:0: steps are
 * launched kernel by kernel ...". Results are right all the same. NULL: nothing. Each is told once; valid until
 * the device is asked again or closed. */
SID2_API const char *sid2_device_notice(sid2_device *device);

#ifdef __cplusplus
}
#endif

#endif
