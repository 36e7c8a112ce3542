/* sid2 train: images in, a run out. */
#include "run.h"

#include "image.h"
#include "loader.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

typedef struct session {
    const char *preset, *data_path, *out, *from;
    device_choice on;
    size_t memory;
    double minutes;
    assignments set;

    bool resuming;
    char checkpoint[4096]; /* to go on from */
    char saved_data[4096];
    sid2_config *config;
    sid2_device *device;
    sid2_dataset *data;
    sid2_loader *loader;
    sid2_trainer *trainer;
    run run;

    progress bar;
    uint64_t steps;      /* train.steps */
    uint64_t first_step; /* where this start began */
    double began, aside; /* of this start; seconds in samples and checkpoints rather than steps */
    double loss;         /* smoothed, for the eye */
    run_line line;       /* what the next line of stats.jsonl gathers */
    uint64_t line_steps, line_images;
    double line_began, line_aside;
} session;

/* ---- Preparing: everything that can be refused is refused before the run's folder is touched ---- */

static bool is_set(const assignments *set, const char *key)
{
    size_t length = strlen(key);
    for (int i = 0; i < set->count; i++)
        if (strncmp(set->item[i], key, length) == 0 && set->item[i][length] == '=') return true;
    return false;
}

static bool prepare_config(session *s, sid2_error *err)
{
    s->config = sid2_config_create();
    if (!s->config) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory");
    if (!run_examine(s->out, s->checkpoint, err)) return false;
    s->resuming = s->checkpoint[0];
    if (s->preset) {
        if (!sid2_config_preset(s->config, s->preset, err)) return false;
    } else if (s->resuming) {
        if (!sid2_checkpoint_config(s->out, s->config, err)) return false;
    } else {
        return sid2_fail(err, SID2_ERR_USAGE,
                         "--preset is missing: a preset's name (sid2 --help lists them) or a file");
    }
    return options_apply(s->config, &s->set, err);
}

/* The data decides how many classes the model has, unless --set does, or the run that goes on. Without
 * classes there is nothing to guide by, whatever the preset says. */
static bool prepare_classes(session *s, sid2_error *err)
{
    int classes = sid2_dataset_classes(s->data);
    bool given = is_set(&s->set, "model.classes") || (s->resuming && !s->preset);
    if (!given) {
        char text[64];
        snprintf(text, sizeof text, "model.classes=%d", classes);
        if (!sid2_config_set(s->config, text, err)) return false;
    }
    int wanted = sid2_config_classes(s->config);
    if (!wanted && !is_set(&s->set, "sample.guidance"))
        return sid2_config_set(s->config, "sample.guidance=1", err);
    if (wanted && classes > wanted)
        return sid2_fail(err, SID2_ERR_USAGE, "%s has %d classes, model.classes is %d", s->data_path, classes,
                         wanted);
    return true;
}

static bool prepare_data(session *s, sid2_error *err)
{
    char device[160];
    int64_t images = 0;
    bool known = s->resuming && run_load_facts(s->out, s->saved_data, &images, device);
    if (!s->data_path && known) s->data_path = s->saved_data;
    if (!s->data_path)
        return sid2_fail(err, SID2_ERR_USAGE,
                         "--data is missing: a folder of images by class, a zip, CIFAR-10 or MNIST files");
    double holdout = config_real(s->config, "train.holdout");
    s->data = sid2_dataset_open(s->data_path,
                                (sid2_dataset_options){.size = sid2_config_image_size(s->config),
                                                       .channels = sid2_config_image_channels(s->config),
                                                       .part = holdout > 0 ? SID2_PART_TRAIN : SID2_PART_ALL,
                                                       .holdout = holdout,
                                                       .on_skip = print_skipped,
                                                       .user = &s->bar},
                                err);
    if (!s->data || !prepare_classes(s, err)) return false;
    bool folder = strcmp(sid2_dataset_kind(s->data), "folder") == 0;
    if (folder && !s->resuming && !run_check_data(s->out, s->data_path, err)) return false;
    if (known && images != sid2_dataset_count(s->data))
        return sid2_fail(err, SID2_ERR_USAGE,
                         "%s was begun on %" PRId64 " images to train on, %s now has %" PRId64
                         ": the pictures or train.holdout changed; undo that, or give --out another folder",
                         s->out, images, s->data_path, sid2_dataset_count(s->data));
    return true;
}

/* A damaged checkpoint is no end where an older one lies beside it. */
static bool advise_older(const session *s, sid2_error *err)
{
    char older[4096];
    sid2_error cause = *err;
    bool damaged = cause.code == SID2_ERR_FORMAT || cause.code == SID2_ERR_IO;
    if (!damaged || !run_older_checkpoint(&s->run, s->checkpoint, older)) return false;
    return sid2_fail(err, cause.code, "%s; remove %s to go on from %s", cause.message, s->checkpoint,
                     strrchr(older, '/') + 1);
}

