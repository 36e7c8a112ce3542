/* Gradients of every operator and of graphs of them, against finite differences in float64 on the reference
 * device; and the passes that must not change them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gradient_support.h"

enum { SHAPES = 200 };
static const double TOLERANCE = 1e-7;

static const sid2_backend *const backends[] = {&sid2_backend_cpu};

static sid2_device *open_device(const char *id)
{
    sid2_error err = {0};
    sid2_device *device = sid2_backends_open(backends, 1, id, NULL, &err);
    if (!device) fail_msg("%s", err.message);
    return device;
}

static int open_reference(void **state)
{
    *state = open_device("reference");
    return 0;
}

static int close_reference(void **state)
{
    sid2_device_close(*state);
    return 0;
}

/* ---- Single operators ---- */

static bool is_float(sid2_dtype dtype) { return dtype == SID2_F32 || dtype == SID2_F64; }

/* Of the loss, only the prediction has a gradient; a rank-1 or integer input of others never lacks one. */
static bool differentiable(sid2_op op, int input) { return op != SID2_OP_diffusion_loss || input == 0; }

static void add_operator(net *n, const sid2_opcase *c)
{
    sid2_tensor in[SID2_MAX_INPUTS];
    for (int i = 0; i < SID2_MAX_INPUTS; i++) {
        const sid2_opcase_input *from = &c->in[i];
        in[i] = SID2_NONE;
        if (from->type.shape.rank < 0) continue;
        sid2_dtype dtype = is_float(from->type.dtype) ? SID2_F64 : from->type.dtype;
        leaf *l = net_leaf(n, dtype, from->type.shape, is_float(dtype) && differentiable(c->op, i));
        for (int64_t j = 0; j < l->count; j++) {
            double u = sid2_draw_uniform(&n->draw);
            l->values[j] = from->fill == SID2_FILL_WORDS     ? sid2_draw_word(&n->draw)
                           : from->fill == SID2_FILL_INTEGER ? floor(from->a + (from->b - from->a + 1) * u)
                           : from->fill == SID2_FILL_UNIFORM ? from->a + (from->b - from->a) * u
                                                             : from->a + from->b * sid2_draw_normal(&n->draw);
        }
        in[i] = l->tensor;
    }
    sid2_attr attr = c->attr;
    if (is_float(attr.dtype)) attr.dtype = SID2_F64;
    sid2_tensor y = sid2_graph_emit(n->g, c->op, attr, in, SID2_MAX_INPUTS, false);
    if (c->op == SID2_OP_qk_norm_rope)
        y = sid2_graph_emit(n->g, SID2_OP_attention, (sid2_attr){.heads = attr.heads},
                            (sid2_tensor[]){y, in[0]}, 2, false);
    net_backward(n, y);
}

static double check_operator(sid2_device *device, sid2_op op, int number, sid2_error *err)
{
    sid2_opcase c;
    net n;
    net_open(&n, device, SID2_F64, (uint64_t)number + 1);
    double worst = -1;
    if (sid2_opcase_draw(op, SID2_F32, &n.draw, &c, &n.error)) {
        add_operator(&n, &c);
        int64_t elements = 0;
        for (int i = 0; i < n.leaf_count; i++) elements += n.leaves[i].count;
        if (net_compile(&n)) {
            worst = net_random_direction_error(&n);
            if (worst >= 0 && elements <= 60) worst = fmax(worst, net_elementwise_error(&n));
        }
    }
    *err = n.error;
    net_close(&n);
    return worst;
}

/* Attention is checked together with the qk_norm_rope before it. */
static void operators_have_right_gradients(void **state)
{
    static const sid2_op ops[] = {
        SID2_OP_linear,     SID2_OP_conv2d,    SID2_OP_group_norm,   SID2_OP_row_norm,
        SID2_OP_activation, SID2_OP_add,       SID2_OP_scale,        SID2_OP_cast,
        SID2_OP_dropout,    SID2_OP_pool2,     SID2_OP_upsample2,    SID2_OP_patchify,
        SID2_OP_unpatchify, SID2_OP_embedding, SID2_OP_qk_norm_rope, SID2_OP_diffusion_loss};
    bool ok = true;
    for (size_t o = 0; o < sizeof ops / sizeof *ops; o++) {
        double worst = 0;
        for (int i = 0; i < SHAPES; i++) {
            sid2_error err = {0};
            double error = check_operator(*state, ops[o], i, &err);
            if (error < 0) fail_msg("%s, case %d: %s", sid2_op_name(ops[o]), i, err.message);
            if (!(error <= TOLERANCE)) {
                ok = false;
                print_error("%s, case %d: gradient off by %g\n", sid2_op_name(ops[o]), i, error);
            }
            if (!(error <= worst)) worst = error;
        }
        print_message("%-16s worst relative error %.1e\n", sid2_op_name(ops[o]), worst);
    }
    assert_true(ok);
}

