/* A run without the program: trains, stops when told to, goes on to the same weights, and reports. */
#include <errno.h>
#include <pthread.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "averages.h"
#include "digest.h"
#include "file.h"
#include "image.h"
#include "judgements.h"
#include "model_support.h"
#include "picture_support.h"
#include "refuse_support.h"

static sid2_device *device;
static char folder[64] = "/tmp/sid2-run-XXXXXX";

/* What a run told. */
typedef struct told {
    int count[SID2_RUN_CONTINUED + 1];
    uint64_t stop_at;  /* step; 0: never */
    uint64_t pause_at; /* likewise; for three looks */
    double sampled;
    char text[SID2_RUN_CONTINUED + 1][480]; /* the last of each kind */
    bool resumes, lockless;
    char lost[480]; /* the last count of what was left out */
    pthread_t thread;
} told;

/* Looked at while it waits; then it goes on. */
static void check_paused(const char *run, uint64_t step)
{
    sid2_run_status *s = sid2_run_look(run, &err);
    must(s);
    assert_string_equal(s->state, "paused");
    assert_int_equal(s->alive, SID2_ALIVE);
    assert_int_equal(s->step, step);
    assert_non_null(strstr(s->checkpoint, "step-0000000"));
    sid2_run_status_destroy(s);
    assert_int_equal(sid2_device_used(device), 0); /* nothing is held */
    must(sid2_run_pause(run, false, &err));
}

static bool on_event(void *user, const sid2_run_event *event)
{
    told *t = user;
    assert_true(pthread_equal(pthread_self(), t->thread));
    t->count[event->kind]++;
    bool is_count = event->text && strncmp(event->text, "left out: 1 ", 12) == 0;
    if (event->text) snprintf(is_count ? t->lost : t->text[event->kind], sizeof t->lost, "%s", event->text);
    if (event->text && strstr(event->text, "cannot be locked here")) t->lockless = true;
    if (event->kind == SID2_RUN_PLANNED) t->resumes = event->plan->resumes;
    if (event->kind == SID2_RUN_STEP) {
        assert_int_equal(event->stats->step, event->progress->step);
        assert_true(event->progress->images_per_s > 0 && event->progress->loss > 0);
    }
    const char *run = event->plan ? event->plan->path : NULL;
    if (event->kind == SID2_RUN_STEP && event->progress->step == t->pause_at)
        must(sid2_run_pause(run, true, &err));
    if (event->kind == SID2_RUN_PAUSED && t->count[SID2_RUN_PAUSED] == 3) check_paused(run, t->pause_at);
    t->sampled = event->progress->sampled;
    return !t->stop_at || event->progress->step < t->stop_at;
}

static sid2_config *small(const char *steps)
{
    return TINY("train.batch=4", "train.checkpoint_every=2", "train.keep=2", "train.log_every=1",
                "train.sample_every=3", "train.sample_count=3", "train.sample_steps=2", steps);
}

/* Trains as far as the configuration or t->stop_at says; the run must come to `step`. */
static void train(const char *name, sid2_config *config, told *t, uint64_t step)
{
    t->thread = pthread_self();
    sid2_run *run =
        sid2_run_open(&sid2_with(sid2_run_options, .path = path_in(folder, name), .config = config,
                                 .data = path_in(folder, "pictures"), .callback = on_event, .user = t),
                      &err);
    must(run);
    must(sid2_run_train(run, device, &err));
    assert_int_equal(sid2_run_where(run)->step, step);
    assert_false(sid2_run_train(run, device, &err)); /* once a handle */
    assert_non_null(strstr(err.message, "again"));
    sid2_run_close(run);
    sid2_config_destroy(config);
}

static void digest_of(const char *name, char digest[33])
{
    char found[4096];
    must(sid2_checkpoint_find(path_in(folder, name), found, sizeof found, &err));
    must(sid2_checkpoint_digest(found, digest, &err));
}

