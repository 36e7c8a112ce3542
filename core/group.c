#include "group.h"

#include <stdlib.h>
#include <string.h>

enum { PIECE = 1 << 20 }; /* elements received at a time, before they are added */

struct sid2_group {
    const sid2_transport *transport;
    void *self;
    sid2_place place;
    double seconds;
    uint64_t sent;
    float *received; /* [PIECE] */
};

sid2_group *sid2_group_join(const sid2_transport *transport, const sid2_place *place, double seconds,
                            sid2_error *err)
{
    if (place->ranks & (place->ranks - 1))
        return sid2_fail(err, SID2_ERR_USAGE, "%d ranks: sums in a fixed order need a power of two",
                         place->ranks),
               NULL;
    sid2_group *g = malloc(sizeof *g);
    float *received = malloc(PIECE * sizeof *received);
    if (g) *g = (sid2_group){transport, .place = *place, .seconds = seconds, .received = received};
    if (!g || !received)
        sid2_fail(err, SID2_ERR_MEMORY, "out of memory joining %d ranks", place->ranks);
    else if ((g->self = transport->join(place, err)))
        return g;
    free(received);
    free(g);
    return NULL;
}

void sid2_group_leave(sid2_group *g, bool in_order)
{
    if (!g) return;
    g->transport->leave(g->self, in_order);
    free(g->received);
    free(g);
}

const sid2_place *sid2_group_place(const sid2_group *g) { return &g->place; }
uint64_t sid2_group_sent(const sid2_group *g) { return g->sent; }

static bool exchange(sid2_group *g, const sid2_transfer *transfer, sid2_error *err)
{
    g->sent += transfer->send_bytes;
    return g->transport->exchange(g->self, transfer, 1, g->seconds, err);
}

/* ---- Parts ---- */

/* What a rank holds once the bits of its number below `bit` have halved [0, count), and what it gives away at `bit`. */
typedef struct halves {
    sid2_span keep, give;
} halves;

static halves halve(sid2_span span, bool upper, int64_t block)
{
    int64_t blocks = (span.count + block - 1) / block, low = (blocks + 1) / 2 * block;
    if (low > span.count) low = span.count;
    sid2_span lower = {span.first, low}, higher = {span.first + low, span.count - low};
    return upper ? (halves){higher, lower} : (halves){lower, higher};
}

static halves halves_at(int rank, int bit, int64_t count, int64_t block)
{
    halves h = {.keep = {0, count}};
    for (int b = 1; b <= bit; b <<= 1) h = halve(h.keep, rank & b, block);
    return h;
}

sid2_span sid2_group_part(const sid2_group *g, int rank, int64_t count, int64_t block)
{
    return halves_at(rank, g->place.ranks >> 1, count, block).keep;
}

/* ---- Sums ---- */

static int64_t within(int64_t from, int64_t count)
{
    int64_t left = count - from;
    return left < 0 ? 0 : left < PIECE ? left : PIECE;
}

static bool sum_with(sid2_group *g, int peer, float *values, halves h, sid2_error *err)
{
    for (int64_t at = 0; at < h.keep.count || at < h.give.count; at += PIECE) {
        int64_t send = within(at, h.give.count), receive = within(at, h.keep.count);
        const sid2_transfer transfer = {peer, values + h.give.first + at, (size_t)send * sizeof(float),
                                        g->received, (size_t)receive * sizeof(float)};
        if (!exchange(g, &transfer, err)) return false;
        float *sum = values + h.keep.first + at;
        for (int64_t i = 0; i < receive; i++) sum[i] += g->received[i];
    }
    return true;
}

bool sid2_group_sum(sid2_group *g, float *values, int64_t count, int64_t block, sid2_error *err)
{
    for (int bit = 1; bit < g->place.ranks; bit <<= 1)
        if (!sum_with(g, g->place.rank ^ bit, values, halves_at(g->place.rank, bit, count, block), err))
            return false;
    return true;
}

bool sid2_group_spread(sid2_group *g, void *values, size_t size, int64_t count, int64_t block,
                       sid2_error *err)
{
    char *bytes = values;
    for (int bit = g->place.ranks >> 1; bit; bit >>= 1) {
        halves h = halves_at(g->place.rank, bit, count, block);
        const sid2_transfer transfer = {g->place.rank ^ bit, bytes + (size_t)h.keep.first * size,
                                        (size_t)h.keep.count * size, bytes + (size_t)h.give.first * size,
                                        (size_t)h.give.count * size};
        if (!exchange(g, &transfer, err)) return false;
    }
    return true;
}

/* ---- Small things ---- */

bool sid2_group_gather(sid2_group *g, void *all, size_t size, sid2_error *err)
{
    for (int bit = 1; bit < g->place.ranks; bit <<= 1) { /* `bit` ranks are known, from `first` */
        int first = g->place.rank & -bit, other = first ^ bit;
        const sid2_transfer transfer = {g->place.rank ^ bit, (char *)all + (size_t)first * size,
                                        (size_t)bit * size, (char *)all + (size_t)other * size,
                                        (size_t)bit * size};
        if (!exchange(g, &transfer, err)) return false;
    }
    return true;
}

bool sid2_group_share(sid2_group *g, void *bytes, size_t size, sid2_error *err)
{
    for (int bit = g->place.ranks >> 1; bit; bit >>= 1) { /* ranks that are multiples of 2 bit have them */
        if (g->place.rank & (bit - 1)) continue;
        bool has = !(g->place.rank & bit);
        const sid2_transfer transfer = {g->place.rank ^ bit, bytes, has ? size : 0, bytes, has ? 0 : size};
        if (!exchange(g, &transfer, err)) return false;
    }
    return true;
}

bool sid2_group_agree(sid2_group *g, uint32_t *flags, sid2_error *err)
{
    for (int bit = 1; bit < g->place.ranks; bit <<= 1) {
        uint32_t theirs = 0;
        const sid2_transfer transfer = {g->place.rank ^ bit, flags, sizeof *flags, &theirs, sizeof theirs};
        if (!exchange(g, &transfer, err)) return false;
        *flags |= theirs;
    }
    return true;
}
