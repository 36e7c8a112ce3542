/* Devices, buffers and programs of the CPU backend. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cpu.h"
#include "program_support.h"
#include "team.h"

static sid2_error err;

static sid2_device *open_device(const char *id, int threads)
{
    const sid2_backend *backend = &sid2_backend_cpu;
    sid2_device *device =
        sid2_backends_open(&backend, 1, id, &(sid2_device_options){.threads = threads}, &err);
    if (!device) fail_msg("%s", err.message);
    return device;
}

static void open_by_id_and_fragment(void **state)
{
    (void)state;
    static const struct {
        const char *asked, *id;
    } cases[] = {
        {"auto", "cpu"}, {"cpu", "cpu"}, {"CPU", "cpu"}, {"reference", "reference"}, {"1 thread", "cpu"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        sid2_device *device = open_device(cases[i].asked, 1);
        const sid2_device_info *info = sid2_device_describe(device);
        assert_string_equal(info->id, cases[i].id);
        assert_true(strlen(info->name) > 0 && strlen(info->driver) > 0 && strlen(info->detail) > 0);
        assert_true(info->memory > 1 << 20);
        assert_non_null(strstr(info->name, "1 thread"));
        for (int op = 0; op < SID2_OP_COUNT && !strcmp(info->id, "reference"); op++)
            assert_true(sid2_device_supports(device, op, SID2_F32));
        sid2_device_close(device);
    }
}

static void operators_without_a_fast_kernel_are_listed(void **state)
{
    (void)state;
    sid2_device *device = open_device("cpu", 2);
    const sid2_device_info *info = sid2_device_describe(device);
    char without[1024] = " ", name[80];
    const char *list = strstr(info->detail, "; without ");
    if (list) snprintf(without, sizeof without, "%.*s,", (int)strcspn(list + 9, ";"), list + 9);
    for (int op = 0; op < SID2_OP_COUNT; op++) {
        snprintf(name, sizeof name, " %s,", sid2_op_name((sid2_op)op));
        bool listed = strstr(without, name) != NULL;
        assert_int_equal(listed, !sid2_device_supports(device, (sid2_op)op, SID2_F32));
    }
    assert_non_null(strstr(info->name, "2 threads"));
    assert_false(sid2_device_supports(device, SID2_OP_linear, SID2_F64));
    sid2_device_close(device);
}

static void unknown_device_is_one_line(void **state)
{
    (void)state;
    const sid2_backend *backend = &sid2_backend_cpu;
    assert_null(sid2_backends_open(&backend, 1, "abacus", NULL, &err));
    assert_int_equal(err.code, SID2_ERR_USAGE);
    assert_non_null(strstr(err.message, "abacus"));
    assert_non_null(strstr(err.message, "reference"));
    assert_null(strchr(err.message, '\n'));
}

static void buffers_keep_their_bounds(void **state)
{
    (void)state;
    sid2_device *device = open_device("cpu", 1);
    sid2_buffer *buffer = sid2_buffer_create(device, 100, &err);
    assert_non_null(buffer);
    uint8_t bytes[100], back[100];
    assert_true(sid2_buffer_download(buffer, 0, back, 100, &err));
    for (int i = 0; i < 100; i++) assert_int_equal(back[i], 0);
    for (int i = 0; i < 100; i++) bytes[i] = (uint8_t)(i + 1);
    uint64_t version = buffer->version;
    assert_true(sid2_buffer_upload(buffer, 40, bytes, 60, &err));
    assert_true(buffer->version > version);
    assert_true(sid2_buffer_download(buffer, 39, back, 61, &err));
    assert_int_equal(back[0], 0);
    assert_memory_equal(back + 1, bytes, 60);

    assert_false(sid2_buffer_upload(buffer, 41, bytes, 60, &err));
    assert_false(sid2_buffer_upload(buffer, SIZE_MAX, bytes, 2, &err));
    assert_false(sid2_buffer_download(buffer, 0, back, 101, &err));
    assert_false(sid2_buffer_download(buffer, 101, back, 0, &err));
    sid2_buffer_destroy(buffer);
    sid2_device_close(device);
}

static void large_buffers_start_at_zero(void **state)
{
    (void)state;
    enum { BYTES = 5 << 20 };
    sid2_device *device = open_device("cpu", 1);
    uint8_t *back = malloc(BYTES);
    for (int round = 0; round < 2; round++) {
        sid2_buffer *buffer = sid2_buffer_create(device, BYTES, &err);
        assert_int_equal((uintptr_t)buffer->handle % sid2_device_alignment(device), 0);
        assert_true(sid2_buffer_download(buffer, 0, back, BYTES, &err));
        for (int i = 0; i < BYTES; i++) assert_int_equal(back[i], 0);
        memset(back, 0xff, BYTES);
        assert_true(sid2_buffer_upload(buffer, 0, back, BYTES, &err));
        sid2_buffer_destroy(buffer);
    }
    free(back);
    sid2_device_close(device);
}

static void out_of_memory_is_told(void **state)
{
    (void)state;
    static const size_t sizes[] = {(size_t)1 << 50, SIZE_MAX, SIZE_MAX - 64};
    for (int d = 0; d < 2; d++) {
        sid2_device *device = open_device(d ? "reference" : "cpu", 1);
        for (int i = 0; i < 3; i++) {
            assert_null(sid2_buffer_create(device, sizes[i], &err));
            assert_int_equal(err.code, SID2_ERR_MEMORY);
        }
        assert_null(sid2_buffer_create(device, sizes[0], &err));
        assert_non_null(strstr(err.message, "1048576.00 GiB"));

        /* An arena of the same size: two activations of half a pebibyte. */
        sid2_graph *g = sid2_graph_create(SID2_F32);
        sid2_tensor x = sid2_graph_external(g, "x", SID2_F32, sid2_shape_of(1, 1));
        sid2_tensor wide =
            sid2_linear(g, x, sid2_graph_external(g, "w", SID2_F32, sid2_shape_of(1ll << 47, 1)), SID2_NONE);
        sid2_graph_export(g, sid2_silu(g, sid2_silu(g, wide)), "y");
        assert_true(sid2_graph_finish(g, &err));
        sid2_buffer *tiny = sid2_buffer_create(device, 64, &err);
        sid2_buffer pretended = {device, SIZE_MAX, 0, tiny->handle};
        const sid2_binding bindings[] = {{"x", tiny}, {"w", &pretended}, {"y", &pretended}};
        assert_null(sid2_program_create(device, g, NULL, bindings, 3, &err));
        assert_int_equal(err.code, SID2_ERR_MEMORY);
        assert_non_null(strstr(err.message, "GiB"));
        sid2_graph_destroy(g);
        sid2_buffer_destroy(tiny);
        sid2_device_close(device);
    }
}

