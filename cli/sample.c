/* sid2 sample: seeds in, pictures out. */
#include "cli.h"

#include "clip_write.h"
#include "config.h"
#include "digest.h"
#include "file.h"
#include "given.h"
#include "image.h"
#include "npz.h"
#include "ranks.h"
#include "recipe.h"
#include "sampler.h"
#include "together.h"
#include "y4m.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_SEEDS = 10000000, MAX_FRAMES = 1000 };

typedef enum output_kind { OUTPUT_FOLDER, OUTPUT_PICTURE, OUTPUT_NPZ, OUTPUT_TAR } output_kind;
/* What becomes of a clip's frames: an animation, or what else a folder and a file hold of clips. */
typedef enum output_film { FILM_ANIMATED, FILM_Y4M, FILM_STRIP, FILM_FRAMES } output_film;

typedef struct job {
    const char *path, *seeds_text, *class_text, *out, *format_text, *like_path, *guide, *given_path;
    int64_t columns, quality, frames; /* frames: of the denoising, as an animation; 0: none is wanted */
    device_choice on;
    size_t memory;
    bool raw, rgb;
    assignments set;

    char directory[4096], guide_directory[4096];
    int hold, guide_hold; /* on the directories */
    sid2_config *guide_config;
    sid2_config *config;
    sid2_device *device;
    sid2_sampler *sampler;
    recipe recipe;
    sid2_classes *names; /* of its classes */
    uint64_t *seeds;
    size_t count, chosen_count;
    int32_t *labels, *chosen;    /* chosen: by --class */
    int width, height, channels; /* of one image as it is sampled */
    int length;                  /* images of a clip; 1: what is made are images */
    size_t image_bytes;          /* of one image, or of one whole clip */
    uint8_t *given;              /* [count], what clips begin with; NULL: nothing */
    uint8_t *pixels;             /* of one picture: all; else of one batch */
    uint8_t *film;               /* the same at each frame of an animation */
    size_t held;                 /* images in either */
    output_kind kind;
    output_film film_kind; /* of clips */
    int32_t rate[2];       /* the same: frames in so many seconds */
    sid2_image_format format;
    bool to_stream; /* standard output */
    sid2_npz *npz;
    sid2_archive *tar;
    json_t *facts;         /* in a tar, of each clip */
    sid2_atomic_file file; /* a picture's, an archive's until that takes it */
    size_t replaced;       /* files that were there before */

    recipe_found like; /* of like_path, whose picture is `original` */
    sid2_image original;
    sid2_image_format original_format;
    char verdict[1400]; /* how what was made compares with it */
    bool is_other;      /* something was asked to be other than in it */
    bool differs;

    progress bar;
    ranks ranks;
    size_t done, made;              /* images of finished batches, and those of them that this rank made */
    int64_t evaluations, guided;    /* of the network for one image, of finished batches */
    double multiply_adds, unguided; /* of these with their guide, and without */
    sid2_sample_progress now;       /* of the batch in work */
    sid2_error step_error;          /* why it was stopped from within */
} job;

/* ---- Preparing: the picture to make again ---- */

/* Of the model's checkpoints the one that the picture was made by. */
static bool find_maker(job *j, sid2_error *err)
{
    const char *asked = j->path ? j->path : j->like.model,
               *named = j->path ? "" : ": name it, sid2 sample CHECKPOINT";
    char digest[33];
    if (!asked)
        return sid2_fail(err, SID2_ERR_USAGE,
                         "%s does not name its checkpoint: name it, sid2 sample CHECKPOINT", j->like_path);
    sid2_error cause;
    if (!sid2_checkpoint_hold(asked, j->directory, sizeof j->directory, &j->hold, &cause)) {
        if (j->path) {
            if (err) *err = cause;
            return false;
        }
        return sid2_fail(err, SID2_ERR_USAGE, "%s was made by '%s', which cannot be read here (%s)%s",
                         j->like_path, asked, cause.message, named);
    }
    j->path = asked;
    for (;;) {
        if (!sid2_checkpoint_digest(j->directory, digest, err)) return false;
        if (strcmp(digest, j->like.digest) == 0) return true;
        char found[4096];
        const char *step = strrchr(j->directory, '/');
        if (!step || strncmp(step, "/step-", 6) != 0 ||
            !sid2_checkpoint_newest(asked, strtoull(step + 6, NULL, 10), found, sizeof found, NULL) ||
            !found[0])
            break;
        sid2_checkpoint_release(j->hold);
        j->hold = -1;
        if (!sid2_checkpoint_hold(found, j->directory, sizeof j->directory, &j->hold, err)) return false;
    }
    return sid2_fail(err, SID2_ERR_USAGE,
                     "%s was made by weights with the digest %.32s, which %s does not have%s", j->like_path,
                     j->like.digest, asked, named);
}

static bool read_original(job *j, sid2_error *err)
{
    size_t size;
    uint8_t *bytes = sid2_file_read(j->like_path, SID2_IMAGE_MAX_FILE, &size, err);
    if (!bytes) return false;
    sid2_image_format_in(bytes, size, &j->original_format);
    bool ok = sid2_image_decode(&j->original, bytes, size, j->like_path, err);
    free(bytes);
    return ok;
}

