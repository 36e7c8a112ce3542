/* The training that is disturbed: four steps of a tiny model, a checkpoint after each. */
#include "trials.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

const char *data_of(const trials *t, source_kind from)
{
    return text("%s/%s", t->work, from == FROM_ZIP ? "pictures.zip" : "pictures");
}

const char *trial_folder(const trials *t) { return text("%s/t", t->work); }
const char *run_folder(const trials *t) { return text("%s/t/run", t->work); }

command train_command(const trials *t, const char *run, source_kind from, int steps, int keep)
{
    command c = {0};
    if (t->ranks > 1) add_words(&c, t->mpiexec, "-n", text("%d", t->ranks), NULL);
    add_words(&c, t->sid2, "train", "--preset", "quickstart", "--device", "cpu", "--threads", "1", "--data",
              data_of(t, from), "--set", "train.sample_every=0", "--set", "train.checkpoint_every=1", "--set",
              "model.channels=16,16,16", "--set", "model.depth=1", "--set", "model.mid_depth=1", "--set",
              "model.emb=16", "--set", "model.head_dim=16", "--set", "train.batch=4", "--set",
              "train.lanes=4", "--set", text("train.steps=%d", steps), "--set", text("train.keep=%d", keep),
              "--out", run, NULL);
    return c;
}

/* ---- Known good ---- */

static void hash_tensors(void *user, const char *name)
{
    hashing *h = user;
    size_t length = strlen(name), size;
    if (length < 12 || strcmp(name + length - 12, ".safetensors") != 0) return;
    uint8_t *bytes = read_whole(text("%s/%s", h->folder, name), &size);
    h->hash = hash_bytes(hash_bytes(h->hash, name, length), bytes ? bytes : (uint8_t *)"", size);
    free(bytes);
}

/* Of every file of tensors. */
static uint64_t hash_checkpoint(const char *folder)
{
    hashing h = {folder, HASH_BEGIN};
    each_file(folder, hash_tensors, &h);
    return h.hash == HASH_BEGIN ? 0 : h.hash;
}

static const char *checkpoint(const char *run, int step)
{
    return text("%s/checkpoints/step-%08d", run, step);
}

static uint64_t good[2][LAST + 1];

static const char *model_run(const trials *t, source_kind from) { return text("%s/model-%d", t->work, from); }

/* What other commands are given beside a run and its data. */
static const char *picture_of(const trials *t) { return text("%s/like.png", t->work); }
static const char *clips_of(const trials *t) { return text("%s/clips.tar", t->work); }
static const char *plan_of(const trials *t) { return text("%s/plan.ini", t->work); }

static void learn_others(const trials *t, const char *run)
{
    static const char plan[] =
        "[plan]\nseeds = 0\nsamples = 2\n[all]\neval.images = 2\neval.levels = 10\n"
        "sample.steps = 2\n[row few]\nsample.steps = 1\n";
    static outcome o;
    write_whole(plan_of(t), plan, strlen(plan));
    command each[] = {make_command(t->sid2, "sample", run, "--device", "cpu", "--threads", "1", "--seeds",
                                   "3", "--steps", "2", "--out", picture_of(t), NULL),
                      make_command(t->sid2, "data", "synth", "--kind", "moving-shapes", "--count", "3",
                                   "--frames", "4", "--size", "16", "--out", clips_of(t), NULL)};
    for (int i = 0; i < 2; i++) {
        run_command(t, &each[i], NULL, DEADLINE, &o);
        if (o.code) give_up("undisturbed: %s", o.err);
    }
}

static void learn_good(const trials *t, source_kind from)
{
    static outcome o;
    if (good[from][LAST]) return;
    command c = make_command(t->sid2, "data", "synth", "--out", data_of(t, from), "--count", "24", NULL);
    if (!exists(data_of(t, from))) run_command(t, &c, NULL, DEADLINE, &o);
    c = train_command(t, model_run(t, from), from, LAST, 0);
    run_command(t, &c, NULL, DEADLINE, &o);
    if (o.code) give_up("an undisturbed training fails: %s", o.err);
    for (int step = 1; step <= LAST; step++)
        if (!(good[from][step] = hash_checkpoint(checkpoint(model_run(t, from), step))))
            give_up("an undisturbed training leaves no checkpoint of step %d", step);
    c = train_command(t, text("%s/first-%d", t->work, from), from, FIRST, 2);
    run_command(t, &c, NULL, DEADLINE, &o);
    if (o.code) give_up("an undisturbed training fails: %s", o.err);
    if (from == FROM_ZIP) learn_others(t, text("%s/first-%d", t->work, from));
}

/* ---- Other people's things ---- */

static const char *const foreign[] = {"beside.txt", "run/checkpoints/step-00000002-best/weights.txt",
                                      "run/checkpoints/step-mine/notes.txt", "run/samples/mine.txt"};

static bool planted; /* all of them; else the first only */