/* ---- Programs: conv, norm, residual, linear; forward. ---- */
enum {
    BATCH = 2,
    SIDE = 8,
    CHANNELS = 32,
    WEIGHTS = CHANNELS * 9 * CHANNELS,
    ELEMENTS = BATCH * SIDE * SIDE * CHANNELS
};

typedef struct fixture {
    sid2_device *device;
    sid2_graph *graph;
    sid2_program *program;
    sid2_buffer *x, *w, *y;
} fixture;

static float wave(int i, float scale) { return scale * sinf(0.37f * (float)i + 0.1f * (float)(i % 17)); }

static void upload_wave(sid2_buffer *buffer, int count, float scale)
{
    float *values = malloc((size_t)count * sizeof *values);
    for (int i = 0; i < count; i++) values[i] = wave(i, scale);
    assert_true(sid2_buffer_upload(buffer, 0, values, (size_t)count * sizeof *values, &err));
    free(values);
}

static fixture make_fixture(const char *id, int threads)
{
    fixture f = {.device = open_device(id, threads)};
    sid2_graph *g = f.graph = sid2_graph_create(SID2_F32);
    sid2_tensor x = sid2_graph_external(g, "x", SID2_F32, sid2_shape_of(BATCH, SIDE, SIDE, CHANNELS));
    sid2_tensor w = sid2_graph_external(g, "w", SID2_F32, sid2_shape_of(CHANNELS, 3, 3, CHANNELS));
    sid2_tensor h = sid2_conv2d(g, sid2_silu(g, x), w, SID2_NONE);
    sid2_graph_export(g, sid2_add(g, x, sid2_conv2d(g, sid2_silu(g, h), w, SID2_NONE)), "y");
    assert_true(sid2_graph_finish(g, &err));
    f.x = sid2_buffer_create(f.device, ELEMENTS * sizeof(float), &err);
    f.w = sid2_buffer_create(f.device, WEIGHTS * sizeof(float), &err);
    f.y = sid2_buffer_create(f.device, ELEMENTS * sizeof(float), &err);
    upload_wave(f.x, ELEMENTS, 1.0f);
    upload_wave(f.w, WEIGHTS, 0.05f);
    const sid2_binding bindings[] = {{"x", f.x}, {"w", f.w}, {"y", f.y}, {"unused", f.y}};
    f.program = sid2_program_create(f.device, g, NULL, bindings, 4, &err);
    if (!f.program) fail_msg("%s", err.message);
    return f;
}

