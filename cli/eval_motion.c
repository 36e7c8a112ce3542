/* sid2 eval motion: clips that go on with moving shapes, beside where these really are. */
#include "cli.h"
#include "eval.h"

#include "dataset.h"
#include "json.h"
#include "motion.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

typedef struct job {
    const char *path, *against;
    int64_t given, frames;
    bool json;
    sid2_dataset *made, *real;
    sid2_shape shape;
    int64_t count, each;   /* real clips, and made ones of each */
    uint8_t **clips;       /* each made one of a real clip, */
    uint8_t *real_pixels;  /* and that */
    double *centre;        /* of a shape at each frame */
    sid2_motion one, mean; /* of each clip, and of the mean of those of one real clip */
} job;

/* One clip of each video, from its beginning, so that those of both sets are in step. */
static sid2_dataset *open_one(const char *path, int64_t frames, int32_t height, int32_t width,
                              sid2_error *err)
{
    return sid2_dataset_open(path,
                             &sid2_with(sid2_dataset_options, .frames = (int32_t)frames, .windows = 1,
                                        .height = height, .width = width, .cache_bytes = 1,
                                        .on_skip = print_skipped),
                             err);
}

/* Both as large as they are, with as many frames as the made ones have. */
static bool open_both(job *j, sid2_error *err)
{
    int32_t extents[2][3];
    if (!(j->made = open_one(j->path, j->frames ? j->frames : -1, 0, 0, err)) ||
        !(j->real = open_one(j->against, sid2_dataset_type(j->made).shape.dim[0], 0, 0, err)) ||
        !sid2_dataset_extents(j->made, 0, extents[0], err) ||
        !sid2_dataset_extents(j->real, 0, extents[1], err))
        return false;
    if (memcmp(extents[0], extents[1], 2 * sizeof(int32_t)) != 0)
        return sid2_fail(err, SID2_ERR_USAGE, "%s has frames of %dx%d, %s of %dx%d", j->path, extents[0][1],
                         extents[0][0], j->against, extents[1][1], extents[1][0]);
    int64_t frames = sid2_dataset_type(j->made).shape.dim[0];
    sid2_dataset_close(j->made);
    sid2_dataset_close(j->real);
    j->real = NULL;
    if (!(j->made = open_one(j->path, frames, extents[0][0], extents[0][1], err)) ||
        !(j->real = open_one(j->against, frames, extents[0][0], extents[0][1], err)))
        return false;
    j->shape = sid2_dataset_type(j->made).shape;
    if (j->given < 2 || j->given >= frames)
        return sid2_fail(err, SID2_ERR_USAGE,
                         "--given should be 2 to %" PRId64 ", for clips of %" PRId64 " frames", frames - 1,
                         frames);
    int64_t made = sid2_dataset_count(j->made);
    j->count = sid2_dataset_count(j->real);
    if (j->count > made) j->count = made;
    j->each = made / j->count;
    return true;
}

static bool read_clip(sid2_dataset *set, int64_t index, uint8_t *pixels, sid2_error *err)
{
    sid2_finding found;
    if (!sid2_dataset_inspect(set, index, pixels, &found, err)) return false;
    return found.is_readable ||
           sid2_fail(err, SID2_ERR_FORMAT, "clip %" PRId64 " has a frame that cannot be read", index);
}

/* One shape's centres, from the clip's first frame on. */
static bool take_centres(const job *j, const json_t *facts, int64_t first, size_t number)
{
    const json_t *centres = json_object_get(facts, "centres");
    for (int64_t f = 0; f < j->shape.dim[0]; f++) {
        const json_t *at = json_array_get(json_array_get(centres, (size_t)(first + f)), number);
        for (size_t axis = 0; axis < 2; axis++) {
            const json_t *value = json_array_get(at, axis);
            if (!json_is_number(value)) return false;
            j->centre[2 * (size_t)f + axis] = json_number_value(value);
        }
    }
    return true;
}

