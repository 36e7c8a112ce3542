/* sid2 eval fid: sets of pictures, or a checkpoint's samples at several guidances, against real ones. */
#include "eval.h"
#include "judged.h"

#include "arrays.h"
#include "config.h"
#include "file.h"
#include "json.h"
#include "judgements.h"
#include "length.h"
#include "page.h"
#include "paired.h"
#include "ranks.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_VALUES = 32, MOST_REPEATS = 32, MOST_REAL = 10000, MOST_OTHER = 50000, IS_SPLIT = 5000 };

/* What is told of one set; NaN: not measured. */
enum { FID, SFID, KID, PRECISION, RECALL, DENSITY, COVERAGE, INCEPTION, SCORES };
typedef struct scores {
    double value[SCORES];
} scores;
static const struct {
    const char *name, *key;
    int decimals;
} columns[SCORES] = {
    [FID] = {"FID", "fid", 3},
    [SFID] = {"sFID", "sfid", 3},
    [KID] = {"KID", "kid", 5},
    [PRECISION] = {"precision", "precision", 4},
    [RECALL] = {"recall", "recall", 4},
    [DENSITY] = {"density", "density", 4},
    [COVERAGE] = {"coverage", "coverage", 4},
    [INCEPTION] = {"IS", "inception_score", 3},
};

/* A line of the table: a setting, and what its repeats gave. */
typedef struct line {
    double length; /* that weights are averaged over; 0: the checkpoint's own average */
    char digest[33];
    double guidance;
    const char *interval;
    int64_t pictures;
    int repeats;
    scores of[MOST_REPEATS];
} line;

typedef struct job {
    const char *path, *against, *guidance_text, *interval_text, *lengths_text, *statistics, *plot;
    int64_t samples, repeat, seed, size, batch;
    bool raw, json, fid_only;
    device_choice on;
    size_t memory;
    assignments set;
    ranks ranks;
    jury jury;

    bool is_checkpoint;
    char directory[4096], *intervals;
    double lengths[MAX_LENGTHS];
    int length_count;
    int hold;
    sid2_config *config;
    double guidance[MOST_VALUES];
    const char *interval[MOST_VALUES];
    int guidances, interval_count;
    judged real;
    line *lines;
    int line_count;
    progress bar;
} job;

/* ---- Preparing ---- */

static bool read_guidances(job *j, sid2_error *err)
{
    const char *at = j->guidance_text;
    while (at && *at) {
        char *end;
        double value = sid2_text_real(at, &end);
        if (end == at || (*end && *end != ',') || !(value >= 0 && value <= 100) ||
            j->guidances == MOST_VALUES)
            return sid2_fail(err, SID2_ERR_USAGE,
                             "--guidance '%s' should be weights from 0 to 100, %d at most, such as 1,1.5,2",
                             j->guidance_text, MOST_VALUES);
        j->guidance[j->guidances++] = value;
        at = *end ? end + 1 : end;
    }
    if (!j->guidances) j->guidance[j->guidances++] = config_real(j->config, "sample.guidance");
    return true;
}

/* "always; none; -1,5": intervals have commas of their own. */
static bool read_intervals(job *j, sid2_error *err)
{
    char now[256];
    const char *text = j->interval_text ? j->interval_text : config_text(j->config, "sample.interval", now);
    j->intervals = strdup(text);
    if (!j->intervals) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory");
    char *rest = j->intervals;
    for (char *one; (one = strsep(&rest, ";"));) {
        one += strspn(one, " ");
        if (j->interval_count == MOST_VALUES)
            return sid2_fail(err, SID2_ERR_USAGE, "--interval has %d at most", MOST_VALUES);
        if (!config_set(j->config, "sample.interval", one, err)) return false;
        j->interval[j->interval_count++] = one;
    }
    return true;
}

static bool prepare_checkpoint(job *j, sid2_error *err)
{
    j->config = sid2_config_create();
    if (!j->config) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory");
    return sid2_checkpoint_hold(j->path, j->directory, sizeof j->directory, &j->hold, err) &&
           sid2_checkpoint_config(j->directory, j->config, err) && options_apply(j->config, &j->set, err) &&
           sid2_config_check(j->config, err) && makes_images(j->config, j->path, err) &&
           read_guidances(j, err) && read_intervals(j, err) &&
           (!j->lengths_text || lengths_parse(j->lengths_text, j->lengths, &j->length_count, err));
}

