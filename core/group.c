#include "group_inside.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const sid2_place alone = {.ranks = 1, .local_ranks = 1, .launcher = ""};

const sid2_place *sid2_group_place(const sid2_group *g) { return g ? &g->place : &alone; }
int sid2_group_rank(const sid2_group *g) { return sid2_group_place(g)->rank; }
int sid2_group_ranks(const sid2_group *g) { return sid2_group_place(g)->ranks; }
const char *sid2_group_carrier(const sid2_group *g) { return g ? g->transport->name : NULL; }
const char *sid2_group_library(const sid2_group *g) { return g ? g->transport->version() : NULL; }
uint64_t sid2_group_sent(const sid2_group *g) { return g ? g->sent : 0; }

static void drop(sid2_group *g)
{
    for (int i = 0; g && i < 3; i++) free(g->piece[i]);
    free(g);
}

sid2_group *sid2_group_join(const sid2_transport *transport, const sid2_place *place, double seconds,
                            sid2_error *err)
{
    sid2_group *g = calloc(1, sizeof *g);
    if (g)
        *g = (sid2_group){transport, .place = *place, .seconds = seconds,
                          .fast = place->ranks & (place->ranks - 1)};
    for (int i = 0; g && i < 3; i++) g->piece[i] = malloc(SID2_GROUP_PIECE * sizeof *g->piece[i]);
    if (!g || !g->piece[0] || !g->piece[1] || !g->piece[2])
        sid2_fail(err, SID2_ERR_MEMORY, "out of memory joining %d ranks", place->ranks);
    else if ((g->self = transport->join(place, err)))
        return g;
    drop(g);
    return NULL;
}

void sid2_group_leave(sid2_group *g, bool in_order)
{
    if (!g) return;
    sid2_group_detach(g);
    g->transport->leave(g->self, in_order);
    drop(g);
}

void sid2_group_watch(sid2_group *g, sid2_watch *watch)
{
    if (g) g->watch = watch;
}

void sid2_group_enter(sid2_group *g, sid2_phase phase, uint64_t step)
{
    if (g) sid2_watch_enter(g->watch, phase, step);
}

sid2_watch_sight sid2_group_sight(const sid2_group *g) { return sid2_watch_look(g ? g->watch : NULL); }

/* Once host memory has been exchanged nothing is under way: what is queued comes in its turn. */
bool sid2_group_exchange(sid2_group *g, const char *what, const sid2_transfer *transfer, sid2_error *err)
{
    g->sent += transfer->send_bytes;
    sid2_watch_expect(g->watch, what, transfer->peer);
    bool ok = g->transport->exchange(g->self, transfer, 1, g->seconds, err);
    sid2_watch_expect(g->watch, NULL, -1);
    return ok;
}

/* With several peers at once. */
static bool exchange_with_all(sid2_group *g, const char *what, const sid2_transfer *transfers, int count,
                              sid2_error *err)
{
    for (int i = 0; i < count; i++) g->sent += transfers[i].send_bytes;
    sid2_watch_expect(g->watch, what, count ? transfers[0].peer : -1);
    bool ok = g->transport->exchange(g->self, transfers, count, g->seconds, err);
    sid2_watch_expect(g->watch, NULL, -1);
    return ok;
}

void sid2_group_hasten(sid2_group *g)
{
    if (g) g->fast = true;
}

bool sid2_group_is_fast(const sid2_group *g) { return g && g->fast; }

bool sid2_group_may_be_exact(const sid2_group *g)
{
    int ranks = sid2_group_ranks(g);
    return !(ranks & (ranks - 1));
}

/* ---- Parts ---- */

static sid2_halves halve(sid2_span span, bool upper, int64_t block)
{
    int64_t blocks = (span.count + block - 1) / block, low = (blocks + 1) / 2 * block;
    if (low > span.count) low = span.count;
    sid2_span lower = {span.first, low}, higher = {span.first + low, span.count - low};
    return upper ? (sid2_halves){higher, lower} : (sid2_halves){lower, higher};
}

sid2_halves sid2_group_halves(int rank, int bit, sid2_span range, int64_t block)
{
    sid2_halves h = {.keep = range};
    for (int b = 1; b <= bit; b <<= 1) h = halve(h.keep, rank & b, block);
    return h;
}

