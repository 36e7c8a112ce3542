/* The loop: a step is micro-batches of an objective, then the update of the state that it trains. */
#include "trainer.h"

#include "rate.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A graph that has the parameters of a state: where it can be, one that trains them. */
static const sid2_graph *graph_of(const sid2_trainer *t, const char *name)
{
    const sid2_graph *found = t->training.graph[0];
    for (int i = 0; i < t->training.graph_count; i++)
        for (int32_t s = 0; s < t->training.graph[i]->params_count; s++) {
            const sid2_params *params = &t->training.graph[i]->params[s];
            if (strcmp(params->name, name) != 0) continue;
            found = t->training.graph[i];
            if (params->trained) return found;
        }
    return found;
}

static sid2_state *state_of(sid2_trainer *t, const char *name)
{
    for (int i = 0; i < t->recipe.state_count; i++)
        if (strcmp(t->recipe.states[i].name, name) == 0) return &t->states[i];
    return NULL;
}

/* The names of a graph's stops, in the order in which they come. */
static void order_stops(const sid2_graph *g, const char *stops[SID2_MAX_STOPS + 1])
{
    int count = 0;
    for (; count < g->stop_count; count++) {
        int at = count;
        int32_t place = sid2_graph_stop_at(g, g->stops[count].name);
        for (; at > 0 && sid2_graph_stop_at(g, stops[at - 1]) > place; at--) stops[at] = stops[at - 1];
        stops[at] = g->stops[count].name;
    }
    stops[count] = NULL;
}

static bool compile(sid2_trainer *t, sid2_error *err)
{
    const sid2_graph *graphs[SID2_MAX_OBJECTIVES + SID2_MAX_STATES];
    int count = 0;
    for (int i = 0; i < t->recipe.objective_count; i++) {
        graphs[count++] = t->training.graph[i];
        order_stops(t->training.graph[i], t->stops[i]);
    }
    for (int i = 0; i < t->recipe.state_count; i++) {
        const sid2_state_rule *rule = &t->recipe.states[i];
        if (!sid2_state_open(&t->states[i], rule, &t->buffers, graph_of(t, rule->name), err)) return false;
        if (t->states[i].update_graph) graphs[count++] = t->states[i].update_graph;
    }
    if (!(t->arena = sid2_arena_create(t->buffers.device, graphs, count, err))) return false;
    for (int i = 0; i < t->recipe.objective_count; i++)
        if (!(t->programs[i] = sid2_buffers_program(&t->buffers, t->training.graph[i], t->arena, err)))
            return false;
    for (int i = 0; i < t->recipe.state_count; i++)
        if (!sid2_state_compile(&t->states[i], t->arena, err)) return false;
    return true;
}

static void dismantle(sid2_trainer *t)
{
    for (int i = 0; i < t->recipe.objective_count; i++) {
        sid2_program_destroy(t->programs[i]);
        t->programs[i] = NULL;
    }
    for (int i = 0; i < t->recipe.state_count; i++) sid2_state_close(&t->states[i]);
    sid2_arena_destroy(t->arena);
    t->arena = NULL;
    sid2_buffers_clear(&t->buffers);
    sid2_training_clear(&t->training);
}

/* Plans and compiles. What the backend needs beside the plan is known only then, so a limit may take further
 * rounds, the last with the least that there is. A GPU's memory is there to be filled with images, four
 * fifths of it, which leaves room to sample beside the training; train.arena is about the caches of a CPU. */
static bool build(sid2_trainer *t, sid2_device *device, size_t memory, sid2_error *err)
{
    const sid2_device_info *info = sid2_device_describe(device);
    sid2_config config = t->config;
    if (info->own_memory) {
        config.train_arena = 0;
        if (!memory) memory = info->memory / 5 * 4;
    }
    t->buffers.device = device;
    for (size_t round = 0, room = memory;; round++) {
        sid2_training *plan = &t->training;
        if (!sid2_training_plan(&config, &t->recipe, room, sid2_device_alignment(device), plan, err))
            return false;
        bool least = memory && plan->state + plan->arena > room;
        sid2_memory_report need = {
            .state = plan->state, .arena = plan->arena, .microbatch = plan->microbatch};
        if (least && info->memory && !sid2_training_fits(&need, info->memory, NULL))
            return sid2_training_fits(&need, memory, err); /* not even to be compiled */
        if (!compile(t, err)) return false;
        need = *sid2_trainer_memory(t);
        if (sid2_training_fits(&need, memory, least ? err : NULL)) return true;
        if (least) return false;
        dismantle(t);
        room = round < 2 && need.workspace < memory ? memory - need.workspace : 1;
    }
}

