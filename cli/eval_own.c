#include "eval_own.h"

#include "json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { REAL_PICTURES = 2000 };

typedef struct watch {
    progress *bar;
    const char *doing;
} watch;

static bool on_done(void *user, double done)
{
    watch *w = user;
    progress_show(w->bar, done, "%s: %.0f %%", w->doing, 100 * done);
    return !interrupted();
}

/* ---- Measuring ---- */

static bool measure_bits(own_findings *j, const own_wish *wish, sid2_device *device, const sid2_config *c,
                         const char *checkpoint, const sid2_heldout *heldout, progress *bar, sid2_error *err)
{
    int levels = (int)(config_int(c, "eval.levels") + SID2_BANDS - 1) / SID2_BANDS;
    sid2_heldout training = {0};
    sid2_evaluator *e = sid2_evaluator_create(device, c, wish->memory, err);
    bool ok = e && sid2_evaluator_load(e, checkpoint, !wish->raw, err) &&
              sid2_bits_measure(&j->heldout, heldout, e, levels, on_done, &(watch){bar, "bits"}, err);
    j->has_gap = !wish->all && config_real(c, "train.holdout") > 0;
    ok = ok && (!j->has_gap ||
                (sid2_pictures_read(&training, wish->data, c, SID2_PART_TRAIN, heldout->count, err) &&
                 sid2_bits_measure(&j->training, &training, e, levels, on_done,
                                   &(watch){bar, "bits of training pictures"}, err)));
    sid2_heldout_free(&training);
    sid2_evaluator_destroy(e);
    j->has_bits = ok;
    return ok;
}

static bool compare(own_findings *j, const sid2_samples *s, const own_wish *wish, const sid2_config *c,
                    const sid2_heldout *heldout, sid2_error *err)
{
    sid2_heldout training;
    sid2_real_pictures *real = NULL;
    j->floor_count = heldout->count < s->count ? heldout->count : s->count;
    bool ok = sid2_pictures_read(&training, wish->data, c, wish->all ? SID2_PART_ALL : SID2_PART_TRAIN,
                                 REAL_PICTURES, err);
    if (ok) {
        const sid2_pictures known = sid2_pictures_of(c, training.pixels, training.count),
                            samples = sid2_pictures_of(c, s->pixels, s->count),
                            other = sid2_pictures_of(c, heldout->pixels, j->floor_count);
        ok = (real = sid2_real_pictures_create(&known, err)) &&
             sid2_real_pictures_compare(real, &samples, &j->distances, err) &&
             sid2_real_pictures_compare(real, &other, &j->floor, err);
    }
    sid2_real_pictures_destroy(real);
    sid2_heldout_free(&training);
    return ok;
}

static bool measure_samples(own_findings *j, const own_wish *wish, sid2_device *device, const sid2_config *c,
                            const char *checkpoint, const sid2_heldout *heldout, progress *bar,
                            sid2_error *err)
{
    sid2_samples s;
    bool ok = sid2_samples_draw(&s, device, c, checkpoint, NULL, !wish->raw, (int)wish->samples, 0,
                                wish->memory, on_done, &(watch){bar, "drawing samples"}, err) &&
              compare(j, &s, wish, c, heldout, err);
    if (ok && !wish->all)
        ok = sid2_neighbours_find(&j->near, &s, wish->data, c, on_done,
                                  &(watch){bar, "looking through the training pictures"}, err) &&
             (!wish->nearest || sid2_neighbours_write(&j->near, &s, wish->data, c, 36, wish->nearest, err));
    j->samples = s.count;
    j->has_samples = ok;
    sid2_samples_free(&s);
    return ok;
}

bool own_measure(own_findings *j, const own_wish *wish, sid2_device *device, const sid2_config *c,
                 const char *checkpoint, const sid2_heldout *heldout, progress *bar, sid2_error *err)
{
    bool ok = (!wish->bits || measure_bits(j, wish, device, c, checkpoint, heldout, bar, err)) &&
              (!wish->samples || measure_samples(j, wish, device, c, checkpoint, heldout, bar, err));
    progress_clear(bar);
    return ok;
}

void own_free(own_findings *j) { sid2_neighbours_free(&j->near); }

/* ---- Showing ---- */

static void print_part(const own_findings *j, const char *name, double heldout, double training)
{
    printf("%-16s %10.4f", name, heldout);
    if (j->has_gap) printf(" %10.4f %+10.4f", training, heldout - training);
    putchar('\n');
}

