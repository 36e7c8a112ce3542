#include "training.h"

#include "buffers.h"
#include "philox.h"
#include "plan.h"

static sid2_graph *step_graph(const sid2_config *config, int64_t n, sid2_error *err)
{
    sid2_graph *g = sid2_graph_create(sid2_config_dtype(config->train_precision));
    if (!g) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory building the graph"), NULL;
    int64_t size = config->model_image_size;
    sid2_shape images = sid2_shape_of(n, size, size, config->model_image_channels), each = sid2_shape_of(n);

    sid2_tensor x = sid2_image_to_float(g, sid2_graph_external(g, "pixels", SID2_U8, images));
    sid2_tensor samples = sid2_graph_external(g, "samples", SID2_U32, sid2_shape_of(n, 2));
    sid2_tensor seed = sid2_graph_external(g, "seed", SID2_U32, sid2_shape_of(2));
    sid2_tensor alpha = sid2_graph_external(g, "alpha", SID2_F32, each);
    sid2_tensor sigma = sid2_graph_external(g, "sigma", SID2_F32, each);
    sid2_tensor eps = sid2_random_normal(g, samples, seed, images, SID2_PURPOSE_NOISE);
    sid2_tensor z = sid2_diffuse(g, x, eps, alpha, sigma);
    sid2_uvit net =
        sid2_uvit_build(g, config,
                        (sid2_uvit_inputs){.params = sid2_graph_params(g, "", true),
                                           .z = z,
                                           .time = sid2_graph_external(g, "time", SID2_F32, each),
                                           .label = sid2_graph_external(g, "label", SID2_I32, each),
                                           .samples = samples,
                                           .seed = seed});
    sid2_tensor weight = sid2_graph_external(g, "weight", SID2_F32, each);
    sid2_tensor loss = sid2_diffusion_loss(g, net.v, z, x, alpha, sigma, weight);
    sid2_graph_export(g, loss, "loss");
    sid2_graph_fuse(g);
    sid2_tensor dloss = sid2_graph_external(g, "dloss", SID2_F32, each);
    sid2_graph_backward(g, &loss, &dloss, 1);
    if (sid2_graph_finish(g, err)) return g;
    sid2_graph_destroy(g);
    return NULL;
}

static size_t arena_of(const sid2_graph *graph, size_t alignment, sid2_error *err)
{
    sid2_plan *plan = sid2_plan_create(graph, alignment, err);
    size_t bytes = plan ? plan->arena_bytes : SIZE_MAX;
    sid2_plan_destroy(plan);
    return bytes;
}

static bool drop(sid2_training *t)
{
    sid2_graph_destroy(t->step);
    t->step = NULL;
    return false;
}

/* Builds the step for `n` images. Fails only for want of host memory. */
static bool try_microbatch(const sid2_config *config, int64_t n, size_t alignment, sid2_training *t,
                           sid2_error *err)
{
    *t = (sid2_training){.step = step_graph(config, n, err), .microbatch = (int)n};
    if (!t->step) return false;
    t->segments = t->step->segment_count;
    t->arena = arena_of(t->step, alignment, err);
    t->state = sid2_externals_bytes(t->step) +
               3 * (size_t)t->step->params[0].elements * sizeof(float); /* Adam's two, EMA */
    if (t->arena != SIZE_MAX) return true;
    return drop(t);
}

/* Recomputes blocks until the step fits, or as many as make it smallest. */
static bool squeeze(const sid2_config *config, sid2_training *t, size_t memory, size_t alignment,
                    sid2_error *err)
{
    if (!memory || t->state + t->arena <= memory) return true;
    size_t least;
    int chosen = sid2_graph_fit(t->step, memory > t->state ? memory - t->state : 0, &least);
    if (chosen < 0) { /* the tries have changed the graph */
        drop(t);
        if (!try_microbatch(config, t->microbatch, alignment, t, err)) return false;
        chosen = sid2_graph_fit(t->step, least, &least);
    }
    if (chosen < 0) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory planning the training");
    t->recomputed = chosen;
    t->arena = arena_of(t->step, alignment, err);
    return t->arena != SIZE_MAX;
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

bool sid2_training_plan(const sid2_config *config, size_t memory, size_t alignment, sid2_training *best,
                        sid2_error *err)
{
    if (!sid2_config_check(config, err)) return false;
    int64_t batch = config->train_batch, fixed = config->train_microbatch;
    size_t aim = (size_t)config->train_arena << 20;
    if (!try_microbatch(config, fixed ? fixed : 1, alignment, best, err)) return false;
    /* Automatic: the largest divisor of the batch that stays within the aim, and within memory. Every
     * micro-batch reads all weights and adds to all gradients anew, so the aim is never less than those. */
    if (aim && aim < (size_t)best->step->params[0].elements * 8)
        aim = (size_t)best->step->params[0].elements * 8;
    for (int64_t n = 2; !fixed && n <= batch; n++) {
        sid2_training next;
        if (batch % n) continue;
        if (!try_microbatch(config, n, alignment, &next, err)) return drop(best);
        bool ok = (!aim || next.arena <= aim) && (!memory || next.state + next.arena <= memory);
        sid2_graph_destroy(ok ? best->step : next.step);
        if (!ok) break;
        *best = next;
    }
    return squeeze(config, best, memory, alignment, err) || drop(best);
}

sid2_graph *sid2_update_graph(sid2_dtype compute, int64_t elements, sid2_error *err)
{
    sid2_graph *g = sid2_graph_create(compute);
    if (!g) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory building the graph"), NULL;
    sid2_shape flat = sid2_shape_of(elements);
    sid2_tensor weights = sid2_graph_external(g, "weights", SID2_F32, flat),
                grads = sid2_graph_external(g, "grads", SID2_F32, flat),
                m = sid2_graph_external(g, "m", SID2_F32, flat),
                v = sid2_graph_external(g, "v", SID2_F32, flat),
                ema = sid2_graph_external(g, "ema", SID2_F32, flat);
    sid2_tensor hyper = sid2_graph_external(g, "hyper", SID2_F32, sid2_shape_of(8));
    sid2_tensor norm = sid2_graph_emit(g, SID2_OP_global_norm, (sid2_attr){0}, &grads, 1, false);
    sid2_graph_export(g, norm, "norm");
    sid2_graph_emit_into(g, SID2_OP_adam, (sid2_attr){0},
                         (sid2_tensor[]){weights, grads, m, v, ema, norm, hyper}, 7,
                         (sid2_tensor[]){weights, grads, m, v, ema}, 5);
    if (compute != SID2_F32) {
        sid2_tensor low = sid2_graph_external(g, "weights_low", compute, flat);
        sid2_graph_emit_into(g, SID2_OP_cast, (sid2_attr){.dtype = compute}, &weights, 1, &low, 1);
    }
    if (sid2_graph_finish(g, err)) return g;
    sid2_graph_destroy(g);
    return NULL;
}
