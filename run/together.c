#include "together.h"

bool sid2_sample_together(sid2_group *group, sid2_sampler *sampler, const uint64_t *seeds, int32_t *labels,
                          int count, const sid2_sample_kind *kind, uint8_t *pixels,
                          sid2_sample_callback callback, void *user, sid2_error *err)
{
    sid2_span share = sid2_group_part(group, sid2_group_rank(group), (sid2_span){0, count}, 1);
    size_t first = (size_t)share.first;
    const uint8_t *given = kind->given ? kind->given + first * kind->given_bytes : NULL;
    bool ok = !share.count ||
              sid2_sampler_run_clips(sampler, seeds + first, labels + first, (int)share.count, given,
                                     kind->frames, pixels + first * kind->bytes, callback, user, err);
    return sid2_group_concur(group, ok, err) &&
           sid2_group_spread(group, pixels, kind->bytes, count, 1, err) &&
           sid2_group_spread(group, labels, sizeof *labels, count, 1, err);
}
