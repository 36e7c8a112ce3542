#include "weights.h"

#include <stdlib.h>

bool sid2_weights_upload(sid2_buffers *buffers, const sid2_graph *graph, const float *flat, sid2_error *err)
{
    if (!sid2_buffers_upload(buffers, "weights", flat, err)) return false;
    if (graph->weights_low == graph->weights) return true;
    uint16_t *low = malloc((size_t)graph->param_elements * sizeof *low);
    if (!low) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory for the weights");
    for (int64_t i = 0; i < graph->param_elements; i++)
        low[i] = graph->compute == SID2_BF16 ? sid2_f32_to_bf16(flat[i]) : sid2_f32_to_f16(flat[i]);
    bool good = sid2_buffers_upload(buffers, "weights_low", low, err);
    free(low);
    return good;
}
