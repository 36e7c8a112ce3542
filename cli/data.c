/* sid2 data: generate pictures; look at a data set before training on it; prepare it once. */
#include "cli.h"

#include "dataset.h"
#include "loader.h"
#include "pack_clips.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int synth(int argc, char **argv)
{
    const char *out = NULL, *kind = "scenes";
    int64_t count = 0, size = 32, seed = 0, frames = 0;
    const option_row rows[] = {
        {OPTION_TEXT, "out", "PATH", &out,
         "x.zip, or a new folder with one folder a class; of clips x.tar; required", NULL},
        {OPTION_TEXT, "kind", "NAME", &kind,
         "scenes: pictures of ten classes; moving-shapes: clips of bouncing shapes, their class the shape, "
         "where "
         "they are exactly in each clip.json (scenes)",
         NULL},
        {OPTION_INT, "count", "N", &count, "how many pictures (10000) or clips (4000)", NULL},
        {OPTION_INT, "frames", "N", &frames, "of a clip (16)", NULL},
        {OPTION_INT, "size", "N", &size, "side in pixels (32)", NULL},
        {OPTION_INT, "seed", "N", &seed, "another seed gives others (0)", NULL},
    };
    int code = options_parse(&(option_table){"data synth", "Generate labelled pictures or clips to train on",
                                             NULL, rows, sizeof rows / sizeof *rows},
                             argc, argv);
    if (code != OPTIONS_RUN) return code;
    bool clips = strcmp(kind, "moving-shapes") == 0;
    if (!out) return report_usage("data synth", "--out is missing");
    if (!clips && strcmp(kind, "scenes") != 0)
        return report_usage("data synth", "--kind '%s' should be scenes or moving-shapes", kind);
    if (!clips && frames) return report_usage("data synth", "--frames is for --kind moving-shapes");
    if (clips && !sid2_text_ends(out, ".tar"))
        return report_usage("data synth", "--out '%s' should end in .tar, for clips", out);
    if (!count) count = clips ? 4000 : 10000;
    if (!frames) frames = SID2_CLIP_FRAMES;
    if (count > 100000000) return report_usage("data synth", "--count should be 1 to 100000000");
    if (size < 8 || size > 4096) return report_usage("data synth", "--size should be 8 to 4096");
    if (frames > SID2_CLIP_MOST_FRAMES)
        return report_usage("data synth", "--frames should be 1 to %d", SID2_CLIP_MOST_FRAMES);
    sid2_error err = {0};
    double began = sid2_clock();
    interrupt_install();
    if (clips ? !sid2_synth_write_clips(out, count, (int32_t)frames, (int32_t)size, (uint64_t)seed,
                                        interrupted, &err)
              : !sid2_synth_write(out, count, (int32_t)size, (uint64_t)seed, interrupted, &err))
        return report_error("data synth", &err);
    if (clips)
        printf("%" PRId64 " clips of %" PRId64 " frames, %" PRId64 "x%" PRId64 ", in %.1f s: %s\n", count,
               frames, size, size, sid2_clock() - began, out);
    else
        printf("%" PRId64 " pictures, %d classes, %" PRId64 "x%" PRId64 ", in %.1f s: %s\n", count,
               sid2_synth_classes(count), size, size, sid2_clock() - began, out);
    return 0;
}

/* ---- How a data set is read ---- */

typedef struct reading {
    const char *path, *turn;
    int64_t size, channels;
    sid2_upright upright;          /* `turn`, checked */
    char formats[256], words[256]; /* for the help */
} reading;

#define READING_ROWS(r, size_help)                                                                           \
    {OPTION_POSITIONAL, "PATH", NULL, &(r).path, sid2_dataset_formats((r).formats), NULL},                   \
        {OPTION_INT, "size", "N", &(r).size, size_help, NULL},                                               \
        {OPTION_INT, "channels", "N", &(r).channels, "1 grey, 3 colour (3)", NULL},                          \
    {                                                                                                        \
        OPTION_TEXT, "upright", "WORD", &(r).turn, words_of("data.upright", (r).words), NULL                 \
    }

