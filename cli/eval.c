/* sid2 eval: held-out loss of checkpoints by noise level, and what else can be said of them without other networks. Those with
 * networks are in files of their own. */
#include "eval.h"
#include "eval_own.h"

#include "classes.h"
#include "heldout.h"
#include "length.h"
#include "ranks.h"

#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A checkpoint, and what was found. */
typedef struct subject {
    char directory[4096], digest[33];
    int hold;      /* on the directory */
    double length; /* that its weights are averaged over; 0: the checkpoint's average */
    char how[160]; /* for people */
    sid2_config *config;
    sid2_heldout heldout;
    own_findings own;
} subject;

typedef struct job {
    word_list paths;
    const char *data_path, *lengths_text;
    double lengths[MAX_LENGTHS];
    int length_count; /* that each checkpoint is measured at; 0: its own average */
    device_choice on;
    size_t memory;
    bool raw, all, json;
    own_wish wish;
    assignments set;

    ranks ranks;
    sid2_device *device;
    subject *subjects;
    int count;
    int now; /* which one is measured */
    progress bar;
} job;

/* Labels go by number; where a number is called something else in the data, the loss is of other classes. */
static bool compare_classes(job *j, const subject *s, sid2_dataset *data_set, sid2_error *err)
{
    char difference[SID2_CLASSES_TEXT];
    sid2_classes *model = NULL, *data = NULL;
    bool ok =
        sid2_checkpoint_classes(s->directory, &model, err) && (data = sid2_dataset_names(data_set, err));
    if (ok && sid2_classes_differ(model, data, difference)) {
        progress_clear(&j->bar);
        fprintf(stderr, "%s has other classes than the model, and goes by their numbers: %s\n", j->data_path,
                difference);
    }
    sid2_classes_destroy(model);
    sid2_classes_destroy(data);
    return ok;
}

static bool load_images(job *j, subject *s, sid2_error *err)
{
    sid2_dataset *data =
        sid2_open_part(j->ranks.group, j->data_path, s->config, j->all ? SID2_PART_ALL : SID2_PART_HELDOUT,
                       print_skipped, &j->bar, err);
    bool ok = data && (!sid2_config_classes(s->config) || compare_classes(j, s, data, err));
    if (ok && !sid2_dataset_count(data))
        ok = sid2_fail(err, SID2_ERR_USAGE, "%s has no held-out images; --all takes every image",
                       j->data_path);
    ok = sid2_group_concur(j->ranks.group, ok, err) &&
         sid2_heldout_read(&s->heldout, j->ranks.group, data, s->config, err);
    sid2_dataset_close(data);
    return ok;
}

/* All are measured as the first is: at as many levels, on as many images. */
static bool follow_first(const job *j, subject *s, sid2_error *err)
{
    static const char *const keys[] = {"eval.levels", "eval.images"};
    char value[256];
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (!config_set(s->config, keys[i], config_text(j->subjects[0].config, keys[i], value), err))
            return false;
    return true;
}

static bool prepare(job *j, subject *s, const char *path, sid2_error *err)
{
    s->config = sid2_config_create();
    bool ok = s->config || sid2_fail(err, SID2_ERR_MEMORY, "out of memory");
    ok = ok && sid2_checkpoint_hold(path, s->directory, sizeof s->directory, &s->hold, err) &&
         sid2_checkpoint_config(s->directory, s->config, err) && options_apply(s->config, &j->set, err) &&
         follow_first(j, s, err) && sid2_config_check(s->config, err);
    return sid2_group_concur(j->ranks.group, ok, err) && load_images(j, s, err) &&
           sid2_group_concur(j->ranks.group,
                             s->length || sid2_checkpoint_digest(s->directory, s->digest, err), err);
}

static bool on_measured(void *user, double done)
{
    job *j = user;
    if (ranks_speak(&j->ranks))
        progress_show(&j->bar, (j->now + done) / j->count, "%.0f %% of checkpoint %d of %d", 100 * done,
                      j->now + 1, j->count);
    return !interrupted();
}

