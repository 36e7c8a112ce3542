/* sid2 tune: which block sizes of products are the fastest on a device. Measured are the products that a
 * model's time goes to; what won is kept for the device and its driver, beside the cache of its shaders. */
#include "cli.h"

#include "backends.h"

#include <stdio.h>
#include <string.h>

typedef struct product {
    const char *name;
    sid2_op op;
    sid2_shape x, w;
} product;

static const product products[] = {
    {"linear", SID2_OP_linear, {3, {4, 256, 512}}, {2, {512, 512}}},
    {"conv2d", SID2_OP_conv2d, {4, {4, 32, 32, 128}}, {4, {128, 3, 3, 128}}},
    {"  by input", SID2_OP_conv2d_dgrad, {4, {4, 32, 32, 128}}, {4, {128, 3, 3, 128}}},
    {"  by weights", SID2_OP_conv2d_wgrad, {4, {4, 32, 32, 128}}, {4, {128, 3, 3, 128}}},
};
enum { PRODUCTS = sizeof products / sizeof *products };

/* ---- Measuring ---- */

/* The product alone in a graph; x, w, y are externals of its inputs' and its output's names. */
static sid2_graph *graph_of(const product *p, sid2_dtype type)
{
    sid2_graph *g = sid2_graph_create(type);
    if (!g) return NULL;
    bool by_weights = p->op == SID2_OP_conv2d_wgrad;
    sid2_tensor x = sid2_graph_external(g, "x", type, p->x), y;
    sid2_tensor w = sid2_graph_external(g, "w", by_weights ? SID2_F32 : type, p->w);
    sid2_shape shape = p->x;
    shape.dim[shape.rank - 1] = p->w.dim[0];
    y = sid2_graph_external(g, "y", type, shape);
    const sid2_attr attr = {.dtype = type, .shape = p->w};
    if (by_weights)
        sid2_graph_emit_into(g, p->op, attr, (sid2_tensor[]){x, y}, 2, &w, 1);
    else
        sid2_graph_emit_into(g, p->op, attr, (sid2_tensor[]){x, w}, 2, &y, 1);
    return g;
}

static bool wait_for(const sid2_buffer *buffer, sid2_error *err)
{
    float number;
    return sid2_buffer_download(buffer, 0, &number, sizeof number, err);
}

/* Seconds of one run: the least of several rounds, each long enough to be measured. */
static bool time_program(sid2_program *program, const sid2_buffer *result, double *seconds, sid2_error *err)
{
    *seconds = 1e30;
    if (!sid2_program_run(program, err) || !wait_for(result, err)) return false;
    for (int round = 0, runs = 1; round < 5; round++) {
        double began = sid2_clock();
        for (int i = 0; i < runs; i++)
            if (!sid2_program_run(program, err)) return false;
        if (!wait_for(result, err)) return false;
        double each = (sid2_clock() - began) / runs;
        if (each < *seconds) *seconds = each;
        while (runs * each < 0.02 && runs < 1024) runs *= 2;
    }
    return true;
}

static bool time_product(sid2_device *device, const product *p, sid2_dtype type, double *seconds,
                         sid2_error *err)
{
    sid2_graph *graph = graph_of(p, type);
    sid2_buffer *buffer[4] = {NULL};
    sid2_program *program = NULL;
    bool ok = graph ? sid2_graph_finish(graph, err) : sid2_fail(err, SID2_ERR_MEMORY, "out of memory");
    static const char *const names[] = {"x", "w", "y"};
    sid2_binding bindings[6];
    for (int i = 0; ok && i < 3; i++) {
        const sid2_type t = sid2_graph_type(graph, sid2_graph_find(graph, names[i]));
        buffer[i] =
            sid2_buffer_create(device, (size_t)sid2_shape_count(t.shape) * sid2_dtype_size(t.dtype), err);
        bindings[i] = (sid2_binding){names[i], buffer[i]};
        ok = buffer[i] != NULL;
    }
    ok = ok && (buffer[3] = sid2_buffer_create(device, 64, err)); /* for the empty flat buffers */
    static const char *const flat[] = {"weights", "weights_low", "grads"};
    for (int i = 0; i < 3; i++) bindings[3 + i] = (sid2_binding){flat[i], buffer[3]};
    ok = ok && (program = sid2_program_create(device, graph, NULL, bindings, 6, err)) &&
         time_program(program, buffer[p->op == SID2_OP_conv2d_wgrad ? 1 : 2], seconds, err);
    sid2_program_destroy(program);
    for (int i = 0; i < 4; i++) sid2_buffer_destroy(buffer[i]);
    sid2_graph_destroy(graph);
    return ok;
}

