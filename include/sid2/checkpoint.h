/* Checkpoints. One is a directory: config.ini, ema.safetensors, and for resuming weights.safetensors,
 * optimizer.safetensors, state.json. docs/model.md names every tensor. */
#ifndef SID2_CHECKPOINT_H
#define SID2_CHECKPOINT_H

#include <sid2/config.h>

#ifdef __cplusplus
extern "C" {
#endif

/* `path` may be a checkpoint or a run, whose newest complete checkpoint is taken. `found` has room for `size`
 * bytes. */
SID2_API bool sid2_checkpoint_find(const char *path, char *found, size_t size, sid2_error *err);
SID2_API bool sid2_checkpoint_config(const char *directory, sid2_config *config, sid2_error *err);
/* What sampling needs, to give away: config.ini and the EMA weights, as f32, bf16 or f16. `to` must not
 * exist; it appears whole or not at all. */
SID2_API bool sid2_checkpoint_export(const char *directory, const char *to, sid2_dtype dtype,
                                     sid2_error *err);
/* 32 hexadecimal digits over names, types, shapes and bytes of the EMA weights. */
SID2_API bool sid2_checkpoint_digest(const char *directory, char digest[33], sid2_error *err);

#ifdef __cplusplus
}
#endif

#endif
