/* What a training says: to its caller, always in the caller's thread, and to those who look in from elsewhere. */
#include "at_work.h"

#include "dataset.h"
#include "status.h"

#include <stdlib.h>
#include <string.h>

static void call(sid2_run *r, sid2_run_event event)
{
    if (r->planned) event.plan = &r->plan;
    event.progress = &r->progress;
    if (r->options.callback && !r->options.callback(r->options.user, &event)) r->wish = true;
}

void sid2_tell_notes(sid2_run *r)
{
    pthread_mutex_lock(&r->lock);
    sid2_note *next = r->first_note;
    r->first_note = NULL;
    r->last_note = &r->first_note;
    pthread_mutex_unlock(&r->lock);
    for (sid2_note *now; (now = next); free(now)) {
        next = now->next;
        call(r, (sid2_run_event){.kind = SID2_RUN_WARNING, .text = now->text});
    }
}

void sid2_tell(sid2_run *r, sid2_run_event event)
{
    sid2_tell_notes(r);
    call(r, event);
}

void sid2_tell_text(sid2_run *r, sid2_run_event_kind kind, const char *text)
{
    if (!sid2_leads(r)) return;
    sid2_tell(r, (sid2_run_event){.kind = kind, .text = text});
}

void sid2_tell_state(sid2_run *r, const char *state, const char *message)
{
    double now = sid2_clock();
    sid2_error err = {0};
    bool same = strcmp(state, r->state) == 0;
    if (r->folder.lock < 0 || r->silent || (same && now - r->said_at < 1)) return;
    snprintf(r->state, sizeof r->state, "%s", state);
    r->said_at = now;
    if (sid2_status_save(r->folder.path, state, message, &r->progress, &err)) return;
    r->silent = true;
    sid2_tell_text(r, SID2_RUN_WARNING, err.message);
}

void sid2_tell_note(sid2_run *r)
{
    if (r->folder.note[0]) sid2_tell_text(r, SID2_RUN_WARNING, r->folder.note);
    r->folder.note[0] = 0;
}

void sid2_tell_skip(void *user, const char *name, const char *reason)
{
    sid2_run *r = user;
    sid2_note *fresh = malloc(sizeof *fresh);
    if (!fresh) return;
    fresh->next = NULL;
    snprintf(fresh->text, sizeof fresh->text, "left out: %s: %s", name, reason);
    pthread_mutex_lock(&r->lock);
    *r->last_note = fresh;
    r->last_note = &fresh->next;
    pthread_mutex_unlock(&r->lock);
}

void sid2_tell_losses(sid2_run *r)
{
    char line[SID2_LOSS_LINE], text[640];
    int64_t broken = r->data ? sid2_dataset_broken(r->data) : 0;
    if (!r->data || (r->losses_told && broken == r->broken_told)) return;
    for (int i = 0; sid2_dataset_loss_line(r->data, i, line); i++) {
        snprintf(text, sizeof text, "left out: %.620s", line);
        sid2_tell_text(r, SID2_RUN_WARNING, text);
    }
    char *empty = r->losses_told ? NULL : sid2_dataset_empty_classes(r->data);
    if (empty) sid2_tell_text(r, SID2_RUN_WARNING, empty);
    free(empty);
    r->losses_told = true;
    r->broken_told = broken;
}

void sid2_tell_events(sid2_run *r, bool written, const sid2_error *cause)
{
    if (written) return;
    sid2_events_close(&r->events);
    sid2_tell_text(r, SID2_RUN_WARNING, cause->message);
}