static bool prepare_state(session *s, sid2_error *err)
{
    if (s->resuming) {
        if (!sid2_trainer_resume(s->trainer, s->checkpoint, err)) return advise_older(s, err);
        fprintf(stderr, "resuming %s\n", s->checkpoint);
    } else if (s->from) {
        if (!sid2_checkpoint_find(s->from, s->checkpoint, sizeof s->checkpoint, err) ||
            !sid2_trainer_warm_start(s->trainer, s->checkpoint, err))
            return false;
        fprintf(stderr, "starting from the weights of %s\n", s->checkpoint);
    }
    return true;
}

static void print_plan(const session *s)
{
    char a[32], b[32], c[32], d[32];
    sid2_memory_report m = sid2_trainer_memory(s->trainer);
    fprintf(stderr, "device   %s\n", sid2_device_describe(s->device)->name);
    fprintf(stderr, "data     %" PRId64 " images, %d classes, %s: %s\n", sid2_dataset_count(s->data),
            sid2_dataset_classes(s->data), sid2_dataset_kind(s->data), s->data_path);
    fprintf(stderr, "memory   %s: weights, gradients, Adam and EMA %s; activations %s; workspace %s\n",
            text_bytes((double)(m.state + m.arena + m.workspace), a), text_bytes((double)m.state, b),
            text_bytes((double)m.arena, c), text_bytes((double)m.workspace, d));
    fprintf(stderr, "step     %" PRId64 " images, %d at a time", config_int(s->config, "train.batch"),
            m.microbatch);
    if (m.recomputed_segments)
        fprintf(stderr, "; %d of %d blocks computed twice to save memory", m.recomputed_segments, m.segments);
    fputc('\n', stderr);
}

static bool prepare(session *s, sid2_error *err)
{
    if (!prepare_config(s, err) || !prepare_data(s, err) || !sid2_config_check(s->config, err)) return false;
    s->device = open_device(&s->on, err);
    if (!s->device) return false;
    sid2_config_settle_train(s->config, s->device);
    if (s->resuming && !run_check_config(s->out, s->config, err)) return false;
    progress_begin(&s->bar);
    progress_wait(&s->bar, "preparing the device");
    s->trainer = sid2_trainer_create(s->device, s->config, s->memory, err);
    progress_clear(&s->bar);
    if (!s->trainer) return false;
    /* A run that goes on is locked before it is read; a new one gets its folder last. */
    if ((s->resuming && !run_open(&s->run, s->out, err)) || !prepare_state(s, err) ||
        (!s->resuming && !run_open(&s->run, s->out, err)))
        return false;
    print_plan(s);
    s->steps = (uint64_t)config_int(s->config, "train.steps");
    s->first_step = sid2_trainer_steps(s->trainer);
    if (s->first_step >= s->steps) return true; /* nothing left to do */
    s->loader = sid2_loader_open(s->data,
                                 (sid2_loader_options){.batch = (int32_t)config_int(s->config, "train.batch"),
                                                       .seed = (uint64_t)config_int(s->config, "train.seed"),
                                                       .first_sample = sid2_trainer_images(s->trainer),
                                                       .flip = config_yes(s->config, "train.flip")},
                                 err);
    if (s->loader && s->resuming) run_print_changes(s->out, s->config);
    return s->loader && run_open_stats(&s->run, s->first_step, err) &&
           run_save_config(&s->run, s->config, err) &&
           run_save_facts(&s->run, s->data_path, sid2_dataset_count(s->data),
                          sid2_device_describe(s->device)->name, err);
}

/* ---- Numbers ---- */

static double seconds_spent(const session *s) { return s->run.seconds + clock_seconds() - s->began; }

static void begin_line(session *s)
{
    s->line = (run_line){0};
    s->line_steps = s->line_images = 0;
    s->line_began = clock_seconds();
    s->line_aside = s->aside;
}

static void gather(session *s, const sid2_train_stats *now)
{
    run_line *line = &s->line;
    int batch = (int)config_int(s->config, "train.batch");
    line->loss += now->loss;
    line->grad_norm += now->grad_norm;
    line->learning_rate = now->learning_rate;
    for (int i = 0; i < batch; i++) {
        int bin = (int)floor((now->sample_logsnr[i] + 10) / 2);
        bin = bin < 0 ? 0 : bin >= LOGSNR_BINS ? LOGSNR_BINS - 1 : bin;
        line->bin_loss[bin] += now->sample_loss[i];
        line->bin_count[bin]++;
    }
    s->line_steps++;
    s->line_images += (uint64_t)batch;
    double weight = fmax(0.02, 1.0 / (double)(now->step - s->first_step));
    s->loss += weight * (now->loss - s->loss);
}