/* ---- Graphs ---- */

/* Two residual blocks that share their convolution, FiLM from one embedding, dropout; as segments. */
static sid2_tensor shared_blocks(net *n)
{
    sid2_graph *g = n->g;
    sid2_params *params = sid2_graph_params(g, "", true);
    sid2_tensor x = net_variable(n, sid2_shape_of(2, 4, 6, 8)), emb = net_variable(n, sid2_shape_of(2, 5));
    leaf *samples = net_leaf(n, SID2_U32, sid2_shape_of(2, 2), false);
    leaf *seed = net_leaf(n, SID2_U32, sid2_shape_of(2), false);
    for (int i = 0; i < 4; i++) samples->values[i] = i;
    sid2_tensor w = sid2_graph_param(g, params, "w", sid2_shape_of(8, 3, 3, 8), true, 0, 0.1f);
    sid2_tensor gamma = sid2_graph_param(g, params, "gamma", sid2_shape_of(8), false, 1, 0.2f);
    sid2_tensor beta = sid2_graph_param(g, params, "beta", sid2_shape_of(8), false, 0, 0.2f);
    for (uint32_t i = 0; i < 2; i++) {
        sid2_graph_begin_segment(g);
        sid2_tensor h = sid2_silu(g, sid2_group_norm(g, x, gamma, beta, 4, 1e-5f));
        h = sid2_conv2d(g, h, w, beta);
        sid2_tensor scale =
            sid2_graph_param(g, params, i ? "film1" : "film0", sid2_shape_of(16, 5), true, 0, 0.3f);
        h = sid2_film(g, sid2_group_norm(g, h, gamma, beta, 2, 1e-5f), sid2_linear(g, emb, scale, SID2_NONE));
        h = sid2_dropout(g, sid2_silu(g, h), samples->tensor, seed->tensor, 0.3f, 40 + i);
        x = sid2_add(g, x, sid2_conv2d(g, h, w, SID2_NONE));
        sid2_graph_end_segment(g);
    }
    return x;
}

/* The residual U: down, work below, and up from the difference. x is used three times. */
static sid2_tensor residual_u(net *n)
{
    sid2_graph *g = n->g;
    sid2_params *params = sid2_graph_params(g, "", true);
    sid2_tensor x = net_variable(n, sid2_shape_of(2, 6, 4, 6));
    sid2_tensor down = sid2_graph_param(g, params, "down", sid2_shape_of(10, 6), true, 0, 0.4f);
    sid2_tensor up = sid2_graph_param(g, params, "up", sid2_shape_of(6, 10), true, 0, 0.4f);
    sid2_tensor mid = sid2_graph_param(g, params, "mid", sid2_shape_of(10, 10), true, 0, 0.4f);
    sid2_tensor bias = sid2_graph_param(g, params, "bias", sid2_shape_of(10), false, 0, 1);
    sid2_tensor d = sid2_linear(g, sid2_avg_pool2(g, x), down, bias), h = d;
    for (int i = 0; i < 3; i++) {
        sid2_graph_begin_segment(g);
        h = sid2_add(g, sid2_gelu(g, sid2_linear(g, h, mid, bias)), h);
        sid2_graph_end_segment(g);
    }
    sid2_tensor back = sid2_upsample2(g, sid2_linear(g, sid2_sub(g, h, d), up, SID2_NONE));
    sid2_tensor y = sid2_add(g, sid2_unpatchify(g, sid2_patchify(g, x, 2), 2), back);
    return sid2_add(g, sid2_silu(g, y), x);
}

