/* The training of a run: everything that can be refused first, then its steps. */
#include "at_work.h"

#include "census.h"
#include "classes.h"
#include "config.h"
#include "dataset.h"
#include "file.h"
#include "trainer.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

/* ---- Preparing: everything that can be refused is refused before the run's folder is touched ---- */

/* The data decides how many classes a new run has, unless the caller does. Without classes there is nothing
 * to guide by, whatever the preset says. */
static bool prepare_classes(sid2_run *r, sid2_error *err)
{
    sid2_config *c = r->config;
    int classes = sid2_dataset_classes(r->data);
    if (!sid2_config_is_set(c, "model.classes") && (r->resuming || !c->distill_k)) /* else the teacher's */
        c->model_classes = r->resuming ? r->saved->model_classes : classes;
    if (!c->model_classes && !sid2_config_is_set(c, "sample.guidance")) c->sample_guidance = 1;
    if (c->model_classes && classes > c->model_classes)
        return sid2_fail(err, SID2_ERR_USAGE, "%s has %d classes, model.classes is %d", r->options.data,
                         classes, (int)c->model_classes);
    return true;
}

#define ADVICE "; undo that, take another folder, or go on all the same with --accept-data"

static bool is_damage(const sid2_error *err)
{
    return err->code == SID2_ERR_FORMAT || err->code == SID2_ERR_IO;
}

/* The labels must mean what they meant in the checkpoint that is gone on from. */
static bool check_classes(const sid2_run *r, sid2_error *err)
{
    char difference[SID2_CLASSES_TEXT];
    sid2_classes *before = NULL;
    if (!r->resuming || r->options.accept_data) return true;
    if (!sid2_checkpoint_classes(r->checkpoint, &before, err)) return false;
    bool differ = sid2_classes_differ(before, r->names, difference);
    sid2_classes_destroy(before);
    return !differ || sid2_fail(err, SID2_ERR_USAGE,
                                "%s was begun with other classes than %s has now: %s; undo that, take "
                                "another folder, or go on "
                                "all the same with --accept-data",
                                r->options.path, r->options.data, difference);
}

/* What would make another training of it. A checkpoint that is damaged is told of when it is read whole. */
static bool check_data(const sid2_run *r, sid2_error *err)
{
    sid2_error cause = {0};
    if (!check_classes(r, &cause) && !is_damage(&cause))
        return sid2_fail(err, cause.code, "%s", cause.message);
    const sid2_run_facts *was = &r->before, *is = &r->facts;
    if (!was->data[0] || r->options.accept_data) return true;
    if (was->images != is->images)
        return sid2_fail(err, SID2_ERR_USAGE,
                         "%s was begun on %" PRId64 " images to train on, %s now has %" PRId64
                         ": the pictures or train.holdout changed" ADVICE,
                         r->options.path, was->images, is->data, is->images);
    return !was->pictures[0] || strcmp(was->pictures, is->pictures) == 0 ||
           sid2_fail(
               err, SID2_ERR_USAGE,
               "%s was begun on other pictures: %s has as many as then, but some have another name, class or "
               "content" ADVICE,
               r->options.path, is->data);
}

/* Of several ranks all know the fate of each. */
static bool all_well(const sid2_run *r, bool well, sid2_error *err)
{
    return sid2_group_concur(r->group, well, err);
}

static bool find_data(sid2_run *r, sid2_error *err)
{
    char formats[256];
    if (r->resuming && !sid2_folder_load_facts(r->options.path, &r->before, err)) return false;
    if (!r->options.data && r->before.data[0]) r->options.data = r->before.data;
    return r->options.data ||
           sid2_fail(err, SID2_ERR_USAGE, "the data is missing: %s", sid2_dataset_formats(formats));
}

static bool read_data(sid2_run *r, sid2_error *err)
{
    const char *data = r->options.data, *path = r->options.path;
    r->data = sid2_open_part(r->group, data, r->config, SID2_PART_TRAIN, sid2_tell_skip, r, err);
    sid2_tell_notes(r);
    sid2_tell_losses(r);
    if (!r->data || !prepare_classes(r, err)) return false;
    if (r->config->model_classes && !(r->names = sid2_dataset_names(r->data, err))) return false;
    if (!r->resuming && !sid2_folder_check_data(path, data, err)) return false;
    snprintf(r->facts.data, sizeof r->facts.data, "%s", data);
    r->facts.images = sid2_dataset_count(r->data);
    return sid2_dataset_digest(r->data, r->facts.pictures, err) && check_data(r, err);
}

