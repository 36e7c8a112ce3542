#include "training.h"

#include <string.h>

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

/* Elements of a state's parameters, as its graphs have them. */
static int64_t elements_of(const sid2_training *t, const char *name)
{
    for (int i = 0; i < t->graph_count; i++)
        for (int32_t s = 0; s < t->graph[i]->params_count; s++)
            if (strcmp(t->graph[i]->params[s].name, name) == 0) return t->graph[i]->params[s].elements;
    return 0;
}

/* Builds the graphs for `n` images. Fails only for want of host memory. */
static bool try_microbatch(const sid2_config *config, const sid2_recipe *recipe, int64_t n, size_t alignment,
                           sid2_training *t, sid2_error *err)
{
    *t = (sid2_training){.microbatch = (int)n};
    for (int i = 0; i < recipe->objective_count; i++) {
        sid2_graph *g = recipe->objectives[i]->graph(config, n, err);
        if (!g) return drop(t);
        t->graph[t->graph_count++] = g;
        t->segments += g->segment_count;
    }
    t->state = sid2_externals_bytes((const sid2_graph *const *)t->graph, t->graph_count);
    for (int i = 0; i < recipe->state_count; i++)
        t->state += sid2_state_extra(&recipe->states[i], elements_of(t, recipe->states[i].name));
    return measure(t, alignment, err) || drop(t);
}

/* Recomputes blocks until the graphs fit, or as many as make them smallest. */
static bool squeeze(const sid2_config *config, const sid2_recipe *recipe, sid2_training *t, size_t memory,
                    size_t alignment, sid2_error *err)
{
    if (!memory || t->state + t->arena <= memory) return true;
    size_t room = memory > t->state ? memory - t->state : 0, least[SID2_MAX_OBJECTIVES] = {0};
    bool fits = true;
    for (int i = 0; i < t->graph_count; i++) {
        int chosen = sid2_graph_fit(t->graph[i], room, &least[i]);
        fits = fits && chosen >= 0;
        t->recomputed += chosen;
    }
    if (!fits) { /* the tries have changed the graphs */
        int n = t->microbatch;
        drop(t);
        if (!try_microbatch(config, recipe, n, alignment, t, err)) return false;
        for (int i = 0; i < t->graph_count; i++) {
            int chosen = sid2_graph_fit(t->graph[i], least[i] > room ? least[i] : room, &least[i]);
            if (chosen < 0) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory planning the training");
            t->recomputed += chosen;
        }
    }
    return measure(t, alignment, err);
}

static size_t mib_up(size_t bytes) { return (bytes + (1 << 20) - 1) >> 20; }

bool sid2_training_fits(const sid2_memory_report *m, size_t memory, sid2_error *err)
{
    size_t all = m->state + m->arena + m->workspace;
    if (!memory || all <= memory) return true;
    return sid2_fail(
        err, SID2_ERR_MEMORY,
        "training needs at least %zu MiB (%zu for the state, %zu for %d image%s at a time, %zu for "
        "the device's workspace), more than the %g MiB allowed: raise the limit or make the model "
        "smaller",
        mib_up(all), mib_up(m->state), mib_up(m->arena), m->microbatch, m->microbatch == 1 ? "" : "s",
        mib_up(m->workspace), (double)memory / (1 << 20));
}

bool sid2_training_plan(const sid2_config *config, const sid2_recipe *recipe, size_t memory, size_t alignment,
                        sid2_training *best, sid2_error *err)
{
    if (!sid2_config_check(config, err)) return false;
    int64_t batch = config->train_batch, fixed = config->train_microbatch;
    if (!try_microbatch(config, recipe, fixed ? fixed : 1, alignment, best, err)) return false;
    /* Automatic: the largest divisor of the batch that stays within the aim, and within memory. Every
     * micro-batch reads all weights and adds to all gradients anew, so the aim is never less than those. */
    size_t aim = (size_t)config->train_arena << 20,
           least = (size_t)elements_of(best, recipe->states[0].name) * 8;
    if (aim && aim < least) aim = least;
    for (int64_t n = 2; !fixed && n <= batch; n++) {
        sid2_training next;
        if (batch % n) continue;
        if (!try_microbatch(config, recipe, n, alignment, &next, err)) return drop(best);
        bool ok = (!aim || next.arena <= aim) && (!memory || next.state + next.arena <= memory);
        sid2_training_clear(ok ? best : &next);
        if (!ok) break;
        *best = next;
    }
    return squeeze(config, recipe, best, memory, alignment, err) || drop(best);
}
