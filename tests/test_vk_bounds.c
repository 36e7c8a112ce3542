/* Every shader within its tensors.
 *
 *     test_vk_bounds [cases] [operator] [dtype]
 *
 * A driver that checks bounds drops what leaves a binding, and so hides it. Here every binding spans its whole buffer,
 * a signalling NaN lies in all memory from the start, past the end of every buffer, and before and after every
 * tensor: those of the call (core/opcheck.h), and those of scratch. A stray write changes a guard; a stray read that
 * counts makes the result NaN. Then shaders are made to stray, and each must be caught. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cpu.h"
#include "lowering.h"
#include "op_test.h"
#include "opcheck.h"
#include "vk.h"

enum { SKIPPED = 77, CASES = 10, MOST_BUFFERS = 256, MOST_GUARDS = 256 };
enum { TAIL = 64 << 10, GUARD = 512 }; /* bytes past a buffer's end, and around a scratch tensor */
static const size_t WHOLE =
    64 << 20; /* no test's buffer is larger: an alignment that puts bindings at its start */
static const uint32_t NAN_S = 0x7fa57fa5; /* a NaN of every type */

/* ---- Buffers in memory that the host sees ---- */

typedef struct canary {
    VkBuffer buffer;
    VkDeviceMemory memory;
    unsigned char *bytes;
    size_t size; /* with the tail */
} canary;

static canary canaries[MOST_BUFFERS];
static struct {
    VkBuffer buffer; /* the scratch of the program at hand: the first made after its calls were lowered */
    size_t begin[MOST_GUARDS], end[MOST_GUARDS];
    int count;
} guards;
static VkBuffer sized;
static size_t size_of_sized;
static int strays, host_type;
static bool quiet;

static PFN_vkCreateBuffer real_create;
static PFN_vkAllocateMemory real_allocate;
static PFN_vkBindBufferMemory real_bind;
static PFN_vkMapMemory real_map;
static PFN_vkDestroyBuffer real_destroy;
static PFN_vkUpdateDescriptorSets real_update;
static PFN_vkCreateBufferView real_view;
static PFN_vkCmdPushConstants real_push;
static PFN_vkCmdDispatch real_dispatch;

static void give_up(const char *why)
{
    printf("FAILED: %s\n", why);
    exit(1);
}

static VkResult VKAPI_CALL create_longer(VkDevice d, const VkBufferCreateInfo *i,
                                         const VkAllocationCallbacks *a, VkBuffer *b)
{
    VkBufferCreateInfo longer = *i;
    longer.size += TAIL;
    if (longer.size > WHOLE) give_up("a buffer is larger than this test is made for");
    VkResult result = real_create(d, &longer, a, b);
    sized = *b;
    size_of_sized = longer.size;
    return result;
}

static VkResult VKAPI_CALL allocate_on_host(VkDevice d, const VkMemoryAllocateInfo *i,
                                            const VkAllocationCallbacks *a, VkDeviceMemory *m)
{
    VkMemoryAllocateInfo host = *i;
    host.memoryTypeIndex = (uint32_t)host_type;
    return real_allocate(d, &host, a, m);
}

/* Follows its vkCreateBuffer, as sid2_vk_memory_create does it. */
static VkResult VKAPI_CALL bind_filled(VkDevice d, VkBuffer b, VkDeviceMemory m, VkDeviceSize o)
{
    VkResult result = real_bind(d, b, m, o);
    canary *c = canaries;
    while (c < canaries + MOST_BUFFERS && c->buffer) c++;
    if (c == canaries + MOST_BUFFERS || b != sized) give_up("buffers are not made as this test expects");
    void *bytes;
    if (result == VK_SUCCESS) result = real_map(d, m, 0, VK_WHOLE_SIZE, 0, &bytes);
    if (result != VK_SUCCESS) return result;
    *c = (canary){b, m, bytes, size_of_sized};
    for (size_t at = 0; at + 4 <= c->size; at += 4) memcpy(c->bytes + at, &NAN_S, 4);
    if (guards.count && !guards.buffer) guards.buffer = b;
    return result;
}

static VkResult VKAPI_CALL map_again(VkDevice d, VkDeviceMemory m, VkDeviceSize o, VkDeviceSize s,
                                     VkMemoryMapFlags f, void **p)
{
    for (canary *c = canaries; c < canaries + MOST_BUFFERS; c++)
        if (c->buffer && c->memory == m) return *p = c->bytes + o, VK_SUCCESS;
    return real_map(d, m, o, s, f, p);
}