static bool check_teacher_config(const sid2_run *r, const char *teacher, sid2_error *err)
{
    char was[256], is[256];
    const sid2_config_key *key;
    sid2_config *config = sid2_config_create();
    bool ok = config ? sid2_checkpoint_config(teacher, config, err)
                     : sid2_fail(err, SID2_ERR_MEMORY, "out of memory");
    if (ok && config->distill_k)
        ok = sid2_fail(err, SID2_ERR_USAGE,
                       "%s is a student itself (distill.k = %d), which makes pictures but does not denoise: "
                       "take its teacher",
                       teacher, (int)config->distill_k);
    for (int i = 0; ok && (key = sid2_next_change(config, r->config, &i, was, is));)
        if (strncmp(key->name, "model.", 6) == 0 || strncmp(key->name, "schedule.", 9) == 0)
            ok = sid2_fail(err, SID2_ERR_USAGE, "a student is as its teacher: %s has %s=%s, not %s", teacher,
                           key->name, was, is);
    sid2_config_destroy(config);
    return ok;
}

static bool check_teacher_classes(const sid2_run *r, const char *teacher, sid2_error *err)
{
    char difference[SID2_CLASSES_TEXT];
    sid2_classes *known = NULL;
    if (r->options.accept_data) return true;
    if (!sid2_checkpoint_classes(teacher, &known, err)) return false;
    bool differ = known && sid2_classes_differ(known, r->names, difference);
    sid2_classes_destroy(known);
    return !differ ||
           sid2_fail(err, SID2_ERR_USAGE,
                     "%s knows other classes than %s has: %s; go on all the same with --accept-data", teacher,
                     r->options.data, difference);
}

/* A student begins with all that its teacher is. One that goes on has its teacher in its checkpoint, so that nothing
 * would be made of another one that is given. */
static bool check_teacher(sid2_run *r, sid2_error *err)
{
    char teacher[4096];
    const char *was = r->before.teacher;
    strcpy(r->facts.teacher, was);
    if (!r->config->distill_k || (r->resuming && !r->options.from)) return true;
    if (!r->options.from)
        return sid2_fail(err, SID2_ERR_USAGE, "distill.k = %d: to learn from what? sid2 distill TEACHER",
                         (int)r->config->distill_k);
    if (!sid2_checkpoint_find(r->options.from, teacher, sizeof teacher, err) ||
        !sid2_checkpoint_digest(teacher, r->facts.teacher, err))
        return false;
    if (!r->resuming) return check_teacher_config(r, teacher, err) && check_teacher_classes(r, teacher, err);
    if (!was[0] || strcmp(was, r->facts.teacher) == 0) return true;
    return sid2_fail(
        err, SID2_ERR_USAGE,
        "%s learns from other weights than those of %s now: sid2 train --out %s goes on with its own "
        "teacher",
        r->options.path, teacher, r->options.path);
}

static bool prepare_data(sid2_run *r, sid2_error *err)
{
    return all_well(r, find_data(r, err), err) &&
           all_well(r,
                    read_data(r, err) && sid2_config_check(r->config, err) &&
                        sid2_config_check_guidance(r->config, err) && check_teacher(r, err),
                    err);
}

/* What is left out on the way was told of when the part to train on was opened. */
static bool prepare_heldout(sid2_run *r, sid2_error *err)
{
    const sid2_config *c = r->config;
    if (!c->train_eval_every || c->train_holdout <= 0) return true;
    sid2_dataset *data = sid2_dataset_part_of(r->data, r->options.data, SID2_PART_HELDOUT, err);
    bool ok = all_well(r, data, err) &&
              (!sid2_dataset_count(data) || sid2_heldout_read(&r->heldout, r->group, data, c, err));
    sid2_dataset_close(data);
    sid2_tell_notes(r);
    return ok;
}

/* What there is to go on from: as rank 0 sees it. */
static bool prepare_checkpoint(sid2_run *r, sid2_error *err)
{
    const char *path = r->options.path;
    if (!all_well(r, !sid2_leads(r) || sid2_run_examine(path, r->checkpoint, err), err) ||
        !sid2_group_share(r->group, r->checkpoint, sizeof r->checkpoint, err))
        return false;
    r->resuming = r->checkpoint[0];
    return all_well(r, !r->resuming || sid2_checkpoint_config(path, r->saved, err), err);
}

