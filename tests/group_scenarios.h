/* What ranks do together, held against what it should come to: for each way there is to carry bytes. */
#ifndef SID2_TEST_GROUP_SCENARIOS_H
#define SID2_TEST_GROUP_SCENARIOS_H

#include "census.h"
#include "group.h"
#include "philox.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SCENARIO_RANKS = 16 };

/* ---- Each returns what was wrong, or NULL ---- */

static int64_t grain = 1; /* elements that ranges and blocks are multiples of */

typedef const char *scenario(sid2_group *group, sid2_device *device, uint64_t number);

static float value(uint64_t number, int rank, int64_t i)
{
    sid2_philox_block block = sid2_philox(number, (uint64_t)i, (uint32_t)rank, 7);
    return (float)(int32_t)block.word[0] * (float)(block.word[1] % 1000);
}

static float rounded(float value, bool low)
{
    return low ? sid2_bf16_to_f32(sid2_f32_to_bf16(value)) : value;
}

/* The sum over `ranks` from `first`, in the tree; low: what is added is rounded. */
static float tree(uint64_t number, int first, int ranks, int64_t i, bool low)
{
    if (ranks == 1) return value(number, first, i);
    return rounded(tree(number, first, ranks / 2, i, low), low) +
           rounded(tree(number, first + ranks / 2, ranks / 2, i, low), low);
}

static sid2_buffer *make_buffer(sid2_device *device, const float *values, int64_t count)
{
    size_t bytes = (size_t)count * sizeof *values;
    sid2_buffer *buffer = sid2_buffer_create(device, bytes + 4, NULL);
    if (buffer && !sid2_buffer_upload(buffer, 0, values, bytes, NULL)) abort();
    return buffer;
}

/* A range's sum, then all of it to all; and what lies beside it stays. */
static bool sum_and_spread(sid2_group *group, sid2_device *device, float *values, int64_t count,
                           sid2_span range, int64_t block, bool low)
{
    sid2_buffer *buffer = make_buffer(device, values, count);
    bool ok = buffer && sid2_group_sum(group, buffer, range, block, low, NULL) &&
              sid2_group_spread_buffers(group, &(sid2_parted){buffer, sizeof *values, NULL, NULL}, 1, range,
                                        block, NULL) &&
              sid2_group_finish(group, NULL) &&
              sid2_buffer_download(buffer, 0, values, (size_t)count * sizeof *values, NULL);
    sid2_buffer_destroy(buffer);
    return ok;
}

static const char *sums(sid2_group *group, sid2_device *device, uint64_t number)
{
    int rank = sid2_group_rank(group), ranks = sid2_group_ranks(group);
    sid2_philox_block draw = sid2_philox(number, 1, 2, 3);
    int64_t block = grain * (1 + draw.word[0] % 50), count = draw.word[1] % 4000, covered = 0;
    sid2_span range = {count ? draw.word[2] % count / grain * grain : 0, 0};
    range.count = count ? draw.word[3] % (count - range.first + 1) : 0;
    bool low = number % 3 == 0;
    float *values = malloc(((size_t)count + 1) * sizeof *values);
    for (int64_t i = 0; i < count; i++) values[i] = value(number, rank, i);
    const char *wrong =
        sum_and_spread(group, device, values, count, range, block, low) ? NULL : "a call failed";
    for (int r = 0; r < ranks; r++) {
        sid2_span part = sid2_group_part(group, r, range, block);
        covered += part.count;
        if (part.count && (part.first - range.first) % block) wrong = "a part begins within a block";
    }
    if (covered != range.count) wrong = "the parts are not the whole";
    for (int64_t i = 0; !wrong && i < count; i++) {
        bool inside = i >= range.first && i < range.first + range.count;
        if (inside && values[i] != tree(number, 0, ranks, i, low)) wrong = "a sum is not the tree's";
        if (!inside && values[i] != value(number, rank, i)) wrong = "something beside the range changed";
    }
    free(values);
    return wrong;
}

/* Host memory: what a rank has is spread, gathered, shared, agreed on. */
static const char *words(sid2_group *group, sid2_device *device, uint64_t number)
{
    int rank = sid2_group_rank(group), ranks = sid2_group_ranks(group);
    uint64_t all[SCENARIO_RANKS] = {0}, told = rank ? 0 : number, spread[100] = {0};
    uint32_t flags = 1u << rank;
    sid2_error err = {0};
    (void)device;
    all[rank] = number + (uint64_t)rank;
    sid2_span own = sid2_group_part(group, rank, (sid2_span){0, 100}, 3);
    for (int64_t i = own.first; i < own.first + own.count; i++) spread[i] = (uint64_t)i * number;
    if (!sid2_group_gather(group, all, sizeof *all, NULL) ||
        !sid2_group_share(group, &told, sizeof told, NULL) || !sid2_group_agree(group, &flags, NULL) ||
        !sid2_group_spread(group, spread, sizeof *spread, 100, 3, NULL) ||
        !sid2_group_concur(group, true, &err))
        return "a call failed";
    for (int r = 0; r < ranks; r++)
        if (all[r] != number + (uint64_t)r) return "gather brought something else";
    for (uint64_t i = 0; i < 100; i++)
        if (spread[i] != i * number) return "spread brought something else";
    if (flags != (uint32_t)((1ull << ranks) - 1)) return "a flag got lost";
    if (told != number) return "share brought something else";
    /* One or two ranks have an error; all have the first one's then. */
    int first = (int)(number % (uint64_t)ranks);
    bool well = rank != first && rank != ranks - 1;
    if (!well) sid2_fail(&err, SID2_ERR_FORMAT, "cause %d", rank);
    char expected[40];
    snprintf(expected, sizeof expected, "cause %d", first);
    if (sid2_group_concur(group, well, &err)) return "an error got lost";
    return err.code == SID2_ERR_FORMAT && strstr(err.message, expected) ? NULL : "another rank's error";
}