static void trains_stops_and_goes_on(void **state)
{
    (void)state;
    char digest[33], straight[33];
    told first = {.stop_at = 3}, second = {0}, whole = {0}, complete = {0};
    train("run", small("train.steps=7"), &first, 3);
    assert_int_equal(first.count[SID2_RUN_PREPARING], 1);
    assert_int_equal(first.count[SID2_RUN_PLANNED], 1);
    assert_int_equal(first.count[SID2_RUN_STEP], 3);
    assert_int_equal(first.count[SID2_RUN_SAVED], 2); /* step 2, and where it stopped */
    assert_string_equal(first.text[SID2_RUN_SAVED], path_in(folder, "run/checkpoints/step-00000003"));
    assert_int_equal(first.count[SID2_RUN_SAMPLED], 0); /* none for one who wants to leave */
    assert_int_equal(first.count[SID2_RUN_WARNING], 2); /* it is named and counted */
    assert_non_null(strstr(first.text[SID2_RUN_WARNING], "broken.png"));
    assert_string_equal(first.lost, "left out: 1 broken picture: .png 1 (0/broken.png)");
    assert_false(first.resumes);

    sid2_config *config = small("train.steps=6");
    must(sid2_config_set(config, "train.keep=1", &err));
    train("run", config, &second, 6);
    assert_true(second.resumes);
    assert_int_equal(second.count[SID2_RUN_STEP], 3);
    assert_int_equal(second.count[SID2_RUN_CHANGED], 2);
    assert_string_equal(second.text[SID2_RUN_CHANGED], "train.keep=1, was 2");
    assert_string_equal(second.text[SID2_RUN_SAMPLED], path_in(folder, "run/samples/step-00000006.png"));
    assert_true(second.sampled == 1);
    assert_int_equal(access(path_in(folder, "run/samples/step-00000006.png"), F_OK), 0);
    assert_int_equal(access(path_in(folder, "run/checkpoints/step-00000004"), F_OK), -1); /* pruned */

    train("straight", small("train.steps=6"), &whole, 6);
    digest_of("run", digest);
    digest_of("straight", straight);
    assert_string_equal(digest, straight);
    train("straight", small("train.steps=6"), &complete, 6);
    assert_int_equal(complete.count[SID2_RUN_STEP], 0);

    size_t size;
    const sid2_judgement without_guidance = {.step = 6, .guidance = NAN, .fid = 3};
    must(sid2_judgement_add(path_in(folder, "run"), &without_guidance, &err));
    must(sid2_run_report(path_in(folder, "run"), path_in(folder, "page.html"), &err));
    char *page = (char *)sid2_file_read(path_in(folder, "page.html"), 1 << 24, &size, &err);
    must(page);
    assert_true(size > 8 && memcmp(page + size - 8, "</html>\n", 8) == 0);
    free(page);
    const char *const both[] = {"run", "straight"};
    char paths[2][256];
    for (int i = 0; i < 2; i++) snprintf(paths[i], sizeof paths[i], "%s/%s", folder, both[i]);
    must(sid2_run_compare((const char *const[]){paths[0], paths[1]}, 2, path_in(folder, "both.html"), &err));
    page = (char *)sid2_file_read(path_in(folder, "both.html"), 1 << 24, &size, &err);
    must(page);
    assert_non_null(strstr(page, "<tr><td>train.keep<td>1<td>2"));
    free(page);
}

