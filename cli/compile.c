#include "compile.h"

#include "cli.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "backends.h"
#include "file.h"
#include "opcheck.h"
#include "sampling.h"

enum { IMAGES = 8 }; /* at a time; a shader seldom depends on it */

static bool has_type(const sid2_device_info *info, sid2_dtype type)
{
    return type == SID2_F32 || (type == SID2_BF16 ? info->bf16 : info->f16);
}

/* ---- What is compiled ---- */

static bool compile_operators(const compile_job *job, sid2_device *device, sid2_error *err)
{
    static const sid2_dtype types[] = {SID2_F32, SID2_BF16, SID2_F16};
    const sid2_device_info *info = sid2_device_describe(device);
    for (int op = 0; op < SID2_OP_COUNT; op++)
        for (int t = 0; t < 3; t++) {
            if (interrupted()) return sid2_fail(err, SID2_ERR_CANCELLED, "stopped");
            if (has_type(info, types[t]) && sid2_device_supports(device, (sid2_op)op, types[t]) &&
                !sid2_opcheck_compile(device, (sid2_op)op, types[t], job->seed, job->cases, err))
                return false;
        }
    return true;
}

/* A graph on buffers of its own, which on this device are none. */
static bool compile_graph(sid2_device *device, const sid2_graph *g, sid2_error *err)
{
    sid2_binding *bindings = calloc((size_t)g->tensor_count + 1, sizeof *bindings);
    int count = 0;
    bool ok = bindings || sid2_fail(err, SID2_ERR_MEMORY, "out of memory");
    for (sid2_tensor t = 0; ok && t < g->tensor_count; t++) {
        const sid2_tensor_info *tensor = &g->tensors[t];
        if (!tensor->external || tensor->base != SID2_NONE) continue;
        size_t bytes = (size_t)sid2_shape_count(tensor->shape) * sid2_dtype_size(tensor->dtype);
        bindings[count].name = tensor->name;
        ok = (bindings[count++].buffer = sid2_buffer_create(device, bytes, err)) != NULL;
    }
    sid2_program *program = ok ? sid2_program_create(device, g, NULL, bindings, count, err) : NULL;
    sid2_program_destroy(program);
    for (int i = 0; i < count; i++) sid2_buffer_destroy(bindings[i].buffer);
    free(bindings);
    return program != NULL;
}

static bool compile_training(sid2_device *device, const sid2_config *config, sid2_error *err)
{
    sid2_training plan;
    sid2_recipe recipe = sid2_recipe_of(config);
    sid2_training_site site = sid2_training_site_of(sid2_device_describe(device), 0);
    if (!sid2_training_plan(config, &recipe, &site, &plan, err)) return false;
    bool ok = true;
    for (int i = 0; ok && i < plan.graph_count; i++) ok = compile_graph(device, plan.graph[i], err);
    sid2_training_clear(&plan);
    return ok;
}

static bool compile_sampling(sid2_device *device, const sid2_config *config, sid2_error *err)
{
    for (int pass = 0; pass < SID2_PASS_COUNT; pass++) {
        sid2_graph *g = sid2_pass_graph(config, NULL, (sid2_pass)pass, IMAGES, err);
        bool ok = g && compile_graph(device, g, err);
        sid2_graph_destroy(g);
        if (!ok) return false;
    }
    return true;
}

static bool compile_preset(sid2_device *device, const char *name, sid2_error *err)
{
    static const struct {
        const char *name;
        sid2_dtype type;
        bool trains;
    } types[] = {{"f32", SID2_F32, true}, {"bf16", SID2_BF16, true}, {"f16", SID2_F16, false}};
    sid2_config *config = sid2_config_create();
    bool ok = config || sid2_fail(err, SID2_ERR_MEMORY, "out of memory");
    ok = ok && sid2_config_preset(config, name, err) && config_set_int(config, "train.batch", IMAGES, err) &&
         config_set_int(config, "train.microbatch", IMAGES, err) &&
         config_set_int(config, "train.lanes", 1, err);
    for (size_t t = 0; ok && t < sizeof types / sizeof types[0]; t++) {
        if (!has_type(sid2_device_describe(device), types[t].type)) continue;
        if (types[t].trains)
            ok = config_set(config, "train.precision", types[t].name, err) &&
                 compile_training(device, config, err);
        ok = ok && config_set(config, "sample.precision", types[t].name, err) &&
             compile_sampling(device, config, err);
    }
    sid2_config_destroy(config);
    return ok;
}