static bool write_line(session *s, const sid2_train_stats *now, sid2_error *err)
{
    run_line *line = &s->line;
    if (!s->line_steps) return true; /* the last one ended here */
    double seconds = clock_seconds() - s->line_began - (s->aside - s->line_aside);
    line->step = now->step;
    line->images = now->images;
    line->loss /= (double)s->line_steps;
    line->grad_norm /= (double)s->line_steps;
    line->images_per_s = (double)s->line_images / seconds;
    line->seconds = seconds_spent(s);
    for (int i = 0; i < LOGSNR_BINS; i++)
        if (line->bin_count[i]) line->bin_loss[i] /= line->bin_count[i];
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    line->memory = (size_t)usage.ru_maxrss * 1024;
    bool ok = run_write_stats(&s->run, line, err);
    begin_line(s);
    return ok;
}

static void show(session *s, const sid2_train_stats *now)
{
    char left[32], rate[32];
    double stepping = clock_seconds() - s->began - s->aside;
    double per_step = stepping / (double)(now->step - s->first_step);
    progress_show(&s->bar, (double)now->step / (double)s->steps,
                  "step %" PRIu64 "/%" PRIu64 ", loss %.4f, %s images/s, %s left", now->step, s->steps,
                  s->loss, text_rate(config_real(s->config, "train.batch") / per_step, rate),
                  text_time(per_step * (double)(s->steps - now->step), left));
}

/* ---- Samples and checkpoints ---- */

static bool on_sample_step(void *user, const sid2_sample_progress *now)
{
    session *s = user;
    double fraction = (now->images + (double)now->step / now->steps) / now->total;
    progress_show(&s->bar, (double)sid2_trainer_steps(s->trainer) / (double)s->steps,
                  "drawing samples: %.0f %%", 100 * fmin(1, fraction));
    return !interrupted();
}

/* One column a class where that gives a sensible grid. */
static bool draw(session *s, sid2_sampler *sampler, uint64_t step, sid2_error *err)
{
    int count = (int)config_int(s->config, "train.sample_count"), classes = sid2_config_classes(s->config);
    int size = sid2_config_image_size(s->config), channels = sid2_config_image_channels(s->config);
    uint64_t *seeds = calloc((size_t)count, sizeof *seeds);
    int32_t *labels = calloc((size_t)count, sizeof *labels);
    uint8_t *pixels = malloc((size_t)count * (size_t)size * (size_t)size * (size_t)channels);
    sid2_image grid = {0};
    char path[4096];
    bool ok = seeds && labels && pixels;
    if (!ok) sid2_fail(err, SID2_ERR_MEMORY, "out of memory for %d samples", count);
    for (int i = 0; ok && i < count; i++) {
        seeds[i] = (uint64_t)i;
        labels[i] = classes ? i % classes : -1;
    }
    int columns = classes >= 4 && classes <= 16 && count >= classes ? classes : 0;
    ok = ok && sid2_sampler_run(sampler, seeds, labels, count, pixels, on_sample_step, s, err) &&
         sid2_image_grid(&grid, pixels, count, size, size, channels, columns, GRID_PADDING, 255, err) &&
         make_path(path, err, "%s/samples/step-%08" PRIu64 ".png", s->run.path, step) &&
         sid2_png_write(path, &grid, NULL, 0, err);
    sid2_image_free(&grid);
    free(seeds);
    free(labels);
    free(pixels);
    return ok;
}

/* A grid that cannot be drawn is worth a line, not the end of the training. */
static void sample(session *s, uint64_t step)
{
    sid2_error err = {0};
    char steps[64];
    sid2_config *config = sid2_config_clone(s->config);
    snprintf(steps, sizeof steps, "sample.steps=%" PRId64, config_int(s->config, "train.sample_steps"));
    sid2_memory_report m = sid2_trainer_memory(s->trainer);
    size_t held = m.state + m.arena + m.workspace, room = s->memory > held ? s->memory - held : 1;
    sid2_sampler *sampler = NULL;
    if (config) sid2_config_settle_sample(config, s->device);
    bool ok = config && sid2_config_set(config, steps, &err) &&
              (sampler = sid2_sampler_create(s->device, config, s->memory ? room : 0, &err)) &&
              sid2_sampler_load_trainer(sampler, s->trainer, &err) && draw(s, sampler, step, &err);
    sid2_sampler_destroy(sampler);
    sid2_config_destroy(config);
    if (ok || err.code == SID2_ERR_CANCELLED) return;
    progress_clear(&s->bar);
    fprintf(stderr, "no sample grid at step %" PRIu64 ": %s\n", step, err.message);
}

