#include "unet.h"

#include <math.h>
#include <stdlib.h>

#include "objective.h"
#include "philox.h"

enum { SIDE = 32, COLOURS = 4, LEVELS = 3, WIDTH = 64, GROUPS = 16 };

/* ---- The network ---- */

typedef struct net {
    sid2_graph *g;
    sid2_params *params;
    int made; /* parameters, which are called by number */
} net;

static sid2_tensor param(net *n, sid2_shape shape, bool matrix, float mean, float deviation)
{
    char name[16];
    snprintf(name, sizeof name, "%d", n->made++);
    return sid2_graph_param(n->g, n->params, name, shape, matrix, mean, deviation);
}

static int64_t channels(const net *n, sid2_tensor x) { return sid2_graph_type(n->g, x).shape.dim[3]; }

static sid2_tensor norm(net *n, sid2_tensor x)
{
    if (x == SID2_NONE) return x;
    sid2_shape each = sid2_shape_of(channels(n, x));
    sid2_tensor gamma = param(n, each, false, 1, 0), beta = param(n, each, false, 0, 0);
    return sid2_silu(n->g, sid2_group_norm(n->g, x, gamma, beta, GROUPS, 1e-5f));
}

/* Of x and, where there is one, of what lies beside it. */
static sid2_tensor conv(net *n, sid2_tensor x, sid2_tensor beside, int kernel, int64_t out)
{
    int64_t in = channels(n, x);
    float deviation = 1 / (float)kernel / sqrtf((float)in);
    sid2_tensor w = param(n, sid2_shape_of(out, kernel, kernel, in), true, 0, deviation),
                y = sid2_conv2d(n->g, x, w, SID2_NONE);
    return beside == SID2_NONE ? y : sid2_add(n->g, y, conv(n, beside, SID2_NONE, kernel, out));
}

static sid2_tensor block(net *n, sid2_tensor x, sid2_tensor beside, int64_t out)
{
    sid2_tensor h = norm(n, x);
    h = conv(n, h, norm(n, beside), 3, out);
    h = conv(n, norm(n, h), SID2_NONE, 3, out);
    bool as_it_is = beside == SID2_NONE && channels(n, x) == out;
    return sid2_add(n->g, h, as_it_is ? x : conv(n, x, beside, 1, out));
}

static sid2_tensor build(net *n, sid2_tensor x)
{
    sid2_tensor kept[LEVELS];
    x = conv(n, x, SID2_NONE, 3, WIDTH);
    for (int level = 0; level < LEVELS; level++) {
        if (level) x = conv(n, sid2_avg_pool2(n->g, x), SID2_NONE, 3, channels(n, x));
        kept[level] = x = block(n, x, SID2_NONE, WIDTH << level);
    }
    x = block(n, x, SID2_NONE, channels(n, x));
    for (int level = LEVELS - 1; level >= 0; level--) {
        if (level < LEVELS - 1) x = sid2_upsample2(n->g, x);
        x = block(n, x, kept[level], WIDTH << level);
    }
    return conv(n, norm(n, x), SID2_NONE, 3, COLOURS);
}

/* The loss is diffusion's, where xhat = alpha z - sigma v is v itself. */
static sid2_graph *make_graph(sid2_dtype compute, int64_t batch, sid2_error *err)
{
    sid2_graph *g = sid2_graph_create(compute);
    if (!g) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory building the graph"), NULL;
    sid2_shape pictures = sid2_shape_of(batch, SIDE, SIDE, COLOURS), each = sid2_shape_of(batch);
    net n = {.g = g, .params = sid2_graph_params(g, "", true)};
    sid2_tensor z = sid2_graph_external(g, "z", SID2_F32, pictures),
                target = sid2_graph_external(g, "target", SID2_F32, pictures),
                alpha = sid2_graph_external(g, "alpha", SID2_F32, each),
                sigma = sid2_graph_external(g, "sigma", SID2_F32, each),
                weight = sid2_graph_external(g, "weight", SID2_F32, each);
    sid2_tensor v = sid2_cast(g, build(&n, sid2_cast(g, z, compute)), SID2_F32);
    return sid2_objective_finish(g, sid2_diffusion_loss(g, v, z, target, alpha, sigma, weight), err);
}

/* ---- Its training ---- */

struct unet {
    sid2_config *config; /* of Adam */
    sid2_graph *graph;
    sid2_program *program;
    sid2_buffers buffers;
    sid2_state state;
    int batch;
};

static bool fill(unet *u, const char *name, int64_t each, float mean, float spread, sid2_error *err)
{
    size_t count = (size_t)(each * u->batch);
    float *values = malloc(count * sizeof *values);
    if (!values) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory");
    for (size_t i = 0; i < count; i++)
        values[i] = mean + spread * (2 * sid2_uniform(sid2_philox_word(0, i, 0, 0)) - 1);
    bool ok = sid2_buffers_upload(&u->buffers, name, values, err);
    free(values);
    return ok;
}

static bool fill_all(unet *u, sid2_error *err)
{
    const int64_t picture = SIDE * SIDE * COLOURS;
    float *weights = sid2_params_initial(&u->graph->params[0], 0, err);
    bool ok = weights && sid2_state_set(&u->state, weights, err) && fill(u, "z", picture, 0, 1, err) &&
              fill(u, "target", picture, 0, -0.5f, err) && fill(u, "alpha", 1, 0, 0, err) &&
              fill(u, "sigma", 1, -1, 0, err) && fill(u, "weight", 1, 1, 0, err) &&
              fill(u, "dloss", 1, 1 / (float)u->batch, 0, err);
    free(weights);
    return ok;
}

unet *unet_open(sid2_device *device, sid2_dtype compute, int batch, sid2_error *err)
{
    unet *u = calloc(1, sizeof *u);
    if (!u) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory"), NULL;
    *u = (unet){.config = sid2_config_create(), .buffers.device = device, .batch = batch};
    bool ok = u->config || sid2_fail(err, SID2_ERR_MEMORY, "out of memory");
    ok = ok && (u->graph = make_graph(compute, batch, err)) &&
         (u->program = sid2_buffers_program(&u->buffers, u->graph, NULL, err)) &&
         sid2_state_open(&u->state, &(sid2_state_rule){.name = "", .trained = true}, &u->buffers, NULL,
                         u->graph, err) &&
         sid2_state_compile(&u->state, NULL, err) && fill_all(u, err);
    if (ok) return u;
    unet_close(u);
    return NULL;
}

void unet_close(unet *u)
{
    if (!u) return;
    sid2_state_close(&u->state);
    sid2_program_destroy(u->program);
    sid2_buffers_clear(&u->buffers);
    sid2_graph_destroy(u->graph);
    sid2_config_destroy(u->config);
    free(u);
}

bool unet_step(unet *u, sid2_error *err)
{
    float norm;
    return sid2_program_run(u->program, err) && sid2_state_update(&u->state, u->config, 1e-3, &norm, err);
}

double unet_parameters(const unet *u)
{
    double sum = 0;
    for (int32_t i = 0; i < u->graph->params[0].count; i++)
        sum += (double)sid2_shape_count(u->graph->params[0].item[i].shape);
    return sum;
}

sid2_program *unet_program(unet *u, const sid2_graph **graph)
{
    *graph = u->graph;
    return u->program;
}