static bool compile_all(const compile_job *job, sid2_device *device, sid2_error *err)
{
    if (!compile_operators(job, device, err)) return false;
    for (int i = 0; sid2_preset_name(i); i++) {
        if (interrupted()) return sid2_fail(err, SID2_ERR_CANCELLED, "stopped");
        if (!compile_preset(device, sid2_preset_name(i), err)) return false;
    }
    return true;
}

/* ---- Telling ---- */

static const char *const kinds[SID2_CODE_KINDS] = {"matrix", "fma", "vector", "memory", "barrier", "other"};

static void print_number(double number, int width)
{
    number < 0 ? printf(" %*s", width, "-") : printf(" %*.0f", width, number);
}

static void print_table(sid2_device *device)
{
    const sid2_code_report *r;
    printf("%-28s %5s %6s %7s %7s %5s %6s  of the hottest loop:", "shader", "regs", "spills", "scratch",
           "shared", "waves", "instr.");
    for (int k = 0; k < SID2_CODE_KINDS; k++) printf(" %7s", kinds[k]);
    puts("  made for");
    for (int i = 0; (r = sid2_device_report(device, i)); i++) {
        printf("%-28s", r->name);
        print_number(r->registers, 5);
        print_number(r->spills, 6);
        print_number(r->scratch_bytes, 7);
        print_number(r->shared_bytes, 7);
        print_number(r->subgroups, 5);
        print_number(r->instructions, 6);
        printf("  %20s", "");
        for (int k = 0; k < SID2_CODE_KINDS; k++) printf(" %7d", r->loop[k]);
        printf("  %s\n", r->made_for);
    }
}

static json_t *number_json(double number) { return number < 0 ? json_null() : json_real(number); }

static json_t *row_json(const sid2_code_report *r)
{
    json_t *loop = json_object();
    bool ok = loop != NULL;
    for (int k = 0; ok && k < SID2_CODE_KINDS; k++)
        ok = !json_object_set_new(loop, kinds[k], json_integer(r->loop[k]));
    if (ok)
        return json_pack("{s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "shader", r->name,
                         "made_for", r->made_for, "registers", number_json(r->registers), "scalar_registers",
                         number_json(r->scalar_registers), "spills", number_json(r->spills), "scratch_bytes",
                         number_json(r->scratch_bytes), "shared_bytes", number_json(r->shared_bytes),
                         "subgroup_size", number_json(r->subgroup), "subgroups", number_json(r->subgroups),
                         "instructions", number_json(r->instructions), "hot_loop", loop);
    json_decref(loop);
    return NULL;
}

static bool write_json(sid2_device *device, FILE *stream)
{
    const sid2_device_info *info = sid2_device_describe(device);
    const sid2_code_report *r;
    json_t *rows = json_array();
    bool ok = rows != NULL;
    for (int i = 0; ok && (r = sid2_device_report(device, i)); i++)
        ok = !json_array_append_new(rows, row_json(r));
    json_t *report =
        json_pack("{s:s, s:b, s:{s:s, s:s, s:s}, s:o}", "sid2", SID2_VERSION, "executed", 0, "device", "id",
                  info->id, "name", info->name, "driver", info->driver, "shaders", rows);
    ok = ok && report && json_dumpf(report, stream, JSON_INDENT(1) | JSON_ENSURE_ASCII) == 0 &&
         fputc('\n', stream) != EOF;
    json_decref(report);
    return ok;
}

static bool tell(const compile_job *job, sid2_device *device, sid2_error *err)
{
    if (!job->json_path) return print_table(device), true;
    sid2_atomic_file file = {0};
    bool prints = strcmp(job->json_path, "-") == 0;
    if (!prints && !sid2_output_open(&file, job->json_path, err)) return false;
    bool ok = write_json(device, prints ? stdout : file.stream) ||
              sid2_fail(err, SID2_ERR_IO, "cannot write the report to %s", job->json_path);
    if (ok && !prints) ok = sid2_atomic_commit(&file, err);
    sid2_atomic_discard(&file);
    return ok;
}

bool compile_and_tell(const compile_job *job, sid2_error *err)
{
    if (!sid2_compiler)
        return sid2_fail(err, SID2_ERR_UNSUPPORTED,
                         "--compile-only is of Vulkan, which this build is without");
    bool any = !job->device || strcmp(job->device, "auto") == 0;
    sid2_device *device =
        sid2_backends_open(&sid2_compiler, 1, any ? "vulkan" : job->device, &(sid2_device_options){0}, err);
    if (!device) return false;
    const sid2_device_info *info = sid2_device_describe(device);
    sid2_text_print(stderr, "sid2 check: %s (%s) COMPILES ONLY: nothing is executed, and nothing checked\n",
                    info->id, info->name);
    bool ok = compile_all(job, device, err) && tell(job, device, err);
    sid2_device_close(device);
    return ok;
}