/* A paused training lets go of the device and comes to the same weights; one that is told to stop meanwhile does. */
static void pauses(void **state)
{
    (void)state;
    char digest[33], straight[33];
    told paused = {.pause_at = 3}, stopped = {.pause_at = 2, .stop_at = 2}, again = {0};
    train("paused", small("train.steps=6"), &paused, 6);
    assert_int_equal(paused.count[SID2_RUN_PLANNED], 1);
    assert_int_equal(paused.count[SID2_RUN_PAUSED], 3);
    assert_int_equal(paused.count[SID2_RUN_CONTINUED], 1);
    assert_int_equal(paused.count[SID2_RUN_STEP], 6);
    assert_int_equal(paused.count[SID2_RUN_CHANGED], 0);
    digest_of("paused", digest);
    digest_of("straight", straight);
    assert_string_equal(digest, straight);
    assert_int_equal(access(path_in(folder, "paused/pause"), F_OK), -1);
    train("stopped", small("train.steps=6"), &stopped, 2);
    assert_int_equal(stopped.count[SID2_RUN_PAUSED], 0);
    assert_false(sid2_run_pause(path_in(folder, "stopped"), true, &err));
    assert_non_null(strstr(err.message, "no training is at work"));
    train("stopped", small("train.steps=6"), &again,
          6); /* a pause that was left does not bind the next start */
    digest_of("stopped", digest);
    assert_string_equal(digest, straight);
}

static sid2_config *small_held_out(const char *steps)
{
    sid2_config *config = small(steps);
    must(sid2_config_set(config, "train.holdout=4", &err));
    must(sid2_config_set(config, "train.eval_every=3", &err));
    must(sid2_config_set(config, "train.sample_every=0", &err));
    must(sid2_config_set(config, "train.keep=1", &err));
    return config;
}

/* The held-out loss falls while the model learns, and rises where it is made to forget: the best checkpoint stays. */
static void keeps_the_best(void **state)
{
    (void)state;
    char best[33], newest[33], link[4096];
    told learns = {0}, forgets = {0};
    train("best", small_held_out("train.steps=60"), &learns, 60);
    assert_int_equal(learns.count[SID2_RUN_MEASURED], 20);
    sid2_run_status *s = sid2_run_look(path_in(folder, "best"), &err);
    must(s);
    assert_true(s->best > 0 && s->heldout >= s->best && s->best_step && s->best_step % 3 == 0);
    uint64_t step = s->best_step;
    double loss = s->best;
    sid2_run_status_destroy(s);
    sid2_config *worse = small_held_out("train.steps=72");
    must(sid2_config_set(worse, "train.learning_rate=1", &err));
    train("best", worse, &forgets, 72);
    s = sid2_run_look(path_in(folder, "best"), &err);
    must(s);
    assert_int_equal(s->best_step, step);
    assert_true(fabs(s->best - loss) < 1e-5 * loss && s->heldout > 1.5 * s->best);
    sid2_run_status_destroy(s);
    ssize_t length = readlink(path_in(folder, "best/best"), link, sizeof link - 1);
    assert_true(length > 0);
    link[length] = 0;
    assert_int_equal(strtoull(strrchr(link, '-') + 1, NULL, 10), step);
    must(sid2_checkpoint_digest(path_in(folder, "best/best"), best, &err));
    digest_of("best", newest);
    assert_string_not_equal(best, newest);
}

static sid2_config *small_with_records(const char *steps)
{
    sid2_config *config = small(steps);
    must(sid2_config_set(config, "train.averages=5", &err));
    must(sid2_config_set(config, "train.sample_every=0", &err));
    return config;
}

static void check_records(const char *run, const uint64_t *steps, size_t count)
{
    char path[100], file_path[200], name[64], digest[33];
    sid2_list names;
    snprintf(path, sizeof path, "%s/%s/averages", folder, run);
    must(sid2_list_folder(&names, path, NULL, &err));
    assert_int_equal(names.count, count);
    for (size_t i = 0; i < count; i++) {
        assert_string_equal(names.name[i], sid2_record_name(steps[i], name));
        snprintf(file_path, sizeof file_path, "%s/%s", path, name);
        sid2_safetensors *file = sid2_safetensors_open(file_path, &err);
        must(file && sid2_safetensors_check(file, digest, &err));
        assert_int_equal(strtoull(sid2_safetensors_metadata(file, "step"), NULL, 10), steps[i]);
        for (int k = 0; k < sid2_safetensors_count(file); k++)
            assert_int_equal(sid2_safetensors_at(file, k)->dtype, SID2_F16);
        sid2_safetensors_close(file);
    }
    sid2_list_free(&names);
}

