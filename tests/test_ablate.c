/* Ablations without the program: plans and what is wrong with them, rows trained and measured, stopped and killed on the
 * way, bits against their closed form. */
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <archive.h>
#include <archive_entry.h>

#include "ablate.h"
#include "file.h"
#include "image.h"
#include "model_support.h"
#include "picture_support.h"
#include "samples.h"

static sid2_device *device;
static char folder[64] = "/tmp/sid2-ablate-XXXXXX";

#define TINY_ALL                                                                                             \
    "[all]\nmodel.image_size=8\nmodel.image_channels=1\nmodel.patch=1\nmodel.channels=8\nmodel.blocks=res\n" \
    "model.depth=1\nmodel.mid_depth=1\nmodel.emb=16\nmodel.groups=4\ntrain.batch=4\ntrain.steps=3\n"         \
    "train.precision=f32\ntrain.holdout=6\ntrain.sample_every=0\ntrain.eval_every=0\nsample.steps=2\n"       \
    "sample.guidance=1\nsample.precision=f32\n"

static const char two_rows[] = "[plan]\npreset=quickstart\nseeds=0, 7\nsamples=5\n" TINY_ALL
                               "[row one]\nloss.weighting=sigmoid\n[row two]\nloss.weighting=elbo\n";

static const char *write_plan(const char *text)
{
    const char *path = path_in(folder, "plan.ini");
    must(sid2_file_write(path, text, strlen(text), &err));
    return path;
}

/* ---- Plans ---- */

