/* What programs do on every device: share an arena, stop on the way, lack an operator. Included by the tests of each backend. */
#ifndef SID2_TEST_PROGRAM_SUPPORT_H
#define SID2_TEST_PROGRAM_SUPPORT_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "device.h"
#include "opcase.h"

enum { CHAIN_WIDTH = 16 };

/* A chain y = silu(silu(... x w^T ...) w^T), and its program on a device. */
typedef struct chain {
    sid2_graph *graph;
    sid2_buffer *x, *w, *y;
    sid2_program *program;
    int rows;
    sid2_error error;
} chain;

static inline void chain_must(const chain *c, bool ok, const char *what)
{
    if (!ok) fail_msg("%s: %s", what, c->error.message);
}

static inline float chain_number(int i) { return 0.3f * sinf(0.7f * (float)i); }

static inline void chain_upload(chain *c, sid2_buffer *buffer, int count, float scale)
{
    float *values = malloc((size_t)count * sizeof *values);
    for (int i = 0; i < count; i++) values[i] = scale * chain_number(i);
    chain_must(c, sid2_buffer_upload(buffer, 0, values, (size_t)count * 4, &c->error), "upload");
    free(values);
}

/* Stops: "early" after the first node, "late" and "there" after the third, "end". */
static inline chain chain_build(sid2_device *device, int rows, int depth)
{
    chain c = {.graph = sid2_graph_create(SID2_F32), .rows = rows};
    sid2_graph *g = c.graph;
    sid2_tensor h = sid2_graph_external(g, "x", SID2_F32, sid2_shape_of(rows, CHAIN_WIDTH));
    sid2_tensor w = sid2_graph_external(g, "w", SID2_F32, sid2_shape_of(CHAIN_WIDTH, CHAIN_WIDTH));
    for (int i = 0; i < depth; i++) {
        h = sid2_linear(g, h, w, SID2_NONE);
        int64_t count = (int64_t)rows * CHAIN_WIDTH;
        if (i == 0) sid2_graph_stop(g, "early", h, 0, count);
        if (i == 1) sid2_graph_stop(g, "late", h, 0, count);
        if (i == 1) sid2_graph_stop(g, "there", h, 0, count);
        h = sid2_silu(g, h);
    }
    h = sid2_graph_export(g, h, "y");
    sid2_graph_stop(g, "end", h, 0, (int64_t)rows * CHAIN_WIDTH);
    chain_must(&c, sid2_graph_finish(g, &c.error), "graph");
    c.x = sid2_buffer_create(device, (size_t)rows * CHAIN_WIDTH * 4, &c.error);
    c.y = sid2_buffer_create(device, (size_t)rows * CHAIN_WIDTH * 4, &c.error);
    c.w = sid2_buffer_create(device, CHAIN_WIDTH * CHAIN_WIDTH * 4, &c.error);
    chain_must(&c, c.x && c.y && c.w, "buffers");
    chain_upload(&c, c.x, rows * CHAIN_WIDTH, 1);
    chain_upload(&c, c.w, CHAIN_WIDTH * CHAIN_WIDTH, 1);
    return c;
}

static inline bool chain_compile(sid2_device *device, chain *c, sid2_arena *arena)
{
    const sid2_binding bindings[] = {{"x", c->x}, {"w", c->w}, {"y", c->y}};
    c->program = sid2_program_create(device, c->graph, arena, bindings, 3, &c->error);
    return c->program != NULL;
}

/* y. The caller's to free. */
static inline float *chain_result(chain *c)
{
    size_t bytes = (size_t)c->rows * CHAIN_WIDTH * 4;
    float *y = malloc(bytes);
    chain_must(c, sid2_buffer_download(c->y, 0, y, bytes, &c->error), "download");
    return y;
}

static inline float *chain_run(chain *c)
{
    chain_must(c, sid2_program_run(c->program, &c->error), "run");
    return chain_result(c);
}

static inline void chain_free(chain *c)
{
    sid2_program_destroy(c->program);
    sid2_graph_destroy(c->graph);
    sid2_buffer_destroy(c->x);
    sid2_buffer_destroy(c->w);
    sid2_buffer_destroy(c->y);
}

/* Three programs over one arena, run in turn, compute what they compute alone; and the memory is counted once. */
static inline void check_shared_arena(sid2_device *device)
{
    static const int rows[3] = {40, 700, 8}, depth[3] = {2, 3, 4};
    size_t before = sid2_device_used(device);
    chain c[3];
    float *alone[3];
    for (int i = 0; i < 3; i++) {
        c[i] = chain_build(device, rows[i], depth[i]);
        chain_must(&c[i], chain_compile(device, &c[i], NULL), "compile");
        alone[i] = chain_run(&c[i]);
        assert_true(alone[i][1] != 0);
        sid2_program_destroy(c[i].program);
        c[i].program = NULL;
    }
    size_t buffers = sid2_device_used(device);
    sid2_error error = {0};
    const sid2_graph *const graphs[3] = {c[0].graph, c[1].graph, c[2].graph};
    sid2_arena *arena = sid2_arena_create(device, graphs, 3, &error);
    assert_non_null(arena);
    assert_true(sid2_arena_bytes(arena) > 0);
    size_t workspace = 0;
    for (int i = 0; i < 3; i++) {
        chain_must(&c[i], chain_compile(device, &c[i], arena), "compile");
        workspace += sid2_program_workspace(c[i].program);
        assert_true(sid2_program_plan(c[i].program)->arena_bytes <= sid2_arena_bytes(arena));
    }
    assert_int_equal(sid2_device_used(device), buffers + sid2_arena_bytes(arena) + workspace);
    for (int run = 0; run < 12; run++) {
        int i = run * 2 % 3;
        chain_upload(&c[i], c[i].y, rows[i] * CHAIN_WIDTH, 9);
        float *y = chain_run(&c[i]);
        assert_memory_equal(y, alone[i], (size_t)rows[i] * CHAIN_WIDTH * 4);
        free(y);
    }
    sid2_program_destroy(c[1].program);
    c[1].program = NULL;
    sid2_arena *small = sid2_arena_create(device, graphs, 1, &error);
    assert_non_null(small);
    assert_false(chain_compile(device, &c[1], small));
    assert_non_null(strstr(c[1].error.message, "does not fit into an arena"));
    for (int i = 0; i < 3; i++) {
        chain_free(&c[i]);
        free(alone[i]);
    }
    sid2_arena_destroy(arena);
    sid2_arena_destroy(small);
    assert_int_equal(sid2_device_used(device), before);
}