static void plant_foreign(const trials *t)
{
    for (size_t i = 0; i < sizeof foreign / sizeof *foreign; i++) {
        char path[4096];
        snprintf(path, sizeof path, "%s/t/%s", t->work, foreign[i]);
        *strrchr(path, '/') = 0;
        make_folder(path);
        write_whole(text("%s/t/%s", t->work, foreign[i]), foreign[i], strlen(foreign[i]));
    }
}

static const char *lost_foreign(const trials *t)
{
    for (size_t i = 0; i < sizeof foreign / sizeof *foreign; i++) {
        size_t size;
        if (i && !planted) break;
        uint8_t *bytes = read_whole(text("%s/t/%s", t->work, foreign[i]), &size);
        bool same = bytes && size == strlen(foreign[i]) && memcmp(bytes, foreign[i], size) == 0;
        free(bytes);
        if (!same) return text("somebody's %s is gone", foreign[i]);
    }
    return NULL;
}

void begin_trial(const trials *t, source_kind from, bool resumes)
{
    forget_texts();
    learn_good(t, from);
    remove_all(trial_folder(t));
    make_folder(trial_folder(t));
    planted = resumes;
    if (resumes) {
        copy_all(text("%s/first-%d", t->work, from), run_folder(t));
        plant_foreign(t);
    } else {
        write_whole(text("%s/beside.txt", trial_folder(t)), foreign[0], strlen(foreign[0]));
    }
}

/* ---- Judging ---- */

/* Bit `step` is set for each line of stats.jsonl. */
static unsigned lines_of(const char *run)
{
    size_t size;
    unsigned found = 0;
    char *bytes = (char *)read_whole(text("%s/stats.jsonl", run), &size);
    for (char *line = bytes, *end; line && (end = strchr(line, '\n')); line = end + 1) {
        int step;
        if (sscanf(line, "{\"step\": %d,", &step) == 1 && step > 0 && step < 32) found |= 1u << step;
    }
    free(bytes);
    return found;
}

int last_line_step(const char *run)
{
    unsigned found = lines_of(run);
    int step = 0;
    while (found >>= 1) step++;
    return step;
}

int resumed_step(const outcome *o)
{
    const char *line = strstr(o->err, "resuming "), *end = line ? strchr(line, '\n') : NULL;
    int step = 0;
    for (const char *p = line; p && end && (p = strstr(p, "/step-")) && p < end; p++)
        sscanf(p, "/step-%d", &step);
    return step;
}

static const char *missing_lines(const char *run, int least)
{
    unsigned lines = lines_of(run);
    for (int step = 1; step <= least; step++)
        if (!(lines >> step & 1)) return text("the line of step %d is gone from stats.jsonl", step);
    return NULL;
}

const char *judge_left(const trials *t, source_kind from, int least)
{
    const char *run = run_folder(t);
    int newest = 0;
    for (int step = 1; step <= LAST; step++) {
        uint64_t hash = hash_checkpoint(checkpoint(run, step));
        if (hash == good[from][step]) newest = step;
    }
    if (newest < least) return text("no good checkpoint of step %d or later is left", least);
    const char *problem = missing_lines(run, least);
    return problem ? problem : lost_foreign(t);
}

const char *judge_end(const trials *t, source_kind from, const outcome *o, int least)
{
    const char *run = run_folder(t);
    if (o->code == TIMED_OUT) return "hangs";
    if (o->code > 128) return text("dies of signal %d", o->code - 128);
    if (o->code) {
        int complaints = count_complaints(o);
        if (o->code != 1) return text("exit code %d: %s", o->code, last_complaint(o));
        return complaints == 1 ? NULL : text("%d lines say what is wrong: %s", complaints, last_complaint(o));
    }
    if (resumed_step(o) < least)
        return text("goes on from step %d in silence, though %d was saved", resumed_step(o), least);
    if (hash_checkpoint(checkpoint(run, LAST)) != good[from][LAST]) return "other weights";
    return missing_lines(run, LAST);
}

const char *judge_retry(const trials *t, source_kind from, int least)
{
    static outcome o;
    command c = train_command(t, run_folder(t), from, LAST, 2);
    run_command(t, &c, NULL, DEADLINE, &o);
    if (o.code) return text("afterwards, undisturbed: exit code %d: %s", o.code, last_complaint(&o));
    bool complete = strstr(o.out, "is complete at step") != NULL;
    if (!complete && resumed_step(&o) < least)
        return text("afterwards goes on from step %d, though %d was saved", resumed_step(&o), least);
    if (hash_checkpoint(checkpoint(run_folder(t), LAST)) != good[from][LAST])
        return "afterwards other weights";
    const char *problem = missing_lines(run_folder(t), LAST);
    return problem ? problem : lost_foreign(t);
}

/* ---- Other commands ---- */

