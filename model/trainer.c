/* The loop: a step is micro-batches of an objective, then the update of the state that it trains. */
#include "trainer.h"

#include "digest.h"
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

static bool compile(sid2_trainer *t, sid2_error *err)
{
    const sid2_graph *updates[SID2_MAX_STATES];
    int count = 0;
    for (int i = 0; i < t->training.graph_count; i++)
        if (!sid2_buffers_params(&t->buffers, t->training.graph[i], err)) return false;
    for (int i = 0; i < t->recipe.state_count; i++) {
        const sid2_state_rule *rule = &t->recipe.states[i];
        if (!sid2_state_open(&t->states[i], rule, &t->buffers, t->group, graph_of(t, rule->name), err))
            return false;
        if (t->states[i].update_graph) updates[count++] = t->states[i].update_graph;
        for (int g = 0; g < t->training.graph_count; g++)
            sid2_state_stops(&t->states[i], t->training.graph[g], t->training.own == 1);
    }
    if (!sid2_lanes_open(&t->lanes, &t->recipe, &t->training, &t->buffers, &t->config, t->group, updates,
                         count, err))
        return false;
    for (int i = 0; i < t->recipe.state_count; i++) /* between steps, so in a worker's arena */
        if (!sid2_state_compile(&t->states[i], t->lanes.worker[0].arena, err)) return false;
    return true;
}

static void dismantle(sid2_trainer *t)
{
    for (int i = 0; i < t->recipe.state_count; i++) sid2_state_close(&t->states[i]);
    sid2_lanes_close(&t->lanes);
    sid2_buffers_clear(&t->buffers);
    sid2_training_clear(&t->training);
}

/* Plans and compiles. What the backend needs beside the plan is known only then, so a limit may take further
 * rounds, the last with the least that there is. */
static bool build_as(sid2_trainer *t, const sid2_config *config, sid2_error *err)
{
    const sid2_device_info *info = sid2_device_describe(t->device);
    const sid2_training_site whole = sid2_training_site_of(info, t->memory);
    sid2_training_site site = whole;
    site.alignment = sid2_device_alignment(t->device);
    site.rebinds = sid2_device_rebinds(t->device);
    site.ranks = sid2_group_ranks(t->group);
    t->buffers.device = t->device;
    for (size_t round = 0;; round++) {
        sid2_training *plan = &t->training;
        if (!sid2_training_plan(config, &t->recipe, &site, plan, err)) return false;
        sid2_memory_report need = {.state = sid2_training_state(plan),
                                   .arena = sid2_training_arena(plan),
                                   .microbatch = plan->microbatch,
                                   .lanes = plan->lanes,
                                   .own = plan->own};
        bool least = site.memory && need.state + need.arena > site.memory;
        if (least && info->memory && !sid2_training_fits(&need, info->memory, NULL))
            return sid2_training_fits(&need, whole.memory, err); /* not even to be compiled */
        if (!compile(t, err)) return false;
        need = *sid2_trainer_memory(t);
        if (sid2_training_fits(&need, whole.memory, least ? err : NULL)) return true;
        if (least) return false;
        dismantle(t);
        site.memory = round < 2 && need.workspace < whole.memory ? whole.memory - need.workspace : 1;
        site.room = site.memory;
    }
}

/* As the checkpoint was made that this goes on from, where the configuration leaves it open. */
static sid2_config keep_cut(const sid2_trainer *t)
{
    sid2_config config = t->config;
    int64_t lanes = t->kept.lanes, images = lanes ? config.train_batch / lanes : 0, size = t->kept.microbatch;
    bool whole = images && config.train_batch % lanes == 0 && lanes % sid2_group_ranks(t->group) == 0 &&
                 !(lanes & (lanes - 1));
    if (!config.train_lanes && whole && (!config.train_microbatch || images % config.train_microbatch == 0))
        config.train_lanes = lanes;
    if (!config.train_microbatch && whole && size && config.train_lanes == lanes && images % size == 0)
        config.train_microbatch = size;
    return config;
}

