/* What a graph keeps: views that cost nothing, sets of parameters under their names, stops between its nodes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "plan.h"

static sid2_error err;

static sid2_graph *create(sid2_dtype compute)
{
    sid2_graph *g = sid2_graph_create(compute);
    assert_non_null(g);
    return g;
}

static void expect_refusal(sid2_graph *g, const char *text)
{
    assert_false(sid2_graph_finish(g, &err));
    if (!strstr(err.message, text)) fail_msg("'%s' says nothing of '%s'", err.message, text);
    sid2_graph_destroy(g);
}

/* ---- Views ---- */

/* A chain of operators with or without reshapes between them; forward, fused and backward. */
static sid2_graph *chain(bool reshaped, bool recomputed)
{
    sid2_graph *g = create(SID2_F32);
    const sid2_shape frames = sid2_shape_of(6, 4, 4, 16), clips = sid2_shape_of(2, 3, 4, 4, 16);
    sid2_params *params = sid2_graph_params(g, "", true);
    sid2_tensor x = sid2_graph_external(g, "x", SID2_F32, frames);
    for (int i = 0; i < 3; i++) {
        sid2_tensor w =
            sid2_graph_param(g, params, i ? i > 1 ? "w2" : "w1" : "w0", sid2_shape_of(16, 16), true, 0, 1);
        sid2_graph_begin_segment(g);
        sid2_tensor h = sid2_linear(g, x, w, SID2_NONE);
        if (reshaped) h = sid2_reshape(g, h, clips);
        h = sid2_gelu(g, h);
        if (reshaped) h = sid2_reshape(g, h, frames);
        x = sid2_silu(g, h);
        sid2_graph_end_segment(g);
    }
    sid2_graph_fuse(g);
    sid2_tensor dy = sid2_graph_external(g, "dy", SID2_F32, frames);
    sid2_graph_export(g, x, "y");
    sid2_graph_backward(g, &x, &dy, 1);
    if (recomputed) sid2_graph_recompute(g, (const bool[]){true, false, true});
    assert_true(sid2_graph_finish(g, &err));
    return g;
}

static void a_reshape_costs_no_node_and_no_byte(void **state)
{
    (void)state;
    for (int recomputed = 0; recomputed < 2; recomputed++) {
        sid2_graph *plain = chain(false, recomputed), *viewed = chain(true, recomputed);
        sid2_plan *a = sid2_plan_create(plain, 64, &err), *b = sid2_plan_create(viewed, 64, &err);
        assert_int_equal(plain->node_count, viewed->node_count);
        assert_int_equal(a->arena_bytes, b->arena_bytes);
        for (int32_t i = 0; i < plain->node_count; i++) {
            assert_int_equal(plain->nodes[i].op, viewed->nodes[i].op);
            for (int k = 0; k < SID2_MAX_INPUTS; k++) { /* everything lies where it did */
                sid2_tensor s = plain->nodes[i].in[k], t = viewed->nodes[i].in[k];
                if (s == SID2_NONE) continue;
                sid2_plan_spot p = sid2_plan_place(a, plain, s), q = sid2_plan_place(b, viewed, t);
                assert_int_equal(p.external == SID2_NONE, q.external == SID2_NONE);
                assert_int_equal(p.offset, q.offset);
            }
        }
        sid2_plan_destroy(a);
        sid2_plan_destroy(b);
        sid2_graph_destroy(plain);
        sid2_graph_destroy(viewed);
    }
}

static void reshapes_are_checked_and_collapse(void **state)
{
    (void)state;
    sid2_graph *g = create(SID2_F32);
    sid2_tensor x = sid2_graph_external(g, "x", SID2_F32, sid2_shape_of(4, 6));
    sid2_tensor h = sid2_silu(g, x), v = sid2_reshape(g, h, sid2_shape_of(2, 12));
    assert_int_equal(sid2_reshape(g, v, sid2_shape_of(4, 6)), h);
    assert_int_equal(sid2_graph_base(g, sid2_reshape(g, v, sid2_shape_of(24))), h);
    sid2_graph_export(g, v, "out"); /* the buffer is that of what was reshaped */
    assert_int_equal(sid2_graph_find(g, "out"), h);
    assert_true(g->tensors[v].external);
    sid2_reshape(g, h, sid2_shape_of(5, 5));
    expect_refusal(g, "4x6 cannot become 5x5");
}

