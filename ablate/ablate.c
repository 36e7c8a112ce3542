/* The rows of a plan, one after another: trained, sampled, measured. */
#include "ablate.h"

#include "digest.h"
#include "fid.h"
#include "file.h"
#include "foreign.h"
#include "image.h"
#include "json.h"
#include "npz.h"
#include "samples.h"
#include "text.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { REAL_PICTURES = 2000, SHOWN = 32, METHOD = 1 /* of measuring: another one measures anew */ };

const sid2_metric_row sid2_metrics[SID2_METRICS] = {
#define METRIC(word, name, unit, decimals, help) {#word, name, unit, help, decimals},
#include "metrics.def"
};

/* What one call needs beside the ablation: the row and seed at hand, and pictures, which rows share where they take the
 * same ones. */
typedef struct work {
    sid2_ablation *a;
    sid2_device *device;
    int row, place; /* of the plan's rows and seeds */
    sid2_ablate_progress now;
    sid2_heldout heldout;
    char heldout_key[640], real_key[640]; /* what they were read for */
    sid2_real_pictures *real;
    sid2_gaussian features; /* of real pictures, by the user's tool; width 0: none */
    sid2_fid *fid;          /* NULL: not asked for */
    char fid_key[640];      /* what its real pictures were read for */
    char pictures[33];      /* the data's digest */
    const char *guide; /* the checkpoint that guides the row at hand, held while it is measured; NULL: none */
} work;

static const sid2_ablate_row *row_of(const work *w, int row) { return &w->a->plan.row[row]; }
static const sid2_ablate_row *this_row(const work *w) { return row_of(w, w->row); }

static bool path_of(const work *w, const char *kind, char path[4096], sid2_error *err)
{
    return sid2_ablation_path(w->a, w->row, w->place, kind, path, err);
}

static bool tell(work *w, const char *doing, double fraction, const sid2_run_event *run)
{
    w->now.doing = doing;
    w->now.fraction = fraction;
    w->now.run = run;
    return !w->a->options.callback || w->a->options.callback(w->a->options.user, &w->now);
}

static bool stopped(sid2_error *err) { return sid2_fail(err, SID2_ERR_CANCELLED, "stopped"); }

static bool failed_at(const work *w, const sid2_error *cause, sid2_error *err)
{
    return sid2_fail(err, cause->code, "row %s, seed %" PRIu64 ": %s", w->now.row, w->now.seed,
                     cause->message);
}

/* ---- Training ---- */

static bool on_run_event(void *user, const sid2_run_event *event)
{
    work *w = user;
    double fraction = event->kind == SID2_RUN_PREPARING ? 0 : event->progress->fraction;
    return tell(w, "training", fraction, event);
}

/* Where the row at hand is not trained; else NULL. */
static const char *given_checkpoint(const work *w)
{
    return this_row(w)->checkpoint[0] ? this_row(w)->checkpoint : w->a->options.checkpoint;
}

static bool run_path(const work *w, char path[4096], sid2_error *err)
{
    const char *given = given_checkpoint(w);
    if (given) return sid2_path(path, err, "%s", given);
    return sid2_path(path, err, "%s/runs/%s/seed-%" PRIu64, w->a->options.folder,
                     row_of(w, this_row(w)->trained_as)->name, w->now.seed);
}

/* Also where it is complete: whether it is this row's training, on this data, is the run's to say. */
static bool train(work *w, const char *path, double *seconds, sid2_error *err)
{
    char seed[64];
    sid2_config *config = sid2_config_clone(this_row(w)->config);
    snprintf(seed, sizeof seed, "train.seed=%" PRIu64, w->now.seed);
    bool ok = config ? sid2_config_set(config, seed, err) : sid2_fail(err, SID2_ERR_MEMORY, "out of memory");
    sid2_run *run = ok ? sid2_run_open(&sid2_with(sid2_run_options, .path = path, .config = config,
                                                  .data = w->a->options.data, .memory = w->a->options.memory,
                                                  .callback = on_run_event, .user = w),
                                       err)
                       : NULL;
    ok = run && sid2_run_train(run, w->device, err);
    if (ok && sid2_run_where(run)->step < sid2_run_where(run)->steps) ok = stopped(err);
    sid2_run_close(run);
    sid2_config_destroy(config);
    sid2_run_status *status = ok ? sid2_run_look(path, err) : NULL;
    ok = status != NULL;
    if (ok) *seconds = status->seconds;
    if (ok && (int64_t)status->step != this_row(w)->config->train_steps)
        ok = sid2_fail(err, SID2_ERR_USAGE,
                       "%s has %" PRIu64 " steps, the plan %" PRId64 ": take another folder", path,
                       status->step, this_row(w)->config->train_steps);
    sid2_run_status_destroy(status);
    return ok;
}

