#include "state.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

double sid2_exponential_decay(const sid2_average *average, uint64_t update)
{
    double decay = average->rate, number = (double)update, ramp = (1 + number) / (10 + number);
    return average->rampup && ramp < decay ? ramp : decay;
}

size_t sid2_state_extra(const sid2_state_rule *rule, int64_t elements)
{
    size_t moments = rule->trained ? 2 : 0;
    return (moments + (size_t)rule->average_count) * (size_t)elements * sizeof(float);
}

const char *sid2_state_buffer(const sid2_state *s, const char *what, char name[96])
{
    return sid2_params_buffer(s->rule.name, what, name);
}

/* ---- The update ---- */

static sid2_tensor flat(sid2_graph *g, const sid2_state *s, const char *what, sid2_dtype dtype)
{
    char name[96];
    return sid2_graph_external(g, sid2_state_buffer(s, what, name), dtype,
                               sid2_shape_of(s->params->elements));
}

static sid2_graph *update_graph(const sid2_state *s, sid2_error *err)
{
    char name[96];
    sid2_dtype compute = s->graph->compute;
    sid2_graph *g = sid2_graph_create(compute);
    if (!g) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory building the graph"), NULL;
    sid2_tensor weights = flat(g, s, "weights", SID2_F32), grads = flat(g, s, "grads", SID2_F32),
                m = flat(g, s, "m", SID2_F32), v = flat(g, s, "v", SID2_F32);
    sid2_tensor hyper =
        sid2_graph_external(g, sid2_state_buffer(s, "hyper", name), SID2_F32, sid2_shape_of(7));
    sid2_tensor sums = sid2_graph_emit(g, SID2_OP_square_sums, (sid2_attr){0}, &grads, 1, false);
    sid2_tensor norm = sid2_graph_emit(g, SID2_OP_norm_of, (sid2_attr){.dtype = SID2_F32}, &sums, 1, false);
    sid2_graph_export(g, norm, sid2_state_buffer(s, "norm", name));
    sid2_graph_emit_into(g, SID2_OP_adam, (sid2_attr){0}, (sid2_tensor[]){weights, grads, m, v, norm, hyper},
                         6, (sid2_tensor[]){weights, m, v, grads}, 4);
    int count = s->rule.average_count;
    sid2_tensor shares =
        count ? sid2_graph_external(g, sid2_state_buffer(s, "shares", name), SID2_F32, sid2_shape_of(count))
              : SID2_NONE;
    for (int i = 0; i < count; i++) {
        sid2_tensor average = flat(g, s, s->rule.averages[i].name, SID2_F32),
                    share = sid2_graph_view(g, shares, i, sid2_shape_of(1));
        sid2_graph_emit_into(g, SID2_OP_ema, (sid2_attr){0}, (sid2_tensor[]){average, weights, norm, share},
                             4, &average, 1);
    }
    if (compute != SID2_F32) {
        sid2_tensor low = flat(g, s, "weights_low", compute);
        sid2_graph_emit_into(g, SID2_OP_cast, (sid2_attr){.dtype = compute}, &weights, 1, &low, 1);
    }
    if (sid2_graph_finish(g, err)) return g;
    sid2_graph_destroy(g);
    return NULL;
}

/* What Adam and the averages are told: see op.def. */
static bool tell(const sid2_state *s, const sid2_config *c, double rate, sid2_error *err)
{
    char name[96];
    double number = (double)(s->updates + 1);
    const double values[7] = {rate,
                              c->train_beta1,
                              c->train_beta2,
                              c->train_eps,
                              1 - pow(c->train_beta1, number),
                              1 - pow(c->train_beta2, number),
                              c->train_clip};
    float hyper[7], shares[SID2_MAX_AVERAGES];
    for (int i = 0; i < 7; i++) hyper[i] = (float)values[i];
    for (int i = 0; i < s->rule.average_count; i++) {
        const sid2_average *average = &s->rule.averages[i];
        shares[i] = (float)(1 - average->decay(average, s->updates + 1));
    }
    return sid2_buffers_upload(s->buffers, sid2_state_buffer(s, "hyper", name), hyper, err) &&
           (!s->rule.average_count ||
            sid2_buffers_upload(s->buffers, sid2_state_buffer(s, "shares", name), shares, err));
}