/* Stops in order, in all ways, give what a whole run gives; others are refused by name. What is written at a stop
 * counts after it, and only there. */
static inline void check_stops(sid2_device *device)
{
    enum { ROWS_ = 24, BYTES_ = ROWS_ * CHAIN_WIDTH * 4 };
    static const char *const ways[][4] = {{NULL}, {"early"}, {"late", "there"}, {"early", "there", "end"}};
    chain c = chain_build(device, ROWS_, 4);
    chain_must(&c, chain_compile(device, &c, NULL), "compile");
    float *whole = chain_run(&c);
    for (int round = 0; round < 3 * 4; round++) { /* a section may be launched otherwise the second time */
        chain_upload(&c, c.y, ROWS_ * CHAIN_WIDTH, 9);
        for (int i = 0; i < 4 && ways[round % 4][i]; i++) {
            const char *stop = ways[round % 4][i];
            chain_must(&c, sid2_program_run_to(c.program, stop, &c.error), stop);
            float *y = chain_result(&c);
            assert_int_equal(memcmp(y, whole, BYTES_) == 0, strcmp(stop, "end") == 0);
            free(y);
        }
        float *y = chain_run(&c);
        assert_memory_equal(y, whole, BYTES_);
        free(y);
    }
    assert_false(sid2_program_run_to(c.program, "nowhere", &c.error));
    assert_non_null(strstr(c.error.message, "no stop 'nowhere'"));
    chain_must(&c, sid2_program_run_to(c.program, "late", &c.error), "late");
    assert_false(sid2_program_run_to(c.program, "early", &c.error));
    assert_non_null(strstr(c.error.message, "has passed its stop 'early'"));
    chain_upload(&c, c.x, ROWS_ * CHAIN_WIDTH, 5); /* read before: changes nothing */
    float *y = chain_run(&c);
    assert_memory_equal(y, whole, BYTES_);
    free(y);
    chain_upload(&c, c.x, ROWS_ * CHAIN_WIDTH, 1);
    chain_must(&c, sid2_program_run_to(c.program, "late", &c.error), "late");
    chain_upload(&c, c.w, CHAIN_WIDTH * CHAIN_WIDTH, 2); /* read again after it */
    y = chain_run(&c);
    assert_true(memcmp(y, whole, BYTES_) != 0);
    free(y);
    free(whole);
    chain_free(&c);
}

/* A graph of one random node of the operator. NULL where it has no such types. */
static inline sid2_graph *one_node(sid2_op op, sid2_dtype compute)
{
    sid2_draw draw = {.seed = 1};
    sid2_opcase c;
    sid2_error error = {0};
    sid2_tensor in[SID2_MAX_INPUTS];
    if (!sid2_opcase_draw(op, compute == SID2_F64 ? SID2_F32 : compute, &draw, &c, &error))
        fail_msg("%s", error.message);
    sid2_graph *g = sid2_graph_create(compute);
    for (int i = 0; i < SID2_MAX_INPUTS; i++) {
        char name[8];
        snprintf(name, sizeof name, "in%d", i);
        in[i] = c.in[i].type.shape.rank < 0
                    ? SID2_NONE
                    : sid2_graph_external(g, name, c.in[i].type.dtype, c.in[i].type.shape);
    }
    sid2_graph_emit(g, op, c.attr, in, SID2_MAX_INPUTS, false);
    if (!sid2_graph_finish(g, &error)) fail_msg("%s", error.message);
    return g;
}

/* Each operator that the device does not have, in each type, is refused before anything else is looked at, by a line
 * that names device, operator and type. Returns how many there are. */
static inline int check_refusals(sid2_device *device)
{
    int refusals = 0;
    for (int op = 0; op < SID2_OP_COUNT; op++)
        for (sid2_dtype compute = SID2_F32; compute <= SID2_F64; compute++) {
            sid2_error error = {0};
            char line[100];
            if (sid2_device_supports(device, (sid2_op)op, compute)) continue;
            sid2_graph *g = one_node((sid2_op)op, compute);
            assert_null(sid2_program_create(device, g, NULL, NULL, 0, &error));
            assert_int_equal(error.code, SID2_ERR_UNSUPPORTED);
            snprintf(line, sizeof line, "does not compute %s in %s", sid2_op_name((sid2_op)op),
                     sid2_dtype_name(compute));
            if (!strstr(error.message, line)) fail_msg("'%s' is not in '%s'", line, error.message);
            assert_int_equal(strncmp(error.message, sid2_device_describe(device)->id,
                                     strlen(sid2_device_describe(device)->id)),
                             0);
            sid2_graph_destroy(g);
            refusals++;
        }
    return refusals;
}

#endif
