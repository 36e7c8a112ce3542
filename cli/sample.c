/* sid2 sample: seeds in, pictures out. */
#include "cli.h"

#include "classes.h"
#include "file.h"
#include "image.h"
#include "npz.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { MAX_SEEDS = 10000000, MAX_TEXTS = 15 };

typedef enum output_kind { OUTPUT_FOLDER, OUTPUT_GRID, OUTPUT_NPZ } output_kind;

typedef struct job {
    const char *path, *seeds_text, *class_text, *out;
    int64_t columns;
    device_choice on;
    size_t memory;
    bool raw;
    assignments set;

    char directory[4096], digest[33];
    int hold; /* on the directory */
    sid2_config *config;
    sid2_device *device;
    sid2_sampler *sampler;
    sid2_classes *names; /* of its classes */
    uint64_t *seeds;
    size_t count, chosen_count;
    int32_t *labels, *chosen; /* chosen: by --class */
    uint8_t *pixels;          /* of a grid: all; else of one batch */
    size_t image_bytes;
    output_kind kind;
    sid2_npz *npz;
    sid2_atomic_file file; /* a grid's, an archive's until that takes it */

    progress bar;
    size_t done;               /* images of finished batches */
    int64_t evaluations, full; /* network passes over one image, of finished batches */
    sid2_sample_progress now;  /* of the batch in work */
} job;

/* ---- What each picture says about itself ---- */

typedef struct text_list {
    sid2_png_text item[MAX_TEXTS];
    size_t count;
    char values[MAX_TEXTS][256];
} text_list;

static void add_text(text_list *list, char *key, const char *value)
{
    if (list->count == MAX_TEXTS || !*value) return;
    char *copy = list->values[list->count];
    snprintf(copy, sizeof list->values[0], "%s", value);
    list->item[list->count++] = (sid2_png_text){key, copy};
}

static void add_key(text_list *list, char *key, const sid2_config *config, const char *name)
{
    char value[256];
    add_text(list, key, config_text(config, name, value));
}

static void describe_classes(const job *j, text_list *list, size_t first, size_t count)
{
    char text[SID2_CLASSES_LIST];
    add_text(list, "Class", sid2_classes_list(NULL, j->labels + first, count, " ", text));
    if (j->names)
        add_text(list, "Class name", sid2_classes_list(j->names, j->labels + first, count, ", ", text));
}

static void describe(const job *j, text_list *list, const char *seeds, size_t first, size_t count)
{
    char grid[256];
    *list = (text_list){0};
    add_text(list, "Software", "sid2 " SID2_VERSION);
    add_text(list, "Checkpoint", j->digest);
    add_text(list, "Seed", seeds);
    describe_classes(j, list, first, count);
    add_key(list, "Steps", j->config, "sample.steps");
    add_key(list, "Sampler", j->config, "sample.sampler");
    if (sid2_config_uses(j->config, "sample.gamma")) add_key(list, "Gamma", j->config, "sample.gamma");
    if (strcmp(config_text(j->config, "sample.grid", grid), "uniform") != 0) add_text(list, "Grid", grid);
    if (sid2_config_uses(j->config, "sample.rho")) add_key(list, "Rho", j->config, "sample.rho");
    add_key(list, "Guidance", j->config, "sample.guidance");
    add_key(list, "Interval", j->config, "sample.interval");
    add_key(list, "Precision", j->config, "sample.precision");
    add_text(list, "Weights", j->raw ? "raw" : "EMA");
}

/* ---- Preparing ---- */

static bool prepare_labels(job *j, sid2_error *err)
{
    j->labels = malloc(j->count * sizeof *j->labels);
    if (!j->labels) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory for %zu labels", j->count);
    int classes = sid2_config_classes(j->config);
    if (j->class_text) {
        if (!classes) return sid2_fail(err, SID2_ERR_USAGE, "%s has no classes: leave --class away", j->path);
        j->chosen = sid2_classes_parse(j->names, classes, j->class_text, &j->chosen_count, err);
        if (!j->chosen) return false;
    }
    for (size_t i = 0; i < j->count; i++) j->labels[i] = j->chosen ? j->chosen[i % j->chosen_count] : -1;
    return true;
}