static void add_config(sid2_census *census, const sid2_config *config)
{
    char value[256];
    const sid2_config_key *key;
    for (int i = 0; (key = sid2_config_key_at(i)); i++)
        if (sid2_config_get(config, key->name, value, sizeof value, NULL))
            sid2_census_add(census, key->name, "%s", value);
}

/* What was asked for must be alike on all ranks, or they would not even do the same things; later what decides results. */
static bool compare_ranks(const sid2_run *r, bool asked, sid2_error *err)
{
    if (!r->group) return true;
    sid2_census *census = sid2_census_create(err);
    if (!all_well(r, census, err)) return sid2_census_destroy(census), false;
    sid2_census_add(census, "the version", "%s", SID2_VERSION);
    add_config(census, r->config);
    if (asked) {
        sid2_census_add(census, "the run", "%s", r->options.path);
        sid2_census_add(census, "--from", "%s", r->options.from ? r->options.from : "nothing");
        sid2_census_add(census, "--memory", "%zu", r->options.memory);
        sid2_census_add(census, "--minutes", "%g", r->options.seconds / 60);
        sid2_census_add(census, "--resume-older", "%d", r->options.resume_older);
        sid2_census_add(census, "--accept-data", "%d", r->options.accept_data);
    } else {
        const sid2_device_info *device = sid2_device_describe(r->device);
        sid2_census_add(census, "the number of images", "%" PRId64, r->facts.images);
        sid2_census_add(census, "the digest of the pictures", "%s", r->facts.pictures);
        sid2_census_add(census, "the device", "%s", device->name);
        sid2_census_add(census, "its driver", "%s", device->driver);
        sid2_census_add(census, "its way", "%s", device->detail);
        sid2_census_add(census, "the number of threads", "%d", device->cores);
        sid2_census_add(census, "what carries bytes", "%s", sid2_group_library(r->group));
    }
    bool ok = sid2_census_compare(census, r->group, err);
    sid2_census_destroy(census);
    return ok;
}

sid2_run *sid2_run_open(const sid2_run_options *given, sid2_error *err)
{
    sid2_run_options options;
    if (!sid2_take_options(&options, given, sid2_run_options, err)) return NULL;
    sid2_run *r = calloc(1, sizeof *r);
    if (!r) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory"), NULL;
    r->options = options;
    r->group = options.group;
    r->opened = sid2_clock();
    r->folder.lock = -1;
    r->last_note = &r->first_note;
    pthread_mutex_init(&r->lock, NULL);
    r->config = sid2_config_clone(options.config);
    r->saved = sid2_config_create();
    bool ok = (r->config && r->saved) || sid2_fail(err, SID2_ERR_MEMORY, "out of memory");
    if (options.fast_reduce) sid2_group_hasten(r->group);
    if (ok && !options.fast_reduce && !sid2_group_may_be_exact(r->group))
        ok = sid2_fail(
            err, SID2_ERR_USAGE,
            "%d ranks: sums in a fixed order need a power of two; --fast-reduce takes any number, but the "
            "bits depend on it",
            sid2_group_ranks(r->group));
    sid2_group_enter(r->group, SID2_PHASE_PREPARE, 0);
    ok = all_well(r, ok, err) && compare_ranks(r, true, err) && prepare_checkpoint(r, err) &&
         prepare_data(r, err) && prepare_heldout(r, err);
    if (ok) return r;
    sid2_run_close(r);
    return NULL;
}

/* Lets go of the device's memory. */
static void end_computing(sid2_run *r)
{
    sid2_events_close(&r->events);
    sid2_loader_close(r->loader);
    sid2_trainer_destroy(r->trainer);
    r->loader = NULL;
    r->trainer = NULL;
}

static void end_training(sid2_run *r)
{
    end_computing(r);
    sid2_pulse_end(r->pulse, !r->lost);
    r->pulse = NULL;
    sid2_folder_close(&r->folder);
}

void sid2_run_close(sid2_run *r)
{
    if (!r) return;
    end_training(r);
    sid2_heldout_free(&r->heldout);
    sid2_dataset_close(r->data);
    sid2_classes_destroy(r->names);
    sid2_config_destroy(r->config);
    sid2_config_destroy(r->saved);
    sid2_tell_notes(r);
    pthread_mutex_destroy(&r->lock);
    free(r);
}

