#include "fid.h"

#include "digest.h"
#include "frechet.h"
#include "judge.h"

#include <stdlib.h>

enum { BATCH = 16 }; /* pictures at a time */

struct sid2_fid {
    sid2_judge *judge;
    char digest[33];
    sid2_gaussian real;
};

sid2_fid *sid2_fid_open(sid2_device *device, const char *weights, sid2_error *err)
{
    sid2_fid *f = calloc(1, sizeof *f);
    if (!f) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory"), NULL;
    if (sid2_digest_file(weights, f->digest, err) &&
        (f->judge = sid2_judge_open(device, weights, BATCH, false, err)))
        return f;
    sid2_fid_close(f);
    return NULL;
}

void sid2_fid_close(sid2_fid *f)
{
    if (!f) return;
    sid2_judge_close(f->judge);
    sid2_gaussian_free(&f->real);
    free(f);
}

const char *sid2_fid_digest(const sid2_fid *f) { return f->digest; }

/* The Gaussian of a set's features; what the network says besides is dropped. */
static bool look(sid2_fid *f, const sid2_pictures *p, sid2_gaussian *g, sid2_heldout_callback callback,
                 void *user, sid2_error *err)
{
    const int64_t width = sid2_judge_width(f->judge);
    const size_t bytes = (size_t)p->height * (size_t)p->width * (size_t)p->channels;
    float *rows = malloc(BATCH * (size_t)width * sizeof *rows);
    sid2_moments *moments = sid2_moments_create(SID2_INCEPTION_FEATURES, err);
    bool ok = moments && (rows || sid2_fail(err, SID2_ERR_MEMORY, "out of memory"));
    for (int first = 0; ok && first < p->count; first += BATCH) {
        int count = p->count - first < BATCH ? p->count - first : BATCH;
        ok = sid2_judge_rows(f->judge, p->pixels + (size_t)first * bytes, count, p->height, p->width,
                             p->channels, rows, err);
        for (int i = 0; ok && i < count; i++) ok = sid2_moments_add(moments, rows + i * width, 1, err);
        if (ok && !callback(user, (double)(first + count) / p->count))
            ok = sid2_fail(err, SID2_ERR_CANCELLED, "stopped");
    }
    ok = ok && sid2_moments_get(moments, g, err);
    sid2_moments_destroy(moments);
    free(rows);
    return ok;
}

bool sid2_fid_set_real(sid2_fid *f, const sid2_pictures *real, sid2_heldout_callback callback, void *user,
                       sid2_error *err)
{
    sid2_gaussian_free(&f->real);
    return look(f, real, &f->real, callback, user, err);
}

bool sid2_fid_measure(sid2_fid *f, const sid2_pictures *pictures, double *distance,
                      sid2_heldout_callback callback, void *user, sid2_error *err)
{
    sid2_gaussian g = {0};
    bool ok = look(f, pictures, &g, callback, user, err) && sid2_frechet(&f->real, &g, distance, err);
    sid2_gaussian_free(&g);
    return ok;
}
