#include "team.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>

typedef struct member {
    sid2_team *team;
    int number;
    pthread_t thread;
} member;

struct sid2_team {
    int started; /* threads, beside the caller */
    member *member;
    pthread_mutex_t lock;
    pthread_cond_t begin, end;
    uint64_t round; /* runs begun; with the rest of this block under the lock */
    int busy;       /* threads that have not done their part of this one */
    bool leave;
    sid2_team_work work;
    void *data;
    sid2_error error; /* the first of this run */
    atomic_bool failed;
    _Atomic int64_t next;
};

static void work_as(sid2_team *team, int number)
{
    sid2_error err = {0};
    if (team->work(team->data, number, &err)) return;
    pthread_mutex_lock(&team->lock);
    if (!atomic_load(&team->failed)) team->error = err;
    atomic_store(&team->failed, true);
    pthread_mutex_unlock(&team->lock);
}

static void *live(void *data)
{
    const member *m = data;
    sid2_team *team = m->team;
    pthread_mutex_lock(&team->lock);
    for (uint64_t done = 0; !team->leave;) {
        if (done == team->round) {
            pthread_cond_wait(&team->begin, &team->lock);
            continue;
        }
        done = team->round;
        pthread_mutex_unlock(&team->lock);
        work_as(team, m->number);
        pthread_mutex_lock(&team->lock);
        if (--team->busy == 0) pthread_cond_signal(&team->end);
    }
    pthread_mutex_unlock(&team->lock);
    return NULL;
}

bool sid2_thread_start(pthread_t *thread, void *(*run)(void *), void *data)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    bool started = pthread_create(thread, NULL, run, data) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return started;
}

static bool start(sid2_team *team, int number)
{
    member *m = &team->member[number];
    *m = (member){.team = team, .number = number};
    return sid2_thread_start(&m->thread, live, m);
}

sid2_team *sid2_team_create(int size, sid2_error *err)
{
    sid2_team *team = calloc(1, sizeof *team);
    member *members = calloc((size_t)size, sizeof *members);
    if (!team || !members) {
        free(team);
        free(members);
        return sid2_fail(err, SID2_ERR_MEMORY, "out of memory for %d threads", size), NULL;
    }
    team->member = members;
    pthread_mutex_init(&team->lock, NULL);
    pthread_cond_init(&team->begin, NULL);
    pthread_cond_init(&team->end, NULL);
    while (team->started < size - 1 && start(team, team->started + 1)) team->started++;
    if (team->started == size - 1) return team;
    sid2_fail(err, SID2_ERR_MEMORY, "the system has no more than %d of %d threads", team->started + 1, size);
    sid2_team_destroy(team);
    return NULL;
}

void sid2_team_destroy(sid2_team *team)
{
    if (!team) return;
    pthread_mutex_lock(&team->lock);
    team->leave = true;
    pthread_cond_broadcast(&team->begin);
    pthread_mutex_unlock(&team->lock);
    for (int i = 1; i <= team->started; i++) pthread_join(team->member[i].thread, NULL);
    pthread_cond_destroy(&team->begin);
    pthread_cond_destroy(&team->end);
    pthread_mutex_destroy(&team->lock);
    free(team->member);
    free(team);
}

bool sid2_team_run(sid2_team *team, sid2_team_work work, void *data, sid2_error *err)
{
    pthread_mutex_lock(&team->lock);
    team->work = work;
    team->data = data;
    team->busy = team->started;
    team->round++;
    atomic_store(&team->failed, false);
    atomic_store(&team->next, 0);
    pthread_cond_broadcast(&team->begin);
    pthread_mutex_unlock(&team->lock);
    work_as(team, 0);
    pthread_mutex_lock(&team->lock);
    while (team->busy) pthread_cond_wait(&team->end, &team->lock);
    pthread_mutex_unlock(&team->lock);
    if (!atomic_load(&team->failed)) return true;
    if (err) *err = team->error;
    return false;
}

int64_t sid2_team_next(sid2_team *team) { return atomic_fetch_add(&team->next, 1); }

bool sid2_team_failed(const sid2_team *team) { return atomic_load(&team->failed); }
