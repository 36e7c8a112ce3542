/* Files of weights as other programs write them, read without running anything of them: PyTorch's (zip, since 1.6, also of
 * TorchScript; and the form before), and pickles of numpy arrays. A tensor is called by the keys that lead to it, joined by
 * points: "net.conv.weight". */
#ifndef SID2_WEIGHTS_H
#define SID2_WEIGHTS_H

#include "base.h"

typedef struct sid2_weights sid2_weights;

typedef struct sid2_weight {
    char *name;
    sid2_dtype dtype; /* F32, F16, BF16 or F64; others are left out */
    sid2_shape shape;
    const char *storage; /* where its elements lie, and how far into it */
    size_t storage_length;
    int64_t offset;
    const void *bytes; /* or here */
} sid2_weight;

/* Fails on what is no such file, on damage, and on pickles that want more than weights (pickle.h). */
sid2_weights *sid2_weights_open(const char *path, sid2_error *err);
void sid2_weights_close(sid2_weights *weights); /* NULL is fine */
int64_t sid2_weights_count(const sid2_weights *weights);
const sid2_weight *sid2_weights_at(const sid2_weights *weights, int64_t i);
/* NULL: none of this name. */
const sid2_weight *sid2_weights_find(const sid2_weights *weights, const char *name);
/* All elements as f32, the caller's to free. */
float *sid2_weights_read(const sid2_weights *weights, const sid2_weight *weight, sid2_error *err);

#endif
