#include "inference.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "file.h"
#include "params.h"
#include "trainer.h"

static void close_worker(sid2_inference_worker *w)
{
    for (int i = 0; i < SID2_PASS_COUNT; i++) sid2_program_destroy(w->program[i]);
    sid2_arena_destroy(w->arena);
}

static void clear(sid2_inference *n)
{
    sid2_team_destroy(n->team);
    for (int w = 0; n->worker && w < n->plan.workers; w++) close_worker(&n->worker[w]);
    for (int p = 0; n->part && p < n->plan.parts; p++) sid2_buffers_clear(&n->part[p]);
    for (int w = 0; n->worker && w < n->plan.workers; w++) sid2_device_close(n->worker[w].cores);
    free(n->worker);
    free(n->part);
    free(n->numbers);
    n->team = NULL;
    n->worker = NULL;
    n->part = NULL;
    n->numbers = NULL;
    sid2_buffers_clear(&n->buffers);
    sid2_sampling_clear(&n->plan);
}

sid2_memory_report sid2_inference_memory(const sid2_inference *n)
{
    sid2_memory_report report = {.state = sid2_buffers_bytes(&n->buffers),
                                 .arena = sid2_sampling_arena(&n->plan),
                                 .microbatch = n->plan.images,
                                 .lanes = n->plan.parts,
                                 .workers = n->plan.workers,
                                 .cores = n->plan.cores};
    size_t held = 0;
    for (int p = 0; p < n->plan.parts; p++) report.state += sid2_buffers_bytes(&n->part[p]);
    for (int w = 0; w < n->plan.workers; w++) {
        held += sid2_arena_bytes(n->worker[w].arena);
        for (int i = 0; i < SID2_PASS_COUNT; i++)
            if (n->worker[w].program[i]) report.workspace += sid2_program_workspace(n->worker[w].program[i]);
    }
    report.workspace += held - report.arena;
    return report;
}

static bool open_part(sid2_inference *n, sid2_buffers *part, sid2_error *err)
{
    part->device = n->buffers.device;
    if (!sid2_buffers_borrow(part, &n->buffers, err)) return false;
    for (int i = 0; i < SID2_PASS_COUNT; i++)
        if (n->plan.graph[i] && !sid2_buffers_externals(part, n->plan.graph[i], err)) return false;
    return true;
}

static bool open_worker(sid2_inference *n, int number, const sid2_graph *const *graphs, int count,
                        sid2_error *err)
{
    sid2_inference_worker *w = &n->worker[number];
    const sid2_buffers *part = &n->part[number];
    sid2_device *device = n->buffers.device;
    if (n->plan.workers > 1 && !(device = w->cores = sid2_device_part(device, n->plan.cores, err)))
        return false;
    if (!(w->arena = sid2_arena_create(device, graphs, count, err))) return false;
    for (int i = 0; i < SID2_PASS_COUNT; i++) {
        if (n->plan.graph[i] && !(w->program[i] = sid2_program_create(device, n->plan.graph[i], w->arena,
                                                                      part->item, part->count, err)))
            return false;
    }
    return true;
}

static bool compile(sid2_inference *n, sid2_error *err)
{
    const sid2_graph *used[SID2_PASS_COUNT];
    int count = 0;
    for (int i = 0; i < SID2_PASS_COUNT; i++)
        if (n->plan.graph[i]) used[count++] = n->plan.graph[i];
    n->part = calloc((size_t)n->plan.parts, sizeof *n->part);
    n->worker = calloc((size_t)n->plan.workers, sizeof *n->worker);
    n->numbers = calloc((size_t)n->plan.images * (size_t)n->config.model_frames, sizeof *n->numbers);
    if (!n->part || !n->worker || !n->numbers) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory");
    for (int i = 0; i < count; i++)
        if (!sid2_buffers_params(&n->buffers, used[i], err)) return false;
    for (int p = 0; p < n->plan.parts; p++)
        if (!open_part(n, &n->part[p], err)) return false;
    for (int w = 0; w < n->plan.workers; w++)
        if (!open_worker(n, w, used, count, err)) return false;
    n->used = n->plan.parts;
    return (n->team = sid2_team_create(n->plan.workers, err)) != NULL;
}

/* What programs hold beside the plan is known only once they are made, so a limit may take fewer workers, or then a
 * smaller batch. */