sid2_span sid2_part_of(int rank, int ranks, sid2_span range, int64_t block)
{
    return sid2_group_halves(rank, ranks >> 1, range, block).keep;
}

sid2_span sid2_group_part(const sid2_group *g, int rank, sid2_span range, int64_t block)
{
    if (!sid2_group_is_fast(g)) return sid2_part_of(rank, sid2_group_ranks(g), range, block);
    int64_t blocks = (range.count + block - 1) / block, first = blocks * rank / g->place.ranks * block,
            end = blocks * (rank + 1) / g->place.ranks * block;
    return (sid2_span){range.first + first, (end < range.count ? end : range.count) - first};
}

/* ---- Host memory ---- */

static sid2_transfer *make_transfers(const sid2_group *g, sid2_error *err)
{
    sid2_transfer *transfers = calloc((size_t)g->place.ranks, sizeof *transfers);
    if (!transfers) sid2_fail(err, SID2_ERR_MEMORY, "out of memory for %d ranks", g->place.ranks);
    return transfers;
}

sid2_span sid2_parted_span(const sid2_parted *a, sid2_span span)
{
    if (!a->place) return span;
    int64_t first = a->place(a->self, span.first);
    return (sid2_span){first, a->place(a->self, span.first + span.count) - first};
}

bool sid2_group_trade(sid2_group *g, void *values, const sid2_parted *array, sid2_span range, int64_t block,
                      sid2_error *err)
{
    char *bytes = values;
    size_t size = array->size;
    int64_t origin = sid2_parted_span(array, range).first;
    sid2_transfer *transfers = make_transfers(g, err);
    sid2_span own = sid2_parted_span(array, sid2_group_part(g, g->place.rank, range, block));
    int peers = 0;
    for (int r = 0; transfers && r < g->place.ranks; r++) {
        sid2_span theirs = sid2_parted_span(array, sid2_group_part(g, r, range, block));
        if (r != g->place.rank)
            transfers[peers++] =
                (sid2_transfer){r, bytes + (size_t)(own.first - origin) * size, (size_t)own.count * size,
                                bytes + (size_t)(theirs.first - origin) * size, (size_t)theirs.count * size};
    }
    bool ok = transfers && exchange_with_all(g, "spreading", transfers, peers, err);
    free(transfers);
    return ok;
}

bool sid2_group_spread(sid2_group *g, void *values, size_t size, int64_t count, int64_t block,
                       sid2_error *err)
{
    char *bytes = values;
    int rank = sid2_group_rank(g);
    if (sid2_group_is_fast(g))
        return sid2_group_trade(g, values, &(sid2_parted){.size = size}, (sid2_span){0, count}, block, err);
    for (int bit = sid2_group_ranks(g) >> 1; bit; bit >>= 1) {
        sid2_halves h = sid2_group_halves(rank, bit, (sid2_span){0, count}, block);
        const sid2_transfer transfer = {rank ^ bit, bytes + (size_t)h.keep.first * size,
                                        (size_t)h.keep.count * size, bytes + (size_t)h.give.first * size,
                                        (size_t)h.give.count * size};
        if (!sid2_group_exchange(g, "spreading", &transfer, err)) return false;
    }
    return true;
}

bool sid2_group_gather(sid2_group *g, void *all, size_t size, sid2_error *err)
{
    int rank = sid2_group_rank(g);
    if (!sid2_group_may_be_exact(g))
        return sid2_group_trade(g, all, &(sid2_parted){.size = size}, (sid2_span){0, g->place.ranks}, 1, err);
    for (int bit = 1; bit < sid2_group_ranks(g); bit <<= 1) { /* `bit` ranks are known, from `first` */
        int first = rank & -bit, other = first ^ bit;
        const sid2_transfer transfer = {rank ^ bit, (char *)all + (size_t)first * size, (size_t)bit * size,
                                        (char *)all + (size_t)other * size, (size_t)bit * size};
        if (!sid2_group_exchange(g, "gathering", &transfer, err)) return false;
    }
    return true;
}