static void free_fixture(fixture *f)
{
    sid2_program_destroy(f->program);
    sid2_graph_destroy(f->graph);
    sid2_buffer_destroy(f->x);
    sid2_buffer_destroy(f->w);
    sid2_buffer_destroy(f->y);
    sid2_device_close(f->device);
}

static void run_into(const fixture *f, float y[ELEMENTS])
{
    if (!sid2_program_run(f->program, &err)) fail_msg("%s", err.message);
    assert_true(sid2_buffer_download(f->y, 0, y, ELEMENTS * sizeof *y, &err));
}

static void assert_close(const float *a, const float *b)
{
    for (int i = 0; i < ELEMENTS; i++)
        if (!(fabsf(a[i] - b[i]) <= 1e-5f * (1 + fabsf(b[i]))))
            fail_msg("element %d: %g and %g", i, (double)a[i], (double)b[i]);
}

static void both_devices_agree(void **state)
{
    (void)state;
    static float fast[ELEMENTS], slow[ELEMENTS], before[ELEMENTS];
    fixture a = make_fixture("cpu", 2), b = make_fixture("reference", 0);
    run_into(&a, fast);
    run_into(&b, slow);
    assert_close(fast, slow);
    memcpy(before, fast, sizeof fast);

    /* New weights must be seen: a packed copy may not outlive its version. */
    upload_wave(a.w, WEIGHTS, -0.03f);
    upload_wave(b.w, WEIGHTS, -0.03f);
    run_into(&a, fast);
    run_into(&b, slow);
    assert_close(fast, slow);
    assert_true(memcmp(before, fast, sizeof fast) != 0);
    free_fixture(&a);
    free_fixture(&b);
}

static void runs_repeat_bit_by_bit(void **state)
{
    (void)state;
    static float first[ELEMENTS], again[ELEMENTS];
    fixture a = make_fixture("cpu", 2), b = make_fixture("cpu", 2);
    run_into(&a, first);
    for (int i = 0; i < 3; i++) {
        run_into(i < 2 ? &a : &b, again);
        assert_memory_equal(first, again, sizeof first);
    }
    free_fixture(&a);
    free_fixture(&b);
}