/* More than a piece (core/group_inside.h), and unequal halves. */
static const char *large(sid2_group *group, sid2_device *device, uint64_t number)
{
    int rank = sid2_group_rank(group), p = sid2_group_ranks(group);
    int64_t count = (3 << 20) + 12345, block = 16384;
    float *values = malloc((size_t)count * sizeof *values);
    uint64_t before = sid2_group_sent(group);
    for (int64_t i = 0; i < count; i++) values[i] = (float)(i % 1000 + rank);
    const char *wrong = sum_and_spread(group, device, values, count, (sid2_span){0, count}, block, false)
                            ? NULL
                            : "a call failed";
    for (int64_t i = 0; !wrong && i < count; i++)
        if (values[i] != (float)(p * (i % 1000) + p * (p - 1) / 2)) wrong = "a sum is wrong";
    double expected = 8.0 * (double)count * (p - 1) / p, sent = (double)(sid2_group_sent(group) - before);
    if (!wrong && (sent < 0.98 * expected || sent > 1.02 * expected))
        wrong = "more or fewer bytes than planned";
    free(values);
    (void)number;
    return wrong;
}

/* Where `odd` is a rank, it alone differs from the others, in one of several ways. */
static bool compare(sid2_group *group, int odd, uint64_t way, sid2_error *err)
{
    bool is_odd = sid2_group_rank(group) == odd;
    sid2_census *census = sid2_census_create(err);
    sid2_census_add(census, "version", "%d.%d", 1, 2);
    sid2_census_add(census, "train.batch", "%d", is_odd && way == 0 ? 64 : 32);
    if (!is_odd || way != 1) sid2_census_add(census, "threads", "%d", 4);
    if (is_odd && way == 2) sid2_census_add(census, "gpu", "a\tb\033");
    bool same = sid2_census_compare(census, group, err);
    sid2_census_destroy(census);
    return same;
}

static const char *mixed(sid2_group *group, sid2_device *device, uint64_t number)
{
    static const char *const says[] = {"train.batch is 64, rank 0's is 32", "it has no threads",
                                       "rank 0 has no gpu"};
    int odd = 1 + (int)(number % (uint64_t)(sid2_group_ranks(group) - 1));
    char who[32];
    sid2_error err = {0};
    (void)device;
    snprintf(who, sizeof who, "rank %d on ", odd);
    if (!compare(group, -1, 0, &err)) return "ranks that are alike are refused";
    for (uint64_t way = 0; way < 3; way++) {
        if (compare(group, odd, way, &err)) return "a rank that differs is not seen";
        if (err.code != SID2_ERR_USAGE || strncmp(err.message, who, strlen(who)) != 0 ||
            !strstr(err.message, says[way]))
            return "another difference is named";
    }
    return NULL;
}

/* One folder for all, then one that a rank does not share. */
static const char *folders(sid2_group *group, sid2_device *device, uint64_t number)
{
    char shared[64] = "/tmp/sid2-group-XXXXXX", own[80], who[32];
    int rank = sid2_group_rank(group), last = sid2_group_ranks(group) - 1;
    sid2_error err = {0};
    bool ok = (rank || mkdtemp(shared)) && sid2_group_share(group, shared, sizeof shared, NULL);
    snprintf(own, sizeof own, "%s%s", shared, rank == last ? "/beside" : "");
    snprintf(who, sizeof who, "rank %d on ", last);
    (void)number, (void)device;
    const char *wrong =
        ok && sid2_census_folder(group, shared, 20, &err) ? NULL : "one folder is taken for several";
    if (!wrong && sid2_census_folder(group, own, 0.3, &err)) wrong = "a folder of one's own is not seen";
    if (!wrong && (err.code != SID2_ERR_USAGE || strncmp(err.message, who, strlen(who)) != 0))
        wrong = "another rank is named";
    if (!rank && rmdir(shared)) wrong = "something is left in the folder";
    return wrong;
}

static scenario *const scenarios[] = {sums, words, large, mixed, folders};
static const int rounds[] = {40, 10, 1, 3, 1};
enum {
    SCENARIOS = sizeof scenarios / sizeof *scenarios,
    FIRST_OF_SEVERAL = 3
}; /* which want several ranks */

static const char *play(sid2_group *group, sid2_device *device, int s)
{
    sid2_error err = {0};
    const char *wrong = sid2_group_attach(group, device, &err) ? NULL : "no device";
    for (int i = 0; !wrong && i < rounds[s]; i++) wrong = scenarios[s](group, device, 100 + (uint64_t)i);
    return wrong;
}

#endif