/* The newest checkpoint before a step, as rank 0 sees it. */
static bool find_newest(const sid2_run *r, uint64_t before, char found[4096], sid2_error *err)
{
    return all_well(r, !sid2_leads(r) || sid2_checkpoint_newest(r->options.path, before, found, 4096, err),
                    err) &&
           sid2_group_share(r->group, found, 4096, err);
}

/* A damaged checkpoint is no end where an older one lies beside it. */
static bool advise_older(const sid2_run *r, const sid2_error *cause, sid2_error *err)
{
    char older[4096];
    if (!is_damage(cause) ||
        !sid2_checkpoint_newest(r->options.path, sid2_folder_step(r->checkpoint), older, sizeof older,
                                NULL) ||
        !older[0])
        return sid2_fail(err, cause->code, "%s", cause->message);
    return sid2_fail(err, cause->code, "%s; --resume-older goes on from %s", cause->message,
                     strrchr(older, '/') + 1);
}

/* Goes back until one can be read. Those passed over are set aside; nothing is removed. */
static bool resume_older(sid2_run *r, sid2_error *cause, sid2_error *err)
{
    char *found = r->checkpoint, damaged[4096], aside[4096], text[4200];
    sid2_tell_text(r, SID2_RUN_WARNING, cause->message);
    for (sid2_error last = *cause; cause->code; last = *cause) {
        bool looked = is_damage(cause) && find_newest(r, sid2_folder_step(found), damaged, err);
        if (!looked || !damaged[0]) return sid2_fail(err, last.code, "%s", last.message);
        strcpy(found, damaged);
        *cause = (sid2_error){0};
        sid2_trainer_resume(r->trainer, found, cause);
    }
    for (;;) {
        if (!find_newest(r, UINT64_MAX, damaged, err)) return false;
        if (strcmp(damaged, found) == 0) return true;
        if (!all_well(r, !sid2_leads(r) || sid2_folder_set_aside(damaged, aside, err), err)) return false;
        if (!sid2_leads(r)) continue;
        snprintf(text, sizeof text, "%s is kept as %s", strrchr(damaged, '/') + 1, aside);
        sid2_tell_text(r, SID2_RUN_WARNING, text);
    }
}

static bool prepare_state(sid2_run *r, sid2_error *err)
{
    sid2_error cause = {0};
    if (r->resuming)
        return (sid2_trainer_resume(r->trainer, r->checkpoint, &cause) ||
                (r->options.resume_older ? resume_older(r, &cause, err) : advise_older(r, &cause, err))) &&
               all_well(r, check_classes(r, err), err);
    if (!r->options.from) return true;
    int hold;
    bool held = sid2_checkpoint_hold(r->options.from, r->checkpoint, sizeof r->checkpoint, &hold, err),
         ok = all_well(r, held, err) &&
              sid2_group_share(r->group, r->checkpoint, sizeof r->checkpoint, err) &&
              sid2_trainer_warm_start(r->trainer, r->checkpoint, err);
    sid2_checkpoint_release(hold);
    return ok;
}

static void make_plan(sid2_run *r)
{
    const sid2_config *c = r->config;
    snprintf(r->facts.device, sizeof r->facts.device, "%s", sid2_device_describe(r->device)->name);
    char moved[64] = "";
    if (c->train_translate)
        snprintf(moved, sizeof moved, ", moved by up to %d pixels (train.translate)",
                 (int)c->train_translate);
    char clips[48] = "";
    if (c->model_frames > 1) snprintf(clips, sizeof clips, "clips of %d, ", (int)c->model_frames);
    snprintf(r->pictures, sizeof r->pictures, "%s%dx%d%s in %s, cropped at the centre; %s%s", clips,
             sid2_config_image_height(c), sid2_config_image_width(c),
             c->model_image_size.height != c->model_image_size.width ? " (height x width)" : "",
             c->model_image_channels == 1 ? "grey" : "colour",
             c->train_flip ? "half of them mirrored (train.flip)" : "none mirrored (train.flip)", moved);
    r->plan = (sid2_run_plan){.path = r->options.path,
                              .checkpoint = r->checkpoint[0] ? r->checkpoint : NULL,
                              .resumes = r->resuming,
                              .data = r->options.data,
                              .data_kind = sid2_dataset_kind(r->data),
                              .images = r->facts.images,
                              .classes = sid2_dataset_classes(r->data),
                              .device = r->facts.device,
                              .memory = sid2_trainer_memory(r->trainer),
                              .batch = c->train_batch,
                              .names = r->names,
                              .pictures = r->pictures,
                              .turning = sid2_dataset_turning(r->data),
                              .ranks = sid2_group_ranks(r->group),
                              .transport = sid2_group_carrier(r->group),
                              .sent = sid2_trainer_sends(r->trainer),
                              .fast = sid2_group_is_fast(r->group)};
    r->planned = true;
}

