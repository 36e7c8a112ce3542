#include "propose.h"

#include "config.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* From small to large; `least`: pictures, with fewer of which a model of that size mostly learns them by heart. */
typedef struct candidate {
    const char *preset;
    int64_t least;
} candidate;

static const candidate candidates[] = {{"quickstart", 0}, {"photos64", 500}, {"emoji128", 2000}};
enum { CANDIDATES = sizeof candidates / sizeof *candidates, DAY = 24 * 60 * 60 };

typedef struct measured {
    int size;
    int64_t steps, batch;
    double step; /* seconds */
    bool fits;   /* into the memory */
} measured;

/* Seconds that a step of `batch` pictures takes: the shortest of those after the first, for a second or so. Longer ones
 * were waiting for something else. */
static bool time_steps(sid2_device *device, sid2_config *config, int64_t batch, size_t memory,
                       double *seconds, sid2_error *err)
{
    enum { MOST_STEPS = 20 };
    size_t bytes = (size_t)batch * sid2_config_image_bytes(config);
    if (!config_set_int(config, "train.batch", batch, err)) return false;
    uint8_t *pixels = malloc(bytes);
    if (!pixels) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory for a batch");
    for (size_t i = 0; i < bytes; i++) pixels[i] = (uint8_t)(i * 37 % 251);
    sid2_trainer *trainer = sid2_trainer_create(device, config, memory, err);
    bool ok = trainer && sid2_trainer_step(trainer, pixels, NULL, err);
    double began = sid2_clock(), now = began;
    *seconds = INFINITY;
    for (int i = 0; ok && i < MOST_STEPS && now - began < 1; i++) {
        double before = now;
        ok = !interrupted() ? sid2_trainer_step(trainer, pixels, NULL, err)
                            : sid2_fail(err, SID2_ERR_CANCELLED, "stopped");
        now = sid2_clock();
        *seconds = fmin(*seconds, now - before);
    }
    sid2_trainer_destroy(trainer);
    free(pixels);
    return ok;
}

/* A few pictures at a time say enough of a processor; a device for which those are nothing is given whole batches. */
static bool measure(sid2_device *device, const char *preset, size_t memory, measured *m, sid2_error *err)
{
    enum { FEW = 8 };
    sid2_config *config = sid2_config_create();
    if (!config) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory");
    bool ok = sid2_config_preset(config, preset, err);
    *m = (measured){.size = sid2_config_image_size(config),
                    .steps = config_int(config, "train.steps"),
                    .batch = config_int(config, "train.batch")};
    sid2_config_settle_train(config, device);
    double seconds = 0;
    ok = ok && time_steps(device, config, FEW, memory, &seconds, err);
    m->step = seconds * (double)m->batch / FEW;
    if (ok && seconds < 0.05) ok = time_steps(device, config, m->batch, memory, &m->step, err);
    m->fits = ok;
    if (!ok && err->code == SID2_ERR_MEMORY) ok = true;
    sid2_config_destroy(config);
    return ok;
}

static double whole_time(const measured *m) { return m->step * (double)m->steps; }

/* The largest for which there are pictures, memory and time; else the one that is soonest done. */
static int choose(const measured m[CANDIDATES], int64_t pictures, double limit)
{
    int chosen = -1, soonest = -1;
    for (int i = 0; i < CANDIDATES; i++) {
        if (!m[i].fits) continue;
        if (soonest < 0 || whole_time(&m[i]) < whole_time(&m[soonest])) soonest = i;
        if (pictures >= candidates[i].least && whole_time(&m[i]) <= limit) chosen = i;
    }
    return chosen >= 0 ? chosen : soonest;
}

static void print_rows(const measured m[CANDIDATES], int64_t pictures, double limit, int chosen)
{
    char time[32];
    puts("  preset       pictures   a step      its steps        in all");
    for (int i = 0; i < CANDIDATES; i++) {
        char size[24];
        snprintf(size, sizeof size, "%dx%d", m[i].size, m[i].size);
        printf("  %-12s %-9s", candidates[i].preset, size);
        if (!m[i].fits) {
            puts(" does not fit into the memory");
            continue;
        }
        printf(" %7.3f s %10" PRId64 " %15s", m[i].step, m[i].steps, sid2_text_time(whole_time(&m[i]), time));
        if (i == chosen) fputs("   <- proposed", stdout);
        if (pictures < candidates[i].least)
            printf("   for %" PRId64 " pictures and more", candidates[i].least);
        else if (whole_time(&m[i]) > limit)
            printf("   more than %s", sid2_text_time(limit, time));
        putchar('\n');
    }
}

const char *propose_preset(const char *data, const device_choice *on, size_t memory, double minutes,
                           sid2_error *err)
{
    measured m[CANDIDATES] = {0};
    progress bar;
    double limit = minutes > 0 ? 60 * minutes : DAY, began = sid2_clock();
    progress_begin(&bar);
    sid2_dataset *set = sid2_dataset_open(data,
                                          &sid2_with(sid2_dataset_options, .size = 64, .cache_bytes = 1,
                                                     .on_skip = print_skipped, .user = &bar),
                                          err);
    sid2_device *device = set ? open_device(on, err) : NULL;
    bool ok = device != NULL;
    for (int i = 0; ok && i < CANDIDATES; i++) {
        progress_show(&bar, (double)i / CANDIDATES, "measuring %s", candidates[i].preset);
        ok = measure(device, candidates[i].preset, memory, &m[i], err);
    }
    progress_clear(&bar);
    int chosen = -1;
    if (ok) {
        int64_t pictures = sid2_dataset_count(set);
        chosen = choose(m, pictures, limit);
        printf("data     %" PRId64 " pictures, %d classes, %s: %s\n", pictures,
               (int)sid2_dataset_classes(set), sid2_dataset_kind(set), data);
        printf("measured in %.0f s on %s\n", sid2_clock() - began, sid2_device_describe(device)->name);
        print_rows(m, pictures, limit, chosen);
    }
    sid2_device_close(device);
    sid2_dataset_close(set);
    if (ok && chosen < 0) ok = sid2_fail(err, SID2_ERR_MEMORY, "no preset fits into the memory");
    return ok ? candidates[chosen].preset : NULL;
}