/* 0, or the exit code that goes with the error reported. */
static int check_reading(const char *command, reading *r)
{
    if (r->size < 4 || r->size > 4096) return report_usage(command, "--size should be 4 to 4096");
    if (r->channels != 1 && r->channels != 3) return report_usage(command, "--channels should be 1 or 3");
    if (upright_of(r->turn, &r->upright)) return 0;
    return report_usage(command, "--upright '%s' should be %s", r->turn, r->words);
}

static sid2_dataset *open_reading(const reading *r, progress *bar, sid2_error *err)
{
    return sid2_dataset_open(r->path,
                             &sid2_with(sid2_dataset_options, .size = (int32_t)r->size,
                                        .channels = (int32_t)r->channels, .upright = r->upright,
                                        .cache_bytes = 1, .on_skip = print_skipped, .user = bar),
                             err);
}

static void print_losses(sid2_dataset *data)
{
    char line[SID2_LOSS_LINE], *empty = sid2_dataset_empty_classes(data);
    for (int i = 0; sid2_dataset_loss_line(data, i, line); i++) printf("left out   %s\n", line);
    if (empty) printf("empty      %s\n", empty);
    free(empty);
}

/* ---- Looking ---- */

enum { MAX_SHOWN = 100000 };

typedef struct statistics {
    int64_t pictures, turned, per_class[1000]; /* readable ones */
    double sum[3], squares[3];
} statistics;

/* Reads every picture once; keeps the first `keep` readable ones of a shuffled order for the contact sheet. */
static bool read_all(sid2_dataset *data, statistics *s, uint8_t *sheet, int64_t keep, progress *bar,
                     sid2_error *err)
{
    int channels = sid2_dataset_channels(data), size = sid2_dataset_size(data);
    size_t bytes = (size_t)size * (size_t)size * (size_t)channels;
    int64_t count = sid2_dataset_count(data);
    uint8_t *pixels = malloc(bytes);
    if (!pixels) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory");
    progress_begin(bar);
    bool ok = true;
    for (int64_t i = 0; i < count && ok; i++) {
        sid2_finding found;
        int64_t place = sid2_shuffle(0, 0, i, count);
        ok = !interrupted() ? sid2_dataset_inspect(data, place, pixels, &found, err)
                            : sid2_fail(err, SID2_ERR_CANCELLED, "stopped");
        if (i % 64 == 0)
            progress_show(bar, (double)i / (double)count, "%" PRId64 " of %" PRId64 " pictures", i, count);
        if (!ok || !found.is_readable) continue;
        for (size_t p = 0; p < bytes; p++) {
            double value = pixels[p];
            s->sum[p % (size_t)channels] += value;
            s->squares[p % (size_t)channels] += value * value;
        }
        if (found.label >= 0 && found.label < 1000) s->per_class[found.label]++;
        if (s->pictures < keep) memcpy(sheet + (size_t)s->pictures * bytes, pixels, bytes);
        s->pictures++;
        s->turned += found.is_turned;
    }
    progress_clear(bar);
    free(pixels);
    return ok;
}