static void tell_changes(sid2_run *r)
{
    char was[256], is[256], text[640];
    const sid2_config_key *key;
    for (int i = 0; (key = sid2_next_change(r->saved, r->config, &i, was, is));) {
        snprintf(text, sizeof text, "%s=%s, was %s", key->name, is, was);
        sid2_tell_text(r, SID2_RUN_CHANGED, text);
    }
}

static bool is_complete(const sid2_run *r) { return r->progress.step >= r->progress.steps; }

static bool open_events(sid2_run *r, sid2_error *err)
{
    char path[4096];
    return !r->config->train_tensorboard || (sid2_path(path, err, "%s/tensorboard", r->folder.path) &&
                                             sid2_events_open(&r->events, path, r->progress.step, err));
}

/* The folder is rank 0's. */
static bool open_folder(sid2_run *r, sid2_error *err)
{
    bool ok = sid2_leads(r) ? sid2_folder_open(&r->folder, r->options.path, err)
                            : sid2_path(r->folder.path, err, "%s", r->options.path);
    if (ok && sid2_leads(r)) sid2_pulse_clear(r->options.path);
    if (!all_well(r, ok, err) || (r->group && !sid2_census_folder(r->group, r->options.path, 30, err)))
        return false;
    r->pulse = sid2_pulse_begin(r->options.path, r->group, sid2_device_describe(r->device)->name);
    return true;
}

/* What is written from now on, and what was written before. */
static bool open_records(sid2_run *r, sid2_error *err)
{
    if (!sid2_folder_open_stats(&r->folder, r->progress.step, err)) return false;
    sid2_tell_note(r);
    r->progress.best = r->folder.best;
    r->progress.best_step = r->folder.best_step;
    sid2_averages_begin(r);
    return sid2_folder_save_config(&r->folder, r->config, err) &&
           sid2_folder_save_facts(&r->folder, &r->facts, err) && open_events(r, err);
}

static bool prepare_records(sid2_run *r, sid2_error *err)
{
    r->progress.heldout = NAN;
    return all_well(r, !sid2_leads(r) || open_records(r, err), err) &&
           sid2_group_share(r->group, &r->progress.best, sizeof r->progress.best, err) &&
           sid2_group_share(r->group, &r->progress.best_step, sizeof r->progress.best_step, err);
}

/* Each rank decodes its own pictures. */
static bool open_loader(sid2_run *r, sid2_error *err)
{
    const sid2_config *c = r->config;
    r->loader = sid2_loader_open(
        r->data,
        &sid2_with(sid2_loader_options, .batch = (int32_t)c->train_batch, .seed = (uint64_t)c->train_seed,
                   .first_sample = sid2_trainer_images(r->trainer), .flip = c->train_flip,
                   .translate = (int32_t)c->train_translate, .part = sid2_group_rank(r->group),
                   .parts = sid2_group_ranks(r->group)),
        err);
    return all_well(r, r->loader, err);
}