static void plans_are_checked(void **state)
{
    (void)state;
    static const struct {
        const char *text, *complaint;
    } bad[] = {
        {"", ": a plan without rows"},
        {"title=x\n", ":1: expected [plan], [all], [row NAME] or [each] before 'title'"},
        {"[plan]\npreset=quickstart\ncolour=red\n", ":3: [plan] has title"},
        {"[plan]\ntitle=a\ntitle=b\n", ":3: given twice"},
        {"[plan]\nequal=halves\n", ":2: equal should be images or operations, not 'halves'"},
        {"[plan]\nsamples=-3\n", ":2: samples should be"},
        {"[plan]\naxis=loss.nonsense\n", ":2: unknown key 'loss.nonsense'"},
        {"[plan]\npreset=quickstart\n[row a]\n[row b]\nloss.bias=1\n", ":3: nothing is set in '[row a]'"},
        {"[plan]\npreset=quickstart\n[row a]\nloss.bias=1\n[row b]\n", ":5: nothing is set in '[row b]'"},
        {"[row a]\nloss.bias=1\n[row a]\nloss.bias=2\n", ":3: there are two rows called 'a'"},
        {"[row ../a]\nloss.bias=1\n", ":1: a row's name has"},
        {"[rows]\nloss.bias=1\n", ":1: expected [plan], [all], [row NAME] or [each], not 'rows'"},
        {"[plan]\npreset=quickstart\n[row a]\nloss.bais=1\n",
         ":4: row a: unknown key 'loss.bais'; did you mean"},
        {"[plan]\npreset=quickstart\n[row a]\n\n  loss.bias=high\n", ":5: row a: loss.bias = high: expected"},
        {"[plan]\npreset=quickstart\n[row a]\nmodel.head_dim=40\n", ":3: row a: "},
        {"[plan]\npreset=quickstart\n[row a]\ntrain.seed=4\n", ":4: seeds are [plan]'s"},
        {"[plan]\npreset=quickstart\n[row a]\ntrain.steps=4\n", ":4: how long a row trains follows"},
        {"[plan]\npreset=quickstart\n[row a]\nloss.bias\n", ":4: expected [section] or key = value"},
        {"[plan]\npreset=quickstart\nseeds=1,1\n[row a]\nloss.bias=1\n", "seeds '1,1': expected different"},
        {"[plan]\npreset=quickstart\nseeds=1;2\n[row a]\nloss.bias=1\n", "seeds '1;2': expected"},
        {"[plan]\npreset=nosuch\n[row a]\nloss.bias=1\n", "no preset or file 'nosuch'"},
        {"[row a]\nloss.bias=1\n", ": [plan] names no preset"},
        {"[row a]\n\x01\n", "not a text file"},
        {"[each]\nsample.steps=8\n", ": a plan without rows"},
        {"[plan]\npreset=quickstart\n[row a]\ncheckpoint=/nonexistent\n", ":3: row a: "},
        {"[plan]\npreset=quickstart\n[row a]\nguide=x\nguide=y\n", ":5: given twice, also as 'y'"},
        {"[plan]\npreset=quickstart\n[row a]\nloss.bias=1\n[each]\nsample.steps=8|x\n",
         ":6: row a-x: sample.steps = x"},
        {"[plan]\npreset=quickstart\n[row a]\nloss.bias=1\n[each]\nsample.steps=8||9\n",
         ":6: the value '' is to be"},
        {"[plan]\npreset=quickstart\n[row a]\nloss.bias=1\n[each]\nsample.interval=-3,4|none\n",
         ":6: the value '-3,4' is to be"},
        {"[plan]\npreset=quickstart\n[row a]\nloss.bias=1\n[each]\nsample.steps=8|8\n",
         ":3: there are two rows called 'a-8'"},
        {"[plan]\npreset=quickstart\n[row a]\nloss.bias=1\n[each]\ntrain.steps=8|9\n", ":6: how long a row"},
        {"[plan]\npreset=quickstart\n[row "
         "a]\nloss.bias=1\n[each]\nsample.steps=1|2|3|4|5|6|7|8|9|10|11|12|13|14|15|16\n"
         "sample.gamma=0|0.1|0.2|0.3|0.4|0.5|0.6|0.7|0.8|0.9|1|0.05|0.15|0.25|0.35|0.45|0.55\n",
         ":7: a plan has at most 256 rows"},
    };
    const sid2_ablate_plan_options how = {.samples = -1};
    sid2_ablate_plan plan;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_false(sid2_ablate_plan_read(&plan, write_plan(bad[i].text), &how, &err));
        if (!strstr(err.message, bad[i].complaint))
            fail_msg("'%s' instead of '%s'", err.message, bad[i].complaint);
        if (!strstr(err.message, "plan.ini") && !strstr(err.message, "preset")) fail_msg("%s", err.message);
        sid2_ablate_plan_free(&plan);
    }
    assert_false(sid2_ablate_plan_read(&plan, "weihgting", &how, &err));
    assert_non_null(strstr(err.message, "did you mean 'weighting'; plans: "));
    sid2_ablate_plan_free(&plan);

    char *wide = malloc(400);
    memset(wide, 'x', 400);
    memcpy(wide, "[plan]\n", 7);
    wide[399] = 0;
    assert_false(sid2_ablate_plan_read(&plan, write_plan(wide), &how, &err));
    assert_non_null(strstr(err.message, ":2: a line is longer"));
    sid2_ablate_plan_free(&plan);
    free(wide);
}

/* Every row with every combination, the last line's values changing first; names say which. */
static void each_multiplies(void **state)
{
    (void)state;
    static const char *const names[] = {"a-ddim-8", "a-ddim-16", "a-heun-8", "a-heun-16",
                                        "b-ddim-8", "b-ddim-16", "b-heun-8", "b-heun-16"};
    const sid2_ablate_plan_options how = {.samples = -1};
    sid2_ablate_plan plan;
    must(sid2_ablate_plan_read(
        &plan,
        write_plan("[plan]\npreset=quickstart\naxis=evaluations\n[row a]\nsample.grid=uniform\n"
                   "[each]\nsample.sampler = ddim | heun\nsample.steps=8|16\n"
                   "[row b]\nsample.grid=rho\n"),
        &how, &err));
    assert_int_equal(plan.rows, 8);
    for (int i = 0; i < 8; i++) {
        const sid2_ablate_row *row = &plan.row[i];
        assert_string_equal(row->name, names[i]);
        assert_int_equal(row->config->sample_steps, i % 2 ? 16 : 8);
        assert_int_equal(row->config->sample_sampler, i / 2 % 2 ? SID2_SAMPLER_heun : SID2_SAMPLER_ddim);
        assert_int_equal(row->config->sample_grid, i / 4 ? SID2_GRID_rho : SID2_GRID_uniform);
        assert_int_equal(row->trained_as, 0);
    }
    sid2_ablate_plan_free(&plan);
    /* The one that comes with sid2 has each sampler there is, on each grid, at four numbers of steps. */
    must(sid2_ablate_plan_read(&plan, "samplers", &how, &err));
    static const char *const samplers[] = {
#define SAMPLER(word, evaluations, history, noise, help) #word,
#include "samplers.def"
    };
    for (size_t i = 0; i < sizeof samplers / sizeof *samplers; i++) {
        int count = 0;
        for (int k = 0; k < plan.rows; k++) count += plan.row[k].config->sample_sampler == (int)i;
        if (!count || count % 12) fail_msg("%s: %d rows", samplers[i], count);
    }
    sid2_ablate_plan_free(&plan);
}

