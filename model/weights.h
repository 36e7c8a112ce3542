/* Parameters between host memory, files and a device. On the host they are one flat f32 array, laid out as in
 * their set. */
#ifndef SID2_WEIGHTS_H
#define SID2_WEIGHTS_H

#include "buffers.h"

/* To the set's externals `weights` and, where the compute type differs, `weights_low`. */
bool sid2_weights_upload(sid2_buffers *buffers, const sid2_graph *graph, const sid2_params *params,
                         const float *flat, sid2_error *err);

/* One tensor a parameter, named prefix + parameter. Several arrays, each with its prefix, make one file. */
typedef struct sid2_weights_part {
    const char *prefix;
    float *flat;
} sid2_weights_part;
bool sid2_weights_save(const char *path, const sid2_params *params, const sid2_weights_part *parts, int count,
                       sid2_error *err); /* f32 */
/* Fills the arrays; every parameter must be there with its shape, as f32, bf16 or f16, and nothing else.
 * Parameters of which `may_differ` (if any) is true keep what the array holds when the file has none, or one
 * of another shape. */
bool sid2_weights_load(const char *path, const sid2_params *params, const sid2_weights_part *parts, int count,
                       bool (*may_differ)(const char *name), sid2_error *err);

#endif