static bool judge_one(job *j, int64_t index, sid2_error *err)
{
    size_t size;
    int64_t first;
    char *text = (char *)sid2_dataset_read_beside(j->real, index, "clip.json", &size, &first, err);
    json_t *facts = text ? sid2_json_parse(text, size, 0, "clip.json", err) : NULL;
    free(text);
    if (!facts) return false;
    bool ok = read_clip(j->real, index, j->real_pixels, err);
    for (int64_t k = 0; ok && k < j->each; k++)
        ok = read_clip(j->made, index + k * j->count, j->clips[k], err);
    const json_t *channels = json_object_get(facts, "channels");
    for (size_t i = 0; ok && i < json_array_size(channels); i++) {
        const json_int_t channel = json_integer_value(json_array_get(channels, i));
        const sid2_motion_truth truth = {j->shape.dim[0], j->given, j->centre, (int)channel};
        const uint8_t *const *clips = (const uint8_t *const *)j->clips;
        if (channel < 0 || channel > 2 || !take_centres(j, facts, first, i)) {
            ok = sid2_fail(err, SID2_ERR_FORMAT,
                           "%s: clip %" PRId64 ": its clip.json does not say where its shapes are",
                           j->against, index);
            break;
        }
        for (int64_t k = 0; k < j->each; k++)
            sid2_motion_add(&j->one, &truth, j->real_pixels, clips + k, 1, j->shape);
        sid2_motion_add(&j->mean, &truth, j->real_pixels, clips, j->each, j->shape);
    }
    json_decref(facts);
    return ok;
}

static bool work(job *j, sid2_error *err)
{
    if (!open_both(j, err)) return false;
    const size_t bytes = (size_t)sid2_shape_count(j->shape);
    j->clips = calloc((size_t)j->each, sizeof *j->clips);
    j->centre = malloc(2 * (size_t)j->shape.dim[0] * sizeof *j->centre);
    j->real_pixels = malloc(bytes);
    bool ok = j->clips && j->centre && j->real_pixels;
    for (int64_t k = 0; ok && k < j->each; k++) ok = (j->clips[k] = malloc(bytes)) != NULL;
    if (!ok) return sid2_fail(err, SID2_ERR_MEMORY, "no memory for %" PRId64 " clips", j->each);
    for (int64_t i = 0; ok && i < j->count; i++)
        ok = interrupted() ? sid2_fail(err, SID2_ERR_CANCELLED, "stopped") : judge_one(j, i, err);
    return ok;
}

/* ---- What it prints ---- */

static const struct {
    const char *name, *word;
    bool kind[SID2_MOTION_KINDS];
} rows[] = {{"nothing bounces", "straight", {true, false}},
            {"something bounces", "bounced", {false, true}},
            {"all", "all", {true, true}}};
enum { ROWS = sizeof rows / sizeof *rows };

static double mean_of(const double sum[SID2_MOTION_KINDS], const sid2_motion *m,
                      const bool kind[SID2_MOTION_KINDS])
{
    double total = 0;
    int64_t frames = 0;
    for (int k = 0; k < SID2_MOTION_KINDS; k++)
        if (kind[k]) total += sum[k], frames += m->frames[k];
    return total / (double)frames;
}

static bool print_json(const job *j, sid2_error *err)
{
    json_t *all = json_pack("{s:I, s:I, s:I, s:I, s:I}", "clips", (json_int_t)(j->count * j->each),
                            "real_clips", (json_int_t)j->count, "frames", (json_int_t)j->shape.dim[0],
                            "given", (json_int_t)j->given, "lost", (json_int_t)j->one.lost);
    bool ok = all;
    for (int r = 0; ok && r < ROWS; r++) {
        const bool *kind = rows[r].kind;
        json_t *row =
            json_pack("{s:o, s:o, s:o, s:o}", "made", sid2_json_real(mean_of(j->one.made, &j->one, kind)),
                      "mean_of_seeds", sid2_json_real(mean_of(j->mean.made, &j->mean, kind)), "last",
                      sid2_json_real(mean_of(j->one.last, &j->one, kind)), "straight",
                      sid2_json_real(mean_of(j->one.straight, &j->one, kind)));
        ok = !json_object_set_new(all, rows[r].word, row);
    }
    ok = (ok || sid2_fail(err, SID2_ERR_MEMORY, "out of memory")) && json_print(all, err);
    json_decref(all);
    return ok;
}

