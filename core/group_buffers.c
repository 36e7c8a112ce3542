/* Sums of a device's buffers over ranks: queued by the transport, or through host memory. */
#include "group_inside.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

/* For the watch. */
static const char a_sum[] = "a sum", a_spread[] = "spreading a sum";

bool sid2_group_attach(sid2_group *g, sid2_device *device, sid2_error *err)
{
    if (!g || g->device == device) return true;
    sid2_group_detach(g);
    const sid2_transport_queue *queue = g->transport->queue;
    g->device = device;
    if (!queue || sid2_device_is_host(device)) return true;
    if (!queue->attach(g->self, device, err)) return false;
    for (int i = 0; i < 2; i++)
        if (!(g->landing[i] = sid2_buffer_create(device, SID2_GROUP_PIECE * sizeof(float), err)))
            return false;
    g->queues = !g->fast;
    return true;
}

void sid2_group_detach(sid2_group *g)
{
    for (int i = 0; g && i < 2; i++) {
        sid2_buffer_destroy(g->landing[i]);
        g->landing[i] = NULL;
    }
    if (g) g->device = NULL, g->queues = false;
}

bool sid2_group_queues(const sid2_group *g) { return g && g->queues; }

bool sid2_group_finish(sid2_group *g, sid2_error *err)
{
    return !sid2_group_queues(g) || g->transport->queue->finish(g->self, err);
}

bool sid2_group_mark(sid2_group *g, int mark, sid2_error *err)
{
    return !sid2_group_queues(g) || g->transport->queue->mark(g->self, mark, err);
}

bool sid2_group_wait(sid2_group *g, int mark, sid2_error *err)
{
    return !sid2_group_queues(g) || g->transport->queue->wait(g->self, mark, err);
}

static int64_t within(int64_t from, int64_t count)
{
    int64_t left = count - from;
    return left < 0 ? 0 : left < SID2_GROUP_PIECE ? left : SID2_GROUP_PIECE;
}

/* ---- Through host memory ---- */

/* Some elements of a buffer: where they are, or a copy of them in `aside`. */
static void *look_at(const sid2_buffer *b, size_t size, int64_t first, int64_t count, void *aside,
                     sid2_error *err)
{
    size_t at = (size_t)first * size;
    char *memory = sid2_buffer_memory(b);
    if (memory) return memory + at;
    return sid2_buffer_download(b, at, aside, (size_t)count * size, err) ? aside : NULL;
}

/* What was changed there. */
static bool put_back(sid2_buffer *b, size_t size, int64_t first, int64_t count, const void *from,
                     sid2_error *err)
{
    if (sid2_buffer_memory(b)) return true;
    return !count || sid2_buffer_upload(b, (size_t)first * size, from, (size_t)count * size, err);
}

static void narrow(uint16_t *to, const float *from, int64_t count)
{
    for (int64_t i = 0; i < count; i++) to[i] = sid2_f32_to_bf16(from[i]);
}

static void add(float *into, const void *from, int64_t count, bool low)
{
    const float *wide = from;
    const uint16_t *narrow = from;
    for (int64_t i = 0; !low && i < count; i++) into[i] += wide[i];
    for (int64_t i = 0; low && i < count; i++)
        into[i] = sid2_bf16_to_f32(sid2_f32_to_bf16(into[i])) + sid2_bf16_to_f32(narrow[i]);
}

static bool sum_with(sid2_group *g, int peer, sid2_buffer *values, sid2_halves h, bool low, sid2_error *err)
{
    size_t size = low ? sizeof(uint16_t) : sizeof(float);
    for (int64_t at = 0; at < h.keep.count || at < h.give.count; at += SID2_GROUP_PIECE) {
        int64_t out = within(at, h.give.count), in = within(at, h.keep.count);
        const void *given = look_at(values, sizeof(float), h.give.first + at, out, g->piece[1], err);
        if (!given) return false;
        if (low) {
            narrow((uint16_t *)(void *)g->piece[2], given, out);
            given = g->piece[2];
        }
        const sid2_transfer transfer = {peer, given, (size_t)out * size, g->piece[0], (size_t)in * size};
        if (!sid2_group_exchange(g, a_sum, &transfer, err)) return false;
        float *kept = look_at(values, sizeof(float), h.keep.first + at, in, g->piece[1], err);
        if (!kept) return false;
        add(kept, g->piece[0], in, low);
        if (!put_back(values, sizeof(float), h.keep.first + at, in, kept, err)) return false;
    }
    return true;
}