static void look(const canary *c, size_t begin, size_t end, const char *where)
{
    for (size_t at = begin; at + 4 <= end; at += 4) {
        if (memcmp(c->bytes + at, &NAN_S, 4) == 0) continue;
        strays++;
        if (!quiet) printf("FAILED: a write %s, byte %zu of a buffer of %zu\n", where, at, c->size - TAIL);
        return;
    }
}

/* All that used the buffer is done. */
static void VKAPI_CALL destroy_looked_at(VkDevice d, VkBuffer b, const VkAllocationCallbacks *a)
{
    for (canary *c = canaries; b && c < canaries + MOST_BUFFERS; c++) {
        if (c->buffer != b) continue;
        look(c, c->size - TAIL, c->size, "past a buffer's end");
        for (int i = 0; b == guards.buffer && i < guards.count; i++)
            look(c, guards.begin[i], guards.end[i], "beside a scratch tensor");
        if (b == guards.buffer) guards.buffer = VK_NULL_HANDLE, guards.count = 0;
        *c = (canary){0};
    }
    real_destroy(d, b, a);
}

/* ---- Bindings that span whole buffers ---- */

static void VKAPI_CALL update_wide(VkDevice d, uint32_t n, const VkWriteDescriptorSet *w, uint32_t copies,
                                   const VkCopyDescriptorSet *c)
{
    for (uint32_t i = 0; i < n; i++) {
        VkWriteDescriptorSet write = w[i];
        VkDescriptorBufferInfo place = *w[i].pBufferInfo;
        if (place.offset) give_up("a binding does not begin with its buffer");
        place.range = VK_WHOLE_SIZE;
        write.pBufferInfo = &place;
        real_update(d, 1, &write, copies, c);
    }
}

static VkResult VKAPI_CALL view_wide(VkDevice d, const VkBufferViewCreateInfo *i,
                                     const VkAllocationCallbacks *a, VkBufferView *v)
{
    VkBufferViewCreateInfo wide = *i;
    wide.range = VK_WHOLE_SIZE;
    return real_view(d, &wide, a, v);
}

/* ---- Guards in scratch: the linker puts this before every lowering's calls (--wrap) ---- */

sid2_vk_tensor __real_sid2_vk_scratch(sid2_vk_lowering *lowering, sid2_dtype dtype, sid2_shape shape);
sid2_vk_tensor __wrap_sid2_vk_scratch(sid2_vk_lowering *lowering, sid2_dtype dtype, sid2_shape shape);

/* From byte `begin` on: a tensor's end, or the guard's own beginning. */
static void guard_scratch(sid2_vk_lowering *lowering, size_t begin)
{
    sid2_vk_tensor guard = __real_sid2_vk_scratch(lowering, SID2_F32, sid2_shape_of(GUARD / 4));
    if (guards.count == MOST_GUARDS) give_up("more scratch than this test is made for");
    guards.begin[guards.count] = begin;
    guards.end[guards.count++] = guard.offset + GUARD;
}

sid2_vk_tensor __wrap_sid2_vk_scratch(sid2_vk_lowering *lowering, sid2_dtype dtype, sid2_shape shape)
{
    guard_scratch(lowering, lowering->scratch_used);
    sid2_vk_tensor t = __real_sid2_vk_scratch(lowering, dtype, shape);
    guard_scratch(lowering, t.offset + sid2_vk_bytes(&t));
    return t;
}

/* ---- Mutations ---- */

typedef struct mutation {
    const char *what;
    sid2_op op;
    int number;            /* of the push constants, P(number); -1: none */
    uint32_t more, groups; /* added to it, and to the groups */
    bool in_guards;        /* seen by this test's own guards, not by opcheck's */
} mutation;

static const mutation *made; /* NULL: none */

static void VKAPI_CALL push_mutated(VkCommandBuffer c, VkPipelineLayout l, VkShaderStageFlags s, uint32_t o,
                                    uint32_t bytes, const void *values)
{
    uint32_t numbers[SID2_VK_BINDINGS + SID2_VK_PUSH];
    if (bytes != sizeof numbers) give_up("push constants are not as this test expects");
    memcpy(numbers, values, sizeof numbers);
    if (made && made->number >= 0) numbers[SID2_VK_BINDINGS + made->number] += made->more;
    real_push(c, l, s, o, bytes, numbers);
}

static void VKAPI_CALL dispatch_mutated(VkCommandBuffer c, uint32_t x, uint32_t y, uint32_t z)
{
    real_dispatch(c, x + (made ? made->groups : 0), y, z);
}