/* What the picture says stands where the request says nothing. */
static bool take_recipe(job *j, sid2_error *err)
{
    j->is_other = j->set.count || j->seeds_text || j->class_text || j->columns || j->rgb || j->raw ||
                  j->guide || j->given_path;
    if (!recipe_read(&j->like, j->like_path, err) || !read_original(j, err) || !find_maker(j, err))
        return false;
    assignments all = j->like.set;
    for (int i = 0; i < j->set.count; i++) {
        if (all.count == (int)(sizeof all.item / sizeof all.item[0]))
            return sid2_fail(err, SID2_ERR_USAGE, "too many --set");
        memcpy(all.item[all.count++], j->set.item[i], sizeof all.item[0]);
    }
    j->set = all;
    if (!j->class_text) j->class_text = j->like.classes;
    if (!j->columns && !j->seeds_text) j->columns = j->like.columns;
    if (!j->guide) j->guide = j->like.guide;
    if (!j->given_path) j->given_path = j->like.given;
    if (!j->seeds_text) j->seeds_text = j->like.seeds;
    if (!j->format_text && (j->kind == OUTPUT_FOLDER || j->to_stream)) j->format = j->original_format;
    if (!j->quality && j->format != SID2_IMAGE_PNG) j->quality = j->like.quality;
    if (!j->frames && j->kind != OUTPUT_NPZ && j->format != SID2_IMAGE_JPEG) j->frames = j->like.frames;
    if (j->like.channels == 3) j->rgb = true;
    if (j->like.raw) j->raw = true;
    return true;
}

/* ---- Preparing: what to write ---- */

static bool choose_format(job *j, sid2_error *err)
{
    static const struct {
        const char *word;
        output_kind kind;
        sid2_image_format format;
        output_film film;
    } known[] = {{"png", OUTPUT_PICTURE, SID2_IMAGE_PNG, FILM_ANIMATED},
                 {"jpeg", OUTPUT_PICTURE, SID2_IMAGE_JPEG, FILM_ANIMATED},
                 {"jpg", OUTPUT_PICTURE, SID2_IMAGE_JPEG, FILM_ANIMATED},
                 {"webp", OUTPUT_PICTURE, SID2_IMAGE_WEBP, FILM_ANIMATED},
                 {"npz", OUTPUT_NPZ, SID2_IMAGE_PNG, FILM_ANIMATED},
                 {"y4m", OUTPUT_PICTURE, SID2_IMAGE_PNG, FILM_Y4M},
                 {"strip", OUTPUT_PICTURE, SID2_IMAGE_PNG, FILM_STRIP},
                 {"frames", OUTPUT_TAR, SID2_IMAGE_PNG, FILM_FRAMES}};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (strcmp(j->format_text, known[i].word) == 0) {
            j->kind = known[i].kind;
            j->format = known[i].format;
            j->film_kind = known[i].film;
            return true;
        }
    return sid2_fail(err, SID2_ERR_USAGE,
                     "--format '%s' should be png, jpeg, webp or npz, or of clips y4m, strip or frames",
                     j->format_text);
}

static bool choose_output(job *j, sid2_error *err)
{
    static const char *const foreign[] = {".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic", ".jxl"};
    for (size_t i = 0; i < sizeof foreign / sizeof foreign[0]; i++)
        if (sid2_text_ends(j->out, foreign[i]))
            return sid2_fail(
                err, SID2_ERR_USAGE,
                "--out '%s' should be x.png, x.jpg, x.webp, x.npz, of clips x.y4m or x.tar, a folder or -",
                j->out);
    sid2_image_format format = SID2_IMAGE_PNG;
    bool npz = sid2_text_ends(j->out, ".npz"), tar = sid2_text_ends(j->out, ".tar"),
         y4m = sid2_text_ends(j->out, ".y4m"), picture = sid2_image_format_of(j->out, &format) || y4m;
    j->to_stream = strcmp(j->out, "-") == 0;
    j->kind = npz ? OUTPUT_NPZ : tar ? OUTPUT_TAR : picture || j->to_stream ? OUTPUT_PICTURE : OUTPUT_FOLDER;
    j->format = format;
    j->film_kind = y4m ? FILM_Y4M : tar ? FILM_FRAMES : FILM_ANIMATED;
    if (j->format_text) {
        const output_kind kind = j->kind;
        const output_film film = j->film_kind;
        if (!choose_format(j, err)) return false;
        if (kind == OUTPUT_FOLDER && j->kind == OUTPUT_NPZ)
            return sid2_fail(err, SID2_ERR_USAGE, "--format npz is one file: give --out x.npz");
        bool other = j->kind != kind || j->format != format ||
                     (j->film_kind != film && (film || j->film_kind != FILM_STRIP));
        if (kind != OUTPUT_FOLDER && !j->to_stream && other)
            return sid2_fail(err, SID2_ERR_USAGE, "--out '%s' is no %s, as --format says", j->out,
                             j->format_text);
        if (kind == OUTPUT_FOLDER) j->kind = OUTPUT_FOLDER;
    }
    if (j->quality > 100) return sid2_fail(err, SID2_ERR_USAGE, "--quality should be 1 to 100");
    if (j->quality && (j->kind == OUTPUT_NPZ || j->kind == OUTPUT_TAR || j->format == SID2_IMAGE_PNG))
        return sid2_fail(err, SID2_ERR_USAGE,
                         "--quality is for JPEG and WebP: what is written here loses nothing");
    if (j->frames > MAX_FRAMES)
        return sid2_fail(err, SID2_ERR_USAGE, "--frames is %d at most", (int)MAX_FRAMES);
    if (j->to_stream && isatty(STDOUT_FILENO))
        return sid2_fail(err, SID2_ERR_USAGE, "--out -: standard output is a terminal");
    return true;
}