static bool measure_weights(job *j, subject *s, const char *directory, sid2_error *err)
{
    sid2_config_settle_sample(s->config, j->device);
    progress_begin(&j->bar);
    progress_wait(&j->bar, "preparing the device");
    sid2_evaluator *evaluator = sid2_evaluator_create(j->device, s->config, j->memory, err);
    progress_clear(&j->bar);
    bool ok = evaluator && sid2_evaluator_load(evaluator, directory, !j->raw, err);
    ok = sid2_group_concur(j->ranks.group, ok, err) &&
         sid2_heldout_measure(&s->heldout, evaluator, on_measured, j, err);
    progress_clear(&j->bar);
    sid2_evaluator_destroy(evaluator);
    return ok && own_measure(&s->own, &j->wish, j->device, s->config, directory, &s->heldout, &j->bar, err);
}

static bool measure(job *j, subject *s, sid2_error *err)
{
    length_scratch scratch = {0};
    if (!s->length) return measure_weights(j, s, s->directory, err);
    bool ok = length_enter(&scratch, s->directory, s->length, s->how, err) &&
              sid2_checkpoint_digest(scratch.checkpoint, s->digest, err);
    ok = sid2_group_concur(j->ranks.group, ok, err) && measure_weights(j, s, scratch.checkpoint, err);
    length_leave(&scratch);
    return ok;
}

static bool work(job *j, sid2_error *err)
{
    int each = j->length_count ? j->length_count : 1;
    j->subjects = calloc((size_t)(j->paths.count * each), sizeof *j->subjects);
    if (!j->subjects) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory");
    j->count = j->paths.count * each;
    for (int i = 0; i < j->count; i++) j->subjects[i].hold = -1;
    for (int i = 0; i < j->count; i++) {
        j->subjects[i].length = j->lengths[i % each];
        if (!prepare(j, &j->subjects[i], j->paths.item[i / each], err)) return false;
    }
    j->device = ranks_device(&j->ranks, &j->on, err);
    if (!sid2_group_concur(j->ranks.group, j->device, err)) return false;
    for (j->now = 0; j->device && j->now < j->count; j->now++)
        if (!measure(j, &j->subjects[j->now], err)) return false;
    return j->device != NULL;
}

static void clean_up(job *j)
{
    for (int i = 0; j->subjects && i < j->count; i++) {
        sid2_checkpoint_release(j->subjects[i].hold);
        sid2_config_destroy(j->subjects[i].config);
        sid2_heldout_free(&j->subjects[i].heldout);
        own_free(&j->subjects[i].own);
    }
    free(j->subjects);
}

/* ---- What it prints ---- */

static void print_images(const job *j)
{
    const subject *s = &j->subjects[0];
    printf("images      %d of %s%s\n\n", s->heldout.count, j->data_path,
           j->all || config_real(s->config, "train.holdout") <= 0 ? "" : ", held out");
}

static void print_table(const job *j)
{
    const subject *s = &j->subjects[0];
    printf("checkpoint  %s (%s)%s\n", s->directory, s->digest, s->how);
    print_images(j);
    printf("      t   logSNR      x mse    eps mse      v mse       loss\n");
    for (int i = 0; i < s->heldout.levels; i++) {
        const sid2_eval_point *p = &s->heldout.points[i];
        printf("%7.3f %8.2f %10.5f %10.5f %10.5f %10.5f\n", (i + 0.5) / s->heldout.levels, p->logsnr,
               p->x_mse, p->eps_mse, p->v_mse, p->weighted);
    }
    printf("\nloss %.5f: the mean over all levels, comparable with the training loss\n",
           sid2_heldout_loss(&s->heldout));
    own_print(&s->own, &j->wish);
}

static void print_means(const job *j, const char *name, size_t member)
{
    printf("%-16s", name);
    for (int k = 0; k < j->count; k++) {
        const sid2_heldout *h = &j->subjects[k].heldout;
        double sum = 0;
        for (int i = 0; i < h->levels; i++) sum += *(const double *)((const char *)&h->points[i] + member);
        printf(" %9.5f", sum / h->levels);
    }
    putchar('\n');
}