static bool choose_kind(job *j, sid2_error *err)
{
    static const char *const foreign[] = {".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff"};
    for (size_t i = 0; i < sizeof foreign / sizeof foreign[0]; i++)
        if (sid2_text_ends(j->out, foreign[i]))
            return sid2_fail(err, SID2_ERR_USAGE, "--out '%s' should be x.png, x.npz or a folder", j->out);
    j->kind = sid2_text_ends(j->out, ".png")   ? OUTPUT_GRID
              : sid2_text_ends(j->out, ".npz") ? OUTPUT_NPZ
                                               : OUTPUT_FOLDER;
    return true;
}

static int by_number(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* In a folder a seed is a file. */
static bool check_repeats(const job *j, sid2_error *err)
{
    uint64_t *sorted = malloc(j->count * sizeof *sorted);
    if (!sorted) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory for %zu seeds", j->count);
    memcpy(sorted, j->seeds, j->count * sizeof *sorted);
    qsort(sorted, j->count, sizeof *sorted, by_number);
    bool ok = true;
    for (size_t i = 1; i < j->count && ok; i++)
        ok = sorted[i] != sorted[i - 1] ||
             sid2_fail(err, SID2_ERR_USAGE,
                       "--seeds names %" PRIu64
                       " twice, and a folder has one file a seed: name it once, or "
                       "give --out x.png or x.npz",
                       sorted[i]);
    free(sorted);
    return ok;
}

/* Everything that can be wrong with the output is found before the long work, not after. */
static bool prepare_output(job *j, sid2_error *err)
{
    int size = sid2_config_image_size(j->config), channels = sid2_config_image_channels(j->config);
    j->image_bytes = (size_t)size * (size_t)size * (size_t)channels;
    sid2_grid_size whole;
    if ((size_t)j->columns > j->count) j->columns = (int64_t)j->count;
    if (j->kind == OUTPUT_GRID && !sid2_image_grid_size(&whole, (int32_t)j->count, size, size,
                                                        (int32_t)j->columns, SID2_GRID_PADDING, err))
        return sid2_fail(err, SID2_ERR_USAGE, "%s: change --columns, or give --out a folder or x.npz",
                         err->message);
    size_t held = j->kind == OUTPUT_GRID ? j->count : (size_t)config_int(j->config, "sample.batch");
    j->pixels = malloc(held * j->image_bytes);
    if (!j->pixels) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory for %zu images", held);
    if (j->kind == OUTPUT_FOLDER) return sid2_make_directories(j->out, err);
    if (!sid2_atomic_open(&j->file, j->out, err)) return false;
    if (j->kind == OUTPUT_GRID) return true;
    j->npz = sid2_npz_open(&j->file, (int64_t)j->count, size, size, channels,
                           sid2_config_classes(j->config) > 0, err);
    return j->npz != NULL;
}

static bool prepare(job *j, sid2_error *err)
{
    j->config = sid2_config_create();
    if (!j->config) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory");
    if (!sid2_checkpoint_hold(j->path, j->directory, sizeof j->directory, &j->hold, err) ||
        !sid2_checkpoint_config(j->directory, j->config, err) ||
        !sid2_checkpoint_classes(j->directory, &j->names, err) || !options_apply(j->config, &j->set, err) ||
        !sid2_config_check(j->config, err))
        return false;
    j->seeds = parse_ranges("seeds", j->seeds_text, MAX_SEEDS, &j->count, err);
    if (!j->seeds || !choose_kind(j, err)) return false;
    if (j->kind == OUTPUT_FOLDER && !check_repeats(j, err)) return false;
    if (!prepare_labels(j, err)) return false;
    if (j->count < (size_t)config_int(j->config, "sample.batch")) {
        char batch[64]; /* a larger one would compute images that nobody asked for */
        snprintf(batch, sizeof batch, "sample.batch=%zu", j->count);
        if (!sid2_config_set(j->config, batch, err)) return false;
    }
    j->device = open_device(&j->on, err);
    if (!j->device) return false;
    sid2_config_settle_sample(j->config, j->device);
    progress_begin(&j->bar);
    progress_wait(&j->bar, "preparing the device");
    j->sampler = sid2_sampler_create(j->device, j->config, j->memory, err);
    progress_clear(&j->bar);
    return j->sampler && sid2_sampler_load(j->sampler, j->directory, !j->raw, err) &&
           sid2_checkpoint_digest(j->directory, j->digest, err) && prepare_output(j, err);
}

/* ---- Working ---- */

static size_t next_batch(const job *j)
{
    size_t batch = (size_t)config_int(j->config, "sample.batch"), left = j->count - j->done;
    return left < batch ? left : batch;
}

static bool on_step(void *user, const sid2_sample_progress *now)
{
    job *j = user;
    j->now = *now;
    double fraction = ((double)j->done + (double)next_batch(j) * now->step / now->steps) / (double)j->count;
    double spent = sid2_clock() - j->bar.began;
    char left[32];
    progress_show(&j->bar, fraction, "%zu of %zu images, step %d of %d, %s left",
                  j->done + (size_t)now->images, j->count, now->step, now->steps,
                  sid2_text_time(spent / fraction - spent, left));
    return !interrupted();
}

static bool keep_batch(job *j, const uint8_t *pixels, size_t first, size_t count, sid2_error *err)
{
    if (j->kind == OUTPUT_GRID) return true;
    if (j->kind == OUTPUT_NPZ) return sid2_npz_append(j->npz, pixels, j->labels + first, (int64_t)count, err);
    int size = sid2_config_image_size(j->config), channels = sid2_config_image_channels(j->config);
    for (size_t i = first; i < first + count; i++, pixels += j->image_bytes) {
        char path[4096], seed[32];
        snprintf(seed, sizeof seed, "%" PRIu64, j->seeds[i]);
        text_list texts;
        describe(j, &texts, seed, i, 1);
        sid2_image image = {.width = size, .height = size, .channels = channels, .pixels = (uint8_t *)pixels};
        if (!sid2_path(path, err, "%s/%06" PRIu64 ".png", j->out, j->seeds[i]) ||
            !sid2_png_write(path, &image, texts.item, texts.count, err))
            return false;
    }
    return true;
}

static bool write_grid(job *j, sid2_error *err)
{
    int size = sid2_config_image_size(j->config), channels = sid2_config_image_channels(j->config);
    text_list texts;
    describe(j, &texts, j->seeds_text, 0, j->count);
    sid2_image grid = {0};
    bool ok = sid2_image_grid(&grid, j->pixels, (int32_t)j->count, size, size, channels, (int32_t)j->columns,
                              SID2_GRID_PADDING, 255, err) &&
              sid2_png_finish(&j->file, &grid, texts.item, texts.count, err);
    sid2_image_free(&grid);
    return ok;
}

static bool work(job *j, sid2_error *err)
{
    progress_begin(&j->bar);
    while (j->done < j->count) {
        size_t count = next_batch(j);
        uint8_t *pixels = j->pixels + (j->kind == OUTPUT_GRID ? j->done * j->image_bytes : 0);
        if (!sid2_sampler_run(j->sampler, j->seeds + j->done, j->labels + j->done, (int)count, pixels,
                              on_step, j, err) ||
            !keep_batch(j, pixels, j->done, count, err))
            return false;
        j->done += count;
        j->evaluations += j->now.evaluations;
        j->full += j->now.full_evaluations;
    }
    if (j->kind == OUTPUT_GRID) return write_grid(j, err);
    if (j->kind == OUTPUT_FOLDER) return true;
    sid2_npz *npz = j->npz;
    j->npz = NULL;
    return sid2_npz_commit(npz, err);
}

static void print_result(const job *j, double seconds)
{
    char spent[32], rate[32];
    printf("%zu image%s in %s (%s images/s): %s%s\n", j->count, j->count == 1 ? "" : "s",
           sid2_text_time(seconds, spent), sid2_text_rate((double)j->count / seconds, rate), j->out,
           j->kind == OUTPUT_FOLDER && !sid2_text_ends(j->out, "/") ? "/" : "");
    if (config_real(j->config, "sample.guidance") != 1 && j->full)
        printf(
            "guidance took the conditional network alone for %.0f of %.0f evaluations: %.0f %% of the cost\n",
            (double)(j->full - j->evaluations) / (double)j->count, (double)j->full / 2 / (double)j->count,
            100 * (double)j->evaluations / (double)j->full);
}

int command_sample(int argc, char **argv)
{
    job j = {.hold = -1, .seeds_text = "0-63", .out = "samples.png"};
    char samplers[256], grids[256];
    const option_row rows[] = {
        {OPTION_POSITIONAL, "CHECKPOINT", NULL, &j.path,
         "a checkpoint's folder, or a run (its newest checkpoint)", NULL},
        {OPTION_TEXT, "seeds", "LIST", &j.seeds_text, "which images: a seed is an image (0-63)", NULL},
        {OPTION_TEXT, "class", "NAME", &j.class_text,
         "the class of all images, by name or number; a list (dog,3,5-9) is gone through in turn (drawn from "
         "each seed)",
         NULL},
        {OPTION_TEXT, "out", "PATH", &j.out,
         "x.png: a grid; x.npz: arr_0 uint8 NHWC, arr_1 labels, if any; else a folder, one PNG a seed "
         "(samples.png)",
         NULL},
        {OPTION_INT, "columns", "N", &j.columns, "columns of a grid (nearly square)", NULL},
        {OPTION_KEY, "steps", "N", &j.set, "sampler steps (the checkpoint's sample.steps)", "sample.steps"},
        {OPTION_KEY, "sampler", "NAME", &j.set, words_of("sample.sampler", samplers), "sample.sampler"},
        {OPTION_KEY, "grid", "NAME", &j.set, words_of("sample.grid", grids), "sample.grid"},
        {OPTION_KEY, "guidance", "W", &j.set, "guidance weight; 1: none (sample.guidance)",
         "sample.guidance"},
        {OPTION_KEY, "interval", "LO,HI", &j.set,
         "logSNR between which to guide, always or none (sample.interval)", "sample.interval"},
        {OPTION_KEY, "batch", "N", &j.set,
         "images at a time; changes the speed, not the images (sample.batch)", "sample.batch"},
        {OPTION_FLAG, "raw", NULL, &j.raw, "the weights themselves rather than their average", NULL},
        OPTIONS_DEVICE_CHOICE(j.on),
        OPTION_MEMORY(&j.memory),
        OPTION_SET_KEY(&j.set),
    };
    int code = options_parse(&(option_table){"sample", "Make images with a trained model", NULL, rows,
                                             sizeof rows / sizeof rows[0]},
                             argc, argv);
    if (code != OPTIONS_RUN) return code;

    sid2_error err = {0};
    interrupt_install();
    bool ok = prepare(&j, &err);
    double began = sid2_clock();
    if (ok) {
        fprintf(stderr, "%s on %s\n", j.directory, sid2_device_describe(j.device)->name);
        ok = work(&j, &err);
        progress_clear(&j.bar);
        print_notice(j.device);
    }
    if (ok)
        print_result(&j, sid2_clock() - began);
    else if (err.code == SID2_ERR_CANCELLED)
        fprintf(stderr, "sid2 sample: stopped; %s\n",
                j.kind == OUTPUT_FOLDER ? "the images so far are whole" : "nothing was written");
    code = ok ? 0 : err.code == SID2_ERR_CANCELLED ? 1 : report_error("sample", &err);

    if (j.npz) sid2_npz_discard(j.npz);
    sid2_atomic_discard(&j.file);
    sid2_sampler_destroy(j.sampler);
    sid2_checkpoint_release(j.hold);
    sid2_device_close(j.device);
    sid2_config_destroy(j.config);
    free(j.seeds);
    free(j.chosen);
    sid2_classes_destroy(j.names);
    free(j.labels);
    free(j.pixels);
    return code;
}