/* ---- What is measured, and on what ---- */

/* The checkpoint's configuration, sampled from and measured as the row says. */
static sid2_config *measuring_config(const work *w, const char *checkpoint, sid2_error *err)
{
    const sid2_config_key *key;
    char value[256], text[400];
    sid2_config *c = sid2_config_create();
    bool ok =
        c ? sid2_checkpoint_config(checkpoint, c, err) : sid2_fail(err, SID2_ERR_MEMORY, "out of memory");
    for (int i = 0; ok && (key = sid2_config_key_at(i)); i++) {
        if (!sid2_ablate_plan_samples_only(key->name)) continue;
        snprintf(text, sizeof text, "%s=%s", key->name,
                 sid2_config_text(this_row(w)->config, key->name, value));
        ok = sid2_config_set(c, text, err);
    }
    if (ok && !c->model_classes && !this_row(w)->guide[0]) c->sample_guidance = 1;
    if (ok) sid2_config_settle_sample(c, w->device);
    if (ok) return c;
    sid2_config_destroy(c);
    return NULL;
}

/* A key's name and value after another, to compare settings by. */
static void add_key(char *text, size_t size, const sid2_config *c, const char *key)
{
    char value[256];
    size_t used = strlen(text);
    snprintf(text + used, size - used, "%s=%s\n", key, sid2_config_text(c, key, value));
}

/* What pictures depend on. *as_before: they were read for just that already; else it is noted in `noted`, which becomes ""
 * again where reading them fails. */
static void note_pictures(char noted[640], const sid2_config *c, bool *as_before)
{
    static const char *const keys[] = {"model.image_size", "model.image_channels", "model.classes",
                                       "train.holdout",    "data.upright",         "eval.images"};
    char now[640] = "";
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) add_key(now, sizeof now, c, keys[i]);
    *as_before = strcmp(now, noted) == 0;
    strcpy(noted, now);
}

static bool read_heldout(work *w, const sid2_config *c, sid2_error *err)
{
    bool there;
    note_pictures(w->heldout_key, c, &there);
    if (there) return true;
    sid2_heldout_free(&w->heldout);
    bool ok =
        sid2_pictures_read(&w->heldout, w->a->options.data, c, SID2_PART_HELDOUT, (int)c->eval_images, err);
    if (!ok) w->heldout_key[0] = 0;
    return ok;
}

/* Of those that are trained on. */
static bool read_real(work *w, const sid2_config *c, sid2_error *err)
{
    bool there;
    note_pictures(w->real_key, c, &there);
    if (there) return true;
    sid2_heldout real;
    sid2_real_pictures_destroy(w->real);
    w->real = NULL;
    if (sid2_pictures_read(&real, w->a->options.data, c, SID2_PART_TRAIN, REAL_PICTURES, err)) {
        const sid2_pictures pictures = sid2_pictures_of(c, real.pixels, real.count);
        w->real = sid2_real_pictures_create(&pictures, err);
    }
    sid2_heldout_free(&real);
    if (!w->real) w->real_key[0] = 0;
    return w->real != NULL;
}

/* ---- Measuring ---- */

static bool on_bits(void *user, double done) { return tell(user, "measuring", done, NULL); }

/* Whether held-out pictures say the same of the row at hand as of the one that it shares a training with. */
static const sid2_measured *measured_alike(const work *w, const sid2_config *c)
{
    const sid2_config_key *key;
    char value[256], other[256];
    int row = this_row(w)->trained_as;
    const sid2_measured *m = sid2_ablation_at(w->a, row, w->place);
    if (row == w->row || !m->known) return NULL;
    for (int i = 0; (key = sid2_config_key_at(i)); i++)
        if (sid2_ablate_plan_measures(key->name) &&
            strcmp(sid2_config_text(c, key->name, value),
                   sid2_config_text(row_of(w, row)->config, key->name, other)) != 0)
            return NULL;
    return m;
}

