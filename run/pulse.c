#include "pulse.h"

#include "file.h"
#include "json.h"
#include "team.h"

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum {
    WINDOW = 60 / SID2_PULSE_SECONDS,
    PATIENCE = 4 * SID2_PULSE_SECONDS,
    MOST_RANKS = 1 << 16 /* that are shown */
};

struct sid2_pulse {
    char path[4096];
    sid2_group *group;
    const char *device;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    /* Under the lock. */
    bool leave;
    struct {
        double at, waited; /* seconds */
    } beat[WINDOW];        /* the last ones, a ring */
    int beats;             /* all there were */
};

/* ---- Saying ---- */

/* Of the time since the oldest beat that is remembered. A device's queue waits by itself, unseen. */
static double share_of_waiting(const sid2_pulse *p, double waited)
{
    int oldest = p->beats < WINDOW ? 0 : p->beats % WINDOW;
    double past = sid2_clock() - p->beat[oldest].at;
    if (!p->beats || past <= 0 || sid2_group_queues(p->group)) return NAN;
    return fmin(1, fmax(0, (waited - p->beat[oldest].waited) / past));
}

static bool say(const sid2_pulse *p, const sid2_watch_sight *s, double waits)
{
    struct rusage usage;
    const sid2_place *place = sid2_group_place(p->group);
    getrusage(RUSAGE_SELF, &usage);
    json_t *root =
        json_pack("{s:i, s:i, s:s, s:s, s:s, s:s, s:o, s:o, s:I, s:I}", "rank", place->rank, "ranks",
                  place->ranks, "host", place->host, "device", p->device, "doing", s->doing, "waits_for",
                  s->waits_for, "seconds", sid2_json_real(s->seconds), "waits", sid2_json_real(waits),
                  "memory", (json_int_t)usage.ru_maxrss * 1024, "time", (json_int_t)time(NULL));
    char *text = root ? json_dumps(root, JSON_INDENT(2) | JSON_REAL_PRECISION(4)) : NULL;
    json_decref(root);
    sid2_atomic_file file;
    bool ok = text && sid2_atomic_open(&file, p->path, NULL);
    if (ok) {
        file.passing = true;
        fprintf(file.stream, "%s\n", text);
        ok = sid2_atomic_commit(&file, NULL);
    }
    free(text);
    return ok;
}

