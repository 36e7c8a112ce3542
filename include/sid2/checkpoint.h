/* Checkpoints. One is a directory: config.ini, ema.safetensors, classes.json where the classes have names, and for
 * resuming weights.safetensors, optimizer.safetensors, state.json, and with train.averages power_0.05.safetensors and
 * power_0.10.safetensors. docs/model.md names every tensor. */
#ifndef SID2_CHECKPOINT_H
#define SID2_CHECKPOINT_H

#include <sid2/classes.h>
#include <sid2/config.h>

#ifdef __cplusplus
extern "C" {
#endif

/* `path` may be a checkpoint or a run, whose newest complete checkpoint is taken. `found` has room for `size`
 * bytes. */
SID2_API bool sid2_checkpoint_find(const char *path, char *found, size_t size, sid2_error *err);
/* The newest complete checkpoint of a run from before a step (UINT64_MAX: of all); "" where there is none. */
SID2_API bool sid2_checkpoint_newest(const char *run, uint64_t before, char *found, size_t size,
                                     sid2_error *err);
/* Finds one to read. While it is held no trainer removes it; let go with sid2_checkpoint_release. */
SID2_API bool sid2_checkpoint_hold(const char *path, char *found, size_t size, int *hold, sid2_error *err);
SID2_API void sid2_checkpoint_release(int hold);
/* Whether a folder is a checkpoint as a trainer leaves it: with its files and no other, and of the step that it
 * is named by. Nothing else is ever removed. */
SID2_API bool sid2_checkpoint_is_own(const char *directory);
/* Removes of a run's checkpoints before step `newest`, which was just saved and read back, all but the
 * keep - 1 latest (keep 0: removes none), and none that somebody holds or that RUN/best leads to. One that cannot be
 * removed keeps no other, and is the error in the end. */
SID2_API bool sid2_checkpoint_prune(const char *run, uint64_t newest, int64_t keep, sid2_error *err);
SID2_API bool sid2_checkpoint_config(const char *directory, sid2_config *config, sid2_error *err);
/* Names of its classes, the caller's to destroy; NULL where it has none. */
SID2_API bool sid2_checkpoint_classes(const char *directory, sid2_classes **classes, sid2_error *err);
/* What sampling needs, to give away: config.ini, names of classes, and the EMA weights, as f32, bf16 or f16. `to` must not
 * exist; it appears whole or not at all. */
SID2_API bool sid2_checkpoint_export(const char *directory, const char *to, sid2_dtype dtype,
                                     sid2_error *err);
/* Reads every file and compares what they say of themselves and of each other. */
SID2_API bool sid2_checkpoint_verify(const char *directory, sid2_error *err);
/* Checks the EMA weights; 32 hexadecimal digits over names, types, shapes and bytes of the EMA weights. */
SID2_API bool sid2_checkpoint_digest(const char *directory, char digest[33], sid2_error *err);

#ifdef __cplusplus
}
#endif

#endif