/* Which records there are follows from the step; those of a future that did not come to be go; a run that was stopped has
 * the bytes of one that was not. */
static void records_follow_from_the_step(void **state)
{
    (void)state;
    static const uint64_t five[] = {1, 2, 3, 4, 5}, thirteen[] = {4, 8, 12};
    static const char *const foreign[] = {"mine", "step-00000007.safetensors", "step-00000010.safetensors"};
    told first = {.stop_at = 5}, second = {0}, part = {.stop_at = 6}, whole = {0};
    train("recorded", small_with_records("train.steps=13"), &first, 5);
    check_records("recorded", five, 5);
    /* As if it had been killed after the record of step 6, and somebody else's files lay there. */
    train("recorded-straight", small_with_records("train.steps=13"), &part, 6);
    size_t size;
    char place[128];
    uint8_t *bytes = sid2_file_read(path_in(folder, "recorded-straight/averages/step-00000006.safetensors"),
                                    0, &size, &err);
    must(bytes &&
         sid2_file_write(path_in(folder, "recorded/averages/step-00000006.safetensors"), bytes, size, &err));
    free(bytes);
    for (int i = 0; i < 3; i++) {
        snprintf(place, sizeof place, "%s/recorded/averages/%s", folder, foreign[i]);
        must(sid2_file_write(place, foreign[i], strlen(foreign[i]), &err));
    }
    train("recorded", small_with_records("train.steps=13"), &second, 13);
    assert_int_equal(second.count[SID2_RUN_WARNING], first.count[SID2_RUN_WARNING] + 2);
    for (int i = 0; i < 3; i++) {
        snprintf(place, sizeof place, "%s/recorded/averages/%s", folder, foreign[i]);
        char *kept = (char *)sid2_file_read(place, 0, &size, &err);
        must(kept);
        assert_string_equal(kept, foreign[i]);
        free(kept);
        assert_int_equal(unlink(place), 0);
    }
    check_records("recorded", thirteen, 3);
    train("recorded-straight", small_with_records("train.steps=13"), &whole, 13);
    check_records("recorded-straight", thirteen, 3);
    for (int i = 0; i < 3; i++) {
        char name[64], digest[2][33];
        for (int k = 0; k < 2; k++) {
            char path[256];
            snprintf(path, sizeof path, "%s/averages/%s",
                     path_in(folder, k ? "recorded" : "recorded-straight"),
                     sid2_record_name(thirteen[i], name));
            must(sid2_digest_file(path, digest[k], &err));
        }
        assert_string_equal(digest[0], digest[1]);
    }
    /* Whether there are any cannot change on the way, for an average begins with the training. */
    sid2_config *without = small("train.steps=14");
    told none = {.thread = pthread_self()};
    sid2_run *run =
        sid2_run_open(&sid2_with(sid2_run_options, .path = path_in(folder, "recorded"), .config = without,
                                 .data = path_in(folder, "pictures"), .callback = on_event, .user = &none),
                      &err);
    must(run);
    assert_false(sid2_run_train(run, device, &err));
    assert_non_null(strstr(err.message, "train.averages=5, not 0"));
    sid2_run_close(run);
    sid2_config_destroy(without);
}