static bool build(sid2_trainer *t, sid2_error *err)
{
    if (!sid2_group_attach(t->group, t->device, err)) return false;
    sid2_config config = keep_cut(t), lanes = config;
    sid2_error cause = {0};
    lanes.train_microbatch = t->config.train_microbatch;
    if (build_as(t, &config, &cause)) return true;
    dismantle(t);
    if (cause.code != SID2_ERR_MEMORY || config.train_microbatch == lanes.train_microbatch)
        return sid2_fail(err, cause.code, "%s", cause.message);
    return build_as(t, &lanes, err) || (dismantle(t), false);
}

/* Fresh weights; the states of one recipe are one network's, and begin alike. */
static bool start(sid2_trainer *t, sid2_error *err)
{
    bool ok = sid2_lanes_start(&t->lanes, &t->config, err);
    for (int i = 0; ok && i < t->recipe.state_count; i++) {
        float *weights = sid2_params_initial(t->states[i].params, (uint64_t)t->config.train_seed, err);
        ok = weights && sid2_state_set(&t->states[i], weights, err);
        free(weights);
    }
    return ok;
}

/* Only an objective that nobody stops for can be cut. */
static bool check_recipe(const sid2_config *config, const sid2_recipe *recipe, sid2_error *err)
{
    for (int i = 0; i < recipe->objective_count; i++)
        if (recipe->objectives[i]->at_stop && config->train_lanes > 1)
            return sid2_fail(err, SID2_ERR_USAGE,
                             "train.lanes = %d: the objective %s wants to see whole gradients, so 1",
                             (int)config->train_lanes, recipe->objectives[i]->name);
    return true;
}

/* Eight bits are for 16-bit products; and their scales go by what ran before, so a step run twice may differ. */
static bool check_eight(const sid2_device *device, const sid2_config *config, sid2_error *err)
{
    if (!sid2_device_describe(device)->fp8) return true;
    if (config->train_precision == SID2_PRECISION_f32)
        return sid2_fail(err, SID2_ERR_USAGE, "FP8 is for products of 16 bits, but train.precision is f32");
    return !config->train_verify_every ||
           sid2_fail(err, SID2_ERR_USAGE,
                     "train.verify_every: with FP8 products a step that is computed twice need not agree");
}

sid2_trainer *sid2_trainer_create_recipe(sid2_device *device, const sid2_config *config,
                                         const sid2_recipe *recipe, size_t memory, sid2_group *group,
                                         sid2_error *err)
{
    if (!sid2_config_check(config, err) || !check_recipe(config, recipe, err) ||
        !check_eight(device, config, err))
        return NULL;
    sid2_trainer *t = calloc(1, sizeof *t);
    if (!t) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory"), NULL;
    t->group = group;
    t->device = device;
    t->config = *config;
    t->recipe = *recipe;
    t->memory = memory;
    size_t batch = (size_t)config->train_batch;
    t->loss = calloc(batch * (size_t)config->model_frames, sizeof(float));
    t->logsnr = calloc(batch, sizeof(float));
    t->told = calloc(2 * batch, sizeof(float));
    bool ok = (t->loss && t->logsnr && t->told) || sid2_fail(err, SID2_ERR_MEMORY, "out of memory");
    ok = ok && build(t, err) && start(t, err);
    if (sid2_group_concur(group, ok, err)) return t;
    sid2_trainer_destroy(t);
    return NULL;
}

sid2_trainer *sid2_trainer_create(sid2_device *device, const sid2_config *config, size_t memory,
                                  sid2_error *err)
{
    sid2_recipe recipe = sid2_recipe_of(config);
    return sid2_trainer_create_recipe(device, config, &recipe, memory, NULL, err);
}

void sid2_trainer_destroy(sid2_trainer *t)
{
    if (!t) return;
    dismantle(t);
    sid2_classes_destroy(t->classes);
    free(t->loss);
    free(t->logsnr);
    free(t->told);
    free(t);
}