/* Of a model of images --frames asks to see how they come about; of clips, how long these are. */
static bool settle_frames(job *j, sid2_error *err)
{
    bool animated = j->kind != OUTPUT_NPZ && j->format != SID2_IMAGE_JPEG;
    static const char *const films[] = {NULL, "y4m", "strip", "frames"};
    int whole = sid2_config_frames(j->config);
    j->length = whole > 1 && j->frames ? (int)j->frames : whole;
    if (whole > 1) {
        j->frames = 0;
        return j->format != SID2_IMAGE_JPEG ||
               sid2_fail(err, SID2_ERR_USAGE, "%s makes clips: --out x.png, x.webp, x.y4m, x.npz or x.tar",
                         j->path);
    }
    if (j->film_kind)
        return sid2_fail(err, SID2_ERR_USAGE, "%s makes images, and %s is for clips", j->path,
                         films[j->film_kind]);
    if (j->given_path)
        return sid2_fail(err, SID2_ERR_USAGE, "--given: %s makes images, which begin with nothing", j->path);
    if (j->frames && !animated)
        return sid2_fail(err, SID2_ERR_USAGE, "--frames is for PNG and WebP, which can be animated");
    return !j->frames || !j->ranks.group ||
           sid2_fail(err, SID2_ERR_USAGE, "--frames: an animation is made by one process");
}

/* ---- Preparing: the rest ---- */

static bool prepare_labels(job *j, sid2_error *err)
{
    j->labels = malloc(j->count * sizeof *j->labels);
    if (!j->labels) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory for %zu labels", j->count);
    int classes = sid2_config_classes(j->config);
    if (j->class_text) {
        if (!classes) return sid2_fail(err, SID2_ERR_USAGE, "%s has no classes: leave --class away", j->path);
        j->chosen = sid2_classes_parse(j->names, classes, j->class_text, &j->chosen_count, err);
        if (!j->chosen) return false;
    }
    for (size_t i = 0; i < j->count; i++) j->labels[i] = j->chosen ? j->chosen[i % j->chosen_count] : -1;
    return true;
}