/* What cannot be written is not: the training is worth more than what is said of it. */
static void *beat(void *data)
{
    sid2_pulse *p = data;
    pthread_mutex_lock(&p->lock);
    while (!p->leave) {
        sid2_watch_sight sight = sid2_group_sight(p->group);
        double waits = share_of_waiting(p, sight.waited);
        p->beat[p->beats % WINDOW].at = sid2_clock();
        p->beat[p->beats++ % WINDOW].waited = sight.waited;
        pthread_mutex_unlock(&p->lock);
        say(p, &sight, waits);
        struct timespec next;
        clock_gettime(CLOCK_MONOTONIC, &next);
        next.tv_sec += SID2_PULSE_SECONDS;
        pthread_mutex_lock(&p->lock);
        while (!p->leave && !pthread_cond_timedwait(&p->changed, &p->lock, &next)) {
        }
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

sid2_pulse *sid2_pulse_begin(const char *run, sid2_group *group, const char *device)
{
    sid2_pulse *p = group ? calloc(1, sizeof *p) : NULL;
    if (!p) return NULL;
    p->group = group;
    p->device = device;
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    if (sid2_path(p->path, NULL, "%s/ranks/%d.json", run, sid2_group_rank(group)) &&
        sid2_thread_start(&p->thread, beat, p))
        return p;
    pthread_cond_destroy(&p->changed);
    pthread_mutex_destroy(&p->lock);
    free(p);
    return NULL;
}

double sid2_pulse_waits(sid2_pulse *p)
{
    if (!p) return NAN;
    double waited = sid2_group_sight(p->group).waited;
    pthread_mutex_lock(&p->lock);
    double share = share_of_waiting(p, waited);
    pthread_mutex_unlock(&p->lock);
    return share;
}

void sid2_pulse_end(sid2_pulse *p, bool in_order)
{
    if (!p) return;
    pthread_mutex_lock(&p->lock);
    p->leave = true;
    pthread_cond_signal(&p->changed);
    pthread_mutex_unlock(&p->lock);
    pthread_join(p->thread, NULL);
    if (in_order && !remove(p->path)) {
        *strrchr(p->path, '/') = 0;
        rmdir(p->path); /* by the last of them */
    }
    pthread_cond_destroy(&p->changed);
    pthread_mutex_destroy(&p->lock);
    free(p);
}

/* ---- Hearing ---- */

/* -1: it is no rank's. */
static int rank_of(const char *name)
{
    char *end;
    if (*name < '0' || *name > '9' || (*name == '0' && name[1] != '.')) return -1;
    errno = 0;
    long rank = strtol(name, &end, 10);
    return !errno && rank < MOST_RANKS && strcmp(end, ".json") == 0 ? (int)rank : -1;
}

static bool is_rank(const char *name) { return rank_of(name) >= 0; }

void sid2_pulse_clear(const char *run)
{
    char folder[4096], path[4096];
    sid2_list list = {0};
    if (!sid2_path(folder, NULL, "%s/ranks", run) || !sid2_list_folder(&list, folder, is_rank, NULL)) return;
    for (size_t i = 0; i < list.count; i++)
        if (sid2_path(path, NULL, "%s/%s", folder, list.name[i])) remove(path);
    sid2_list_free(&list);
}

static void take_text(char *to, size_t size, const json_t *root, const char *key)
{
    const char *value = json_string_value(json_object_get(root, key));
    snprintf(to, size, "%s", value ? value : "");
}

/* One that begins or ends meanwhile is not heard of. */
static void hear(const char *folder, const char *name, sid2_rank_status *r, json_int_t *ranks)
{
    char path[4096];
    size_t size;
    json_error_t problem;
    *r = (sid2_rank_status){.rank = rank_of(name), .seconds = NAN, .waits = NAN, .age = NAN};
    uint8_t *text =
        sid2_path(path, NULL, "%s/%s", folder, name) ? sid2_file_read(path, 1 << 14, &size, NULL) : NULL;
    json_t *root = text ? sid2_json_read(text, size, 0, &problem) : NULL;
    free(text);
    take_text(r->host, sizeof r->host, root, "host");
    take_text(r->device, sizeof r->device, root, "device");
    take_text(r->doing, sizeof r->doing, root, "doing");
    take_text(r->waits_for, sizeof r->waits_for, root, "waits_for");
    r->seconds = sid2_json_number(root, "seconds");
    r->waits = sid2_json_number(root, "waits");
    double memory = sid2_json_number(root, "memory"), said = sid2_json_number(root, "time");
    if (memory > 0 && memory < 0x1p62) r->memory = (uint64_t)memory;
    if (isfinite(said)) r->age = fmax(0, (double)time(NULL) - said);
    r->silent = !(r->age < PATIENCE);
    json_int_t all = json_integer_value(json_object_get(root, "ranks"));
    if (all > *ranks && all <= MOST_RANKS) *ranks = all;
    json_decref(root);
}

bool sid2_pulse_read(const char *run, sid2_rank_status **ranks, int *count, sid2_error *err)
{
    char folder[4096];
    sid2_list list = {0};
    json_int_t all = 0; /* that there are, as they say */
    *ranks = NULL;
    *count = 0;
    if (!sid2_path(folder, err, "%s/ranks", run) || !sid2_list_folder(&list, folder, is_rank, err))
        return false;
    sid2_rank_status *heard = calloc(list.count + 1, sizeof *heard);
    bool ok = heard;
    for (size_t i = 0; ok && i < list.count; i++) hear(folder, list.name[i], &heard[i], &all);
    if (ok && all) *ranks = calloc((size_t)all, sizeof **ranks);
    ok = (ok && (!all || *ranks)) || sid2_fail(err, SID2_ERR_MEMORY, "%s: out of memory", run);
    if (ok) *count = (int)all;
    for (int r = 0; ok && r < *count; r++)
        (*ranks)[r] = (sid2_rank_status){.rank = r, .seconds = NAN, .waits = NAN, .age = NAN, .silent = true};
    for (size_t i = 0; *ranks && i < list.count; i++)
        if (heard[i].rank < *count) (*ranks)[heard[i].rank] = heard[i];
    free(heard);
    sid2_list_free(&list);
    return ok;
}