static void print_statistics(sid2_dataset *data, const statistics *s)
{
    int channels = sid2_dataset_channels(data), size = sid2_dataset_size(data);
    double values = (double)s->pictures * size * size;
    int64_t broken = sid2_dataset_broken(data);
    printf("pictures   %" PRId64 " (%s), read at %dx%d, %s", s->pictures, sid2_dataset_kind(data), size, size,
           channels == 1 ? "grey" : "colour");
    if (broken) printf("; %" PRId64 " more were broken", broken);
    printf("\nmean      ");
    for (int c = 0; c < channels; c++) printf(" %.4f", s->sum[c] / values);
    printf("\ndeviation ");
    for (int c = 0; c < channels; c++) {
        double mean = s->sum[c] / values;
        printf(" %.4f", sqrt(fmax(0, s->squares[c] / values - mean * mean)));
    }
    int classes = sid2_dataset_classes(data);
    printf("\nclasses    %d\n", classes);
    for (int k = 0; k < classes && k < 40; k++)
        printf("  %4d %8" PRId64 "  %s\n", k, s->per_class[k], sid2_dataset_class_name(data, k));
    if (classes > 40) printf("  ... and %d more\n", classes - 40);
    const char *turning = sid2_dataset_turning(data);
    if (s->turned)
        printf("EXIF       %" PRId64 " ask to be shown rotated or mirrored: %s\n", s->turned,
               turning ? turning : "");
    print_losses(data);
}

static int inspect(int argc, char **argv)
{
    const char *out = NULL;
    reading r = {.turn = "auto", .size = 32, .channels = 3};
    int64_t shown = 100;
    const option_row rows[] = {
        READING_ROWS(r, "side that pictures are brought to, as in training (32)"),
        {OPTION_TEXT, "out", "x.png", &out, "also write a contact sheet", NULL},
        {OPTION_INT, "shown", "N", &shown, "pictures on the contact sheet (100)", NULL},
    };
    int code = options_parse(
        &(option_table){"data inspect", "Count and measure a data set, and show some of it", NULL, rows, 6},
        argc, argv);
    if (code != OPTIONS_RUN || (code = check_reading("data inspect", &r))) return code;
    if (shown < 1 || shown > MAX_SHOWN)
        return report_usage("data inspect", "--shown should be 1 to %d", MAX_SHOWN);
    if (out && !sid2_text_ends(out, ".png"))
        return report_usage("data inspect", "--out '%s' should end in .png", out);
    interrupt_install();
    sid2_error err = {0};
    progress bar = {0};
    sid2_dataset *data = open_reading(&r, &bar, &err);
    if (!data) return report_error("data inspect", &err);
    int64_t count = sid2_dataset_count(data), keep = !out ? 0 : shown < count ? shown : count;
    int32_t size = (int32_t)r.size, channels = (int32_t)r.channels;
    size_t image_bytes = sid2_sample_bytes(sid2_dataset_type(data));
    uint8_t *sheet = NULL;
    statistics s = {0};
    sid2_atomic_file file = {0};
    sid2_grid_size whole;
    bool ok = true;
    if (out && !sid2_image_grid_size(&whole, (int32_t)keep, size, size, 0, SID2_GRID_PADDING, &err))
        ok = sid2_fail(&err, SID2_ERR_USAGE, "%s: give a lower --shown or --size", err.message);
    else if (!(sheet = malloc((size_t)keep * image_bytes + 1)))
        ok = sid2_fail(&err, SID2_ERR_MEMORY, "out of memory for a sheet of %" PRId64 " pictures", keep);
    else if (out)
        ok = sid2_output_open(&file, out, &err);
    ok = ok && read_all(data, &s, sheet, keep, &bar, &err);
    if (ok) print_statistics(data, &s);
    if (ok && out) {
        sid2_image grid = {0};
        int32_t tiles = (int32_t)(s.pictures < keep ? s.pictures : keep);
        ok = sid2_image_grid(&grid, sheet, tiles, size, size, channels, 0, SID2_GRID_PADDING, 255, &err) &&
             sid2_png_finish(&file, &grid, NULL, 0, &err);
        sid2_image_free(&grid);
        if (ok) printf("sheet      %s\n", out);
    }
    sid2_atomic_discard(&file);
    free(sheet);
    sid2_dataset_close(data);
    return ok ? 0 : report_error("data inspect", &err);
}

/* ---- Packing ---- */

static bool show_packed(void *user, int64_t done, int64_t total)
{
    progress_show(user, (double)done / (double)total, "%" PRId64 " of %" PRId64 " pictures", done, total);
    return !interrupted();
}

