/* Trains a small model for some steps on pictures that libsid2 draws itself, then samples from it.
 *
 *     cc train_and_sample.c $(pkg-config --cflags --libs sid2) && ./a.out samples.png
 */
#include <sid2/sid2.h>

#include <locale.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

enum { SIZE = 32, BATCH = 8, STEPS = 20, IMAGES = 4 };

static uint8_t pixels[BATCH * SIZE * SIZE * 3], samples[IMAGES * SIZE * SIZE * 3];

/* Pictures and labels of one step: pictures BATCH * step, and on. */
static bool draw_batch(uint64_t step, int32_t *labels, sid2_error *err)
{
    for (uint64_t i = 0; i < BATCH; i++) {
        labels[i] = sid2_synth_label(BATCH * step + i);
        if (!sid2_synth_render(1, BATCH * step + i, SIZE, pixels + i * SIZE * SIZE * 3, err)) return false;
    }
    return true;
}

static bool train(sid2_trainer *trainer, sid2_error *err)
{
    for (uint64_t step = 0; step < STEPS; step++) {
        int32_t labels[BATCH];
        if (!draw_batch(step, labels, err) || !sid2_trainer_step(trainer, pixels, labels, err)) return false;
        const sid2_train_stats *stats = sid2_trainer_stats(trainer);
        if (stats->step % 5 == 0) printf("step %2d, loss %.4f\n", (int)stats->step, stats->loss);
    }
    return true;
}

/* A seed is an image: the same one every time with these weights. */
static bool sample(sid2_sampler *sampler, const char *path, sid2_error *err)
{
    const uint64_t seeds[IMAGES] = {1, 2, 3, 4};
    int32_t labels[IMAGES] = {0, 1, 2, 3};
    sid2_image grid = {0};
    bool ok = sid2_sampler_run(sampler, seeds, labels, IMAGES, samples, NULL, NULL, err) &&
              sid2_image_grid(&grid, samples, IMAGES, SIZE, SIZE, 3, 0, 2, 255, err) &&
              sid2_png_write(path, &grid, NULL, 0, err);
    sid2_image_free(&grid);
    return ok;
}

int main(int argc, char **argv)
{
    const char *path = argc > 1 ? argv[1] : "samples.png";
    setlocale(LC_ALL, ""); /* as programs with a user do: libsid2 reads and writes numbers as ever */
    sid2_error err = {0};
    sid2_config *config = sid2_config_create();
    sid2_device *device = sid2_device_open("cpu", NULL, &err);
    bool ok = config && device && sid2_config_preset(config, "quickstart", &err) &&
              sid2_config_set(config, "train.batch=8", &err) &&
              sid2_config_set(config, "train.learning_rate=1e-3", &err) &&
              sid2_config_set(config, "sample.steps=4", &err) &&
              sid2_config_set(config, "sample.batch=4", &err);
    if (ok) {
        sid2_config_settle_train(config, device);
        sid2_config_settle_sample(config, device);
    }
    sid2_trainer *trainer = ok ? sid2_trainer_create(device, config, 0, &err) : NULL;
    ok = trainer && train(trainer, &err);
    sid2_sampler *sampler = ok ? sid2_sampler_create(device, config, 0, &err) : NULL;
    ok = sampler && sid2_sampler_load_trainer(sampler, trainer, &err) && sample(sampler, path, &err);
    if (ok)
        printf("%s: made by libsid2 %s\n", path, sid2_version());
    else
        fprintf(stderr, "train_and_sample: %s\n", err.message);
    sid2_sampler_destroy(sampler);
    sid2_trainer_destroy(trainer);
    sid2_device_close(device);
    sid2_config_destroy(config);
    return ok ? EXIT_SUCCESS : EXIT_FAILURE;
}
