/* libsid2: train SiD2 diffusion models on pixels, and sample from them.
 *
 *     sid2_config ─► sid2_trainer ─► checkpoint ─► sid2_sampler ─► images
 *                  └► sid2_run: a whole training in a folder, with its data, statistics and checkpoints
 *
 * Images are uint8 [count, height, width, channels], height x width = model.image_size. base.h says what holds
 * for every function. */
#ifndef SID2_H
#define SID2_H

#include <sid2/base.h>
#include <sid2/checkpoint.h>
#include <sid2/classes.h>
#include <sid2/config.h>
#include <sid2/data.h>
#include <sid2/device.h>
#include <sid2/image.h>
#include <sid2/model.h>
#include <sid2/run.h>
#include <sid2/sample.h>
#include <sid2/train.h>

#endif