/* A line that was cut off, as by a full disk, takes no other with it. */
static void judgements_stay_apart(void **state)
{
    (void)state;
    const char *run = path_in(folder, "judged");
    const sid2_judgement one = {.step = 7, .against = "real.npz", .fid = 12.5, .sfid = NAN};
    sid2_judgement *all;
    int count, damaged;
    must(sid2_make_directories(run, &err));
    must(sid2_judgement_add(run, &one, &err));
    size_t size;
    char *text = (char *)sid2_file_read(path_in(folder, "judged/judgements.jsonl"), 0, &size, &err);
    must(text);
    FILE *file = fopen(path_in(folder, "judged/judgements.jsonl"), "a");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, size / 2, file), size / 2);
    assert_int_equal(fclose(file), 0);
    free(text);
    must(sid2_judgement_add(run, &one, &err));
    must(sid2_judgements_read(run, &all, &count, &damaged, &err));
    assert_int_equal(count, 2);
    assert_int_equal(damaged, 1);
    assert_true(all[1].step == 7 && all[1].fid == 12.5 && isnan(all[1].sfid));
    free(all);
    assert_int_equal(unlink(path_in(folder, "judged/judgements.jsonl")), 0);
    assert_int_equal(symlink("/dev/zero", path_in(folder, "judged/judgements.jsonl")), 0);
    assert_false(sid2_judgement_add(run, &one, &err));
    assert_non_null(strstr(err.message, "judgements.jsonl"));
}

/* What somebody else put in the link's place stays. */
/* Checkpoints that are written while it goes on are those that are written at once; and where one fails, the run ends and what
 * was there stays. */
static void writes_beside(void **state)
{
    (void)state;
    static const char *const ways[] = {"train.snapshot=off", "train.snapshot=on"};
    char digest[2][33];
    int saved[2];
    for (int i = 0; i < 2; i++) {
        told t = {0};
        sid2_config *config = small("train.steps=7");
        must(sid2_config_set(config, ways[i], &err));
        train(ways[i], config, &t, 7);
        digest_of(ways[i], digest[i]);
        saved[i] = t.count[SID2_RUN_SAVED];
        char kept[300];
        snprintf(kept, sizeof kept, "%s/checkpoints/step-00000006", path_in(folder, ways[i]));
        must(sid2_checkpoint_verify(kept, &err));
    }
    assert_string_equal(digest[0], digest[1]);
    assert_int_equal(saved[0], saved[1]);

    told first = {.stop_at = 2}, then = {.thread = pthread_self()};
    sid2_config *config = small("train.steps=9");
    must(sid2_config_set(config, ways[1], &err));
    train("beside", sid2_config_clone(config), &first, 2);
    char run[160], foreign[300], found[4096];
    snprintf(run, sizeof run, "%s", path_in(folder, "beside"));
    snprintf(foreign, sizeof foreign, "%s/checkpoints/step-00000004", run);
    assert_int_equal(mkdir(foreign, 0755), 0);
    snprintf(foreign, sizeof foreign, "%s/checkpoints/step-00000004/mine", run);
    must(sid2_file_write(foreign, "x", 1, &err));
    sid2_run *r =
        sid2_run_open(&sid2_with(sid2_run_options, .path = run, .config = config,
                                 .data = path_in(folder, "pictures"), .callback = on_event, .user = &then),
                      &err);
    must(r);
    assert_false(sid2_run_train(r, device, &err));
    assert_non_null(strstr(err.message, "step-00000004"));
    assert_in_range(sid2_run_where(r)->step, 4, 6);
    sid2_run_close(r);
    must(sid2_checkpoint_newest(run, UINT64_MAX, found, sizeof found, &err));
    assert_non_null(strstr(found, "step-00000002"));
    sid2_config_destroy(config);
}

static void leaves_what_is_not_its_own(void **state)
{
    (void)state;
    told t = {0};
    must(sid2_file_write(path_in(folder, "mine/best"), "mine", 4, &err));
    train("mine", small_held_out("train.steps=3"), &t, 3);
    assert_non_null(strstr(t.text[SID2_RUN_WARNING], "is not sid2's"));
    size_t size;
    char *mine = (char *)sid2_file_read(path_in(folder, "mine/best"), 100, &size, &err);
    assert_true(mine && size == 4 && memcmp(mine, "mine", 4) == 0);
    free(mine);
}