/* Begins, or begins again where it was paused. */
static bool prepare(sid2_run *r, sid2_error *err)
{
    sid2_config *c = r->config;
    bool paused = r->pausing;
    sid2_group_enter(r->group, SID2_PHASE_PREPARE, 0);
    if (r->resuming) sid2_config_settle_like(c, r->saved); /* whatever is measured by now */
    sid2_config_settle_train(c, r->device);
    bool ok = !r->resuming || sid2_folder_check_config(r->options.path, r->saved, c, err);
    if (!all_well(r, ok, err) || !compare_ranks(r, false, err)) return false;
    sid2_tell(r, (sid2_run_event){.kind = SID2_RUN_PREPARING});
    const sid2_recipe recipe = sid2_recipe_of(c);
    r->trainer = sid2_trainer_create_recipe(r->device, c, &recipe, r->options.memory, r->group, err);
    if (!r->trainer) return false;
    /* A run that goes on is locked before it is read; a new one gets its folder last. */
    if ((r->resuming && !paused && !open_folder(r, err)) || !prepare_state(r, err) ||
        (!r->resuming && !open_folder(r, err)) ||
        !all_well(r, !r->names || sid2_trainer_name_classes(r->trainer, r->names, err), err))
        return false;
    sid2_tell_note(r);
    sid2_tell_state(r, "preparing", "");
    r->progress.steps = (uint64_t)c->train_steps;
    r->progress.step = r->progress.first_step = sid2_trainer_steps(r->trainer);
    if (!sid2_writing_choose(r, err)) return false;
    make_plan(r);
    sid2_tell(r, (sid2_run_event){.kind = paused ? SID2_RUN_CONTINUED : SID2_RUN_PLANNED});
    if (is_complete(r)) return true;
    if (!open_loader(r, err)) return false;
    if (r->resuming) tell_changes(r);
    if (r->trainer->note[0]) sid2_tell_text(r, SID2_RUN_CHANGED, r->trainer->note);
    return prepare_records(r, err);
}

/* ---- Time ---- */

/* What comes at intervals comes early too, so that there is something to see. */
static bool due(int64_t every, uint64_t step)
{
    uint64_t interval = (uint64_t)every;
    return every && (step % interval == 0 || 10 * step == interval || 100 * step == interval);
}

/* How many times it comes yet, the last step being one in any case. */
static double times_left(int64_t every, const sid2_run_progress *p)
{
    if (!every) return 1;
    return (double)(p->steps / (uint64_t)every - p->step / (uint64_t)every) +
           (p->steps % (uint64_t)every != 0);
}

static double seconds_per_step(const sid2_run *r)
{
    return (sid2_clock() - r->began - r->aside) / (double)(r->progress.step - r->progress.first_step);
}

/* What comes after the last step, as far as that is known by now. */
static double end_costs(const sid2_run *r)
{
    bool whole = r->progress.step + 1 >= r->progress.steps;
    return r->save_costs + (r->config->train_sample_every ? r->grid_costs : 0) + (whole ? r->eval_costs : 0);
}

/* Whether another step would end too late. */
static bool is_time_up(const sid2_run *r)
{
    double spent = sid2_clock() - r->opened, limit = r->options.seconds;
    return limit > 0 && r->loader && spent + seconds_per_step(r) + end_costs(r) > limit;
}

static void estimate(sid2_run *r)
{
    const sid2_config *c = r->config;
    sid2_run_progress *p = &r->progress;
    double spent = sid2_clock() - r->opened, limit = r->options.seconds;
    p->seconds_left = seconds_per_step(r) * (double)(p->steps - p->step) +
                      r->save_costs * times_left(c->train_checkpoint_every, p);
    if (c->train_sample_every) p->seconds_left += r->grid_costs * times_left(c->train_sample_every, p);
    if (r->heldout.count) p->seconds_left += r->eval_costs * times_left(c->train_eval_every, p);
    p->fraction = (double)p->step / (double)p->steps;
    if (limit <= 0 || p->seconds_left <= limit - spent) return;
    p->seconds_left = fmax(0, limit - spent);
    p->fraction = fmin(1, spent / limit);
}

/* ---- Numbers ---- */

static void begin_line(sid2_run *r)
{
    r->line = (sid2_stats_line){0};
    r->line_steps = r->line_images = 0;
    r->line_began = sid2_clock();
    r->line_aside = r->aside;
}

static void gather(sid2_run *r, const sid2_train_stats *now)
{
    sid2_stats_line *line = &r->line;
    sid2_run_progress *p = &r->progress;
    int batch = (int)r->config->train_batch;
    line->learning_rate = now->learning_rate;
    line->skipped += now->skipped;
    if (!now->skipped) line->loss += now->loss, line->grad_norm += now->grad_norm;
    for (int i = 0; i < batch && !now->skipped; i++) {
        int bin = (int)floor((now->sample_logsnr[i] + 10) / 2);
        bin = bin < 0 ? 0 : bin >= SID2_LOGSNR_BINS ? SID2_LOGSNR_BINS - 1 : bin;
        line->bin_loss[bin] += now->sample_loss[i];
        line->bin_count[bin]++;
    }
    r->line_steps++;
    r->line_images += (uint64_t)batch;

    p->step = now->step;
    double done = (double)(p->step - p->first_step);
    if (!now->skipped) p->loss += fmax(0.02, 1 / done) * (now->loss - p->loss);
    p->images_per_s = batch / seconds_per_step(r);
    p->waits = sid2_pulse_waits(r->pulse);
    p->seconds = r->folder.seconds + sid2_clock() - r->began;
    estimate(r);
}