/* Fresh weights; the states of one recipe are one network's, and begin alike. */
static bool start(sid2_trainer *t, sid2_error *err)
{
    bool ok = true;
    for (int i = 0; ok && i < t->recipe.objective_count; i++) {
        t->hosts[i] = t->recipe.objectives[i]->open(&t->config, t->training.microbatch, &t->buffers, err);
        ok = t->hosts[i] != NULL;
    }
    for (int i = 0; ok && i < t->recipe.state_count; i++) {
        float *weights = sid2_params_initial(t->states[i].params, (uint64_t)t->config.train_seed, err);
        ok = weights && sid2_state_set(&t->states[i], weights, err);
        free(weights);
    }
    return ok;
}

sid2_trainer *sid2_trainer_create_recipe(sid2_device *device, const sid2_config *config,
                                         const sid2_recipe *recipe, size_t memory, sid2_error *err)
{
    if (!sid2_config_check(config, err)) return NULL;
    sid2_trainer *t = calloc(1, sizeof *t);
    if (!t) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory"), NULL;
    t->config = *config;
    t->recipe = *recipe;
    size_t batch = (size_t)config->train_batch;
    t->loss = calloc(batch, sizeof(float));
    t->logsnr = calloc(batch, sizeof(float));
    if (!t->loss || !t->logsnr)
        sid2_fail(err, SID2_ERR_MEMORY, "out of memory");
    else if (build(t, device, memory, err) && start(t, err))
        return t;
    sid2_trainer_destroy(t);
    return NULL;
}

sid2_trainer *sid2_trainer_create(sid2_device *device, const sid2_config *config, size_t memory,
                                  sid2_error *err)
{
    sid2_recipe recipe = sid2_recipe_of(config);
    return sid2_trainer_create_recipe(device, config, &recipe, memory, err);
}

void sid2_trainer_destroy(sid2_trainer *t)
{
    if (!t) return;
    for (int i = 0; i < t->recipe.objective_count; i++) t->recipe.objectives[i]->close(t->hosts[i]);
    dismantle(t);
    sid2_classes_destroy(t->classes);
    free(t->loss);
    free(t->logsnr);
    free(t);
}

/* The turns of an objective among the first `steps`. */
static uint64_t turns(const sid2_recipe *recipe, int objective, uint64_t steps)
{
    uint64_t count = (uint64_t)recipe->objective_count;
    return (steps + count - 1 - (uint64_t)objective) / count;
}

void sid2_trainer_set_steps(sid2_trainer *t, uint64_t steps, uint64_t images)
{
    t->steps = steps;
    t->images = images;
    t->bad_steps = 0;
    t->broken = false;
    for (int i = 0; i < t->recipe.state_count; i++) t->states[i].updates = 0;
    for (int i = 0; i < t->recipe.objective_count; i++)
        state_of(t, t->recipe.objectives[i]->trains)->updates += turns(&t->recipe, i, steps);
}

uint64_t sid2_trainer_steps(const sid2_trainer *t) { return t->steps; }
uint64_t sid2_trainer_images(const sid2_trainer *t) { return t->images; }

const sid2_memory_report *sid2_trainer_memory(sid2_trainer *t)
{
    sid2_memory_report report = {.state = sid2_buffers_bytes(&t->buffers),
                                 .arena = t->training.arena,
                                 .microbatch = t->training.microbatch,
                                 .recomputed_segments = t->training.recomputed,
                                 .segments = t->training.segments};
    report.workspace = sid2_arena_bytes(t->arena) - report.arena; /* scratch */
    for (int i = 0; i < t->recipe.objective_count; i++)
        report.workspace += sid2_program_workspace(t->programs[i]);
    for (int i = 0; i < t->recipe.state_count; i++)
        if (t->states[i].update) report.workspace += sid2_program_workspace(t->states[i].update);
    t->memory = report;
    return &t->memory;
}