static bool build(sid2_inference *n, const bool runs[SID2_PASS_COUNT], size_t memory, const char *doing,
                  sid2_error *err)
{
    sid2_device *device = n->buffers.device;
    sid2_training_site site = sid2_sampling_site_of(sid2_device_describe(device), memory);
    site.alignment = sid2_device_alignment(device);
    site.rebinds = sid2_device_rebinds(device);
    for (int batch = (int)n->config.sample_batch, workers = site.cores;;) {
        if (!sid2_sampling_plan(&n->config, n->guided_by_another ? &n->guide : NULL, runs, batch, workers,
                                &site, &n->plan, err))
            return false;
        size_t needed = sid2_sampling_state(&n->plan) + sid2_sampling_arena(&n->plan);
        if (!memory || needed <= memory) {
            if (!compile(n, err)) return false;
            sid2_memory_report m = sid2_inference_memory(n);
            needed = m.state + m.arena + m.workspace;
        }
        if (!memory || needed <= memory) return true;
        if (n->plan.workers == 1 && n->plan.batch == 1)
            return sid2_fail(err, SID2_ERR_MEMORY,
                             "%s one image at a time needs %zu MiB, more than the %g MiB allowed", doing,
                             (needed >> 20) + 1, (double)memory / (1 << 20));
        if (n->plan.workers > 1)
            workers = n->plan.workers / 2;
        else
            batch = ((n->plan.batch < batch ? n->plan.batch : batch) + 1) / 2;
        clear(n);
    }
}

bool sid2_inference_open(sid2_inference *n, sid2_device *device, const sid2_config *config,
                         const sid2_config *guide, const bool runs[SID2_PASS_COUNT], size_t memory,
                         const char *doing, sid2_error *err)
{
    *n = (sid2_inference){.config = *config,
                          .buffers = {.device = device},
                          .guided_by_another = guide && runs[SID2_PASS_GUIDED]};
    n->image_bytes = sid2_config_image_bytes(config);
    if (!sid2_config_check(config, err) || (guide && !sid2_config_check(guide, err))) return false;
    n->schedule = sid2_schedule_create(config);
    if (guide) {
        n->guide = *guide;
        n->guide_schedule = sid2_schedule_create(guide);
    }
    if (build(n, runs, memory, doing, err)) return true;
    clear(n);
    return false;
}

void sid2_inference_close(sid2_inference *n) { clear(n); }

/* ---- Weights ---- */

/* A graph that has the network; all lay it out alike. */
static const sid2_graph *network(const sid2_inference *n)
{
    for (int i = 0; i < SID2_PASS_COUNT; i++)
        if (n->plan.graph[i] && n->plan.graph[i]->params_count) return n->plan.graph[i];
    return NULL;
}

static bool load(sid2_inference *n, const char *directory, bool ema, const sid2_graph *g,
                 const sid2_params *params, sid2_error *err)
{
    char path[4096];
    return sid2_path(path, err, "%s/%s.safetensors", directory, ema ? "ema" : "weights") &&
           sid2_params_read(path, &n->buffers, g, params, err);
}

bool sid2_inference_load(sid2_inference *n, const char *directory, bool ema, sid2_error *err)
{
    const sid2_graph *g = network(n);
    return n->loaded = load(n, directory, ema, g, &g->params[0], err);
}

bool sid2_inference_load_guide(sid2_inference *n, const char *directory, bool ema, sid2_error *err)
{
    const sid2_graph *g = n->plan.graph[SID2_PASS_GUIDED];
    if (!n->guided_by_another) return true; /* outside the interval on every step: never asked */
    return n->guide_loaded = load(n, directory, ema, g, &g->params[1], err);
}

bool sid2_inference_load_trainer(sid2_inference *n, sid2_trainer *trainer, sid2_error *err)
{
    const sid2_graph *g = network(n);
    const sid2_params *params = &g->params[0];
    if (params->elements != trainer->states[0].params->elements)
        return sid2_fail(err, SID2_ERR_USAGE, "the sampler's model is not the trainer's");
    float *flat = malloc((size_t)params->elements * sizeof *flat);
    if (!sid2_group_concur(trainer->group,
                           flat || sid2_fail(err, SID2_ERR_MEMORY, "out of memory for the weights"), err))
        return free(flat), false;
    bool ok = sid2_state_gather(&trainer->states[0], "ema", flat, err) &&
              sid2_params_upload(&n->buffers, g, params, flat, err);
    free(flat);
    n->loaded |= ok;
    return ok;
}

bool sid2_inference_is_loaded(const sid2_inference *n, sid2_error *err)
{
    if (n->loaded && n->guided_by_another && !n->guide_loaded)
        return sid2_fail(err, SID2_ERR_USAGE, "no weights of the guide are loaded yet");
    return n->loaded || sid2_fail(err, SID2_ERR_USAGE, "no weights are loaded yet");
}

const char *sid2_inference_cause(const sid2_inference *n, char text[200])
{
    const sid2_graph *g = network(n);
    const sid2_params *params = &g->params[0];
    float *flat = malloc((size_t)params->elements * sizeof *flat);
    const sid2_param *param = NULL;
    if (flat && sid2_params_download(&n->buffers, g, params, flat, NULL))
        param = sid2_params_broken(params, flat);
    free(flat);
    text[0] = 0;
    if (param) snprintf(text, 200, "; the weight %s is not finite", param->name);
    return text;
}

