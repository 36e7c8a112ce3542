/* The I3D whose logits FVD is defined by: two-stream's RGB network of Kinetics-400, in evaluation.
 *
 * Frames are bilinearly resized to 224 x 224 as TensorFlow 1 did it, and scaled to 2 x / 255 - 1. Windows are "same"
 * throughout, the odd zero at the end; a convolution has its batch norm folded in (sid2_i3d_convert). At the end the mean
 * over 2 x 7 x 7, the classes' matrix with its bias, and the mean over what frames are left: 400 logits, which are the
 * features. */
#ifndef SID2_I3D_H
#define SID2_I3D_H

#include "network.h"

enum { SID2_I3D_SIDE = 224, SID2_I3D_FEATURES = 400, SID2_I3D_LEAST_FRAMES = 9 };

/* Appends the network. x[N,F,224,224,3] in the graph's compute type, at least 9 frames. Gives the logits [N,1,1,1,400].
 * `width`: 1; tests divide all channels by it. */
sid2_tensor sid2_i3d_build(sid2_graph *g, sid2_params *params, sid2_tensor x, int width);

/* A frame u8 [height,width,channels], 1 or 3 channels, to [224,224,3]. */
void sid2_i3d_prepare(const uint8_t *pixels, int64_t height, int64_t width, int channels, float *to);

/* Makes the file that sid2 reads of Flax's names, with batch norms folded into weights and biases. `facts`: key, value, ..,
 * NULL, to be kept in it. */
bool sid2_i3d_convert(const sid2_tensor_source *source, const char *path, const char *const *facts,
                      sid2_error *err);

#endif
