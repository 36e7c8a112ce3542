#include "ranks.h"

#include "launch.h"
#include "transports.h"

#include <math.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* ---- Its device ---- */

/* Whether something has bound this process to some of the machine's cores. */
static bool is_bound(void)
{
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) < sysconf(_SC_NPROCESSORS_ONLN);
}

/* 0: as many as one process alone would take. */
static int threads_of(const sid2_place *place)
{
    int cores = 0;
    if (place->local_ranks <= 1 || is_bound()) return 0;
    sid2_device_list *list = sid2_devices(NULL, NULL);
    for (int i = 0; list && i < sid2_device_list_count(list); i++) {
        const sid2_device_info *info = sid2_device_list_at(list, i);
        if (strcmp(info->id, "cpu") == 0) cores = info->cores;
    }
    sid2_device_list_destroy(list);
    return cores > place->local_ranks ? cores / place->local_ranks : 1;
}

static sid2_device *open_rank_device(const device_choice *choice, const sid2_place *place, sid2_error *err)
{
    device_choice own = *choice;
    char id[32];
    bool free_choice = !own.id || strcmp(own.id, "auto") == 0 || strcmp(own.id, "cuda") == 0;
    int gpus = free_choice ? count_gpus(err) : 0;
    if (gpus < 0) return NULL;
    snprintf(id, sizeof id, "cuda:%d", gpus ? place->local_rank % gpus : 0);
    if (gpus) own.id = id;
    if (!own.threads) own.threads = threads_of(place);
    return open_device(&own, err);
}

/* ---- The others ---- */

/* The thread that is stuck may hold any lock, of stdio's too. Nobody waits for a terminal that was stopped. */
static void on_breach(void *user, const char *line)
{
    char text[600];
    struct pollfd to = {.fd = STDERR_FILENO, .events = POLLOUT};
    int length = snprintf(text, sizeof text, "sid2: %s; come again\n", line);
    (void)user;
    if (poll(&to, 1, 1000) > 0 && write(STDERR_FILENO, text, (size_t)length) < 0) _exit(EXIT_AGAIN);
    _exit(EXIT_AGAIN);
}

bool ranks_join(ranks *r, const device_choice *on, sid2_error *err)
{
    if (!r->place.ranks && !sid2_place_find(&r->place, err)) return false;
    if (r->place.ranks == 1) return true;
    const sid2_transport *transport = NULL;
    bool ok = (!on || (r->device = open_rank_device(on, &r->place, err))) &&
              (r->watch = sid2_watch_begin(&r->place, on_breach, NULL, err)) &&
              (transport = sid2_transport_open(&r->place, r->device, err));
    sid2_watch_enter(r->watch, SID2_PHASE_JOIN, 0);
    /* What takes too long is the watch's to say. */
    ok = ok && (r->group = sid2_group_join(transport, &r->place, INFINITY, err));
    sid2_group_watch(r->group, r->watch);
    sid2_watch_enter(r->watch, SID2_PHASE_IDLE, 0);
    return ok;
}

sid2_device *ranks_device(ranks *r, const device_choice *on, sid2_error *err)
{
    if (!r->device) r->device = open_device(on, err);
    return r->device;
}

int ranks_leave(ranks *r, int code, const sid2_error *err)
{
    if (r->place.ranks > 1 && err->code == SID2_ERR_LOST) { /* whatever is closed now might wait for them */
        fflush(NULL);
        _exit(EXIT_AGAIN);
    }
    sid2_watch_enter(r->watch, SID2_PHASE_LEAVE, 0);
    sid2_group_leave(r->group, true);
    sid2_device_close(r->device);
    sid2_watch_end(r->watch);
    return code;
}

bool ranks_speak(const ranks *r) { return r->place.rank == 0; }

int ranks_report(const ranks *r, const char *command, const sid2_error *err)
{
    char name[96];
    sid2_error named = *err;
    bool joined = r->group || r->place.ranks <= 1; /* else nobody knows of it but this one */
    if (!ranks_speak(r) && joined && err->code != SID2_ERR_LOST)
        return err->code == SID2_ERR_USAGE ? EXIT_REQUEST : EXIT_FAILED;
    snprintf(named.message, sizeof named.message, "%s%.370s", ranks_name(r, name), err->message);
    return report_error(command, &named);
}

const char *ranks_name(const ranks *r, char text[96])
{
    text[0] = 0;
    if (r->place.rank) snprintf(text, 96, "rank %d on %s: ", r->place.rank, r->place.host);
    return text;
}
