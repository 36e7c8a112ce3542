#include "length.h"

#include "averages.h"
#include "file.h"
#include "profile.h"

#include <stdlib.h>
#include <string.h>

static bool is_length(double value) { return value > 0 && value <= SID2_LENGTH_MOST; }

bool lengths_parse(const char *text, double lengths[MAX_LENGTHS], int *count, sid2_error *err)
{
    *count = 0;
    for (const char *at = text; *at;) {
        char *end;
        double value = sid2_text_real(at, &end);
        if (end == at || (*end && *end != ',') || !is_length(value) || *count == MAX_LENGTHS) break;
        lengths[(*count)++] = value;
        at = *end ? end + 1 : end;
        if (!*at && !*end) return true;
    }
    return sid2_fail(err, SID2_ERR_USAGE,
                     "--ema '%s' should be lengths of up to %g, %d at most, such as 0.02,0.05,0.1", text,
                     SID2_LENGTH_MOST, MAX_LENGTHS);
}

/* Fills in the shares. */
static bool choose_shares(sid2_mixture *m, double length, char how[160], sid2_error *err)
{
    size_t count = (size_t)m->count;
    sid2_profile *of = calloc(count, sizeof *of);
    double *shares = calloc(count, sizeof *shares), lack = 0;
    bool ok = (of && shares) || sid2_fail(err, SID2_ERR_MEMORY, "out of memory to mix averages");
    for (size_t i = 0; ok && i < count; i++) of[i] = (sid2_profile){m->item[i].time, m->item[i].power};
    ok = ok && sid2_profile_mix(of, m->count, (sid2_profile){m->time, sid2_length_power(length)}, shares,
                                &lack, err);
    for (size_t i = 0; ok && i < count; i++) m->item[i].share = shares[i];
    if (ok)
        sid2_text_format(how, 160, ", averaged over %s of the training: from %d averages, %.2f %% off",
                         m->length, m->count, 100 * lack);
    free(of);
    free(shares);
    return ok;
}

bool length_export(const char *checkpoint, double length, const char *to, sid2_dtype dtype, char how[160],
                   sid2_error *err)
{
    sid2_mixture m;
    if (!is_length(length))
        return sid2_fail(err, SID2_ERR_USAGE, "--ema %g should be a length of up to %g, such as 0.05", length,
                         SID2_LENGTH_MOST);
    if (!sid2_mixture_open(&m, checkpoint, err)) return false;
    sid2_text_format(m.length, sizeof m.length, "%g", length);
    bool ok = choose_shares(&m, length, how, err) && sid2_mixture_export(&m, checkpoint, to, dtype, err);
    sid2_mixture_close(&m);
    return ok;
}

bool length_enter(length_scratch *s, const char *checkpoint, double length, char how[160], sid2_error *err)
{
    return sid2_scratch_folder(s->root, err) && sid2_path(s->checkpoint, err, "%s/average", s->root) &&
           length_export(checkpoint, length, s->checkpoint, SID2_F32, how, err);
}

void length_leave(length_scratch *s)
{
    if (s->root[0]) sid2_remove_tree(s->root, NULL);
    *s = (length_scratch){0};
}
