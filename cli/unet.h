/* sid2 bench --rows unet: a training step of the small convolutional U-Net by which trainers are compared in public (Inferena's
 * "simplified U-Net"): 32 x 32 x 4, three levels of 64, 128 and 256 channels, a block a level on the way down, one in the
 * middle and one a level on the way up, no biases, no time; the mean square of what it is off, Adam.
 *
 * Two things are written otherwise, at the same parameters and multiply-adds, for operators with gradients have neither steps
 * of two nor channels side by side: halving is a pool and then a convolution, and what comes from above and what was kept
 * are normed apart, 16 groups each, and convolved apart. */
#ifndef SID2_CLI_UNET_H
#define SID2_CLI_UNET_H

#include "device.h"

enum { UNET_BATCH = 2 };

typedef struct unet unet;

/* With fresh weights, and random numbers to learn. NULL: failed. */
unet *unet_open(sid2_device *device, sid2_dtype compute, int batch, sid2_error *err);
void unet_close(unet *u); /* NULL is fine */
/* Forward, backward and update; waits for the device. */
bool unet_step(unet *u, sid2_error *err);
double unet_parameters(const unet *u);
/* Forward and backward, to be measured. */
sid2_program *unet_program(unet *u, const sid2_graph **graph);

#endif
