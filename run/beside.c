/* What a training does beside its steps: grids of samples, the held-out loss; and what checkpoints cost. */
#include "at_work.h"

#include "classes.h"
#include "config.h"
#include "dataset.h"
#include "image.h"
#include "loader.h"
#include "together.h"
#include "trainer.h"

#include <sid2/sample.h>

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Adds what was not spent on steps, and gives it. */
static double count_aside(sid2_run *r, double since)
{
    double spent = sid2_clock() - since;
    r->aside += spent;
    return spent;
}

static bool on_sample_step(void *user, const sid2_sample_progress *now)
{
    sid2_run *r = user;
    r->progress.sampled = fmin(1, (now->images + (double)now->step / now->steps) / now->total);
    sid2_tell_state(r, "sampling", "");
    sid2_tell(r, (sid2_run_event){.kind = SID2_RUN_SAMPLING});
    return !r->wish;
}

/* Held-out clips, and their labels, for the made ones to begin as they do. NULL, and labels as they were: there are none. */
static bool read_real(sid2_run *r, int count, uint8_t **real, int32_t *labels, sid2_error *err)
{
    const sid2_config *c = r->config;
    *real = NULL;
    if (!c->model_given || c->train_holdout <= 0) return true;
    sid2_dataset *data = sid2_dataset_part_of(r->data, r->options.data, SID2_PART_HELDOUT, err);
    if (!data) return false;
    int64_t there = sid2_dataset_count(data);
    size_t bytes = sid2_config_image_bytes(c);
    *real = there ? malloc((size_t)count * bytes) : NULL;
    bool ok = *real || !there || sid2_fail(err, SID2_ERR_MEMORY, "out of memory for clips");
    for (int i = 0; ok && *real && i < count; i++) {
        int32_t label;
        ok = sid2_dataset_get(data, sid2_shuffle(0, 0, i % there, there), false, *real + (size_t)i * bytes,
                              &label, err);
        if (ok && label < c->model_classes) labels[i] = label;
    }
    sid2_dataset_close(data);
    return ok;
}

/* What made clips begin with, one behind the other. NULL where there are no real ones. */
static bool take_given(const sid2_run *r, int count, const uint8_t *real, uint8_t **given, sid2_error *err)
{
    size_t clip = sid2_config_image_bytes(r->config),
           bytes = clip / (size_t)r->config->model_frames * (size_t)r->config->model_given;
    *given = real ? malloc((size_t)count * bytes) : NULL;
    for (int i = 0; *given && i < count; i++)
        memcpy(*given + (size_t)i * bytes, real + (size_t)i * clip, bytes);
    return *given || !real || sid2_fail(err, SID2_ERR_MEMORY, "out of memory for clips");
}

/* A grid of images, or of clips, one row each. */
static bool write_grid(const sid2_run *r, const uint8_t *pixels, int count, int columns, const char *path,
                       const char *names, sid2_error *err)
{
    const sid2_config *c = r->config;
    sid2_png_text text = {(char[]){"Class name"}, (char *)(uintptr_t)names};
    sid2_image grid = {0};
    bool ok = sid2_image_grid(&grid, pixels, count * (int)c->model_frames,
                              (int32_t)c->model_image_size.height, (int32_t)c->model_image_size.width,
                              (int32_t)c->model_image_channels, columns, SID2_GRID_PADDING, 255, err) &&
              sid2_png_write(path, &grid, names ? &text : NULL, names ? 1 : 0, err);
    sid2_image_free(&grid);
    return ok;
}

/* How the clips that are gone on from do so really, for the report: samples/real.png, once. */
static bool write_real(const sid2_run *r, const uint8_t *real, int count, sid2_error *err)
{
    char path[4096];
    sid2_kind kind;
    if (!real) return true;
    if (!sid2_path(path, err, "%s/samples/real.png", r->folder.path) || !sid2_look(path, &kind, err))
        return false;
    return kind != SID2_ABSENT || write_grid(r, real, count, (int)r->config->model_frames, path, NULL, err);
}

