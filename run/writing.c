/* Checkpoints: at once, or from a snapshot, by a thread, while the training goes on. */
#include "at_work.h"

#include "classes.h"
#include "config.h"

#include <unistd.h>

/* Of the host, that nobody uses. */
static size_t free_memory(void)
{
    long pages = sysconf(_SC_AVPHYS_PAGES), size = sysconf(_SC_PAGESIZE);
    return pages > 0 && size > 0 ? (size_t)pages * (size_t)size : 0;
}

bool sid2_writing_choose(sid2_run *r, sid2_error *err)
{
    size_t bytes = sid2_snapshot_bytes(r->trainer);
    int64_t wish = r->config->train_snapshot;
    bool room = sid2_device_describe(r->device)->own_memory && bytes <= free_memory() / 2;
    r->writing.beside = wish == SID2_SNAPSHOT_on || (wish == SID2_SNAPSHOT_auto && room);
    return sid2_group_share(r->group, &r->writing.beside, sizeof r->writing.beside, err);
}

static void point_best(sid2_run *r, uint64_t step)
{
    sid2_error err = {0};
    if (!sid2_folder_point_best(&r->folder, step, &err)) sid2_tell_text(r, SID2_RUN_WARNING, err.message);
}

/* What stays costs room, no training. */
static void prune(sid2_run *r, uint64_t step)
{
    sid2_error cause;
    if (sid2_leads(r) && !sid2_checkpoint_prune(r->folder.path, step, r->config->train_keep, &cause))
        sid2_tell_text(r, SID2_RUN_WARNING, cause.message);
}

/* It is there, whole. */
static void welcome(sid2_run *r, const char *path, uint64_t step, bool best)
{
    if (sid2_leads(r) && best) point_best(r, step);
    snprintf(r->checkpoint, sizeof r->checkpoint, "%s", path);
    sid2_tell_text(r, SID2_RUN_SAVED, path);
    prune(r, step);
}

static void *write_snapshot(void *data)
{
    sid2_writing *w = data;
    w->ok = sid2_snapshot_save(w->snapshot, w->path, &w->cause);
    atomic_store(&w->done, true);
    return NULL;
}

/* Only the rank that leads has something to write, and so a thread. */
static bool begin_writing(sid2_run *r, const char *path, sid2_error *err)
{
    sid2_writing *w = &r->writing;
    if (!(w->snapshot = sid2_snapshot_take(r->trainer, err))) return false;
    snprintf(w->path, sizeof w->path, "%s", path);
    w->step = r->progress.step;
    w->best = r->progress.best_step == r->progress.step;
    w->cause = (sid2_error){0};
    w->ok = !sid2_leads(r);
    atomic_store(&w->done, !sid2_leads(r));
    w->threaded = sid2_leads(r) && sid2_thread_start(&w->thread, write_snapshot, w);
    if (sid2_leads(r) && !w->threaded) write_snapshot(w); /* the system has no more threads */
    return w->begun = true;
}

/* The thread's end is waited for. */
static void join(sid2_writing *w)
{
    if (w->threaded) pthread_join(w->thread, NULL);
    w->threaded = w->begun = false;
    sid2_snapshot_free(w->snapshot);
    w->snapshot = NULL;
}

bool sid2_writing_is_done(const sid2_run *r) { return r->writing.begun && atomic_load(&r->writing.done); }

bool sid2_writing_finish(sid2_run *r, sid2_error *err)
{
    sid2_writing *w = &r->writing;
    if (!w->begun) return true;
    sid2_group_enter(r->group, SID2_PHASE_SAVE, w->step);
    join(w);
    if (!w->ok) sid2_fail(err, w->cause.code, "%s", w->cause.message);
    if (!sid2_group_concur(r->group, w->ok, err)) return false;
    welcome(r, w->path, w->step, w->best);
    return true;
}

void sid2_writing_abandon(sid2_run *r)
{
    sid2_writing *w = &r->writing;
    if (!w->begun) return;
    join(w);
    if (w->ok && sid2_leads(r)) welcome(r, w->path, w->step, w->best);
}

bool sid2_writing_save(sid2_run *r, sid2_error *err)
{
    char path[4096];
    if (!sid2_writing_finish(r, err)) return false;
    sid2_group_enter(r->group, SID2_PHASE_SAVE, r->progress.step);
    bool ok = sid2_folder_checkpoint(&r->folder, r->progress.step, path, err) &&
              (!sid2_leads(r) || sid2_folder_flush_stats(&r->folder, err));
    if (!sid2_group_concur(r->group, ok, err)) return false;
    if (r->writing.beside) return begin_writing(r, path, err);
    if (!sid2_trainer_save(r->trainer, path, err)) return false;
    welcome(r, path, r->progress.step, r->progress.best_step == r->progress.step);
    return true;
}