/* A transformer block on a video's tokens: MLP with FiLM, then attention; q and k normalised. */
static sid2_tensor transformer(net *n)
{
    sid2_graph *g = n->g;
    sid2_params *params = sid2_graph_params(g, "", true);
    const int32_t grid[3] = {2, 2, 3};
    sid2_tensor x = net_variable(n, sid2_shape_of(2, 2, 2, 3, 12));
    sid2_tensor film = net_variable(n, sid2_shape_of(2, 40));
    sid2_tensor norm = sid2_graph_param(g, params, "norm", sid2_shape_of(12), false, 1, 0.2f);
    sid2_tensor w0 = sid2_graph_param(g, params, "w0", sid2_shape_of(20, 12), true, 0, 0.3f);
    sid2_tensor w1 = sid2_graph_param(g, params, "w1", sid2_shape_of(12, 20), true, 0, 0.3f);
    sid2_tensor wq = sid2_graph_param(g, params, "wq", sid2_shape_of(36, 12), true, 0, 0.3f);
    sid2_tensor wo = sid2_graph_param(g, params, "wo", sid2_shape_of(12, 12), true, 0, 0.3f);
    sid2_tensor gamma = sid2_graph_param(g, params, "gamma", sid2_shape_of(2, 6), false, 1, 0.2f);
    sid2_tensor beta = sid2_graph_param(g, params, "beta", sid2_shape_of(2, 6), false, 0, 0.2f);
    for (int i = 0; i < 2; i++) { /* twice the same parameters */
        sid2_graph_begin_segment(g);
        sid2_tensor h = sid2_silu(g, sid2_linear(g, sid2_rms_norm(g, x, norm, 1e-6f), w0, SID2_NONE));
        x = sid2_add(g, x, sid2_linear(g, sid2_film(g, h, film), w1, norm));
        sid2_tensor qkv = sid2_linear(g, sid2_layer_norm(g, x, norm, SID2_NONE, 1e-6f), wq, SID2_NONE);
        sid2_tensor a = sid2_attention(g, qkv, gamma, beta, 2, grid, true, 1e-6f, 100);
        x = sid2_add(g, sid2_linear(g, a, wo, SID2_NONE), x);
        sid2_graph_end_segment(g);
    }
    return x;
}

/* Two clips of three frames: convolutions see each frame alone, attention the tokens of a clip. What is reshaped is
 * also used as it was. */
static sid2_tensor video(net *n)
{
    sid2_graph *g = n->g;
    sid2_params *params = sid2_graph_params(g, "", true);
    const int32_t grid[3] = {3, 2, 2};
    const sid2_shape frames = sid2_shape_of(6, 2, 2, 12), clips = sid2_shape_of(2, 3, 2, 2, 12);
    sid2_tensor x = net_variable(n, frames);
    sid2_tensor w = sid2_graph_param(g, params, "w", sid2_shape_of(12, 3, 3, 12), true, 0, 0.2f);
    sid2_tensor bias = sid2_graph_param(g, params, "bias", sid2_shape_of(12), false, 0, 1);
    sid2_tensor norm = sid2_graph_param(g, params, "norm", sid2_shape_of(12), false, 1, 0.2f);
    sid2_tensor wq = sid2_graph_param(g, params, "wq", sid2_shape_of(36, 12), true, 0, 0.3f);
    for (int i = 0; i < 2; i++) {
        sid2_graph_begin_segment(g);
        sid2_tensor h = sid2_silu(g, sid2_group_norm(g, sid2_conv2d(g, x, w, bias), norm, bias, 3, 1e-5f));
        sid2_tensor qkv =
            sid2_linear(g, sid2_rms_norm(g, sid2_reshape(g, h, clips), norm, 1e-6f), wq, SID2_NONE);
        sid2_tensor a = sid2_attention(g, qkv, SID2_NONE, SID2_NONE, 2, grid, true, 1e-6f, 100);
        sid2_tensor back = sid2_reshape(g, sid2_add(g, a, sid2_reshape(g, x, clips)), frames);
        x = sid2_add(g, sid2_gelu(g, back), h);
        sid2_graph_end_segment(g);
    }
    return x;
}

/* A frozen network between two parts of a trained one; a bias is trained whose weights are not, norms are frozen, and
 * no gradient passes where it is stopped. */
