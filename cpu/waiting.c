#include "waiting.h"

#include "team.h"

#include <omp.h>
#include <stdlib.h>
#include <sys/resource.h>

/* LLVM's runtime has a call for it; GNU's has not. */
void kmp_set_blocktime(int milliseconds) __attribute__((weak));
int kmp_get_blocktime(void) __attribute__((weak));

static const double look_every = 0.1, quiet_for = 3.0; /* seconds */

struct sid2_cpu_waiting {
    int threads, blocktime; /* LLVM's, before */
    bool brief;
    double looked, disturbed; /* when last */
    long taken;               /* times that the kernel took a core away, so far */
    pthread_t holder;         /* while brief, with GNU's runtime */
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    bool leave;
};

static long times_taken(void)
{
    struct rusage usage;
    return getrusage(RUSAGE_SELF, &usage) ? 0 : usage.ru_nivcsw;
}

/* GNU's runtime spins for a hundred turns instead of 300,000 while there are more OpenMP threads than cores, as its
 * manual says under GOMP_SPINCOUNT. Here are some, asleep. */
static void *hold_threads(void *data)
{
    sid2_cpu_waiting *w = data;
    int spare = omp_get_num_procs() - w->threads;
#pragma omp parallel num_threads((spare > 0 ? spare : 0) + 2)
#pragma omp master
    {
        pthread_mutex_lock(&w->mutex);
        while (!w->leave) pthread_cond_wait(&w->changed, &w->mutex);
        pthread_mutex_unlock(&w->mutex);
    }
    return NULL;
}

static void wait_briefly(sid2_cpu_waiting *w)
{
    if (kmp_set_blocktime) {
        kmp_set_blocktime(0);
        w->brief = true;
        return;
    }
    w->leave = false;
    w->brief = sid2_thread_start(&w->holder, hold_threads, w);
}

static void wait_long(sid2_cpu_waiting *w)
{
    if (!w->brief) return;
    w->brief = false;
    if (kmp_set_blocktime) {
        kmp_set_blocktime(w->blocktime);
        return;
    }
    pthread_mutex_lock(&w->mutex);
    w->leave = true;
    pthread_cond_signal(&w->changed);
    pthread_mutex_unlock(&w->mutex);
    pthread_join(w->holder, NULL);
}

sid2_cpu_waiting *sid2_cpu_waiting_start(int threads)
{
    if (threads < 2 || getenv("GOMP_SPINCOUNT") || getenv("KMP_BLOCKTIME") || getenv("OMP_WAIT_POLICY"))
        return NULL;
    sid2_cpu_waiting *w = calloc(1, sizeof *w);
    if (!w) return NULL;
    w->threads = threads;
    w->blocktime = kmp_get_blocktime ? kmp_get_blocktime() : 0;
    w->looked = sid2_clock(), w->taken = times_taken();
    pthread_mutex_init(&w->mutex, NULL);
    pthread_cond_init(&w->changed, NULL);
    return w;
}

void sid2_cpu_waiting_adapt(sid2_cpu_waiting *w)
{
    double now = w ? sid2_clock() : 0;
    if (!w || now - w->looked < look_every) return;
    long taken = times_taken();
    double often = (double)(taken - w->taken) / (now - w->looked);
    w->looked = now, w->taken = taken;
    /* The kernel's own work takes a core a few times a second; a program that wants it, at every slice. */
    if (often > 50 + 4 * w->threads) {
        w->disturbed = now;
        if (!w->brief) wait_briefly(w);
    } else if (now - w->disturbed > quiet_for) {
        wait_long(w);
    }
}

bool sid2_cpu_waiting_is_brief(const sid2_cpu_waiting *w) { return w && w->brief; }

void sid2_cpu_waiting_stop(sid2_cpu_waiting *w)
{
    if (!w) return;
    wait_long(w);
    pthread_cond_destroy(&w->changed);
    pthread_mutex_destroy(&w->mutex);
    free(w);
}
