#include "watch.h"

#include "team.h"
#include "text.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Sampling and saving take minutes on slow machines and disks; a join waits until a batch system has started all. */
static const struct {
    const char *name, *says;
    double seconds;
} phases[SID2_PHASE_COUNT] = {
    [SID2_PHASE_IDLE] = {"", "", 0},
    [SID2_PHASE_JOIN] = {"join", "joining the other ranks", 300},
    [SID2_PHASE_PREPARE] = {"prepare", "preparing", 600},
    [SID2_PHASE_STEP] = {"step", "step", 60},
    [SID2_PHASE_SAMPLE] = {"sample", "sampling", 600},
    [SID2_PHASE_MEASURE] = {"measure", "measuring", 600},
    [SID2_PHASE_SAVE] = {"save", "saving", 600},
    [SID2_PHASE_PAUSE] = {"pause", "pausing", 60},
    [SID2_PHASE_LEAVE] = {"leave", "leaving the other ranks", 60},
};

enum { STEPS = 15, PATIENCE = 10 }; /* steps whose median counts; medians */

struct sid2_watch {
    sid2_place place;
    sid2_watch_breach breach;
    void *user;
    double limit[SID2_PHASE_COUNT];
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    /* Under the lock. */
    bool leave;
    sid2_phase phase;
    uint64_t step;
    double since, until; /* of the phase; until 0: for ever */
    double took[STEPS];  /* of the last steps, a ring */
    int steps;           /* all that were seen */
    const char *what;
    int peer;
    double expected, waited; /* since when; seconds before */
};

/* ---- Deadlines ---- */

static bool set_limit(sid2_watch *w, const char *word, sid2_error *err)
{
    const char *equals = strchr(word, '=');
    for (int p = SID2_PHASE_JOIN; equals && p < SID2_PHASE_COUNT; p++)
        if (strlen(phases[p].name) == (size_t)(equals - word) &&
            strncmp(phases[p].name, word, strlen(phases[p].name)) == 0) {
            char *end;
            w->limit[p] = sid2_text_real(equals + 1, &end);
            if (end != equals + 1 && !*end && w->limit[p] > 0 && w->limit[p] < 1e9) return true;
        }
    return sid2_fail(
        err, SID2_ERR_USAGE,
        "SID2_DEADLINES: '%s' is no phase and its seconds: join, prepare, step, sample, measure, "
        "save, pause or leave, as in step=300",
        word);
}

