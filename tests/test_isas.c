/* The fast loops of every instruction set this machine has, also those that the device would not choose here
 * or leaves to oneDNN, against the float64 reference. Arguments: cases (150), operator (all). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cpu.h"
#include "kernel.h"
#include "opcheck.h"

/* A bare backend: device i runs the kernels of instruction set i, with two threads. Operators are checked one
 * node at a time, all tensors external. */
typedef struct bare_program {
    sid2_cpu_call call;
    const sid2_cpu_kernel *kernel;
    void *scratch;
} bare_program;

static int bare_count(void)
{
    int count = 0;
    while (sid2_cpu_isas[count]) count++;
    return count;
}

static bool bare_describe(int index, const sid2_device_options *options, sid2_device_info *info)
{
    (void)options;
    *info = (sid2_device_info){.rank = 1, .bf16 = true};
    snprintf(info->name, sizeof info->name, "%s", sid2_cpu_isas[index]->name);
    snprintf(info->id, sizeof info->id, "isa:%d", index);
    return sid2_cpu_isas[index]->usable();
}

static void *bare_open(int index, const sid2_device_options *options, sid2_error *err)
{
    (void)options, (void)err;
    return (void *)sid2_cpu_isas[index];
}

static void bare_close(void *self) { (void)self; }

static size_t bare_alignment(void *self)
{
    (void)self;
    return 64;
}

static bool bare_supports(void *self, sid2_op op, sid2_dtype compute)
{
    (void)compute;
    return ((const sid2_cpu_isa *)self)->kernels[op].run != NULL;
}

static void *bare_alloc(void *self, size_t bytes, sid2_error *err)
{
    (void)self;
    size_t rounded = (bytes + 127) / 64 * 64;
    void *memory = aligned_alloc(64, rounded);
    if (!memory) return sid2_fail(err, SID2_ERR_MEMORY, "no memory"), NULL;
    return memset(memory, 0, rounded);
}

static void bare_free(void *self, void *handle)
{
    (void)self;
    free(handle);
}

static bool bare_upload(void *self, void *handle, size_t offset, const void *from, size_t bytes,
                        sid2_error *err)
{
    (void)self, (void)err;
    memcpy((char *)handle + offset, from, bytes);
    return true;
}

static bool bare_download(void *self, const void *handle, size_t offset, void *to, size_t bytes,
                          sid2_error *err)
{
    (void)self, (void)err;
    memcpy(to, (const char *)handle + offset, bytes);
    return true;
}

static sid2_cpu_tensor bind(const sid2_graph *g, sid2_buffer *const *externals, sid2_tensor t)
{
    if (t == SID2_NONE) return (sid2_cpu_tensor){0};
    const sid2_tensor_info *info = &g->tensors[t];
    sid2_buffer *buffer = externals[info->base];
    return (sid2_cpu_tensor){.data =
                                 (char *)buffer->handle + (size_t)info->offset * sid2_dtype_size(info->dtype),
                             .dtype = info->dtype,
                             .shape = info->shape,
                             .version = &buffer->version};
}

static void bare_destroy(void *self, void *handle)
{
    (void)self;
    bare_program *program = handle;
    if (program->kernel->release) program->kernel->release(&program->call);
    free(program->scratch);
    free(program);
}

static void *bare_compile(void *self, const sid2_graph *graph, const sid2_plan *plan,
                          sid2_buffer *const *externals, sid2_error *err)
{
    (void)plan;
    const sid2_cpu_isa *isa = self;
    const sid2_node *node = &graph->nodes[0];
    bare_program *program = calloc(1, sizeof *program);
    if (!program) return sid2_fail(err, SID2_ERR_MEMORY, "no memory"), NULL;
    program->call = (sid2_cpu_call){.op = node->op, .attr = &node->attr, .threads = 2};
    for (int i = 0; i < SID2_MAX_INPUTS; i++) program->call.in[i] = bind(graph, externals, node->in[i]);
    for (int i = 0; i < SID2_MAX_OUTPUTS; i++) program->call.out[i] = bind(graph, externals, node->out[i]);
    program->kernel = &isa->ahead[node->op];
    if (!program->kernel->run || !program->kernel->prepare(&program->call, NULL)) {
        program->kernel = &isa->kernels[node->op];
        program->call.scratch_bytes = 0;
        if (program->kernel->prepare && !program->kernel->prepare(&program->call, err))
            return free(program), NULL;
    }
    program->scratch = bare_alloc(NULL, program->call.scratch_bytes, err);
    if (!program->scratch) return bare_destroy(self, program), NULL;
    program->call.scratch = program->scratch;
    return program;
}

static bool bare_run(void *self, void *handle, sid2_error *err)
{
    (void)self;
    bare_program *program = handle;
    program->kernel->run(&program->call);
    return program->call.failed ? sid2_fail(err, SID2_ERR_DEVICE, "the kernel failed") : true;
}

static size_t bare_workspace(void *self, void *handle)
{
    (void)self;
    return ((const bare_program *)handle)->call.scratch_bytes;
}

static const sid2_backend bare = {.name = "isa",
                                  .count = bare_count,
                                  .describe = bare_describe,
                                  .open = bare_open,
                                  .close = bare_close,
                                  .alignment = bare_alignment,
                                  .supports = bare_supports,
                                  .alloc = bare_alloc,
                                  .free = bare_free,
                                  .upload = bare_upload,
                                  .download = bare_download,
                                  .compile = bare_compile,
                                  .run = bare_run,
                                  .workspace = bare_workspace,
                                  .destroy = bare_destroy};

/* Returns how many kernels went wrong. */
static int check_isa(const char *id, sid2_device *reference, int cases, const char *only)
{
    static const sid2_backend *const backends[] = {&bare};
    sid2_error err = {0};
    sid2_device *device = sid2_backends_open(backends, 1, id, NULL, &err);
    if (!device) return printf("%s: not on this machine\n", id), 0;
    int failures = 0, checked = 0;
    for (int op = 0; op < SID2_OP_COUNT; op++) {
        if (only && strcmp(only, sid2_op_name((sid2_op)op)) != 0) continue;
        for (int d = 0; d < 2; d++) {
            const sid2_dtype dtype = d ? SID2_BF16 : SID2_F32;
            if (!sid2_device_supports(device, (sid2_op)op, dtype)) continue;
            sid2_opcheck_result result;
            checked++;
            bool ran = sid2_opcheck_run(device, reference, (sid2_op)op, dtype, 2, cases, &result, &err);
            if (ran && !result.failures) continue;
            failures++;
            printf("FAILED %s %s: %d of %d cases: %s\n", sid2_op_name((sid2_op)op), sid2_dtype_name(dtype),
                   result.failures, result.cases, ran ? result.failure : err.message);
        }
    }
    printf("%s: %d kernels, %d wrong\n", sid2_device_describe(device)->name, checked, failures);
    fflush(stdout);
    sid2_device_close(device);
    return failures;
}

int main(int argc, char **argv)
{
    static const sid2_backend *const backends[] = {&sid2_backend_cpu};
    const int cases = argc > 1 ? atoi(argv[1]) : 150;
    sid2_error err = {0};
    sid2_device *reference = sid2_backends_open(backends, 1, "reference", NULL, &err);
    if (!reference) return printf("%s\n", err.message), 1;
    int failures = 0;
    for (int i = 0; sid2_cpu_isas[i]; i++) {
        char id[16];
        snprintf(id, sizeof id, "isa:%d", i);
        failures += check_isa(id, reference, cases, argc > 2 ? argv[2] : NULL);
    }
    sid2_device_close(reference);
    return failures != 0;
}