static bool show_clips(void *user, int64_t clips, double fraction)
{
    char text[64];
    snprintf(text, sizeof text, "%" PRId64 " clips", clips);
    if (fraction < 0)
        progress_wait(user, text);
    else
        progress_show(user, fraction, "%s", text);
    return !interrupted();
}

typedef struct clipping {
    int64_t frames, stride, most;
    const char *matrix;
} clipping;

/* Of a data set, or of standard input. */
static bool pack_clips(const reading *r, const sid2_pack_clips_options *o, sid2_packed_clips *packed,
                       sid2_error *err)
{
    if (strcmp(r->path, "-") == 0) return sid2_pack_stream(stdin, o, packed, err);
    sid2_dataset_options how =
        sid2_with(sid2_dataset_options, .size = (int32_t)r->size, .channels = o->channels,
                  .upright = r->upright, .cache_bytes = 1, .on_skip = print_skipped, .user = o->user,
                  .frames = o->frames, .stride = o->stride, .bt709 = o->matrix == SID2_MATRIX_BT709);
    sid2_dataset *clips = sid2_dataset_open(r->path, &how, err);
    int32_t extents[3];
    if (clips && !r->size) { /* as the first frame is */
        bool known = sid2_dataset_extents(clips, 0, extents, err);
        sid2_dataset_close(clips);
        how.height = extents[0];
        how.width = extents[1];
        clips = known ? sid2_dataset_open(r->path, &how, err) : NULL;
    }
    bool ok = clips && sid2_pack_clips(clips, o, packed, err);
    if (ok) progress_clear(o->user);
    if (ok) print_losses(clips);
    sid2_dataset_close(clips);
    return ok;
}

static int clip(reading *r, const clipping *c, const char *out)
{
    if (!sid2_text_ends(out, ".tar"))
        return report_usage("data pack", "--out '%s' should end in .tar, for clips", out);
    if (c->frames > SID2_CLIP_MOST_FRAMES || c->stride < 1 || c->stride > 1000)
        return report_usage("data pack", "--clips should be 1 to %d, --stride 1 to 1000",
                            SID2_CLIP_MOST_FRAMES);
    bool bt709 = strcmp(c->matrix, "bt709") == 0;
    if (!bt709 && strcmp(c->matrix, "bt601") != 0)
        return report_usage("data pack", "--matrix '%s' should be bt601 or bt709", c->matrix);
    if (strcmp(r->path, "-") == 0 && isatty(STDIN_FILENO))
        return report_usage("data pack", "-: standard input is a terminal, and should be a y4m");
    sid2_error err = {0};
    progress bar = {0};
    sid2_packed_clips packed;
    const sid2_pack_clips_options o = {.path = strcmp(r->path, "-") == 0 ? "standard input" : r->path,
                                       .out = out,
                                       .frames = (int32_t)c->frames,
                                       .stride = (int32_t)c->stride,
                                       .height = (int32_t)r->size,
                                       .width = (int32_t)r->size,
                                       .channels = (int32_t)r->channels,
                                       .matrix = bt709 ? SID2_MATRIX_BT709 : SID2_MATRIX_BT601,
                                       .most = c->most,
                                       .progress = show_clips,
                                       .user = &bar};
    interrupt_install();
    double began = sid2_clock();
    progress_begin(&bar);
    bool ok = pack_clips(r, &o, &packed, &err);
    progress_clear(&bar);
    if (!ok) return report_error("data pack", &err);
    if (packed.cause.code) printf("left out   %s\n", packed.cause.message);
    if (packed.interlaced)
        printf("interlaced: frames are taken with both fields; ffmpeg's yadif parts them\n");
    printf("%" PRId64 " clips of %d frames, %dx%d, in %.1f s: %s\n", packed.clips, (int)packed.shape.dim[0],
           (int)packed.shape.dim[2], (int)packed.shape.dim[1], sid2_clock() - began, out);
    return 0;
}