static bool prepare(job *j, sid2_error *err)
{
    if (!judged_is_checkpoint(j->path, &j->is_checkpoint, err)) return false;
    if (!j->is_checkpoint &&
        (j->guidance_text || j->interval_text || j->lengths_text || j->raw || j->repeat > 1 || j->set.count))
        return sid2_fail(err, SID2_ERR_USAGE,
                         "%s is no checkpoint and no run: --guidance, --interval, --ema, --repeat, --raw and "
                         "--set are for "
                         "those",
                         j->path);
    if (j->is_checkpoint && !prepare_checkpoint(j, err)) return false;
    j->jury.device = ranks_device(&j->ranks, &j->on, err);
    if (!j->jury.device) return false;
    if (j->is_checkpoint) sid2_config_settle_sample(j->config, j->jury.device);
    return true;
}

/* ---- Measuring ---- */

static bool on_pairs(void *user, double done)
{
    progress_show(user, done, "comparing pairs: %.0f %%", 100 * done);
    return !interrupted();
}

static sid2_features features_of(const judged *s, int64_t most)
{
    return (sid2_features){s->features, s->count < most ? s->count : most, SID2_INCEPTION_FEATURES};
}

static bool score_rows(job *j, const judged *s, scores *to, sid2_error *err)
{
    const sid2_metric_progress told = {on_pairs, &j->bar};
    for (int c = 0; c < SCORES; c++) to->value[c] = NAN;
    progress_wait(&j->bar, "eigenvalues of covariances");
    bool ok = sid2_frechet(&s->gaussian, &j->real.gaussian, &to->value[FID], err);
    if (ok && s->spatial.width && j->real.spatial.width)
        ok = sid2_frechet(&s->spatial, &j->real.spatial, &to->value[SFID], err);
    progress_clear(&j->bar);
    if (ok && s->classes) {
        double deviation;
        sid2_inception_score((sid2_features){s->classes, s->count, SID2_INCEPTION_CLASSES}, IS_SPLIT,
                             &to->value[INCEPTION], &deviation);
    }
    if (!ok || j->fid_only || !s->features || !j->real.features || s->count <= SID2_DENSITY_NEAREST ||
        j->real.count <= SID2_DENSITY_NEAREST)
        return ok;
    sid2_manifold m;
    progress_begin(&j->bar);
    ok = sid2_kernel_distance(j->jury.device, features_of(&j->real, MOST_REAL), features_of(s, MOST_REAL),
                              &to->value[KID], &told, err) &&
         sid2_manifolds(j->jury.device, features_of(&j->real, MOST_REAL), features_of(s, MOST_OTHER), &m,
                        NULL, &told, err);
    progress_clear(&j->bar);
    if (ok)
        to->value[PRECISION] = m.precision, to->value[RECALL] = m.recall, to->value[DENSITY] = m.density,
        to->value[COVERAGE] = m.coverage;
    return ok;
}

/* By the rank that has the rows; the others wait. Writes their statistics, where that is wanted. */
static bool score(job *j, const judged *s, scores *to, sid2_error *err)
{
    bool ok = true;
    if (jury_speaks(&j->jury) && j->statistics)
        ok = sid2_statistics_write(j->statistics, s->gaussian.mean, s->gaussian.covariance, s->gaussian.width,
                                   err);
    if (jury_speaks(&j->jury) && j->against) ok = ok && score_rows(j, s, to, err);
    return sid2_group_concur(j->jury.group, ok, err);
}

static bool read_real(job *j, sid2_error *err)
{
    int32_t height = (int32_t)j->size, width = height, channels = 3;
    if (j->is_checkpoint) {
        height = sid2_config_image_height(j->config), width = sid2_config_image_width(j->config);
        channels = config_int(j->config, "model.image_channels") == 1 ? 1 : 3;
    }
    return judge_data(&j->jury, j->against, 0, height, width, channels, &j->real, err);
}

static bool measure_set(job *j, sid2_error *err)
{
    judged s = {0};
    line *l = &j->lines[0];
    bool ok = judge_data(&j->jury, j->path, j->samples, (int32_t)j->size, (int32_t)j->size, 3, &s, err);
    ok = ok && score(j, &s, &l->of[0], err);
    *l = (line){.guidance = NAN, .pictures = s.count, .repeats = ok, .of = {l->of[0]}};
    j->line_count = ok;
    judged_free(&s);
    return ok;
}

