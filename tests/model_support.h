/* Shared by the tests of model/: devices, small configurations, pixels. */
#ifndef SID2_TEST_MODEL_SUPPORT_H
#define SID2_TEST_MODEL_SUPPORT_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <sid2/sid2.h>

#include "cpu.h"
#include "params.h"
#include "philox.h"
#include "schedule.h"
#include "trainer.h"
#include "uvit.h"

static sid2_error err;

#define must(call)                                                                                           \
    do {                                                                                                     \
        if (!(call)) fail_msg("%s:%d: %s", __FILE__, __LINE__, err.message);                                 \
    } while (0)

static inline sid2_device *open_device(const char *id)
{
    const sid2_backend *backend = &sid2_backend_cpu;
    sid2_device *device = sid2_backends_open(&backend, 1, id, &(sid2_device_options){0}, &err);
    must(device);
    return device;
}

/* A network small enough for the reference device: 8 x 8 pixels, one Res and one Transformer level. */
static inline sid2_config *tiny_config(const char *const settings[])
{
    static const char *const base[] = {"model.image_size=8",
                                       "model.image_channels=1",
                                       "model.channels=8,16",
                                       "model.blocks=res,transformer",
                                       "model.depth=1",
                                       "model.mid_depth=1",
                                       "model.emb=16",
                                       "model.head_dim=8",
                                       "model.groups=4",
                                       "model.classes=3",
                                       "loss.bias=2",
                                       "train.batch=8",
                                       "train.microbatch=4",
                                       "train.precision=f32",
                                       "train.learning_rate=2e-3",
                                       "train.warmup=4",
                                       "train.ema=0.9",
                                       "sample.precision=f32",
                                       "sample.steps=6",
                                       "sample.batch=4",
                                       "model.mlp_ratio=2",
                                       NULL};
    sid2_config *config = sid2_config_create();
    for (int i = 0; base[i]; i++) must(sid2_config_set(config, base[i], &err));
    for (int i = 0; settings && settings[i]; i++) must(sid2_config_set(config, settings[i], &err));
    return config;
}
#define TINY(...) tiny_config((const char *const[]){__VA_ARGS__, NULL})

/* Deterministic bytes: `count` images whose brightness depends on their label. */
static inline void make_images(uint8_t *pixels, int32_t *labels, int count, int bytes, int classes,
                               uint64_t first)
{
    for (int i = 0; i < count; i++) {
        labels[i] = (int32_t)((first + (uint64_t)i) % (uint64_t)classes);
        for (int j = 0; j < bytes; j++)
            pixels[i * bytes + j] = (uint8_t)(80 * labels[i] + (j % 3) * 20 +
                                              sid2_philox_word(99, first + (uint64_t)i, 0, (uint64_t)j) % 16);
    }
}

/* Steps on the images that come next; what the last came to. */
static inline sid2_train_stats train_steps(sid2_trainer *t, int steps)
{
    const sid2_config *c = &t->config;
    int batch = (int)c->train_batch;
    int bytes = (int)sid2_config_image_bytes(c);
    uint8_t *pixels = malloc((size_t)batch * (size_t)bytes);
    int32_t *labels = malloc((size_t)batch * sizeof *labels);
    must(pixels && labels);
    for (int i = 0; i < steps; i++) {
        make_images(pixels, labels, batch, bytes, (int)c->model_classes, sid2_trainer_images(t));
        must(sid2_trainer_step(t, pixels, labels, &err));
    }
    free(pixels);
    free(labels);
    return *sid2_trainer_stats(t);
}

/* "FOLDER/NAME", until the fourth call after. */
static inline const char *path_in(const char *folder, const char *name)
{
    static char path[4][160];
    static int next;
    char *text = path[next++ % 4];
    snprintf(text, sizeof path[0], "%s/%s", folder, name);
    return text;
}

static inline float *download(const sid2_buffers *buffers, const char *name)
{
    sid2_buffer *buffer = sid2_buffers_find(buffers, name);
    if (!buffer) fail_msg("no buffer %s", name);
    float *copy = malloc(buffer->bytes);
    must(sid2_buffer_download(buffer, 0, copy, buffer->bytes, &err));
    return copy;
}

static inline void same_state(const sid2_trainer *a, const sid2_trainer *b)
{
    static const char *const names[] = {"weights", "m", "v", "ema"};
    for (int i = 0; i < 4; i++) {
        float *x = download(&a->buffers, names[i]), *y = download(&b->buffers, names[i]);
        if (memcmp(x, y, sid2_buffers_find(&a->buffers, names[i])->bytes) != 0)
            fail_msg("%s with %d and %d workers differ", names[i], a->training.workers, b->training.workers);
        free(x);
        free(y);
    }
}

#endif