static sid2_tensor two_networks(net *n)
{
    sid2_graph *g = n->g;
    sid2_params *student = sid2_graph_params(g, "student", true),
                *teacher = sid2_graph_params(g, "teacher", false);
    sid2_tensor x = net_variable(n, sid2_shape_of(2, 4, 4, 8)), y = x;
    const sid2_shape kernel = sid2_shape_of(8, 3, 3, 8), square = sid2_shape_of(8, 8),
                     vector = sid2_shape_of(8);
    sid2_params *const sets[] = {student, teacher, student};
    for (int i = 0; i < 3; i++) {
        sid2_params *other = sets[i] == student ? teacher : student;
        char names[5][16];
        static const char *const stems[] = {"w", "bias", "gamma", "beta", "m"};
        for (int k = 0; k < 5; k++) snprintf(names[k], sizeof names[k], "%s%d", stems[k], i);
        sid2_graph_begin_segment(g);
        sid2_tensor bias = sid2_graph_param(g, other, names[1], vector, false, 0, 1);
        y = sid2_conv2d(g, y, sid2_graph_param(g, sets[i], names[0], kernel, true, 0, 0.2f), bias);
        y = sid2_silu(g,
                      sid2_group_norm(g, y, sid2_graph_param(g, sets[i], names[2], vector, false, 1, 0.2f),
                                      sid2_graph_param(g, other, names[3], vector, false, 0, 1), 2, 1e-5f));
        sid2_tensor m = sid2_linear(
            g, sid2_rms_norm(g, y, sid2_graph_param(g, other, names[2], vector, false, 1, 0.1f), 1e-6f),
            sid2_graph_param(g, other, names[4], square, true, 0, 0.3f), bias);
        y = sid2_add(g, y, sid2_gelu(g, m));
        sid2_graph_end_segment(g);
    }
    return y;
}

static sid2_tensor (*const graphs[])(net *) = {shared_blocks, residual_u, transformer, video, two_networks};
enum { GRAPHS = sizeof graphs / sizeof *graphs };

typedef struct passes {
    bool fuse;
    unsigned recompute; /* bit s: segment s */
} passes;

static void net_make(net *n, sid2_device *device, sid2_dtype compute, int graph, passes p)
{
    net_open(n, device, compute, 17 + (uint64_t)graph);
    sid2_tensor y = graphs[graph](n);
    if (p.fuse) sid2_graph_fuse(n->g);
    net_backward(n, y);
    bool segments[32];
    for (int s = 0; s < 32; s++) segments[s] = p.recompute >> s & 1;
    if (p.recompute) sid2_graph_recompute(n->g, segments);
    if (!net_compile(n) || !net_run(n)) fail_msg("graph %d: %s", graph, n->error.message);
}

/* The largest difference between two nets' results and gradients, relative to the largest number of each
 * tensor. */
static double difference(const double *a, const double *b, int64_t count)
{
    double most = 0, apart = 0;
    for (int64_t i = 0; i < count; i++) {
        most = fmax(most, fabs(a[i]));
        apart = fmax(apart, isnan(a[i] - b[i]) ? INFINITY : fabs(a[i] - b[i]));
    }
    return apart / (most > 0 ? most : 1);
}

static double net_difference(const net *a, const net *b)
{
    double worst = difference(a->y_values, b->y_values, a->y_count);
    assert_int_equal(a->leaf_count, b->leaf_count);
    for (int i = 0; i < a->leaf_count; i++)
        if (a->leaves[i].gradients)
            worst =
                fmax(worst, difference(a->leaves[i].gradients, b->leaves[i].gradients, a->leaves[i].count));
    return worst;
}

static void graphs_have_right_gradients(void **state)
{
    for (int graph = 0; graph < GRAPHS; graph++)
        for (int variant = 0; variant < 4; variant++) {
            net n;
            net_make(&n, *state, SID2_F64, graph, (passes){variant & 1, variant & 2 ? ~0u : 0});
            for (int i = 0; i < 10; i++) {
                double error = net_random_direction_error(&n);
                if (!(error >= 0 && error <= TOLERANCE))
                    fail_msg("graph %d, variant %d: gradient off by %g %s", graph, variant, error,
                             n.error.message);
            }
            net_close(&n);
        }
}

static void fusion_changes_nothing(void **state)
{
    for (int graph = 0; graph < GRAPHS; graph++) {
        net plain, fused;
        net_make(&plain, *state, SID2_F64, graph, (passes){0});
        net_make(&fused, *state, SID2_F64, graph, (passes){.fuse = true});
        assert_true(fused.g->node_count < plain.g->node_count);
        assert_true(net_difference(&plain, &fused) < 1e-12);
        net_close(&plain);
        net_close(&fused);
    }
}