/* One column a class where that gives a sensible grid; of clips one row each. */
static bool draw(sid2_run *r, sid2_sampler *sampler, const char *path, sid2_error *err)
{
    const sid2_config *c = r->config;
    int count = (int)c->train_sample_count, classes = (int)c->model_classes, frames = (int)c->model_frames;
    sid2_sample_kind kind = {.bytes = sid2_config_image_bytes(c), .frames = frames};
    uint64_t *seeds = calloc((size_t)count, sizeof *seeds);
    int32_t *labels = calloc((size_t)count, sizeof *labels);
    uint8_t *pixels = malloc((size_t)count * kind.bytes), *given = NULL, *real = NULL;
    bool made = seeds && labels && pixels,
         ok = made || sid2_fail(err, SID2_ERR_MEMORY, "out of memory for %d samples", count);
    for (int i = 0; made && i < count; i++) {
        seeds[i] = (uint64_t)i;
        labels[i] = classes ? i % classes : -1;
    }
    ok = sid2_group_concur(
        r->group, ok && read_real(r, count, &real, labels, err) && take_given(r, count, real, &given, err),
        err);
    kind.given = given;
    kind.given_bytes = kind.bytes / (size_t)frames * (size_t)c->model_given;
    char names[SID2_CLASSES_LIST] = "";
    size_t named = (size_t)(classes < count ? classes : count);
    if (made) sid2_classes_list(r->names, labels, named, ", ", names);
    int columns = frames > 1 ? frames : classes >= 4 && classes <= 16 && count >= classes ? classes : 0;
    ok = ok &&
         sid2_sample_together(r->group, sampler, seeds, labels, count, &kind, pixels, on_sample_step, r, err);
    if (ok && sid2_leads(r))
        ok = write_grid(r, pixels, count, columns, path, r->names ? names : NULL, err) &&
             write_real(r, real, count, err);
    free(real);
    free(given);
    free(seeds);
    free(labels);
    free(pixels);
    return ok;
}

/* A configuration to sample or evaluate by beside the training, and the memory there is for that. */
static sid2_config *make_beside(sid2_run *r, size_t *limit)
{
    sid2_config *config = sid2_config_clone(r->config);
    const sid2_memory_report *m = sid2_trainer_memory(r->trainer);
    size_t held = m->state + m->arena + m->workspace;
    *limit = r->options.memory;
    if (*limit) *limit = *limit > held ? *limit - held : 1;
    if (config) sid2_config_settle_sample(config, r->device);
    return config;
}

/* What cannot be shown or measured is worth a line, not the end of the training. */
static void tell_lack(sid2_run *r, const char *of, const sid2_error *cause)
{
    char text[sizeof cause->message + 64];
    if (cause->code == SID2_ERR_CANCELLED) return;
    snprintf(text, sizeof text, "no %s at step %" PRIu64 ": %s", of, r->progress.step, cause->message);
    sid2_tell_text(r, SID2_RUN_WARNING, text);
}

/* By weights of the trainer, or (`from`) of a checkpoint. */
static bool draw_by(sid2_run *r, const sid2_config *config, size_t limit, const char *from, const char *name,
                    char path[4096], sid2_error *err)
{
    sid2_sampler *sampler = config ? sid2_sampler_create(r->device, config, limit, err) : NULL;
    bool ok = sid2_group_concur(r->group, sampler, err) &&
              (from ? sid2_group_concur(r->group, sid2_sampler_load(sampler, from, true, err), err)
                    : sid2_sampler_load_trainer(sampler, r->trainer, err)) &&
              sid2_path(path, err, "%s/samples/%s.png", r->folder.path, name) && draw(r, sampler, path, err);
    sid2_sampler_destroy(sampler);
    return ok;
}

void sid2_beside_sample(sid2_run *r)
{
    sid2_error err = {0};
    char name[32], path[4096];
    size_t limit;
    double since = sid2_clock();
    sid2_group_enter(r->group, SID2_PHASE_SAMPLE, r->progress.step);
    sid2_config *config = make_beside(r, &limit);
    if (config) config->sample_steps = config->train_sample_steps;
    snprintf(name, sizeof name, "step-%08" PRIu64, r->progress.step);
    bool ok = draw_by(r, config, limit, NULL, name, path, &err);
    sid2_config_destroy(config);
    r->grid_costs = count_aside(r, since);
    if (ok && r->events.stream)
        sid2_tell_events(r, sid2_events_picture(&r->events, r->progress.step, "samples", path, &err), &err);
    if (ok)
        sid2_tell_text(r, SID2_RUN_SAMPLED, path);
    else
        tell_lack(r, "sample grid", &err);
}