/* A student of few steps denoises nothing, so it has none. */
static bool measure_bits(work *w, const char *checkpoint, const sid2_config *c, sid2_measured *m,
                         sid2_error *err)
{
    const sid2_measured *alike = measured_alike(w, c);
    if (alike) {
        memcpy(m->bits, alike->bits, sizeof m->bits);
        memcpy(m->loss, alike->loss, sizeof m->loss);
        m->metric[SID2_METRIC_bits] = alike->metric[SID2_METRIC_bits];
        m->metric[SID2_METRIC_loss] = alike->metric[SID2_METRIC_loss];
    }
    if (alike || c->distill_k) return true;
    sid2_bits bits;
    int levels = (int)(c->eval_levels + SID2_BANDS - 1) / SID2_BANDS;
    sid2_evaluator *e = sid2_evaluator_create(w->device, c, w->a->options.memory, err);
    bool ok = e && sid2_evaluator_load(e, checkpoint, true, err) && read_heldout(w, c, err) &&
              sid2_bits_measure(&bits, &w->heldout, e, levels, on_bits, w, err);
    sid2_evaluator_destroy(e);
    if (!ok) return false;
    const sid2_schedule schedule = sid2_schedule_create(row_of(w, 0)->config);
    sid2_bits_loss(&bits, &schedule, m->loss);
    memcpy(m->bits, bits.band, sizeof m->bits);
    m->metric[SID2_METRIC_bits] = bits.total;
    m->metric[SID2_METRIC_loss] = 0;
    for (int i = 0; i < SID2_BANDS; i++) m->metric[SID2_METRIC_loss] += m->loss[i];
    w->a->images = bits.images;
    return true;
}

static bool on_sample(void *user, double done) { return tell(user, "sampling", done, NULL); }

static bool write_samples(work *w, const sid2_config *c, const sid2_samples *s, sid2_error *err)
{
    char path[4096];
    sid2_atomic_file file;
    int height = (int)c->model_image_size.height, width = (int)c->model_image_size.width,
        channels = (int)c->model_image_channels;
    if (!path_of(w, "npz", path, err) || !sid2_atomic_open(&file, path, err)) return false;
    sid2_npz *npz =
        sid2_npz_open(&file, s->count, sid2_shape_of(height, width, channels), c->model_classes > 0, err);
    if (!npz) return false;
    bool appended = sid2_npz_append(npz, s->pixels, s->labels, s->count, err);
    if (!appended) sid2_npz_discard(npz);
    sid2_image grid = {0};
    bool ok = appended && sid2_npz_commit(npz, err) && path_of(w, "png", path, err) &&
              sid2_image_grid(&grid, s->pixels, s->count < SHOWN ? s->count : SHOWN, height, width, channels,
                              SHOWN / 2, SID2_GRID_PADDING, 255, err) &&
              sid2_png_write(path, &grid, NULL, 0, err);
    sid2_image_free(&grid);
    return ok;
}

/* The same seeds and classes for every row; others for each of the plan's seeds. */
static bool measure_samples(work *w, const char *checkpoint, const sid2_config *c, sid2_measured *m,
                            sid2_error *err)
{
    int count = (int)w->a->plan.samples;
    sid2_samples s = {0};
    if (!count) return true;
    bool ok = sid2_samples_draw(&s, w->device, c, checkpoint, w->guide, true, count,
                                w->now.seed * (uint64_t)count, w->a->options.memory, on_sample, w, err) &&
              write_samples(w, c, &s, err) && read_real(w, c, err);
    m->sampling = s.seconds;
    m->evaluations = s.evaluations;
    if (ok && count >= 2) {
        const sid2_pictures pictures = sid2_pictures_of(c, s.pixels, count);
        sid2_picture_distances distances;
        ok = sid2_real_pictures_compare(w->real, &pictures, &distances, err);
        m->metric[SID2_METRIC_pixels] = distances.pixels;
        m->metric[SID2_METRIC_spectrum] = distances.spectrum;
    }
    sid2_samples_free(&s);
    return ok;
}

/* ---- FID ---- */

static bool on_fid(void *user, double done) { return tell(user, "looking at samples", done, NULL); }
static bool on_real(void *user, double done)
{
    return tell(user, "looking at training pictures", done, NULL);
}