/* ---- Sets of parameters ---- */

static void sets_have_their_own_buffers(void **state)
{
    (void)state;
    sid2_graph *g = create(SID2_BF16);
    sid2_params *student = sid2_graph_params(g, "", true), *teacher = sid2_graph_params(g, "teacher", false);
    sid2_tensor a = sid2_graph_param(g, student, "w", sid2_shape_of(100, 3), true, 0, 1);
    sid2_tensor b = sid2_graph_param(g, teacher, "w", sid2_shape_of(7, 3), true, 0, 1);
    assert_int_not_equal(a, b);
    assert_int_equal(sid2_graph_param(g, student, "w", sid2_shape_of(100, 3), true, 0, 1), a);
    assert_ptr_equal(sid2_graph_params(g, "teacher", false), teacher);
    assert_true(g->tensors[a].requires_grad && !g->tensors[b].requires_grad);
    assert_true(sid2_graph_finish(g, &err));
    assert_int_equal(student->elements, 384);
    assert_int_equal(teacher->elements, SID2_PARAM_ALIGN);
    static const char *const there[] = {"vectors", "weights_low", "grads", "teacher.vectors",
                                        "teacher.weights_low"};
    for (int i = 0; i < 5; i++) assert_true(sid2_graph_find(g, there[i]) != SID2_NONE);
    assert_true(sid2_graph_find(g, "teacher.grads") == SID2_NONE);
    sid2_graph_destroy(g);
}

static void a_parameter_is_one_thing(void **state)
{
    (void)state;
    sid2_graph *g = create(SID2_F32);
    sid2_params *params = sid2_graph_params(g, "", true);
    sid2_graph_param(g, params, "up.w", sid2_shape_of(100, 3), true, 0, 1);
    sid2_graph_param(g, params, "up.w", sid2_shape_of(3, 100), true, 0, 1);
    expect_refusal(g, "'up.w' is a matrix of 100x3, and was asked for as a matrix of 3x100");
    g = create(SID2_F32);
    sid2_graph_params(g, "teacher", true);
    sid2_graph_params(g, "teacher", false);
    expect_refusal(g, "'teacher' are trained elsewhere");
}

/* ---- Stops ---- */

/* The last node that writes the tensor or range is the last before the stop, and passes move it along. */
static void stops_follow_their_nodes(void **state)
{
    (void)state;
    for (int recomputed = 0; recomputed < 2; recomputed++) {
        sid2_graph *g = chain(true, recomputed);
        sid2_params *params = &g->params[0];
        int32_t before = g->node_count;
        for (int i = 2; i >= 0; i--) {
            const sid2_param *p = &params->item[i];
            char name[8] = {'w', (char)('0' + i), 0};
            sid2_graph_stop(g, name, params->grads, p->offset, sid2_shape_count(p->shape));
            int32_t at = sid2_graph_stop_at(g, name);
            assert_int_equal(g->nodes[at - 1].op, SID2_OP_linear_wgrad);
            assert_int_equal(g->tensors[g->nodes[at - 1].out[0]].offset, p->offset);
            if (i < 2) assert_true(at > before); /* gradients become whole from the tail */
            before = at;
        }
        sid2_graph_stop(g, "y", sid2_graph_find(g, "y"), 0, 1);
        assert_int_equal(g->nodes[sid2_graph_stop_at(g, "y") - 1].op, SID2_OP_activation);
        sid2_graph_stop(g, "all", params->grads, 0, params->elements);
        assert_int_equal(sid2_graph_stop_at(g, "all"), sid2_graph_stop_at(g, "w0"));
        assert_int_equal(sid2_graph_stop_at(g, "nowhere"), -1);
        sid2_graph_stop(g, "y", sid2_graph_find(g, "y"), 0, 1);
        expect_refusal(g, "'y'");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_reshape_costs_no_node_and_no_byte),
        cmocka_unit_test(reshapes_are_checked_and_collapse),
        cmocka_unit_test(sets_have_their_own_buffers),
        cmocka_unit_test(a_parameter_is_one_thing),
        cmocka_unit_test(stops_follow_their_nodes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
