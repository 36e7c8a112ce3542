/* The fast CPU device of each instruction set, own loops only: device "isa:i" has the kernels of
 * sid2_cpu_isas[i]. Shared by test_isas and test_digest. */
#ifndef SID2_TEST_ISA_BACKEND_H
#define SID2_TEST_ISA_BACKEND_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "device.h"
#include "kernel.h"

/* A bare backend: device i runs the kernels of instruction set i, on two threads where none are asked for. */
typedef struct bare_device {
    sid2_kernel_table table[2];
    sid2_kernels kernels;
} bare_device;

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
    enum { TYPES = SID2_TYPE_BIT(SID2_F32) | SID2_TYPE_BIT(SID2_BF16) };
    const sid2_cpu_isa *isa = sid2_cpu_isas[index];
    bare_device *device = calloc(1, sizeof *device);
    if (!device) return sid2_fail(err, SID2_ERR_MEMORY, "no memory"), NULL;
    *device = (bare_device){.table = {{TYPES, isa->ahead}, {TYPES, isa->kernels}}};
    device->kernels.threads = options && options->threads ? options->threads : 2;
    for (int i = 0; i < 2; i++) device->kernels.tables[i] = &device->table[i];
    return device;
}

static void bare_close(void *self) { free(self); }

static size_t bare_alignment(void *self)
{
    (void)self;
    return 64;
}

static bool bare_supports(void *self, sid2_op op, sid2_dtype compute)
{
    return sid2_kernels_have(&((bare_device *)self)->kernels, op, compute);
}

static void *bare_alloc(void *self, size_t bytes, const char *what, bool zero, sid2_error *err)
{
    (void)self;
    size_t rounded = (bytes + 127) / 64 * 64;
    void *memory = aligned_alloc(64, rounded);
    if (!memory) return sid2_fail(err, SID2_ERR_MEMORY, "no memory for %s", what), NULL;
    return memset(memory, zero ? 0 : 0xff, rounded);
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

static void *bare_compile(void *self, sid2_steps *steps, sid2_arena *arena, sid2_error *err)
{
    void *scratch;
    if (!sid2_steps_prepare(steps, &((bare_device *)self)->kernels, err) ||
        !sid2_arena_scratch(arena, steps->scratch_bytes, &scratch, err))
        return NULL;
    sid2_steps_give_scratch(steps, scratch);
    return steps;
}

static bool bare_run(void *self, void *handle, int section, sid2_error *err)
{
    (void)self, (void)section;
    sid2_steps *steps = handle;
    steps->error.code = SID2_OK;
    for (int32_t n = 0; n < steps->count; n++) steps->item[n].kernel->run(&steps->item[n].call);
    return !steps->error.code || sid2_fail(err, steps->error.code, "%s", steps->error.message);
}

static size_t bare_workspace(void *self, void *handle)
{
    (void)self, (void)handle;
    return 0;
}

static void bare_destroy(void *self, void *handle) { (void)self, (void)handle; }

static const sid2_backend bare = {.name = "isa",
                                  .count = bare_count,
                                  .describe = bare_describe,
                                  .open = bare_open,
                                  .close = bare_close,
                                  .addresses = true,
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

#endif