/* dw and dbias after two runs, which add up. */
static void weight_gradient(const char *id, sid2_shape x, sid2_shape dw, float *result)
{
    sid2_device *device = open_device(id, 2);
    sid2_graph *g = sid2_graph_create(SID2_BF16);
    sid2_shape dy = x;
    dy.dim[x.rank - 1] = dw.dim[0];
    const sid2_tensor in[] = {sid2_graph_external(g, "x", SID2_BF16, x),
                              sid2_graph_external(g, "dy", SID2_BF16, dy)};
    const sid2_tensor out[] = {sid2_graph_external(g, "dw", SID2_F32, dw),
                               sid2_graph_external(g, "dbias", SID2_F32, sid2_shape_of(dw.dim[0]))};
    sid2_graph_emit_into(g, SID2_OP_conv2d_wgrad, (sid2_attr){.shape = dw}, in, 2, out, 2);
    if (!sid2_graph_finish(g, &err)) fail_msg("%s", err.message);

    sid2_binding bindings[4] = {{"x", NULL}, {"dy", NULL}, {"dw", NULL}, {"dbias", NULL}};
    const sid2_shape shapes[] = {x, dy, dw, sid2_shape_of(dw.dim[0])};
    for (int i = 0; i < 4; i++) {
        size_t count = (size_t)sid2_shape_count(shapes[i]);
        bindings[i].buffer = sid2_buffer_create(device, count * (i < 2 ? 2 : 4), &err);
        uint16_t *values = malloc(count * sizeof *values);
        for (size_t k = 0; k < count; k++) values[k] = sid2_f32_to_bf16(wave((int)k + i, 1));
        if (i < 2) assert_true(sid2_buffer_upload(bindings[i].buffer, 0, values, count * 2, &err));
        free(values);
    }
    sid2_program *program = sid2_program_create(device, g, NULL, bindings, 4, &err);
    if (!program) fail_msg("%s", err.message);
    for (int run = 0; run < 2; run++) assert_true(sid2_program_run(program, &err));
    size_t bytes = (size_t)sid2_shape_count(dw) * sizeof *result;
    assert_true(sid2_buffer_download(bindings[2].buffer, 0, result, bytes, &err));
    assert_true(
        sid2_buffer_download(bindings[3].buffer, 0, (char *)result + bytes, (size_t)dw.dim[0] * 4, &err));
    sid2_program_destroy(program);
    for (int i = 0; i < 4; i++) sid2_buffer_destroy(bindings[i].buffer);
    sid2_graph_destroy(g);
    sid2_device_close(device);
}

/* Channels in whole vectors take kernels of their own: odd and tiny images, wide kernels, many images. */
static void weight_gradients_of_whole_vectors_agree(void **state)
{
    (void)state;
    const sid2_shape cases[][2] = {
        {sid2_shape_of(3, 8, 8, 32), sid2_shape_of(16, 3, 3, 32)},
        {sid2_shape_of(2, 5, 7, 64), sid2_shape_of(24, 3, 3, 64)},
        {sid2_shape_of(1, 1, 1, 32), sid2_shape_of(8, 5, 5, 32)},
        {sid2_shape_of(2, 3, 1, 32), sid2_shape_of(8, 7, 7, 32)},
        {sid2_shape_of(2, 25, 16, 16, 32), sid2_shape_of(8, 3, 3, 32)}, /* packed in several parts */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t count = (size_t)(sid2_shape_count(cases[i][1]) + cases[i][1].dim[0]);
        float *fast = malloc(count * sizeof *fast), *slow = malloc(count * sizeof *slow);
        weight_gradient("cpu", cases[i][0], cases[i][1], fast);
        weight_gradient("reference", cases[i][0], cases[i][1], slow);
        float size = 0;
        for (size_t k = 0; k < count; k++) size = fmaxf(size, fabsf(slow[k]));
        for (size_t k = 0; k < count; k++)
            if (!(fabsf(fast[k] - slow[k]) <= 1e-5f * size))
                fail_msg("case %zu, element %zu: %g and %g", i, k, (double)fast[k], (double)slow[k]);
        free(fast);
        free(slow);
    }
}

static void profile_counts_runs(void **state)
{
    (void)state;
    static float y[ELEMENTS];
    fixture f = make_fixture("cpu", 1);
    run_into(&f, y);
    const sid2_node_time *times = sid2_program_profile(f.program);
    assert_non_null(times);
    for (int i = 0; i < 3; i++) run_into(&f, y);
    assert_ptr_equal(times, sid2_program_profile(f.program));
    for (int n = 0; n < f.graph->node_count; n++) {
        assert_int_equal(times[n].runs, 3);
        assert_true(times[n].seconds >= 0 && times[n].seconds < 60);
    }
    assert_true(sid2_program_workspace(f.program) > 0);
    free_fixture(&f);
}

