#include "training.h"

#include <string.h>

#include "device.h"
#include "plan.h"

void sid2_training_clear(sid2_training *t)
{
    for (int i = 0; i < t->graph_count; i++) sid2_graph_destroy(t->graph[i]);
    *t = (sid2_training){0};
}

static bool drop(sid2_training *t)
{
    sid2_training_clear(t);
    return false;
}

/* The largest arena of the graphs, which never run at the same time. */
static bool measure(sid2_training *t, size_t alignment, sid2_error *err)
{
    t->arena = 0;
    for (int i = 0; i < t->graph_count; i++) {
        sid2_plan *plan = sid2_plan_create(t->graph[i], alignment, err);
        if (!plan) return false;
        if (plan->arena_bytes > t->arena) t->arena = plan->arena_bytes;
        sid2_plan_destroy(plan);
    }
    return true;
}

/* A state's parameters, as its graphs have them; NULL: they have none. */
static const sid2_params *params_of(const sid2_training *t, const char *name)
{
    for (int i = 0; i < t->graph_count; i++)
        for (int32_t s = 0; s < t->graph[i]->params_count; s++)
            if (strcmp(t->graph[i]->params[s].name, name) == 0) return &t->graph[i]->params[s];
    return NULL;
}

static int ranks_of(const sid2_training_site *site) { return site->ranks ? site->ranks : 1; }

/* Builds the graphs for `n` images. Fails only for want of host memory. */
static bool try_microbatch(const sid2_config *config, const sid2_recipe *recipe, int64_t n,
                           const sid2_training_site *site, sid2_training *t, sid2_error *err)
{
    *t = (sid2_training){.microbatch = (int)n};
    for (int i = 0; i < recipe->objective_count; i++) {
        sid2_graph *g = recipe->objectives[i]->graph(config, n, err);
        if (!g) return drop(t);
        t->graph[t->graph_count++] = g;
        t->segments += g->segment_count;
    }
    const sid2_graph *const *graphs = (const sid2_graph *const *)t->graph;
    t->params = sid2_externals_bytes(graphs, t->graph_count, true);
    t->told = sid2_externals_bytes(graphs, t->graph_count, false);
    for (int i = 0; i < recipe->state_count; i++) {
        const sid2_state_rule *rule = &recipe->states[i];
        const sid2_params *params = params_of(t, rule->name);
        int64_t elements = params ? params->elements : 0;
        bool masters = params && params->vectors != params->read;
        t->params += sid2_state_extra(rule, masters, sid2_state_part(elements, ranks_of(site)));
        if (config->train_snapshot == SID2_SNAPSHOT_on && !site->fill)
            t->beside += sid2_state_snapshot(rule, elements);
        if (rule->trained && (size_t)elements * sizeof(float) > t->sum)
            t->sum = (size_t)elements * sizeof(float);
    }
    return measure(t, site->alignment, err) || drop(t);
}

size_t sid2_training_state(const sid2_training *t)
{
    return t->params + t->beside + (size_t)t->sums * t->sum + (size_t)t->workers * t->told;
}

size_t sid2_training_arena(const sid2_training *t) { return (size_t)t->workers * t->arena; }

/* ---- Lanes ---- */

sid2_training_site sid2_training_site_of(const sid2_device_info *device, size_t memory)
{
    enum { CPU_ALIGNMENT = 64 };
    sid2_training_site site = {.alignment = CPU_ALIGNMENT,
                               .cores = 1,
                               .rebinds = true,
                               .arena = SID2_ARENA,
                               .memory = memory,
                               .room = memory};
    if (!device) return site;
    if (device->arena) site.arena = device->arena;
    site.gpu = !device->cores;
    if (!site.gpu) site.cores = device->cores;
    /* Of a GPU's memory a fifth is left to sample beside the training; of the host's to all else that runs there. */
    size_t most = device->memory / 5 * 4;
    site.fill = device->own_memory;
    if (!memory) site.room = most;
    if (!memory && site.fill) site.memory = most;
    return site;
}

