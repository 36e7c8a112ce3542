/* A set of parameters between host memory, files and a device. On the host it is one flat f32 array, laid out
 * as in the set; what else belongs to it (gradients, moments, averages) is laid out alike. */
#ifndef SID2_PARAMS_H
#define SID2_PARAMS_H

#include "buffers.h"
#include "safetensors.h"

/* Fresh values from a seed: init_mean + init_std * normal, the same bits everywhere. The caller frees. */
float *sid2_params_initial(const sid2_params *params, uint64_t seed, sid2_error *err);

/* The parameter whose part of the array holds the first value that is not finite; NULL: none. */
const sid2_param *sid2_params_broken(const sid2_params *params, const float *flat);

/* To what a network reads: the set's externals `weights`, or `weights_low` and `vectors`. */
bool sid2_params_upload(sid2_buffers *buffers, const sid2_graph *graph, const sid2_params *params,
                        const float *flat, sid2_error *err);
/* And from there. */
bool sid2_params_download(const sid2_buffers *buffers, const sid2_graph *graph, const sid2_params *params,
                          float *flat, sid2_error *err);

/* One tensor a parameter, named prefix + parameter. Several arrays, each with its prefix, make one file.
 * `facts`: key, value, key, value, ..., NULL, kept in the file's metadata; or NULL. */
typedef struct sid2_params_part {
    const char *prefix;
    float *flat;
    const sid2_span *wanted; /* loading reads parameters that lie in one of these ranges; NULL: all */
    int wanted_count;
} sid2_params_part;
/* f32, with digests, by all ranks together (sid2_safetensors_write_together). */
bool sid2_params_save(sid2_group *group, int writers, const char *path, const sid2_params *params,
                      const sid2_params_part *parts, int count, const char *const *facts, sid2_error *err);
/* Fills the arrays (NULL: only checks); every parameter must be there with its shape, as f32, bf16 or f16,
 * finite, and nothing else. Digests that the file has must agree, and of its facts those that are given.
 * Parameters of which `may_differ` (if any) is true keep what the array holds when the file has none, or one
 * of another shape. */
bool sid2_params_load(const char *path, const sid2_params *params, const sid2_params_part *parts, int count,
                      const char *const *facts, bool (*may_differ)(const char *name), sid2_error *err);
/* Whether what a file tells in its metadata is what is expected of it. */
bool sid2_params_check_facts(const sid2_safetensors *file, const char *path, const char *const *facts,
                             sid2_error *err);
/* A file's weights straight to the set's externals: all that a frozen network needs. */
bool sid2_params_read(const char *path, sid2_buffers *buffers, const sid2_graph *graph,
                      const sid2_params *params, sid2_error *err);

#endif