static int pack(int argc, char **argv)
{
    const char *out = NULL;
    reading r = {.turn = "auto", .channels = 3};
    clipping c = {.stride = 1, .matrix = "bt601"};
    int64_t threads = 0;
    const option_row rows[] = {
        READING_ROWS(
            r,
            "side that pictures are cropped and resized to; required, but of clips (as the first frame is)"),
        {OPTION_TEXT, "out", "x.zip", &out, "the new data set, in EDM layout; of clips x.tar; required",
         NULL},
        OPTION_THREADS(&threads),
        {OPTION_INT, "clips", "N", &c.frames,
         "clips of N frames, from whatever holds some, or as y4m from standard input (PATH -)", NULL},
        {OPTION_INT, "stride", "N", &c.stride, "of clips: every so many of a video's frames (1)", NULL},
        {OPTION_INT, "count", "N", &c.most, "of clips: at most so many, then the pipe may go on (all)", NULL},
        {OPTION_TEXT, "matrix", "NAME", &c.matrix,
         "of y4m, which does not say: bt601, as of ffmpeg, or bt709 (bt601)", NULL},
    };
    int code = options_parse(
        &(option_table){"data pack", "Decode, crop and resize a data set once, for training to read quickly",
                        "Ctrl-C keeps what is done in x.zip.part; the same command goes on. Of clips it ends "
                        "with nothing.",
                        rows, sizeof rows / sizeof *rows},
        argc, argv);
    if (code != OPTIONS_RUN) return code;
    if (!out) return report_usage("data pack", "--out is missing");
    if (c.frames && !r.size) {
        r.size = 4; /* as it is */
        code = check_reading("data pack", &r);
        r.size = 0;
    } else {
        code = check_reading("data pack", &r);
    }
    if (code) return code;
    if (c.frames) return clip(&r, &c, out);
    if (strcmp(r.path, "-") == 0 || c.most || c.stride != 1)
        return report_usage("data pack", "%s is for --clips",
                            c.most          ? "--count"
                            : c.stride != 1 ? "--stride"
                                            : "-");
    if (!sid2_text_ends(out, ".zip")) return report_usage("data pack", "--out '%s' should end in .zip", out);
    interrupt_install();
    sid2_error err = {0};
    progress bar = {0};
    double began = sid2_clock();
    sid2_dataset *data = open_reading(&r, &bar, &err);
    if (!data) return report_error("data pack", &err);
    progress_begin(&bar);
    bool ok = sid2_dataset_pack(
        data, out,
        &sid2_with(sid2_pack_options, .threads = (int32_t)threads, .progress = show_packed, .user = &bar),
        &err);
    progress_clear(&bar);
    if (ok) {
        printf("%" PRId64 " pictures, %d classes, %" PRId64 "x%" PRId64 ", in %.1f s: %s\n",
               sid2_dataset_count(data) - sid2_dataset_broken(data), sid2_dataset_classes(data), r.size,
               r.size, sid2_clock() - began, out);
        print_losses(data);
    }
    sid2_dataset_close(data);
    return ok ? 0 : report_error("data pack", &err);
}

int command_data(int argc, char **argv)
{
    static const struct {
        const char *name;
        int (*run)(int, char **);
    } parts[] = {{"synth", synth}, {"inspect", inspect}, {"pack", pack}};
    enum { PARTS = sizeof parts / sizeof *parts };
    for (int i = 0; i < PARTS && argc > 1; i++)
        if (strcmp(argv[1], parts[i].name) == 0) return parts[i].run(argc - 1, argv + 1);
    if (argc > 1 && strcmp(argv[1], "--help") == 0) {
        for (int i = 0; i < PARTS; i++) {
            parts[i].run(2, argv);
            if (i < PARTS - 1 && !options_printer) puts("");
        }
        return 0;
    }
    if (argc > 1) return report_usage("data", "'%s' should be synth, inspect or pack", argv[1]);
    return report_usage("data", "say what: synth, inspect or pack");
}