/* A line of stats.jsonl. */
static void write_events(sid2_run *r)
{
    const sid2_stats_line *line = &r->line;
    sid2_scalar scalars[5 + SID2_LOGSNR_BINS] = {{"loss/train", line->loss},
                                                 {"gradient_norm", line->grad_norm},
                                                 {"learning_rate", line->learning_rate},
                                                 {"images_per_s", line->images_per_s}};
    int count = 4;
    sid2_error err = {0};
    if (!r->events.stream) return;
    if (line->heldout) scalars[count++] = (sid2_scalar){"loss/held_out", sid2_heldout_loss(line->heldout)};
    for (int i = 0; i < SID2_LOGSNR_BINS; i++) {
        if (!line->bin_count[i]) continue;
        scalars[count].value = line->bin_loss[i];
        snprintf(scalars[count].tag, sizeof scalars[count].tag, "loss_by_logsnr/%+d", 2 * i - 9);
        count++;
    }
    sid2_tell_events(r, sid2_events_scalars(&r->events, line->step, scalars, count, &err), &err);
}

static bool write_line(sid2_run *r, const sid2_train_stats *now, sid2_error *err)
{
    sid2_stats_line *line = &r->line;
    if (!r->line_steps) return true; /* the last one ended here */
    double seconds = sid2_clock() - r->line_began - (r->aside - r->line_aside);
    line->step = now->step;
    line->images = now->images;
    line->loss /= (double)(r->line_steps - line->skipped);
    line->grad_norm /= (double)(r->line_steps - line->skipped);
    line->images_per_s = (double)r->line_images / seconds;
    line->seconds = r->folder.seconds + sid2_clock() - r->began;
    for (int i = 0; i < SID2_LOGSNR_BINS; i++)
        if (line->bin_count[i]) line->bin_loss[i] /= line->bin_count[i];
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    line->memory = (size_t)usage.ru_maxrss * 1024;
    bool ok = !sid2_leads(r) || sid2_folder_write_stats(&r->folder, line, err);
    if (ok) write_events(r);
    begin_line(r);
    return all_well(r, ok, err);
}

/* ---- The loop ---- */

static void tell_skipped(sid2_run *r, uint64_t step)
{
    char text[120];
    snprintf(text, sizeof text,
             "step %" PRIu64 ": the gradient is not finite; stepped over, nothing has changed", step);
    sid2_tell_text(r, SID2_RUN_WARNING, text);
}

/* Whether this is the end, or a pause: one rank's callback says stop, rank 0's clock and folder say the rest. */
static bool agree_on_end(sid2_run *r, bool *last, bool *paused, sid2_error *err)
{
    enum { STOP = 1, LATE = 2, PAUSED = 4, WRITTEN = 8 };
    uint32_t flags = r->wish ? STOP : 0;
    if (sid2_leads(r) && (*last || is_time_up(r))) flags |= LATE;
    if (sid2_leads(r) && sid2_folder_is_paused(&r->folder)) flags |= PAUSED;
    if (sid2_leads(r) && sid2_writing_is_done(r)) flags |= WRITTEN;
    if (!sid2_group_agree(r->group, &flags, err)) return false;
    if (flags & WRITTEN && !sid2_writing_finish(r, err)) return false;
    r->progress.stopped = r->stop = flags & STOP;
    *last = is_complete(r) || flags & (STOP | LATE);
    *paused = flags & PAUSED;
    return true;
}