static void print_table(const job *j)
{
    printf("%" PRId64 " clips of %" PRId64 " real ones, frames %" PRId64 " to %" PRId64
           ": distance of a shape's centre, in pixels\n\n",
           j->count * j->each, j->count, j->given + 1, j->shape.dim[0]);
    printf("%-18s %8s", "", "made");
    if (j->each > 1) printf(" %14s", "mean of seeds");
    printf(" %11s %15s %8s\n", "last frame", "constant speed", "frames");
    for (int r = 0; r < ROWS; r++) {
        const bool *kind = rows[r].kind;
        int64_t frames = 0;
        for (int k = 0; k < SID2_MOTION_KINDS; k++) frames += kind[k] ? j->one.frames[k] : 0;
        if (!frames) continue;
        printf("%-18s %8.3f", rows[r].name, mean_of(j->one.made, &j->one, kind));
        if (j->each > 1) printf(" %14.3f", mean_of(j->mean.made, &j->mean, kind));
        printf(" %11.3f %15.3f %8" PRId64 "\n", mean_of(j->one.last, &j->one, kind),
               mean_of(j->one.straight, &j->one, kind), frames);
    }
    if (j->one.lost)
        printf("\nin %" PRId64 " of these frames the shape is not to be seen, and counts as in the middle\n",
               j->one.lost);
}

int eval_motion(int argc, char **argv)
{
    job j = {.given = 0};
    const option_row options[] = {
        {OPTION_POSITIONAL, "PATH", NULL, &j.path,
         "made clips, as sid2 sample --given CLIPS --seeds 0-N writes them: clip m goes on with real clip m, "
         "from the "
         "first again where they are more",
         NULL},
        {OPTION_TEXT, "against", "CLIPS", &j.against,
         "the real clips, of sid2 data synth --kind moving-shapes; required", NULL},
        {OPTION_INT, "given", "N", &j.given, "frames that were given, which are not judged; required", NULL},
        {OPTION_INT, "frames", "N", &j.frames, "frames of a clip (as an npz has; else 16)", NULL},
        {OPTION_FLAG, "json", NULL, &j.json, "print JSON", NULL},
    };
    int code = options_parse(
        &(option_table){"eval motion", "How far made clips of moving shapes are from where these really are",
                        "Beside it: what repeating the last frame given would be off, and going on at "
                        "constant speed.",
                        options, sizeof options / sizeof options[0]},
        argc, argv);
    if (code != OPTIONS_RUN) return code;
    if (!j.against) return report_usage("eval motion", "--against is missing");
    if (!j.given) return report_usage("eval motion", "--given is missing");
    if (j.frames > SID2_CLIP_MOST_FRAMES)
        return report_usage("eval motion", "--frames should be 3 to %d", SID2_CLIP_MOST_FRAMES);
    sid2_error err = {0};
    interrupt_install();
    bool ok = work(&j, &err);
    if (ok && j.json)
        ok = print_json(&j, &err);
    else if (ok)
        print_table(&j);
    for (int64_t k = 0; j.clips && k < j.each; k++) free(j.clips[k]);
    free(j.clips);
    free(j.centre);
    free(j.real_pixels);
    sid2_dataset_close(j.made);
    sid2_dataset_close(j.real);
    return ok ? 0 : report_error("eval motion", &err);
}