static void programs_share_an_arena(void **state)
{
    (void)state;
    for (int d = 0; d < 2; d++) {
        sid2_device *device = open_device(d ? "reference" : "cpu", 1);
        check_shared_arena(device);
        sid2_device_close(device);
    }
}

static void programs_stop_where_they_are_told(void **state)
{
    (void)state;
    for (int d = 0; d < 2; d++) {
        sid2_device *device = open_device(d ? "reference" : "cpu", 1);
        check_stops(device);
        sid2_device_close(device);
    }
}

static void what_is_not_there_is_refused_by_name(void **state)
{
    (void)state;
    for (int d = 0; d < 2; d++) {
        sid2_device *device = open_device(d ? "reference" : "cpu", 1);
        int refusals = check_refusals(device);
        assert_true(d ? refusals == 0 : refusals >= 2 * SID2_OP_COUNT); /* neither f16 nor f64 */
        sid2_device_close(device);
    }
}

/* A range of one buffer is added to another and is zero then; the rest stays. */
static void check_folds(sid2_device *device)
{
    enum { COUNT_ = 5000 };
    static const int ranges[][2] = {{0, COUNT_}, {17, 4001}, {COUNT_ - 1, 1}, {300, 0}};
    float into[COUNT_], from[COUNT_], sum[COUNT_], rest[COUNT_];
    chain c = {0};
    size_t before = sid2_device_used(device);
    sid2_buffer *a = sid2_buffer_create(device, sizeof into, &c.error),
                *b = sid2_buffer_create(device, sizeof from, &c.error);
    chain_must(&c, a && b, "buffers");
    for (size_t r = 0; r < sizeof ranges / sizeof *ranges; r++) {
        size_t first = (size_t)ranges[r][0], count = (size_t)ranges[r][1];
        for (int i = 0; i < COUNT_; i++) into[i] = chain_number(i), from[i] = 7 * chain_number(i + 3);
        chain_must(&c, sid2_buffer_upload(a, 0, into, sizeof into, &c.error), "upload");
        chain_must(&c, sid2_buffer_upload(b, 0, from, sizeof from, &c.error), "upload");
        for (size_t i = first; i < first + count; i++) into[i] += from[i], from[i] = 0;
        chain_must(&c, sid2_buffer_fold(a, b, first, count, false, &c.error), "fold");
        chain_must(&c, sid2_buffer_download(a, 0, sum, sizeof sum, &c.error), "download");
        chain_must(&c, sid2_buffer_download(b, 0, rest, sizeof rest, &c.error), "download");
        assert_memory_equal(sum, into, sizeof into);
        assert_memory_equal(rest, from, sizeof from);
    }
    assert_false(sid2_buffer_fold(a, b, 1, COUNT_, false, &c.error));
    sid2_buffer_destroy(a);
    sid2_buffer_destroy(b);
    assert_int_equal(sid2_device_used(device), before);
}

static void buffers_are_folded(void **state)
{
    (void)state;
    for (int d = 0; d < 2; d++) {
        sid2_device *device = open_device(d ? "reference" : "cpu", 1);
        check_folds(device);
        sid2_device_close(device);
    }
}

/* ---- Other buffers ---- */

/* A call with every tensor in a buffer, twice over: the second set is what the program is rebound to. */
typedef struct call_fixture {
    sid2_graph *graph;
    sid2_binding binding[SID2_MAX_INPUTS + SID2_MAX_OUTPUTS];
    sid2_buffer *other[SID2_MAX_INPUTS + SID2_MAX_OUTPUTS];
    int count, inputs;
} call_fixture;

static sid2_tensor add_tensor(call_fixture *f, sid2_device *device, const char *name, sid2_type type)
{
    if (type.shape.rank < 0) return SID2_NONE;
    size_t count = (size_t)sid2_shape_count(type.shape), bytes = count * sid2_dtype_size(type.dtype);
    float *values = calloc(1, bytes);
    for (size_t i = 0; i < count && type.dtype == SID2_F32; i++) values[i] = wave((int)i + f->count, 1);
    sid2_buffer *one = sid2_buffer_create(device, bytes, &err),
                *two = sid2_buffer_create(device, bytes, &err);
    assert_true(one && two && sid2_buffer_upload(one, 0, values, bytes, &err) &&
                sid2_buffer_upload(two, 0, values, bytes, &err));
    free(values);
    f->binding[f->count] = (sid2_binding){name, one};
    f->other[f->count++] = two;
    return sid2_graph_external(f->graph, name, type.dtype, type.shape);
}