int list_jobs(const trials *t, job jobs[MOST_JOBS])
{
    const char *run = run_folder(t), *out = text("%s/made", trial_folder(t));
    const char *png = text("%s.png", out), *npz = text("%s.npz", out), *html = text("%s.html", out),
               *zip = text("%s.zip", out), *tar = text("%s.tar", out);
    command sample = make_command(t->sid2, "sample", run, "--device", "cpu", "--threads", "1", "--seeds",
                                  "0-3", "--steps", "2", "--out", NULL);
    const job all[] = {
        {"sample", sample, png},
        {"sample npz", sample, npz},
        {"sample folder", sample, out},
        {"info", make_command(t->sid2, "info", run, NULL), NULL},
        {"info --hash", make_command(t->sid2, "info", run, "--hash", NULL), NULL},
        {"eval",
         make_command(t->sid2, "eval", run, "--device", "cpu", "--threads", "1", "--data",
                      data_of(t, FROM_ZIP), "--set", "eval.levels=2", "--set", "eval.images=4", NULL),
         NULL},
        {"export", make_command(t->sid2, "export", run, "--out", out, NULL), out},
        {"report", make_command(t->sid2, "report", run, "--out", html, NULL), html},
        {"data inspect",
         make_command(t->sid2, "data", "inspect", data_of(t, FROM_FOLDER), "--out", png, NULL), png},
        {"data inspect zip", make_command(t->sid2, "data", "inspect", data_of(t, FROM_ZIP), NULL), NULL},
        {"data pack",
         make_command(t->sid2, "data", "pack", data_of(t, FROM_ZIP), "--size", "16", "--threads", "1",
                      "--out", text("%s-packed.zip", out), NULL),
         text("%s-packed.zip", out)},
        {"data synth", make_command(t->sid2, "data", "synth", "--count", "12", "--out", zip, NULL), zip},
        {"info --verify", make_command(t->sid2, "info", run, "--verify", NULL), NULL},
        {"sample --like",
         make_command(t->sid2, "sample", run, "--device", "cpu", "--threads", "1", "--like", picture_of(t),
                      "--out", png, NULL),
         png},
        {"distill",
         make_command(t->sid2, "distill", run, "--device", "cpu", "--threads", "1", "--data",
                      data_of(t, FROM_ZIP), "--steps", "2", "--set", "train.steps=2", "--set",
                      "train.batch=4", "--set", "train.lanes=4", "--set", "train.sample_every=0", "--set",
                      "train.checkpoint_every=1", "--out", out, NULL),
         text("%s/checkpoints/step-00000002/ema.safetensors", out)},
        {"ablate",
         make_command(t->sid2, "ablate", plan_of(t), "--device", "cpu", "--threads", "1", "--data",
                      data_of(t, FROM_ZIP), "--checkpoint", run, "--out", out, NULL),
         text("%s/measured/few.seed-0.npz", out)},
        {"data synth, clips",
         make_command(t->sid2, "data", "synth", "--kind", "moving-shapes", "--count", "3", "--frames", "4",
                      "--size", "16", "--out", tar, NULL),
         tar},
        {"data pack, clips",
         make_command(t->sid2, "data", "pack", clips_of(t), "--clips", "2", "--size", "8", "--threads", "1",
                      "--out", tar, NULL),
         tar},
        {"data inspect, clips", make_command(t->sid2, "data", "inspect", clips_of(t), NULL), NULL},
    };
    int count = (int)(sizeof all / sizeof *all);
    memcpy(jobs, all, sizeof all);
    for (int i = 0; i < 3; i++) add_words(&jobs[i].command, jobs[i].makes, NULL);
    return count;
}

uint64_t hash_job(const job *j, const outcome *o)
{
    struct stat status;
    uint64_t hash = HASH_BEGIN;
    if (!j->makes) return hash_bytes(hash, o->out, strlen(o->out));
    if (!stat(j->makes, &status) && S_ISDIR(status.st_mode)) return hash_folder(j->makes);
    size_t size;
    uint8_t *bytes = read_whole(j->makes, &size);
    hash = bytes ? hash_bytes(hash, bytes, size) : 0;
    free(bytes);
    return hash;
}

const char *judge_job(const job *j, const outcome *o, uint64_t want)
{
    struct stat status;
    if (o->code == TIMED_OUT) return "hangs";
    if (o->code > 128) return text("dies of signal %d", o->code - 128);
    if (!o->code) return hash_job(j, o) == want ? NULL : "exit code 0, and another result";
    int complaints = count_complaints(o);
    if (o->code != 1) return text("exit code %d: %s", o->code, last_complaint(o));
    if (complaints != 1) return text("%d lines say what is wrong: %s", complaints, last_complaint(o));
    bool file =
        j->makes && !stat(j->makes, &status) && !S_ISDIR(status.st_mode); /* folders hold whole files */
    return file && hash_job(j, o) != want ? "fails, and leaves a broken result" : NULL;
}