/* Losses are of one kind only where schedule and weighting are the same. */
static bool is_comparable(const subject *a, const subject *b)
{
    const sid2_config_key *key;
    char x[256], y[256];
    for (int i = 0; (key = sid2_config_key_at(i)); i++)
        if ((strncmp(key->name, "schedule.", 9) == 0 || strncmp(key->name, "loss.", 5) == 0 ||
             strcmp(key->name, "model.image_size") == 0) &&
            strcmp(config_text(a->config, key->name, x), config_text(b->config, key->name, y)) != 0)
            return false;
    return true;
}

/* One column a checkpoint. */
static void print_comparison(const job *j)
{
    for (int k = 0; k < j->count; k++)
        printf(
            "%-11d %s (%s)%s%s\n", k + 1, j->subjects[k].directory, j->subjects[k].digest, j->subjects[k].how,
            is_comparable(&j->subjects[0], &j->subjects[k])
                ? ""
                : ": other size, schedule or weighting, so its losses are of another kind than those of 1");
    print_images(j);
    printf("loss at t  logSNR");
    for (int k = 0; k < j->count; k++) printf(" %9d", k + 1);
    putchar('\n');
    for (int i = 0; i < j->subjects[0].heldout.levels; i++) {
        const sid2_heldout *h = &j->subjects[0].heldout;
        printf("%7.3f %8.2f", (i + 0.5) / h->levels, h->points[i].logsnr);
        for (int k = 0; k < j->count; k++) printf(" %9.5f", j->subjects[k].heldout.points[i].weighted);
        putchar('\n');
    }
    puts("means over all levels");
    print_means(j, "loss", offsetof(sid2_eval_point, weighted));
    print_means(j, "x mse", offsetof(sid2_eval_point, x_mse));
    print_means(j, "eps mse", offsetof(sid2_eval_point, eps_mse));
    print_means(j, "v mse", offsetof(sid2_eval_point, v_mse));
    for (int k = 0; k < j->count && (j->wish.bits || j->wish.samples); k++) {
        printf("\n---- %s%s\n", j->subjects[k].directory, j->subjects[k].how);
        own_print(&j->subjects[k].own, &j->wish);
    }
}

static json_t *describe(const job *j, const subject *s)
{
    json_t *levels = json_array();
    bool ok = levels != NULL;
    for (int i = 0; ok && i < s->heldout.levels; i++) {
        const sid2_eval_point *p = &s->heldout.points[i];
        ok = !json_array_append_new(levels, json_pack("{s:f, s:f, s:f, s:f, s:f, s:f}", "t",
                                                      (i + 0.5) / s->heldout.levels, "logsnr", p->logsnr,
                                                      "x_mse", p->x_mse, "eps_mse", p->eps_mse, "v_mse",
                                                      p->v_mse, "loss", p->weighted));
    }
    json_t *all = json_pack("{s:s, s:s, s:s, s:i, s:f, s:o}", "path", s->directory, "checkpoint", s->digest,
                            "data", j->data_path, "images", s->heldout.count, "loss",
                            sid2_heldout_loss(&s->heldout), "levels", levels);
    if (ok && all && s->length) ok = !json_object_set_new(all, "ema", json_real(s->length));
    if (ok && all && own_json(&s->own, all)) return all;
    json_decref(all);
    return NULL;
}

/* One checkpoint is an object, several are a list of them. */
static bool print_json(const job *j, sid2_error *err)
{
    json_t *all = j->count > 1 ? json_array() : describe(j, &j->subjects[0]);
    bool ok = all != NULL;
    for (int k = 0; ok && j->count > 1 && k < j->count; k++)
        ok = !json_array_append_new(all, describe(j, &j->subjects[k]));
    ok = json_print(ok ? all : NULL, err);
    json_decref(all);
    return ok;
}