static call_fixture make_call(sid2_device *device, const sid2_opcase *c)
{
    static const char *const names[] = {"i0", "i1", "i2", "i3", "i4", "i5", "i6", "i7", "i8", "i9"};
    call_fixture f = {.graph = sid2_graph_create(SID2_F32)};
    sid2_tensor in[SID2_MAX_INPUTS], out[SID2_MAX_OUTPUTS];
    for (int i = 0; i < SID2_MAX_INPUTS; i++) in[i] = add_tensor(&f, device, names[i], c->in[i].type);
    f.inputs = f.count;
    static const char *const outs[] = {"o0", "o1", "o2", "o3", "o4", "o5"};
    for (int i = 0; i < SID2_MAX_OUTPUTS; i++)
        out[i] = c->wanted[i] ? add_tensor(&f, device, outs[i], c->out[i]) : SID2_NONE;
    sid2_graph_emit_into(f.graph, c->op, c->attr, in, SID2_MAX_INPUTS, out, SID2_MAX_OUTPUTS);
    if (!sid2_graph_finish(f.graph, &err)) fail_msg("%s: %s", sid2_op_name(c->op), err.message);
    return f;
}

static void free_call(call_fixture *f)
{
    for (int i = 0; i < f->count; i++) {
        sid2_buffer_destroy(f->binding[i].buffer);
        sid2_buffer_destroy(f->other[i]);
    }
    sid2_graph_destroy(f->graph);
}

static void check_rebinding(sid2_device *device, const sid2_opcase *c)
{
    call_fixture f = make_call(device, c);
    sid2_program *program = sid2_program_create(device, f.graph, NULL, f.binding, f.count, &err);
    if (!program) fail_msg("%s: %s", sid2_op_name(c->op), err.message);
    assert_true(sid2_program_run(program, &err));
    for (int i = 0; i < f.count; i++) {
        assert_true(sid2_program_rebind(program, f.binding[i].name, f.other[i], &err));
        if (i < f.inputs) memset(f.binding[i].buffer->handle, 0x7f, f.binding[i].buffer->bytes);
    }
    assert_true(sid2_program_run(program, &err));
    for (int i = f.inputs; i < f.count; i++)
        if (memcmp(f.binding[i].buffer->handle, f.other[i]->handle, f.other[i]->bytes) != 0)
            fail_msg("%s: output %d is another in another buffer", sid2_op_name(c->op), i - f.inputs);
    sid2_program_destroy(program);
    free_call(&f);
}

/* Every operator finds its tensors anew in each run, wherever they were when it was prepared. */
static void programs_take_other_buffers(void **state)
{
    (void)state;
    sid2_device *device = open_device("cpu", 1);
    assert_true(sid2_device_rebinds(device));
    for (int op = 0; op < SID2_OP_COUNT; op++) {
        sid2_draw draw = {.seed = 3, .sample = (uint64_t)op};
        for (int i = 0; i < 20 && sid2_device_supports(device, (sid2_op)op, SID2_F32); i++) {
            sid2_opcase c;
            assert_true(sid2_opcase_draw((sid2_op)op, SID2_F32, &draw, &c, &err));
            check_rebinding(device, &c);
        }
    }
    fixture f = make_fixture("cpu", 1);
    sid2_buffer *larger = sid2_buffer_create(f.device, f.y->bytes + 64, &err),
                *smaller = sid2_buffer_create(f.device, f.y->bytes - 64, &err);
    assert_true(larger && smaller);
    assert_true(sid2_program_rebind(f.program, "y", larger, &err));
    assert_false(sid2_program_rebind(f.program, "y", smaller, &err));
    assert_non_null(strstr(err.message, "'y'"));
    assert_false(sid2_program_rebind(f.program, "unused", f.y, &err));
    assert_true(sid2_program_rebind(f.program, "y", f.y, &err));
    static float y[ELEMENTS], z[ELEMENTS];
    run_into(&f, y);
    assert_true(sid2_program_rebind(f.program, "y", larger, &err));
    assert_true(sid2_program_run(f.program, &err));
    assert_true(sid2_buffer_download(larger, 0, z, sizeof z, &err));
    assert_memory_equal(y, z, sizeof y);
    sid2_buffer_destroy(larger);
    sid2_buffer_destroy(smaller);
    free_fixture(&f);
    sid2_device_close(device);
}

