/* sid2 eval fvd: two sets of clips, or a checkpoint's samples and real clips, by the logits of I3D. */
#include "eval.h"
#include "judged.h"

#include "arrays.h"
#include "config.h"
#include "json.h"
#include "ranks.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

typedef struct job {
    const char *path, *against, *statistics;
    int64_t most, size, seed;
    bool json, raw, is_checkpoint;
    assignments set;
    char directory[4096], digest[33]; /* of a checkpoint */
    int hold;
    sid2_config *config;
    device_choice on;
    ranks ranks;
    jury jury;
    judged real, other;
    double distance;
    progress bar;
} job;

/* By the rank that has the rows. */
static bool compare(job *j, sid2_error *err)
{
    const sid2_gaussian *g = &j->other.gaussian;
    if (j->statistics && !sid2_statistics_write(j->statistics, g->mean, g->covariance, g->width, err))
        return false;
    progress_wait(&j->bar, "eigenvalues of covariances");
    bool ok = !j->against || sid2_frechet(&j->real.gaussian, g, &j->distance, err);
    progress_clear(&j->bar);
    return ok;
}

/* A checkpoint's samples are judged as published: 16 or as many frames as it makes, at 64 x 64 where they are larger, beside
 * two windows and three crops of each real video. */
static bool prepare_checkpoint(job *j, sid2_error *err)
{
    if (!judged_is_checkpoint(j->path, &j->is_checkpoint, err)) return false;
    if (!j->is_checkpoint)
        return (!j->raw && !j->seed && !j->set.count) ||
               sid2_fail(err, SID2_ERR_USAGE,
                         "%s is no checkpoint and no run: --guidance, --seed, --raw and --set are for those",
                         j->path);
    if (!j->against)
        return sid2_fail(err, SID2_ERR_USAGE,
                         "--against is missing: a checkpoint's clips go on from real ones");
    j->config = sid2_config_create();
    if (!j->config) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory");
    if (!sid2_checkpoint_hold(j->path, j->directory, sizeof j->directory, &j->hold, err) ||
        !sid2_checkpoint_config(j->directory, j->config, err) || !options_apply(j->config, &j->set, err) ||
        !sid2_config_check(j->config, err) || !sid2_checkpoint_digest(j->directory, j->digest, err))
        return false;
    const int frames = sid2_config_frames(j->config);
    if (frames < SID2_I3D_LEAST_FRAMES || (j->jury.frames && j->jury.frames != frames))
        return sid2_fail(err, SID2_ERR_USAGE, "%s makes clips of %d frames; FVD judges those of %d or more",
                         j->path, frames, SID2_I3D_LEAST_FRAMES);
    j->jury.frames = frames;
    if (!j->jury.windows) j->jury.windows = 2;
    if (!j->jury.crops) j->jury.crops = 3;
    if (!j->most) j->most = 50000;
    if (!j->size)
        j->size = sid2_config_image_height(j->config) > 64 ? 64 : sid2_config_image_height(j->config);
    return true;
}

static bool judge_checkpoint(job *j, sid2_error *err)
{
    const sampled what = {.directory = j->directory,
                          .digest = j->digest,
                          .config = j->config,
                          .raw = j->raw,
                          .seed = (uint64_t)j->seed,
                          .count = j->most};
    return judge_clip_samples(&j->jury, &what, j->against, (int32_t)j->size, (int32_t)j->size, &j->other,
                              err);
}

static bool work(job *j, sid2_error *err)
{
    sid2_group *group = j->jury.group = j->ranks.group;
    j->jury.bar = &j->bar;
    if (!sid2_group_concur(group, prepare_checkpoint(j, err), err)) return false;
    progress_begin(&j->bar);
    sid2_group_hasten(group); /* nothing is summed, so any number of ranks gives the same bits */
    j->jury.device = ranks_device(&j->ranks, &j->on, err);
    if (!sid2_group_concur(group, j->jury.device, err)) return false;
    if (j->config) sid2_config_settle_sample(j->config, j->jury.device);
    return (!j->against || judge_clips(&j->jury, j->against, 0, (int32_t)j->size, &j->real, err)) &&
           (j->is_checkpoint ? judge_checkpoint(j, err)
                             : judge_clips(&j->jury, j->path, j->most, (int32_t)j->size, &j->other, err)) &&
           sid2_group_concur(group, !jury_speaks(&j->jury) || compare(j, err), err);
}

/* ---- What it prints ---- */

static void print_set(const char *title, const judged *s)
{
    if (s->count)
        printf("%-11s %s: %" PRId64 " clips, %dx%d\n", title, s->name, s->count, s->height, s->width);
    else
        printf("%-11s %s: statistics alone\n", title, s->name);
}

static bool print_json(const job *j, sid2_error *err)
{
    json_t *all =
        json_pack("{s:s, s:s, s:I, s:I, s:I, s:s, s:f}", "path", j->path, "against", j->against, "clips",
                  (json_int_t)j->other.count, "reference_clips", (json_int_t)j->real.count, "frames",
                  (json_int_t)j->jury.frames, "weights", j->jury.digest, "fvd", j->distance);
    bool ok = json_print(all, err);
    json_decref(all);
    return ok;
}

static void warn(const job *j)
{
    int64_t least = INT64_MAX;
    if (j->real.count) least = j->real.count;
    if (j->other.count && j->other.count < least) least = j->other.count;
    if (least <= SID2_I3D_FEATURES)
        fprintf(stderr,
                "FVD of %" PRId64
                " clips is too large: its covariances have %d dimensions, and want more clips than that; "
                "compare it with such of as many alone\n",
                least, SID2_I3D_FEATURES);
}