/* ---- What a batch is told ---- */

bool sid2_inference_tell(sid2_inference *n, const char *name, const void *data, sid2_error *err)
{
    for (int p = 0; p < n->plan.parts; p++)
        if (!sid2_buffers_upload(&n->part[p], name, data, err)) return false;
    return true;
}

bool sid2_inference_upload_frames(sid2_inference *n, const char *name, double value, double given,
                                  sid2_error *err)
{
    int frames = (int)n->config.model_frames;
    for (int i = 0; i < n->plan.images * frames; i++)
        n->numbers[i] = (float)(i % frames < n->given ? given : value);
    return sid2_inference_tell(n, name, n->numbers, err);
}

bool sid2_inference_upload(sid2_inference *n, const char *name, double value, sid2_error *err)
{
    return sid2_inference_upload_frames(n, name, value, value, err);
}

bool sid2_inference_upload_images(sid2_inference *n, const uint64_t *seeds, const int32_t *labels, int first,
                                  int count, sid2_error *err)
{
    int batch = n->plan.batch, real = count - first < batch ? count - first : batch,
        frames = (int)n->config.model_frames;
    uint32_t *words = malloc((size_t)batch * (size_t)(2 + 2 * frames) * sizeof *words),
             *own = words + 2 * batch, *guides = own + batch * frames;
    if (!words) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory");
    const uint32_t none = (uint32_t)n->config.model_classes;
    const bool keeps_class = n->config.sample_guide_without == SID2_WITHOUT_history;
    for (int i = 0; i < batch; i++) {
        int image = first + (i < real ? i : real - 1);
        words[2 * i] = (uint32_t)seeds[image];
        words[2 * i + 1] = (uint32_t)(seeds[image] >> 32);
        uint32_t label = labels[image] < 0 ? none : (uint32_t)labels[image],
                 guide = keeps_class ? label : none;
        if (n->guided_by_another) guide = n->guide.model_classes ? label : 0;
        for (int f = i * frames; f < (i + 1) * frames; f++) own[f] = label, guides[f] = guide;
    }
    n->used = (real + n->plan.images - 1) / n->plan.images;
    const char *guide = n->guided_by_another ? "guide_label" : "no_label";
    bool guided = sid2_buffers_find(&n->part[0], guide) != NULL;
    bool ok = sid2_inference_scatter(n, "samples", words, err) &&
              sid2_inference_scatter(n, "label", own, err) &&
              (!guided || sid2_inference_scatter(n, guide, guides, err));
    free(words);
    return ok;
}

bool sid2_inference_upload_key(sid2_inference *n, uint32_t high, sid2_error *err)
{
    return sid2_inference_tell(n, "seed", (uint32_t[]){SID2_SAMPLE_KEY, high}, err);
}

bool sid2_inference_scatter(sid2_inference *n, const char *name, const void *from, sid2_error *err)
{
    const char *at = from;
    for (int p = 0; p < n->plan.parts; p++) {
        if (!sid2_buffers_upload(&n->part[p], name, at, err)) return false;
        at += sid2_buffers_find(&n->part[p], name)->bytes;
    }
    return true;
}

bool sid2_inference_gather(const sid2_inference *n, const char *name, void *to, sid2_error *err)
{
    char *at = to;
    for (int p = 0; p < n->plan.parts; p++) {
        if (!sid2_buffers_download(&n->part[p], name, at, err)) return false;
        at += sid2_buffers_find(&n->part[p], name)->bytes;
    }
    return true;
}

bool sid2_inference_wait(const sid2_inference *n, sid2_error *err)
{
    float any;
    return sid2_buffer_download(sid2_buffers_find(&n->part[0], "z"), 0, &any, sizeof any, err);
}

/* ---- Running ---- */

/* The program gets the buffers of another part; the weights are the same in all. */
static bool bind_part(const sid2_inference *n, sid2_program *program, const sid2_buffers *part,
                      sid2_error *err)
{
    for (int i = part->borrowed; i < part->count; i++)
        if (sid2_graph_find(n->plan.graph[n->pass], part->item[i].name) != SID2_NONE &&
            !sid2_program_rebind(program, part->item[i].name, part->item[i].buffer, err))
            return false;
    return true;
}

static bool run_parts(void *data, int member, sid2_error *err)
{
    sid2_inference *n = data;
    sid2_program *program = n->worker[member].program[n->pass];
    for (int64_t part; !sid2_team_failed(n->team) && (part = sid2_team_next(n->team)) < n->used;)
        if ((n->plan.parts > 1 && !bind_part(n, program, &n->part[part], err)) ||
            !sid2_program_run(program, err))
            return false;
    return true;
}

bool sid2_inference_run(sid2_inference *n, sid2_pass pass, sid2_error *err)
{
    n->pass = pass;
    return sid2_team_run(n->team, run_parts, n, err);
}