/* What differs from the checkpoint's, since somebody said so or memory does not hold it. */
static void note_cut(sid2_trainer *t)
{
    const sid2_training *now = &t->training;
    const sid2_cut *kept = &t->kept;
    t->note[0] = 0;
    if (kept->lanes && kept->lanes != now->lanes)
        snprintf(t->note, sizeof t->note,
                 "%d lanes, of %d images at a time; until now %" PRId64 " of %" PRId64
                 ", so the last bits go another way from here",
                 now->lanes, now->microbatch, kept->lanes, kept->microbatch);
    else if (kept->microbatch && kept->microbatch != now->microbatch)
        snprintf(t->note, sizeof t->note,
                 "%d images at a time, until now %" PRId64 "%s, so the last bits go another way from here",
                 now->microbatch, kept->microbatch,
                 t->config.train_microbatch ? "" : ", which the limit on memory does not hold");
}

bool sid2_trainer_keep_cut(sid2_trainer *t, sid2_cut cut, sid2_error *err)
{
    t->kept = cut;
    sid2_config config = keep_cut(t);
    bool same = (!config.train_lanes || config.train_lanes == t->training.lanes) &&
                (!config.train_microbatch || config.train_microbatch == t->training.microbatch);
    if (!same) {
        t->broken = true;
        dismantle(t);
        if (!build(t, err) || !start(t, err)) return false;
    }
    note_cut(t);
    return true;
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

/* Of the gradients every rank gives away all but its part, and gives that part of the weights to all others. */
double sid2_trainer_sends(const sid2_trainer *t)
{
    double ranks = sid2_group_ranks(t->group), elements = (double)t->states[0].params->elements;
    double gradient = t->config.train_wire == SID2_WIRE_bf16 ? 2 : 4, weight = t->states[0].masters ? 2 : 4,
           vectors = 4 * (double)t->states[0].params->vector_elements;
    return ((gradient + weight) * elements + vectors) * (ranks - 1) / ranks;
}

uint64_t sid2_trainer_steps(const sid2_trainer *t) { return t->steps; }
uint64_t sid2_trainer_images(const sid2_trainer *t) { return t->images; }

const sid2_memory_report *sid2_trainer_memory(sid2_trainer *t)
{
    const sid2_training *plan = &t->training;
    sid2_memory_report report = {.state = sid2_buffers_bytes(&t->buffers) + sid2_lanes_buffers(&t->lanes) +
                                          plan->beside,
                                 .arena = sid2_training_arena(plan),
                                 .microbatch = plan->microbatch,
                                 .recomputed_segments = plan->recomputed,
                                 .segments = plan->segments,
                                 .lanes = plan->lanes,
                                 .own = plan->own,
                                 .workers = plan->workers,
                                 .cores = plan->cores,
                                 .wish = plan->wish};
    report.workspace = sid2_lanes_arenas(&t->lanes) - report.arena; /* scratch */
    report.workspace += sid2_lanes_workspace(&t->lanes);
    for (int i = 0; i < t->recipe.state_count; i++)
        if (t->states[i].update) report.workspace += sid2_program_workspace(t->states[i].update);
    t->memory_report = report;
    return &t->memory_report;
}

sid2_program *sid2_trainer_program(sid2_trainer *t, int worker, const sid2_graph **graph)
{
    *graph = t->training.graph[0];
    return worker < t->training.workers ? t->lanes.worker[worker].program[0] : NULL;
}

/* ---- One step ---- */

/* This rank's losses and gradients. */
static bool run_lanes(sid2_trainer *t, int turn, sid2_state *state, const sid2_step_input *step,
                      sid2_error *err)
{
    char grads[96];
    return sid2_lanes_run(&t->lanes, turn, step, sid2_state_buffer(state, "grads", grads), t->loss, t->logsnr,
                          err);
}

/* Two computations of a step, compared by their bits; the trainer has the losses of the second. */
static bool agree(const sid2_trainer *t, const sid2_state *state, const float *loss, const float *grads,
                  const float *grads_again, sid2_error *err)
{
    size_t size = sizeof(float), image = 0, frames = (size_t)t->config.model_frames,
           images = (size_t)t->config.train_batch * frames;
    const sid2_params *params = state->params;
    char what[160] = "";
    while (image < images && memcmp(&loss[image], &t->loss[image], size) == 0) image++;
    if (image < images) snprintf(what, sizeof what, "the loss of image %zu of the batch", image / frames);
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
    size_t elements = (size_t)state->params->elements,
           images = (size_t)(t->config.train_batch * t->config.model_frames);
    float *flat = malloc((2 * elements + images) * sizeof *flat);
    if (!flat) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory to verify a step");
    float *grads = flat, *grads_again = flat + elements, *loss = flat + 2 * elements;
    bool ok = run_lanes(t, turn, state, step, err) && sid2_state_download(state, "grads", grads, err);
    if (ok) memcpy(loss, t->loss, images * sizeof *loss);
    ok = ok && sid2_state_zero(state, "grads", err) && run_lanes(t, turn, state, step, err) &&
         sid2_state_download(state, "grads", grads_again, err) &&
         agree(t, state, loss, grads, grads_again, err);
    free(flat);
    return ok;
}

static bool check_labels(const sid2_config *config, const int32_t *labels, int64_t count, sid2_error *err)
{
    for (int64_t i = 0; labels && i < count; i++)
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

/* A clip's loss is the mean of its frames'. */
static void join_frames(sid2_trainer *t, int begin, int count)
{
    int frames = (int)t->config.model_frames;
    for (int i = begin; frames > 1 && i < begin + count; i++) {
        const float *loss = t->loss + (size_t)i * (size_t)frames;
        double sum = 0;
        for (int f = 0; f < frames; f++) sum += loss[f];
        t->loss[i] = (float)(sum / frames);
    }
}

/* Losses and noise levels of all ranks. */
static bool gather_losses(sid2_trainer *t, int begin, int count, sid2_error *err)
{
    join_frames(t, begin, count);
    size_t bytes = (size_t)count * sizeof(float);
    float *own = t->told + 2 * begin;
    memcpy(own, t->loss + begin, bytes);
    memcpy(own + count, t->logsnr + begin, bytes);
    if (!sid2_group_gather(t->group, t->told, 2 * bytes, err)) return false;
    for (int r = 0; r < sid2_group_ranks(t->group); r++) {
        memcpy(t->loss + r * count, t->told + (size_t)(2 * r) * count, bytes);
        memcpy(t->logsnr + r * count, t->told + (size_t)(2 * r + 1) * count, bytes);
    }
    return true;
}

/* What a rank says of its weights. */
typedef struct replica {
    char digest[33], host[64];
} replica;

static int votes(const replica *all, int ranks, int rank)
{
    int count = 0;
    for (int r = 0; r < ranks; r++) count += strcmp(all[r].digest, all[rank].digest) == 0;
    return count;
}

/* The rank whose weights most have; of two as many, the first's. */
static int judge(const replica *all, int ranks)
{
    int best = 0;
    for (int r = 1; r < ranks; r++)
        if (votes(all, ranks, r) > votes(all, ranks, best)) best = r;
    return best;
}

static bool digest_weights(const sid2_trainer *t, char digest[33], sid2_error *err)
{
    sid2_digest *stream = sid2_digest_begin(err);
    bool ok = stream;
    for (int i = 0; ok && i < t->recipe.state_count; i++) ok = sid2_state_digest(&t->states[i], stream, err);
    sid2_digest_end(stream, digest);
    return ok;
}

/* But for those of `except`, which come while they are wanted. */
static bool fetch_weights(sid2_trainer *t, sid2_state *except, sid2_error *err)
{
    bool ok = true;
    for (int i = 0; ok && i < t->recipe.state_count; i++)
        if (&t->states[i] != except) ok = sid2_state_make_whole(&t->states[i], err);
    return ok && (!except || sid2_state_fetch(except, err));
}

bool sid2_trainer_compare(sid2_trainer *t, sid2_error *err)
{
    const sid2_place *place = sid2_group_place(t->group);
    if (!t->group) return true;
    if (!fetch_weights(t, NULL, err)) return false;
    replica *all = calloc((size_t)place->ranks, sizeof *all);
    bool ok = all ? digest_weights(t, all[place->rank].digest, err)
                  : sid2_fail(err, SID2_ERR_MEMORY, "out of memory");
    ok = sid2_group_concur(t->group, ok, err);
    if (ok) memcpy(all[place->rank].host, place->host, sizeof place->host);
    ok = ok && sid2_group_gather(t->group, all, sizeof *all, err);
    int best = ok ? judge(all, place->ranks) : 0;
    for (int r = 0; ok && r < place->ranks; r++)
        if (strcmp(all[r].digest, all[best].digest) != 0)
            ok = sid2_fail(err, SID2_ERR_DEVICE,
                           "step %" PRIu64
                           ": the weights of rank %d on %s are not those of %d of %d ranks, rank "
                           "%d among them: something there (memory, a link) is not to be trusted; go on from "
                           "the last checkpoint, without it",
                           t->steps + 1, r, all[r].host, votes(all, place->ranks, best), place->ranks, best);
    free(all);
    return ok;
}

/* Between two updates what one rank's memory loses is its own; the next one would hide it. */
static bool compare_sometimes(sid2_trainer *t, sid2_error *err)
{
    return (t->steps + 1) % (uint64_t)t->config.train_log_every != 0 || sid2_trainer_compare(t, err);
}

bool sid2_trainer_step(sid2_trainer *t, const uint8_t *pixels, const int32_t *labels, sid2_error *err)
{
    int batch = (int)t->config.train_batch, count = batch / sid2_group_ranks(t->group),
        begin = count * sid2_group_rank(t->group);
    if (t->broken)
        return sid2_fail(err, SID2_ERR_USAGE,
                         "training stopped at step %" PRIu64 "; resume from a checkpoint", t->steps + 1);
    if (!t->config.model_classes) labels = NULL;
    /* Of several ranks one with such labels computes without them, as the others have begun, and then all hear of it. */
    sid2_error cause = {0};
    if (!check_labels(&t->config, labels, count, &cause)) {
        if (!t->group) return sid2_fail(err, cause.code, "%s", cause.message);
        labels = NULL;
    }
    const sid2_step_input step = {t->steps, t->images, begin, pixels, labels};
    int turn = (int)(t->steps % (uint64_t)t->recipe.objective_count);
    t->broken = true; /* until the step is whole */
    sid2_state *state = state_of(t, t->recipe.objectives[turn]->trains);
    uint64_t verify = (uint64_t)t->config.train_verify_every;
    bool twice = verify && (t->steps + 1) % verify == 0;
    /* With one lane a rank, sums begin before the lane ends; but not where two passes want to be seen whole. */
    t->lanes.early = t->training.own == 1 && !twice && sid2_group_queues(t->group) ? state : NULL;
    t->lanes.coming = t->training.workers == 1 && sid2_group_queues(t->group) ? state : NULL;
    if (!fetch_weights(t, t->lanes.coming, err)) return false;
    bool made = twice ? run_twice(t, turn, state, &step, err) : run_lanes(t, turn, state, &step, err);
    if (made && cause.code) made = sid2_fail(err, cause.code, "%s", cause.message);
    if (!sid2_group_concur(t->group, made, err) || !compare_sometimes(t, err) ||
        !sid2_state_sum(state, t->config.train_wire == SID2_WIRE_bf16, err))
        return false;
    double rate = sid2_learning_rate(&t->config, t->steps), loss = 0;
    float norm = 0;
    /* The one wait of a step: with the norm come the losses. */
    if (!sid2_state_update(state, &t->config, rate, &norm, err) || !gather_losses(t, begin, count, err))
        return false;
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
