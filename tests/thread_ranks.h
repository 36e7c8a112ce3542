/* Ranks that are threads: a transport between them, with and without a queue for a device's buffers. */
#ifndef SID2_TEST_THREAD_RANKS_H
#define SID2_TEST_THREAD_RANKS_H

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "cpu.h"
#include "group.h"

/* ---- A transport between threads: what a rank sends waits, copied, until its peer takes it ---- */

enum { MOST_RANKS = 16, PATIENCE = 600 }; /* seconds, on a machine that does much else */

typedef struct letter {
    struct letter *next;
    size_t bytes;
    char content[];
} letter;

typedef struct post {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    letter *box[MOST_RANKS][MOST_RANKS]; /* [from][to], the oldest first */
    int silent;                          /* a rank whose letters get lost; -1: none */
} post;

static post the_post = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER, .silent = -1};

static const char *post_version(void) { return "threads"; }

static void *post_join(const sid2_place *place, sid2_error *err)
{
    int *rank = malloc(2 * sizeof *rank); /* and how many there are */
    if (!rank) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory"), NULL;
    rank[0] = place->rank;
    rank[1] = place->ranks;
    return rank;
}

static void send_letter(int from, const sid2_transfer *t)
{
    letter *l = malloc(sizeof *l + t->send_bytes), **end = &the_post.box[from][t->peer];
    l->next = NULL;
    l->bytes = t->send_bytes;
    memcpy(l->content, t->send, t->send_bytes);
    while (*end) end = &(*end)->next;
    if (from == the_post.silent)
        free(l);
    else
        *end = l;
    pthread_cond_broadcast(&the_post.changed);
}

static bool take_letter(int to, const sid2_transfer *t, const struct timespec *until, sid2_error *err)
{
    letter **box = &the_post.box[t->peer][to];
    while (!*box)
        if (pthread_cond_timedwait(&the_post.changed, &the_post.lock, until) && !*box)
            return sid2_fail(err, SID2_ERR_LOST, "rank %d has not answered", t->peer);
    letter *l = *box;
    bool fits = l->bytes == t->receive_bytes;
    if (fits) memcpy(t->receive, l->content, l->bytes);
    *box = l->next;
    free(l);
    return fits || sid2_fail(err, SID2_ERR_INTERNAL, "rank %d sent other bytes than were expected", t->peer);
}

static bool post_exchange(void *self, const sid2_transfer *transfers, int count, double seconds,
                          sid2_error *err)
{
    int rank = *(int *)self;
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += (time_t)seconds;
    bool ok = true;
    pthread_mutex_lock(&the_post.lock);
    for (int i = 0; i < count; i++)
        if (transfers[i].send_bytes) send_letter(rank, &transfers[i]);
    for (int i = 0; ok && i < count; i++)
        if (transfers[i].receive_bytes) ok = take_letter(rank, &transfers[i], &until, err);
    pthread_mutex_unlock(&the_post.lock);
    return ok;
}

/* A library's sum: one rank after the other. */
static bool post_sum(void *self, const float *values, float *own, const int *counts, sid2_error *err)
{
    const int *me = self;
    size_t count = (size_t)counts[me[0]];
    float *theirs = malloc(count * sizeof *theirs + 1);
    int at = 0;
    bool ok = theirs;
    memset(own, 0, count * sizeof *own);
    for (int r = 0; ok && r < me[1]; at += counts[r++]) {
        sid2_transfer t = {r, values + at, (size_t)counts[r] * sizeof *values, theirs,
                           count * sizeof *theirs};
        if (r == me[0]) memcpy(theirs, values + at, count * sizeof *theirs);
        ok = r == me[0] || post_exchange(self, &t, 1, PATIENCE, err);
        for (size_t i = 0; ok && i < count; i++) own[i] += theirs[i];
    }
    free(theirs);
    return ok;
}

static void post_leave(void *self, bool in_order)
{
    (void)in_order;
    free(self);
}

static const sid2_transport threads = {"threads",  post_version, post_join, post_exchange,
                                       post_leave, NULL,         post_sum};