static double multiply_adds(const product *p)
{
    return (double)sid2_shape_count(p->x) * (double)sid2_shape_count(p->w) / (double)p->x.dim[p->x.rank - 1];
}

/* ---- The command ---- */

/* Where the device is among the backends. */
static bool locate(const char *id, const sid2_backend **backend, int *index)
{
    for (int b = 0; b < sid2_backend_count; b++)
        for (int i = 0; i < sid2_backends[b]->count(); i++) {
            sid2_device_info info;
            if (!sid2_backends[b]->describe(i, &(sid2_device_options){0}, &info) || strcmp(info.id, id) != 0)
                continue;
            *backend = sid2_backends[b];
            *index = i;
            return true;
        }
    return false;
}

/* Times all products with one candidate; prints its row. */
static bool measure(const char *id, const char *blocks, sid2_dtype type, double *total, sid2_error *err)
{
    const sid2_device_options options = sid2_with(sid2_device_options, .blocks = blocks);
    sid2_device *device = sid2_device_open(id, &options, err);
    bool ok = device != NULL;
    *total = 0;
    printf("%-20s", blocks);
    for (int i = 0; ok && i < PRODUCTS; i++) {
        double seconds;
        ok = time_product(device, &products[i], type, &seconds, err);
        if (!ok) break;
        double speed = 2e-9 * multiply_adds(&products[i]) / seconds;
        *total += 1 / speed;
        printf("%14.1f", speed);
        fflush(stdout);
    }
    putchar('\n');
    sid2_device_close(device);
    return ok;
}

static bool tune(const device_choice *on, bool dry, sid2_error *err)
{
    sid2_device *device = open_device(on, err);
    if (!device) return false;
    const sid2_device_info info = *sid2_device_describe(device);
    sid2_device_close(device);
    const sid2_backend *backend = NULL;
    int index = 0;
    if (!locate(info.id, &backend, &index) || !backend->blocks)
        return sid2_fail(err, SID2_ERR_USAGE, "%s has nothing to tune; --device vulkan:0 would", info.id);
    printf("device  %s: %s\n        %s\n\nGFLOP/s in f32%6s", info.id, info.name, info.driver, "");
    for (int i = 0; i < PRODUCTS; i++) printf("%14s", products[i].name);
    putchar('\n');
    const char *best = NULL, *blocks;
    double least = 0;
    for (int i = 0; (blocks = backend->blocks(index, i)); i++) {
        double total;
        if (!measure(info.id, blocks, SID2_F32, &total, err)) return false;
        if (!best || total < least) best = blocks, least = total;
    }
    printf("\nfastest: %s%s\n", best, dry ? " (not kept)" : "; kept for this device and driver");
    return dry || backend->keep_blocks(index, best, err);
}

int command_tune(int argc, char **argv)
{
    device_choice on = {0};
    bool dry = false;
    const option_row rows[] = {
        OPTION_DEVICE(&on.id),
        {OPTION_FLAG, "dry-run", NULL, &dry, "measure, and keep nothing", NULL},
    };
    int code = options_parse(&(option_table){"tune", "Find and keep a device's fastest block sizes", NULL,
                                             rows, sizeof rows / sizeof rows[0]},
                             argc, argv);
    if (code != OPTIONS_RUN) return code;
    sid2_error err = {0};
    return tune(&on, dry, &err) ? 0 : report_error("tune", &err);
}
