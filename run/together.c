#include "together.h"

bool sid2_sample_together(sid2_group *group, sid2_sampler *sampler, const uint64_t *seeds, int32_t *labels,
                          int count, size_t image_bytes, uint8_t *pixels, sid2_sample_callback callback,
                          void *user, sid2_error *err)
{
    sid2_span share = sid2_group_part(group, sid2_group_rank(group), (sid2_span){0, count}, 1);
    size_t first = (size_t)share.first;
    bool ok = !share.count || sid2_sampler_run(sampler, seeds + first, labels + first, (int)share.count,
                                               pixels + first * image_bytes, callback, user, err);
    return sid2_group_concur(group, ok, err) &&
           sid2_group_spread(group, pixels, image_bytes, count, 1, err) &&
           sid2_group_spread(group, labels, sizeof *labels, count, 1, err);
}