/* ---- Parts ---- */

enum { PARTS = 3 };

typedef struct parts {
    sid2_team *team;
    sid2_program *program[PARTS];
} parts;

static bool run_part(void *data, int member, sid2_error *error)
{
    parts *p = data;
    bool ok = true;
    for (int run = 0; ok && run < 20; run++) ok = sid2_program_run(p->program[member], error);
    return ok;
}

/* Parts read one buffer of weights at once, and each computes what the whole does with one thread. */
static void parts_compute_at_the_same_time(void **state)
{
    (void)state;
    static float one[ELEMENTS], y[ELEMENTS];
    fixture whole = make_fixture("cpu", PARTS), alone = make_fixture("cpu", 1);
    run_into(&alone, one);
    assert_int_equal(sid2_device_describe(whole.device)->cores, PARTS);
    assert_int_equal(sid2_device_describe(alone.device)->cores, 1);
    size_t before = sid2_device_used(whole.device);
    sid2_device *part[PARTS];
    sid2_buffer *out[PARTS];
    parts p = {.team = sid2_team_create(PARTS, &err)};
    for (int i = 0; i < PARTS; i++) {
        assert_non_null(part[i] = sid2_device_part(whole.device, 1, &err));
        assert_int_equal(sid2_device_describe(part[i])->cores, 1);
        assert_non_null(out[i] = sid2_buffer_create(part[i], ELEMENTS * sizeof(float), &err));
        const sid2_binding bindings[] = {{"x", whole.x}, {"w", whole.w}, {"y", out[i]}};
        p.program[i] = sid2_program_create(part[i], whole.graph, NULL, bindings, 3, &err);
        if (!p.program[i]) fail_msg("%s", err.message);
    }
    assert_true(sid2_device_used(whole.device) > before + sid2_device_used(part[0]));
    if (!sid2_team_run(p.team, run_part, &p, &err)) fail_msg("%s", err.message);
    for (int i = 0; i < PARTS; i++) {
        assert_true(sid2_buffer_download(out[i], 0, y, sizeof y, &err));
        assert_memory_equal(y, one, sizeof one);
        sid2_program_destroy(p.program[i]);
        sid2_buffer_destroy(out[i]);
        sid2_device_close(part[i]);
    }
    assert_int_equal(sid2_device_used(whole.device), before);
    sid2_team_destroy(p.team);
    free_fixture(&whole);
    free_fixture(&alone);
    sid2_device *reference = open_device("reference", 1);
    assert_int_equal(sid2_device_describe(reference)->cores, 1);
    sid2_device_close(reference);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(open_by_id_and_fragment),
        cmocka_unit_test(operators_without_a_fast_kernel_are_listed),
        cmocka_unit_test(unknown_device_is_one_line),
        cmocka_unit_test(buffers_keep_their_bounds),
        cmocka_unit_test(large_buffers_start_at_zero),
        cmocka_unit_test(out_of_memory_is_told),
        cmocka_unit_test(both_devices_agree),
        cmocka_unit_test(runs_repeat_bit_by_bit),
        cmocka_unit_test(weight_gradients_of_whole_vectors_agree),
        cmocka_unit_test(profile_counts_runs),
        cmocka_unit_test(programs_share_an_arena),
        cmocka_unit_test(programs_stop_where_they_are_told),
        cmocka_unit_test(what_is_not_there_is_refused_by_name),
        cmocka_unit_test(buffers_are_folded),
        cmocka_unit_test(programs_take_other_buffers),
        cmocka_unit_test(parts_compute_at_the_same_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