static bool save(session *s, sid2_error *err)
{
    char path[4096];
    return run_checkpoint_path(&s->run, sid2_trainer_steps(s->trainer), path, err) &&
           sid2_trainer_save(s->trainer, path, err) &&
           run_prune(&s->run, config_int(s->config, "train.keep"), err);
}

static bool due(const session *s, const char *key, uint64_t step)
{
    uint64_t every = (uint64_t)config_int(s->config, key);
    return every && step % every == 0;
}

/* ---- The loop ---- */

static bool train(session *s, sid2_error *err)
{
    s->began = clock_seconds();
    begin_line(s);
    for (bool last = false; !last;) {
        sid2_batch batch;
        sid2_train_stats now;
        if (!sid2_loader_next(s->loader, &batch, err) ||
            !sid2_trainer_step(s->trainer, batch.pixels, batch.labels, &now, err))
            return false;
        gather(s, &now);
        show(s, &now);
        bool timed_out = s->minutes > 0 && clock_seconds() - s->began > 60 * s->minutes;
        last = now.step >= s->steps || timed_out || interrupted();
        /* A line ends with every checkpoint too: what goes on from there begins its next one there. */
        bool keep = last || due(s, "train.checkpoint_every", now.step);
        if ((keep || due(s, "train.log_every", now.step)) && !write_line(s, &now, err)) return false;
        double paused = clock_seconds();
        if (keep && !save(s, err)) return false;
        bool grid = config_int(s->config, "train.sample_every") && !interrupted();
        if (grid && (last || due(s, "train.sample_every", now.step))) sample(s, now.step);
        if (!last && interrupted()) { /* while the grid was drawn */
            last = true;
            if (!keep && (!write_line(s, &now, err) || !save(s, err))) return false;
        }
        s->aside += clock_seconds() - paused;
    }
    return true;
}

static int finish(session *s)
{
    char spent[32];
    uint64_t step = sid2_trainer_steps(s->trainer);
    progress_clear(&s->bar);
    if (s->first_step >= s->steps) {
        printf("%s is complete at step %" PRIu64 "; --set train.steps=%" PRIu64 " goes on\n", s->out, step,
               2 * step);
        return 0;
    }
    bool whole = step >= s->steps;
    printf("%s at step %" PRIu64 " of %" PRIu64 ", loss %.4f, %s of training: %s\n",
           whole ? "done" : "stopped", step, s->steps, s->loss, text_time(seconds_spent(s), spent), s->out);
    if (!whole)
        puts("the same command goes on from here");
    else
        printf("sid2 sample %s --out samples.png makes images; sid2 report %s shows the run\n", s->out,
               s->out);
    return whole || !interrupted() ? 0 : 1;
}

int command_train(int argc, char **argv)
{
    session s = {.run.lock = -1};
    const option_row rows[] = {
        {OPTION_TEXT, "preset", "NAME", &s.preset, "a preset's name, or a configuration file", NULL},
        {OPTION_TEXT, "data", "PATH", &s.data_path,
         "a folder of images by class, a zip, CIFAR-10 batches or MNIST idx files", NULL},
        {OPTION_TEXT, "out", "RUN", &s.out,
         "the run's folder; required. Where it holds a run, that is resumed", NULL},
        {OPTION_TEXT, "from", "CHECKPOINT", &s.from, "start from these weights, also to another patch size",
         NULL},
        {OPTION_REAL, "minutes", "M", &s.minutes, "stop after this long; the same command goes on (no limit)",
         NULL},
        OPTIONS_DEVICE_CHOICE(s.on),
        OPTION_MEMORY(&s.memory),
        OPTION_SET_KEY(&s.set),
    };
    const option_table table = {"train", "Train a model on images; the same command again resumes",
                                "All configuration keys: sid2 help --markdown, or docs/options.md.", rows,
                                sizeof rows / sizeof rows[0]};
    int code = options_parse(&table, argc, argv);
    if (code != OPTIONS_RUN) return code;
    if (!s.out) return report_usage("train", "--out is missing: a folder for the run");

    sid2_error err = {0};
    interrupt_install();
    progress_begin(&s.bar);
    bool ok = prepare(&s, &err) && (s.first_step >= s.steps || train(&s, &err));
    progress_clear(&s.bar);
    code = ok ? finish(&s) : report_error("train", &err);
    sid2_loader_close(s.loader);
    sid2_trainer_destroy(s.trainer);
    sid2_device_close(s.device);
    sid2_dataset_close(s.data);
    sid2_config_destroy(s.config);
    run_close(&s.run);
    return code;
}
