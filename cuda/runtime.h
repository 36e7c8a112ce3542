/* The backend's inside: a device's streams and transfers, and its programs.
 *
 * One stream computes. Whatever reads or writes device memory that programs use is on it, in the order of the
 * calls; so nothing ever has to wait on the host for correctness. A second stream carries uploads into a
 * staging area ahead of time, while the first computes. */
#ifndef SID2_CUDA_RUNTIME_H
#define SID2_CUDA_RUNTIME_H

#include <cuda_runtime_api.h>

#include "device.h"
#include "kernel.h"
#include "libraries.h"
#include "ways.h"

enum { SID2_CUDA_ALIGNMENT = 256 };

/* How programs are launched: the variable SID2_CUDA_LAUNCH, for finding faults. */
typedef enum sid2_cuda_launch {
    SID2_CUDA_LAUNCH_AUTO,  /* as a graph where it can be captured, else as `plain` */
    SID2_CUDA_LAUNCH_GRAPH, /* "graph": not captured is an error */
    SID2_CUDA_LAUNCH_PLAIN, /* "plain": kernel by kernel */
    SID2_CUDA_LAUNCH_SYNC,  /* "sync": and wait after each, so that a fault names its node */
} sid2_cuda_launch;

typedef struct sid2_cuda_transfers sid2_cuda_transfers;

typedef struct sid2_cuda_device {
    int index;
    sid2_cuda_target target;
    sid2_kernels kernels;
    sid2_cublaslt cublaslt;
    sid2_cudnn cudnn;
    cudaStream_t compute;
    sid2_cuda_transfers *transfers;
    sid2_cuda_kept kept; /* what `sid2 tune` measured */
    sid2_cuda_launch launch;
    char notice[300]; /* about the first capture that was refused */
    enum { SID2_CUDA_QUIET, SID2_CUDA_NOTICED, SID2_CUDA_TOLD } noticed;
} sid2_cuda_device;

/* Whether code for `architectures`, as CMake lists them with commas between ("80-real,90"), runs on a GPU: machine
 * code on those of its generation that are not older, PTX on all that are not older. */
bool sid2_cuda_has_code(const char *architectures, int capability);

/* False, with one line in `err`, unless the status is success: "WHAT: an illegal memory access (CUDA 700)". */
bool sid2_cuda_check(cudaError_t status, const char *what, sid2_error *err);
/* Device memory, not cleared; an error names what is wanted and what is free. */
void *sid2_cuda_malloc(size_t bytes, const char *what, sid2_error *err);
void sid2_cuda_mfree(void *memory);

/* ---- transfers.c ---- */
sid2_cuda_transfers *sid2_cuda_transfers_create(cudaStream_t compute, sid2_error *err);
void sid2_cuda_transfers_destroy(sid2_cuda_transfers *t);
/* Takes effect behind what `compute` was given before; `from` is free again at return. */
bool sid2_cuda_upload(sid2_cuda_transfers *t, void *to, const void *from, size_t bytes, sid2_error *err);
bool sid2_cuda_download(sid2_cuda_transfers *t, const void *from, void *to, size_t bytes, sid2_error *err);
bool sid2_cuda_download_later(sid2_cuda_transfers *t, const void *from, void *to, size_t bytes,
                              sid2_error *err);
/* Waits for `compute`; then nothing is still to come. */
void sid2_cuda_settle(sid2_cuda_transfers *t);

/* ---- program.c: these are the entries of sid2_backend. ---- */
void *sid2_cuda_compile(void *self, sid2_steps *steps, sid2_arena *arena, sid2_error *err);
bool sid2_cuda_run(void *self, void *program, int section, sid2_error *err);
size_t sid2_cuda_workspace(void *self, void *program);
const sid2_node_time *sid2_cuda_profile(void *self, void *program);
void sid2_cuda_destroy(void *self, void *program);

#endif