/* What a step leads to. *last: the training ends with it. */
static bool follow_up(sid2_run *r, const sid2_train_stats *now, bool *last, sid2_error *err)
{
    const sid2_config *c = r->config;
    if (!agree_on_end(r, last, &r->pausing, err) || !sid2_averages_keep(r, err)) return false;
    bool measured = r->heldout.count && !r->stop && (due(c->train_eval_every, now->step) || is_complete(r));
    bool best = measured && sid2_beside_measure(r);
    if (measured && !sid2_beside_agree(r, err)) return false;
    /* A line ends with every checkpoint too: what goes on from there begins its next one there. */
    bool keep = *last || best || due(c->train_checkpoint_every, now->step);
    bool line = keep || measured || now->step == 1 || now->step % (uint64_t)c->train_log_every == 0;
    if ((line && !write_line(r, now, err)) || (keep && !sid2_beside_save(r, err))) return false;
    bool grid = c->train_sample_every && !r->stop && (*last || due(c->train_sample_every, now->step));
    if (grid) sid2_beside_sample(r);
    if (grid && !sid2_beside_agree(r, err)) return false;
    *last = *last || r->stop; /* perhaps while it measured or drew */
    r->pausing = r->pausing && !*last;
    if (!*last && !r->pausing) return true;
    return (keep || (write_line(r, now, err) && sid2_beside_save(r, err))) && sid2_writing_finish(r, err);
}

static void begin_steps(sid2_run *r)
{
    r->began = sid2_clock();
    r->aside = 0;
    begin_line(r);
}

/* All is saved. What goes on begins as any start does, so with the same bits. */
static bool pause_training(sid2_run *r, bool *last, sid2_error *err)
{
    const struct timespec moment = {.tv_nsec = 200000000};
    end_computing(r);
    r->progress.seconds_left = NAN;
    for (bool paused = true; !*last && paused;) {
        sid2_group_enter(r->group, SID2_PHASE_PAUSE, r->progress.step);
        sid2_tell_state(r, "paused", "");
        sid2_tell(r, (sid2_run_event){.kind = SID2_RUN_PAUSED});
        nanosleep(&moment, NULL);
        *last = r->options.seconds > 0 && sid2_clock() - r->opened > r->options.seconds;
        if (!agree_on_end(r, last, &paused, err)) return false;
    }
    if (*last) return true;
    *r->saved = *r->config;
    r->resuming = true;
    if (!prepare(r, err)) return false;
    begin_steps(r);
    return true;
}

static bool train(sid2_run *r, sid2_error *err)
{
    begin_steps(r);
    sid2_beside_teacher(r);
    for (bool last = false; !last;) {
        sid2_group_enter(r->group, SID2_PHASE_STEP, r->progress.step + 1);
        const sid2_batch *batch = sid2_loader_next(r->loader, err);
        if (!all_well(r, batch, err) || !sid2_trainer_step(r->trainer, batch->pixels, batch->labels, err))
            return false;
        const sid2_train_stats *now = sid2_trainer_stats(r->trainer);
        const char *notice = sid2_device_notice(r->device);
        if (notice) sid2_tell_text(r, SID2_RUN_WARNING, notice);
        gather(r, now);
        if (now->skipped) tell_skipped(r, now->step);
        sid2_tell_state(r, "training", "");
        sid2_tell(r, (sid2_run_event){.kind = SID2_RUN_STEP, .stats = now});
        if (!follow_up(r, now, &last, err)) return false;
        r->progress.seconds = r->folder.seconds + sid2_clock() - r->began;
        if (r->pausing && !pause_training(r, &last, err)) return false;
    }
    return true;
}

bool sid2_run_train(sid2_run *r, sid2_device *device, sid2_error *err)
{
    sid2_error cause = {0};
    if (r->device && !r->lost)
        return sid2_fail(err, SID2_ERR_USAGE, "%s: open the run again to go on", r->options.path);
    r->device = device;
    bool ok = (!r->lost || prepare_checkpoint(r, &cause)) && prepare(r, &cause) &&
              (is_complete(r) || train(r, &cause));
    sid2_writing_abandon(r);
    sid2_tell_notes(r);
    sid2_tell_losses(r);
    sid2_tell_state(r, !ok ? "failed" : is_complete(r) ? "complete" : "stopped", cause.message);
    r->lost = cause.code == SID2_ERR_LOST;
    end_training(r);
    if (r->lost)
        return sid2_fail(err, cause.code, "after step %" PRIu64 ": %.400s; what was saved is kept",
                         r->progress.step, cause.message);
    return ok || sid2_fail(err, cause.code, "%s", cause.message);
}

const sid2_run_progress *sid2_run_where(const sid2_run *r) { return &r->progress; }