sid2_program *sid2_trainer_program(sid2_trainer *t, const sid2_graph **graph)
{
    *graph = t->training.graph[0];
    return t->programs[0];
}

/* ---- One step ---- */

static bool run_microbatch(sid2_trainer *t, int turn, const sid2_step_input *step, int first, sid2_error *err)
{
    const sid2_objective *objective = t->recipe.objectives[turn];
    const sid2_buffer *loss = sid2_buffers_find(&t->buffers, "loss");
    bool last = first + t->training.microbatch >= t->config.train_batch;
    bool ok = objective->tell(t->hosts[turn], &t->buffers, step, first, t->logsnr + first, err);
    for (int i = 0; ok && objective->at_stop && t->stops[turn][i]; i++)
        ok = sid2_program_run_to(t->programs[turn], t->stops[turn][i], err) &&
             objective->at_stop(t->hosts[turn], &t->buffers, t->stops[turn][i], last, err);
    return ok && sid2_program_run(t->programs[turn], err) &&
           sid2_buffer_download_later(loss, 0, t->loss + first, loss->bytes, err);
}

static bool run_microbatches(sid2_trainer *t, int turn, const sid2_step_input *step, sid2_error *err)
{
    for (int first = 0; first < t->config.train_batch; first += t->training.microbatch)
        if (!run_microbatch(t, turn, step, first, err)) return false;
    return true;
}

/* Two computations of a step, compared by their bits; the trainer has the losses of the second. */
static bool agree(const sid2_trainer *t, const sid2_state *state, const float *loss, const float *grads,
                  const float *grads_again, sid2_error *err)
{
    size_t size = sizeof(float), image = 0, batch = (size_t)t->config.train_batch;
    const sid2_params *params = state->params;
    char what[160] = "";
    while (image < batch && memcmp(&loss[image], &t->loss[image], size) == 0) image++;
    if (image < batch) snprintf(what, sizeof what, "the loss of image %zu of the batch", image);
    for (int32_t i = 0; !what[0] && i < params->count; i++) {
        const sid2_param *p = &params->item[i];
        size_t bytes = (size_t)sid2_shape_count(p->shape) * size;
        if (memcmp(grads + p->offset, grads_again + p->offset, bytes) != 0)
            snprintf(what, sizeof what, "the gradient of %s", p->name);
    }
    return !what[0] ||
           sid2_fail(err, SID2_ERR_DEVICE,
                     "step %" PRIu64
                     ": computed twice, %s differs; the device does not repeat itself (CUDA "
                     "does with --deterministic only), so its results cannot be trusted; nothing of this "
                     "step was kept",
                     t->steps + 1, what);
}

/* The step's losses and gradients twice, from the same inputs. */
static bool run_twice(sid2_trainer *t, int turn, sid2_state *state, const sid2_step_input *step,
                      sid2_error *err)
{
    size_t elements = (size_t)state->params->elements, batch = (size_t)t->config.train_batch;
    float *flat = malloc((2 * elements + batch) * sizeof *flat);
    if (!flat) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory to verify a step");
    float *grads = flat, *grads_again = flat + elements, *loss = flat + 2 * elements;
    bool ok = run_microbatches(t, turn, step, err) && sid2_state_download(state, "grads", grads, err);
    if (ok) memcpy(loss, t->loss, batch * sizeof *loss);
    ok = ok && sid2_state_zero(state, "grads", err) && run_microbatches(t, turn, step, err) &&
         sid2_state_download(state, "grads", grads_again, err) &&
         agree(t, state, loss, grads, grads_again, err);
    free(flat);
    return ok;
}