/* As its own run draws them, but guided as the student learns it. */
static sid2_config *make_teacher(sid2_run *r, const char *teacher, sid2_error *err)
{
    const sid2_config *student = r->config;
    sid2_config *config = sid2_config_create();
    if (!config) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory"), NULL;
    if (!sid2_checkpoint_config(teacher, config, err)) return sid2_config_destroy(config), NULL;
    config->sample_steps = config->train_sample_steps;
    config->sample_guidance = student->distill_guidance;
    config->sample_interval = student->distill_interval;
    config->sample_guidance_rule = SID2_GUIDANCE_linear;
    sid2_config_settle_sample(config, r->device);
    return config;
}

/* As rank 0 sees it. */
static bool lacks_teacher(sid2_run *r)
{
    char path[4096];
    sid2_kind kind = SID2_ABSENT;
    bool looks = r->config->distill_k && r->options.from && r->config->train_sample_every,
         lacks = looks && sid2_leads(r) && sid2_path(path, NULL, "%s/samples/teacher.png", r->folder.path) &&
                 sid2_look(path, &kind, NULL) && kind == SID2_ABSENT;
    uint32_t flag = lacks;
    return looks && sid2_group_agree(r->group, &flag, NULL) && flag;
}

void sid2_beside_teacher(sid2_run *r)
{
    sid2_error err = {0};
    char path[4096], teacher[4096];
    double since = sid2_clock();
    size_t limit;
    int hold = -1;
    if (!lacks_teacher(r)) return;
    sid2_group_enter(r->group, SID2_PHASE_SAMPLE, r->progress.step);
    sid2_config *config = NULL, *beside = make_beside(r, &limit);
    bool ok = sid2_checkpoint_hold(r->options.from, teacher, sizeof teacher, &hold, &err) &&
              (config = make_teacher(r, teacher, &err));
    ok = sid2_group_concur(r->group, ok, &err) && draw_by(r, config, limit, teacher, "teacher", path, &err);
    sid2_checkpoint_release(hold);
    sid2_config_destroy(config);
    sid2_config_destroy(beside);
    count_aside(r, since);
    if (ok)
        sid2_tell_text(r, SID2_RUN_SAMPLED, path);
    else
        tell_lack(r, "grid of the teacher's samples", &err);
}

static bool on_measured(void *user, double done)
{
    sid2_run *r = user;
    r->progress.measured = done;
    sid2_tell_state(r, "measuring", "");
    sid2_tell(r, (sid2_run_event){.kind = SID2_RUN_MEASURING});
    return !r->wish;
}

bool sid2_beside_measure(sid2_run *r)
{
    sid2_error err = {0};
    size_t limit;
    double since = sid2_clock();
    sid2_group_enter(r->group, SID2_PHASE_MEASURE, r->progress.step);
    sid2_run_progress *p = &r->progress;
    sid2_config *config = make_beside(r, &limit);
    sid2_evaluator *evaluator = config ? sid2_evaluator_create(r->device, config, limit, &err) : NULL;
    bool ok = sid2_group_concur(r->group, evaluator, &err) &&
              sid2_evaluator_load_trainer(evaluator, r->trainer, &err) &&
              sid2_heldout_measure(&r->heldout, evaluator, on_measured, r, &err);
    sid2_evaluator_destroy(evaluator);
    sid2_config_destroy(config);
    r->eval_costs = count_aside(r, since);
    if (!ok) return tell_lack(r, "held-out loss", &err), false;
    r->line.heldout = &r->heldout;
    p->heldout = sid2_heldout_loss(&r->heldout);
    bool best = p->heldout < p->best;
    if (best) p->best = p->heldout, p->best_step = p->step;
    sid2_tell(r, (sid2_run_event){.kind = SID2_RUN_MEASURED});
    return best;
}

bool sid2_beside_agree(sid2_run *r, sid2_error *err)
{
    uint32_t stop = r->wish;
    if (!sid2_group_agree(r->group, &stop, err)) return false;
    r->progress.stopped = r->stop = stop;
    return true;
}

bool sid2_beside_save(sid2_run *r, sid2_error *err)
{
    double since = sid2_clock();
    if (!sid2_writing_save(r, err)) return false;
    r->save_costs = count_aside(r, since);
    return true;
}
