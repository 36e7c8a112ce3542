/* What GPU-assisted validation sees: bindings that end before their tensors do, so that right shaders leave them.
 *
 *     short_bindings OPERATOR BYTES
 *
 * Every binding of OPERATOR's shaders is BYTES shorter than it should be. Run by test_vk_assisted.sh under the layer, which
 * has to say so; without it a driver drops what lies outside, and results are wrong or not. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cpu.h"
#include "opcheck.h"
#include <volk.h>

#include "vk.h"

static VkDeviceSize less;
static PFN_vkUpdateDescriptorSets real_update;

static void VKAPI_CALL update_short(VkDevice d, uint32_t n, const VkWriteDescriptorSet *w, uint32_t copies,
                                    const VkCopyDescriptorSet *c)
{
    for (uint32_t i = 0; i < n; i++) {
        VkWriteDescriptorSet write = w[i];
        VkDescriptorBufferInfo place = *w[i].pBufferInfo;
        if (place.range > less) place.range -= less;
        write.pBufferInfo = &place;
        real_update(d, 1, &write, copies, c);
    }
}

int main(int argc, char **argv)
{
    static const sid2_backend *const cpu = &sid2_backend_cpu, *const vk = &sid2_backend_vk;
    sid2_error err = {0};
    int op = 0;
    while (argc == 3 && op < SID2_OP_COUNT && strcmp(sid2_op_name((sid2_op)op), argv[1]) != 0) op++;
    if (argc != 3 || op == SID2_OP_COUNT) return fprintf(stderr, "which operator, and how many bytes?\n"), 2;
    sid2_device *device = sid2_backends_open(&vk, 1, "vulkan", NULL, &err);
    if (!device) return printf("skipped: %s\n", err.message), 77;
    less = strtoull(argv[2], NULL, 10);
    real_update = vkUpdateDescriptorSets;
    vkUpdateDescriptorSets = update_short;
    sid2_device *reference = sid2_backends_open(&cpu, 1, "reference", NULL, &err);
    sid2_opcheck_result result = {0};
    if (!reference || !sid2_opcheck_run(device, reference, (sid2_op)op, SID2_F32, 1, 3, &result, &err))
        return printf("FAILED: %s\n", err.message), 1;
    printf("%s: %d of %d cases fail\n", argv[1], result.failures, result.cases);
    sid2_device_close(reference);
    sid2_device_close(device);
    return 0;
}