/* Not one bit may differ, on either device. */
static void recomputation_changes_nothing(void **state)
{
    sid2_device *fast = open_device("cpu");
    for (int graph = 0; graph < GRAPHS; graph++)
        for (unsigned recompute = 1; recompute < 8; recompute++)
            for (int variant = 0; variant < 4; variant++) {
                const bool fuse = variant & 1;
                sid2_device *device = variant & 2 ? fast : *state;
                sid2_dtype compute = variant & 2 ? SID2_F32 : SID2_F64;
                net kept, again;
                net_make(&kept, device, compute, graph, (passes){fuse, 0});
                net_make(&again, device, compute, graph, (passes){fuse, recompute});
                int repeated = 0;
                for (int32_t i = 0; i < again.g->node_count; i++)
                    repeated += again.g->nodes[i].phase == SID2_RECOMPUTED;
                if (recompute & 3) assert_true(repeated > 0); /* every graph has two segments or more */
                if (net_difference(&kept, &again) != 0)
                    fail_msg("graph %d, segments %u, variant %d: off by %g", graph, recompute, variant,
                             net_difference(&kept, &again));
                net_close(&kept);
                net_close(&again);
            }
    sid2_device_close(fast);
}

/* Gradients of parameters add to what is there: two runs without clearing give twice one. */
static void parameter_gradients_accumulate(void **state)
{
    net n;
    net_make(&n, *state, SID2_F64, 0, (passes){0});
    leaf *w = &n.leaves[n.leaf_count - 1];
    double *once = malloc((size_t)w->count * sizeof *once);
    memcpy(once, w->gradients, (size_t)w->count * sizeof *once);
    assert_true(sid2_program_run(n.program, &n.error));
    assert_true(download(w->gradient_buffer, SID2_F64, w->gradients, w->count, &n.error));
    for (int64_t i = 0; i < w->count; i++) once[i] *= 2;
    assert_true(difference(once, w->gradients, w->count) < 1e-12);
    free(once);
    net_close(&n);
}

/* Gradients supplied for the result and for a tensor half-way, which is reshaped besides: their sum. */
static void gradients_may_be_supplied_anywhere(void **state)
{
    for (int variant = 0; variant < 4; variant++) {
        net n;
        net_open(&n, *state, SID2_F64, 91);
        sid2_graph *g = n.g;
        sid2_params *params = sid2_graph_params(g, "student", true),
                    *frozen = sid2_graph_params(g, "teacher", false);
        sid2_tensor x = net_variable(&n, sid2_shape_of(4, 6));
        sid2_graph_begin_segment(g);
        sid2_tensor w = sid2_graph_param(g, params, "w", sid2_shape_of(8, 6), true, 0, 0.4f);
        sid2_tensor h = sid2_silu(g, sid2_linear(g, sid2_gelu(g, x), w, SID2_NONE));
        sid2_graph_end_segment(g);
        sid2_graph_begin_segment(g);
        sid2_tensor middle = sid2_reshape(g, h, sid2_shape_of(2, 2, 8));
        sid2_tensor v = sid2_graph_param(g, frozen, "v", sid2_shape_of(5, 8), true, 0, 0.4f);
        sid2_tensor y = sid2_linear(g, sid2_gelu(g, middle), v, SID2_NONE);
        sid2_graph_end_segment(g);
        const sid2_tensor results[] = {y, variant & 1 ? h : middle};
        sid2_graph_fuse(g);
        net_backward_from(&n, results, 2);
        if (variant & 2) sid2_graph_recompute(g, (const bool[]){true, true});
        if (!net_compile(&n)) fail_msg("%s", n.error.message);
        assert_true(n.g->params[1].grads == SID2_NONE);
        for (int i = 0; i < 10; i++) {
            double error = net_random_direction_error(&n);
            if (!(error >= 0 && error <= TOLERANCE))
                fail_msg("gradient off by %g %s", error, n.error.message);
        }
        net_close(&n);
    }
}

/* Through stop_gradient nothing passes, and what passes beside it is left alone. */
static void gradients_can_be_stopped(void **state)
{
    net n;
    net_open(&n, *state, SID2_F64, 5);
    sid2_tensor x = net_variable(&n, sid2_shape_of(3, 7)),
                stopped = sid2_stop_gradient(n.g, sid2_gelu(n.g, x));
    net_backward(&n, sid2_add(n.g, sid2_add(n.g, x, x), stopped));
    if (!net_compile(&n) || !net_run(&n)) fail_msg("%s", n.error.message);
    for (int64_t i = 0; i < n.y_count; i++) assert_true(n.leaves[0].gradients[i] == 2 * n.y_weights[i]);
    net_close(&n);
}