static void print_bits(const own_findings *j)
{
    const sid2_bits *h = &j->heldout, *t = &j->training;
    char name[32];
    printf("\nbits a dimension  held out%s\n", j->has_gap ? "   training        gap" : "");
    print_part(j, "prior", h->prior, t->prior);
    for (int i = 0; i < SID2_BANDS; i++) {
        snprintf(name, sizeof name, "logSNR %+.0f to %+.0f", sid2_band_logsnr(i) - 1,
                 sid2_band_logsnr(i) + 1);
        print_part(j, name, h->band[i], t->band[i]);
    }
    print_part(j, "pixel values", h->pixel, t->pixel);
    print_part(j, "all", h->total, t->total);
    if (isfinite(h->deviation)) {
        printf("%-16s %10.4f", "standard error", h->deviation);
        if (j->has_gap) printf(" %10.4f %10.4f", t->deviation, hypot(h->deviation, t->deviation));
        putchar('\n');
    }
    puts(
        "\na bound on -log2 p(x), of the model given the class; a gap is what it knows of the training "
        "pictures alone");
}

static void print_samples(const own_findings *j, const own_wish *wish)
{
    const char *to = wish->all ? "the pictures" : "training pictures";
    printf("\n%d samples, and %d %s pictures for comparison, by their distance to %s\n", j->samples,
           j->floor_count, wish->all ? "real" : "held-out", to);
    printf("pixel-PCA        %10.4f %10.4f        a Fréchet distance, but not FID\n", j->distances.pixels,
           j->floor.pixels);
    printf("spectrum, dB     %10.4f %10.4f\n", j->distances.spectrum, j->floor.spectrum);
    if (!j->near.samples) return;
    printf(
        "\nnearer to one of %d training than of %d held-out pictures: %.1f %% of the samples (50 %% ± %.1f "
        "%% "
        "where nothing is known by heart)\n",
        j->near.set, j->near.set, 100 * j->near.share, 100 * j->near.deviation);
    if (wish->nearest)
        printf("%s: samples, and below each the nearest of all training pictures\n", wish->nearest);
}

void own_print(const own_findings *j, const own_wish *wish)
{
    if (j->has_bits) print_bits(j);
    if (j->has_samples) print_samples(j, wish);
}

static json_t *bits_json(const sid2_bits *b)
{
    json_t *bands = json_array();
    bool ok = bands != NULL;
    for (int i = 0; ok && i < SID2_BANDS; i++)
        ok = !json_array_append_new(bands, json_pack("{s:f, s:f, s:f}", "logsnr", sid2_band_logsnr(i),
                                                     "x_mse", b->mse[i], "bits", b->band[i]));
    if (!ok) json_decref(bands);
    return json_pack("{s:i, s:f, s:o, s:f, s:f, s:o}", "images", b->images, "all", b->total, "standard_error",
                     sid2_json_real(b->deviation), "prior", b->prior, "pixel_values", b->pixel, "levels",
                     ok ? bands : NULL);
}

bool own_json(const own_findings *j, json_t *object)
{
    bool ok = true;
    if (j->has_bits) {
        json_t *bits = json_object();
        ok = bits && !json_object_set_new(bits, "held_out", bits_json(&j->heldout)) &&
             (!j->has_gap || !json_object_set_new(bits, "training", bits_json(&j->training)));
        if (!ok) json_decref(bits);
        ok = ok && !json_object_set_new(object, "bits", bits);
    }
    if (ok && j->has_samples) {
        json_t *samples =
            json_pack("{s:i, s:f, s:f, s:i, s:f, s:f}", "count", j->samples, "pixel_pca", j->distances.pixels,
                      "spectrum_db", j->distances.spectrum, "held_out_count", j->floor_count,
                      "held_out_pixel_pca", j->floor.pixels, "held_out_spectrum_db", j->floor.spectrum);
        ok = samples && (!j->near.samples ||
                         !json_object_set_new(samples, "neighbours",
                                              json_pack("{s:i, s:f, s:f}", "set", j->near.set, "share",
                                                        j->near.share, "deviation", j->near.deviation)));
        if (!ok) json_decref(samples);
        ok = ok && !json_object_set_new(object, "samples", samples);
    }
    return ok;
}
