/* A CUDA runtime that runs on the host, for tests of the CUDA backend: the functions the backend calls, over
 * ordinary memory.
 *
 * Streams are queues. Work is not done when it is given to a stream but late, in an order as unhelpful as the
 * rules allow: after each call some work of some stream, drawn at random, and the rest only when something
 * waits for it. What the backend forgot to wait for shows as wrong numbers. Copies check that their ends lie
 * in memory of the right kind; what must not be called while a stream is captured fails as it does in CUDA.
 */
#ifndef SID2_TEST_FAKE_CUDA_H
#define SID2_TEST_FAKE_CUDA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct fake_cuda {
    uint64_t seed;        /* of the order of work */
    int devices;          /* 0: no driver */
    int capability;       /* of each, times ten */
    size_t memory;        /* of a device */
    int fail_after;       /* kernels until one breaks the context for good; -1: never */
    bool capture_refused; /* capturing does not work */
    size_t cudnn;         /* its version; 0: not found */
    /* Counted. */
    int kernels, casts, products, bias_gradients, captures, graph_launches, allocations;
    int eights, rounded;         /* products of operands in eight bits, and such operands */
    int engines[5], descriptors; /* of cuDNN: runs of each of fake_cudnn.c's engines */
    int algorithms[4];           /* of cublasLt: runs of each, in the heuristic's order; 0 cannot be had */
    /* Told: milliseconds of a run, and an algorithm that refuses to. */
    float engine_time[5], algorithm_time[4];
    int broken_algorithm;
    float clock; /* milliseconds so far */
    size_t allocated;
} fake_cuda;
extern fake_cuda fake;

/* Gives work to a stream, as a kernel launch would; `run` gets a copy of `size` bytes of `argument`. */
bool fake_launch(void *stream, void (*run)(void *), const void *argument, size_t size);
/* Work that is tried until it returns true; what follows on the stream waits. */
bool fake_try(void *stream, bool (*try)(void *), const void *argument, size_t size);
bool fake_is_captured(void *stream);
/* The context works again, as in a new process. */
void fake_recover(void);
/* Whether [memory, memory + bytes) lies in one allocation of device memory. */
bool fake_is_device(const void *memory, size_t bytes);

#endif