/* Of an array: what a rank keeps and gives away. */
static sid2_halves halves_of(const sid2_parted *a, sid2_halves h)
{
    return (sid2_halves){sid2_parted_span(a, h.keep), sid2_parted_span(a, h.give)};
}

static bool spread_with(sid2_group *g, int peer, const sid2_parted *array, sid2_halves h, sid2_error *err)
{
    sid2_buffer *values = array->buffer;
    size_t size = array->size;
    char *memory = sid2_buffer_memory(values);
    for (int64_t at = 0; at < h.keep.count || at < h.give.count; at += SID2_GROUP_PIECE) {
        int64_t out = within(at, h.keep.count), in = within(at, h.give.count), to = h.give.first + at;
        const void *given = look_at(values, size, h.keep.first + at, out, g->piece[1], err);
        void *taken = memory ? memory + (size_t)to * size : (char *)g->piece[0];
        const sid2_transfer transfer = {peer, given, (size_t)out * size, taken, (size_t)in * size};
        if (!given || !sid2_group_exchange(g, a_spread, &transfer, err) ||
            !put_back(values, size, to, in, taken, err))
            return false;
    }
    return true;
}

/* ---- Queued ---- */

static bool exchange_queued(sid2_group *g, const sid2_buffer_transfer *transfers, int count, sid2_error *err)
{
    for (int i = 0; i < count; i++) g->sent += transfers[i].send_bytes;
    return g->transport->queue->exchange(g->self, transfers, count, err);
}

static bool sum_queued(sid2_group *g, int peer, sid2_buffer *values, sid2_halves h, bool low, sid2_error *err)
{
    const sid2_transport_queue *queue = g->transport->queue;
    size_t size = low ? sizeof(uint16_t) : sizeof(float);
    for (int64_t at = 0; at < h.keep.count || at < h.give.count; at += SID2_GROUP_PIECE) {
        int64_t out = within(at, h.give.count), in = within(at, h.keep.count);
        sid2_buffer_transfer transfer = {
            .peer = peer,
            .send = low ? g->landing[1] : values,
            .send_at = low ? 0 : (size_t)(h.give.first + at) * size,
            .send_bytes = (size_t)out * size,
            .receive = g->landing[0],
            .receive_bytes = (size_t)in * size,
        };
        if ((low && out && !queue->narrow(g->self, g->landing[1], values, h.give.first + at, out, err)) ||
            !exchange_queued(g, &transfer, 1, err) ||
            (in && !queue->add(g->self, values, h.keep.first + at, g->landing[0], in, low, err)))
            return false;
    }
    return true;
}

static bool spread_queued(sid2_group *g, int peer, const sid2_parted *arrays, int count, sid2_halves halves,
                          sid2_error *err)
{
    sid2_buffer_transfer transfers[SID2_MOST_ARRAYS];
    for (int i = 0; i < count; i++) {
        sid2_halves h = halves_of(&arrays[i], halves);
        size_t size = arrays[i].size;
        transfers[i] = (sid2_buffer_transfer){
            .peer = peer,
            .send = arrays[i].buffer,
            .send_at = (size_t)h.keep.first * size,
            .send_bytes = (size_t)h.keep.count * size,
            .receive = arrays[i].buffer,
            .receive_at = (size_t)h.give.first * size,
            .receive_bytes = (size_t)h.give.count * size,
        };
    }
    return exchange_queued(g, transfers, count, err);
}

/* ---- By the library ---- */