static bool check_labels(const sid2_config *config, const int32_t *labels, sid2_error *err)
{
    for (int64_t i = 0; labels && i < config->train_batch; i++)
        if (labels[i] < -1 || labels[i] >= config->model_classes)
            return sid2_fail(err, SID2_ERR_USAGE, "label %d: the model has model.classes = %d",
                             (int)labels[i], (int)config->model_classes);
    return true;
}

/* What went wrong in a step that changed nothing: a weight, which spoils all the rest; the loss of an image; or the
 * gradient of a parameter. */
static bool fail_step(const sid2_trainer *t, const sid2_state *state, sid2_error *err)
{
    char what[200] = "the norm of the gradient";
    const sid2_param *param = NULL;
    for (int i = 0; !param && i < t->recipe.state_count; i++) {
        param = sid2_state_broken(&t->states[i], "weights");
        if (param)
            snprintf(what, sizeof what, "the weight %s%s%s", t->states[i].rule.name,
                     t->states[i].rule.name[0] ? "." : "", param->name);
    }
    int image = 0;
    while (image < t->config.train_batch && isfinite(t->loss[image])) image++;
    if (!param && image < t->config.train_batch)
        snprintf(what, sizeof what, "the loss of image %d of the batch", image);
    else if (!param && (param = sid2_state_broken(state, "grads")))
        snprintf(what, sizeof what, "the gradient of %s", param->name);
    return sid2_fail(err, SID2_ERR_DEVICE,
                     "step %" PRIu64
                     ": %s is not finite; with a lower train.learning_rate or a longer train.warmup, go on "
                     "from the last checkpoint, or anew where there is none",
                     t->steps + 1, what);
}

/* A bad step may be stepped over where its update changed nothing, and where more of them would not follow of
 * themselves, for the weights are good. */
static bool may_skip(const sid2_trainer *t, float norm)
{
    bool ok = !isfinite(norm) && t->bad_steps < t->config.train_skip_bad_steps;
    for (int i = 0; ok && i < t->recipe.state_count; i++) ok = !sid2_state_broken(&t->states[i], "weights");
    return ok;
}

bool sid2_trainer_step(sid2_trainer *t, const uint8_t *pixels, const int32_t *labels, sid2_error *err)
{
    if (t->broken)
        return sid2_fail(err, SID2_ERR_USAGE,
                         "training stopped at step %" PRIu64 "; resume from a checkpoint", t->steps + 1);
    if (!t->config.model_classes) labels = NULL;
    if (!check_labels(&t->config, labels, err)) return false;
    const sid2_step_input step = {t->steps, t->images, pixels, labels};
    int batch = (int)t->config.train_batch, turn = (int)(t->steps % (uint64_t)t->recipe.objective_count);
    t->broken = true; /* until the step is whole */
    sid2_state *state = state_of(t, t->recipe.objectives[turn]->trains);
    uint64_t verify = (uint64_t)t->config.train_verify_every;
    bool twice = verify && (t->steps + 1) % verify == 0;
    if (!(twice ? run_twice(t, turn, state, &step, err) : run_microbatches(t, turn, &step, err)))
        return false;
    double rate = sid2_learning_rate(&t->config, t->steps), loss = 0;
    float norm = 0;
    /* The one wait of a step: with the norm come the losses. */
    if (!sid2_state_update(state, &t->config, rate, &norm, err)) return false;
    for (int i = 0; i < batch; i++) loss += t->loss[i];
    bool bad = !isfinite(loss) || !isfinite(norm);
    if (bad && !may_skip(t, norm)) return fail_step(t, state, err);
    if (bad && !sid2_state_skip(state, err)) return false;
    t->bad_steps = bad ? t->bad_steps + 1 : 0;
    t->broken = false;
    t->steps++;
    t->images += (uint64_t)batch;
    t->stats = (sid2_train_stats){.step = t->steps,
                                  .images = t->images,
                                  .skipped = bad,
                                  .loss = loss / batch,
                                  .grad_norm = norm,
                                  .learning_rate = rate,
                                  .sample_loss = t->loss,
                                  .sample_logsnr = t->logsnr};
    return true;
}

const sid2_train_stats *sid2_trainer_stats(const sid2_trainer *t) { return t->stats.step ? &t->stats : NULL; }