bool sid2_state_update(sid2_state *s, const sid2_config *config, double rate, float *norm, sid2_error *err)
{
    char name[96];
    bool ok = tell(s, config, rate, err) && sid2_program_run(s->update, err) &&
              sid2_buffers_download(s->buffers, sid2_state_buffer(s, "norm", name), norm, err);
    s->updates += ok && isfinite(*norm);
    return ok;
}

/* ---- Memory ---- */

bool sid2_state_open(sid2_state *s, const sid2_state_rule *rule, sid2_buffers *buffers,
                     const sid2_graph *graph, sid2_error *err)
{
    *s = (sid2_state){.rule = *rule, .buffers = buffers, .graph = graph};
    for (int32_t i = 0; i < graph->params_count; i++)
        if (strcmp(graph->params[i].name, rule->name) == 0) s->params = &graph->params[i];
    if (!s->params)
        return sid2_fail(err, SID2_ERR_INTERNAL, "no objective has the parameters '%s'", rule->name);
    if (!rule->trained) return true;
    return (s->update_graph = update_graph(s, err)) != NULL;
}

bool sid2_state_compile(sid2_state *s, sid2_arena *arena, sid2_error *err)
{
    return !s->update_graph || (s->update = sid2_buffers_program(s->buffers, s->update_graph, arena, err));
}

void sid2_state_close(sid2_state *s)
{
    sid2_program_destroy(s->update);
    sid2_graph_destroy(s->update_graph);
    *s = (sid2_state){0};
}

bool sid2_state_upload(sid2_state *s, const char *what, const float *from, sid2_error *err)
{
    char name[96];
    if (strcmp(what, "weights") == 0) return sid2_params_upload(s->buffers, s->graph, s->params, from, err);
    return sid2_buffers_upload(s->buffers, sid2_state_buffer(s, what, name), from, err);
}

bool sid2_state_download(const sid2_state *s, const char *what, float *to, sid2_error *err)
{
    char name[96];
    return sid2_buffers_download(s->buffers, sid2_state_buffer(s, what, name), to, err);
}

const sid2_param *sid2_state_broken(const sid2_state *s, const char *what)
{
    float *flat = malloc((size_t)s->params->elements * sizeof *flat);
    const sid2_param *broken =
        flat && sid2_state_download(s, what, flat, NULL) ? sid2_params_broken(s->params, flat) : NULL;
    free(flat);
    return broken;
}

bool sid2_state_set(sid2_state *s, const float *weights, sid2_error *err)
{
    bool ok = sid2_state_upload(s, "weights", weights, err);
    for (int i = 0; ok && i < s->rule.average_count; i++)
        ok = sid2_state_upload(s, s->rule.averages[i].name, weights, err);
    return ok;
}

bool sid2_state_zero(sid2_state *s, const char *what, sid2_error *err)
{
    float *zero = calloc((size_t)s->params->elements, sizeof *zero);
    bool ok = zero ? sid2_state_upload(s, what, zero, err) : sid2_fail(err, SID2_ERR_MEMORY, "out of memory");
    free(zero);
    return ok;
}

bool sid2_state_reset(sid2_state *s, sid2_error *err)
{
    bool ok = !s->rule.trained || (sid2_state_zero(s, "m", err) && sid2_state_zero(s, "v", err) &&
                                   sid2_state_zero(s, "grads", err));
    s->updates = 0;
    return ok;
}

bool sid2_state_skip(sid2_state *s, sid2_error *err)
{
    s->updates++;
    return sid2_state_zero(s, "grads", err);
}