/* The run that the checkpoint is of, or "". */
static bool find_run(const job *j, char run[4096], sid2_error *err)
{
    static const char *const above[] = {"", "/../.."};
    char file[4096];
    sid2_kind kind;
    for (int i = 0; i < 2; i++) {
        const char *base = i ? j->directory : j->path;
        if (!sid2_path(run, err, "%s%s", base, above[i]) || !sid2_path(file, err, "%s/run.json", run) ||
            !sid2_look(file, &kind, err))
            return false;
        if (kind == SID2_REGULAR) return true;
    }
    run[0] = 0;
    return true;
}

/* Over the repeats. */
static sid2_mean mean_of(const line *l, int column)
{
    double values[MOST_REPEATS];
    for (int r = 0; r < l->repeats; r++) values[r] = l->of[r].value[column];
    return sid2_mean_of(values, l->repeats);
}

static bool keep_judgement(const job *j, const line *l, sid2_error *err)
{
    char run[4096], sampler[256];
    const char *step = strrchr(j->directory, '/');
    if (!find_run(j, run, err)) return false;
    if (!run[0] || !j->against || l->length)
        return true; /* of statistics alone, or of what the run never was */
    sid2_judgement g = {.pictures = l->pictures,
                        .steps = config_int(j->config, "sample.steps"),
                        .guidance = l->guidance,
                        .fid = mean_of(l, FID).mean,
                        .deviation = mean_of(l, FID).deviation,
                        .sfid = mean_of(l, SFID).mean,
                        .kid = mean_of(l, KID).mean,
                        .precision = mean_of(l, PRECISION).mean,
                        .recall = mean_of(l, RECALL).mean,
                        .inception = mean_of(l, INCEPTION).mean};
    if (step && strncmp(step, "/step-", 6) == 0) g.step = strtoull(step + 6, NULL, 10);
    snprintf(g.against, sizeof g.against, "%.255s", sid2_base_name(j->against));
    snprintf(g.interval, sizeof g.interval, "%.63s", l->interval);
    snprintf(g.sampler, sizeof g.sampler, "%.31s", config_text(j->config, "sample.sampler", sampler));
    return sid2_judgement_add(run, &g, err);
}

static bool measure_line(job *j, const char *weights, line *l, sid2_error *err)
{
    char guidance[64];
    sid2_text_format(guidance, sizeof guidance, "%.9g", l->guidance);
    if (!config_set(j->config, "sample.guidance", guidance, err) ||
        !config_set(j->config, "sample.interval", l->interval, err))
        return false;
    for (; l->repeats < j->repeat; l->repeats++) {
        judged s = {0};
        const sampled what = {.directory = weights,
                              .digest = l->digest,
                              .config = j->config,
                              .raw = j->raw,
                              .memory = j->memory,
                              .seed = (uint64_t)j->seed + (uint64_t)(l->repeats * j->samples),
                              .count = j->samples};
        bool ok = judge_samples(&j->jury, &what, &s, err) && score(j, &s, &l->of[l->repeats], err);
        judged_free(&s);
        if (!ok) return false;
    }
    /* What took hours is not lost with a folder that cannot be written to: the table says it, too. */
    sid2_error why;
    if (jury_speaks(&j->jury) && !keep_judgement(j, l, &why))
        fprintf(stderr, "not kept for reports of the run: %s\n", why.message);
    return true;
}

/* All settings, of weights averaged over `length`, which lie in that folder. */
static bool measure_lines(job *j, double length, const char *weights, sid2_error *err)
{
    char digest[33];
    if (!sid2_group_concur(j->jury.group, sid2_checkpoint_digest(weights, digest, err), err)) return false;
    for (int i = 0; i < j->interval_count; i++)
        for (int g = 0; g < j->guidances; g++) {
            line *l = &j->lines[j->line_count];
            *l = (line){.length = length,
                        .guidance = j->guidance[g],
                        .interval = j->interval[i],
                        .pictures = j->samples};
            memcpy(l->digest, digest, sizeof digest);
            if (!measure_line(j, weights, l, err)) return false;
            j->line_count++;
        }
    return true;
}