/* ---- The same with a queue for buffers, whose work odd ranks do as late as is allowed, when it is waited for, and the others
 * at once: so neither what was not yet computed nor what was not waited for goes unnoticed ---- */

typedef struct job {
    enum { EXCHANGE, ADD, NARROW } kind;
    sid2_buffer_transfer transfer;
    sid2_buffer *into;
    const sid2_buffer *from;
    int64_t first, count;
    bool low;
} job;

enum { MOST_JOBS = 4096 };

typedef struct queue {
    int rank; /* first: a queue is a rank of the post */
    sid2_device *device;
    bool begun;
    job job[MOST_JOBS];
    int jobs;
    int mark[SID2_MARKS]; /* jobs until then, */
    int done;             /* of which so many are done */
} queue;

static atomic_int partly_waited; /* times that some of what was queued was waited for, and more was left */

static void *queue_join(const sid2_place *place, sid2_error *err)
{
    queue *q = calloc(1, sizeof *q);
    if (!q) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory"), NULL;
    q->rank = place->rank;
    return q;
}

static bool queue_attach(void *self, sid2_device *device, sid2_error *err)
{
    (void)err;
    ((queue *)self)->device = device;
    return true;
}

static bool queue_begin(void *self, sid2_error *err)
{
    (void)err;
    return ((queue *)self)->begun = true;
}

static bool do_job(queue *q, const job *j, sid2_error *err);

static bool enqueue(void *self, job next, sid2_error *err)
{
    queue *q = self;
    if (!q->begun || q->jobs == MOST_JOBS)
        return sid2_fail(err, SID2_ERR_INTERNAL, "nothing was begun, or it is too much");
    if (q->rank % 2 == 0) return do_job(q, &next, err);
    q->job[q->jobs++] = next;
    return true;
}

static bool queue_exchange(void *self, const sid2_buffer_transfer *transfers, int count, sid2_error *err)
{
    for (int i = 0; i < count; i++)
        if (!enqueue(self, (job){.kind = EXCHANGE, .transfer = transfers[i]}, err)) return false;
    return true;
}

static bool queue_add(void *self, sid2_buffer *into, int64_t first, const sid2_buffer *from, int64_t count,
                      bool low, sid2_error *err)
{
    return enqueue(self,
                   (job){.kind = ADD, .into = into, .from = from, .first = first, .count = count, .low = low},
                   err);
}

static bool queue_narrow(void *self, sid2_buffer *into, const sid2_buffer *from, int64_t first, int64_t count,
                         sid2_error *err)
{
    return enqueue(self, (job){.kind = NARROW, .into = into, .from = from, .first = first, .count = count},
                   err);
}

/* The buffers of this test's device are memory all the same. */
static char *bytes_of(const sid2_buffer *b, size_t at) { return (char *)b->handle + at; }

static bool do_job(queue *q, const job *j, sid2_error *err)
{
    if (j->kind == EXCHANGE) {
        const sid2_buffer_transfer *t = &j->transfer;
        const sid2_transfer plain = {t->peer, bytes_of(t->send, t->send_at), t->send_bytes,
                                     bytes_of(t->receive, t->receive_at), t->receive_bytes};
        return post_exchange(q, &plain, 1, PATIENCE, err);
    }
    for (int64_t i = 0; i < j->count; i++) {
        uint16_t *low = (uint16_t *)(void *)bytes_of(j->kind == ADD ? j->from : j->into, 0) + i;
        float *wide = (float *)(void *)bytes_of(j->kind == ADD ? j->into : j->from, 0) + j->first + i;
        if (j->kind == NARROW)
            *low = sid2_f32_to_bf16(*wide);
        else if (j->low)
            *wide = sid2_bf16_to_f32(sid2_f32_to_bf16(*wide)) + sid2_bf16_to_f32(*low);
        else
            *wide += ((const float *)(const void *)bytes_of(j->from, 0))[i];
    }
    return true;
}

static bool do_until(queue *q, int end, sid2_error *err)
{
    bool ok = true;
    for (; ok && q->done < end; q->done++) ok = do_job(q, &q->job[q->done], err);
    if (q->done < q->jobs) return ok;
    q->jobs = q->done = 0;
    memset(q->mark, 0, sizeof q->mark);
    return ok;
}