/* Rank 0 to each. */
static bool deal(sid2_group *g, void *bytes, size_t size, sid2_error *err)
{
    sid2_transfer *transfers = make_transfers(g, err);
    int peers = 0;
    for (int r = 1; transfers && !g->place.rank && r < g->place.ranks; r++)
        transfers[peers++] = (sid2_transfer){.peer = r, .send = bytes, .send_bytes = size};
    if (transfers && g->place.rank)
        transfers[peers++] = (sid2_transfer){.peer = 0, .receive = bytes, .receive_bytes = size};
    bool ok = transfers && exchange_with_all(g, "sharing", transfers, peers, err);
    free(transfers);
    return ok;
}

bool sid2_group_share(sid2_group *g, void *bytes, size_t size, sid2_error *err)
{
    int rank = sid2_group_rank(g);
    if (!sid2_group_may_be_exact(g)) return deal(g, bytes, size, err);
    for (int bit = sid2_group_ranks(g) >> 1; bit;
         bit >>= 1) { /* ranks that are multiples of 2 bit have them */
        if (rank & (bit - 1)) continue;
        bool has = !(rank & bit);
        const sid2_transfer transfer = {rank ^ bit, bytes, has ? size : 0, bytes, has ? 0 : size};
        if (!sid2_group_exchange(g, "sharing", &transfer, err)) return false;
    }
    return true;
}

bool sid2_group_sum_inexact(sid2_group *g, const float *values, float *own, int64_t count, sid2_error *err)
{
    int ranks = sid2_group_ranks(g), *counts = calloc((size_t)ranks, sizeof *counts);
    if (!counts) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory");
    bool ok = g && g->transport->sum && count / ranks < INT_MAX;
    for (int r = 0; ok && r < ranks; r++) counts[r] = (int)(count * (r + 1) / ranks - count * r / ranks);
    ok = ok ? g->transport->sum(g->self, values, own, counts, err)
            : sid2_fail(err, SID2_ERR_UNSUPPORTED, "no library sums %lld elements over %d ranks",
                        (long long)count, ranks);
    free(counts);
    return ok;
}

bool sid2_group_agree(sid2_group *g, uint32_t *flags, sid2_error *err)
{
    int ranks = sid2_group_ranks(g);
    uint32_t *all = calloc((size_t)ranks, sizeof *all);
    if (!all) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory");
    all[sid2_group_rank(g)] = *flags;
    bool ok = sid2_group_gather(g, all, sizeof *all, err);
    for (int r = 0; ok && r < ranks; r++) *flags |= all[r];
    free(all);
    return ok;
}

bool sid2_group_largest(sid2_group *g, int64_t *number, sid2_error *err)
{
    int ranks = sid2_group_ranks(g);
    int64_t *all = calloc((size_t)ranks, sizeof *all);
    if (!all) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory");
    all[sid2_group_rank(g)] = *number;
    bool ok = sid2_group_gather(g, all, sizeof *all, err);
    for (int r = 0; ok && r < ranks; r++)
        if (all[r] > *number) *number = all[r];
    free(all);
    return ok;
}

/* What one rank of several has to say, with its name. */
static void sign(const sid2_group *g, sid2_error *word, const sid2_error *cause)
{
    char text[sizeof cause->message];
    const char *message = cause && cause->message[0] ? cause->message : "failed";
    word->code = cause ? cause->code : SID2_ERR_INTERNAL;
    if (g->place.rank)
        snprintf(text, sizeof text, "rank %d on %s: %.380s", g->place.rank, g->place.host, message);
    else
        snprintf(text, sizeof text, "%s", message);
    memcpy(word->message, text, sizeof text);
}

bool sid2_group_concur(sid2_group *g, bool well, sid2_error *err)
{
    uint32_t failed = !well;
    sid2_error cause = {0};
    if (!g) return well;
    if (!well && err && err->code == SID2_ERR_LOST)
        return false; /* a peer is gone, or will see that this one is */
    if (!sid2_group_agree(g, &failed, &cause)) return sid2_fail(err, cause.code, "%s", cause.message);
    if (!failed) return true;
    sid2_error *words = calloc((size_t)g->place.ranks, sizeof *words);
    if (!words) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory");
    if (!well) sign(g, &words[g->place.rank], err);
    bool told = sid2_group_gather(g, words, sizeof *words, &cause);
    for (int r = g->place.ranks; told && r-- > 0;)
        if (words[r].code) cause = words[r];
    free(words);
    return sid2_fail(err, cause.code, "%s", cause.message);
}