static void refused(const sid2_run_options *options, const char *message)
{
    assert_null(sid2_run_open(options, &err));
    if (!strstr(err.message, message)) fail_msg("'%s' does not say '%s'", err.message, message);
}

static void trouble_is_named(void **state)
{
    (void)state;
    sid2_config *config = small("train.steps=7"), *other = small("train.batch=8"),
                *fewer = small("model.classes=2");
    const char *run = path_in(folder, "run"), *pictures = path_in(folder, "pictures");
    refused(&sid2_with(sid2_run_options, .path = path_in(folder, "new"), .config = config),
            "data is missing");
    refused(&sid2_with(sid2_run_options, .path = pictures, .config = config, .data = pictures),
            "is no run and holds");
    refused(&sid2_with(sid2_run_options, .path = path_in(folder, "new"), .config = fewer, .data = pictures),
            "3 classes, model.classes is 2");
    sid2_run *changed = sid2_run_open(&sid2_with(sid2_run_options, .path = run, .config = other), &err);
    must(changed);
    assert_false(sid2_run_train(changed, device, &err));
    assert_non_null(strstr(err.message, "train.batch=4, not 8"));
    sid2_run_close(changed);
    assert_int_equal(access(path_in(folder, "new"), F_OK), -1);
    assert_false(sid2_run_report(pictures, path_in(folder, "no.html"), &err));
    assert_non_null(strstr(err.message, "no run"));
    assert_int_equal(access(path_in(folder, "no.html"), F_OK), -1);
    sid2_config_destroy(config);
    sid2_config_destroy(other);
    sid2_config_destroy(fewer);
}

/* A fresh start of the run with the same pictures, or what it is refused for. */
static void goes_on(const char *refusal, bool accepted)
{
    sid2_config *config = small(accepted ? "train.steps=6" : "train.steps=4");
    sid2_run_options options = sid2_with(sid2_run_options, .path = path_in(folder, "bound"), .config = config,
                                         .data = path_in(folder, "bound-pictures"), .accept_data = accepted);
    if (refusal) {
        refused(&options, refusal);
        assert_non_null(strstr(err.message, "--accept-data"));
    } else {
        sid2_run *run = sid2_run_open(&options, &err);
        must(run);
        must(sid2_run_train(run, device, &err));
        sid2_run_close(run);
    }
    sid2_config_destroy(config);
}

static void move(const char *from, const char *to)
{
    assert_int_equal(rename(path_in(folder, from), path_in(folder, to)), 0);
}

static void grey_picture(const char *name, int brightness)
{
    uint8_t pixels[64];
    memset(pixels, brightness, sizeof pixels);
    const sid2_image image = {.width = 8, .height = 8, .channels = 1, .pixels = pixels};
    must(sid2_png_write(path_in(folder, name), &image, NULL, 0, &err));
}

/* A run knows the pictures that it was begun with, and what their classes are called. */
static void other_pictures_are_refused(void **state)
{
    (void)state;
    for (int i = 0; i < 12; i++) {
        char name[64];
        snprintf(name, sizeof name, "bound-pictures/%s/%02d.png", i % 2 ? "K\xc3\xa4tzchen" : "dog", i);
        grey_picture(name, 10 * i);
    }
    goes_on(NULL, false);
    goes_on(NULL, false);
    move("bound-pictures/K\xc3\xa4tzchen", "bound-pictures/Ka\xcc\x88tzchen"); /* as macOS would write it */
    goes_on(NULL, false);
    move("bound-pictures/dog", "bound-pictures/wolf");
    goes_on("gone: 'dog'; new: 'wolf'", false);
    move("bound-pictures/wolf", "bound-pictures/A dog");
    goes_on("gone: 'dog'; new: 'A dog'", false);
    move("bound-pictures/A dog", "bound-pictures/dog");
    goes_on(NULL, false);
    grey_picture("bound-pictures/dog/04.png", 250);
    goes_on("has as many as then, but some have another name, class or content", false);
    grey_picture("bound-pictures/dog/04.png", 40);
    goes_on(NULL, false);
    grey_picture("bound-pictures/dog/99.png", 250);
    goes_on("images to train on", false);
    goes_on(NULL, true);
    goes_on(NULL, false); /* on the new ones from then on */
}