static bool measure_length(job *j, double length, sid2_error *err)
{
    char how[160];
    length_scratch scratch = {0};
    progress_wait(&j->bar, "averaging weights");
    bool made = length_enter(&scratch, j->directory, length, how, err),
         ok =
             sid2_group_concur(j->jury.group, made, err) && measure_lines(j, length, scratch.checkpoint, err);
    length_leave(&scratch);
    return ok;
}

static bool work(job *j, sid2_error *err)
{
    j->jury.bar = &j->bar;
    progress_begin(&j->bar);
    j->jury.group = j->ranks.group;
    sid2_group_hasten(j->ranks.group); /* nothing is summed, so any number of ranks gives the same bits */
    if (!sid2_group_concur(j->ranks.group, prepare(j, err), err)) return false;
    const int averages = j->length_count ? j->length_count : 1;
    const int lines = j->is_checkpoint ? averages * j->guidances * j->interval_count : 1;
    j->lines = calloc((size_t)lines, sizeof *j->lines);
    if (!j->lines) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory");
    if (j->statistics && lines * j->repeat > 1)
        return sid2_fail(
            err, SID2_ERR_USAGE,
            "--statistics is of one set: leave several guidances, intervals, averages and --repeat away");
    if (j->against && !read_real(j, err)) return false;
    if (!j->is_checkpoint) return measure_set(j, err);
    bool ok = j->length_count || measure_lines(j, 0, j->directory, err);
    for (int i = 0; ok && i < j->length_count; i++) ok = measure_length(j, j->lengths[i], err);
    return ok;
}

/* ---- What it prints ---- */

static void print_cell(const line *l, int column)
{
    char text[64];
    const sid2_mean m = mean_of(l, column);
    if (!isfinite(m.mean))
        snprintf(text, sizeof text, "-");
    else if (isfinite(m.deviation))
        sid2_text_format(text, sizeof text, "%.*f ± %.*f", columns[column].decimals, m.mean,
                         columns[column].decimals, m.deviation);
    else
        sid2_text_format(text, sizeof text, "%.*f", columns[column].decimals, m.mean);
    int width = l->repeats > 1 ? 19 : 10, own = sid2_text_columns(text, strlen(text));
    printf(" %*s%s", own < width ? width - own : 0, "", text);
}

static void print_table(const job *j)
{
    bool wide = j->line_count && j->lines[0].repeats > 1;
    if (j->real.count)
        printf("against     %s: %" PRId64 " pictures, %dx%d\n", j->against, j->real.count, j->real.height,
               j->real.width);
    else
        printf("against     %s: statistics alone\n", j->against);
    bool one = j->is_checkpoint && !j->length_count;
    printf("of          %s%s%s%s\n", j->is_checkpoint ? j->directory : j->path, one ? " (" : "",
           one ? j->lines[0].digest : "", one ? ")" : "");
    printf("weights     %s (%s)\n\n", j->jury.path[0] ? j->jury.path : "not needed", j->jury.digest);
    if (j->length_count) printf("     ema ");
    if (j->is_checkpoint) printf("guidance   interval");
    printf("  pictures");
    for (int c = 0; c < SCORES; c++) printf(" %*s", wide ? 19 : 10, columns[c].name);
    putchar('\n');
    for (int i = 0; i < j->line_count; i++) {
        const line *l = &j->lines[i];
        char count[48];
        if (j->length_count) printf("%8.3g ", l->length);
        if (j->is_checkpoint) printf("%8.3g %10s", l->guidance, l->interval);
        if (l->repeats > 1)
            snprintf(count, sizeof count, "%dx%" PRId64, l->repeats, l->pictures);
        else
            snprintf(count, sizeof count, "%" PRId64, l->pictures);
        printf(" %9s", l->pictures ? count : "?");
        for (int c = 0; c < SCORES; c++) print_cell(l, c);
        putchar('\n');
    }
}