static bool print_all(const job *j, sid2_error *err)
{
    if (!j->against) {
        printf("%s: statistics of %" PRId64 " clips\n", j->statistics, j->other.count);
        return true;
    }
    warn(j);
    if (j->jury.device) print_notice(j->jury.device);
    if (j->json) return print_json(j, err);
    print_set("against", &j->real);
    print_set("of", &j->other);
    printf("weights     %s (%s)\n", j->jury.path[0] ? j->jury.path : "not needed", j->jury.digest);
    if (j->jury.frames) printf("frames      %" PRId64 "\n", j->jury.frames);
    printf("\nFVD         %.4f\n", j->distance);
    return true;
}

int eval_fvd(int argc, char **argv)
{
    job j = {.hold = -1, .jury = {.network = &jury_i3d, .batch = 1}};
    const option_row rows[] = {
        {OPTION_POSITIONAL, "PATH", NULL, &j.path,
         "what is judged: an npz of clips, u8 [N, frames, height, width, 1 or 3], folders of frames, also in "
         "a "
         "zip or tar, y4m, or strips of frames (docs/evaluation.md); or a run or checkpoint, whose "
         "clips go on from the real ones",
         NULL},
        {OPTION_TEXT, "against", "PATH", &j.against,
         "real clips, likewise, or an npz of their statistics mu and sigma; required but with --statistics",
         NULL},
        {OPTION_INT, "frames", "N", &j.jury.frames,
         "frames of a clip; a longer video gives several (as an npz has; of folders: 16)", NULL},
        {OPTION_INT, "samples", "N", &j.most, "how many clips of PATH (all; a checkpoint: 50000)", NULL},
        {OPTION_INT, "size", "N", &j.size,
         "side of the frames, which are cropped and resized to it first (as the first one is; a "
         "checkpoint's, but 64 at "
         "most)",
         NULL},
        {OPTION_INT, "windows", "N", &j.jury.windows,
         "clips of a real video, evenly spread over it (those that share no frame; for a checkpoint 2)",
         NULL},
        {OPTION_INT, "crops", "N", &j.jury.crops,
         "parts of a frame, from one end of its longer side to the other, resized bilinearly (one in the "
         "middle, resized as "
         "pictures are; for a checkpoint 3)",
         NULL},
        {OPTION_INT, "seed", "N", &j.seed, "of a checkpoint: the first clip's (0)", NULL},
        {OPTION_KEY, "guidance", "W", &j.set, "of a checkpoint: guidance weight (sample.guidance)",
         "sample.guidance"},
        {OPTION_FLAG, "raw", NULL, &j.raw, "a checkpoint's weights themselves rather than their average",
         NULL},
        OPTION_SET_KEY(&j.set),
        {OPTION_TEXT, "weights", "FILE", &j.jury.weights,
         "FVD's I3D, of sid2 eval convert-i3d ($SID2_I3D, or in the cache folder)", NULL},
        {OPTION_TEXT, "statistics", "x.npz", &j.statistics,
         "write mean and covariance of the judged clips, as mu and sigma", NULL},
        {OPTION_FLAG, "no-cache", NULL, &j.jury.no_cache, "keep no features, and use none that were kept",
         NULL},
        {OPTION_INT, "batch", "N", &j.jury.batch, "clips that the network judges at a time (1)", NULL},
        {OPTION_FLAG, "json", NULL, &j.json, "print JSON", NULL},
        OPTIONS_DEVICE_CHOICE(j.on),
    };
    int code =
        options_parse(&(option_table){"eval fvd", "FVD, the Fréchet distance of two sets of clips by I3D",
                                      "What it is: docs/evaluation.md.", rows, sizeof rows / sizeof rows[0]},
                      argc, argv);
    if (code != OPTIONS_RUN) return code;
    if (!j.against && !j.statistics) return report_usage("eval fvd", "--against is missing");
    if (j.jury.frames && (j.jury.frames < SID2_I3D_LEAST_FRAMES || j.jury.frames > 4096))
        return report_usage("eval fvd", "--frames should be %d to 4096", SID2_I3D_LEAST_FRAMES);
    if (!j.jury.batch || j.jury.batch > 256) return report_usage("eval fvd", "--batch should be 1 to 256");
    if (j.size && (j.size < 4 || j.size > 4096))
        return report_usage("eval fvd", "--size should be 4 to 4096");
    if (j.jury.windows > 1000 || j.jury.crops > 9)
        return report_usage("eval fvd", "--windows should be 1 to 1000, --crops 1 to 9");
    if (j.most == 1) return report_usage("eval fvd", "--samples should be 2 or more");
    sid2_error err = {0};
    interrupt_install();
    if (!ranks_join(&j.ranks, &j.on, &err))
        return ranks_leave(&j.ranks, ranks_report(&j.ranks, "eval fvd", &err), &err);
    bool ok = work(&j, &err) && (!ranks_speak(&j.ranks) || print_all(&j, &err));
    progress_clear(&j.bar);
    code = ok ? 0 : ranks_report(&j.ranks, "eval fvd", &err);
    judged_free(&j.real);
    judged_free(&j.other);
    jury_close(&j.jury);
    sid2_checkpoint_release(j.hold);
    sid2_config_destroy(j.config);
    return ranks_leave(&j.ranks, code, &err);
}