static bool find_limits(sid2_watch *w, sid2_error *err)
{
    char text[256];
    const char *given = getenv("SID2_DEADLINES");
    for (int p = 0; p < SID2_PHASE_COUNT; p++) w->limit[p] = phases[p].seconds;
    if (!given) return true;
    if (strlen(given) >= sizeof text)
        return sid2_fail(err, SID2_ERR_USAGE, "SID2_DEADLINES is longer than %zu bytes", sizeof text - 1);
    char *rest = strcpy(text, given);
    for (char *word; (word = strsep(&rest, ","));)
        if (!set_limit(w, word, err)) return false;
    return true;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(const sid2_watch *w)
{
    double sorted[STEPS];
    size_t count = (size_t)(w->steps < STEPS ? w->steps : STEPS);
    memcpy(sorted, w->took, sizeof sorted);
    qsort(sorted, count, sizeof *sorted, compare);
    return sorted[count / 2];
}

static double limit_of(const sid2_watch *w, sid2_phase phase)
{
    double limit = w->limit[phase];
    if (phase != SID2_PHASE_STEP) return limit;
    double longer = w->steps ? PATIENCE * median(w) : w->limit[SID2_PHASE_PREPARE];
    return longer > limit ? longer : limit;
}

/* ---- Watching ---- */

static sid2_watch_sight sight_of(const sid2_watch *w)
{
    sid2_watch_sight s = {.seconds = sid2_clock() - w->since, .waited = w->waited};
    const char *at = w->phase == SID2_PHASE_STEP ? "" : " at step";
    int length = snprintf(s.doing, sizeof s.doing, "%s", phases[w->phase].says);
    if (w->phase != SID2_PHASE_IDLE && (w->phase == SID2_PHASE_STEP || w->step))
        snprintf(s.doing + length, sizeof s.doing - (size_t)length, "%s %" PRIu64, at, w->step);
    if (w->what && w->peer >= 0)
        snprintf(s.waits_for, sizeof s.waits_for, "rank %d in %s", w->peer, w->what);
    else if (w->what)
        snprintf(s.waits_for, sizeof s.waits_for, "others in %s", w->what);
    if (w->what) s.waited += sid2_clock() - w->expected;
    return s;
}

static void describe(const sid2_watch *w, char line[480])
{
    sid2_watch_sight s = sight_of(w);
    snprintf(line, 480,
             "rank %d of %d on %s: %s has taken more than %.3g s, and waits for %s "
             "(SID2_DEADLINES=%s=SECONDS allows "
             "more)",
             w->place.rank, w->place.ranks, w->place.host, s.doing, w->until - w->since,
             s.waits_for[0] ? s.waits_for : "no rank", phases[w->phase].name);
}

/* Until the phase's end, or as good as for ever. */
static void wait_for_it(sid2_watch *w)
{
    if (!w->until) {
        pthread_cond_wait(&w->changed, &w->lock);
        return;
    }
    time_t whole = (time_t)w->until;
    const struct timespec end = {whole, (long)(1e9 * (w->until - (double)whole))};
    pthread_cond_timedwait(&w->changed, &w->lock, &end);
}

static void *watch(void *data)
{
    sid2_watch *w = data;
    char line[480] = "";
    pthread_mutex_lock(&w->lock);
    while (!w->leave && !line[0]) {
        wait_for_it(w);
        if (!w->leave && w->until && sid2_clock() >= w->until) describe(w, line);
    }
    pthread_mutex_unlock(&w->lock);
    if (line[0]) w->breach(w->user, line);
    return NULL;
}

sid2_watch *sid2_watch_begin(const sid2_place *place, sid2_watch_breach breach, void *user, sid2_error *err)
{
    sid2_watch *w = calloc(1, sizeof *w);
    if (!w) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory for the watch"), NULL;
    *w = (sid2_watch){.place = *place, .breach = breach, .user = user};
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    bool ok =
        find_limits(w, err) && (sid2_thread_start(&w->thread, watch, w) ||
                                sid2_fail(err, SID2_ERR_MEMORY, "the system has no thread for the watch"));
    if (ok) return w;
    pthread_cond_destroy(&w->changed);
    pthread_mutex_destroy(&w->lock);
    free(w);
    return NULL;
}

void sid2_watch_end(sid2_watch *w)
{
    if (!w) return;
    pthread_mutex_lock(&w->lock);
    w->leave = true;
    pthread_cond_signal(&w->changed);
    pthread_mutex_unlock(&w->lock);
    pthread_join(w->thread, NULL);
    pthread_cond_destroy(&w->changed);
    pthread_mutex_destroy(&w->lock);
    free(w);
}

void sid2_watch_enter(sid2_watch *w, sid2_phase phase, uint64_t step)
{
    if (!w) return;
    double now = sid2_clock();
    pthread_mutex_lock(&w->lock);
    if (w->phase == SID2_PHASE_STEP && phase == SID2_PHASE_STEP) w->took[w->steps++ % STEPS] = now - w->since;
    double limit = limit_of(w, phase), before = w->until;
    w->phase = phase;
    w->step = step;
    w->since = now;
    w->until = limit > 0 ? now + limit : 0;
    if (w->until && (!before || w->until < before)) pthread_cond_signal(&w->changed); /* it sleeps too long */
    pthread_mutex_unlock(&w->lock);
}

void sid2_watch_expect(sid2_watch *w, const char *what, int peer)
{
    if (!w) return;
    double now = sid2_clock();
    pthread_mutex_lock(&w->lock);
    if (w->what) w->waited += now - w->expected;
    w->expected = now;
    w->what = what;
    w->peer = peer;
    pthread_mutex_unlock(&w->lock);
}

sid2_watch_sight sid2_watch_look(sid2_watch *w)
{
    if (!w) return (sid2_watch_sight){.doing = ""};
    pthread_mutex_lock(&w->lock);
    sid2_watch_sight s = sight_of(w);
    pthread_mutex_unlock(&w->lock);
    return s;
}
