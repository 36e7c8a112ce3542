/* sid2 eval: held-out loss of a checkpoint by noise level. */
#include "cli.h"

#include "classes.h"
#include "loader.h"

#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct job {
    const char *path, *data_path;
    device_choice on;
    size_t memory;
    bool raw, all, json;
    assignments set;

    char directory[4096], digest[33];
    int hold; /* on the directory */
    sid2_config *config;
    sid2_device *device;
    sid2_evaluator *evaluator;
    sid2_dataset *data;
    int count, levels;
    uint8_t *pixels;
    int32_t *labels;
    sid2_eval_point *points;
    progress bar;
} job;

/* Labels go by number; where a number is called something else in the data, the loss is of other classes. */
static bool compare_classes(job *j, sid2_error *err)
{
    char difference[SID2_CLASSES_TEXT];
    sid2_classes *model = NULL, *data = NULL;
    bool ok = sid2_checkpoint_classes(j->directory, &model, err) && (data = sid2_dataset_names(j->data, err));
    if (ok && sid2_classes_differ(model, data, difference)) {
        progress_clear(&j->bar);
        fprintf(stderr, "%s has other classes than the model, and goes by their numbers: %s\n", j->data_path,
                difference);
    }
    sid2_classes_destroy(model);
    sid2_classes_destroy(data);
    return ok;
}

static bool load_images(job *j, sid2_error *err)
{
    double holdout = config_real(j->config, "train.holdout");
    int size = sid2_config_image_size(j->config), channels = sid2_config_image_channels(j->config);
    int classes = sid2_config_classes(j->config);
    bool part = !j->all && holdout > 0;
    j->data = sid2_dataset_open(j->data_path,
                                &sid2_with(sid2_dataset_options, .size = size, .channels = channels,
                                           .part = part ? SID2_PART_HELDOUT : SID2_PART_ALL,
                                           .holdout = holdout, .on_skip = print_skipped, .user = &j->bar),
                                err);
    if (!j->data || (classes && !compare_classes(j, err))) return false;
    int64_t available = sid2_dataset_count(j->data), wanted = config_int(j->config, "eval.images");
    if (!available)
        return sid2_fail(err, SID2_ERR_USAGE, "%s has no held-out images; --all takes every image",
                         j->data_path);
    j->count = (int)(wanted < available ? wanted : available);
    size_t bytes = (size_t)size * (size_t)size * (size_t)channels;
    j->pixels = malloc((size_t)j->count * bytes);
    j->labels = malloc((size_t)j->count * sizeof *j->labels);
    if (!j->pixels || !j->labels)
        return sid2_fail(err, SID2_ERR_MEMORY, "out of memory for %d images", j->count);
    for (int i = 0; i < j->count; i++) {
        int64_t index = sid2_shuffle(0, 0, i, available); /* a folder comes class by class */
        if (!sid2_dataset_get(j->data, index, false, j->pixels + (size_t)i * bytes, &j->labels[i], err))
            return false;
        if (classes && j->labels[i] >= classes)
            return sid2_fail(err, SID2_ERR_USAGE, "%s has a class %d, the model only %d classes",
                             j->data_path, j->labels[i], classes);
    }
    return true;
}

static bool prepare(job *j, sid2_error *err)
{
    j->config = sid2_config_create();
    if (!j->config) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory");
    if (!sid2_checkpoint_hold(j->path, j->directory, sizeof j->directory, &j->hold, err) ||
        !sid2_checkpoint_config(j->directory, j->config, err) || !options_apply(j->config, &j->set, err) ||
        !sid2_config_check(j->config, err) || !load_images(j, err))
        return false;
    j->levels = (int)config_int(j->config, "eval.levels");
    j->points = calloc((size_t)j->levels, sizeof *j->points);
    if (!j->points) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory");
    j->device = open_device(&j->on, err);
    if (!j->device) return false;
    sid2_config_settle_sample(j->config, j->device);
    progress_begin(&j->bar);
    progress_wait(&j->bar, "preparing the device");
    j->evaluator = sid2_evaluator_create(j->device, j->config, j->memory, err);
    progress_clear(&j->bar);
    return j->evaluator && sid2_evaluator_load(j->evaluator, j->directory, !j->raw, err) &&
           sid2_checkpoint_digest(j->directory, j->digest, err);
}

