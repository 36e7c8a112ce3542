/* The Vulkan backend behind core's device interface. */
#include "cache.h"
#include "vk.h"

#include "lowering.h"
#include "program.h"
#include "report.h"
#include "transfer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int vk_count(void)
{
    int count;
    sid2_vk_gpus(&count);
    return count;
}

/* Any GPU comes before the CPU backend (10), and that before a CPU that plays a GPU. */
static int rank(const sid2_vk_gpu *gpu)
{
    switch (gpu->properties.deviceType) {
    case VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU: return 40;
    case VK_PHYSICAL_DEVICE_TYPE_VIRTUAL_GPU: return 30;
    case VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU: return 20;
    default: return 5;
    }
}

static bool vk_describe(int index, const sid2_device_options *options, sid2_device_info *info)
{
    (void)options;
    int count;
    const sid2_vk_gpu *gpus = sid2_vk_gpus(&count);
    if (index < 0 || index >= count) return false;
    const sid2_vk_gpu *gpu = &gpus[index];
    const sid2_vk_caps *caps = &gpu->caps;
    *info = (sid2_device_info){.memory = sid2_vk_gpu_free_memory(gpu),
                               .bf16 = caps->storage16,
                               .f16 = caps->storage16,
                               .fast = caps->cooperative.bf16 ? SID2_BF16 : SID2_F32,
                               .fast_sample = caps->cooperative.m ? SID2_F16 : SID2_F32,
                               .rank = rank(gpu)};
    snprintf(info->name, sizeof info->name, "%.120s", gpu->properties.deviceName);
    snprintf(info->id, sizeof info->id, "vulkan:%d", index);
    snprintf(info->driver, sizeof info->driver, "%.100s, Vulkan %u.%u", gpu->driver,
             VK_API_VERSION_MAJOR(gpu->api), VK_API_VERSION_MINOR(gpu->api));
    int used = snprintf(info->detail, sizeof info->detail, "variants: f32%s%s",
                        caps->storage16 ? ", 16-bit storage" : "",
                        caps->subgroup_arithmetic ? ", subgroup arithmetic" : "");
    if (caps->cooperative.m)
        used += snprintf(info->detail + used, sizeof info->detail - (size_t)used,
                         ", cooperative matrix %ux%ux%u of f16%s", caps->cooperative.m, caps->cooperative.n,
                         caps->cooperative.k, caps->cooperative.bf16 ? " and bf16" : "");
    else if (gpu->cooperative == SID2_VK_WRONG)
        used += snprintf(info->detail + used, sizeof info->detail - (size_t)used,
                         ", cooperative matrices not used (they failed the check)");
    char kept[SID2_VK_TILE_NAME];
    const sid2_vk_tiles *tiles = sid2_vk_tiles_load(gpu, kept) ? sid2_vk_tiles_find(caps, kept) : NULL;
    snprintf(info->detail + used, sizeof info->detail - (size_t)used, "; blocks %s%s",
             tiles ? tiles->name : sid2_vk_tiles_for(caps)->name, tiles ? " (measured)" : "");
    return true;
}

static const char *vk_blocks(int index, int i)
{
    int count;
    const sid2_vk_gpu *gpus = sid2_vk_gpus(&count);
    const sid2_vk_tiles *tiles = index < count ? sid2_vk_tiles_candidate(&gpus[index].caps, i) : NULL;
    return tiles ? tiles->name : NULL;
}

static bool vk_keep_blocks(int index, const char *name, sid2_error *err)
{
    int count;
    const sid2_vk_gpu *gpus = sid2_vk_gpus(&count);
    if (index >= count || !sid2_vk_tiles_find(&gpus[index].caps, name))
        return sid2_fail(err, SID2_ERR_USAGE, "vulkan:%d: there are no block sizes '%s' for it", index, name);
    return sid2_vk_tiles_keep(&gpus[index], name, err);
}

static bool vk_missing(int line, char text[200])
{
    const char *missing = sid2_vk_missing();
    if (line > 0 || !missing) return false;
    snprintf(text, 200, "%s", missing);
    return true;
}

static void *vk_open(int index, const sid2_device_options *options, sid2_error *err)
{
    return sid2_vk_device_open(index, options->blocks, err);
}

static void vk_close(void *self) { sid2_vk_device_close(self); }

static size_t vk_alignment(void *self)
{
    size_t needed = ((sid2_vk_device *)self)->caps->offset_alignment;
    return needed > 256 ? needed : 256;
}

static bool vk_supports(void *self, sid2_op op, sid2_dtype compute)
{
    const sid2_vk_caps *caps = ((sid2_vk_device *)self)->caps;
    bool type = compute == SID2_F32 || ((compute == SID2_BF16 || compute == SID2_F16) && caps->storage16);
    return type && sid2_vk_lowers(op);
}

static void vk_free(void *self, void *handle)
{
    if (!handle) return;
    sid2_vk_device *device = self;
    sid2_error ignored;
    /* Commands that cannot be submitted must not outlive what they use: better no device than a wrong one. */
    if (!sid2_vk_flush(device, &ignored) && !sid2_vk_flush(device, &ignored)) device->lost = true;
    sid2_vk_idle(device);
    sid2_vk_memory_destroy(self, handle);
    free(handle);
}