static void rows_follow_the_first(void **state)
{
    (void)state;
    const char *const more[] = {"train.batch=8", "loss.bias=-1"};
    sid2_ablate_plan_options how = {.samples = -1, .set = more, .set_count = 2};
    sid2_ablate_plan plan;
    char value[256];
    must(sid2_ablate_plan_read(
        &plan,
        write_plan("[plan]\nequal=operations\npreset=quickstart\n[all]\ntrain.steps=100\n"
                   "[row base]\nmodel.patch=2\n[row wide]\nmodel.channels=64,64,96\n"
                   "[row halved]\ntrain.batch=4\n[row sampled]\nmodel.patch=2\nsample.steps=3\n"
                   "[row bias]\nloss.bias=3\n"),
        &how, &err));
    assert_int_equal(plan.rows, 5);
    assert_int_equal(plan.seeds, 1); /* unless said */
    const sid2_ablate_row *first = &plan.row[0], *wide = &plan.row[1];
    assert_int_equal(first->config->train_steps, 100);
    assert_true(wide->pass > 1.2 * first->pass && wide->config->train_steps < 84);
    assert_true(fabs(wide->operations / first->operations - 1) < 0.01);
    assert_int_equal(plan.row[2].config->train_steps, 200); /* as many images */
    assert_int_equal(plan.row[3].trained_as, 0);
    assert_int_equal(plan.row[4].trained_as, 4);
    assert_string_equal(sid2_config_text(first->config, "loss.bias", value), "-1");
    assert_string_equal(sid2_config_text(plan.row[4].config, "loss.bias", value),
                        "3"); /* what makes the row */
    sid2_ablate_plan_free(&plan);

    how = (sid2_ablate_plan_options){.samples = 3, .seeds = "4,5,6"};
    for (int i = 0; sid2_ablate_plan_name(i); i++) { /* those that come with sid2 */
        must(sid2_ablate_plan_read(&plan, sid2_ablate_plan_name(i), &how, &err));
        assert_true(plan.rows >= 3 && plan.seeds == 3 && plan.samples == 3 && plan.title[0]);
        double least = plan.row[0].operations;
        for (int row = 0; row < plan.rows; row++)
            assert_true(!plan.equal_operations || fabs(plan.row[row].operations / least - 1) < 0.01);
        sid2_ablate_plan_free(&plan);
    }
}

/* ---- Running ---- */

typedef struct watcher {
    int steps, stop_at, kill_at; /* steps of training so far; where to end; 0: never */
    int sampled;
} watcher;

static bool on_progress(void *user, const sid2_ablate_progress *p)
{
    watcher *w = user;
    assert_in_range(p->number, 0, p->total - 1);
    if (p->run && p->run->kind == SID2_RUN_STEP) w->steps++;
    w->sampled += strcmp(p->doing, "sampling") == 0;
    if (w->kill_at && w->steps == w->kill_at) raise(SIGKILL);
    return !w->stop_at || w->steps < w->stop_at;
}

static bool ablate(sid2_ablation *a, const char *plan, const char *out, watcher *w)
{
    static char folder_of[256], data[256];
    snprintf(folder_of, sizeof folder_of, "%s/%s", folder, out);
    snprintf(data, sizeof data, "%s/pictures", folder);
    const sid2_ablate_options o = {.plan = plan,
                                   .data = data,
                                   .folder = folder_of,
                                   .how.samples = -1,
                                   .callback = on_progress,
                                   .user = w};
    return sid2_ablate_open(a, &o, device, &err) && sid2_ablate_run(a, device, &err);
}