/* As many training pictures as samples, but REAL_PICTURES at least. */
static bool read_fid_real(work *w, const sid2_config *c, sid2_error *err)
{
    bool there;
    note_pictures(w->fid_key, c, &there);
    if (there) return true;
    sid2_heldout real;
    int count = w->a->plan.samples > REAL_PICTURES ? (int)w->a->plan.samples : REAL_PICTURES;
    bool ok = sid2_pictures_read(&real, w->a->options.data, c, SID2_PART_TRAIN, count, err);
    if (ok) {
        const sid2_pictures pictures = sid2_pictures_of(c, real.pixels, real.count);
        ok = sid2_fid_set_real(w->fid, &pictures, on_real, w, err);
    }
    sid2_heldout_free(&real);
    if (!ok) w->fid_key[0] = 0;
    return ok;
}

/* Of the samples that were kept, so that weights may come later. */
static bool measure_fid(work *w, const sid2_config *c, sid2_measured *m, sid2_error *err)
{
    char path[4096];
    sid2_heldout kept = {0};
    bool ok = read_fid_real(w, c, err) && path_of(w, "npz", path, err) &&
              sid2_pictures_read(&kept, path, c, SID2_PART_ALL, (int)w->a->plan.samples, err);
    const sid2_pictures pictures = sid2_pictures_of(c, kept.pixels, kept.count);
    ok = ok && sid2_fid_measure(w->fid, &pictures, &m->metric[SID2_METRIC_fid], on_fid, w, err);
    sid2_heldout_free(&kept);
    return ok;
}

/* ---- Keeping what was measured ---- */

static void forget(sid2_measured *m)
{
    *m = (sid2_measured){.seconds = NAN, .evaluations = NAN, .sampling = NAN};
    for (int i = 0; i < SID2_METRICS; i++) m->metric[i] = NAN;
    for (int i = 0; i < SID2_BANDS; i++) m->bits[i] = m->loss[i] = NAN;
}

/* Everything that a measurement depends on, as one digest. */
static bool measuring_key(work *w, const char *checkpoint, const sid2_config *c, char key[33],
                          sid2_error *err)
{
    const sid2_config_key *each;
    char weights[33], guide[33] = "", *text = calloc(1, 1 << 15);
    if (!text) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory");
    bool ok = sid2_checkpoint_digest(checkpoint, weights, err) &&
              (!w->guide || sid2_checkpoint_digest(w->guide, guide, err));
    if (ok)
        snprintf(text, 1 << 14, "%d %s%s%s %s %" PRId64 " %" PRIu64 "\n", METHOD, weights,
                 w->guide ? " " : "", guide, w->pictures, w->a->plan.samples, w->now.seed);
    for (int i = 0; ok && (each = sid2_config_key_at(i)); i++) add_key(text, 1 << 15, c, each->name);
    for (int i = 0; ok && (each = sid2_config_key_at(i)); i++) /* the loss is in the first row's words */
        if (strncmp(each->name, "loss.", 5) == 0) add_key(text, 1 << 15, row_of(w, 0)->config, each->name);
    sid2_digest_bytes(text, strlen(text), key);
    free(text);
    return ok;
}

static json_t *bands_json(const double band[SID2_BANDS])
{
    json_t *list = json_array();
    for (int i = 0; list && i < SID2_BANDS; i++)
        if (json_array_append_new(list, sid2_json_real(band[i]))) json_decref(list), list = NULL;
    return list;
}

static bool keep(work *w, const sid2_measured *m, const char *key, sid2_error *err)
{
    char path[4096];
    json_t *all =
        json_pack("{s:s, s:o, s:o, s:o, s:o, s:i}", "key", key, "bits_by_logsnr", bands_json(m->bits),
                  "loss_by_logsnr", bands_json(m->loss), "evaluations", sid2_json_real(m->evaluations),
                  "sampling_seconds", sid2_json_real(m->sampling), "images", w->a->images);
    bool ok = all != NULL;
    if (ok && isfinite(m->metric[SID2_METRIC_fid]))
        ok = !json_object_set_new(all, "fid_of", json_string(sid2_fid_digest(w->fid)));
    for (int i = 0; ok && i < SID2_METRICS; i++)
        ok = !json_object_set_new(all, sid2_metrics[i].word, sid2_json_real(m->metric[i]));
    if (!ok) sid2_fail(err, SID2_ERR_MEMORY, "out of memory");
    ok = ok && path_of(w, "json", path, err) &&
         sid2_json_save(path, all, JSON_INDENT(1) | JSON_REAL_PRECISION(17), err);
    json_decref(all);
    return ok;
}