static size_t vk_largest(void *self) { return ((sid2_vk_device *)self)->gpu->max_allocation; }

static void *vk_alloc(void *self, size_t bytes, const char *what, bool zero, sid2_error *err)
{
    sid2_vk_memory *memory = calloc(1, sizeof *memory);
    if (!memory) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory for a buffer"), NULL;
    if (sid2_vk_memory_create(self, SID2_VK_ON_DEVICE, bytes, what, memory, err)) {
        if (!zero || sid2_vk_zero(self, memory, err)) return memory;
        sid2_vk_memory_destroy(self, memory);
    }
    free(memory);
    return NULL;
}

static bool vk_upload(void *self, void *handle, size_t offset, const void *from, size_t bytes,
                      sid2_error *err)
{
    return sid2_vk_upload(self, handle, offset, from, bytes, err);
}

static bool vk_download(void *self, const void *handle, size_t offset, void *to, size_t bytes,
                        sid2_error *err)
{
    return sid2_vk_download(self, handle, offset, to, bytes, err);
}

static bool vk_download_later(void *self, const void *handle, size_t offset, void *to, size_t bytes,
                              sid2_error *err)
{
    return sid2_vk_download_later(self, handle, offset, to, bytes, err);
}

static void *vk_compile(void *self, sid2_steps *steps, sid2_arena *arena, sid2_error *err)
{
    return sid2_vk_program_create(self, steps, arena, err);
}

static bool vk_run(void *self, void *program, int section, sid2_error *err)
{
    return sid2_vk_program_run(self, program, section, err);
}

static size_t vk_workspace(void *self, void *program)
{
    (void)self;
    return sid2_vk_program_workspace(program);
}

static const sid2_node_time *vk_profile(void *self, void *program)
{
    return sid2_vk_program_profile(self, program);
}

static void vk_destroy(void *self, void *program) { sid2_vk_program_destroy(self, program); }

const sid2_backend sid2_backend_vk = {
    .name = "vulkan",
    .count = vk_count,
    .describe = vk_describe,
    .missing = vk_missing,
    .blocks = vk_blocks,
    .keep_blocks = vk_keep_blocks,
    .open = vk_open,
    .close = vk_close,
    .alignment = vk_alignment,
    .largest = vk_largest,
    .supports = vk_supports,
    .alloc = vk_alloc,
    .free = vk_free,
    .upload = vk_upload,
    .download = vk_download,
    .download_later = vk_download_later,
    .compile = vk_compile,
    .run = vk_run,
    .workspace = vk_workspace,
    .profile = vk_profile,
    .destroy = vk_destroy,
};

/* ---- Compiling only ---- */

static void *compiler_open(int index, const sid2_device_options *options, sid2_error *err)
{
    return sid2_vk_compiler_open(index, options->blocks, err);
}

static void compiler_free(void *self, void *handle)
{
    (void)self;
    free(handle);
}

/* A place on paper: it has a size, and no memory. */
static void *compiler_alloc(void *self, size_t bytes, const char *what, bool zero, sid2_error *err)
{
    (void)self, (void)what, (void)zero;
    sid2_vk_memory *memory = calloc(1, sizeof *memory);
    if (!memory) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory for a buffer"), NULL;
    memory->bytes = bytes;
    return memory;
}

static bool compiler_upload(void *self, void *handle, size_t offset, const void *from, size_t bytes,
                            sid2_error *err)
{
    (void)self, (void)handle, (void)offset, (void)from, (void)bytes, (void)err;
    return true;
}

static bool nothing_runs(void *self, sid2_error *err)
{
    return sid2_fail(err, SID2_ERR_UNSUPPORTED, "%s was opened to compile only: nothing is executed on it",
                     ((sid2_vk_device *)self)->id);
}

static bool compiler_download(void *self, const void *handle, size_t offset, void *to, size_t bytes,
                              sid2_error *err)
{
    (void)handle, (void)offset, (void)to, (void)bytes;
    return nothing_runs(self, err);
}

/* The pipelines are the device's; a program is nothing beside them. */
static void *compiler_compile(void *self, sid2_steps *steps, sid2_arena *arena, sid2_error *err)
{
    (void)arena;
    return sid2_vk_program_compile(self, steps, err) ? self : NULL;
}

static bool compiler_run(void *self, void *program, int section, sid2_error *err)
{
    (void)program, (void)section;
    return nothing_runs(self, err);
}

static size_t compiler_workspace(void *self, void *program)
{
    (void)self, (void)program;
    return 0;
}

static void compiler_destroy(void *self, void *program) { (void)self, (void)program; }

static const sid2_code_report *compiler_report(void *self, int i)
{
    return sid2_vk_reports_at(((sid2_vk_device *)self)->reports, i);
}

const sid2_backend sid2_backend_vk_compiler = {
    .name = "vulkan",
    .count = vk_count,
    .describe = vk_describe,
    .missing = vk_missing,
    .open = compiler_open,
    .close = vk_close,
    .alignment = vk_alignment,
    .supports = vk_supports,
    .alloc = compiler_alloc,
    .free = compiler_free,
    .upload = compiler_upload,
    .download = compiler_download,
    .compile = compiler_compile,
    .run = compiler_run,
    .workspace = compiler_workspace,
    .destroy = compiler_destroy,
    .report = compiler_report,
};