/* A second pass adds to the gradients of parameters, and only that. */
static void a_graph_may_have_several_backward_passes(void **state)
{
    net n;
    net_open(&n, *state, SID2_F64, 6);
    sid2_params *params = sid2_graph_params(n.g, "", true);
    sid2_tensor x = net_leaf(&n, SID2_F64, sid2_shape_of(3, 5), false)->tensor;
    leaf_normal(&n, &n.leaves[0], 0, 1);
    sid2_tensor w = sid2_graph_param(n.g, params, "w", sid2_shape_of(4, 5), true, 0, 1);
    sid2_tensor y = sid2_linear(n.g, x, w, SID2_NONE);
    net_backward(&n, y);
    sid2_tensor again = sid2_graph_find(n.g, "y_weights");
    sid2_graph_backward(n.g, &y, &again, 1);
    if (!net_compile(&n) || !net_run(&n)) fail_msg("%s", n.error.message);
    const leaf *weights = &n.leaves[1];
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 5; j++) {
            double once = 0;
            for (int r = 0; r < 3; r++) once += n.y_weights[r * 4 + i] * n.leaves[0].values[r * 5 + j];
            assert_true(fabs(weights->gradients[i * 5 + j] - 2 * once) < 1e-12);
        }
    net_close(&n);
}

/* ---- What cannot be differentiated says so ---- */

static void expect_error(sid2_graph *g, sid2_tensor y, const char *text)
{
    sid2_error err = {0};
    sid2_type type = sid2_graph_type(g, y);
    sid2_tensor dy = sid2_graph_external(g, "dy", type.dtype, type.shape);
    sid2_graph_backward(g, &y, &dy, 1);
    assert_false(sid2_graph_finish(g, &err));
    if (!strstr(err.message, text)) fail_msg("'%s' says nothing of '%s'", err.message, text);
    sid2_graph_destroy(g);
}

static void missing_rules_are_named(void **state)
{
    (void)state;
    sid2_graph *g = sid2_graph_create(SID2_F64);
    sid2_tensor t = sid2_graph_variable(g, "t", SID2_F64, sid2_shape_of(3));
    expect_error(g, sid2_sinusoid(g, t, 4, 100), "sinusoid");

    g = sid2_graph_create(SID2_F64);
    sid2_tensor qkv = sid2_graph_variable(g, "qkv", SID2_F64, sid2_shape_of(1, 4, 12));
    sid2_tensor qk = sid2_graph_variable(g, "qk", SID2_F64, sid2_shape_of(1, 4, 8));
    sid2_tensor in[] = {qk, qkv};
    expect_error(g, sid2_graph_emit(g, SID2_OP_attention, (sid2_attr){.heads = 2}, in, 2, false),
                 "qk_norm_rope");

    /* A kernel that is computed has nowhere to add its gradient to. */
    g = sid2_graph_create(SID2_F64);
    sid2_tensor w = sid2_silu(g, sid2_graph_variable(g, "w", SID2_F64, sid2_shape_of(3, 5)));
    sid2_tensor x = sid2_graph_external(g, "x", SID2_F64, sid2_shape_of(2, 5));
    expect_error(g, sid2_linear(g, x, w, SID2_NONE), "linear");

    /* Nothing is trained; and a tensor that fusion did away with. */
    g = sid2_graph_create(SID2_F64);
    expect_error(g, sid2_silu(g, sid2_graph_external(g, "x", SID2_F64, sid2_shape_of(2, 5))),
                 "nothing that is trained");
    g = sid2_graph_create(SID2_F64);
    sid2_tensor h = sid2_silu(g, sid2_graph_variable(g, "x", SID2_F64, sid2_shape_of(2, 5)));
    sid2_film(g, h, sid2_graph_external(g, "film", SID2_F64, sid2_shape_of(2, 10)));
    sid2_graph_fuse(g);
    expect_error(g, h, "fused");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(operators_have_right_gradients, open_reference, close_reference),
        cmocka_unit_test_setup_teardown(graphs_have_right_gradients, open_reference, close_reference),
        cmocka_unit_test_setup_teardown(fusion_changes_nothing, open_reference, close_reference),
        cmocka_unit_test_setup_teardown(recomputation_changes_nothing, open_reference, close_reference),
        cmocka_unit_test_setup_teardown(parameter_gradients_accumulate, open_reference, close_reference),
        cmocka_unit_test_setup_teardown(gradients_may_be_supplied_anywhere, open_reference, close_reference),
        cmocka_unit_test_setup_teardown(gradients_can_be_stopped, open_reference, close_reference),
        cmocka_unit_test_setup_teardown(a_graph_may_have_several_backward_passes, open_reference,
                                        close_reference),
        cmocka_unit_test(missing_rules_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