static int eval_loss(int argc, char **argv)
{
    job j = {0};
    const option_row rows[] = {
        {OPTION_WORDS, "CHECKPOINT", NULL, &j.paths,
         "a checkpoint's folder, or a run (its newest checkpoint); several become one table", NULL},
        {OPTION_TEXT, "data", "PATH", &j.data_path,
         "the data it was trained on (its held-out part is used), or with --all another set; required", NULL},
        {OPTION_FLAG, "all", NULL, &j.all,
         "use every image, not only the part that train.holdout kept out of training", NULL},
        {OPTION_KEY, "images", "N", &j.set, "images at most (eval.images)", "eval.images"},
        {OPTION_KEY, "levels", "N", &j.set, "noise levels (eval.levels)", "eval.levels"},
        {OPTION_FLAG, "bits", NULL, &j.wish.bits,
         "bits a dimension by noise level too, of held-out and of training pictures", NULL},
        {OPTION_INT, "samples", "N", &j.wish.samples,
         "draw so many and compare them with real pictures: by pixel-PCA, spectrum and neighbours (0)", NULL},
        {OPTION_TEXT, "nearest", "x.png", &j.wish.nearest,
         "with --samples: those most like a training picture, each above that picture", NULL},
        {OPTION_TEXT, "ema", "LIST", &j.lengths_text,
         "weights averaged over these lengths, such as 0.02,0.05,0.1 of the training, which a run with "
         "train.averages can make; each is a column",
         NULL},
        {OPTION_FLAG, "raw", NULL, &j.raw, "the weights themselves rather than their average", NULL},
        {OPTION_FLAG, "json", NULL, &j.json, "print JSON", NULL},
        OPTIONS_DEVICE_CHOICE(j.on),
        OPTION_MEMORY(&j.memory),
        OPTION_SET_KEY(&j.set),
    };
    int code = options_parse(&(option_table){"eval", "Held-out loss of checkpoints by noise level", NULL,
                                             rows, sizeof rows / sizeof rows[0]},
                             argc, argv);
    if (code != OPTIONS_RUN) return code;
    if (!j.data_path) return report_usage("eval", "--data is missing");
    if (j.wish.samples && (j.wish.samples < 2 || j.wish.samples > 1000000))
        return report_usage("eval", "--samples should be 2 to 1000000");
    if (j.wish.nearest && (!j.wish.samples || j.all || j.paths.count > 1 || j.lengths_text))
        return report_usage("eval", "--nearest goes with --samples, of one checkpoint and its own data");
    j.wish.data = j.data_path;
    j.wish.all = j.all;
    j.wish.raw = j.raw;
    j.wish.memory = j.memory;
    if (j.lengths_text && j.raw) return report_usage("eval", "--ema and --raw are of different weights");
    sid2_error err = {0};
    bool ok = !j.lengths_text || lengths_parse(j.lengths_text, j.lengths, &j.length_count, &err);
    if (!ok) return report_error("eval", &err);
    interrupt_install();
    if (!ranks_join(&j.ranks, &j.on, &err))
        return ranks_leave(&j.ranks, ranks_report(&j.ranks, "eval", &err), &err);
    if (j.ranks.group && (j.wish.bits || j.wish.samples)) /* the pictures that these want are nowhere whole */
        ok = sid2_fail(&err, SID2_ERR_USAGE, "--bits and --samples are measured by one process");
    ok = ok && work(&j, &err);
    bool speaks = ok && ranks_speak(&j.ranks);
    if (speaks) print_notice(j.device);
    if (speaks && j.json)
        ok = print_json(&j, &err);
    else if (speaks && j.count > 1)
        print_comparison(&j);
    else if (speaks)
        print_table(&j);
    code = ok ? 0 : ranks_report(&j.ranks, "eval", &err);
    clean_up(&j);
    return ranks_leave(&j.ranks, code, &err);
}

int command_eval(int argc, char **argv)
{
    static const struct {
        const char *name;
        int (*run)(int, char **);
    } parts[] = {{"fid", eval_fid},
                 {"fvd", eval_fvd},
                 {"motion", eval_motion},
                 {"features", eval_features},
                 {"convert-inception", eval_convert_inception},
                 {"convert-i3d", eval_convert_i3d}};
    enum { PARTS = sizeof parts / sizeof *parts };
    for (int i = 0; i < PARTS && argc > 1; i++)
        if (strcmp(argv[1], parts[i].name) == 0) return parts[i].run(argc - 1, argv + 1);
    int code = eval_loss(argc, argv);
    for (int i = 0; i < PARTS && argc > 1 && strcmp(argv[1], "--help") == 0; i++) {
        if (!options_printer) puts("");
        code = parts[i].run(argc, argv);
    }
    return code;
}