static void take_bands(const json_t *all, const char *name, double band[SID2_BANDS])
{
    const json_t *list = json_object_get(all, name);
    for (size_t i = 0; i < SID2_BANDS; i++) {
        const json_t *value = json_array_get(list, i);
        band[i] = json_is_number(value) ? json_number_value(value) : NAN;
    }
}

/* *m is known where it was measured in this way before; what is damaged is measured anew. Only a want of memory is an error. */
static bool recall(work *w, const char *key, sid2_measured *m, sid2_error *err)
{
    char path[4096];
    size_t size;
    sid2_kind kind;
    if (!path_of(w, "json", path, err)) return false;
    if (!sid2_look(path, &kind, err)) return false;
    if (kind == SID2_ABSENT) return true;
    char *text = (char *)sid2_file_read(path, 1 << 20, &size, err);
    if (!text) return false;
    sid2_error damage = {0};
    json_t *all = sid2_digest_holds(text, size) ? sid2_json_parse(text, size, 0, path, &damage) : NULL;
    free(text);
    if (damage.code == SID2_ERR_MEMORY) return sid2_fail(err, damage.code, "%s", damage.message);
    const char *was = json_string_value(json_object_get(all, "key"));
    if (was && strcmp(was, key) == 0) {
        for (int i = 0; i < SID2_METRICS; i++) m->metric[i] = sid2_json_number(all, sid2_metrics[i].word);
        take_bands(all, "bits_by_logsnr", m->bits);
        take_bands(all, "loss_by_logsnr", m->loss);
        const char *judge = json_string_value(json_object_get(all, "fid_of"));
        if (w->fid && (!judge || strcmp(judge, sid2_fid_digest(w->fid)) != 0))
            m->metric[SID2_METRIC_fid] = NAN;
        m->evaluations = sid2_json_number(all, "evaluations");
        m->sampling = sid2_json_number(all, "sampling_seconds");
        w->a->images = (int)json_integer_value(json_object_get(all, "images"));
        m->known = true;
    }
    json_decref(all);
    return true;
}

/* ---- The user's own tool ---- */

static bool judge_features(work *w, const sid2_config *c, sid2_measured *m, sid2_error *err)
{
    char path[4096];
    sid2_kind kind;
    if (!w->a->plan.samples) return true;
    if (!path_of(w, "features.npz", path, err) || !sid2_look(path, &kind, err)) return false;
    if (kind != SID2_ABSENT)
        return sid2_foreign_judge(path, &w->features, (int)w->a->plan.samples, (int)c->model_classes,
                                  &m->metric[SID2_METRIC_features], &m->metric[SID2_METRIC_agreement], err);
    w->a->waiting += w->features.width > 0;
    return true;
}

/* ---- The loop ---- */

static bool measure(work *w, const char *path, sid2_measured *m, sid2_error *err)
{
    char checkpoint[4096], guide[4096], key[33];
    int hold = -1, guide_hold = -1;
    sid2_config *c = NULL;
    bool guided = this_row(w)->guide[0];
    w->guide = guided ? guide : NULL;
    bool ok = sid2_checkpoint_hold(path, checkpoint, sizeof checkpoint, &hold, err) &&
              (!guided || sid2_checkpoint_hold(this_row(w)->guide, guide, sizeof guide, &guide_hold, err)) &&
              (c = measuring_config(w, checkpoint, err)) && measuring_key(w, checkpoint, c, key, err) &&
              recall(w, key, m, err);
    if (ok && !m->known) {
        ok = measure_bits(w, checkpoint, c, m, err) && measure_samples(w, checkpoint, c, m, err) &&
             keep(w, m, key, err);
        m->known = ok;
    }
    if (ok && w->fid && w->a->plan.samples >= 2 && !isfinite(m->metric[SID2_METRIC_fid]))
        ok = measure_fid(w, c, m, err) && keep(w, m, key, err);
    ok = ok && judge_features(w, c, m, err);
    sid2_config_destroy(c);
    sid2_checkpoint_release(guide_hold);
    sid2_checkpoint_release(hold);
    w->guide = NULL;
    return ok;
}

