#include "snapshot.h"

#include <stdlib.h>

#include "classes.h"

/* A trainer without a device, of which all arrays lie in host memory: so it is saved as any other is. */
struct sid2_snapshot {
    sid2_trainer still;
};

/* The arrays of a state's files. */
static int arrays_of(const sid2_state_rule *rule, const char *what[SID2_MAX_KEPT])
{
    sid2_state_file files[SID2_MAX_STATE_FILES];
    int count = sid2_state_files(rule, files), arrays = 0;
    for (int i = 0; i < count; i++)
        for (int k = 0; k < files[i].arrays; k++) what[arrays++] = files[i].array[k];
    return arrays;
}

size_t sid2_snapshot_bytes(const sid2_trainer *t)
{
    size_t bytes = 0;
    for (int i = 0; i < t->recipe.state_count; i++)
        bytes += sid2_state_snapshot(&t->states[i].rule, t->states[i].params->elements);
    return bytes;
}

static bool copy_state(const sid2_state *from, sid2_state *to, sid2_error *err)
{
    bool keeps = sid2_group_rank(from->group) == 0, ok = true;
    size_t elements = (size_t)from->params->elements;
    *to = (sid2_state){.rule = from->rule, .params = from->params, .masters = from->masters, .buckets = 1};
    to->bucket[0] = to->own[0] = (sid2_span){0, from->params->elements};
    to->owned = from->params->elements;
    const char *what[SID2_MAX_KEPT];
    int count = arrays_of(&from->rule, what);
    for (int i = 0; ok && i < count; i++) {
        float *flat = malloc(elements * sizeof *flat);
        ok = sid2_group_concur(from->group,
                               flat || sid2_fail(err, SID2_ERR_MEMORY, "out of memory for a snapshot"), err);
        ok = ok && sid2_state_gather(from, what[i], flat, err);
        if (keeps)
            to->kept[to->kept_count++] = (sid2_kept){what[i], flat};
        else
            free(flat);
    }
    return ok;
}

sid2_snapshot *sid2_snapshot_take(sid2_trainer *t, sid2_error *err)
{
    sid2_snapshot *s = calloc(1, sizeof *s);
    bool ok = sid2_group_concur(t->group, s || sid2_fail(err, SID2_ERR_MEMORY, "out of memory"), err) && s &&
              sid2_trainer_compare(t, err);
    if (ok) {
        s->still = (sid2_trainer){.config = t->config,
                                  .recipe = t->recipe,
                                  .steps = t->steps,
                                  .images = t->images,
                                  .broken = t->broken};
        s->still.training.lanes = t->training.lanes;
        s->still.training.microbatch = t->training.microbatch;
        bool named = !t->classes || (s->still.classes = sid2_classes_clone(t->classes, err));
        ok = sid2_group_concur(t->group, named, err);
    }
    for (int i = 0; ok && i < t->recipe.state_count; i++)
        ok = copy_state(&t->states[i], &s->still.states[i], err);
    if (ok) return s;
    sid2_snapshot_free(s);
    return NULL;
}

bool sid2_snapshot_save(sid2_snapshot *s, const char *directory, sid2_error *err)
{
    return sid2_trainer_save(&s->still, directory, err);
}

void sid2_snapshot_free(sid2_snapshot *s)
{
    if (!s) return;
    for (int i = 0; i < SID2_MAX_STATES; i++)
        for (int k = 0; k < s->still.states[i].kept_count; k++) free(s->still.states[i].kept[k].flat);
    sid2_classes_destroy(s->still.classes);
    free(s);
}