static int by_number(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* In a folder a seed is a file. */
static bool check_repeats(const job *j, sid2_error *err)
{
    uint64_t *sorted = malloc(j->count * sizeof *sorted);
    if (!sorted) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory for %zu seeds", j->count);
    memcpy(sorted, j->seeds, j->count * sizeof *sorted);
    qsort(sorted, j->count, sizeof *sorted, by_number);
    bool ok = true;
    for (size_t i = 1; i < j->count && ok; i++)
        ok = sorted[i] != sorted[i - 1] ||
             sid2_fail(err, SID2_ERR_USAGE,
                       "--seeds names %" PRIu64
                       " twice, and a folder has one file a seed: name it once, or "
                       "give --out x.png or x.npz",
                       sorted[i]);
    free(sorted);
    return ok;
}

/* One is there bare, several with lines between. */
/* Images at a time, of all ranks. */
static size_t batch_of(const job *j)
{
    return (size_t)config_int(j->config, "sample.batch") * (size_t)sid2_group_ranks(j->ranks.group);
}

/* Of an animation the frames that were given have a frame around them. */
static bool marks(const job *j) { return j->given && j->kind != OUTPUT_NPZ && !j->film_kind; }

static int padding_of(const job *j, size_t count) { return count > 1 || marks(j) ? SID2_GRID_PADDING : 0; }

/* Of one image or clip. */
static sid2_shape shape_of(const job *j, int channels)
{
    return j->length > 1 ? sid2_shape_of(j->length, j->height, j->width, channels)
                         : sid2_shape_of(j->height, j->width, channels);
}

/* Everything that can be wrong with the output is found before the long work, not after. */
static bool prepare_output(job *j, sid2_error *err)
{
    sid2_grid_size whole = {.width = j->width, .height = j->height};
    if ((size_t)j->columns > j->count) j->columns = (int64_t)j->count;
    if (j->kind == OUTPUT_PICTURE && !sid2_image_grid_size(&whole, (int32_t)j->count, j->height, j->width,
                                                           (int32_t)j->columns, padding_of(j, j->count), err))
        return sid2_fail(err, SID2_ERR_USAGE, "%s: change --columns, or give --out a folder or x.npz",
                         err->message);
    if (j->kind != OUTPUT_NPZ && !sid2_image_format_holds(j->format, whole.width, whole.height, err))
        return false;
    if (j->kind == OUTPUT_PICTURE && j->count > 1) j->columns = whole.columns;
    int64_t steps = config_int(j->config, "sample.steps");
    if (j->frames > steps) j->frames = steps;
    j->held = j->kind == OUTPUT_PICTURE ? j->count : batch_of(j);
    j->pixels = malloc(j->held * j->image_bytes);
    if (j->frames) j->film = malloc((size_t)j->frames * j->held * j->image_bytes);
    if (!j->pixels || (j->frames && !j->film))
        return sid2_fail(err, SID2_ERR_MEMORY, "out of memory for %zu images%s", j->held,
                         j->frames ? " at each frame: give fewer --frames" : "");
    if (!ranks_speak(&j->ranks)) return true; /* what is written is another's */
    if (j->kind == OUTPUT_FOLDER) return sid2_make_directories(j->out, err);
    if (j->to_stream) {
        int own = dup(STDOUT_FILENO);
        FILE *stream = own < 0 ? NULL : fdopen(own, "wb");
        if (!stream) return sid2_fail(err, SID2_ERR_IO, "standard output: %s", strerror(errno));
        if (!sid2_atomic_stream(&j->file, stream, "standard output", err)) return false;
    } else {
        sid2_kind there;
        if (sid2_look(j->out, &there, NULL) && there == SID2_REGULAR) j->replaced = 1;
        if (!sid2_output_open(&j->file, j->out, err)) return false;
    }
    if (j->kind == OUTPUT_PICTURE) return true;
    if (j->kind == OUTPUT_TAR) {
        j->facts = json_pack("{s:[i,i]}", "rate", j->rate[0], j->rate[1]);
        if (!j->facts) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory");
        j->tar = sid2_archive_on(&j->file, true, err);
        return j->tar != NULL;
    }
    j->npz = sid2_npz_open(&j->file, (int64_t)j->count, shape_of(j, j->rgb ? 3 : j->channels),
                           sid2_config_classes(j->config) > 0, err);
    return j->npz != NULL;
}

/* The guide is a checkpoint like any; of one that a picture names, its weights must be the same. */
static bool prepare_guide(job *j, sid2_error *err)
{
    if (!j->guide) return true;
    if (!(j->guide_config = sid2_config_create())) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory");
    if (!sid2_checkpoint_hold(j->guide, j->guide_directory, sizeof j->guide_directory, &j->guide_hold, err) ||
        !sid2_checkpoint_config(j->guide_directory, j->guide_config, err) ||
        !sid2_checkpoint_digest(j->guide_directory, j->recipe.guide_digest, err))
        return false;
    return j->guide != j->like.guide || strcmp(j->recipe.guide_digest, j->like.guide_digest) == 0 ||
           sid2_fail(
               err, SID2_ERR_USAGE,
               "%s was guided by weights with the digest %.32s, which %s does not have: name it, --guide "
               "CHECKPOINT",
               j->like_path, j->like.guide_digest, j->guide);
}

/* What clips begin with. Where a picture names it, and it is no more there, the request can say where it is. */
static bool read_given(job *j, sid2_error *err)
{
    j->given = given_read(j->ranks.group, j->given_path, j->config, (size_t)j->like.given_first, j->count,
                          j->labels, j->rate, err);
    if (j->given || j->given_path != j->like.given) return j->given != NULL;
    const sid2_error cause = *err;
    return sid2_fail(err, cause.code, "%s goes on from '%s' (--given names another place): %.300s",
                     j->like_path, j->given_path, cause.message);
}

static bool prepare(job *j, sid2_error *err)
{
    j->config = sid2_config_create();
    if (!j->config) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory");
    if (!choose_output(j, err)) return false;
    if (j->like_path ? !take_recipe(j, err)
                     : !sid2_checkpoint_hold(j->path, j->directory, sizeof j->directory, &j->hold, err))
        return false;
    if (!j->seeds_text) j->seeds_text = "0-63";
    if (!sid2_checkpoint_config(j->directory, j->config, err) ||
        !sid2_checkpoint_classes(j->directory, &j->names, err) || !options_apply(j->config, &j->set, err) ||
        !sid2_config_check(j->config, err) || !settle_frames(j, err))
        return false;
    j->width = sid2_config_image_width(j->config);
    j->height = sid2_config_image_height(j->config);
    j->channels = sid2_config_image_channels(j->config);
    j->image_bytes = (size_t)j->height * (size_t)j->width * (size_t)j->channels * (size_t)j->length;
    j->seeds = parse_ranges("seeds", j->seeds_text, MAX_SEEDS, &j->count, err);
    if (!j->seeds) return false;
    if ((j->kind == OUTPUT_FOLDER || j->kind == OUTPUT_TAR) && !check_repeats(j, err)) return false;
    if (!prepare_labels(j, err)) return false;
    if (j->given_path && !read_given(j, err)) return false;
    if (marks(j)) j->rgb = true;                                    /* in colour */
    if (j->count < (size_t)config_int(j->config, "sample.batch") && /* nobody asked for more */
        !config_set_int(j->config, "sample.batch", (int64_t)j->count, err))
        return false;
    if (!prepare_guide(j, err)) return false;
    j->device = ranks_device(&j->ranks, &j->on, err);
    if (!j->device) return false;
    sid2_config_settle_sample(j->config, j->device);
    progress_begin(&j->bar);
    progress_wait(&j->bar, "preparing the device");
    j->sampler = sid2_sampler_create_guided(j->device, j->config, j->guide_config, j->memory, err);
    progress_clear(&j->bar);
    j->recipe.model = j->path;
    j->recipe.guide = j->guide;
    j->recipe.given = j->given_path;
    j->recipe.config = j->config;
    j->recipe.names = j->names;
    j->recipe.device = sid2_device_describe(j->device);
    j->recipe.raw = j->raw;
    return j->sampler && sid2_sampler_load(j->sampler, j->directory, !j->raw, err) &&
           sid2_checkpoint_digest(j->directory, j->recipe.digest, err) &&
           (!j->guide || sid2_sampler_load_guide(j->sampler, j->guide_directory, true, err)) &&
           prepare_output(j, err);
}

/* ---- Working ---- */

static size_t next_batch(const job *j)
{
    size_t batch = batch_of(j), left = j->count - j->done;
    return left < batch ? left : batch;
}

/* Where a frame of an image lies that `pixels` has at `place`. */
static uint8_t *on_film(const job *j, int64_t frame, size_t place)
{
    return j->film + ((size_t)frame * j->held + place) * j->image_bytes;
}

static size_t place_of(const job *j, size_t image)
{
    return j->kind == OUTPUT_PICTURE ? image : image - j->done;
}

/* The frames are spread over the steps, the last being the last step's. */
static bool shoot(job *j, const sid2_sample_progress *now)
{
    size_t place = place_of(j, j->done + (size_t)now->first);
    for (int64_t frame = 0; frame < j->frames; frame++)
        if (((frame + 1) * now->steps + j->frames - 1) / j->frames == now->step &&
            !sid2_sampler_preview(j->sampler, on_film(j, frame, place), &j->step_error))
            return false;
    return true;
}

static const char *noun_of(const job *j) { return j->length > 1 ? "clip" : "image"; }

static bool on_step(void *user, const sid2_sample_progress *now)
{
    job *j = user;
    j->now = *now;
    if (!ranks_speak(&j->ranks)) return !interrupted();
    if (!shoot(j, now)) return false;
    double fraction = ((double)j->done + (double)next_batch(j) * now->step / now->steps) / (double)j->count;
    double spent = sid2_clock() - j->bar.began;
    char left[32];
    progress_show(&j->bar, fraction, "%zu of %zu %ss, step %d of %d, %s left", j->done + (size_t)now->images,
                  j->count, noun_of(j), now->step, now->steps,
                  sid2_text_time(spent / fraction - spent, left));
    return !interrupted();
}

/* How the picture that was made compares with the one to make again, where that lost something at the same loss. */
static bool compare(job *j, const sid2_image *made, const sid2_png_text *texts, size_t text_count,
                    sid2_error *err)
{
    if (j->original_format == SID2_IMAGE_WEBP && j->like.frames) { /* no reader of all its frames */
        snprintf(j->verdict, sizeof j->verdict, "not compared with %s, which is an animation", j->like_path);
        return true;
    }
    const sid2_encode_options how =
        sid2_with(sid2_encode_options, .format = j->original_format, .quality = (int)j->like.quality);
    uint8_t *bytes;
    size_t size;
    sid2_image again;
    if (!sid2_image_encode(made, 1, &how, &bytes, &size, err)) return false;
    bool ok = sid2_image_decode(&again, bytes, size, j->like_path, err);
    free(bytes);
    if (!ok) return false;
    const sid2_image *was = &j->original;
    char why[1024];
    recipe_differences(&j->like, texts, text_count, why);
    size_t values = (size_t)again.width * (size_t)again.height * (size_t)again.channels, other = 0;
    int most = 0;
    j->differs = was->width != again.width || was->height != again.height || was->channels != again.channels;
    if (j->differs)
        snprintf(j->verdict, sizeof j->verdict, "not as %s: %dx%dx%d, which has %dx%dx%d; %s", j->like_path,
                 again.width, again.height, again.channels, was->width, was->height, was->channels, why);
    else {
        for (size_t i = 0; i < values; i++) {
            int distance = abs(again.pixels[i] - was->pixels[i]);
            other += distance > 0;
            if (distance > most) most = distance;
        }
        j->differs = other > 0;
        if (other)
            snprintf(j->verdict, sizeof j->verdict, "not as %s: %zu of %zu values differ, by %d at most; %s",
                     j->like_path, other, values, most, *why ? why : "nothing that the file says is other");
        else
            snprintf(j->verdict, sizeof j->verdict, "as %s, to the bit", j->like_path);
    }
    sid2_image_free(&again);
    return true;
}

/* One picture of `count` images. */
static bool draw(const job *j, sid2_image *image, const uint8_t *pixels, size_t count, sid2_error *err)
{
    return sid2_image_grid(image, pixels, (int32_t)count, j->height, j->width, j->channels,
                           (int32_t)j->columns, padding_of(j, count), 255, err) &&
           (!j->rgb || sid2_image_convert(image, 3, err));
}

/* All frames of clips in one picture, where that is wanted. */
static bool draw_strip(const job *j, sid2_image *image, const uint8_t *pixels, size_t count, sid2_error *err)
{
    return sid2_clips_strip(image, pixels, (int32_t)count, shape_of(j, j->channels), err) &&
           (!j->rgb || sid2_image_convert(image, 3, err));
}

/* Frame `number` of what is written of `count` images or clips, side by side; `room` is for those of clips. */
static const uint8_t *frame_of(const job *j, size_t number, size_t place, size_t count, uint8_t *room)
{
    const uint8_t *first = j->pixels + place * j->image_bytes;
    if (j->frames) return on_film(j, (int64_t)number, place);
    if (j->length == 1) return first;
    size_t bytes = j->image_bytes / (size_t)j->length;
    for (size_t i = 0; i < count; i++)
        memcpy(room + i * bytes, first + i * j->image_bytes + number * bytes, bytes);
    return room;
}

static size_t given_bytes_of(const job *j)
{
    return j->image_bytes / (size_t)j->length * (size_t)sid2_config_given(j->config);
}

/* Of what clips begin with. */
static void digest_given(const job *j, size_t first, size_t count, char digest[33])
{
    digest[0] = 0;
    if (j->given) sid2_digest_bytes(j->given + first * given_bytes_of(j), count * given_bytes_of(j), digest);
}

/* Writes images first .. first + count - 1 as one picture, or an animation. */
static bool write_picture(job *j, sid2_atomic_file *file, const char *seeds, size_t first, size_t count,
                          sid2_error *err)
{
    size_t place = place_of(j, first), text_count = 0, size,
           frame_count = (size_t)(j->frames                    ? j->frames
                                  : j->film_kind == FILM_STRIP ? 1
                                                               : j->length);
    uint8_t *room = malloc(count * j->image_bytes / (size_t)j->length);
    sid2_image *frames = calloc(frame_count, sizeof *frames);
    sid2_png_text *texts = NULL;
    uint8_t *bytes = NULL;
    char given[33];
    digest_given(j, first, count, given);
    const shown what = {.seeds = seeds,
                        .first_seed = j->seeds[first],
                        .labels = j->labels + first,
                        .count = count,
                        .width = j->width,
                        .height = j->height,
                        .channels = j->rgb ? 3 : j->channels,
                        .classes = j->class_text,
                        .columns = count > 1 ? j->columns : 0,
                        .quality = (int)j->quality,
                        .frames = frame_count > 1 ? (int)frame_count : 0,
                        .given_first = (size_t)j->like.given_first + first,
                        .given_digest = given};
    bool ok =
        (frames && room) || sid2_fail(err, SID2_ERR_MEMORY, "out of memory for %zu frames", frame_count);
    for (size_t i = 0; ok && i < frame_count; i++) {
        ok = j->film_kind == FILM_STRIP
                 ? draw_strip(j, &frames[i], j->pixels + place * j->image_bytes, count, err)
                 : draw(j, &frames[i], frame_of(j, i, place, count, room), count, err);
        if (ok && marks(j) && i < (size_t)sid2_config_given(j->config))
            sid2_clips_mark(&frames[i], j->height, j->width, SID2_GRID_PADDING);
    }
    ok = ok && recipe_texts(&j->recipe, &what, &texts, &text_count, err);
    int even = j->frames ? 3000 / (int)j->frames : 0; /* about three seconds, and the end for half of that */
    sid2_encode_options how = sid2_with(sid2_encode_options, .format = j->format, .quality = (int)j->quality,
                                        .text = texts, .text_count = text_count);
    if (j->frames) {
        how.frame_ms = even < 20 ? 20 : even > 150 ? 150 : even;
        how.last_ms = 1500;
    }
    if (j->length > 1) memcpy(how.rate, j->rate, sizeof how.rate);
    if (ok && j->film_kind == FILM_Y4M)
        ok = sid2_y4m_write(file->stream, frames, (int64_t)frame_count, j->rate, err);
    else
        ok = ok && sid2_image_encode(frames, (int)frame_count, &how, &bytes, &size, err);
    if (ok) {
        if (bytes) fwrite(bytes, 1, size, file->stream);
        ok = sid2_atomic_commit(file, err); /* which tells of all that went wrong */
    }
    if (ok && j->like_path && count == j->count)
        ok = compare(j, &frames[frame_count - 1], texts, text_count, err);
    free(bytes);
    sid2_png_text_free(texts, text_count);
    for (size_t i = 0; frames && i < frame_count; i++) sid2_image_free(&frames[i]);
    free(frames);
    free(room);
    return ok;
}

static bool write_file(job *j, size_t image, sid2_error *err)
{
    static const char *const ends[] = {"png", "jpg", "webp"};
    char path[4096], seed[32];
    sid2_kind there;
    sid2_atomic_file file;
    snprintf(seed, sizeof seed, "%" PRIu64, j->seeds[image]);
    if (j->film_kind == FILM_FRAMES)
        return sid2_path(path, err, "%s/%06" PRIu64, j->out, j->seeds[image]) &&
               sid2_write_clip_folder(path, j->pixels + place_of(j, image) * j->image_bytes,
                                      shape_of(j, j->channels), err);
    const char *end = j->film_kind == FILM_Y4M ? "y4m" : ends[j->format];
    if (!sid2_path(path, err, "%s/%06" PRIu64 ".%s", j->out, j->seeds[image], end)) return false;
    bool replaces = sid2_look(path, &there, NULL) && there == SID2_REGULAR;
    if (!sid2_atomic_open(&file, path, err)) return false;
    bool ok = write_picture(j, &file, seed, image, 1, err);
    sid2_atomic_discard(&file);
    j->replaced += ok && replaces;
    return ok;
}

static bool append(job *j, const uint8_t *pixels, size_t count, sid2_error *err)
{
    if (!j->rgb || j->channels == 3)
        return sid2_npz_append(j->npz, pixels, j->labels + j->done, (int64_t)count, err);
    sid2_image wide;
    bool ok = sid2_image_alloc(&wide, j->width, j->height * j->length, 3,
                               err); /* a clip's frames one above the other */
    for (size_t i = 0; ok && i < count; i++) {
        for (size_t k = 0; k < j->image_bytes; k++)
            memset(wide.pixels + 3 * k, pixels[i * j->image_bytes + k], 3);
        ok = sid2_npz_append(j->npz, wide.pixels, j->labels + j->done + i, 1, err);
    }
    if (wide.pixels) sid2_image_free(&wide);
    return ok;
}

static bool keep_batch(job *j, const uint8_t *pixels, size_t count, sid2_error *err)
{
    if (j->kind == OUTPUT_NPZ) return append(j, pixels, count, err);
    bool ok = true;
    for (size_t i = 0; j->kind == OUTPUT_TAR && ok && i < count; i++) {
        char name[32];
        snprintf(name, sizeof name, "%06" PRIu64, j->seeds[j->done + i]);
        ok = sid2_archive_add_clip(j->tar, name, pixels + i * j->image_bytes, shape_of(j, j->channels),
                                   j->facts, err);
    }
    for (size_t i = 0; j->kind == OUTPUT_FOLDER && ok && i < count; i++) ok = write_file(j, j->done + i, err);
    return ok;
}

static bool work(job *j, sid2_error *err)
{
    progress_begin(&j->bar);
    while (j->done < j->count) {
        size_t count = next_batch(j);
        uint8_t *pixels = j->pixels + place_of(j, j->done) * j->image_bytes;
        size_t given_bytes = given_bytes_of(j);
        const sid2_sample_kind kind = {.bytes = j->image_bytes,
                                       .frames = j->length,
                                       .given = j->given ? j->given + j->done * given_bytes : NULL,
                                       .given_bytes = given_bytes};
        bool ok = sid2_sample_together(j->ranks.group, j->sampler, j->seeds + j->done, j->labels + j->done,
                                       (int)count, &kind, pixels, on_step, j, err);
        if (!ok && j->step_error.code) *err = j->step_error;
        ok = ok && (!ranks_speak(&j->ranks) || keep_batch(j, pixels, count, err));
        if (!sid2_group_concur(j->ranks.group, ok, err)) return false;
        j->done += count;
        j->made += (size_t)j->now.total;
        j->evaluations += j->now.evaluations;
        j->guided += j->now.guided;
        j->multiply_adds += j->now.multiply_adds;
        j->unguided += j->now.unguided_adds;
    }
    if (!ranks_speak(&j->ranks)) return true;
    if (j->kind == OUTPUT_PICTURE) return write_picture(j, &j->file, j->seeds_text, 0, j->count, err);
    if (j->kind == OUTPUT_FOLDER) return true;
    if (j->kind == OUTPUT_TAR) {
        sid2_archive *tar = j->tar;
        j->tar = NULL;
        return sid2_archive_commit(tar, err);
    }
    sid2_npz *npz = j->npz;
    j->npz = NULL;
    return sid2_npz_commit(npz, err);
}

static void print_result(const job *j, double seconds)
{
    FILE *to = j->to_stream ? stderr : stdout;
    char spent[32], rate[32], replaced[64] = "";
    if (j->replaced)
        snprintf(replaced, sizeof replaced,
                 j->kind == OUTPUT_FOLDER ? " (%zu of them replaced)" : " (replaced)", j->replaced);
    fprintf(to, "%zu %s%s in %s (%s %ss/s): %s%s%s\n", j->count, noun_of(j), j->count == 1 ? "" : "s",
            sid2_text_time(seconds, spent), sid2_text_rate((double)j->count / seconds, rate), noun_of(j),
            j->to_stream ? "standard output" : j->out,
            j->kind == OUTPUT_FOLDER && !sid2_text_ends(j->out, "/") ? "/" : "", replaced);
    if (j->like_path && !j->verdict[0])
        fprintf(to, "not compared with %s, which is one picture\n", j->like_path);
    else if (j->like_path && (!j->differs || j->is_other))
        fprintf(to, "%s\n", j->verdict);
    if (sid2_config_guides(j->config) && j->made)
        fprintf(to, "guided%s%s on %.0f of %.0f evaluations: %.2f times the operations without guidance\n",
                j->guide ? " by " : "", j->guide ? j->guide : "", (double)j->guided / (double)j->made,
                (double)j->evaluations / (double)j->made, j->multiply_adds / j->unguided);
}

int command_sample(int argc, char **argv)
{
    job j = {.hold = -1, .guide_hold = -1, .out = "samples.png", .rate = {10, 1}};
    char samplers[256], grids[256], rules[256];
    const option_row rows[] = {
        {OPTION_OPTIONAL, "CHECKPOINT", NULL, &j.path,
         "a checkpoint's folder, or a run (its newest checkpoint); with --like, the picture's own", NULL},
        {OPTION_TEXT, "seeds", "LIST", &j.seeds_text, "which images: a seed is an image (0-63)", NULL},
        {OPTION_TEXT, "class", "NAME", &j.class_text,
         "the class of all images, by name or number; a list (dog,3,5-9) is gone through in turn (drawn from "
         "each seed)",
         NULL},
        {OPTION_TEXT, "like", "PICTURE", &j.like_path,
         "make a picture of sid2 sample again, as its file says, and compare; what else is asked for goes "
         "before "
         "what it says",
         NULL},
        {OPTION_TEXT, "out", "PATH", &j.out,
         "x.png, x.jpg or x.webp: one picture, several images as a grid, clips animated; x.npz: arr_0 uint8 "
         "NHWC, of "
         "clips NFHWC, arr_1 labels, if any; of clips x.y4m, and x.tar: folders of frames; -: standard "
         "output; else a "
         "folder, one file a seed (samples.png)",
         NULL},
        {OPTION_TEXT, "format", "NAME", &j.format_text,
         "png, jpeg or webp, of clips y4m, strip (a PNG of frames side by side) or frames, of the files in a "
         "folder or of "
         "standard output, which takes npz too (png)",
         NULL},
        {OPTION_INT, "quality", "N", &j.quality, "of JPEG and WebP, 1 to 100 (JPEG 95, WebP without loss)",
         NULL},
        {OPTION_INT, "frames", "N", &j.frames,
         "an animation of the denoising in so many frames, as APNG (x.png) or WebP; of a model of clips, how "
         "long these are (model.frames): it goes on from the last that it has made",
         NULL},
        {OPTION_TEXT, "given", "PATH", &j.given_path,
         "what clips begin with: the last model.given frames of a video, or of each of several in turn, in "
         "any form that clips to train on have",
         NULL},
        {OPTION_FLAG, "rgb", NULL, &j.rgb,
         "three channels also where the model is grey, as evaluators want them", NULL},
        {OPTION_INT, "columns", "N", &j.columns, "columns of a grid (nearly square)", NULL},
        {OPTION_KEY, "steps", "N", &j.set, "sampler steps (the checkpoint's sample.steps)", "sample.steps"},
        {OPTION_KEY, "sampler", "NAME", &j.set, words_of("sample.sampler", samplers), "sample.sampler"},
        {OPTION_KEY, "grid", "NAME", &j.set, words_of("sample.grid", grids), "sample.grid"},
        {OPTION_KEY, "guidance", "W", &j.set, "guidance weight; 1: none (sample.guidance)",
         "sample.guidance"},
        {OPTION_TEXT, "guide", "CHECKPOINT", &j.guide,
         "another network to guide by, a smaller one or one that was trained less (the same one without a "
         "class)",
         NULL},
        {OPTION_KEY, "guidance-rule", "NAME", &j.set, words_of("sample.guidance_rule", rules),
         "sample.guidance_rule"},
        {OPTION_KEY, "interval", "LO,HI", &j.set,
         "logSNR between which to guide, always or none (sample.interval)", "sample.interval"},
        {OPTION_KEY, "batch", "N", &j.set,
         "images at a time; changes the speed, not the images (sample.batch)", "sample.batch"},
        {OPTION_FLAG, "raw", NULL, &j.raw, "the weights themselves rather than their average", NULL},
        OPTIONS_DEVICE_CHOICE(j.on),
        OPTION_MEMORY(&j.memory),
        OPTION_SET_KEY(&j.set),
    };
    int code = options_parse(&(option_table){"sample", "Make images with a trained model", NULL, rows,
                                             sizeof rows / sizeof rows[0]},
                             argc, argv);
    if (code != OPTIONS_RUN) return code;
    if (!j.path && !j.like_path) return report_usage("sample", "CHECKPOINT is missing");

    sid2_error err = {0};
    interrupt_install();
    if (!ranks_join(&j.ranks, &j.on, &err))
        return ranks_leave(&j.ranks, ranks_report(&j.ranks, "sample", &err), &err);
    bool ok = sid2_group_concur(j.ranks.group, prepare(&j, &err), &err), speaks = ranks_speak(&j.ranks);
    double began = sid2_clock();
    if (ok && !speaks) ok = work(&j, &err);
    if (ok && speaks) {
        const sid2_memory_report held = sid2_sampler_memory(j.sampler);
        char parts[320];
        fprintf(stderr, "%s on %s\n%s\n", j.directory, sid2_device_describe(j.device)->name,
                lanes_text("part", &held, config_int(j.config, "sample.batch"), parts));
        ok = work(&j, &err);
        progress_clear(&j.bar);
        print_notice(j.device);
    }
    if (!speaks) {
        code = ok ? 0 : ranks_report(&j.ranks, "sample", &err);
    } else if (ok) {
        print_result(&j, sid2_clock() - began);
        code = 0;
        if (j.differs && !j.is_other) {
            fprintf(stderr, "sid2 sample: %s\n", j.verdict);
            code = EXIT_FAILED;
        }
    } else if (err.code == SID2_ERR_CANCELLED) {
        fprintf(stderr, "sid2 sample: stopped; %s\n",
                j.kind == OUTPUT_FOLDER ? "the images so far are whole" : "nothing was written");
        code = EXIT_FAILED;
    } else {
        code = report_error("sample", &err);
    }

    if (j.npz) sid2_npz_discard(j.npz);
    sid2_archive_discard(j.tar);
    json_decref(j.facts);
    sid2_atomic_discard(&j.file);
    sid2_sampler_destroy(j.sampler);
    sid2_checkpoint_release(j.hold);
    sid2_checkpoint_release(j.guide_hold);
    sid2_config_destroy(j.config);
    sid2_config_destroy(j.guide_config);
    free(j.seeds);
    free(j.chosen);
    sid2_classes_destroy(j.names);
    free(j.labels);
    free(j.pixels);
    free(j.film);
    free(j.given);
    recipe_free(&j.like);
    sid2_image_free(&j.original);
    return ranks_leave(&j.ranks, code, &err);
}