static bool do_all(queue *q, sid2_error *err) { return do_until(q, q->jobs, err); }

static bool queue_mark(void *self, int mark, sid2_error *err)
{
    (void)err;
    queue *q = self;
    q->mark[mark] = q->jobs;
    return true;
}

static bool queue_wait(void *self, int mark, sid2_error *err)
{
    queue *q = self;
    bool ok = do_until(q, q->mark[mark], err);
    partly_waited += q->jobs > 0;
    return ok;
}

static bool queue_finish(void *self, sid2_error *err)
{
    queue *q = self;
    q->begun = false;
    return do_all(q, err);
}

/* Host memory that others wait for comes after what they wait for before. */
static bool exchange_behind(void *self, const sid2_transfer *transfers, int count, double seconds,
                            sid2_error *err)
{
    return do_all(self, err) && post_exchange(self, transfers, count, seconds, err);
}

static const sid2_transport_queue late = {queue_attach, queue_begin,  queue_exchange, queue_add,
                                          queue_narrow, queue_finish, queue_mark,     queue_wait};
static const sid2_transport queues = {"queues",   post_version, queue_join, exchange_behind,
                                      post_leave, &late,        NULL};

/* ---- Devices: the CPU, and one that takes its memory for another's ---- */

static sid2_backend distant;

static inline sid2_device *open_device_of(bool far)
{
    const sid2_backend *backend = far ? &distant : &sid2_backend_cpu;
    return sid2_backends_open(&backend, 1, "cpu", &sid2_with(sid2_device_options, .threads = 1), NULL);
}

static inline void prepare_devices(void)
{
    distant = sid2_backend_cpu;
    distant.rebinds = false;
    distant.fold = NULL;
}

/* ---- Ranks ---- */

/* Memory that is at hand; memory that is copied; and a queue. */
enum { AT_HAND, COPIED, QUEUED, WAYS };

/* Of one rank; returns what was wrong, or NULL. The text must stay. */
typedef const char *rank_part(sid2_group *group, sid2_device *device, const void *data);

typedef struct actor {
    pthread_t thread;
    sid2_place place;
    rank_part *part;
    const void *data;
    int way;
    const char *wrong;
    sid2_error error;
} actor;

static void *act_as_rank(void *data)
{
    actor *a = data;
    sid2_group *group =
        sid2_group_join(a->way == QUEUED ? &queues : &threads, &a->place, PATIENCE, &a->error);
    sid2_device *device = open_device_of(a->way != AT_HAND);
    a->wrong = group && device ? a->part(group, device, a->data) : "joining failed";
    if (!a->wrong && sid2_group_queues(group) != (a->way == QUEUED)) a->wrong = "another way was taken";
    sid2_group_leave(group, true);
    sid2_device_close(device);
    return NULL;
}

/* What a test before left on the way. */
static inline void empty_post(void)
{
    for (int i = 0; i < MOST_RANKS * MOST_RANKS; i++) {
        letter **box = &the_post.box[i / MOST_RANKS][i % MOST_RANKS];
        for (letter *l; (l = *box); free(l)) *box = l->next;
    }
}

static inline void as_ranks(int ranks, int way, rank_part *part, const void *data)
{
    actor actors[MOST_RANKS] = {{0}};
    prepare_devices();
    empty_post();
    for (int r = 0; r < ranks; r++) {
        actors[r] = (actor){
            .place = {.rank = r, .ranks = ranks, .host = "here"}, .part = part, .data = data, .way = way};
        assert_int_equal(pthread_create(&actors[r].thread, NULL, act_as_rank, &actors[r]), 0);
    }
    for (int r = 0; r < ranks; r++) pthread_join(actors[r].thread, NULL);
    bool wrong = false;
    for (int r = 0; r < ranks; r++) {
        if (actors[r].wrong) print_message("rank %d of %d: %s\n", r, ranks, actors[r].wrong);
        wrong = wrong || actors[r].wrong;
    }
    if (wrong) fail_msg("see above");
}

#endif
