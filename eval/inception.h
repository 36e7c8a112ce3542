/* The Inception v3 whose features FID is defined by: the network of 2015-12-05, in evaluation.
 *
 * Pictures are bilinearly resized to 299 x 299 as TensorFlow 1 did it (no half pixel, no filter, no rounding), and scaled to
 * (x - 128) / 128. A convolution has its batch norm folded in (sid2_inception_convert); "valid" and "same" are as there,
 * average pools divide by what is inside, and the last block pools the maximum. Features are the mean over the last 8 x 8
 * pixels; sFID's are the first 7 channels of mixed_6/conv, 17 x 17; IS's logits are features W^T, without bias. */
#ifndef SID2_INCEPTION_H
#define SID2_INCEPTION_H

#include "network.h"

enum {
    SID2_INCEPTION_SIDE = 299,
    SID2_INCEPTION_FEATURES = 2048,
    SID2_INCEPTION_SPATIAL = 17 * 17 * 7,
    SID2_INCEPTION_CLASSES = 1008,
};

typedef struct sid2_inception {
    sid2_tensor first; /* [N,1,73,73,64]: of the first pool, for whom the 64 features are the mean of that */
    sid2_tensor features; /* [N,1,1,1,2048] */
    sid2_tensor spatial;  /* [N,1,17,17,192] */
    sid2_tensor logits;   /* [N,1,1,1,1008]; SID2_NONE without a head */
} sid2_inception;

/* Appends the network. x[N,1,299,299,3] in the graph's compute type. `width`: 1; tests divide all channels by it. `head`:
 * the parameters have the 1008 classes' matrix, "output.weight". */
sid2_inception sid2_inception_build(sid2_graph *g, sid2_params *params, sid2_tensor x, int width, bool head);

/* A picture u8 [height,width,channels], 1 or 3 channels, to [299,299,3]. */
void sid2_inception_prepare(const uint8_t *pixels, int64_t height, int64_t width, int channels, float *to);

/* Makes the file that sid2 reads, with batch norms folded into weights and biases, of either kind of names. `facts`: key,
 * value, .., NULL, to be kept in it. *head: whether it has the classes' matrix. */
bool sid2_inception_convert(const sid2_tensor_source *source, const char *path, const char *const *facts,
                            bool *head, sid2_error *err);

#endif