/* A range in host memory; a copy is put into *aside, to be freed. NULL: an error. */
static char *take_range(const sid2_buffer *values, size_t size, sid2_span range, void **aside,
                        sid2_error *err)
{
    *aside = NULL;
    if (!sid2_buffer_memory(values) && !(*aside = malloc((size_t)range.count * size + 1)))
        return sid2_fail(err, SID2_ERR_MEMORY, "out of memory for what goes to other ranks"), NULL;
    return look_at(values, size, range.first, range.count, *aside, err);
}

static bool sum_by_library(sid2_group *g, sid2_buffer *values, sid2_span range, int64_t block, bool low,
                           sid2_error *err)
{
    sid2_span own = sid2_group_part(g, g->place.rank, range, block);
    void *aside = NULL;
    float *sum = NULL;
    int *counts = calloc((size_t)g->place.ranks, sizeof *counts);
    bool ok =
        (g->transport->sum && !low && range.count / g->place.ranks < INT_MAX) ||
        sid2_fail(err, SID2_ERR_UNSUPPORTED, "--fast-reduce: %s has no sum of this kind", g->transport->name);
    for (int r = 0; ok && counts && r < g->place.ranks; r++)
        counts[r] = (int)sid2_group_part(g, r, range, block).count;
    char *all = ok ? take_range(values, sizeof(float), range, &aside, err) : NULL;
    ok = ok && all;
    if (ok && (!counts || !(sum = malloc((size_t)own.count * sizeof *sum + 1))))
        ok = sid2_fail(err, SID2_ERR_MEMORY, "out of memory for a sum over ranks");
    ok = ok && g->transport->sum(g->self, (const float *)(const void *)all, sum, counts, err) &&
         sid2_buffer_upload(values, (size_t)own.first * sizeof(float), sum, (size_t)own.count * sizeof(float),
                            err);
    free(counts);
    free(aside);
    free(sum);
    return ok;
}

static bool trade(sid2_group *g, const sid2_parted *array, sid2_span range, int64_t block, sid2_error *err)
{
    void *aside = NULL;
    sid2_span whole = sid2_parted_span(array, range);
    char *all = take_range(array->buffer, array->size, whole, &aside, err);
    bool ok = all && sid2_group_trade(g, all, array, range, block, err) &&
              put_back(array->buffer, array->size, whole.first, whole.count, all, err);
    free(aside);
    return ok;
}

/* ---- Both ---- */

static bool begin(sid2_group *g, const char *what, sid2_error *err)
{
    if (!g) return true;
    if (g->queues) sid2_watch_expect(g->watch, what, -1); /* until host memory is exchanged */
    return !g->queues || g->transport->queue->begin(g->self, err);
}

bool sid2_group_sum(sid2_group *g, sid2_buffer *values, sid2_span range, int64_t block, bool low,
                    sid2_error *err)
{
    int rank = sid2_group_rank(g);
    bool ok = begin(g, a_sum, err);
    if (g) sid2_buffer_touch(values);
    if (ok && sid2_group_is_fast(g)) return sum_by_library(g, values, range, block, low, err);
    for (int bit = 1; ok && bit < sid2_group_ranks(g); bit <<= 1)
        ok = (g->queues ? sum_queued : sum_with)(g, rank ^ bit, values,
                                                 sid2_group_halves(rank, bit, range, block), low, err);
    return ok;
}

bool sid2_group_spread_buffers(sid2_group *g, const sid2_parted *arrays, int count, sid2_span range,
                               int64_t block, sid2_error *err)
{
    int rank = sid2_group_rank(g);
    bool ok = begin(g, a_spread, err), fast = sid2_group_is_fast(g);
    for (int i = 0; g && i < count; i++) sid2_buffer_touch(arrays[i].buffer);
    for (int i = 0; ok && fast && i < count; i++) ok = trade(g, &arrays[i], range, block, err);
    for (int bit = sid2_group_ranks(g) >> 1; ok && !fast && bit; bit >>= 1) {
        sid2_halves h = sid2_group_halves(rank, bit, range, block);
        if (g->queues) ok = spread_queued(g, rank ^ bit, arrays, count, h, err);
        for (int i = 0; ok && !g->queues && i < count; i++)
            ok = spread_with(g, rank ^ bit, &arrays[i], halves_of(&arrays[i], h), err);
    }
    return ok;
}