/* The lanes that `auto` means: eight, or more of at least eight images each while the sums that wait for each other, one
 * at each height of the tree, stay small. From the configuration alone, never from the machine, so that a run repeats
 * anywhere; but on a GPU a lane more is a launch more, and its bits are its own anyway. Who stops for the host to look
 * wants to see gradients that are whole. */
static int64_t lanes_of(const sid2_config *c, const sid2_recipe *recipe, const sid2_training_site *site,
                        size_t sum)
{
    enum { USUAL = 8, MOST = 64, IMAGES = 8, SMALL = 1 << 30 };
    int64_t batch = c->train_batch, least = c->train_microbatch ? c->train_microbatch : 1, lanes = 1;
    if (c->train_lanes) return c->train_lanes;
    if (ranks_of(site) & (ranks_of(site) - 1)) return ranks_of(site);
    for (int i = 0; i < recipe->objective_count; i++)
        if (site->gpu || recipe->objectives[i]->at_stop) return ranks_of(site);
    for (int height = 1; lanes < MOST; height++, lanes *= 2) {
        bool more = 2 * lanes * IMAGES <= batch * c->model_frames && (size_t)height * sum <= SMALL;
        if (batch % (2 * lanes * least) || (lanes >= USUAL && !more)) break;
    }
    return lanes > ranks_of(site) ? lanes : ranks_of(site);
}

/* Every rank has as many. */
static bool check_lanes(const sid2_config *c, const sid2_recipe *recipe, int64_t lanes, int ranks,
                        sid2_error *err)
{
    for (int i = 0; ranks > 1 && i < recipe->objective_count; i++)
        if (recipe->objectives[i]->at_stop)
            return sid2_fail(err, SID2_ERR_USAGE,
                             "the objective %s wants to see whole gradients, so one rank",
                             recipe->objectives[i]->name);
    if (c->train_batch % lanes)
        return sid2_fail(err, SID2_ERR_USAGE, "%d ranks want as many lanes: train.batch=%d cannot be cut so",
                         ranks, (int)c->train_batch);
    return lanes % ranks == 0 ||
           sid2_fail(err, SID2_ERR_USAGE,
                     "%d lanes cannot be dealt to %d ranks: take at most %d ranks, or train.lanes=%d",
                     (int)lanes, ranks, (int)lanes, ranks);
}

/* Gradients of lanes that are not in the states' own buffer: of those that are computed, and, as they are taken in
 * order, of at most one at each height of the tree. Where programs keep their buffers, the states' own is for the lane
 * that is computed, and one more stays zero. */
static int sums_of(int lanes, int workers, bool rebinds)
{
    int height = 0;
    while (1 << height < lanes) height++;
    int held = workers + height < lanes ? workers + height : lanes;
    return lanes == 1 ? 0 : rebinds ? held - 1 : held;
}

static void lay_out(sid2_training *t, const sid2_training_site *site, int workers)
{
    t->own = t->lanes / ranks_of(site);
    t->workers = workers;
    t->cores = site->cores / workers;
    t->sums = sums_of(t->own, workers, site->rebinds);
}

static size_t all_bytes(const sid2_training *t) { return sid2_training_state(t) + sid2_training_arena(t); }

static bool within(const sid2_training *t, size_t limit) { return !limit || all_bytes(t) <= limit; }

/* As many lanes at once as the room holds: one at least. */
static void choose_workers(sid2_training *t, const sid2_training_site *site)
{
    int workers = site->cores < t->own ? site->cores : t->own;
    lay_out(t, site, workers);
    size_t wish = all_bytes(t);
    while (workers > 1 && !within(t, site->room)) lay_out(t, site, --workers);
    t->wish = all_bytes(t) < wish ? wish : 0;
}

/* ---- Memory ---- */