static void check_same(const sid2_ablation *a, const sid2_ablation *b)
{
    for (int row = 0; row < 2; row++)
        for (int seed = 0; seed < 2; seed++)
            for (int i = 0; i < SID2_METRICS; i++) {
                double x = sid2_ablation_at(a, row, seed)->metric[i],
                       y = sid2_ablation_at(b, row, seed)->metric[i];
                assert_true(x == y || (isnan(x) && isnan(y)));
            }
}

static char *read_page(const char *out, const char *name)
{
    char path[256];
    size_t size;
    snprintf(path, sizeof path, "%s/%s/%s", folder, out, name);
    char *text = (char *)sid2_file_read(path, 1 << 24, &size, &err);
    must(text);
    return text;
}

/* Stopped within a row and killed within another, it goes on to what an undisturbed one finds; once it is done, nothing is
 * done again. */
static void goes_on(void **state)
{
    (void)state;
    sid2_ablation straight, other;
    watcher whole = {0}, stops = {.stop_at = 5}, rest = {0}, again = {0};
    must(ablate(&straight, write_plan(two_rows), "straight", &whole));
    assert_int_equal(whole.steps, 12);
    assert_true(whole.sampled > 0);

    assert_false(ablate(&other, write_plan(two_rows), "other", &stops));
    assert_int_equal(err.code, SID2_ERR_CANCELLED);
    assert_true(sid2_ablation_at(&other, 0, 0)->known && !sid2_ablation_at(&other, 1, 0)->known);
    free(read_page("other", "ablation.html")); /* of what there is */
    sid2_ablate_close(&other);

    pid_t child = fork();
    if (!child) {
        watcher killed = {.kill_at = 2};
        device = open_device("reference"); /* the other one's threads are not in this process */
        ablate(&other, write_plan(two_rows), "killed", &killed);
        _exit(1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    watcher after = {0};
    must(ablate(&other, write_plan(two_rows), "killed", &after));
    check_same(&straight, &other);
    sid2_ablate_close(&other);

    must(ablate(&other, write_plan(two_rows), "other", &rest));
    assert_int_equal(rest.steps, 7);
    check_same(&straight, &other);
    sid2_ablate_close(&other);
    must(ablate(&other, write_plan(two_rows), "other", &again));
    assert_int_equal(again.steps + again.sampled, 0);
    check_same(&straight, &other);
    sid2_ablate_close(&other);

    /* A measurement with another digit in it is none. */
    char path[256], *text = read_page("other", "measured/two.seed-0.json"),
                    *digit = strstr(text, "\"bits\": ");
    digit += strcspn(digit, "123456789");
    *digit ^= 1;
    snprintf(path, sizeof path, "%s/other/measured/two.seed-0.json", folder);
    must(sid2_file_write(path, text, strlen(text), &err));
    free(text);
    watcher once_more = {0};
    must(ablate(&other, write_plan(two_rows), "other", &once_more));
    assert_true(once_more.sampled > 0 && !once_more.steps);
    check_same(&straight, &other);
    sid2_ablate_close(&other);

    /* A row that is another now is not taken for what is there. */
    watcher refused = {0};
    char changed[sizeof two_rows + 32];
    snprintf(changed, sizeof changed, "%smodel.skip=none\n", two_rows);
    assert_false(ablate(&other, write_plan(changed), "other", &refused));
    assert_non_null(strstr(err.message, "row two, seed 0: "));
    assert_non_null(strstr(err.message, "model.skip"));
    sid2_ablate_close(&other);
    memcpy(changed, two_rows, sizeof two_rows);
    strstr(changed, "train.steps=3")[12] = '2'; /* nor one that was trained for longer */
    assert_false(ablate(&other, write_plan(changed), "other", &refused));
    assert_non_null(strstr(err.message, "has 3 steps, the plan 2"));
    sid2_ablate_close(&other);
    sid2_ablate_close(&straight);
}

/* An npz of f8 arrays, members stored, as numpy writes it. */
static void write_arrays(const char *path, const double *features, int width, const double *logits,
                         int classes, int count)
{
    const struct {
        const char *name;
        const double *values;
        int columns;
    } arrays[] = {{"features.npy", features, width}, {"logits.npy", logits, classes}};
    struct archive *zip = archive_write_new();
    must(zip && !archive_write_set_format_zip(zip) && !archive_write_zip_set_compression_store(zip) &&
         !archive_write_open_filename(zip, path));
    for (int i = 0; i < 2; i++) {
        char head[128];
        memset(head, ' ', sizeof head);
        memcpy(head, "\x93NUMPY\x01\x00\x76\x00", 10);
        int length = snprintf(head + 10, 100, "{'descr': '<f8', 'fortran_order': False, 'shape': (%d, %d), }",
                              count, arrays[i].columns);
        head[10 + length] = ' ';
        head[127] = '\n';
        size_t bytes = (size_t)count * (size_t)arrays[i].columns * sizeof(double);
        struct archive_entry *entry = archive_entry_new();
        archive_entry_set_pathname(entry, arrays[i].name);
        archive_entry_set_filetype(entry, AE_IFREG);
        archive_entry_set_perm(entry, 0644);
        archive_entry_set_size(entry, (la_int64_t)(sizeof head + bytes));
        must(!archive_write_header(zip, entry) && archive_write_data(zip, head, sizeof head) == sizeof head &&
             archive_write_data(zip, arrays[i].values, bytes) == (la_ssize_t)bytes);
        archive_entry_free(entry);
    }
    must(!archive_write_close(zip));
    archive_write_free(zip);
}

/* Features and logits that a tool leaves: a distance and a share that are known; what does not fit is named. */
static void judged_by_the_user(const sid2_ablation *straight)
{
    static const double real[] = {0, 0, 2, 0, 0, 2, 2, 2}, moved[] = {3, 0, 5, 0, 3, 2, 5, 2, 4, 1};
    double logits[50] = {0};
    static char plan[sizeof two_rows + 32], out[256], data[256], features[256], file[4096];
    for (int i = 0; i < 5; i++) logits[10 * i + (i < 3 ? i : 0)] = 1; /* asked for are 0 1 2 0 1 in turn */
    snprintf(features, sizeof features, "%s/real.npz", folder);
    write_arrays(features, real, 2, logits, 10, 4);
    snprintf(out, sizeof out, "%s/straight", folder);
    snprintf(data, sizeof data, "%s/pictures", folder);
    snprintf(plan, sizeof plan, "%s", two_rows);
    must(sid2_ablation_path(straight, 1, 0, "features.npz", file, &err));
    write_arrays(file, moved, 2, logits, 10, 5);
    watcher w = {0};
    const sid2_ablate_options o = {.plan = write_plan(plan),
                                   .data = data,
                                   .folder = out,
                                   .features = features,
                                   .how.samples = -1,
                                   .callback = on_progress,
                                   .user = &w};
    sid2_ablation a;
    must(sid2_ablate_open(&a, &o, device, &err) && sid2_ablate_run(&a, device, &err));
    assert_int_equal(w.steps + w.sampled, 0);
    assert_int_equal(a.waiting, 3);
    /* Means 3 apart; variances 4/3 and 1, of which roots are compared. */
    double root = sqrt(4 / 3.0) - 1, expected = 9 + 2 * root * root;
    const sid2_measured *m = sid2_ablation_at(&a, 1, 0);
    assert_true(fabs(m->metric[SID2_METRIC_features] - expected) < 1e-5);
    assert_true(m->metric[SID2_METRIC_agreement] == 0.8);
    assert_true(isnan(sid2_ablation_at(&a, 0, 0)->metric[SID2_METRIC_features]));
    sid2_ablate_close(&a);
    write_arrays(file, moved, 2, logits, 10, 4);
    assert_false(sid2_ablate_open(&a, &o, device, &err) && sid2_ablate_run(&a, device, &err));
    assert_non_null(strstr(err.message, "features of 4 samples, there are 5"));
    sid2_ablate_close(&a);
    logits[13] = NAN;
    write_arrays(file, moved, 2, logits, 10, 5);
    assert_false(sid2_ablate_open(&a, &o, device, &err) && sid2_ablate_run(&a, device, &err));
    assert_non_null(strstr(err.message, "a logit of sample 1 is not finite"));
    sid2_ablate_close(&a);
    must(!unlink(file));
}

static void shows_what_it_found(void **state)
{
    (void)state;
    sid2_ablation a;
    sid2_table tables[SID2_ABLATION_TABLES];
    watcher w = {0};
    must(ablate(&a, write_plan(two_rows), "straight", &w));
    must(sid2_ablation_tables(&a, tables, &err));
    assert_int_equal(sid2_table_rows(&tables[0]), 3);
    assert_string_equal(sid2_table_at(&tables[0], 2, 0), "two");
    assert_string_equal(sid2_table_at(&tables[0], 0, 2), "bits");
    assert_int_equal(sid2_table_rows(&tables[1]), 2); /* against the first */
    for (int i = 0; i < SID2_ABLATION_TABLES; i++) sid2_table_free(&tables[i]);
    const sid2_measured *m = sid2_ablation_at(&a, 1, 1);
    double bits = 0;
    for (int i = 0; i < SID2_BANDS; i++) bits += m->bits[i];
    assert_true(m->metric[SID2_METRIC_bits] > bits && bits > 0);
    assert_true(m->metric[SID2_METRIC_pixels] > 0 && m->metric[SID2_METRIC_spectrum] > 0);
    char *page = read_page("straight", "ablation.html"), *markdown = read_page("straight", "ablation.md");
    assert_non_null(strstr(page, "</html>\n"));
    assert_non_null(strstr(page, "samples of two"));
    assert_non_null(strstr(page, "<tr><td>loss.weighting<td>sigmoid<td>elbo"));
    assert_non_null(strstr(markdown, "| one | "));
    assert_non_null(strstr(markdown, "1 degree of freedom"));
    free(page);
    free(markdown);

    /* What the user's tool says of the same samples. */
    judged_by_the_user(&a);

    /* Ways to sample from what is trained; of that nothing can be another. */
    char run[256], pictures[256];
    snprintf(run, sizeof run, "%s/straight/runs/one/seed-0", folder);
    snprintf(pictures, sizeof pictures, "%s/pictures", folder);
    const sid2_ablate_options o = {.plan = write_plan("[plan]\nsamples=4\n[all]\nmodel.patch=8\n[row two]\n"
                                                      "sample.steps=2\n[row three]\nsample.steps=3\n"),
                                   .data = pictures,
                                   .folder = path_in(folder, "sampled"),
                                   .checkpoint = run,
                                   .how.samples = -1,
                                   .callback = on_progress,
                                   .user = &w};
    sid2_ablation b;
    must(sid2_ablate_open(&b, &o, device, &err) && sid2_ablate_run(&b, device, &err));
    assert_int_equal(w.steps, 0);
    assert_true(sid2_ablation_at(&b, 0, 0)->metric[SID2_METRIC_bits] ==
                sid2_ablation_at(&a, 0, 0)->metric[SID2_METRIC_bits]);
    assert_true(sid2_ablation_at(&b, 1, 0)->evaluations == 3);
    sid2_ablate_close(&b);

    /* A row with a checkpoint of its own beside them, sampled from as that one's configuration says, and one that a network
     * guides, at two numbers of steps each. */
    char plan[1024];
    snprintf(plan, sizeof plan,
             "[plan]\nsamples=4\naxis=evaluations\n[all]\nsample.steps=9\nsample.guidance=1\n"
             "[row own]\ncheckpoint=%s\n[row "
             "guided]\nguide=%s\nsample.guidance=2\nsample.interval=always\n[row plain]\n"
             "sample.sampler=ddim\n[row fixed]\nsample.steps=5\n[each]\nsample.steps=2|4\n",
             run, run);
    sid2_ablate_options mixed = o;
    mixed.plan = write_plan(plan);
    char mixed_folder[256];
    snprintf(mixed_folder, sizeof mixed_folder, "%s/mixed", folder);
    mixed.folder = mixed_folder;
    must(sid2_ablate_open(&b, &mixed, device, &err) && sid2_ablate_run(&b, device, &err));
    static const char *const names[] = {"own", "guided-2", "guided-4", "plain-2", "plain-4", "fixed"};
    static const double passes[] = {2, 4, 8, 2, 4, 5}; /* own: see TINY_ALL */
    assert_int_equal(b.plan.rows, 6);
    for (int i = 0; i < 6; i++) {
        assert_string_equal(b.plan.row[i].name, names[i]);
        if (sid2_ablation_at(&b, i, 0)->evaluations != passes[i])
            fail_msg("%s: %g passes, not %g", names[i], sid2_ablation_at(&b, i, 0)->evaluations, passes[i]);
        assert_true(sid2_ablation_at(&b, i, 0)->metric[SID2_METRIC_bits] ==
                    sid2_ablation_at(&a, 0, 0)->metric[SID2_METRIC_bits]);
    }
    page = read_page("mixed", "ablation.html");
    assert_non_null(strstr(page, "data-name='guided'"));
    assert_non_null(strstr(page, "passes a sample"));
    assert_non_null(strstr(page, "<tr><td>guide<td><td>"));
    free(page);
    sid2_ablate_close(&b);
    sid2_ablate_options worse = o;
    worse.plan = write_plan("[row two]\nsample.steps=2\n[row three]\nmodel.skip=none\n");
    assert_false(sid2_ablate_open(&b, &worse, device, &err));
    assert_non_null(strstr(err.message, ":3: row three is trained otherwise"));
    sid2_ablate_close(&b);
    worse.plan = o.plan;
    worse.folder = path_in(folder, "pictures/inside");
    assert_false(sid2_ablate_open(&b, &worse, device, &err));
    assert_non_null(strstr(err.message, "lies in the data"));
    sid2_ablate_close(&b);
    sid2_ablate_close(&a);
}

/* ---- Bits ---- */

static bool go_on(void *user, double done)
{
    *(double *)user = done;
    return true;
}

/* A network at its start says v = 0, so x̂ = α z, and every part of the bound is known: a band is the integral of
 * (1 / 2 ln 2) (α² σ² x² + α⁴). */
static void bits_of_an_untrained_network(void **state)
{
    (void)state;
    enum { COUNT = 300, BYTES = 64 };
    sid2_config *config = TINY("eval.images=300");
    uint8_t *pixels = malloc((size_t)COUNT * BYTES);
    int32_t *labels = malloc(COUNT * sizeof *labels);
    make_images(pixels, labels, COUNT, BYTES, 3, 0);
    double squares = 0, done = 0;
    for (int i = 0; i < COUNT * BYTES; i++) squares += pow(pixels[i] / 127.5 - 1, 2) / (COUNT * BYTES);
    const sid2_heldout pictures = {.count = COUNT, .bytes = BYTES, .pixels = pixels, .labels = labels};
    sid2_trainer *trainer = sid2_trainer_create(device, config, 0, &err);
    must(trainer);
    sid2_evaluator *evaluator = sid2_evaluator_create(device, config, 0, &err);
    must(evaluator && sid2_evaluator_load_trainer(evaluator, trainer, &err));
    sid2_bits bits;
    must(sid2_bits_measure(&bits, &pictures, evaluator, 2, go_on, &done, &err));
    assert_true(done == 1);
    double all = 0;
    for (int i = 0; i < SID2_BANDS; i++) {
        double expected = 0;
        enum { STEPS = 2 }; /* the same two places */
        for (int k = 0; k < STEPS; k++) {
            double logsnr = sid2_band_logsnr(i) - 1 + 2 * (k + 0.5) / STEPS;
            double a = 1 / (1 + exp(-logsnr)), s = 1 - a; /* alpha², sigma² */
            expected += 2.0 / STEPS / (2 * log(2)) * (a * s * squares + a * a);
        }
        if (fabs(bits.band[i] / expected - 1) > 0.03)
            fail_msg("band %d: %g, not %g", i, bits.band[i], expected);
        all += bits.band[i];
    }
    assert_true(bits.prior > 0 && bits.prior < 1e-3);
    assert_true(fabs(bits.total - bits.prior - bits.pixel - all) < 1e-9);
    assert_true(bits.deviation > 0 && bits.deviation < 0.1);

    /* To tell 256 values apart at sigma of the clean end, by drawing: a value far from both ends. */
    uint8_t grey[BYTES];
    memset(grey, 100, sizeof grey);
    int32_t none = 0;
    const sid2_heldout one = {.count = 1, .bytes = BYTES, .pixels = grey, .labels = &none};
    must(sid2_bits_measure(&bits, &one, evaluator, 1, go_on, &done, &err));
    double ratio = sqrt(1 / (1 + exp(-10.0))) * (2 / 255.0) / sqrt(1 / (1 + exp(10.0))), sum = 0;
    enum { DRAWS = 20000 };
    for (int i = 0; i < DRAWS; i++) {
        double u = (i + 0.5) / DRAWS, low = -9, high = 9; /* the normal quantile of u, by halving */
        while (high - low > 1e-9) {
            double middle = (low + high) / 2;
            if (0.5 * erfc(-middle / sqrt(2)) < u)
                low = middle;
            else
                high = middle;
        }
        double mass = 0;
        for (int k = -20; k <= 20; k++) mass += exp(0.5 * low * low - 0.5 * pow(low + k * ratio, 2));
        sum += log2(mass) / DRAWS;
    }
    if (fabs(bits.pixel - sum) > 1e-3) fail_msg("pixel: %g, not %g", bits.pixel, sum);
    assert_true(isnan(bits.deviation));
    sid2_evaluator_destroy(evaluator);
    sid2_trainer_destroy(trainer);
    sid2_config_destroy(config);
    free(pixels);
    free(labels);
}

/* Training pictures called samples are found again, and held-out ones are not taken for them. */
static void finds_what_is_known_by_heart(void **state)
{
    (void)state;
    sid2_config *config = TINY("train.holdout=6");
    char data[256];
    snprintf(data, sizeof data, "%s/pictures", folder);
    double done = 0;
    for (int part = 0; part < 2; part++) {
        sid2_heldout pictures;
        sid2_neighbours near;
        must(
            sid2_pictures_read(&pictures, data, config, part ? SID2_PART_HELDOUT : SID2_PART_TRAIN, 6, &err));
        assert_int_equal(pictures.count, 6);
        const sid2_samples samples = {.pixels = pictures.pixels, .labels = pictures.labels, .count = 6};
        must(sid2_neighbours_find(&near, &samples, data, config, go_on, &done, &err));
        assert_int_equal(near.set, 6);
        assert_true(near.share == (part ? 0 : 1) && done == 1);
        for (int i = 0; i < 6; i++) {
            assert_true((near.nearest[i].squares == 0) == !part);
            assert_in_range(near.nearest[i].index, 0, 17);
        }
        sid2_image shown;
        const char *path = path_in(folder, "near.png");
        must(sid2_neighbours_write(&near, &samples, data, config, 5, path, &err));
        must(sid2_image_read(&shown, path, &err));
        assert_int_equal(shown.height, 2 * 8 + 3 * 2);     /* a row of samples, and theirs */
        for (int i = 0; i < 8 * shown.width && !part; i++) /* alike */
            assert_int_equal(shown.pixels[2 * shown.width + i], shown.pixels[12 * shown.width + i]);
        sid2_image_free(&shown);
        sid2_neighbours_free(&near);
        sid2_heldout_free(&pictures);
    }
    sid2_config_destroy(config);
}

static int set_up(void **state)
{
    (void)state;
    if (!mkdtemp(folder)) return -1;
    device = open_device("reference");
    must(write_squares(folder, 24, &err));
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    sid2_device_close(device);
    return sid2_remove_tree(folder, &err) ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plans_are_checked),           cmocka_unit_test(each_multiplies),
        cmocka_unit_test(rows_follow_the_first),       cmocka_unit_test(goes_on),
        cmocka_unit_test(shows_what_it_found),         cmocka_unit_test(bits_of_an_untrained_network),
        cmocka_unit_test(finds_what_is_known_by_heart)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