static bool do_row(work *w, sid2_error *err)
{
    char path[4096];
    sid2_error cause = {0};
    sid2_measured *m = &w->a->measured[w->row * w->a->plan.seeds + w->place];
    w->now.row = this_row(w)->name;
    w->now.seed = w->a->plan.seed[w->place];
    forget(m);
    if (!tell(w, "looking", 0, NULL)) return stopped(err);
    bool ok = run_path(w, path, &cause);
    ok = ok && (given_checkpoint(w) || train(w, path, &m->seconds, &cause)) && measure(w, path, m, &cause);
    w->now.number++;
    return ok || (cause.code == SID2_ERR_CANCELLED ? stopped(err) : failed_at(w, &cause, err));
}

/* What rows are measured on is the same for all, and so is its digest. */
static bool know_pictures(work *w, sid2_error *err)
{
    sid2_dataset *data =
        sid2_open_part(NULL, w->a->options.data, row_of(w, 0)->config, SID2_PART_ALL, NULL, NULL, err);
    bool ok = data && sid2_dataset_digest(data, w->pictures, err);
    sid2_dataset_close(data);
    return ok;
}

bool sid2_ablate_run(sid2_ablation *a, sid2_device *device, sid2_error *err)
{
    work w = {.a = a, .device = device, .now.total = a->plan.rows * a->plan.seeds};
    bool ok = (!a->options.features || sid2_foreign_gaussian(a->options.features, &w.features, err)) &&
              (!a->options.inception || (w.fid = sid2_fid_open(device, a->options.inception, err))) &&
              know_pictures(&w, err);
    for (w.place = 0; ok && w.place < a->plan.seeds; w.place++)
        for (w.row = 0; ok && w.row < a->plan.rows; w.row++) ok = do_row(&w, err);
    sid2_heldout_free(&w.heldout);
    sid2_real_pictures_destroy(w.real);
    sid2_fid_close(w.fid);
    sid2_gaussian_free(&w.features);
    bool any = false; /* where nothing is known no folder is made */
    for (int i = 0; i < a->plan.rows * a->plan.seeds; i++) any |= a->measured[i].known;
    sid2_error second; /* what led to the end goes first */
    return (!any || sid2_ablation_write(a, ok ? err : &second)) && ok;
}

/* ---- Opening ---- */

bool sid2_ablate_open(sid2_ablation *a, const sid2_ablate_options *options, sid2_device *device,
                      sid2_error *err)
{
    sid2_ablate_plan_options how = options->how;
    *a = (sid2_ablation){.options = *options};
    how.checkpoint = options->checkpoint;
    how.device = sid2_device_describe(device);
    bool ok = sid2_folder_check_data(options->folder, options->data, err) &&
              sid2_ablate_plan_read(&a->plan, options->plan, &how, err);
    size_t count = (size_t)a->plan.rows * (size_t)a->plan.seeds;
    if (ok && !(a->measured = malloc(count * sizeof *a->measured)))
        ok = sid2_fail(err, SID2_ERR_MEMORY, "out of memory");
    for (size_t i = 0; ok && i < count; i++) forget(&a->measured[i]);
    return ok;
}

void sid2_ablate_close(sid2_ablation *a)
{
    sid2_ablate_plan_free(&a->plan);
    free(a->measured);
    *a = (sid2_ablation){0};
}

/* ---- Reading ---- */

const sid2_measured *sid2_ablation_at(const sid2_ablation *a, int row, int seed)
{
    return &a->measured[row * a->plan.seeds + seed];
}

void sid2_ablation_values(const sid2_ablation *a, int row, int metric, double values[SID2_ABLATE_SEEDS])
{
    for (int k = 0; k < a->plan.seeds; k++) values[k] = sid2_ablation_at(a, row, k)->metric[metric];
}

bool sid2_ablation_path(const sid2_ablation *a, int row, int seed, const char *kind, char path[4096],
                        sid2_error *err)
{
    return sid2_path(path, err, "%s/measured/%s.seed-%" PRIu64 ".%s", a->options.folder,
                     a->plan.row[row].name, a->plan.seed[seed], kind);
}

bool sid2_ablation_has(const sid2_ablation *a, int metric)
{
    for (int i = 0; i < a->plan.rows * a->plan.seeds; i++)
        if (isfinite(a->measured[i].metric[metric])) return true;
    return false;
}