static bool work(job *j, sid2_error *err)
{
    enum { CHUNK = 256 }; /* images between looks at Ctrl-C */
    progress_begin(&j->bar);
    size_t bytes = (size_t)sid2_config_image_size(j->config) * (size_t)sid2_config_image_size(j->config) *
                   (size_t)sid2_config_image_channels(j->config);
    bool ok = true;
    for (int level = 0; level < j->levels && ok; level++) {
        sid2_eval_point *sum = &j->points[level];
        for (int first = 0; first < j->count && ok; first += CHUNK) {
            int count = j->count - first < CHUNK ? j->count - first : CHUNK;
            ok = interrupted()
                     ? sid2_fail(err, SID2_ERR_CANCELLED, "stopped")
                     : sid2_evaluator_run(j->evaluator, j->pixels + (size_t)first * bytes, j->labels + first,
                                          count, (level + 0.5) / j->levels, (uint64_t)first, err);
            if (!ok) break;
            const sid2_eval_point *point = sid2_evaluator_point(j->evaluator);
            double share = (double)count / j->count;
            sum->logsnr = point->logsnr;
            sum->x_mse += share * point->x_mse;
            sum->eps_mse += share * point->eps_mse;
            sum->v_mse += share * point->v_mse;
            sum->weighted += share * point->weighted;
            progress_show(&j->bar, (level + (double)(first + count) / j->count) / j->levels, "level %d of %d",
                          level + 1, j->levels);
        }
    }
    progress_clear(&j->bar);
    return ok;
}

static double mean_weighted(const job *j)
{
    double sum = 0;
    for (int i = 0; i < j->levels; i++) sum += j->points[i].weighted;
    return sum / j->levels;
}

static void print_table(const job *j)
{
    printf("checkpoint  %s (%s)\nimages      %d of %s%s\n\n", j->directory, j->digest, j->count, j->data_path,
           j->all || config_real(j->config, "train.holdout") <= 0 ? "" : ", held out");
    printf("      t   logSNR      x mse    eps mse      v mse       loss\n");
    for (int i = 0; i < j->levels; i++) {
        const sid2_eval_point *p = &j->points[i];
        printf("%7.3f %8.2f %10.5f %10.5f %10.5f %10.5f\n", (i + 0.5) / j->levels, p->logsnr, p->x_mse,
               p->eps_mse, p->v_mse, p->weighted);
    }
    printf("\nloss %.5f: the mean over all levels, comparable with the training loss\n", mean_weighted(j));
}

static bool print_json(const job *j, sid2_error *err)
{
    json_t *levels = json_array();
    bool ok = levels != NULL;
    for (int i = 0; ok && i < j->levels; i++) {
        const sid2_eval_point *p = &j->points[i];
        ok = !json_array_append_new(levels,
                                    json_pack("{s:f, s:f, s:f, s:f, s:f, s:f}", "t", (i + 0.5) / j->levels,
                                              "logsnr", p->logsnr, "x_mse", p->x_mse, "eps_mse", p->eps_mse,
                                              "v_mse", p->v_mse, "loss", p->weighted));
    }
    json_t *all = json_pack("{s:s, s:s, s:i, s:f, s:o}", "checkpoint", j->digest, "data", j->data_path,
                            "images", j->count, "loss", mean_weighted(j), "levels", levels);
    ok = ok && all &&
         json_dumpf(all, stdout, JSON_INDENT(2) | JSON_ENSURE_ASCII | JSON_REAL_PRECISION(8)) == 0;
    if (ok) putchar('\n');
    json_decref(all);
    return ok || sid2_fail(err, SID2_ERR_IO, "cannot write the result as JSON");
}

int command_eval(int argc, char **argv)
{
    job j = {.hold = -1};
    const option_row rows[] = {
        {OPTION_POSITIONAL, "CHECKPOINT", NULL, &j.path,
         "a checkpoint's folder, or a run (its newest checkpoint)", NULL},
        {OPTION_TEXT, "data", "PATH", &j.data_path,
         "the data it was trained on (its held-out part is used), or with --all another set; required", NULL},
        {OPTION_FLAG, "all", NULL, &j.all,
         "use every image, not only the part that train.holdout kept out of training", NULL},
        {OPTION_KEY, "images", "N", &j.set, "images at most (eval.images)", "eval.images"},
        {OPTION_KEY, "levels", "N", &j.set, "noise levels (eval.levels)", "eval.levels"},
        {OPTION_FLAG, "raw", NULL, &j.raw, "the weights themselves rather than their average", NULL},
        {OPTION_FLAG, "json", NULL, &j.json, "print JSON", NULL},
        OPTIONS_DEVICE_CHOICE(j.on),
        OPTION_MEMORY(&j.memory),
        OPTION_SET_KEY(&j.set),
    };
    int code = options_parse(&(option_table){"eval", "Held-out loss of a checkpoint by noise level", NULL,
                                             rows, sizeof rows / sizeof rows[0]},
                             argc, argv);
    if (code != OPTIONS_RUN) return code;
    if (!j.data_path) return report_usage("eval", "--data is missing");
    sid2_error err = {0};
    interrupt_install();
    bool ok = prepare(&j, &err) && work(&j, &err);
    if (ok) print_notice(j.device);
    if (ok && j.json)
        ok = print_json(&j, &err);
    else if (ok)
        print_table(&j);
    code = ok ? 0 : report_error("eval", &err);
    sid2_evaluator_destroy(j.evaluator);
    sid2_checkpoint_release(j.hold);
    sid2_device_close(j.device);
    sid2_dataset_close(j.data);
    sid2_config_destroy(j.config);
    free(j.pixels);
    free(j.labels);
    free(j.points);
    return code;
}
