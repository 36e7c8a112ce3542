/* Records of averages (averages.h), in RUN/averages. */
#include "at_work.h"

#include "averages.h"
#include "config.h"
#include "file.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void warn(sid2_run *r, const char *path, const char *what, const char *why)
{
    char text[4400];
    snprintf(text, sizeof text, "%s %s%s", path, what, why);
    sid2_tell_text(r, SID2_RUN_WARNING, text);
}

/* Removes records that are later than `step`, or none of those that there should be by then. What stays costs room, no
 * training; what is only called like one is told of where a training begins. */
static void tidy(sid2_run *r, uint64_t step, bool begins)
{
    char folder[4096], path[4096];
    sid2_list names;
    sid2_error cause;
    uint64_t stride = sid2_record_stride(step, r->config->train_averages), own;
    if (!sid2_path(folder, &cause, "%s/averages", r->folder.path) ||
        !sid2_list_folder(&names, folder, sid2_is_record, &cause)) {
        sid2_tell_text(r, SID2_RUN_WARNING, cause.message);
        return;
    }
    for (size_t i = 0; i < names.count; i++) {
        if (sid2_record_step(names.name[i], &own) && own <= step && own % stride == 0) continue;
        if (!sid2_path(path, &cause, "%s/%s", folder, names.name[i])) continue;
        if (!sid2_record_holds(path, own)) {
            if (begins) warn(r, path, "is no record of averages that can be read, and is left as it is", "");
        } else if (unlink(path) && errno != ENOENT)
            warn(r, path, "cannot be removed: ", strerror(errno));
    }
    sid2_list_free(&names);
}

void sid2_averages_begin(sid2_run *r)
{
    char folder[4096];
    if (!r->config->train_averages) return;
    if (sid2_path(folder, NULL, "%s/averages", r->folder.path)) sid2_clear_leftovers(folder);
    tidy(r, r->progress.step, true);
}

bool sid2_averages_keep(sid2_run *r, sid2_error *err)
{
    char name[64], path[4096];
    uint64_t step = r->progress.step;
    int64_t most = r->config->train_averages;
    if (!most || step % sid2_record_stride(step, most)) return true;
    double since = sid2_clock();
    sid2_group_enter(r->group, SID2_PHASE_SAVE, step);
    bool ok = sid2_path(path, err, "%s/averages/%s", r->folder.path, sid2_record_name(step, name)) &&
              sid2_record_save(r->trainer, path, err);
    if (ok && sid2_leads(r)) tidy(r, step, false);
    r->aside += sid2_clock() - since;
    return ok;
}