/* NULL without memory. */
static json_t *line_json(const line *l)
{
    json_t *one = json_pack("{s:I, s:i, s:o, s:s?}", "pictures", (json_int_t)l->pictures, "repeats",
                            l->repeats, "guidance", sid2_json_real(l->guidance), "interval", l->interval);
    bool ok = one && (!l->length || (!json_object_set_new(one, "ema", json_real(l->length)) &&
                                     !json_object_set_new(one, "checkpoint", json_string(l->digest))));
    for (int c = 0; ok && c < SCORES; c++) {
        char key[64];
        ok = !json_object_set_new(one, columns[c].key, sid2_json_real(mean_of(l, c).mean));
        snprintf(key, sizeof key, "%s_deviation", columns[c].key);
        if (ok && l->repeats > 1)
            ok = !json_object_set_new(one, key, sid2_json_real(mean_of(l, c).deviation));
    }
    if (ok) return one;
    json_decref(one);
    return NULL;
}

static bool print_json(const job *j, sid2_error *err)
{
    json_t *lines = json_array(), *all = NULL;
    bool ok = lines != NULL;
    for (int i = 0; ok && i < j->line_count; i++) ok = !json_array_append_new(lines, line_json(&j->lines[i]));
    if (ok)
        all =
            json_pack("{s:s, s:s, s:I, s:s, s:s, s:O}", "path", j->path, "against", j->against,
                      "reference_pictures", (json_int_t)j->real.count, "checkpoint",
                      j->length_count ? "" : j->lines[0].digest, "weights", j->jury.digest, "results", lines);
    ok = json_print(all, err);
    json_decref(all);
    json_decref(lines);
    return ok;
}

/* FID over guidance, a curve for each interval. */
static bool draw_plot(const job *j, sid2_error *err)
{
    double x[MOST_VALUES * MOST_VALUES], y[MOST_VALUES * MOST_VALUES];
    chart_series series[MOST_VALUES];
    int count = 0;
    for (int i = 0; i < j->line_count; i++)
        x[i] = j->lines[i].guidance, y[i] = mean_of(&j->lines[i], FID).mean;
    for (int i = 0; i < j->line_count; i += j->guidances, count++)
        series[count] =
            (chart_series){j->lines[i].interval, sid2_chart_style(count), x + i, y + i, j->guidances};
    sid2_atomic_file file;
    if (!sid2_output_open(&file, j->plot, err)) return false;
    sid2_page_begin(file.stream, &j->path, 1);
    sid2_chart_write(file.stream, &(chart){.title = "FID by guidance",
                                           .x_label = "guidance",
                                           .real_x = true,
                                           .series = series,
                                           .series_count = count});
    sid2_page_end(file.stream);
    bool ok = sid2_atomic_commit(&file, err);
    sid2_atomic_discard(&file);
    return ok;
}

static void warn(const job *j)
{
    int64_t least = j->real.count ? j->real.count : INT64_MAX;
    for (int i = 0; i < j->line_count; i++)
        if (j->lines[i].pictures && j->lines[i].pictures < least) least = j->lines[i].pictures;
    if (least <= SID2_INCEPTION_FEATURES)
        fprintf(
            stderr,
            "FID of %" PRId64
            " pictures is too large: its covariances have %d dimensions, and want more pictures than that; "
            "compare it with such of as many alone\n",
            least, SID2_INCEPTION_FEATURES);
}

static bool print_all(const job *j, sid2_error *err)
{
    if (!j->against) {
        printf("%s: statistics of %" PRId64 " pictures\n", j->statistics, j->lines[0].pictures);
        return true;
    }
    warn(j);
    print_notice(j->jury.device);
    if (j->plot && !draw_plot(j, err)) return false;
    if (j->json) return print_json(j, err);
    print_table(j);
    if (j->plot) printf("\n%s\n", j->plot);
    return true;
}