/* In a process of its own, which a filter may bind. OpenMP's threads did not come along, so on the reference device. */
static void in_a_child(void (*trial)(void))
{
    pid_t child = fork();
    if (child == 0) {
        device = open_device("reference");
        trial();
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == 77) skip();
    assert_int_equal(WEXITSTATUS(status), 0);
}

/* As on Lustre and some NFS. */
static int no_locks;

static void train_without_locks(void)
{
    if (!refuse_call(SYS_flock, no_locks)) _exit(77);
    told t = {0};
    train("lockless", small("train.steps=4"), &t, 4);
    if (!t.lockless) _exit(1);
}

static void without_locks(void **state)
{
    (void)state;
    static const int causes[] = {ENOSYS, ENOLCK, EOPNOTSUPP};
    for (int i = 0; i < 3; i++) {
        no_locks = causes[i];
        in_a_child(train_without_locks);
    }
}

/* As of a file on NFS that a reader has open. */
static void train_without_removing(void)
{
    bool refused = true;
#ifdef SYS_unlink
    refused = refuse_call(SYS_unlink, EBUSY) && refuse_call(SYS_rmdir, EBUSY);
#endif
    if (!refused || !refuse_call(SYS_unlinkat, EBUSY)) _exit(77);
    told t = {0};
    train("kept", small("train.steps=7"), &t, 7);
    if (t.count[SID2_RUN_SAVED] != 4 || t.count[SID2_RUN_WARNING] < 2) _exit(1);
    if (!strstr(t.text[SID2_RUN_WARNING], "Device or resource busy")) _exit(1);
}

static void without_removing(void **state)
{
    (void)state;
    in_a_child(train_without_removing);
}

/* As a user who may start no thread; the limit holds for none but users whom nobody else is. */
static void train_alone(void)
{
    const struct rlimit one = {1, 1};
    if (setgid(54321) || setuid(54321) || setrlimit(RLIMIT_NPROC, &one)) _exit(77);
    device = open_device("cpu");
    if (!strstr(sid2_device_describe(device)->name, ", 1 thread,")) _exit(1);
    told t = {0};
    train("open/alone", small("train.steps=4"), &t, 4);
}

static void without_threads(void **state)
{
    (void)state;
    if (getuid() != 0) skip();
    assert_int_equal(mkdir(path_in(folder, "open"), 0777), 0);
    assert_int_equal(chmod(path_in(folder, "open"), 0777), 0);
    assert_int_equal(chmod(folder, 0755), 0);
    in_a_child(train_alone);
}

static int set_up(void **state)
{
    (void)state;
    if (!mkdtemp(folder)) return -1;
    device = open_device("cpu");
    must(write_squares(folder, 12, &err)); /* and a picture that is none: */
    must(sid2_file_write(path_in(folder, "pictures/0/broken.png"), "no picture", 10, &err));
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
    const struct CMUnitTest tests[] = {cmocka_unit_test(trains_stops_and_goes_on),
                                       cmocka_unit_test(pauses),
                                       cmocka_unit_test(keeps_the_best),
                                       cmocka_unit_test(writes_beside),
                                       cmocka_unit_test(records_follow_from_the_step),
                                       cmocka_unit_test(judgements_stay_apart),
                                       cmocka_unit_test(leaves_what_is_not_its_own),
                                       cmocka_unit_test(trouble_is_named),
                                       cmocka_unit_test(other_pictures_are_refused),
                                       cmocka_unit_test(without_locks),
                                       cmocka_unit_test(without_removing),
                                       cmocka_unit_test(without_threads)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
