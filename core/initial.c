/* What parameters start from. Built with -ffp-contract=off, as normal.h asks. */
#include <stdlib.h>

#include "normal.h"
#include "params.h"

float *sid2_params_initial(const sid2_params *params, uint64_t seed, sid2_error *err)
{
    float *weights = calloc((size_t)params->elements, sizeof *weights);
    if (!weights) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory for the initial weights"), NULL;
    for (int32_t p = 0; p < params->count; p++) {
        const sid2_param *param = &params->item[p];
        float *out = weights + param->offset;
        int64_t count = sid2_shape_count(param->shape);
        for (int64_t i = 0; i < count; i += 4) {
            float normal[4] = {0};
            if (param->init_std != 0) {
                sid2_philox_block block =
                    sid2_philox(seed, (uint64_t)p, SID2_PURPOSE_INIT, (uint32_t)(i / 4));
                sid2_normal_pair(block.word[0], block.word[1], normal);
                sid2_normal_pair(block.word[2], block.word[3], normal + 2);
            }
            for (int64_t j = 0; j < 4 && i + j < count; j++)
                out[i + j] = param->init_mean + param->init_std * normal[j];
        }
    }
    return weights;
}