/* Recomputes blocks until the graphs fit, or as many as make them smallest. */
static bool squeeze(const sid2_config *config, const sid2_recipe *recipe, const sid2_training_site *site,
                    sid2_training *t, sid2_error *err)
{
    size_t memory = site->memory, state = sid2_training_state(t);
    if (within(t, memory)) return true;
    size_t room = memory > state ? memory - state : 0, least[SID2_MAX_OBJECTIVES] = {0};
    bool fits = true;
    for (int i = 0; i < t->graph_count; i++) {
        int chosen = sid2_graph_fit(t->graph[i], room, &least[i]);
        fits = fits && chosen >= 0;
        t->recomputed += chosen;
    }
    if (!fits) { /* the tries have changed the graphs */
        int n = t->microbatch, lanes = t->lanes;
        drop(t);
        if (!try_microbatch(config, recipe, n, site, t, err)) return false;
        t->lanes = lanes;
        lay_out(t, site, 1);
        for (int i = 0; i < t->graph_count; i++) {
            int chosen = sid2_graph_fit(t->graph[i], least[i] > room ? least[i] : room, &least[i]);
            if (chosen < 0) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory planning the training");
            t->recomputed += chosen;
        }
    }
    return measure(t, site->alignment, err);
}

/* The micro-batch that is asked for; or the largest divisor of a lane that stays within the aim and, with one worker,
 * within `memory`. Every micro-batch reads all weights and adds to all gradients anew, so the aim is never less than
 * those. */
static bool choose_microbatch(const sid2_config *config, const sid2_recipe *recipe,
                              const sid2_training_site *site, size_t memory, sid2_training *best,
                              sid2_error *err)
{
    int64_t fixed = config->train_microbatch;
    if (!try_microbatch(config, recipe, fixed ? fixed : 1, site, best, err)) return false;
    int64_t lanes = lanes_of(config, recipe, site, best->sum), images = config->train_batch / lanes;
    if (!check_lanes(config, recipe, lanes, ranks_of(site), err)) return drop(best);
    best->lanes = (int)lanes;
    lay_out(best, site, 1);
    const sid2_params *first = params_of(best, recipe->states[0].name);
    int64_t mib = config->train_arena == SID2_ARENA_AUTO ? site->arena : config->train_arena;
    size_t aim = site->fill ? 0 : (size_t)mib << 20, least = first ? (size_t)first->elements * 8 : 0;
    if (aim && aim < least) aim = least;
    for (int64_t n = 2; !fixed && n <= images; n++) {
        sid2_training next;
        if (images % n) continue;
        if (!try_microbatch(config, recipe, n, site, &next, err)) return drop(best);
        next.lanes = (int)lanes;
        lay_out(&next, site, 1);
        bool ok = (!aim || next.arena <= aim) && within(&next, memory);
        sid2_training_clear(ok ? best : &next);
        if (!ok) break;
        *best = next;
    }
    return true;
}

bool sid2_training_plan(const sid2_config *config, const sid2_recipe *recipe, const sid2_training_site *site,
                        sid2_training *best, sid2_error *err)
{
    if (!sid2_config_check(config, err)) return false;
    /* A GPU's memory says how many images go in; elsewhere the limit is looked at only where it must be. */
    if (!choose_microbatch(config, recipe, site, site->fill ? site->memory : 0, best, err)) return false;
    choose_workers(best, site);
    if (within(best, site->memory)) return true;
    sid2_training_clear(best);
    if (!choose_microbatch(config, recipe, site, site->memory, best, err)) return false;
    return squeeze(config, recipe, site, best, err) || drop(best);
}

static size_t mib_up(size_t bytes) { return (bytes + (1 << 20) - 1) >> 20; }

bool sid2_training_fits(const sid2_memory_report *m, size_t memory, sid2_error *err)
{
    size_t all = m->state + m->arena + m->workspace;
    if (!memory || all <= memory) return true;
    return sid2_fail(
        err, SID2_ERR_MEMORY,
        "training needs at least %zu MiB (%zu for the state, %zu for %d image%s at a time, %zu for "
        "the device's workspace), more than the %g MiB allowed: raise the limit%s or make the model "
        "smaller",
        mib_up(all), mib_up(m->state), mib_up(m->arena), m->microbatch, m->microbatch == 1 ? "" : "s",
        mib_up(m->workspace), (double)memory / (1 << 20), m->lanes > 1 ? ", take fewer train.lanes" : "");
}