static const mutation mutations[] = {
    {"keeps to its tensors", SID2_OP_scale, -1, 0, 0, false},
    {"writes and reads one element too many", SID2_OP_scale, 0, 1, 1, false},
    {"copies an element too many", SID2_OP_patchify, 0, 1, 1, false},
    {"writes far behind the tensor", SID2_OP_scale, 0, 4096, 64, true},
    {"reads one element too many", SID2_OP_square_sums, 0, 1, 0, false},
    {"writes one element too many", SID2_OP_square_sums, -1, 0, 1, false},
    {"writes a part too many into scratch", SID2_OP_diffusion_loss, 1, 1, 1, true},
};

/* Whether it was caught, or, where nothing is wrong, nothing was. */
static bool try_mutation(const mutation *m, sid2_dtype dtype, const sid2_device_info *info)
{
    static const sid2_backend *const cpu = &sid2_backend_cpu, *const vk = &sid2_backend_vk;
    sid2_error err = {0};
    sid2_device *device = sid2_backends_open(&vk, 1, info->id, NULL, &err);
    sid2_device *reference = device ? sid2_backends_open(&cpu, 1, "reference", NULL, &err) : NULL;
    sid2_opcheck_result result = {0};
    strays = 0;
    quiet = true;
    made = m;
    bool ran = reference && sid2_opcheck_run(device, reference, m->op, dtype, 1, CASES, &result, &err);
    made = NULL;
    quiet = false;
    int seen = m->in_guards ? strays : result.failures;
    bool wrong = m->number >= 0 || m->groups, ok = ran && (seen > 0) == wrong;
    printf("%s%s (%s) that %s: %d of %d cases fail, %d writes beside scratch or past buffers%s%s%s%s\n",
           ok ? "" : "FAILED: ", sid2_op_name(m->op), sid2_dtype_name(dtype), m->what, result.failures,
           result.cases, strays, *err.message ? "; " : "", err.message, *result.failure ? "; " : "",
           result.failure);
    sid2_device_close(reference);
    sid2_device_close(device);
    strays = 0;
    return ok;
}

/* ---- */

static bool prepare(int index)
{
    int count;
    sid2_vk_gpu *gpu = (sid2_vk_gpu *)&sid2_vk_gpus(&count)[index];
    gpu->caps.offset_alignment = WHOLE;
    const VkMemoryPropertyFlags host =
        VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT;
    host_type = 0;
    while (host_type < (int)gpu->memory.memoryTypeCount &&
           (gpu->memory.memoryTypes[host_type].propertyFlags & host) != host)
        host_type++;
    return host_type < (int)gpu->memory.memoryTypeCount;
}

static void interpose(void)
{
#define SET(real, function, ours)                                                                            \
    real = function;                                                                                         \
    function = ours;
    SET(real_create, vkCreateBuffer, create_longer)
    SET(real_allocate, vkAllocateMemory, allocate_on_host)
    SET(real_bind, vkBindBufferMemory, bind_filled)
    SET(real_map, vkMapMemory, map_again)
    SET(real_destroy, vkDestroyBuffer, destroy_looked_at)
    SET(real_update, vkUpdateDescriptorSets, update_wide)
    SET(real_view, vkCreateBufferView, view_wide)
    SET(real_push, vkCmdPushConstants, push_mutated)
    SET(real_dispatch, vkCmdDispatch, dispatch_mutated)
}

int main(int argc, char **argv)
{
    op_test test = {.backend = &sid2_backend_vk,
                    .workers = 1,
                    .cases = argc > 1 ? atoi(argv[1]) : CASES,
                    .op = argc > 2 ? argv[2] : NULL,
                    .dtype = argc > 3 ? argv[3] : NULL};
    int devices = 0, failures = 0;
    for (int i = 0; i < sid2_backend_vk.count(); i++) {
        sid2_device_info info;
        if (!sid2_backend_vk.describe(i, NULL, &info) || !prepare(i)) continue;
        if (!devices++) interpose();
        test.device = info.id;
        failures += op_test_run(&test) + strays;
        for (size_t m = 0; m < sizeof mutations / sizeof *mutations; m++) {
            failures += !try_mutation(&mutations[m], SID2_F32, &info);
            if (info.f16) failures += !try_mutation(&mutations[m], SID2_F16, &info);
            if (info.bf16) failures += !try_mutation(&mutations[m], SID2_BF16, &info);
        }
    }
    if (!devices) printf("skipped: no Vulkan device\n");
    return failures ? 1 : devices ? 0 : SKIPPED;
}