int eval_fid(int argc, char **argv)
{
    job j = {.hold = -1, .repeat = 1, .jury.network = &jury_inception};
    bool no_cache = false;
    const option_row rows[] = {
        {OPTION_POSITIONAL, "PATH", NULL, &j.path,
         "what is judged: a data set (npz, folder, zip, tar, ...), or a run or checkpoint, of which samples "
         "are made",
         NULL},
        {OPTION_TEXT, "against", "PATH", &j.against,
         "real pictures (a data set), or an npz of their statistics mu and sigma; required but with "
         "--statistics",
         NULL},
        {OPTION_INT, "samples", "N", &j.samples, "how many pictures (a checkpoint: 50000; a data set: all)",
         NULL},
        {OPTION_TEXT, "guidance", "LIST", &j.guidance_text,
         "of a checkpoint: weights to try, such as 1,1.5,2 (sample.guidance)", NULL},
        {OPTION_TEXT, "interval", "LIST", &j.interval_text,
         "of a checkpoint: intervals to try, with semicolons between, such as 'always; -1,5' "
         "(sample.interval)",
         NULL},
        {OPTION_TEXT, "ema", "LIST", &j.lengths_text,
         "of a run with train.averages: weights averaged over these lengths, such as 0.02,0.05,0.1 of the "
         "training (the checkpoint's average)",
         NULL},
        {OPTION_INT, "repeat", "N", &j.repeat,
         "of a checkpoint: times over, with other seeds: means and deviations (1)", NULL},
        {OPTION_INT, "seed", "N", &j.seed, "of a checkpoint: the first picture's (0)", NULL},
        {OPTION_INT, "size", "N", &j.size, "side of the pictures of a data set (as the first one is)", NULL},
        {OPTION_TEXT, "weights", "FILE", &j.jury.weights,
         "FID's Inception, of sid2 eval convert-inception ($SID2_INCEPTION, or in the cache folder)", NULL},
        {OPTION_TEXT, "statistics", "x.npz", &j.statistics,
         "write mean and covariance of the judged pictures, as mu and sigma", NULL},
        {OPTION_TEXT, "plot", "x.html", &j.plot,
         "of a checkpoint: draw FID over guidance, a curve for each interval", NULL},
        {OPTION_FLAG, "spatial", NULL, &j.jury.spatial, "sFID too", NULL},
        {OPTION_FLAG, "fid-only", NULL, &j.fid_only,
         "no KID, precision, recall, density and coverage, which take pairs", NULL},
        {OPTION_FLAG, "no-cache", NULL, &no_cache, "keep no features, and use none that were kept", NULL},
        {OPTION_INT, "batch", "N", &j.jury.batch, "pictures that the network judges at a time (16)", NULL},
        {OPTION_FLAG, "raw", NULL, &j.raw, "a checkpoint's weights themselves rather than their average",
         NULL},
        {OPTION_FLAG, "json", NULL, &j.json, "print JSON", NULL},
        OPTIONS_DEVICE_CHOICE(j.on),
        OPTION_MEMORY(&j.memory),
        OPTION_SET_KEY(&j.set),
    };
    int code = options_parse(
        &(option_table){"eval fid", "FID and its kin, of pictures or of a checkpoint's samples",
                        "What each number is: docs/evaluation.md.", rows, sizeof rows / sizeof rows[0]},
        argc, argv);
    if (code != OPTIONS_RUN) return code;
    if (!j.against && !j.statistics) return report_usage("eval fid", "--against is missing");
    if (j.lengths_text && (j.raw || j.plot))
        return report_usage("eval fid", j.raw ? "--ema and --raw are of different weights"
                                              : "--plot draws one average: leave --ema away");
    if (!j.repeat || j.repeat > MOST_REPEATS)
        return report_usage("eval fid", "--repeat should be 1 to %d", MOST_REPEATS);
    if (j.jury.batch > 4096) return report_usage("eval fid", "--batch should be 1 to 4096");
    if (j.size && (j.size < 4 || j.size > 4096))
        return report_usage("eval fid", "--size should be 4 to 4096");
    if (j.samples > 10000000 || j.samples == 1)
        return report_usage("eval fid", "--samples should be 2 to 10000000");
    if (!j.jury.batch) j.jury.batch = 16;
    j.jury.no_cache = no_cache;
    sid2_error err = {0};
    interrupt_install();
    if (!ranks_join(&j.ranks, &j.on, &err))
        return ranks_leave(&j.ranks, ranks_report(&j.ranks, "eval fid", &err), &err);
    bool checkpoint = false;
    if (!j.samples && judged_is_checkpoint(j.path, &checkpoint, &err) && checkpoint) j.samples = 50000;
    bool ok = work(&j, &err) && (!ranks_speak(&j.ranks) || print_all(&j, &err));
    progress_clear(&j.bar);
    code = ok ? 0 : ranks_report(&j.ranks, "eval fid", &err);
    judged_free(&j.real);
    jury_close(&j.jury);
    sid2_checkpoint_release(j.hold);
    sid2_config_destroy(j.config);
    free(j.intervals);
    free(j.lines);
    return ranks_leave(&j.ranks, code, &err);
}
