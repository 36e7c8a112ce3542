/* Generated, labelled pictures: enough to watch a model learn without any data at hand.
 *
 * Ten classes of small scenes. Picture `index` is a pure function of (seed, index) at any size; its label
 * is index modulo the number of classes. */
#ifndef SID2_SYNTH_H
#define SID2_SYNTH_H

#include "base.h"

#define SID2_SYNTH_CLASSES  10
#define SID2_SYNTH_MAX_SIZE 4096

const char *sid2_synth_class_name(int32_t label);
int32_t sid2_synth_label(uint64_t index);
int32_t sid2_synth_classes(int64_t count); /* of the first `count` pictures */

/* Writes size x size x 3 to `pixels`. Thread-safe. */
bool sid2_synth_render(uint64_t seed, uint64_t index, int32_t size, uint8_t *pixels, sid2_error *err);

/* Writes pictures 0 .. count-1 as PNG: a zip in EDM layout if `path` ends in ".zip", else a new folder with
 * one sub-folder for each class that occurs. It appears complete or not at all, and replaces nothing. `stop`
 * (may be NULL) is asked before each picture; once true, the writing ends with SID2_ERR_CANCELLED. */
bool sid2_synth_write(const char *path, int64_t count, int32_t size, uint64_t seed, bool (*stop)(void),
                      sid2_error *err);

#endif
